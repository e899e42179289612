#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <vector>

#include "deepspec/eigensolver.hpp"

namespace deepspec {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// An orthonormal basis V with A V = V H + remainder e^T, e the last unit vector. H is kept whole, so that a
// basis of Ritz vectors (a thick restart) continues like one of Krylov vectors.
class Factorization {
  public:
    Factorization(const SymmetricOperator& op, Index capacity)
        : op_(op),
          basis_(static_cast<Index>(op.size), capacity),
          projected_(MatrixXd::Zero(capacity, capacity)),
          remainder_(VectorXd::Map(op.start.data(), static_cast<Index>(op.size))) {}

    Index size() const { return size_; }
    bool full() const { return size_ == basis_.cols(); }
    double remainder_norm() const { return remainder_.norm(); }
    auto basis() const { return basis_.leftCols(size_); }
    auto projected() const { return projected_.topLeftCorner(size_, size_); }

    // Adds the remainder's direction to the basis, or where nothing remains a direction of its own.
    void extend() {
        double norm = remainder_.norm();
        while (!(norm > breakdown)) {
            remainder_ = fresh_direction();
            orthogonalize();
            norm = remainder_.norm();
        }
        basis_.col(size_) = remainder_ / norm;
        ++size_;
        op_.apply(basis_.col(size_ - 1).data(), remainder_.data());
        const VectorXd coefficients = orthogonalize();
        projected_.col(size_ - 1).head(size_) = coefficients;
        projected_.row(size_ - 1).head(size_) = coefficients.transpose();
    }

    // Keeps the Ritz vectors of `vectors` alone, with their `values`.
    void restart(const VectorXd& values, const MatrixXd& vectors) {
        const MatrixXd kept = basis() * vectors;
        size_ = kept.cols();
        basis_.leftCols(size_) = kept;
        projected_.setZero();
        projected_.diagonal().head(size_) = values;
    }

  private:
    static constexpr double breakdown = 1e-12;  // beside an operator of norm 2

    // Takes the basis out of the remainder, twice for rounding; returns what was taken.
    VectorXd orthogonalize() {
        VectorXd taken = VectorXd::Zero(size_);
        for (int pass = 0; pass < 2; ++pass) {
            const VectorXd along = basis().transpose() * remainder_;
            remainder_.noalias() -= basis() * along;
            taken += along;
        }
        return taken;
    }

    // Any vector does that no earlier one is parallel to: the start, reversed and shifted.
    VectorXd fresh_direction() {
        const Index n = remainder_.size();
        VectorXd direction(n);
        ++n_fresh_;
        for (Index i = 0; i < n; ++i)
            direction[i] = op_.start[static_cast<std::size_t>((n - 1 - i + n_fresh_) % n)];
        direction[n_fresh_ % n] += direction.norm();
        return direction;
    }

    const SymmetricOperator& op_;
    MatrixXd basis_, projected_;
    VectorXd remainder_;
    Index size_ = 0;
    Index n_fresh_ = 0;
};

}  // namespace

RitzPairs largest_eigenpairs_lanczos(const SymmetricOperator& op, std::size_t count,
                                     const SolverOptions& options) {
    const auto wanted = static_cast<Index>(count);
    const Index capacity =
        std::min(static_cast<Index>(op.size), static_cast<Index>(krylov_dimension(op.size, count)));
    const double target = options.tolerance / 2;
    Factorization factorization(op, capacity);
    RitzPairs result;
    Index next_check = std::min(capacity, 2 * wanted + 8);
    Index last_check = 0;
    double last_residual = 0.0;
    for (;;) {
        factorization.extend();
        ++result.n_products;
        if (factorization.size() < wanted) continue;
        const bool out_of_products = result.n_products >= options.max_products;
        if (factorization.size() < next_check && !out_of_products) continue;

        const Eigen::SelfAdjointEigenSolver<MatrixXd> ritz(factorization.projected());
        const Index size = factorization.size();
        const VectorXd residuals =
            factorization.remainder_norm() * ritz.eigenvectors().row(size - 1).cwiseAbs();
        const double residual = residuals.tail(wanted).maxCoeff();
        if (residual <= target || size == factorization.basis().rows() || out_of_products) {
            for (Index j = size - 1; j >= size - wanted; --j) {
                if (residuals[j] > target && size < factorization.basis().rows()) continue;
                const VectorXd vector = factorization.basis() * ritz.eigenvectors().col(j);
                result.values.push_back(ritz.eigenvalues()[j]);
                result.vectors.insert(result.vectors.end(), vector.begin(), vector.end());
            }
            return result;
        }
        // Residuals fall geometrically: the next look is where they should have arrived, and not far away.
        const double rate = last_check > 0 && last_check < size
                                ? std::log(last_residual / residual) / static_cast<double>(size - last_check)
                                : 0.0;
        const double steps = rate > 0.0 ? std::ceil(std::log(residual / target) / rate) : 4.0;
        last_check = size;
        last_residual = residual;
        next_check = size + static_cast<Index>(std::clamp(steps, 1.0, 4.0));
        if (factorization.full()) {
            const Index kept = wanted + (capacity - wanted) / 3;
            factorization.restart(ritz.eigenvalues().tail(kept), ritz.eigenvectors().rightCols(kept));
            last_check = 0;
            next_check = kept + std::max<Index>(4, (capacity - kept) / 4);
        }
        next_check = std::min(next_check, capacity);
    }
}

}  // namespace deepspec

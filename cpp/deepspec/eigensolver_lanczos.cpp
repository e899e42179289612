#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>
#include <vector>

#include "deepspec/eigensolver.hpp"
#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// An orthonormal basis V with A V = V H + R E^T, where E picks the last block of columns. H is kept whole, so
// that a basis of Ritz vectors (a thick restart) continues like one of Krylov vectors.
class Factorization {
  public:
    Factorization(const SymmetricOperator& op, Index capacity, Index width)
        : op_(op),
          rows_(static_cast<Index>(op.size)),
          basis_(padded(rows_), capacity),
          projected_(MatrixXd::Zero(capacity, capacity)),
          remainder_(MatrixXd::Zero(padded(rows_), width)) {
        basis_.bottomRows(basis_.rows() - rows_).setZero();
        remainder_.col(0).head(rows_) = VectorXd::Map(op.start.data(), rows_);
        for (Index c = 1; c < width; ++c) remainder_.col(c).head(rows_) = fresh_direction();
    }

    Index rows() const { return rows_; }
    Index width() const { return remainder_.cols(); }
    Index size() const { return size_; }
    bool restarted() const { return restarted_; }
    bool full() const { return size_ + width() > basis_.cols(); }
    double remainder_norm() const { return remainder_.norm(); }
    auto basis() const { return basis_.topLeftCorner(rows_, size_); }
    auto projected() const { return projected_.topLeftCorner(size_, size_); }

    // |A V s - V H s| for eigenvectors s of H.
    VectorXd residuals(const MatrixXd& vectors) const {
        const MatrixXd gram = remainder_.transpose() * remainder_;
        const MatrixXd last = vectors.bottomRows(width());
        return last.cwiseProduct(gram * last).colwise().sum().cwiseMax(0.0).cwiseSqrt();
    }

    // Adds the remainder's directions to the basis, or where nothing remains of one a direction of its own.
    void extend() {
        const Index first = size_;
        for (Index c = 0; c < width(); ++c) append(c);
        op_.apply(basis_.col(first).data(), remainder_.data(), static_cast<std::size_t>(width()),
                  static_cast<std::size_t>(basis_.rows()));
        for (Index c = 0; c < width(); ++c) {
            VectorXd coefficients = VectorXd::Zero(size_);
            // Most of a product lies along the last two blocks. Without them, little is left to lose digits
            // of.
            for (Index j = size_ - 1; j >= std::max<Index>(0, size_ - 2 * width()); --j) {
                coefficients[j] = basis_.col(j).dot(remainder_.col(c));
                remainder_.col(c) -= coefficients[j] * basis_.col(j);
            }
            orthogonalize(c, coefficients);
            projected_.col(first + c).head(size_) = coefficients;
            projected_.row(first + c).head(size_) = coefficients.transpose();
        }
    }

    // Puts another direction, orthogonal to the basis, in a remainder's place. H stays whole.
    void start_afresh(Index c = 0) {
        VectorXd ignored;
        remainder_.col(c).head(rows_) = fresh_direction();
        orthogonalize(c, ignored);
    }

    // Keeps the Ritz vectors of `vectors` alone, with their `values`.
    void restart(const VectorXd& values, const MatrixXd& vectors) {
        const MatrixXd kept = basis_.leftCols(size_) * vectors;
        size_ = kept.cols();
        basis_.leftCols(size_) = kept;
        projected_.setZero();
        projected_.diagonal().head(size_) = values;
        restarted_ = true;
    }

  private:
    static constexpr double breakdown = 1e-12;  // beside an operator of norm 2

    void append(Index c) {
        VectorXd ignored;
        if (c > 0) orthogonalize(c, ignored);  // against those of its own block
        while (!(remainder_.col(c).norm() > breakdown)) start_afresh(c);
        basis_.col(size_) = remainder_.col(c).normalized();
        ++size_;
    }

    static Index padded(Index rows) {
        constexpr auto unit = static_cast<Index>(kernels::length_unit);
        return (rows + unit - 1) / unit * unit;
    }

    // Takes the basis out of the remainder and adds what was taken to the coefficients; again where that was
    // most of it, since rounding is then as large as what is left (Daniel, Gragg, Kaufman and Stewart,
    // Math. Comp. 30, 1976).
    void orthogonalize(Index c, VectorXd& coefficients) {
        const kernels::Kernels& kernel = kernels::selected();
        auto remainder = remainder_.col(c);
        const auto length = static_cast<std::size_t>(basis_.rows());
        const auto count = static_cast<std::size_t>(size_);
        VectorXd taken(size_);
        double before = 0.0, after = remainder.norm();
        do {
            before = after;
            kernel.dots(basis_.data(), length, count, remainder.data(), length, taken.data());
            kernel.subtract(basis_.data(), length, count, taken.data(), remainder.data(), length);
            if (coefficients.size() == size_) coefficients += taken;
            after = remainder.norm();
        } while (after < 0.5 * before && after > breakdown);
    }

    // Any vector does that no earlier one is parallel to: the start, reversed and shifted.
    VectorXd fresh_direction() {
        VectorXd direction(rows_);
        ++n_fresh_;
        for (Index i = 0; i < rows_; ++i)
            direction[i] = op_.start[static_cast<std::size_t>((rows_ - 1 - i + n_fresh_) % rows_)];
        direction[n_fresh_ % rows_] += direction.norm();
        return direction;
    }

    const SymmetricOperator& op_;
    Index rows_;  // below them, the vectors are padded with zeros
    MatrixXd basis_, projected_, remainder_;
    Index size_ = 0;
    Index n_fresh_ = 0;
    bool restarted_ = false;
};

// Eigenvalues of H, ascending, and the last entry of each eigenvector: what residuals need, for the square of
// the size of H where the vectors themselves take its cube.
class RitzValues {
  public:
    // H is tridiagonal unless the basis begins with Ritz vectors.
    RitzValues(const MatrixXd& H, bool tridiagonal) : values_(H.diagonal()), last_entries_(H.rows()) {
        last_entries_.setZero();
        last_entries_[H.rows() - 1] = 1.0;
        VectorXd beside = H.diagonal(1);
        if (tridiagonal && diagonalize(beside)) {
            sort();
            return;
        }
        const Eigen::SelfAdjointEigenSolver<MatrixXd> ritz(H);
        values_ = ritz.eigenvalues();
        last_entries_ = ritz.eigenvectors().row(H.rows() - 1);
    }

    const VectorXd& values() const { return values_; }
    const VectorXd& last_entries() const { return last_entries_; }

  private:
    // Implicit QR steps until nothing is left beside the diagonal. False where they do not end.
    bool diagonalize(VectorXd& beside) {
        constexpr double epsilon = std::numeric_limits<double>::epsilon();
        const auto negligible = [&](Index i) {
            return std::abs(beside[i]) <= epsilon * (std::abs(values_[i]) + std::abs(values_[i + 1]));
        };
        Index end = values_.size() - 1;
        for (Index steps = 0; end > 0; ++steps) {
            if (negligible(end - 1)) {
                --end;
                continue;
            }
            if (steps > 50 * values_.size()) return false;  // two or three for an eigenvalue are usual
            Index begin = end - 1;
            while (begin > 0 && !negligible(begin - 1)) --begin;
            chase(beside, begin, end);
        }
        return true;
    }

    // One QR step on the rows [begin, end] with Wilkinson's shift: rotations of neighbouring rows and columns
    // push the entry that the first of them puts outside of the three diagonals down and out.
    void chase(VectorXd& beside, Index begin, Index end) {
        const double half = 0.5 * (values_[end - 1] - values_[end]), corner = beside[end - 1];
        const double shift =
            values_[end] -
            corner * corner / (half + std::copysign(std::sqrt(half * half + corner * corner), half));
        double x = values_[begin] - shift, z = beside[begin];
        for (Index k = begin; k < end; ++k) {
            const double length = std::sqrt(x * x + z * z);
            const double c = length > 0.0 ? x / length : 1.0, s = length > 0.0 ? -z / length : 0.0;
            const double upper = values_[k], middle = beside[k], lower = values_[k + 1];
            values_[k] = c * c * upper - 2.0 * c * s * middle + s * s * lower;
            values_[k + 1] = s * s * upper + 2.0 * c * s * middle + c * c * lower;
            beside[k] = c * s * (upper - lower) + (c * c - s * s) * middle;
            if (k > begin) beside[k - 1] = length;
            const double entry = last_entries_[k];
            last_entries_[k] = c * entry - s * last_entries_[k + 1];
            last_entries_[k + 1] = s * entry + c * last_entries_[k + 1];
            if (k + 1 == end) break;
            x = beside[k];
            z = -s * beside[k + 1];
            beside[k + 1] *= c;
        }
    }

    void sort() {
        std::vector<std::pair<double, double>> pairs;
        for (Index i = 0; i < values_.size(); ++i) pairs.emplace_back(values_[i], last_entries_[i]);
        std::sort(pairs.begin(), pairs.end());
        for (Index i = 0; i < values_.size(); ++i)
            std::tie(values_[i], last_entries_[i]) = pairs[static_cast<std::size_t>(i)];
    }

    VectorXd values_, last_entries_;
};

// Of the `wanted` largest Ritz pairs.
double largest_residual(const Factorization& factorization, Index wanted) {
    if (factorization.width() == 1) {
        const RitzValues ritz(factorization.projected(), !factorization.restarted());
        return factorization.remainder_norm() * ritz.last_entries().tail(wanted).cwiseAbs().maxCoeff();
    }
    const Eigen::SelfAdjointEigenSolver<MatrixXd> ritz(factorization.projected());
    return factorization.residuals(ritz.eigenvectors().rightCols(wanted)).maxCoeff();
}

// A block finds as many directions of an eigenspace as it has vectors: where no two of the values, which
// descend, are equal, each is simple.
bool all_distinct(const std::vector<double>& values, double difference) {
    return std::adjacent_find(values.begin(), values.end(),
                              [&](double a, double b) { return a - b < difference; }) == values.end();
}

// A Krylov space holds one direction of an eigenspace, so a search misses the others of a multiple
// eigenvalue, or of nearly equal ones. In a second one, orthogonal to all of the first and from another
// start, they would be the largest, and show. True where nothing there comes near `smallest`, the smallest
// eigenvalue found, although it must have by then: in m steps a direction above the interval [a, b] of all
// others grows by the Chebyshev polynomial T_m, and a start has about 1 / sqrt(n) of it.
bool nothing_hidden(Factorization& factorization, double smallest, Index wanted, const SolverOptions& options,
                    std::size_t& n_products) {
    constexpr Index least = 4, most = 20;
    constexpr double margin = 10.0;
    const double growth = std::log(2.0 * margin * std::sqrt(static_cast<double>(factorization.rows())));
    const Index first = factorization.size();
    factorization.start_afresh();
    while (!factorization.full() && n_products < options.max_products) {
        factorization.extend();
        ++n_products;
        const Index size = factorization.size() - first;
        if (size < least || size % 2 != 0) continue;
        const RitzValues ritz(factorization.projected().bottomRightCorner(size, size), true);
        const double low = ritz.values()[0], largest = ritz.values()[size - 1];
        const double high =
            largest + factorization.remainder_norm() * std::abs(ritz.last_entries()[size - 1]);
        if (largest >= smallest || size >= most) return false;
        if (high >= smallest) continue;
        const double above = (smallest - high) / (high - low);
        if (static_cast<double>(size) * std::acosh(1.0 + 2.0 * above) < growth) continue;
        // A missed direction may lie in both spaces, and show in neither: together they would raise a value.
        const RitzValues both(factorization.projected(), false);
        return both.values()[factorization.size() - wanted] <= smallest + 0.01 * options.tolerance;
    }
    return false;
}

}  // namespace

RitzPairs largest_eigenpairs_lanczos(const SymmetricOperator& op, std::size_t count,
                                     const SolverOptions& options) {
    const auto wanted = static_cast<Index>(count), rows = static_cast<Index>(op.size);
    const Index capacity = std::min(rows, static_cast<Index>(krylov_dimension(op.size, count)));
    // A block must fit many times.
    const Index width = 8 * static_cast<Index>(options.block) <= capacity - wanted && capacity < rows
                            ? static_cast<Index>(options.block)
                            : 1;
    const double target = options.tolerance / 2;
    Factorization factorization(op, capacity, width);
    RitzPairs result;
    Index next_check = std::min(capacity, 2 * wanted + 8 * width);
    Index last_check = 0;
    double last_residual = 0.0;
    for (;;) {
        factorization.extend();
        result.n_products += static_cast<std::size_t>(width);
        const Index size = factorization.size();
        if (size < wanted) continue;
        const bool out_of_products = result.n_products >= options.max_products;
        if (size < next_check && !out_of_products && !factorization.full()) continue;

        const double residual = largest_residual(factorization, wanted);
        const bool converged = residual <= target || size == rows;
        if (converged || out_of_products) {
            const Eigen::SelfAdjointEigenSolver<MatrixXd> ritz(factorization.projected());
            const VectorXd left = factorization.residuals(ritz.eigenvectors());
            for (Index j = size - 1; j >= size - wanted; --j) {
                if (!converged && left[j] > target) continue;
                const VectorXd vector = factorization.basis() * ritz.eigenvectors().col(j);
                result.values.push_back(ritz.eigenvalues()[j]);
                result.vectors.insert(result.vectors.end(), vector.begin(), vector.end());
            }
            if (converged && size < rows)
                result.looked_again = width > 1 ? all_distinct(result.values, 20.0 * options.tolerance)
                                                : nothing_hidden(factorization, result.values.back(), wanted,
                                                                 options, result.n_products);
            return result;
        }
        // Residuals fall geometrically: the next look is where they should have arrived, and not far away.
        const double rate = last_check > 0 && last_check < size
                                ? std::log(last_residual / residual) / static_cast<double>(size - last_check)
                                : 0.0;
        const double steps =
            rate > 0.0 ? std::ceil(std::log(residual / target) / rate) : 4.0 * static_cast<double>(width);
        last_check = size;
        last_residual = residual;
        next_check = size + static_cast<Index>(std::clamp(steps, 1.0, 6.0 * static_cast<double>(width)));
        if (factorization.full()) {
            const Eigen::SelfAdjointEigenSolver<MatrixXd> ritz(factorization.projected());
            const Index kept = wanted + (capacity - wanted) / 3;
            factorization.restart(ritz.eigenvalues().tail(kept), ritz.eigenvectors().rightCols(kept));
            last_check = 0;
            next_check = kept + std::max<Index>(4, (capacity - kept) / 4);
        }
        next_check = std::min(next_check, capacity);
    }
}

}  // namespace deepspec

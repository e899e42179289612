#pragma once

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <vector>

#include "deepspec/columns.hpp"
#include "deepspec/eigensolver.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"

// What the native solvers share: a Krylov space and the eigenproblem projected on it.
namespace deepspec::krylov {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;

// Eigenpairs of the projected matrix H, ascending: values, the last rows of all vectors, which residuals
// need, and whole vectors of the few that are asked for. The rotations that diagonalise H are kept; applied
// to a few unit vectors they cost the square of the size of H, where all vectors take its cube.
class RitzProblem {
  public:
    // H is tridiagonal, or anything symmetric.
    RitzProblem(const MatrixXd& H, bool tridiagonal, Index n_last)
        : values_(H.rows()), last_rows_(MatrixXd::Zero(n_last, H.rows())), order_(H.rows()) {
        last_rows_.rightCols(n_last).setIdentity();
        VectorXd beside;
        if (tridiagonal) {
            values_ = H.diagonal();
            beside = H.diagonal(1);
        } else {
            reduction_.emplace(H);
            values_ = reduction_->diagonal();
            beside = reduction_->subDiagonal();
            last_rows_.applyOnTheRight(reduction_->matrixQ());
        }
        diagonalize(beside);
        std::iota(order_.begin(), order_.end(), Index{0});
        std::sort(order_.begin(), order_.end(), [this](Index a, Index b) { return values_[a] < values_[b]; });
        values_ = VectorXd(values_(order_));
        last_rows_ = MatrixXd(last_rows_(Eigen::all, order_));
    }

    const VectorXd& values() const { return values_; }
    const MatrixXd& last_rows() const { return last_rows_; }

    // Of the `count` largest values, which are the last columns in this order too.
    MatrixXd largest_vectors(Index count) const {
        const Index size = values_.size();
        MatrixXd rows = MatrixXd::Zero(count, size);  // of the transpose: a rotation meets two columns
        for (Index j = 0; j < count; ++j) rows(j, order_[static_cast<std::size_t>(size - count + j)]) = 1.0;
        for (auto rotation = rotations_.rbegin(); rotation != rotations_.rend(); ++rotation) {
            const auto [k, c, s] = *rotation;
            for (Index j = 0; j < count; ++j) {
                const double first = rows(j, k), second = rows(j, k + 1);
                rows(j, k) = c * first + s * second;
                rows(j, k + 1) = c * second - s * first;
            }
        }
        MatrixXd vectors = rows.transpose();
        if (reduction_) vectors.applyOnTheLeft(reduction_->matrixQ());
        return vectors;
    }

  private:
    // Of the columns k and k + 1.
    struct Rotation {
        Index k;
        double c, s;
    };

    // Implicit QR steps until nothing is left beside the diagonal.
    void diagonalize(VectorXd& beside) {
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
            if (steps > 50 * values_.size())  // two or three for an eigenvalue are usual
                throw std::runtime_error("the projected eigenproblem did not converge");
            Index begin = end - 1;
            while (begin > 0 && !negligible(begin - 1)) --begin;
            chase(beside, begin, end);
        }
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
            rotations_.push_back({k, c, s});
            for (Index row = 0; row < last_rows_.rows(); ++row) {
                const double entry = last_rows_(row, k);
                last_rows_(row, k) = c * entry - s * last_rows_(row, k + 1);
                last_rows_(row, k + 1) = s * entry + c * last_rows_(row, k + 1);
            }
            if (k + 1 == end) break;
            x = beside[k];
            z = -s * beside[k + 1];
            beside[k + 1] *= c;
        }
    }

    VectorXd values_;
    MatrixXd last_rows_;
    std::vector<Index> order_;
    std::optional<Eigen::Tridiagonalization<MatrixXd>> reduction_;
    std::vector<Rotation> rotations_;
};

// An orthonormal basis V with A V = V H + R E^T, where E picks the last block of columns. H is kept whole, so
// that a basis of Ritz vectors (a thick restart) continues like one of Krylov vectors.
class Factorization {
  public:
    Factorization(const SymmetricOperator& op, Index capacity, Index width)
        : op_(op),
          rows_(static_cast<Index>(op.size)),
          memory_(static_cast<std::size_t>(padded(rows_) * capacity)),
          basis_(memory_.data(), padded(rows_), capacity),
          projected_(MatrixXd::Zero(capacity, capacity)),
          remainder_(MatrixXd::Zero(padded(rows_), width)) {
        basis_.bottomRows(basis_.rows() - rows_).setZero();
        remainder_.topRows(rows_) = MatrixXd::Map(op.start.data(), rows_, width);
    }

    Index rows() const { return rows_; }
    Index width() const { return remainder_.cols(); }
    Index size() const { return size_; }
    bool full() const { return size_ + width() > basis_.cols(); }
    // The Ritz vectors of the `count` largest values, one in a column.
    MatrixXd largest_vectors(const RitzProblem& ritz, Index count) const {
        const MatrixXd coefficients = ritz.largest_vectors(count);
        MatrixXd vectors(rows_, count);
        const auto columns = static_cast<std::size_t>(size_ * count);
        columns::for_pieces(
            static_cast<std::size_t>(rows_), columns, op_.pool, [&](std::size_t begin, std::size_t end) {
                const auto first = static_cast<Index>(begin), n = static_cast<Index>(end - begin);
                vectors.middleRows(first, n) = basis_.block(first, 0, n, size_) * coefficients;
            });
        return vectors;
    }
    auto projected() const { return projected_.topLeftCorner(size_, size_); }

    RitzProblem ritz() const { return {projected(), width() == 1 && !restarted_, width()}; }

    // |A V s - V H s| for unit vectors s whose last rows these are.
    VectorXd residuals(const MatrixXd& last_rows) const {
        const MatrixXd gram = dots(remainder_.data(), width(), remainder_.data(), width());
        return last_rows.cwiseProduct(gram * last_rows).colwise().sum().cwiseMax(0.0).cwiseSqrt();
    }

    // Adds the remainder's directions to the basis, or where nothing remains of one a direction of its own.
    void extend() {
        const Index first = size_;
        for (Index c = 0; c < width(); ++c) append(c, first);
        op_.apply(basis_.col(first).data(), remainder_.data(), static_cast<std::size_t>(width()),
                  static_cast<std::size_t>(basis_.rows()));
        MatrixXd coefficients = MatrixXd::Zero(size_, width());
        // Most of a product lies along the last two blocks. Without them, little is left to lose digits of.
        const Index near = std::max<Index>(0, size_ - 2 * width());
        coefficients.bottomRows(size_ - near) = take_out(near, 0, width()).coefficients;
        orthogonalize(0, width(), coefficients);
        projected_.block(0, first, size_, width()) = coefficients;
        projected_.block(first, 0, width(), size_) = coefficients.transpose();
    }

    // Keeps the Ritz vectors of the `count` largest values alone.
    void restart(const RitzProblem& ritz, Index count) {
        const MatrixXd coefficients = ritz.largest_vectors(count);
        const auto columns = static_cast<std::size_t>(size_ * count);
        columns::for_pieces(length(), columns, op_.pool, [&](std::size_t begin, std::size_t end) {
            auto rows = basis_.middleRows(static_cast<Index>(begin), static_cast<Index>(end - begin));
            const MatrixXd kept = rows.leftCols(size_) * coefficients;
            rows.leftCols(count) = kept;
        });
        size_ = count;
        projected_.setZero();
        projected_.diagonal().head(size_) = ritz.values().tail(size_);
        restarted_ = true;
    }

  private:
    static constexpr double breakdown = 1e-12;  // beside an operator of norm 2

    static Index padded(Index rows) {
        constexpr auto unit = static_cast<Index>(kernels::length_unit);
        return (rows + unit - 1) / unit * unit;
    }

    // The dot products of columns as high as the basis, n_first of them with n_second.
    MatrixXd dots(const double* first, Index n_first, const double* second, Index n_second) const {
        const std::vector<double> products =
            columns::dots(first, static_cast<std::size_t>(n_first), second,
                          static_cast<std::size_t>(n_second), length(), op_.pool);
        return MatrixXd::Map(products.data(), n_first, n_second);
    }

    std::size_t length() const { return static_cast<std::size_t>(basis_.rows()); }

    struct Taken {
        MatrixXd coefficients;
        double least_left = 1.0;  // of a column's length
    };

    // Takes the directions of the basis from `first` on out of `count` columns of the remainder.
    Taken take_out(Index first, Index column, Index count) {
        const double* const basis = basis_.data() + static_cast<std::size_t>(first) * length();
        double* const x = remainder_.col(column).data();
        Taken taken{dots(basis, size_ - first, x, count)};
        columns::subtract(basis, static_cast<std::size_t>(size_ - first), taken.coefficients.data(), x,
                          static_cast<std::size_t>(count), length(), op_.pool);
        for (Index c = 0; c < count; ++c) {
            const double left = norm(column + c);
            const double before = std::hypot(left, taken.coefficients.col(c).norm());
            if (left > breakdown) taken.least_left = std::min(taken.least_left, left / before);
        }
        return taken;
    }

    // Takes the basis out of `count` columns of the remainder and adds what was taken to the coefficients;
    // again where that was most of one, since rounding is then as large as what is left (Daniel, Gragg,
    // Kaufman and Stewart, Math. Comp. 30, 1976).
    void orthogonalize(Index column, Index count, MatrixXd& coefficients) {
        for (;;) {
            const Taken taken = take_out(0, column, count);
            coefficients += taken.coefficients;
            if (taken.least_left >= 0.5) return;
        }
    }

    // The block's earlier columns, from `first` on, are in the basis already; what was there before is out.
    void append(Index c, Index first) {
        if (c > 0 && take_out(first, c, 1).least_left < 0.5) {
            MatrixXd ignored = MatrixXd::Zero(size_, 1);
            orthogonalize(c, 1, ignored);
        }
        double length = norm(c);
        while (!(length > breakdown)) {
            start_afresh(c);
            length = norm(c);
        }
        basis_.col(size_) = remainder_.col(c) / length;
        ++size_;
    }

    // Puts another direction, orthogonal to the basis, in a remainder's place. H stays whole.
    void start_afresh(Index c) {
        remainder_.col(c).head(rows_) = fresh_direction();
        MatrixXd ignored = MatrixXd::Zero(size_, 1);
        orthogonalize(c, 1, ignored);
    }

    double norm(Index c) const {
        const double* const column = remainder_.col(c).data();
        return std::sqrt(dots(column, 1, column, 1)(0, 0));
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
    Index rows_;             // below them, the vectors are padded with zeros
    Buffer<double> memory_;  // of the basis: large pages, which are kept for the next search
    Eigen::Map<MatrixXd> basis_;
    MatrixXd projected_, remainder_;
    Index size_ = 0;
    Index n_fresh_ = 0;
    bool restarted_ = false;
};

// A block finds as many directions of an eigenspace as it has vectors: where no two of the values, which
// descend, are nearly equal, each is simple.
inline bool all_distinct(const std::vector<double>& values, double difference) {
    return std::adjacent_find(values.begin(), values.end(),
                              [&](double a, double b) { return a - b < difference; }) == values.end();
}

}  // namespace deepspec::krylov

#pragma once

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <type_traits>
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

// The largest eigenpairs of the projected matrix H: values, ascending, the last rows of their vectors, which
// residuals need, and the vectors of those that are asked for. The rotations that diagonalise H are kept;
// applied to a few unit vectors they cost the square of the size of H, where all vectors take its cube.
//
// H is turned around: wanted vectors have next to nothing in the last of a Krylov space's directions, and
// QR steps are precise where that is at the beginning (Parlett and Le, SIAM J. Matrix Anal. 14, 1993).
class RitzProblem {
  public:
    // H is symmetric, and 0 (but for rounding) farther from its diagonal than the bandwidth. `wanted` pairs
    // are found, or more. `near` may have numbers near their values, as a smaller space's are.
    RitzProblem(const MatrixXd& H, Index bandwidth, Index n_last, Index wanted, const VectorXd& near)
        : size_(H.rows()), last_rows_(MatrixXd::Zero(n_last, size_)) {
        last_rows_.leftCols(n_last) = MatrixXd::Identity(n_last, n_last).rowwise().reverse();
        VectorXd beside;
        if (bandwidth <= 2) {
            beside = reduced(H, bandwidth);
        } else {
            reduction_.emplace(MatrixXd(H.reverse()));
            values_ = reduction_->diagonal();
            beside = reduction_->subDiagonal();
            last_rows_.applyOnTheRight(reduction_->matrixQ());
        }
        const Index first = diagonalize(beside, wanted, near);
        order_.resize(static_cast<std::size_t>(size_ - first));
        std::iota(order_.begin(), order_.end(), first);
        std::sort(order_.begin(), order_.end(), [this](Index a, Index b) { return values_[a] < values_[b]; });
        values_ = VectorXd(values_(order_));
        last_rows_ = MatrixXd(last_rows_(Eigen::all, order_));
    }

    const VectorXd& values() const { return values_; }
    const MatrixXd& last_rows() const { return last_rows_; }

    // Of the `count` largest values, which are the last columns in this order too.
    MatrixXd largest_vectors(Index count) const {
        MatrixXd rows = MatrixXd::Zero(count, size_);  // of the transpose: a rotation meets two columns
        for (Index j = 0; j < count; ++j)
            rows(j, order_[order_.size() - static_cast<std::size_t>(count - j)]) = 1.0;
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
        return vectors.colwise().reverse();
    }

  private:
    // Of the columns k and k + 1.
    struct Rotation {
        Index k;
        double c, s;
    };

    // What is beside the diagonal, which becomes values_, of a tridiagonal matrix similar to a band's: its
    // farther entries are rotated away, one after the other, and each time what that puts outside of the band
    // is pushed down and out (Schwarz, Numer. Math. 12, 1968).
    VectorXd reduced(const MatrixXd& H, Index bandwidth) {
        values_ = H.diagonal().reverse();
        VectorXd first = VectorXd::Zero(size_), second = first;  // one below the diagonal, two
        if (size_ > 1) first.head(size_ - 1) = H.diagonal(-1).reverse();
        if (size_ > 2 && bandwidth == 2) second.head(size_ - 2) = H.diagonal(-2).reverse();
        for (Index column = 0; column + 2 < size_; ++column) {
            if (second[column] == 0.0) continue;
            double upper = first[column], outside = second[column];  // one below the other; the lower goes
            second[column] = 0.0;
            double* kept = &first[column];
            for (Index k = column + 1; k + 1 < size_; k += 2) {
                const double length = std::sqrt(upper * upper + outside * outside);
                const double c = length > 0.0 ? upper / length : 1.0;
                const double s = length > 0.0 ? -outside / length : 0.0;
                *kept = length;
                if (k > column + 1) {  // between the entry that was kept and the diagonal
                    const double a = first[k - 1], b = second[k - 1];
                    first[k - 1] = c * a - s * b;
                    second[k - 1] = s * a + c * b;
                }
                rotate(first, k, c, s);
                if (k + 2 >= size_) break;
                const double a = second[k], b = first[k + 1];
                second[k] = c * a - s * b;
                first[k + 1] = s * a + c * b;
                if (k + 3 >= size_) break;
                upper = second[k];
                outside = -s * second[k + 1];
                second[k + 1] *= c;
                kept = &second[k];
                if (outside == 0.0) break;
            }
        }
        return first.head(std::max<Index>(0, size_ - 1));
    }

    // A rotation of the rows and columns k and k + 1, as far as the diagonal, what is beside it and what is
    // kept of it go.
    void rotate(VectorXd& beside, Index k, double c, double s) {
        const double upper = values_[k], middle = beside[k], lower = values_[k + 1];
        values_[k] = c * c * upper - 2.0 * c * s * middle + s * s * lower;
        values_[k + 1] = s * s * upper + 2.0 * c * s * middle + c * c * lower;
        beside[k] = c * s * (upper - lower) + (c * c - s * s) * middle;
        rotations_.push_back({k, c, s});
        for (Index row = 0; row < last_rows_.rows(); ++row) {
            const double entry = last_rows_(row, k);
            last_rows_(row, k) = c * entry - s * last_rows_(row, k + 1);
            last_rows_(row, k + 1) = s * entry + c * last_rows_(row, k + 1);
        }
    }

    // Implicit QR steps until nothing is left beside the diagonal from the index that is returned on, where
    // the `wanted` largest values are then. What is last becomes a value near a step's shift, mostly.
    Index diagonalize(VectorXd& beside, Index wanted, const VectorXd& near) {
        constexpr double epsilon = std::numeric_limits<double>::epsilon();
        constexpr Index guided = 2;  // steps to a value whose shift is a number near it
        const auto negligible = [&](Index i) {
            return std::abs(beside[i]) <= epsilon * (std::abs(values_[i]) + std::abs(values_[i + 1]));
        };
        Index end = size_ - 1, enough = wanted, n_near = near.size(), steps = 0;
        while (end > 0) {
            if (negligible(end - 1)) {
                --end;
                if (steps > 0 && n_near > 0) --n_near;
                steps = 0;
                const Index n_found = size_ - 1 - end;
                if (n_found < enough) continue;
                VectorXd found = values_.tail(n_found);
                std::nth_element(found.begin(), found.end() - wanted, found.end());
                if (none_above(found[n_found - wanted], beside, end)) return end + 1;
                enough = 2 * n_found;
                continue;
            }
            if (steps > 50 * size_)  // two or three for an eigenvalue are usual
                throw std::runtime_error("the projected eigenproblem did not converge");
            Index begin = end - 1;
            while (begin > 0 && !negligible(begin - 1)) --begin;
            const bool is_guided = n_near > 0 && steps < guided;
            chase(beside, begin, end, is_guided ? near[n_near - 1] : wilkinson_shift(beside, end));
            ++steps;
        }
        return 0;
    }

    // Whether no eigenvalue of the rows [0, end] is above a number: by the signs of the pivots (Sylvester).
    bool none_above(double number, const VectorXd& beside, Index end) const {
        double pivot = values_[0] - number;
        for (Index i = 1; i <= end && pivot < 0.0; ++i)
            pivot = values_[i] - number - beside[i - 1] * beside[i - 1] / pivot;
        return pivot < 0.0;
    }

    // The eigenvalue of the last two rows that is nearer to the last entry.
    double wilkinson_shift(const VectorXd& beside, Index end) const {
        const double half = 0.5 * (values_[end - 1] - values_[end]), corner = beside[end - 1];
        return values_[end] -
               corner * corner / (half + std::copysign(std::sqrt(half * half + corner * corner), half));
    }

    // One QR step on the rows [begin, end]: rotations of neighbouring rows and columns push the entry that
    // the first of them puts outside of the three diagonals down and out.
    void chase(VectorXd& beside, Index begin, Index end, double shift) {
        double x = values_[begin] - shift, z = beside[begin];
        for (Index k = begin; k < end; ++k) {
            const double length = std::sqrt(x * x + z * z);
            const double c = length > 0.0 ? x / length : 1.0, s = length > 0.0 ? -z / length : 0.0;
            rotate(beside, k, c, s);
            if (k > begin) beside[k - 1] = length;
            if (k + 1 == end) break;
            x = beside[k];
            z = -s * beside[k + 1];
            beside[k + 1] *= c;
        }
    }

    Index size_;
    VectorXd values_;
    MatrixXd last_rows_;
    std::vector<Index> order_;
    std::optional<Eigen::Tridiagonalization<MatrixXd>> reduction_;
    std::vector<Rotation> rotations_;
};

// An orthonormal basis V with A V = V H + R E^T, where E picks the last block of columns. H is kept whole, so
// that a basis of Ritz vectors (a thick restart) continues like one of Krylov vectors. The basis is kept in
// the precision of Number.
//
// In exact arithmetic a product needs only the last two blocks taken out. With rounding it slowly turns
// towards the rest of the basis, so that is taken out too: of every product, or, where some `loss` of
// orthogonality is allowed, of two products after a pause (the recurrence goes on from two blocks; Grcar,
// Analyses of the Lanczos algorithm, 1981). What they had of it tells how long the pause may be.
template <class Number>
class Factorization {
    using Matrix = Eigen::Matrix<Number, Eigen::Dynamic, Eigen::Dynamic>;

  public:
    Factorization(const SymmetricOperator& op, Index capacity, Index width, double loss)
        : op_(op),
          allowed_loss_(loss),
          pause_(loss > 0.0 ? 2 : 0),
          rows_(static_cast<Index>(op.size)),
          memory_(static_cast<std::size_t>(padded(rows_) * capacity)),
          basis_(memory_.data(), padded(rows_), capacity),
          projected_(MatrixXd::Zero(capacity, capacity)),
          remainder_(Matrix::Zero(padded(rows_), width)) {
        basis_.bottomRows(basis_.rows() - rows_).setZero();
        remainder_.topRows(rows_) = MatrixXd::Map(op.start.data(), rows_, width).template cast<Number>();
        remainder_gram_ = gram(0, width);
    }

    Index width() const { return remainder_.cols(); }
    Index size() const { return size_; }
    bool full() const { return size_ + width() > basis_.cols(); }

    // The Ritz vectors of the `count` largest values, one in a column, orthonormal in double.
    MatrixXd largest_vectors(const RitzProblem& ritz, Index count) const {
        MatrixXd vectors(rows_, count);
        combine(ritz, count, [&](Index row, Index n, const auto& sums) {
            const Index within = std::min(n, rows_ - row);
            vectors.middleRows(row, within) = sums.topRows(within).template cast<double>();
        });
        if (allowed_loss_ > 0.0) {
            const Eigen::LLT<MatrixXd> root(vectors.transpose() * vectors);
            root.matrixU().solveInPlace<Eigen::OnTheRight>(vectors);
        }
        return vectors;
    }

    // The `wanted` largest pairs of H, or more; `near` as for RitzProblem.
    RitzProblem ritz(Index wanted, const VectorXd& near) const {
        return {projected_.topLeftCorner(size_, size_), restarted_ ? size_ : width(), width(), wanted, near};
    }

    // |A V s - V H s| for unit vectors s whose last rows these are.
    VectorXd residuals(const MatrixXd& last_rows) const {
        return last_rows.cwiseProduct(remainder_gram_ * last_rows).colwise().sum().cwiseMax(0.0).cwiseSqrt();
    }

    // Adds the remainder's directions to the basis, or where nothing remains of one a direction of its own.
    void extend() {
        const Index first = size_;
        if (!append_together())
            for (Index c = 0; c < width(); ++c) append(c, first);
        multiply(basis_.col(first).data());
        MatrixXd coefficients = MatrixXd::Zero(size_, width());
        // Most of a product lies along the last two blocks. Without them, little is left to lose digits of.
        const Index near = std::max<Index>(0, size_ - 2 * width());
        coefficients.bottomRows(size_ - near) = take_out(near, 0, width());
        if (left_of_pause_ > 0) remainder_gram_ = gram(0, width());
        if (left_of_pause_ > 0 && is_precise(coefficients)) {
            --left_of_pause_;
        } else {
            left_of_pause_ = 0;
            const double taken = orthogonalize(0, width(), coefficients, remainder_gram_);
            if (n_orthogonal_ == 0 && paused_) adapt_pause(taken);
            if (++n_orthogonal_ == 2) pause();
        }
        projected_.block(0, first, size_, width()) = coefficients;
        projected_.block(first, 0, width(), size_) = coefficients.transpose();
    }

    // Keeps the Ritz vectors of the `count` largest values alone.
    void restart(const RitzProblem& ritz, Index count) {
        combine(ritz, count,
                [&](Index row, Index n, const auto& sums) { basis_.block(row, 0, n, count) = sums; });
        size_ = count;
        projected_.setZero();
        projected_.diagonal().head(size_) = ritz.values().tail(size_);
        restarted_ = true;
        left_of_pause_ = n_orthogonal_ = 0;
        paused_ = false;
    }

  private:
    static constexpr double mostly = 0.866;  // of a column, which leaves half of its length

    // Beside an operator of norm 2, and above what rounding leaves.
    static constexpr double breakdown = std::is_same_v<Number, double> ? 1e-12 : 1e-6;

    static Index padded(Index rows) {
        return static_cast<Index>(columns::padded(static_cast<std::size_t>(rows)));
    }

    // put(row, n, sums) is told of rows of the Ritz vectors of the `count` largest values, n at a time; it
    // may write them over these rows of the basis.
    template <class Put>
    void combine(const RitzProblem& ritz, Index count, const Put& put) const {
        const MatrixXd vectors = ritz.largest_vectors(count);
        const std::vector<double> factors(vectors.data(), vectors.data() + vectors.size());
        columns::combine(basis_.data(), static_cast<std::size_t>(size_), factors, length(), op_.pool,
                         [&](std::size_t row, std::size_t n, const Number* sums) {
                             using Sums = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;
                             const auto first = static_cast<Index>(row), rows = static_cast<Index>(n);
                             constexpr auto stride = static_cast<Index>(columns::rows_at_once);
                             put(first, rows, Sums(sums, rows, count, Eigen::OuterStride<>(stride)));
                         });
    }

    // The remainder becomes the product of a block of the basis.
    void multiply(const Number* block) {
        const auto count = static_cast<std::size_t>(width());
        if constexpr (std::is_same_v<Number, double>)
            op_.apply(block, remainder_.data(), count, length());
        else
            op_.apply_floats(block, remainder_.data(), count, length());
    }

    // The dot products of columns as high as the basis, n_first of them with n_second.
    MatrixXd dots(const Number* first, Index n_first, const Number* second, Index n_second) const {
        const std::vector<double> products =
            columns::dots(first, static_cast<std::size_t>(n_first), second,
                          static_cast<std::size_t>(n_second), length(), op_.pool);
        return MatrixXd::Map(products.data(), n_first, n_second);
    }

    std::size_t length() const { return static_cast<std::size_t>(basis_.rows()); }

    // The dot products of `count` columns of the remainder with each other.
    MatrixXd gram(Index column, Index count) const {
        const Number* const x = remainder_.col(column).data();
        return dots(x, count, x, count);
    }

    // Takes the directions of the basis from `first` on out of `count` columns of the remainder, and returns
    // how much of each there was.
    MatrixXd take_out(Index first, Index column, Index count) {
        const Number* const basis = basis_.data() + static_cast<std::size_t>(first) * length();
        Number* const x = remainder_.col(column).data();
        MatrixXd taken = dots(basis, size_ - first, x, count);
        columns::subtract(basis, static_cast<std::size_t>(size_ - first), taken.data(), x,
                          static_cast<std::size_t>(count), length(), op_.pool);
        return taken;
    }

    // Takes the basis out of `count` columns of the remainder and adds what was taken to the coefficients;
    // again where that was most of one, since rounding is then as large as what is left (Daniel, Gragg,
    // Kaufman and Stewart, Math. Comp. 30, 1976). Returns the largest part there was, of a column's length.
    // `left` becomes the Gram matrix of what is left.
    double orthogonalize(Index column, Index count, MatrixXd& coefficients, MatrixXd& left) {
        double first = -1.0;
        for (;;) {
            const MatrixXd taken = take_out(0, column, count);
            coefficients += taken;
            left = gram(column, count);
            double largest = 0.0;
            for (Index c = 0; c < count; ++c) {
                const double rest = left(c, c), part = taken.col(c).squaredNorm();
                if (rest > breakdown * breakdown)
                    largest = std::max(largest, std::sqrt(part / (part + rest)));
            }
            if (first < 0.0) first = largest;
            if (largest <= mostly) return first;
        }
    }

    void orthogonalize(Index column) {
        MatrixXd coefficients = MatrixXd::Zero(size_, 1), left;
        orthogonalize(column, 1, coefficients, left);
    }

    // Whether rounding of products with so much along the basis is far below what may be lost.
    bool is_precise(const MatrixXd& coefficients) const {
        constexpr double rounding = std::numeric_limits<Number>::epsilon();
        const auto before = coefficients.colwise().norm().array();
        const auto left = remainder_gram_.diagonal().transpose().array().sqrt();
        return (rounding * before <= 0.1 * allowed_loss_ * left).all();
    }

    void pause() {
        left_of_pause_ = pause_;
        paused_ = pause_ > 0;
        n_orthogonal_ = 0;
    }

    void adapt_pause(double loss) {
        constexpr Index longest = 6;
        if (loss > allowed_loss_) pause_ /= 2;
        if (loss < 0.1 * allowed_loss_) pause_ = std::min(pause_ + 1, longest);
    }

    // Adds the remainder's columns, made orthonormal by their dot products (Cholesky's factors of them);
    // false where these are not precise enough, for columns that vanish or are nearly parallel.
    bool append_together() {
        const Eigen::LLT<MatrixXd> root(remainder_gram_);
        const MatrixXd lower = root.matrixL();
        const auto lengths = remainder_gram_.diagonal().cwiseSqrt().array();
        if (root.info() != Eigen::Success || !(lengths > breakdown).all() ||
            !(lower.diagonal().array() >= 0.5 * lengths).all())
            return false;
        MatrixXd inverse = MatrixXd::Identity(width(), width());
        lower.transpose().triangularView<Eigen::Upper>().solveInPlace(inverse);
        const Matrix factors = inverse.template cast<Number>();
        columns::for_pieces(length(), static_cast<std::size_t>(2 * width()), op_.pool,
                            [&](std::size_t begin, std::size_t end) {
                                const auto at = static_cast<Index>(begin),
                                           n = static_cast<Index>(end - begin);
                                basis_.block(at, size_, n, width()).noalias() =
                                    remainder_.middleRows(at, n).lazyProduct(factors);
                            });
        size_ += width();
        return true;
    }

    // The block's earlier columns, from `first` on, are in the basis already; what was there before is out.
    void append(Index c, Index first) {
        if (c > 0) {
            take_out(first, c, 1);
            orthogonalize(c);
        }
        double length = norm(c);
        while (!(length > breakdown)) {
            start_afresh(c);
            length = norm(c);
        }
        basis_.col(size_) = remainder_.col(c) * static_cast<Number>(1.0 / length);
        ++size_;
    }

    // Puts another direction, orthogonal to the basis, in a remainder's place. H stays whole.
    void start_afresh(Index c) {
        remainder_.col(c).head(rows_) = fresh_direction().template cast<Number>();
        orthogonalize(c);
    }

    double norm(Index c) const { return std::sqrt(gram(c, 1)(0, 0)); }

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
    double allowed_loss_;  // of orthogonality
    Index pause_, left_of_pause_ = 0, n_orthogonal_ = 0;
    bool paused_ = false;
    Index rows_;             // below them, the vectors are padded with zeros
    Buffer<Number> memory_;  // of the basis: large pages, which are kept for the next search
    Eigen::Map<Matrix> basis_;
    MatrixXd projected_;
    Matrix remainder_;
    MatrixXd remainder_gram_;
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

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <vector>

#include "deepspec/eigensolver.hpp"
#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

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
          basis_(padded(rows_), capacity),
          projected_(MatrixXd::Zero(capacity, capacity)),
          remainder_(MatrixXd::Zero(padded(rows_), width)) {
        basis_.bottomRows(basis_.rows() - rows_).setZero();
        remainder_.topRows(rows_) = MatrixXd::Map(op.start.data(), rows_, width);
    }

    Index rows() const { return rows_; }
    Index width() const { return remainder_.cols(); }
    Index size() const { return size_; }
    bool full() const { return size_ + width() > basis_.cols(); }
    auto basis() const { return basis_.topLeftCorner(rows_, size_); }
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
        const MatrixXd kept = basis_.leftCols(size_) * ritz.largest_vectors(count);
        size_ = count;
        basis_.leftCols(size_) = kept;
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

    static constexpr std::size_t piece = 1024;  // rows

    // Calls body(begin, end) for pieces of the rows, which do not depend on the number of threads: a thread
    // is woken where so many products of columns are worth it.
    template <class Body>
    void for_pieces(std::size_t n_products, const Body& body) const {
        constexpr std::size_t worthwhile = 100'000;  // multiplications
        const auto length = static_cast<std::size_t>(basis_.rows());
        if (n_products * length > worthwhile)
            op_.pool.for_blocks(length, piece, body);
        else
            for (std::size_t begin = 0; begin < length; begin += piece)
                body(begin, std::min(begin + piece, length));
    }

    // The dot products of columns as high as the basis, n_first of them with n_second.
    MatrixXd dots(const double* first, Index n_first, const double* second, Index n_second) const {
        const auto length = static_cast<std::size_t>(basis_.rows());
        std::vector<MatrixXd> parts((length + piece - 1) / piece, MatrixXd(n_first, n_second));
        for_pieces(static_cast<std::size_t>(n_first * n_second), [&](std::size_t begin, std::size_t end) {
            kernels::selected().dots(first + begin, length, static_cast<std::size_t>(n_first), second + begin,
                                     static_cast<std::size_t>(n_second), end - begin,
                                     parts[begin / piece].data());
        });
        return std::accumulate(parts.begin() + 1, parts.end(), parts.front());
    }

    struct Taken {
        MatrixXd coefficients;
        double least_left = 1.0;  // of a column's length
    };

    // Takes the directions of the basis from `first` on out of `count` columns of the remainder.
    Taken take_out(Index first, Index column, Index count) {
        const auto length = static_cast<std::size_t>(basis_.rows());
        const auto n_taken = static_cast<std::size_t>(size_ - first),
                   n_columns = static_cast<std::size_t>(count);
        const double* const basis = basis_.data() + static_cast<std::size_t>(first) * length;
        double* const x = remainder_.col(column).data();
        Taken taken{dots(basis, size_ - first, x, count)};
        for_pieces(n_taken * n_columns, [&](std::size_t begin, std::size_t end) {
            kernels::selected().subtract(basis + begin, length, n_taken, taken.coefficients.data(), x + begin,
                                         n_columns, end - begin);
        });
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
    Index rows_;  // below them, the vectors are padded with zeros
    MatrixXd basis_, projected_, remainder_;
    Index size_ = 0;
    Index n_fresh_ = 0;
    bool restarted_ = false;
};

// A block finds as many directions of an eigenspace as it has vectors: where no two of the values, which
// descend, are nearly equal, each is simple.
bool all_distinct(const std::vector<double>& values, double difference) {
    return std::adjacent_find(values.begin(), values.end(),
                              [&](double a, double b) { return a - b < difference; }) == values.end();
}

}  // namespace

RitzPairs largest_eigenpairs_lanczos(const SymmetricOperator& op, std::size_t count,
                                     const SolverOptions& options) {
    const auto wanted = static_cast<Index>(count), rows = static_cast<Index>(op.size);
    const Index capacity = std::min(rows, static_cast<Index>(krylov_dimension(op.size, count)));
    const double target = (op.nearly_right ? 0.9 : 0.75) * options.tolerance;
    // A block must fit many times.
    const bool in_blocks = 8 * static_cast<Index>(options.block) <= capacity - wanted && capacity < rows;
    const Index width = op.nearly_right ? static_cast<Index>(op.start.size()) / rows
                        : in_blocks     ? static_cast<Index>(options.block)
                                        : 1;
    Factorization factorization(op, capacity, width);
    RitzPairs result;
    Index next_check = op.nearly_right ? 0 : std::min(capacity, 2 * wanted + 8 * width);
    Index last_check = 0;
    double last_residual = 0.0;
    for (;;) {
        factorization.extend();
        result.n_products += static_cast<std::size_t>(width);
        const Index size = factorization.size();
        if (size < wanted) continue;
        const bool out_of_products = result.n_products >= options.max_products;
        if (size < next_check && !out_of_products && !factorization.full()) continue;

        const RitzProblem ritz = factorization.ritz();
        const VectorXd residuals = factorization.residuals(ritz.last_rows().rightCols(wanted));
        const double residual = residuals.maxCoeff();
        const bool converged = residual <= target || size == rows;
        if (converged || out_of_products) {
            const MatrixXd vectors = factorization.basis() * ritz.largest_vectors(wanted);
            for (Index j = wanted - 1; j >= 0; --j) {
                if (!converged && residuals[j] > target) continue;
                result.values.push_back(ritz.values()[size - wanted + j]);
                result.vectors.insert(result.vectors.end(), vectors.col(j).begin(), vectors.col(j).end());
            }
            result.none_hidden =
                converged && width > 1 && all_distinct(result.values, 20.0 * options.tolerance);
            return result;
        }
        // Residuals fall geometrically: the next look is where they should have arrived, and not far away.
        const double rate = last_check > 0 && last_check < size
                                ? std::log(last_residual / residual) / static_cast<double>(size - last_check)
                                : 0.0;
        const double steps = rate > 0.0        ? std::ceil(std::log(residual / target) / rate)
                             : op.nearly_right ? static_cast<double>(width)
                                               : 4.0 * static_cast<double>(width);
        last_check = size;
        last_residual = residual;
        next_check = size + static_cast<Index>(std::clamp(steps, 1.0, 6.0 * static_cast<double>(width)));
        if (factorization.full()) {
            const Index kept = wanted + (capacity - wanted) / 3;
            factorization.restart(ritz, kept);
            last_check = 0;
            next_check = kept + std::max<Index>(4, (capacity - kept) / 4);
        }
        next_check = std::min(next_check, capacity);
    }
}

}  // namespace deepspec

#include <algorithm>
#include <cmath>

#include "deepspec/krylov.hpp"

namespace deepspec {
namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using krylov::Factorization;
using krylov::RitzProblem;

// A Chebyshev polynomial of the operator, of a degree of at least 2, between -1 and 1 on [low, high] and
// rising steeply above, divided by its value at `top`.
class Filter {
  public:
    Filter(double low, double high, double top, int degree)
        : center_(0.5 * (low + high)),
          half_(0.5 * (high - low)),
          degree_(degree),
          inverse_scale_(1.0 / std::cosh(degree * std::acosh((top - center_) / half_))) {}

    int degree() const { return degree_; }

    // Y = p(A) X by the recurrence of Chebyshev polynomials: the next is 2 t(A) times one less the one
    // before, where t maps [low, high] to [-1, 1].
    void apply(const SymmetricOperator& op, const double* x, double* y, std::size_t count,
               std::size_t stride) {
        const std::size_t length = count * stride;
        before_.assign(x, x + length);
        project(op, before_.data(), count, stride);
        now_.resize(length);
        const double first = 1.0 / half_, next = 2.0 / half_;
        step(op, {-center_ * first, first, 0.0}, before_.data(), nullptr, now_.data(), count, stride);
        for (int degree = 2; degree < degree_; ++degree) {
            step(op, {-center_ * next, next, -1.0}, now_.data(), before_.data(), before_.data(), count,
                 stride);
            std::swap(now_, before_);
        }
        const double last = next * inverse_scale_;
        step(op, {-center_ * last, last, -inverse_scale_}, now_.data(), before_.data(), y, count, stride);
        project(op, y, count, stride);
    }

  private:
    // An operator that cannot do it at once is applied, and the rest added.
    void step(const SymmetricOperator& op, Affinity::Terms terms, const double* x, const double* z,
              double* out, std::size_t count, std::size_t stride) {
        if (op.step) return op.step(terms, x, z, out, count, stride);
        product_.resize(count * stride);
        op.apply(x, product_.data(), count, stride);
        for (std::size_t i = 0; i < count * stride; ++i)
            out[i] = terms.x * x[i] + terms.product * product_[i] + (z != nullptr ? terms.z * z[i] : 0.0);
    }

    static void project(const SymmetricOperator& op, double* x, std::size_t count, std::size_t stride) {
        if (op.project) op.project(x, count, stride);
    }

    double center_, half_;
    int degree_;
    double inverse_scale_;
    std::vector<double> before_, now_, product_;
};

// Rayleigh quotients of unit vectors, and what is left of A x beside.
struct Measured {
    VectorXd values, residuals;
};

// A few at a time, as the search multiplies them: all their products would take as much memory again.
Measured measure(const SymmetricOperator& op, const MatrixXd& vectors, Index width) {
    Measured result{VectorXd(vectors.cols()), VectorXd(vectors.cols())};
    MatrixXd products(vectors.rows(), width);
    for (Index first = 0; first < vectors.cols(); first += width) {
        const Index count = std::min(width, vectors.cols() - first);
        op.apply(vectors.col(first).data(), products.data(), static_cast<std::size_t>(count),
                 static_cast<std::size_t>(vectors.rows()));
        for (Index c = 0; c < count; ++c) {
            const auto vector = vectors.col(first + c);
            const double value = vector.dot(products.col(c));
            result.values[first + c] = value;
            result.residuals[first + c] = (products.col(c) - value * vector).norm();
        }
    }
    return result;
}

// As many vectors as a block has, each the sum of every so manieth of the columns, which all go on from
// there.
std::vector<double> sums_of_columns(const MatrixXd& columns, Index width) {
    MatrixXd sums = MatrixXd::Zero(columns.rows(), width);
    for (Index j = 0; j < columns.cols(); ++j) sums.col(j % width) += columns.col(j);
    return {sums.data(), sums.data() + sums.size()};
}

struct Start {
    Filter filter;
    std::vector<double> vectors;
    std::size_t n_products;
};

// A search of one basis: where the spectrum ends, and a start that leans towards its upper end.
Start look_at_spectrum(const SymmetricOperator& op, Index wanted, Index capacity, Index width) {
    Factorization look(op, capacity, width);
    while (!look.full()) look.extend();
    const RitzProblem ritz = look.ritz();
    const VectorXd& values = ritz.values();
    const Index last = look.size() - 1;
    constexpr double least = 1e-3;  // of an operator with next to one eigenvalue, so as not to divide by zero
    const double margin = 0.05 * std::max(least, values[last] - values[0]);
    // Values are found from below: more are above this one than are wanted.
    const double high = values[last - wanted];
    constexpr int degree = 3;
    return {Filter(values[0] - margin, high, values[last], degree),
            sums_of_columns(look.largest_vectors(ritz, wanted + width), width),
            static_cast<std::size_t>(look.size())};
}

}  // namespace

RitzPairs largest_eigenpairs_filtered(const SymmetricOperator& op, std::size_t count,
                                      const SolverOptions& options) {
    const auto wanted = static_cast<Index>(count), rows = static_cast<Index>(op.size);
    const auto capacity = static_cast<Index>(filtered_dimension(count));
    // A block must fit many times.
    const bool in_blocks = 8 * static_cast<Index>(options.block) <= capacity - wanted;
    const Index width = in_blocks ? static_cast<Index>(options.block) : 1;
    if (rows < 4 * capacity) return largest_eigenpairs_lanczos(op, count, options);

    RitzPairs result;
    Start start = look_at_spectrum(op, wanted, capacity, width);
    result.n_products += start.n_products;
    Filter& filter = start.filter;
    const SymmetricOperator filtered{op.size,
                                     [&](const double* x, double* y, std::size_t n_vectors,
                                         std::size_t stride) { filter.apply(op, x, y, n_vectors, stride); },
                                     std::move(start.vectors),
                                     false,
                                     op.pool,
                                     {},
                                     {}};
    Factorization factorization(filtered, capacity, width);
    // The polynomial's residual tells the operator's but for a factor, which is measured.
    double factor = 0.3;
    for (;;) {
        factorization.extend();
        result.n_products += static_cast<std::size_t>(width) * static_cast<std::size_t>(filter.degree());
        const Index size = factorization.size();
        if (size < wanted + width) continue;
        const RitzProblem ritz = factorization.ritz();
        const double residual = factorization.residuals(ritz.last_rows().rightCols(wanted)).maxCoeff();
        const double excess = factor * residual / (0.75 * options.tolerance);
        if (options.watch != nullptr) (*options.watch)(result.n_products, excess);
        const bool out_of_products = result.n_products >= options.max_products;
        if (excess <= 1.0 || out_of_products) {
            const MatrixXd vectors = factorization.largest_vectors(ritz, wanted);
            const Measured measured = measure(op, vectors, width);
            result.n_products += count;
            const double largest = measured.residuals.maxCoeff();
            if (largest <= 0.9 * options.tolerance || out_of_products) {
                for (Index j = wanted - 1; j >= 0; --j) {
                    if (measured.residuals[j] > options.tolerance) continue;
                    result.values.push_back(measured.values[j]);
                    result.vectors.insert(result.vectors.end(), vectors.col(j).begin(), vectors.col(j).end());
                }
                result.none_hidden =
                    width > 1 && krylov::all_distinct(result.values, 0.1 * options.tolerance);
                return result;
            }
            factor = 1.1 * largest / residual;
        }
        if (factorization.full()) factorization.restart(ritz, wanted + (capacity - wanted) / 3);
    }
}

}  // namespace deepspec

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

struct Habits {
    std::size_t dimension;  // of the space at most
    double margin;          // what residuals may be, in tolerances
    double distinct;        // how far apart values must be that are told from equal ones, in tolerances
    double loss;            // of orthogonality that is allowed, in tolerances
};

template <class Number>
RitzPairs search(const SymmetricOperator& op, std::size_t count, const Habits& habits,
                 const SolverOptions& options) {
    const auto wanted = static_cast<Index>(count), rows = static_cast<Index>(op.size);
    const Index capacity = std::min(rows, static_cast<Index>(habits.dimension));
    const double target = (op.nearly_right ? 0.9 : habits.margin) * options.tolerance;
    // A block must fit many times.
    const bool in_blocks = 8 * static_cast<Index>(options.block) <= capacity - wanted && capacity < rows;
    const Index width = op.nearly_right ? static_cast<Index>(op.start.size()) / rows
                        : in_blocks     ? static_cast<Index>(options.block)
                                        : 1;
    Factorization<Number> factorization(op, capacity, width, habits.loss * options.tolerance);
    RitzPairs result;
    Index next_check = op.nearly_right ? 0 : std::min(capacity, 2 * wanted + 8 * width);
    Index last_check = 0;
    double last_residual = 0.0;
    VectorXd values;  // at the last look
    for (;;) {
        factorization.extend();
        result.n_products += static_cast<std::size_t>(width);
        const Index size = factorization.size();
        if (size < wanted) continue;
        const bool out_of_products = result.n_products >= options.max_products;
        if (size < next_check && !out_of_products && !factorization.full()) continue;

        const RitzProblem ritz = factorization.ritz(wanted, values);
        values = ritz.values().tail(wanted);
        const VectorXd residuals = factorization.residuals(ritz.last_rows().rightCols(wanted));
        const double residual = residuals.maxCoeff();
        if (options.watch != nullptr) (*options.watch)(result.n_products, residual / target);
        const bool converged = residual <= target || size == rows;
        if (converged || out_of_products) {
            const MatrixXd vectors = factorization.largest_vectors(ritz, wanted);
            result.vectors.reserve(static_cast<std::size_t>(vectors.size()));
            for (Index j = wanted - 1; j >= 0; --j) {
                if (!converged && residuals[j] > target) continue;
                result.values.push_back(values[j]);
                result.vectors.insert(result.vectors.end(), vectors.col(j).begin(), vectors.col(j).end());
            }
            result.none_hidden = converged && width > 1 &&
                                 krylov::all_distinct(result.values, habits.distinct * options.tolerance);
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
            factorization.restart(factorization.ritz(kept, {}), kept);
            last_check = 0;
            next_check = kept + std::max<Index>(4, (capacity - kept) / 4);
        }
        next_check = std::min(next_check, capacity);
    }
}

// With a basis of floats where these tell residuals as small as the tolerance.
RitzPairs search(const SymmetricOperator& op, std::size_t count, Habits habits,
                 const SolverOptions& options) {
    if (options.tolerance >= 1e-5) return search<float>(op, count, habits, options);
    habits.loss = 0.0;  // the operator's own products may be no more precise than floats
    return search<double>(op, count, habits, options);
}

}  // namespace

RitzPairs largest_eigenpairs_lanczos(const SymmetricOperator& op, std::size_t count,
                                     const SolverOptions& options) {
    return search(op, count, {krylov_dimension(op.size, count), 0.75, 20.0, 0.01}, options);
}

RitzPairs largest_eigenpairs_lean(const SymmetricOperator& op, std::size_t count,
                                  const SolverOptions& options) {
    if (op.size < 4 * lean_dimension(count)) return largest_eigenpairs_lanczos(op, count, options);
    return search(op, count, {lean_dimension(count), 0.9, 0.1, 0.01}, options);
}

}  // namespace deepspec

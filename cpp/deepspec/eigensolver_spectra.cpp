#include <Spectra/SymEigsSolver.h>

#include <Eigen/Core>
#include <algorithm>

#include "deepspec/eigensolver.hpp"

namespace deepspec {
namespace {

class SpectraOperator {
  public:
    using Scalar = double;

    explicit SpectraOperator(const SymmetricOperator& op) : op_(op) {}

    Eigen::Index rows() const { return static_cast<Eigen::Index>(op_.size); }
    Eigen::Index cols() const { return rows(); }
    void perform_op(const double* x, double* y) const { op_.apply(x, y, 1, 0); }

  private:
    const SymmetricOperator& op_;
};

}  // namespace

RitzPairs largest_eigenpairs_spectra(const SymmetricOperator& op, std::size_t count,
                                     const SolverOptions& options) {
    SpectraOperator spectra_op(op);
    const auto wanted = static_cast<Eigen::Index>(count);
    // Fewer vectors mean more restarts, more mean products that the last cycle did not need.
    const Eigen::Index subspace = std::min(spectra_op.rows(), std::max(2 * wanted + 1, wanted + 20));
    Spectra::SymEigsSolver<SpectraOperator> solver(spectra_op, wanted, subspace);
    solver.init(op.start.data());
    const Eigen::Index restarts =
        std::max<Eigen::Index>(1, static_cast<Eigen::Index>(options.max_products) / (subspace - wanted));
    solver.compute(Spectra::SortRule::LargestAlge, restarts, options.tolerance / 2,
                   Spectra::SortRule::LargestAlge);
    const Eigen::VectorXd values = solver.eigenvalues();
    const Eigen::MatrixXd vectors = solver.eigenvectors();
    return {{values.begin(), values.end()},
            {vectors.data(), vectors.data() + vectors.size()},
            static_cast<std::size_t>(solver.num_operations())};
}

}  // namespace deepspec

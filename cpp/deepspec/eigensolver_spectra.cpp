#include <Spectra/SymEigsSolver.h>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>
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
    void perform_op(const double* x, double* y) const { op_.apply(x, y); }

  private:
    const SymmetricOperator& op_;
};

RitzPairs to_ritz_pairs(const Eigen::VectorXd& values, const Eigen::MatrixXd& vectors,
                        std::size_t n_products) {
    return {{values.begin(), values.end()}, {vectors.data(), vectors.data() + vectors.size()}, n_products};
}

}  // namespace

RitzPairs largest_eigenpairs_spectra(const SymmetricOperator& op, std::size_t count,
                                     const SolverOptions& options) {
    SpectraOperator spectra_op(op);
    const auto wanted = static_cast<Eigen::Index>(count);
    const Eigen::Index subspace =
        std::min(spectra_op.rows(), static_cast<Eigen::Index>(krylov_dimension(count)));
    Spectra::SymEigsSolver<SpectraOperator> solver(spectra_op, wanted, subspace);
    solver.init(op.start.data());
    const Eigen::Index restarts =
        std::max<Eigen::Index>(1, static_cast<Eigen::Index>(options.max_products) / (subspace - wanted));
    solver.compute(Spectra::SortRule::LargestAlge, restarts, options.tolerance / 2,
                   Spectra::SortRule::LargestAlge);
    return to_ritz_pairs(solver.eigenvalues(), solver.eigenvectors(),
                         static_cast<std::size_t>(solver.num_operations()));
}

RitzPairs largest_eigenpairs_dense(const SymmetricOperator& op, std::size_t count, const SolverOptions&) {
    const auto n = static_cast<Eigen::Index>(op.size);
    Eigen::MatrixXd matrix(n, n);
    Eigen::VectorXd unit = Eigen::VectorXd::Zero(n);
    for (Eigen::Index i = 0; i < n; ++i) {
        unit[i] = 1.0;
        op.apply(unit.data(), matrix.col(i).data());
        unit[i] = 0.0;
    }
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> decomposition(0.5 * (matrix + matrix.transpose()));
    const auto wanted = static_cast<Eigen::Index>(count);
    return to_ritz_pairs(decomposition.eigenvalues().tail(wanted).reverse(),
                         decomposition.eigenvectors().rightCols(wanted).rowwise().reverse(), op.size);
}

}  // namespace deepspec

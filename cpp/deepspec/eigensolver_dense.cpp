#include <Eigen/Core>
#include <Eigen/Eigenvalues>

#include "deepspec/eigensolver.hpp"

namespace deepspec {

RitzPairs largest_eigenpairs_dense(const SymmetricOperator& op, std::size_t count, const SolverOptions&) {
    const auto n = static_cast<Eigen::Index>(op.size);
    Eigen::MatrixXd matrix(n, n);
    Eigen::VectorXd unit = Eigen::VectorXd::Zero(n);
    for (Eigen::Index i = 0; i < n; ++i) {
        unit[i] = 1.0;
        op.apply(unit.data(), matrix.col(i).data(), 1, 0);
        unit[i] = 0.0;
    }
    const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> decomposition(0.5 * (matrix + matrix.transpose()));
    const auto wanted = static_cast<Eigen::Index>(count);
    const Eigen::VectorXd values = decomposition.eigenvalues().tail(wanted).reverse();
    const Eigen::MatrixXd vectors = decomposition.eigenvectors().rightCols(wanted).rowwise().reverse();
    return {{values.begin(), values.end()}, {vectors.data(), vectors.data() + vectors.size()}, op.size};
}

}  // namespace deepspec

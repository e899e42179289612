#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "deepspec/interpolation.hpp"
#include "deepspec/laplacian.hpp"
#include "deepspec/parallel.hpp"

namespace deepspec {

// A symmetric operator on vectors of `size` numbers whose wanted eigenvalues lie in [0, 2]. It is applied to
// `count` vectors that are `stride` numbers apart.
struct SymmetricOperator {
    std::size_t size = 0;
    std::function<void(const double* x, double* y, std::size_t count, std::size_t stride)> apply;
    // The same in float32, of vectors that have next to nothing along what the operator leaves out.
    std::function<void(const float* x, float* y, std::size_t count, std::size_t stride)> apply_floats;
    std::vector<double> start;  // vectors, one after the other, of which a solver takes as many as it needs
    bool nearly_right = false;  // they are orthonormal, nearly eigenvectors, and as many as are wanted
    ThreadPool& pool;           // for what a solver does with long vectors beside
};

struct SolverOptions {
    double tolerance = 1e-5;           // on |A u - theta u| for unit u
    std::size_t max_products = 10000;  // then the search ends with what has converged
    std::size_t block = 2;             // vectors that the native solver multiplies at a time
    // Called with the products so far and by how much the largest residual is above what is wanted.
    const std::function<void(std::size_t, double)>* watch = nullptr;
    // Whose cells the vertices are, row after row: wanted vectors change slowly on it, and so does what a
    // search starts from.
    std::optional<Grid> grid = {};
};

// Unit, orthogonal vectors, one after the other; values descending.
struct RitzPairs {
    std::vector<double> values;
    std::vector<double> vectors;
    std::size_t n_products = 0;
    bool none_hidden = false;  // by an eigenvalue nearly equal to one found: blocks show those
};

// A solver finds the `count` largest eigenpairs, 1 <= count < size, fewer where not all converged.
using Solver = RitzPairs (*)(const SymmetricOperator&, std::size_t count, const SolverOptions&);

// Vectors a search for `count` pairs among n may hold before it restarts: as many as rarely need to, within
// 256 MB.
constexpr std::size_t krylov_dimension(std::size_t n, std::size_t count) {
    const std::size_t affordable = (std::size_t{1} << 25) / n;
    return 2 * count + (affordable < 30 ? 30 : affordable > 160 ? 160 : affordable);
}

// Lanczos with full reorthogonalisation and thick restarts (Wu and Simon, SIAM J. Matrix Anal. Appl. 22,
// 2000).
RitzPairs largest_eigenpairs_lanczos(const SymmetricOperator&, std::size_t count, const SolverOptions&);

// The same with few vectors, which it keeps in float32 where the tolerance allows, and with less doubt of
// values that are nearly equal. For long vectors, and for operators whose product costs no more than some
// tens of operations a row: keeping many vectors orthogonal would cost more than the products.
RitzPairs largest_eigenpairs_lean(const SymmetricOperator&, std::size_t count, const SolverOptions&);

// Vectors it holds.
constexpr std::size_t lean_dimension(std::size_t count) { return 2 * count + 44; }

// Spectra's implicitly restarted Lanczos.
RitzPairs largest_eigenpairs_spectra(const SymmetricOperator&, std::size_t count, const SolverOptions&);

// All columns of the operator, then a dense decomposition: for the smallest problems and for nearly all
// pairs.
RitzPairs largest_eigenpairs_dense(const SymmetricOperator&, std::size_t count, const SolverOptions&);

// The solver of that name: "native" (Lanczos above), "spectra", or "auto", which is "native". Throws
// std::invalid_argument for another.
Solver find_solver(const std::string& name);

struct Eigenpairs {
    std::vector<double> values;     // ascending, the first 0
    std::vector<float> vectors;     // one after the other, n each: D-orthonormal, y_0 constant, signs fixed
    std::vector<double> residuals;  // |D^-1/2 ((D - W) y - mu D y)| / |D^1/2 y|; unnormalised:
                                    // |(D - W) y - mu y| / (|y| max D)
    std::size_t n_products = 0;     // applications of the Laplacian
    bool converged = false;         // all of them found, every residual within the tolerance
};

// The k smallest eigenpairs of (D - W) y = mu D y, or of (D - W) y = mu y where the Laplacian is
// unnormalised.
//
// Connected components are found first: their indicator vectors span the eigenvalue 0 and are deflated, not
// computed, and each component is searched by itself, so that equal eigenvalues of different components
// are all found. Throws std::invalid_argument unless 1 <= k <= n.
Eigenpairs smallest_eigenpairs(const Laplacian& laplacian, std::size_t k, Solver solver,
                               const SolverOptions& options, ThreadPool& pool);

// Bytes smallest_eigenpairs takes beside the affinity.
double eigenpairs_bytes(std::size_t n, std::size_t k);
double lean_eigenpairs_bytes(std::size_t n, std::size_t k);

}  // namespace deepspec

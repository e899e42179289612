#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <vector>

#include "check.hpp"
#include "deepspec/eigensolver.hpp"
#include "deepspec/laplacian.hpp"
#include "deepspec/tiled_matrix.hpp"

// Random problems for the core, each drawn from a seed and held against a simple computation of the same.
namespace fuzz {

class Random {
  public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}

    // From low to high, both included.
    std::size_t between(std::size_t low, std::size_t high) {
        return std::uniform_int_distribution<std::size_t>(low, high)(engine_);
    }
    double uniform(double low, double high) {
        return std::uniform_real_distribution<double>(low, high)(engine_);
    }
    // Any order of magnitude as often as another.
    double magnitude(double low, double high) { return std::exp(uniform(std::log(low), std::log(high))); }
    std::size_t size(std::size_t low, std::size_t high) {
        const double drawn = magnitude(static_cast<double>(low), static_cast<double>(high) + 1.0);
        return std::clamp(static_cast<std::size_t>(drawn), low, high);
    }
    double normal() { return std::normal_distribution<double>()(engine_); }
    bool chance(double probability) { return uniform(0.0, 1.0) < probability; }
    template <class T>
    T pick(std::initializer_list<T> choices) {
        return choices.begin()[between(0, choices.size() - 1)];
    }

  private:
    std::mt19937_64 engine_;
};

inline std::vector<double> random_vector(std::size_t size, Random& random) {
    std::vector<double> x(size);
    for (double& entry : x) entry = random.uniform(-1.0, 1.0);
    return x;
}

// A symmetric matrix, row-major.
struct Dense {
    explicit Dense(std::size_t size) : n(size), entries(size * size, 0.0) {}
    double& operator()(std::size_t i, std::size_t j) { return entries[i * n + j]; }
    double operator()(std::size_t i, std::size_t j) const { return entries[i * n + j]; }

    std::size_t n;
    std::vector<double> entries;
};

// One tile of it, zero beyond n.
inline void copy_tile(const Dense& matrix, std::size_t row, std::size_t column, float* tile) {
    constexpr std::size_t side = deepspec::TiledMatrix::tile_size;
    std::fill_n(tile, side * side, 0.0f);
    for (std::size_t i = row * side; i < std::min(matrix.n, (row + 1) * side); ++i)
        for (std::size_t j = column * side; j < std::min(matrix.n, (column + 1) * side); ++j)
            tile[i % side * side + j % side] = static_cast<float>(matrix(i, j));
}

inline constexpr auto all_entries = {deepspec::Entries::float32, deepspec::Entries::fixed16,
                                     deepspec::Entries::split16, deepspec::Entries::fixed8};

inline deepspec::TiledMatrix tiled(const Dense& matrix, deepspec::Entries entries) {
    deepspec::TiledMatrix result(matrix.n, entries);
    std::vector<float> numbers(deepspec::TiledMatrix::tile_size * deepspec::TiledMatrix::tile_size);
    for (std::size_t tile = 0; tile < result.n_tiles(); ++tile) {
        const auto [row, column] = result.position(tile);
        copy_tile(matrix, row, column, numbers.data());
        result.set_tile(row, column, numbers.data());
    }
    return result;
}

inline Dense to_dense(const deepspec::TiledMatrix& matrix) {
    Dense dense(matrix.size());
    for (std::size_t i = 0; i < dense.n; ++i)
        for (std::size_t j = i; j < dense.n; ++j)
            dense(i, j) = dense(j, i) = static_cast<double>(matrix.at(i, j));
    return dense;
}

// A few eigenpairs of W, held against those of the same as a matrix.
void try_solver(const deepspec::Affinity& affinity, const Dense& w, deepspec::LaplacianKind kind,
                deepspec::Solver solver, Random& random);

// One problem each.
void try_gram(Random& random);
void try_factored(Random& random);
void try_tiles(Random& random);
void try_neighbors(Random& random);
void try_color_graphs(Random& random);
void try_laplacian(Random& random);
void try_eigenpairs(Random& random);
void try_pixels(Random& random);
void try_lattice(Random& random);
void try_crf(Random& random);
void try_threads(Random& random);
void try_cancelling(Random& random);
void try_beside_each_other(Random& random);
void try_memory(Random& random);

}  // namespace fuzz

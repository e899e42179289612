#pragma once

#include <cstddef>
#include <cstdint>

#include "deepspec/memory.hpp"
#include "deepspec/parallel.hpp"

namespace deepspec {

// How the entries of a TiledMatrix are kept.
enum class Entries {
    float32,
    fixed16  // from 0 to 1 with an error of up to 2^-17
};

// A symmetric n x n matrix, kept as its upper half in square tiles, row of tiles after row of tiles; zero
// beyond n.
class TiledMatrix {
  public:
    TiledMatrix(std::size_t n, Entries entries);

    // Bytes a matrix of n rows takes.
    static double bytes(std::size_t n, Entries entries);

    std::size_t size() const { return n_; }
    std::size_t tile_rows() const { return tile_rows_; }
    std::size_t n_tiles() const { return tile_rows_ * (tile_rows_ + 1) / 2; }

    struct Position {
        std::size_t row, column;  // row <= column
    };

    // Where the tile of a number below n_tiles() is.
    Position position(std::size_t tile) const;

    // Sets tile (row, column), row <= column, from (tile_size, tile_size) floats.
    void set_tile(std::size_t row, std::size_t column, const float* entries);

    // The entry at any (i, j).
    float at(std::size_t i, std::size_t j) const;

    // y = W x, the same bits for any number of threads.
    void multiply(const double* x, double* y, ThreadPool& pool) const;

  private:
    std::size_t first_entry(std::size_t row, std::size_t column) const;

    std::size_t n_, tile_rows_;
    Buffer<float> floats_;  // one of the two is empty
    Buffer<std::uint16_t> fixed_;
};

// A dense symmetric affinity, row-major (n, n). Throws std::invalid_argument when an entry is negative or not
// finite, or when the matrix is not symmetric (to 1e-6 of its largest entry).
template <class Scalar>
TiledMatrix pack_dense(const Scalar* matrix, std::size_t n, ThreadPool& pool);

}  // namespace deepspec

#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"
#include "deepspec/parallel.hpp"

namespace deepspec {

// How the entries of a TiledMatrix are kept.
enum class Entries {
    float32,
    fixed16,  // from 0 to 1 with an error of up to 2^-17
    split16,  // the same, with the halves of the digits apart
    fixed8,   // the upper half alone: an error of up to 2^-9
    bits      // 1 where an entry is above a threshold, else 0
};

// What a product takes of the entries.
enum class Detail {
    full,
    coarse  // of split16 the upper half, which is half as much to read
};

// A symmetric n x n matrix, kept as its upper half in square tiles; zero beyond n. Tiles lie together in
// square blocks, row after row of them: what a block's product reads and adds to is short.
class TiledMatrix {
  public:
    static constexpr std::size_t tile_size = 96;

    // The threshold is that of bits.
    TiledMatrix(std::size_t n, Entries entries, float threshold = 0.0f);

    // One that is not kept: tile(row, column, out) works its tiles out whenever they are needed.
    using TileSource = std::function<void(std::size_t row, std::size_t column, float* tile)>;
    TiledMatrix(std::size_t n, TileSource source);

    // Bytes a matrix of n rows takes.
    static double bytes(std::size_t n, Entries entries);

    // Bytes a product with `count` vectors takes besides.
    static double product_bytes(std::size_t n, std::size_t count);

    std::size_t size() const { return n_; }
    std::size_t tile_rows() const { return tile_rows_; }
    std::size_t n_tiles() const { return tile_rows_ * (tile_rows_ + 1) / 2; }

    struct Position {
        std::size_t row, column;  // row <= column
    };

    // Where the tile of a number below n_tiles() is, in the order they are kept.
    Position position(std::size_t tile) const;

    // Sets tile (row, column), row <= column, from (tile_size, tile_size) floats.
    void set_tile(std::size_t row, std::size_t column, const float* entries);

    // Writes the tile_size entries of row i in a column of tiles, not left of the diagonal.
    void get_row(std::size_t i, std::size_t column, float* entries) const;

    // Whether a product can be coarse.
    bool has_coarse() const { return entries_ == Entries::split16; }

    // The entry at any (i, j).
    float at(std::size_t i, std::size_t j) const;

    // Y = W X for `count` vectors, `stride` numbers apart; the same bits for any number of threads.
    void multiply(const double* x, double* y, ThreadPool& pool, std::size_t count, std::size_t stride,
                  Detail detail = Detail::full) const;

    void multiply(const double* x, double* y, ThreadPool& pool) const { multiply(x, y, pool, 1, n_); }

    class Product;

  private:
    // In tiles: large ones have fewer sums to add up, small ones are enough of them for several threads.
    static constexpr std::size_t block_side(std::size_t n) { return n <= 2048 ? 4 : 8; }

    // The tiles of block_side rows and columns, fewer at the edges; on the diagonal those above it alone.
    struct Block {
        std::size_t row, column;  // of its first tile
        std::size_t n_rows, n_columns;
        std::size_t first_tile;
        bool on_diagonal() const { return row == column; }
        std::size_t n_tiles() const { return on_diagonal() ? n_rows * (n_rows + 1) / 2 : n_rows * n_columns; }
        // Where tile (r, c) of the block is among its tiles.
        std::size_t tile(std::size_t r, std::size_t c) const {
            return on_diagonal() ? r * n_rows - r * (r + 1) / 2 + c : r * n_columns + c;
        }
    };

    float kept_entry(std::size_t index) const;
    std::size_t block_number(std::size_t block_row, std::size_t block_column) const;
    std::size_t number(std::size_t row, std::size_t column) const;

    std::size_t n_, tile_rows_, block_side_, block_rows_;
    std::vector<Block> blocks_;
    Entries entries_ = Entries::float32;
    Buffer<float> floats_;
    Buffer<std::uint16_t> fixed_;
    Buffer<std::uint16_t> bits_;
    float threshold_ = 0.0f;     // of bits
    Buffer<std::uint8_t> high_;  // of split16 and fixed8
    Buffer<std::int8_t> low_;    // of split16
    TileSource source_;          // where nothing is kept
};

// Products W F x of a few vectors in steps: run(task) for every task, in any order and on any thread, then
// add_rows. The blocks' sums are kept apart and added in order, so that the threads leave no trace in the
// result.
class TiledMatrix::Product {
  public:
    // `count` vectors, of floats or doubles, `stride` numbers apart; F is a diagonal matrix, or null for 1.
    // Refers to the matrix, which must outlive it.
    template <class Number>
    Product(const TiledMatrix& matrix, const double* f, const Number* x, std::size_t count,
            std::size_t stride, Detail detail = Detail::full);

    std::size_t n_tasks() const { return matrix_.blocks_.size(); }
    void run(std::size_t task);

    // Adds the rows from begin to end of a vector's product to y, which begins there; after all tasks.
    void add_rows(std::size_t vector, std::size_t begin, std::size_t end, double* y) const;

  private:
    // Of one vector and task: the sums of the block's rows, then of its columns.
    std::size_t side() const { return matrix_.block_side_ * tile_size; }
    float* sums(std::size_t vector, std::size_t task);
    const float* sums(std::size_t vector, std::size_t task) const;

    bool takes_high() const {
        return matrix_.entries_ == Entries::fixed8 || (matrix_.has_coarse() && detail_ == Detail::coarse);
    }
    void multiply_tile(std::size_t row, std::size_t column, const kernels::TileProduct* products,
                       float* computed) const;

    const TiledMatrix& matrix_;
    std::size_t count_;
    Detail detail_;
    Buffer<float> x_, sums_;
};

// A dense symmetric affinity, row-major (n, n). Throws std::invalid_argument when an entry is negative or not
// finite, or when the matrix is not symmetric (to 1e-6 of its largest entry).
template <class Scalar>
TiledMatrix pack_dense(const Scalar* matrix, std::size_t n, ThreadPool& pool);

}  // namespace deepspec

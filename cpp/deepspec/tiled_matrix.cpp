#include "deepspec/tiled_matrix.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "deepspec/kernels/kernels.hpp"

namespace deepspec {

using kernels::tile_entries;
constexpr std::size_t tile_size = TiledMatrix::tile_size;
static_assert(tile_size == kernels::tile_size);

namespace {

constexpr std::size_t bits_of_word = 16;

std::string to_text(double number) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", number);
    return text;
}

}  // namespace

TiledMatrix::TiledMatrix(std::size_t n, Entries entries, float threshold) : TiledMatrix(n, TileSource()) {
    entries_ = entries;
    threshold_ = threshold;
    const std::size_t size = n_tiles() * tile_entries;
    if (entries == Entries::float32) floats_ = Buffer<float>(size);
    if (entries == Entries::fixed16) fixed_ = Buffer<std::uint16_t>(size);
    if (entries == Entries::split16 || entries == Entries::fixed8) high_ = Buffer<std::uint8_t>(size);
    if (entries == Entries::bits) bits_ = Buffer<std::uint16_t>(size / bits_of_word);
    if (entries == Entries::split16) low_ = Buffer<std::int8_t>(size);
}

TiledMatrix::TiledMatrix(std::size_t n, TileSource source)
    : n_(n),
      tile_rows_((n + tile_size - 1) / tile_size),
      block_side_(block_side(n)),
      block_rows_((tile_rows_ + block_side_ - 1) / block_side_),
      source_(std::move(source)) {
    std::size_t first_tile = 0;
    for (std::size_t row = 0; row < tile_rows_; row += block_side_)
        for (std::size_t column = row; column < tile_rows_; column += block_side_) {
            blocks_.push_back({row, column, std::min(block_side_, tile_rows_ - row),
                               std::min(block_side_, tile_rows_ - column), first_tile});
            first_tile += blocks_.back().n_tiles();
        }
}

double TiledMatrix::bytes(std::size_t n, Entries entries) {
    const double rows = std::ceil(static_cast<double>(n) / tile_size);
    const double entry = entries == Entries::float32  ? 4.0
                         : entries == Entries::fixed8 ? 1.0
                         : entries == Entries::bits   ? 0.125
                                                      : 2.0;
    return rows * (rows + 1) / 2 * tile_entries * entry;
}

double TiledMatrix::product_bytes(std::size_t n, std::size_t count) {
    const auto side = static_cast<double>(block_side(n) * tile_size);
    const double rows = std::ceil(static_cast<double>(n) / side);
    const double sums = sizeof(float) * 2.0 * side * static_cast<double>(count);
    return rows * (rows + 1) / 2 * (sizeof(Block) + sums);
}

std::size_t TiledMatrix::block_number(std::size_t block_row, std::size_t block_column) const {
    const std::size_t first_of_row = block_row * block_rows_ - block_row * (block_row - 1) / 2;
    return first_of_row + block_column - block_row;
}

std::size_t TiledMatrix::number(std::size_t row, std::size_t column) const {
    const Block& block = blocks_[block_number(row / block_side_, column / block_side_)];
    return block.first_tile + block.tile(row - block.row, column - block.column);
}

TiledMatrix::Position TiledMatrix::position(std::size_t tile) const {
    const auto next =
        std::upper_bound(blocks_.begin(), blocks_.end(), tile,
                         [](std::size_t t, const Block& block) { return t < block.first_tile; });
    const Block& block = *(next - 1);
    std::size_t row = 0;
    while (tile > block.first_tile + block.tile(row, block.n_columns - 1)) ++row;
    return {block.row + row, block.column + (tile - block.first_tile - block.tile(row, 0))};
}

void TiledMatrix::set_tile(std::size_t row, std::size_t column, const float* entries) {
    const std::size_t first = number(row, column) * tile_entries;
    const kernels::Kernels& kernel = kernels::selected();
    if (entries_ == Entries::float32)
        std::copy(entries, entries + tile_entries, floats_.data() + first);
    else if (entries_ == Entries::fixed16)
        kernel.to_fixed(entries, fixed_.data() + first);
    else if (entries_ == Entries::bits)
        kernel.to_bits(entries, threshold_, bits_.data() + first / bits_of_word);
    else
        kernel.to_halves(entries, high_.data() + first, has_coarse() ? low_.data() + first : nullptr);
}

void TiledMatrix::get_row(std::size_t i, std::size_t column, float* entries) const {
    const std::size_t row = i / tile_size, begin = i % tile_size * tile_size;
    if (source_) {
        std::array<float, tile_entries> tile;
        source_(row, column, tile.data());
        std::copy_n(tile.data() + begin, tile_size, entries);
    } else {
        const std::size_t first = number(row, column) * tile_entries + begin;
        for (std::size_t j = 0; j < tile_size; ++j) entries[j] = kept_entry(first + j);
    }
}

float TiledMatrix::at(std::size_t i, std::size_t j) const {
    if (i > j) std::swap(i, j);
    if (!source_)
        return kept_entry(number(i / tile_size, j / tile_size) * tile_entries + i % tile_size * tile_size +
                          j % tile_size);
    std::array<float, tile_size> entries;
    get_row(i, j / tile_size, entries.data());
    return entries[j % tile_size];
}

float TiledMatrix::kept_entry(std::size_t index) const {
    if (entries_ == Entries::float32) return floats_.data()[index];
    if (entries_ == Entries::fixed16) return static_cast<float>(fixed_.data()[index]) / kernels::fixed_one;
    if (entries_ == Entries::bits)
        return static_cast<float>(bits_.data()[index / bits_of_word] >> index % bits_of_word & 1);
    const int low = has_coarse() ? low_.data()[index] : 0;
    return static_cast<float>(256 * high_.data()[index] + low) / kernels::fixed_one;
}

void TiledMatrix::multiply(const double* x, double* y, ThreadPool& pool, std::size_t count,
                           std::size_t stride, Detail detail) const {
    Product product(*this, nullptr, x, count, stride, detail);
    pool.run(product.n_tasks(), [&](std::size_t task) { product.run(task); });
    pool.for_blocks(n_, block_side_ * tile_size, [&](std::size_t begin, std::size_t end) {
        for (std::size_t vector = 0; vector < count; ++vector) {
            double* const rows = y + vector * stride;
            std::fill(rows + begin, rows + end, 0.0);
            product.add_rows(vector, begin, end, rows + begin);
        }
    });
}

template <class Number>
TiledMatrix::Product::Product(const TiledMatrix& matrix, const double* f, const Number* x, std::size_t count,
                              std::size_t stride, Detail detail)
    : matrix_(matrix),
      count_(count),
      detail_(detail),
      x_(count * matrix.tile_rows_ * tile_size),
      sums_(count * n_tasks() * 2 * side()) {
    const std::size_t n = matrix.n_, padded = matrix.tile_rows_ * tile_size;
    const bool whole = matrix.entries_ == Entries::float32 || matrix.entries_ == Entries::bits;
    const float one = takes_high() ? kernels::high_one : whole ? 1.0f : kernels::fixed_one;
    const double unit = 1.0 / static_cast<double>(one);
    for (std::size_t vector = 0; vector < count; ++vector) {
        const Number* const in = x + vector * stride;
        float* const out = x_.data() + vector * padded;
        for (std::size_t i = 0; i < n; ++i)
            out[i] = static_cast<float>(unit * (f != nullptr ? f[i] : 1.0) * static_cast<double>(in[i]));
        std::fill(out + n, out + padded, 0.0f);
    }
}

template TiledMatrix::Product::Product(const TiledMatrix&, const double*, const float*, std::size_t,
                                       std::size_t, Detail);
template TiledMatrix::Product::Product(const TiledMatrix&, const double*, const double*, std::size_t,
                                       std::size_t, Detail);

float* TiledMatrix::Product::sums(std::size_t vector, std::size_t task) {
    return sums_.data() + (vector * n_tasks() + task) * 2 * side();
}

const float* TiledMatrix::Product::sums(std::size_t vector, std::size_t task) const {
    return sums_.data() + (vector * n_tasks() + task) * 2 * side();
}

void TiledMatrix::Product::run(std::size_t task) {
    const kernels::Kernels& kernel = kernels::selected();
    const Block& block = matrix_.blocks_[task];
    for (std::size_t vector = 0; vector < count_; ++vector) std::fill_n(sums(vector, task), 2 * side(), 0.0f);
    alignas(64) std::array<float, tile_entries> computed;
    std::array<float, tile_size> twice{};  // a tile on the diagonal holds both halves
    const std::size_t padded = matrix_.tile_rows_ * tile_size, lanes_size = tile_size * kernels::most_lanes;
    Buffer<float> row_lanes(count_ * lanes_size);
    std::vector<kernels::TileProduct> products(count_);
    for (std::size_t r = 0; r < block.n_rows; ++r) {
        std::fill_n(row_lanes.data(), row_lanes.size(), 0.0f);
        for (std::size_t c = block.on_diagonal() ? r : 0; c < block.n_columns; ++c) {
            for (std::size_t vector = 0; vector < count_; ++vector) {
                const float* x = x_.data() + vector * padded;
                float* const columns = sums(vector, task) + side() + c * tile_size;
                products[vector] = {x + (block.row + r) * tile_size, x + (block.column + c) * tile_size,
                                    row_lanes.data() + vector * lanes_size,
                                    block.on_diagonal() && r == c ? twice.data() : columns};
            }
            multiply_tile(block.row + r, block.column + c, products.data(), computed.data());
        }
        for (std::size_t vector = 0; vector < count_; ++vector)
            kernel.add_lanes(row_lanes.data() + vector * lanes_size, sums(vector, task) + r * tile_size);
    }
}

void TiledMatrix::Product::multiply_tile(std::size_t row, std::size_t column,
                                         const kernels::TileProduct* products, float* computed) const {
    const kernels::Kernels& kernel = kernels::selected();
    if (matrix_.source_) {
        matrix_.source_(row, column, computed);
        return kernel.product(computed, products, count_);
    }
    const std::size_t first = matrix_.number(row, column) * tile_entries;
    if (matrix_.entries_ == Entries::float32)
        kernel.product(matrix_.floats_.data() + first, products, count_);
    else if (matrix_.entries_ == Entries::fixed16)
        kernel.product_fixed(matrix_.fixed_.data() + first, products, count_);
    else if (matrix_.entries_ == Entries::bits)
        kernel.product_bits(matrix_.bits_.data() + first / bits_of_word, products, count_);
    else if (takes_high())
        kernel.product_high(matrix_.high_.data() + first, products, count_);
    else
        kernel.product_halves(matrix_.high_.data() + first, matrix_.low_.data() + first, products, count_);
}

void TiledMatrix::Product::add_rows(std::size_t vector, std::size_t begin, std::size_t end, double* y) const {
    for (std::size_t next; begin < end; y += next - begin, begin = next) {
        const std::size_t block_row = begin / side(), first = begin % side();
        next = std::min(end, (block_row + 1) * side());
        const auto add = [&](const float* of_block) {
            for (std::size_t i = 0; i < next - begin; ++i) y[i] += static_cast<double>(of_block[first + i]);
        };
        for (std::size_t other = 0; other <= block_row; ++other)
            add(sums(vector, matrix_.block_number(other, block_row)) + side());
        for (std::size_t other = block_row; other < matrix_.block_rows_; ++other)
            add(sums(vector, matrix_.block_number(block_row, other)));
    }
}

template <class Scalar>
TiledMatrix pack_dense(const Scalar* matrix, std::size_t n, ThreadPool& pool) {
    TiledMatrix packed(n, Entries::float32);
    std::vector<double> largest(packed.tile_rows(), 0.0), asymmetry(packed.tile_rows(), 0.0);
    pool.run(packed.tile_rows(), [&](std::size_t row) {
        for (std::size_t column = row; column < packed.tile_rows(); ++column) {
            std::array<float, tile_entries> tile;
            for (std::size_t r = 0; r < tile_size; ++r)
                for (std::size_t c = 0; c < tile_size; ++c) {
                    const std::size_t i = row * tile_size + r, j = column * tile_size + c;
                    if (i >= n || j >= n) {
                        tile[r * tile_size + c] = 0.0f;
                        continue;
                    }
                    const double upper = static_cast<double>(matrix[i * n + j]);
                    const double lower = static_cast<double>(matrix[j * n + i]);
                    for (const double entry : {upper, lower})
                        if (!(entry >= 0.0) || !std::isfinite(static_cast<float>(entry)))
                            throw std::invalid_argument("W must be finite and not negative, found " +
                                                        to_text(entry) + " at or across (" +
                                                        std::to_string(i) + ", " + std::to_string(j) + ")");
                    largest[row] = std::max({largest[row], upper, lower});
                    asymmetry[row] = std::max(asymmetry[row], std::abs(upper - lower));
                    tile[r * tile_size + c] = static_cast<float>(upper);
                }
            packed.set_tile(row, column, tile.data());
        }
    });
    const double worst = *std::max_element(asymmetry.begin(), asymmetry.end());
    if (worst > 1e-6 * *std::max_element(largest.begin(), largest.end()))
        throw std::invalid_argument("W must be symmetric, but W - W.T has an entry of " + to_text(worst));
    return packed;
}

template TiledMatrix pack_dense(const float*, std::size_t, ThreadPool&);
template TiledMatrix pack_dense(const double*, std::size_t, ThreadPool&);

}  // namespace deepspec

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
using kernels::tile_size;

namespace {

std::string to_text(double number) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", number);
    return text;
}

}  // namespace

TiledMatrix::TiledMatrix(std::size_t n, Entries entries)
    : n_(n), tile_rows_((n + tile_size - 1) / tile_size) {
    if (entries == Entries::float32)
        floats_ = Buffer<float>(n_tiles() * tile_entries);
    else
        fixed_ = Buffer<std::uint16_t>(n_tiles() * tile_entries);
}

double TiledMatrix::bytes(std::size_t n, Entries entries) {
    const double rows = std::ceil(static_cast<double>(n) / tile_size);
    const std::size_t entry = entries == Entries::float32 ? sizeof(float) : sizeof(std::uint16_t);
    return rows * (rows + 1) / 2 * static_cast<double>(tile_entries * entry);
}

std::size_t TiledMatrix::first_entry(std::size_t row, std::size_t column) const {
    const std::size_t first_of_row = row * tile_rows_ - row * (row - 1) / 2;
    return (first_of_row + column - row) * tile_entries;
}

TiledMatrix::Position TiledMatrix::position(std::size_t tile) const {
    std::size_t row = 0;
    while (tile >= tile_rows_ - row) tile -= tile_rows_ - row++;
    return {row, row + tile};
}

void TiledMatrix::set_tile(std::size_t row, std::size_t column, const float* entries) {
    const std::size_t first = first_entry(row, column);
    if (floats_.size() > 0)
        std::copy(entries, entries + tile_entries, floats_.data() + first);
    else
        kernels::selected().to_fixed(entries, fixed_.data() + first);
}

float TiledMatrix::at(std::size_t i, std::size_t j) const {
    if (i > j) std::swap(i, j);
    const std::size_t index =
        first_entry(i / tile_size, j / tile_size) + i % tile_size * tile_size + j % tile_size;
    return floats_.size() > 0 ? floats_.data()[index]
                              : static_cast<float>(fixed_.data()[index]) / kernels::fixed_one;
}

void TiledMatrix::multiply(const double* x, double* y, ThreadPool& pool) const {
    const kernels::Kernels& kernel = kernels::selected();
    const std::size_t padded = tile_rows_ * tile_size;
    const bool fixed = fixed_.size() > 0;
    const double unit = fixed ? 1.0 / static_cast<double>(kernels::fixed_one) : 1.0;
    std::vector<float> x_float(padded, 0.0f);
    std::transform(x, x + n_, x_float.begin(),
                   [&](double value) { return static_cast<float>(unit * value); });

    // The tiles fall into groups that depend on n alone; each group sums into a vector of its own and the
    // groups are added in order, so that the threads leave no trace in the result.
    const std::size_t n_groups = std::clamp<std::size_t>(n_tiles() / 64, 1, 64);
    const auto first_tile = [&](std::size_t group) { return group * n_tiles() / n_groups; };
    // A group's vector begins with its first row of tiles: what is above belongs to the groups before.
    Buffer<double> sums(n_groups * padded);
    std::vector<std::size_t> first_rows;
    for (std::size_t group = 0; group < n_groups; ++group)
        first_rows.push_back(position(first_tile(group)).row * tile_size);
    pool.run(n_groups, [&](std::size_t group) {
        double* sum = sums.data() + group * padded;
        std::fill(sum + first_rows[group], sum + padded, 0.0);
        const std::size_t begin = first_tile(group);
        const std::size_t end = first_tile(group + 1);
        auto [row, column] = position(begin);
        for (std::size_t index = begin; index < end; ++index) {
            alignas(64) std::array<float, tile_size> y_rows{}, y_columns{};
            const float* x_rows = x_float.data() + row * tile_size;
            const float* x_columns = x_float.data() + column * tile_size;
            if (fixed)
                kernel.product_fixed(fixed_.data() + index * tile_entries, x_rows, x_columns, y_rows.data(),
                                     y_columns.data());
            else
                kernel.product(floats_.data() + index * tile_entries, x_rows, x_columns, y_rows.data(),
                               y_columns.data());
            for (std::size_t i = 0; i < tile_size; ++i)
                sum[row * tile_size + i] += static_cast<double>(y_rows[i]);
            if (row != column)
                for (std::size_t i = 0; i < tile_size; ++i)
                    sum[column * tile_size + i] += static_cast<double>(y_columns[i]);
            if (++column == tile_rows_) column = ++row;
        }
    });
    pool.for_blocks(n_, 4096, [&](std::size_t begin, std::size_t end) {
        std::copy(sums.data() + begin, sums.data() + end, y + begin);
        for (std::size_t group = 1; group < n_groups; ++group) {
            const double* sum = sums.data() + group * padded;
            for (std::size_t i = std::max(begin, first_rows[group]); i < end; ++i) y[i] += sum[i];
        }
    });
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

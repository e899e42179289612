#include "deepspec/feature_gram.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

using kernels::tile_entries;
using kernels::tile_size;

constexpr std::size_t first_tile_of_row(std::size_t row, std::size_t tile_rows) {
    return row * tile_rows - row * (row - 1) / 2;
}

std::string to_text(double number) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", number);
    return text;
}

struct TilePosition {
    std::size_t row, column;
};

TilePosition tile_position(std::size_t index, std::size_t tile_rows) {
    std::size_t row = 0;
    while (index >= tile_rows - row) index -= tile_rows - row++;
    return {row, row + index};
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
    return (first_tile_of_row(row, tile_rows_) + column - row) * tile_entries;
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
    std::vector<double> sums(n_groups * padded, 0.0);
    pool.run(n_groups, [&](std::size_t group) {
        double* sum = sums.data() + group * padded;
        const std::size_t begin = group * n_tiles() / n_groups;
        const std::size_t end = (group + 1) * n_tiles() / n_groups;
        auto [row, column] = tile_position(begin, tile_rows_);
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
        for (std::size_t i = begin; i < end; ++i) {
            double sum = 0.0;
            for (std::size_t group = 0; group < n_groups; ++group) sum += sums[group * padded + i];
            y[i] = sum;
        }
    });
}

namespace {

// 1 / length of a feature, without overflow or underflow: NaN where an entry is not finite, 0 where all are
// (nearly) zero.
template <class Scalar>
double inverse_length(const Scalar* feature, std::size_t channels) {
    constexpr double nearly_zero = 1e-307;  // below, 1 / length is not a number a double holds
    double largest = 0.0, sum = 0.0;
    for (std::size_t c = 0; c < channels; ++c) {
        const double value = std::abs(static_cast<double>(feature[c]));
        sum += value * 0.0;  // NaN once a value is not finite
        largest = std::max(largest, value);
    }
    if (std::isnan(sum)) return sum;
    if (largest < nearly_zero) return 0.0;
    for (std::size_t c = 0; c < channels; ++c) {
        const double value = static_cast<double>(feature[c]) / largest;
        sum += value * value;
    }
    return 1.0 / largest / std::sqrt(sum);
}

// Two cells and their weights that one cell of the finer grid interpolates between.
struct Interpolation {
    std::size_t low, high;
    float low_weight, high_weight;
};

std::vector<Interpolation> interpolate(std::size_t coarse, std::size_t fine) {
    std::vector<Interpolation> result(fine);
    for (std::size_t i = 0; i < fine; ++i) {
        const double scale = static_cast<double>(coarse) / static_cast<double>(fine);
        const double position = std::max(0.0, (static_cast<double>(i) + 0.5) * scale - 0.5);
        const std::size_t low = std::min(static_cast<std::size_t>(position), coarse - 1);
        const std::size_t high = std::min(low + 1, coarse - 1);
        const double weight = position - static_cast<double>(low);
        result[i] = {low, high, static_cast<float>(1.0 - weight), static_cast<float>(weight)};
    }
    return result;
}

// The features of the fine grid as the kernels want them: tile after tile, (channels, tile_size) each.
struct PackedFeatures {
    Buffer<float> storage;
    std::size_t channels;
    double largest_square;  // of a feature's length, and so the largest entry of F F^T (Cauchy-Schwarz)

    const float* tile(std::size_t index) const { return storage.data() + index * channels * tile_size; }
};

// What each cell's feature is multiplied by: 1 / its length, or for all of them 1 / the longest's.
template <class Scalar>
std::vector<double> row_factors(FeatureView<Scalar> features, bool normalize, ThreadPool& pool) {
    const std::size_t n = features.height * features.width;
    std::vector<double> factors(n);
    pool.for_blocks(n, 256, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i)
            factors[i] = inverse_length(features.data + i * features.channels, features.channels);
    });
    for (std::size_t i = 0; i < n; ++i) {
        if (!std::isnan(factors[i])) continue;
        throw std::invalid_argument("features must be finite, found NaN or infinity in the cell at row " +
                                    std::to_string(i / features.width) + ", column " +
                                    std::to_string(i % features.width));
    }
    if (!normalize) {
        double smallest = std::numeric_limits<double>::infinity();
        for (const double factor : factors)
            if (factor > 0.0) smallest = std::min(smallest, factor);
        std::fill(factors.begin(), factors.end(), std::isfinite(smallest) ? smallest : 0.0);
    }
    return factors;
}

template <class Scalar>
PackedFeatures pack_features(FeatureView<Scalar> features, const GramOptions& options, ThreadPool& pool) {
    const std::size_t n = options.height * options.width;
    const std::size_t channels = features.channels;
    const std::size_t n_tiles = (n + tile_size - 1) / tile_size;
    const std::vector<double> factors = row_factors(features, options.normalize, pool);
    const std::vector<Interpolation> rows = interpolate(features.height, options.height);
    const std::vector<Interpolation> columns = interpolate(features.width, options.width);
    const bool own_grid = options.height == features.height && options.width == features.width;
    const auto cell = [&](std::size_t row, std::size_t column) { return row * features.width + column; };

    PackedFeatures packed{Buffer<float>(n_tiles * tile_size * channels), channels, 0.0};
    std::vector<double> largest(n_tiles, 0.0);
    pool.run(n_tiles, [&](std::size_t index) {
        constexpr std::size_t strip = 16;  // cells transposed together: one cache line of output a channel
        std::vector<float> cells(strip * channels);
        for (std::size_t first = 0; first < tile_size; first += strip) {
            for (std::size_t s = 0; s < strip; ++s) {
                float* out = cells.data() + s * channels;
                const std::size_t i = index * tile_size + first + s;
                if (i >= n) {
                    std::fill(out, out + channels, 0.0f);
                    continue;
                }
                if (own_grid) {
                    const Scalar* in = features.data + i * channels;
                    for (std::size_t c = 0; c < channels; ++c)
                        out[c] = static_cast<float>(static_cast<double>(in[c]) * factors[i]);
                } else {
                    const Interpolation& y = rows[i / options.width];
                    const Interpolation& x = columns[i % options.width];
                    const std::array<std::size_t, 4> from{cell(y.low, x.low), cell(y.low, x.high),
                                                          cell(y.high, x.low), cell(y.high, x.high)};
                    const std::array<float, 4> weight{
                        y.low_weight * x.low_weight, y.low_weight * x.high_weight,
                        y.high_weight * x.low_weight, y.high_weight * x.high_weight};
                    std::fill(out, out + channels, 0.0f);
                    for (std::size_t corner = 0; corner < 4; ++corner) {
                        const Scalar* in = features.data + from[corner] * channels;
                        const double factor = factors[from[corner]] * static_cast<double>(weight[corner]);
                        for (std::size_t c = 0; c < channels; ++c)
                            out[c] += static_cast<float>(static_cast<double>(in[c]) * factor);
                    }
                }
                double square = 0.0;
                for (std::size_t c = 0; c < channels; ++c)
                    square += static_cast<double>(out[c]) * static_cast<double>(out[c]);
                largest[index] = std::max(largest[index], square);
            }
            float* out = packed.storage.data() + index * channels * tile_size + first;
            for (std::size_t c = 0; c < channels; ++c)
                for (std::size_t s = 0; s < strip; ++s) out[c * tile_size + s] = cells[s * channels + c];
        }
    });
    packed.largest_square = *std::max_element(largest.begin(), largest.end());
    return packed;
}

}  // namespace

template <class Scalar>
TiledMatrix feature_gram(FeatureView<Scalar> features, const GramOptions& options, ThreadPool& pool) {
    const kernels::Kernels& kernel = kernels::selected();
    const std::size_t n = options.height * options.width;
    TiledMatrix gram(n, options.entries);
    const PackedFeatures packed = pack_features(features, options, pool);
    const auto scale = static_cast<float>(packed.largest_square > 0.0 ? 1.0 / packed.largest_square : 1.0);
    pool.run(gram.n_tiles(), [&](std::size_t index) {
        const auto [row, column] = tile_position(index, gram.tile_rows());
        alignas(64) std::array<float, tile_entries> tile;
        kernel.gram(packed.tile(row), packed.tile(column), packed.channels, scale, tile.data());
        gram.set_tile(row, column, tile.data());
    });
    return gram;
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

template TiledMatrix feature_gram(FeatureView<float>, const GramOptions&, ThreadPool&);
template TiledMatrix feature_gram(FeatureView<double>, const GramOptions&, ThreadPool&);
template TiledMatrix pack_dense(const float*, std::size_t, ThreadPool&);
template TiledMatrix pack_dense(const double*, std::size_t, ThreadPool&);

}  // namespace deepspec

#include "deepspec/feature_gram.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

using kernels::tile_entries;
using kernels::tile_size;

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
        const auto [row, column] = gram.position(index);
        alignas(64) std::array<float, tile_entries> tile;
        kernel.gram(packed.tile(row), packed.tile(column), packed.channels, scale, tile.data());
        gram.set_tile(row, column, tile.data());
    });
    return gram;
}

template TiledMatrix feature_gram(FeatureView<float>, const GramOptions&, ThreadPool&);
template TiledMatrix feature_gram(FeatureView<double>, const GramOptions&, ThreadPool&);

}  // namespace deepspec

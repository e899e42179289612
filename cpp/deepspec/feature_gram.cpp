#include "deepspec/feature_gram.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "deepspec/interpolation.hpp"
#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

using kernels::tile_entries;
using kernels::tile_size;

template <class Scalar>
double sum_of_squares(const Scalar* values, std::size_t count) {
    // Several sums: one alone would wait for its own additions.
    std::array<double, 8> sums{};
    std::size_t c = 0;
    for (; c + sums.size() <= count; c += sums.size())
        for (std::size_t lane = 0; lane < sums.size(); ++lane) {
            const auto value = static_cast<double>(values[c + lane]);
            sums[lane] += value * value;
        }
    for (; c < count; ++c) sums[0] += static_cast<double>(values[c]) * static_cast<double>(values[c]);
    return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

// 1 / length of a feature, without overflow or underflow: NaN where an entry is not finite, 0 where all are
// (nearly) zero.
template <class Scalar>
double inverse_length(const Scalar* feature, std::size_t channels) {
    constexpr double small = 1e-200, large = 1e200;  // squares between them have lost nothing
    const double plain = sum_of_squares(feature, channels);
    if (plain > small && plain < large) return 1.0 / std::sqrt(plain);
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

// Features as the kernels want them: tile after tile, (channels, tile_size) each.
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

// The features of `grid`, scaled, interpolated where it is not their own.
template <class Scalar>
PackedFeatures pack_features(FeatureView<Scalar> features, Grid grid, bool normalize, ThreadPool& pool) {
    const Grid own{features.height, features.width};
    const std::size_t n = grid.size(), channels = features.channels;
    const std::size_t n_tiles = (n + tile_size - 1) / tile_size;
    const std::vector<double> factors = row_factors(features, normalize, pool);
    const std::vector<Corners> corners = own == grid ? std::vector<Corners>() : interpolate(own, grid);
    PackedFeatures packed{Buffer<float>(n_tiles * tile_size * channels), channels, 0.0};
    std::vector<double> largest(n_tiles, 0.0);
    pool.run(n_tiles, [&](std::size_t index) {
        constexpr std::size_t strip = 16;  // cells transposed together: one cache line of output a channel
        std::vector<float> cells(strip * channels);
        const auto add = [&](std::size_t from, double weight, float* out) {
            const Scalar* in = features.data + from * channels;
            const double factor = factors[from] * weight;
            for (std::size_t c = 0; c < channels; ++c)
                out[c] += static_cast<float>(static_cast<double>(in[c]) * factor);
        };
        for (std::size_t first = 0; first < tile_size; first += strip) {
            std::fill(cells.begin(), cells.end(), 0.0f);
            for (std::size_t s = 0; s < strip; ++s) {
                float* out = cells.data() + s * channels;
                const std::size_t i = index * tile_size + first + s;
                if (i >= n) break;
                if (corners.empty())
                    add(i, 1.0, out);
                else
                    for (std::size_t m = 0; m < 4; ++m)
                        add(corners[i].cells[m], static_cast<double>(corners[i].weights[m]), out);
                largest[index] = std::max(largest[index], sum_of_squares(out, channels));
            }
            float* out = packed.storage.data() + index * channels * tile_size + first;
            for (std::size_t c = 0; c < channels; ++c)
                for (std::size_t s = 0; s < strip; ++s) out[c * tile_size + s] = cells[s * channels + c];
        }
    });
    packed.largest_square = *std::max_element(largest.begin(), largest.end());
    return packed;
}

float inverse(double largest) { return static_cast<float>(largest > 0.0 ? 1.0 / largest : 1.0); }

TiledMatrix direct_gram(const PackedFeatures& packed, std::size_t n, Entries entries, ThreadPool& pool) {
    TiledMatrix gram(n, entries);
    const float scale = inverse(packed.largest_square);
    pool.run(gram.n_tiles(), [&](std::size_t index) {
        const auto [row, column] = gram.position(index);
        alignas(64) std::array<float, tile_entries> tile;
        kernels::selected().gram(packed.tile(row), packed.tile(column), packed.channels, scale, 0.0f,
                                 tile.data());
        gram.set_tile(row, column, tile.data());
    });
    return gram;
}

// F F^T of the features' own grid, both halves, without relu.
class CoarseGram {
  public:
    CoarseGram(const PackedFeatures& packed, std::size_t n, ThreadPool& pool)
        : stride_((n + tile_size - 1) / tile_size * tile_size), products_(stride_ * stride_) {
        const std::size_t n_tiles = stride_ / tile_size;
        pool.run(n_tiles * n_tiles, [&](std::size_t index) {
            const std::size_t row = index / n_tiles, column = index % n_tiles;
            if (row > column) return;
            alignas(64) std::array<float, tile_entries> tile;
            kernels::selected().gram(packed.tile(row), packed.tile(column), packed.channels, 1.0f,
                                     -std::numeric_limits<float>::infinity(), tile.data());
            float* upper = products_.data() + row * tile_size * stride_ + column * tile_size;
            float* lower = products_.data() + column * tile_size * stride_ + row * tile_size;
            for (std::size_t i = 0; i < tile_size; ++i)
                std::copy_n(tile.data() + i * tile_size, tile_size, upper + i * stride_);
            if (row == column) return;
            for (std::size_t j = 0; j < tile_size; ++j)
                for (std::size_t i = 0; i < tile_size; ++i) lower[j * stride_ + i] = tile[i * tile_size + j];
        });
    }

    const float* row(std::size_t i) const { return products_.data() + i * stride_; }

  private:
    std::size_t stride_;
    Buffer<float> products_;
};

// The Gram matrix of interpolated features, relu(U F F^T U^T) scaled, from that of their own grid: far
// fewer operations than there are channels.
TiledMatrix upsampled_gram(const PackedFeatures& packed, Grid own, Grid grid, Entries entries,
                           ThreadPool& pool) {
    const CoarseGram coarse(packed, own.size(), pool);
    const std::vector<Corners> corners = interpolate(own, grid);
    double largest = 0.0;
    for (const Corners& at : corners) {
        double square = 0.0;
        for (std::size_t l = 0; l < 4; ++l)
            for (std::size_t m = 0; m < 4; ++m)
                square += static_cast<double>(at.weights[l] * at.weights[m]) *
                          static_cast<double>(coarse.row(at.cells[l])[at.cells[m]]);
        largest = std::max(largest, square);
    }

    TiledMatrix gram(grid.size(), entries);
    pool.run(gram.tile_rows(), [&](std::size_t task) {
        const std::size_t column = gram.tile_rows() - 1 - task;  // the longest first
        const std::size_t begin = column * tile_size, end = std::min(begin + tile_size, grid.size());
        // U F F^T for the cells of this column of tiles, transposed.
        Buffer<float> half(own.size() * tile_size);
        for (std::size_t c = 0; c < own.size(); ++c) {
            const float* from = coarse.row(c);
            float* out = half.data() + c * tile_size;
            for (std::size_t j = begin; j < end; ++j) {
                const auto& [cells, weights] = corners[j];
                out[j - begin] = (weights[0] * from[cells[0]] + weights[1] * from[cells[1]]) +
                                 (weights[2] * from[cells[2]] + weights[3] * from[cells[3]]);
            }
            std::fill(out + (end - begin), out + tile_size, 0.0f);
        }
        std::array<const float*, 4 * tile_size> rows;
        std::array<float, 4 * tile_size> weights;
        alignas(64) std::array<float, tile_entries> tile;
        for (std::size_t row = 0; row <= column; ++row) {
            for (std::size_t i = 0; i < tile_size; ++i)
                for (std::size_t m = 0; m < 4; ++m) {
                    const std::size_t cell = row * tile_size + i;
                    const bool inside = cell < grid.size();
                    rows[4 * i + m] = half.data() + (inside ? corners[cell].cells[m] : 0) * tile_size;
                    weights[4 * i + m] = inside ? corners[cell].weights[m] : 0.0f;
                }
            kernels::selected().blend(rows.data(), weights.data(), inverse(largest), tile.data());
            gram.set_tile(row, column, tile.data());
        }
    });
    return gram;
}

// Whether the way over the features' own grid is the shorter one.
bool goes_over_own_grid(Grid own, Grid grid) { return 2 * own.size() <= grid.size(); }

}  // namespace

template <class Scalar>
TiledMatrix feature_gram(FeatureView<Scalar> features, const GramOptions& options, ThreadPool& pool) {
    const Grid own{features.height, features.width}, grid{options.height, options.width};
    if (goes_over_own_grid(own, grid))
        return upsampled_gram(pack_features(features, own, options.normalize, pool), own, grid,
                              options.entries, pool);
    return direct_gram(pack_features(features, grid, options.normalize, pool), grid.size(), options.entries,
                       pool);
}

double feature_gram_bytes(Grid own, std::size_t channels, const GramOptions& options, int threads) {
    const Grid grid{options.height, options.width};
    const bool over_own = goes_over_own_grid(own, grid);
    const auto cells = static_cast<double>((over_own ? own : grid).size() + tile_size);
    double floats = cells * static_cast<double>(channels);
    if (over_own) floats += cells * cells + static_cast<double>(threads) * cells * tile_size;
    return TiledMatrix::bytes(grid.size(), options.entries) + sizeof(float) * floats;
}

template TiledMatrix feature_gram(FeatureView<float>, const GramOptions&, ThreadPool&);
template TiledMatrix feature_gram(FeatureView<double>, const GramOptions&, ThreadPool&);

}  // namespace deepspec

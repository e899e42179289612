#include "deepspec/feature_gram.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "deepspec/interpolation.hpp"
#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

using kernels::panel_size;
using kernels::strip_size;
using kernels::tile_entries;
using kernels::tile_size;

double sum_of_squares(const float* values, std::size_t count) {
    return kernels::selected().sum_of_squares(values, count);
}

double sum_of_squares(const double* values, std::size_t count) {
    return kernels::selected().sum_of_squares_double(values, count);
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

// The arithmetic the entries are worth. The errors of few channels do not cancel, and their products cost
// little.
const kernels::Gram& find_kernel(const GramOptions& options, std::size_t channels) {
    constexpr std::size_t few = 64;
    if (options.bfloat16) return kernels::gram(kernels::Digits::bfloat16);
    const bool whole = options.entries == Entries::float32 || options.entries == Entries::bits;
    const bool exact = (options.keep && whole) || channels < few;
    return kernels::gram(exact ? kernels::Digits::float32 : kernels::Digits::fixed16);
}

std::size_t panels_of(std::size_t n) { return (n + panel_size - 1) / panel_size; }

// Features as a kernel wants them: panel after panel of cells, zero beyond the last.
class PackedFeatures {
  public:
    PackedFeatures(std::size_t n, std::size_t channels, const kernels::Gram& kernel)
        : kernel_(&kernel),
          n_panels_(panels_of(n)),
          channels_(channels),
          panel_bytes_(kernel.panel_bytes(channels)),
          panels_(n_panels_ * panel_bytes_) {}

    std::size_t n_panels() const { return n_panels_; }

    // A feature's length squared is the largest entry of its row and column of F F^T (Cauchy-Schwarz).
    double largest_square = 0.0;

    // Sets strip_size cells from (strip_size, channels) floats.
    void set(std::size_t first_cell, const float* cells) {
        kernel_->pack(cells, channels_, first_cell % panel_size,
                      panels_.data() + first_cell / panel_size * panel_bytes_);
    }

    // The two panels of a row of tiles, as they are multiplied from the left: kept for the next tile of that
    // row.
    class Rows {
      public:
        explicit Rows(const PackedFeatures& packed)
            : packed_(packed), converted_(packed.kernel_->to_rows != nullptr ? 2 * packed.panel_bytes_ : 0) {}

        const std::byte* panel(std::size_t p) {
            const std::byte* const panel = packed_.panel(p);
            if (converted_.size() == 0) return panel;
            std::byte* const rows = converted_.data() + p % 2 * packed_.panel_bytes_;
            if (held_[p % 2] != p) packed_.kernel_->to_rows(panel, packed_.channels_, rows);
            held_[p % 2] = p;
            return rows;
        }

      private:
        static constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
        const PackedFeatures& packed_;
        Buffer<std::byte> converted_;
        std::array<std::size_t, 2> held_{none, none};
    };

    // tile = max(least, scale F F^T); both halves of a tile on the diagonal.
    void gram_tile(Rows& rows, std::size_t row, std::size_t column, float scale, float least,
                   float* tile) const {
        for (std::size_t i = 0; i < 2; ++i)
            for (std::size_t j = 0; j < 2; ++j) {
                const std::size_t p = 2 * row + i, q = 2 * column + j;
                float* out = tile + i * panel_size * tile_size + j * panel_size;
                if (p >= n_panels_ || q >= n_panels_)
                    for (std::size_t r = 0; r < panel_size; ++r)
                        std::fill_n(out + r * tile_size, panel_size, 0.0f);
                else if (p <= q)
                    kernel_->multiply(rows.panel(p), panel(q), channels_, scale, least, out);
            }
        if (row == column)
            for (std::size_t i = 1; i < tile_size; ++i)
                for (std::size_t j = 0; j < i; ++j) tile[i * tile_size + j] = tile[j * tile_size + i];
    }

  private:
    const std::byte* panel(std::size_t p) const { return panels_.data() + p * panel_bytes_; }

    const kernels::Gram* kernel_;
    std::size_t n_panels_, channels_, panel_bytes_;
    Buffer<std::byte> panels_;
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

// The feature of one cell as floats: scaled, or interpolated between scaled ones.
template <class Scalar>
void scale_feature(FeatureView<Scalar> features, const std::vector<double>& factors, std::size_t cell,
                   float* out) {
    const Scalar* in = features.data + cell * features.channels;
    if constexpr (std::is_same_v<Scalar, float>)
        kernels::selected().scale(in, features.channels, factors[cell], out);
    else
        kernels::selected().scale_double(in, features.channels, factors[cell], out);
}

template <class Scalar>
void interpolate_feature(FeatureView<Scalar> features, const std::vector<double>& factors, const Corners& at,
                         float* out) {
    std::array<const Scalar*, 4> in;
    std::array<double, 4> weights;
    for (std::size_t m = 0; m < 4; ++m) {
        in[m] = features.data + at.cells[m] * features.channels;
        weights[m] = factors[at.cells[m]] * static_cast<double>(at.weights[m]);
    }
    for (std::size_t c = 0; c < features.channels; ++c) {
        double sum = 0.0;
        for (std::size_t m = 0; m < 4; ++m) sum += static_cast<double>(in[m][c]) * weights[m];
        out[c] = static_cast<float>(sum);
    }
}

// The features of `grid`.
template <class Scalar>
PackedFeatures pack_features(FeatureView<Scalar> features, Grid grid, const GramOptions& options,
                             ThreadPool& pool) {
    const Grid own{features.height, features.width};
    const std::size_t n = grid.size(), channels = features.channels;
    const std::vector<double> factors = row_factors(features, options.normalize, pool);
    const std::vector<Corners> corners = own == grid ? std::vector<Corners>() : interpolate(own, grid);
    PackedFeatures packed(n, channels, find_kernel(options, channels));
    std::vector<double> largest(packed.n_panels(), 0.0);
    pool.run(packed.n_panels(), [&](std::size_t index) {
        std::vector<float> cells(strip_size * channels);
        for (std::size_t first = index * panel_size; first < (index + 1) * panel_size; first += strip_size) {
            for (std::size_t s = 0; s < strip_size; ++s) {
                float* out = cells.data() + s * channels;
                const std::size_t i = first + s;
                if (i >= n)
                    std::fill_n(out, channels, 0.0f);
                else if (corners.empty())
                    scale_feature(features, factors, i, out);
                else
                    interpolate_feature(features, factors, corners[i], out);
                largest[index] = std::max(largest[index], sum_of_squares(out, channels));
            }
            packed.set(first, cells.data());
        }
    });
    packed.largest_square = *std::max_element(largest.begin(), largest.end());
    return packed;
}

float inverse(double largest) { return static_cast<float>(largest > 0.0 ? 1.0 / largest : 1.0); }

TiledMatrix direct_gram(PackedFeatures packed, std::size_t n, const GramOptions& options, ThreadPool& pool) {
    const float scale = inverse(packed.largest_square);
    if (!options.keep) {
        const auto shared = std::make_shared<PackedFeatures>(std::move(packed));
        return TiledMatrix(n, [shared, scale](std::size_t row, std::size_t column, float* tile) {
            PackedFeatures::Rows rows(*shared);
            shared->gram_tile(rows, row, column, scale, 0.0f, tile);
        });
    }
    TiledMatrix gram(n, options.entries, static_cast<float>(options.threshold));
    constexpr std::size_t grain = 8;  // tiles that lie one after the other are mostly of one row
    pool.for_blocks(gram.n_tiles(), grain, [&](std::size_t begin, std::size_t end) {
        PackedFeatures::Rows rows(packed);
        alignas(64) std::array<float, tile_entries> tile;
        for (std::size_t index = begin; index < end; ++index) {
            const auto [row, column] = gram.position(index);
            packed.gram_tile(rows, row, column, scale, 0.0f, tile.data());
            gram.set_tile(row, column, tile.data());
        }
    });
    return gram;
}

// tile = max(least, scale U values) for the cells of a row of tiles; rows of values are `stride` apart.
void blend_rows(const std::vector<Corners>& corners, std::size_t tile_row, const float* values,
                std::size_t stride, float scale, float least, float* tile) {
    std::array<const float*, 4 * tile_size> rows;
    std::array<float, 4 * tile_size> weights;
    for (std::size_t i = 0; i < tile_size; ++i)
        for (std::size_t m = 0; m < 4; ++m) {
            const std::size_t cell = tile_row * tile_size + i;
            const bool inside = cell < corners.size();
            rows[4 * i + m] = values + (inside ? corners[cell].cells[m] : 0) * stride;
            weights[4 * i + m] = inside ? corners[cell].weights[m] : 0.0f;
        }
    kernels::selected().blend(rows.data(), weights.data(), scale, least, tile);
}

// F F^T of the features' own grid, both halves, without relu.
class CoarseGram {
  public:
    CoarseGram(const PackedFeatures& packed, std::size_t n, ThreadPool& pool)
        : stride_((n + tile_size - 1) / tile_size * tile_size), products_(stride_ * stride_) {
        const std::size_t n_tiles = stride_ / tile_size;
        pool.run(n_tiles, [&](std::size_t row) {
            PackedFeatures::Rows rows(packed);
            alignas(64) std::array<float, tile_entries> tile;
            for (std::size_t column = row; column < n_tiles; ++column) {
                packed.gram_tile(rows, row, column, 1.0f, -std::numeric_limits<float>::infinity(),
                                 tile.data());
                set(row, column, tile.data());
            }
        });
    }

    const float* row(std::size_t i) const { return products_.data() + i * stride_; }

    // F F^T U^T for the cells of a column of tiles: (stride, tile_size).
    Buffer<float> upsampled(const std::vector<Corners>& corners, std::size_t column) const {
        Buffer<float> half(stride_ * tile_size);
        alignas(64) std::array<float, tile_entries> tile;
        for (std::size_t begin = 0; begin < stride_; begin += tile_size) {
            blend_rows(corners, column, products_.data() + begin, stride_, 1.0f,
                       -std::numeric_limits<float>::infinity(), tile.data());
            float* out = half.data() + begin * tile_size;
            for (std::size_t c = 0; c < tile_size; ++c)
                for (std::size_t j = 0; j < tile_size; ++j) out[c * tile_size + j] = tile[j * tile_size + c];
        }
        return half;
    }

  private:
    // A tile, and across the diagonal its transpose.
    void set(std::size_t row, std::size_t column, const float* tile) {
        float* upper = products_.data() + row * tile_size * stride_ + column * tile_size;
        float* lower = products_.data() + column * tile_size * stride_ + row * tile_size;
        for (std::size_t i = 0; i < tile_size; ++i)
            std::copy_n(tile + i * tile_size, tile_size, upper + i * stride_);
        if (row == column) return;
        for (std::size_t j = 0; j < tile_size; ++j)
            for (std::size_t i = 0; i < tile_size; ++i) lower[j * stride_ + i] = tile[i * tile_size + j];
    }

    std::size_t stride_;
    Buffer<float> products_;
};

// The Gram matrix of interpolated features, relu(U F F^T U^T) scaled, from that of their own grid: far
// fewer operations than there are channels.
TiledMatrix upsampled_gram(const PackedFeatures& packed, Grid own, const GramOptions& options,
                           ThreadPool& pool) {
    const Grid grid{options.height, options.width};
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

    TiledMatrix gram(grid.size(), options.entries, static_cast<float>(options.threshold));
    pool.run(gram.tile_rows(), [&](std::size_t task) {
        const std::size_t column = gram.tile_rows() - 1 - task;  // the longest first
        const Buffer<float> half = coarse.upsampled(corners, column);
        alignas(64) std::array<float, tile_entries> tile;
        for (std::size_t row = 0; row <= column; ++row) {
            blend_rows(corners, row, half.data(), tile_size, inverse(largest), 0.0f, tile.data());
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
    if (options.keep && goes_over_own_grid(own, grid))
        return upsampled_gram(pack_features(features, own, options, pool), own, options, pool);
    return direct_gram(pack_features(features, grid, options, pool), grid.size(), options, pool);
}

double feature_gram_bytes(Grid own, std::size_t channels, const GramOptions& options, int threads) {
    const Grid grid{options.height, options.width};
    const bool over_own = options.keep && goes_over_own_grid(own, grid);
    const std::size_t packed = (over_own ? own : grid).size();
    // Each thread has a row's two panels as they are multiplied from the left.
    double bytes = static_cast<double>(panels_of(packed) + 2 * static_cast<std::size_t>(threads)) *
                   static_cast<double>(find_kernel(options, channels).panel_bytes(channels));
    if (over_own) {
        const auto cells = static_cast<double>(packed + tile_size);
        bytes += sizeof(float) * (cells * cells + static_cast<double>(threads) * cells * tile_size);
    }
    return bytes + (options.keep ? TiledMatrix::bytes(grid.size(), options.entries) : 0.0);
}

template TiledMatrix feature_gram(FeatureView<float>, const GramOptions&, ThreadPool&);
template TiledMatrix feature_gram(FeatureView<double>, const GramOptions&, ThreadPool&);

}  // namespace deepspec

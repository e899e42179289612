#include "deepspec/gram_tiles.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "deepspec/memory.hpp"

namespace deepspec {
namespace {

using kernels::panel_size;
using kernels::strip_size;
using kernels::tile_entries;
using kernels::tile_size;

constexpr float no_bound = -std::numeric_limits<float>::infinity();

float inverse(double largest) { return static_cast<float>(largest > 0.0 ? 1.0 / largest : 1.0); }

std::size_t tiles_of(std::size_t n) { return (n + tile_size - 1) / tile_size; }

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

// The features of `grid`.
PackedFeatures pack_features(const ScaledFeatures& features, Grid grid, const kernels::Gram& kernel,
                             ThreadPool& pool) {
    const std::size_t n = grid.size(), channels = features.channels();
    const std::vector<Corners> corners =
        features.grid() == grid ? std::vector<Corners>() : interpolate(features.grid(), grid);
    PackedFeatures packed(n, channels, kernel);
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
                    features.get(i, out);
                else
                    features.get(corners[i], out);
                largest[index] = std::max(largest[index], kernels::selected().sum_of_squares(out, channels));
            }
            packed.set(first, cells.data());
        }
    });
    packed.largest_square = *std::max_element(largest.begin(), largest.end());
    return packed;
}

class DirectTiles : public GramTiles {
  public:
    DirectTiles(PackedFeatures packed, std::size_t n) : packed_(std::move(packed)), tile_rows_(tiles_of(n)) {
        scale_ = inverse(packed_.largest_square);
    }

    void make(std::size_t row, std::size_t column, float scale, float least, float* tile) const override {
        PackedFeatures::Rows rows(packed_);
        packed_.gram_tile(rows, row, column, scale, least, tile);
    }

    using GramTiles::for_each;
    void for_each(float scale, float least, ThreadPool& pool, const Body& body) const override {
        // Tiles of a row, whose panels are kept for all of them; where features are more than near caches
        // hold, squares, for whose rows the columns' features stay there.
        const bool many = tile_rows_ >= 64;
        const std::size_t height = many ? 4 : 1, width = many ? 4 : 8;
        std::vector<std::pair<std::size_t, std::size_t>> firsts;
        for (std::size_t row = 0; row < tile_rows_; row += height)
            for (std::size_t column = row; column < tile_rows_; column += width)
                firsts.emplace_back(row, column);
        pool.run(firsts.size(), [&](std::size_t task) {
            const auto [first_row, first_column] = firsts[task];
            const std::size_t end_row = std::min(first_row + height, tile_rows_);
            const std::size_t end_column = std::min(first_column + width, tile_rows_);
            PackedFeatures::Rows rows(packed_);
            alignas(64) std::array<float, tile_entries> tile;
            for (std::size_t row = first_row; row < end_row; ++row)
                for (std::size_t column = std::max(row, first_column); column < end_column; ++column) {
                    packed_.gram_tile(rows, row, column, scale, least, tile.data());
                    body(row, column, tile.data());
                }
        });
    }

  private:
    PackedFeatures packed_;
    std::size_t tile_rows_;
};

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
                packed.gram_tile(rows, row, column, 1.0f, no_bound, tile.data());
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
            blend_rows(corners, column, products_.data() + begin, stride_, 1.0f, no_bound, tile.data());
            kernels::selected().transpose(tile.data(), tile_size, half.data() + begin * tile_size, tile_size);
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
        if (row != column) kernels::selected().transpose(tile, tile_size, lower, stride_);
    }

    std::size_t stride_;
    Buffer<float> products_;
};

// U F F^T U^T from F F^T.
class UpsampledTiles : public GramTiles {
  public:
    UpsampledTiles(const PackedFeatures& packed, Grid own, Grid grid, ThreadPool& pool)
        : coarse_(packed, own.size(), pool), corners_(interpolate(own, grid)) {
        double largest = 0.0;
        for (const Corners& at : corners_) {
            double square = 0.0;
            for (std::size_t l = 0; l < 4; ++l)
                for (std::size_t m = 0; m < 4; ++m)
                    square += static_cast<double>(at.weights[l] * at.weights[m]) *
                              static_cast<double>(coarse_.row(at.cells[l])[at.cells[m]]);
            largest = std::max(largest, square);
        }
        scale_ = inverse(largest);
    }

    void make(std::size_t row, std::size_t column, float scale, float least, float* tile) const override {
        const Buffer<float> half = coarse_.upsampled(corners_, column);
        blend_rows(corners_, row, half.data(), tile_size, scale, least, tile);
    }

    using GramTiles::for_each;
    void for_each(float scale, float least, ThreadPool& pool, const Body& body) const override {
        const std::size_t n_tiles = tiles_of(corners_.size());
        pool.run(n_tiles, [&](std::size_t task) {
            const std::size_t column = n_tiles - 1 - task;  // the longest first
            const Buffer<float> half = coarse_.upsampled(corners_, column);
            alignas(64) std::array<float, tile_entries> tile;
            for (std::size_t row = 0; row <= column; ++row) {
                blend_rows(corners_, row, half.data(), tile_size, scale, least, tile.data());
                body(row, column, tile.data());
            }
        });
    }

  private:
    CoarseGram coarse_;
    std::vector<Corners> corners_;
};

}  // namespace

bool goes_over_own_grid(Grid own, Grid grid) { return 2 * own.size() <= grid.size(); }

std::unique_ptr<GramTiles> make_gram_tiles(const ScaledFeatures& features, Grid grid, bool over_own_grid,
                                           const kernels::Gram& kernel, ThreadPool& pool) {
    if (over_own_grid)
        return std::make_unique<UpsampledTiles>(pack_features(features, features.grid(), kernel, pool),
                                                features.grid(), grid, pool);
    return std::make_unique<DirectTiles>(pack_features(features, grid, kernel, pool), grid.size());
}

double gram_tiles_bytes(Grid own, Grid grid, std::size_t channels, bool over_own_grid,
                        const kernels::Gram& kernel, int threads) {
    const std::size_t packed = (over_own_grid ? own : grid).size();
    // Each thread has a row's two panels as they are multiplied from the left.
    double bytes = static_cast<double>(panels_of(packed) + 2 * static_cast<std::size_t>(threads)) *
                   static_cast<double>(kernel.panel_bytes(channels));
    if (over_own_grid) {
        const auto cells = static_cast<double>(packed + tile_size);
        bytes += sizeof(float) * (cells * cells + static_cast<double>(threads) * cells * tile_size);
    }
    return bytes;
}

}  // namespace deepspec

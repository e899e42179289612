#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>

#include "deepspec/interpolation.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/parallel.hpp"
#include "deepspec/scaled_features.hpp"

namespace deepspec {

// F F^T, scaled, as the tiles of its upper half (see TiledMatrix).
class GramTiles {
  public:
    virtual ~GramTiles() = default;

    // What makes the largest entry 1: 1 / that entry, or 1 where it is 0.
    float scale() const { return scale_; }

    // Works out one times a scale, (tile_size, tile_size): entries below `least` are raised to it, those
    // beyond the matrix are 0. One on the diagonal has both halves.
    virtual void make(std::size_t row, std::size_t column, float scale, float least, float* tile) const = 0;

    // body(row, column, tile) for all of them, in any order and on any thread; sooner than each by itself.
    using Body = std::function<void(std::size_t row, std::size_t column, const float* tile)>;
    virtual void for_each(float scale, float least, ThreadPool& pool, const Body& body) const = 0;

    // As they are: that is sooner.
    void for_each(ThreadPool& pool, const Body& body) const {
        for_each(1.0f, -std::numeric_limits<float>::infinity(), pool, body);
    }

  protected:
    float scale_ = 1.0f;
};

// Of features brought to a grid. Where that has at least twice as many cells as their own, F F^T of their own
// may be worked out first and interpolated: far fewer operations than there are channels.
std::unique_ptr<GramTiles> make_gram_tiles(const ScaledFeatures& features, Grid grid, bool over_own_grid,
                                           const kernels::Gram& kernel, ThreadPool& pool);

// Whether that is the shorter way.
bool goes_over_own_grid(Grid own, Grid grid);

// Bytes they take at most, and their making.
double gram_tiles_bytes(Grid own, Grid grid, std::size_t channels, bool over_own_grid,
                        const kernels::Gram& kernel, int threads);

}  // namespace deepspec

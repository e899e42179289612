#include "deepspec/feature_gram.hpp"

#include <memory>
#include <utility>

#include "deepspec/gram_tiles.hpp"
#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

bool goes_over_own_grid(Grid own, const GramOptions& options) {
    return options.keep && goes_over_own_grid(own, Grid{options.height, options.width});
}

}  // namespace

const kernels::Gram& gram_kernel(const GramOptions& options, std::size_t channels) {
    constexpr std::size_t few = 64;  // their errors do not cancel, and their products cost little
    if (options.bfloat16) return kernels::gram(kernels::Digits::bfloat16);
    const bool whole = options.entries == Entries::float32 || options.entries == Entries::bits;
    const bool exact = (options.keep && whole) || channels < few;
    return kernels::gram(exact ? kernels::Digits::float32 : kernels::Digits::fixed16);
}

TiledMatrix feature_gram(const ScaledFeatures& features, const GramOptions& options, ThreadPool& pool) {
    const Grid grid{options.height, options.width};
    std::unique_ptr<GramTiles> tiles =
        make_gram_tiles(features, grid, goes_over_own_grid(features.grid(), options),
                        gram_kernel(options, features.channels()), pool);
    if (!options.keep) {
        const std::shared_ptr<GramTiles> shared = std::move(tiles);
        return TiledMatrix(grid.size(), [shared](std::size_t row, std::size_t column, float* tile) {
            shared->make(row, column, shared->scale(), 0.0f, tile);
        });
    }
    TiledMatrix gram(grid.size(), options.entries, static_cast<float>(options.threshold));
    tiles->for_each(tiles->scale(), 0.0f, pool, [&](std::size_t row, std::size_t column, const float* tile) {
        gram.set_tile(row, column, tile);
    });
    return gram;
}

template <class Scalar>
TiledMatrix feature_gram(FeatureView<Scalar> features, const GramOptions& options, ThreadPool& pool) {
    return feature_gram(ScaledFeatures(features, options.normalize, pool), options, pool);
}

double feature_gram_bytes(Grid own, std::size_t channels, const GramOptions& options, int threads) {
    const Grid grid{options.height, options.width};
    const double tiles = gram_tiles_bytes(own, grid, channels, goes_over_own_grid(own, options),
                                          gram_kernel(options, channels), threads);
    return tiles + (options.keep ? TiledMatrix::bytes(grid.size(), options.entries) : 0.0);
}

template TiledMatrix feature_gram(FeatureView<float>, const GramOptions&, ThreadPool&);
template TiledMatrix feature_gram(FeatureView<double>, const GramOptions&, ThreadPool&);

}  // namespace deepspec

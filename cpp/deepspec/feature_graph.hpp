#pragma once

#include <limits>
#include <memory>
#include <optional>

#include "deepspec/factored_affinity.hpp"
#include "deepspec/interpolation.hpp"
#include "deepspec/laplacian.hpp"
#include "deepspec/parallel.hpp"
#include "deepspec/scaled_features.hpp"
#include "deepspec/sparse.hpp"
#include "deepspec/tiled_matrix.hpp"

namespace deepspec {

// TokenCut's graph: 1 where relu(F F^T) is above a threshold, and an epsilon more everywhere.
struct Threshold {
    double threshold, epsilon;
};

struct FeatureGraphOptions {
    Grid grid;                                // that the features are brought to
    bool fast = false;                        // features may be rounded to bfloat16 where that is sooner
    std::optional<Threshold> threshold = {};  // of the features' part, which is relu(F F^T) without
    LaplacianKind kind = LaplacianKind::normalized;
    std::size_t k = 5;                                            // eigenpairs that are to be found
    double tolerance = 1e-5;                                      // of their residuals
    double max_memory = std::numeric_limits<double>::infinity();  // bytes, of the graph and of finding them
};

// The graph of features and of a sparse matrix, its features' part kept in the first of these ways that fits
// and is exact enough for the tolerance: by its factor, in tiles of few digits, of all, or not at all.
class FeatureGraph {
  public:
    // Refers to the sparse matrix. Throws InsufficientMemory, naming what is needed, where nothing fits.
    FeatureGraph(const ScaledFeatures& features, std::optional<SparseView> sparse, double sparse_weight,
                 const FeatureGraphOptions& options, ThreadPool& pool);

    FeatureGraph(const FeatureGraph&) = delete;
    FeatureGraph& operator=(const FeatureGraph&) = delete;

    const Laplacian& laplacian() const { return *laplacian_; }

    // Of its tiles; nothing where it is kept by its factor.
    std::optional<Entries> entries() const { return entries_; }

  private:
    std::unique_ptr<const FactoredGram> factor_;  // affinity_ refers to either
    std::optional<TiledMatrix> tiles_;
    std::unique_ptr<Affinity> affinity_;
    std::optional<Laplacian> laplacian_;
    std::optional<Entries> entries_;
};

}  // namespace deepspec

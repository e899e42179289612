#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "deepspec/feature_affinity.hpp"
#include "deepspec/feature_gram.hpp"
#include "deepspec/parallel.hpp"
#include "deepspec/scaled_features.hpp"
#include "deepspec/sparse.hpp"

namespace deepspec {

// relu(F F^T) where relu takes little away: F F^T by its factor, and sparse what relu adds where it is
// negative. With few negative entries a product costs O(n C) in place of O(n^2), and no entry is rounded.
struct FactoredGram {
    std::unique_ptr<const FeatureAffinity> own;     // F F^T of the features' own grid
    std::unique_ptr<const FeatureAffinity> lifted;  // U F F^T U^T, where the graph's grid is finer
    double scale = 1.0;                             // of F F^T alone
    SlicedMatrix<float> sparse;                     // what relu adds, scaled, and what came with it

    const FeatureAffinity& features() const { return lifted != nullptr ? *lifted : *own; }
};

// Nothing where a TiledMatrix is multiplied sooner, which a sample of the features tells; where more entries
// turn out to be negative than the sample let expect; or where it would take more than `budget` bytes. The
// sparse part comes with `weight` times another matrix.
std::optional<FactoredGram> factored_gram(const ScaledFeatures& features, const GramOptions& options,
                                          std::optional<SparseView> other, double weight, double budget,
                                          ThreadPool& pool);

}  // namespace deepspec

#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "deepspec/feature_affinity.hpp"
#include "deepspec/feature_gram.hpp"
#include "deepspec/implicit_affinity.hpp"
#include "deepspec/laplacian.hpp"
#include "deepspec/parallel.hpp"
#include "deepspec/scaled_features.hpp"
#include "deepspec/sparse.hpp"

namespace deepspec {

// relu(F F^T) where relu takes little away: F F^T by its factor, and sparse what relu adds where it is
// negative. With few negative entries a product costs O(n C) in place of O(n^2), and no entry is rounded.
struct FactoredGram {
    std::unique_ptr<const FeatureAffinity> own;     // F F^T of the features' own grid
    std::unique_ptr<const FeatureAffinity> lifted;  // U F F^T U^T, where the graph's grid is another
    double scale = 1.0;                             // of either
    RowMatrix sparse;                               // what relu adds, scaled, and `weight` times `other`
    std::vector<double> added;                      // the sums of what relu adds to each row
    std::optional<SparseView> other;
    double weight = 0.0;

    const FeatureAffinity& features() const { return lifted != nullptr ? *lifted : *own; }
};

// Nothing where a TiledMatrix is multiplied sooner, which a sample of the features tells; where more entries
// turn out to be negative than the sample let expect; or where it would take more than `budget` bytes. Refers
// to the other matrix.
std::unique_ptr<FactoredGram> factored_gram(const ScaledFeatures& features, const GramOptions& options,
                                            std::optional<SparseView> other, double weight, double budget,
                                            ThreadPool& pool);

// W = relu(F F^T) + weight * other
class FactoredAffinity : public ImplicitAffinity {
  public:
    explicit FactoredAffinity(std::unique_ptr<const FactoredGram> gram);

    // The least residuals that can be told at all: twice what is expected of the rounding of sums of floats.
    static constexpr double finest_tolerance = 0x1p-21;

    // Whether residuals as small as the tolerance can be told: where relu adds much to a row beside what is
    // left, digits cancel.
    bool tolerates(const Laplacian& laplacian, double tolerance) const;

    using Affinity::visit_edges;
    void visit_edges(const Visit& visit, const Settled& settled, ThreadPool& pool) const override;

  private:
    // visit(i, j, entry) for the positive entries of relu(F F^T) in row i, until it returns false.
    bool visit_row(std::size_t i, const Visit& visit, ThreadPool& pool) const;

    std::unique_ptr<const FactoredGram> gram_;
};

}  // namespace deepspec

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

// F F^T of the features of cells, or U F F^T U^T where the graph's grid is another than theirs.
class FeaturesOfGrid {
  public:
    FeaturesOfGrid() = default;
    FeaturesOfGrid(std::unique_ptr<const FeatureAffinity> cells, Grid own, Grid grid);

    const FeatureAffinity& features() const { return lifted_ != nullptr ? *lifted_ : *cells_; }
    std::size_t n_cells() const { return cells_->size(); }

  private:
    std::unique_ptr<const FeatureAffinity> cells_, lifted_;
};

// relu(F F^T) where relu takes little away: F F^T by its factor, and sparse what relu adds where it is
// negative. With few negative entries a product costs O(n C) in place of O(n^2).
struct FactoredGram {
    FeaturesOfGrid exact, rounded;
    double scale = 1.0;  // of either
    RoundedFeatures::Rounding rounding;
    RowMatrix sparse;           // what relu adds, scaled, and `weight` times `other`
    std::vector<double> added;  // the sums of what relu adds to each row
    std::optional<SparseView> other;
    double weight = 0.0;
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
    // Refers to the gram, which must outlive it; products are those of its rounded features, or of the
    // others.
    FactoredAffinity(const FactoredGram& gram, bool rounded);

    // The least residuals that can be told at all: twice what is expected of the rounding of sums of floats.
    static constexpr double finest_tolerance = 0x1p-21;

    // Whether residuals as small as the tolerance can be told: where relu adds much to a row beside what is
    // left, digits cancel, and rounded features must be expected to move them by less than half of it.
    bool tolerates(const Laplacian& laplacian, double tolerance) const;

    using Affinity::visit_edges;
    void visit_edges(const Visit& visit, const Settled& settled, ThreadPool& pool) const override;

  private:
    // visit(i, j, entry - error) for entries of F F^T in row i that are larger, until it returns false.
    bool visit_row(std::size_t i, const FeaturesOfGrid& features, double error, const Visit& visit,
                   ThreadPool& pool) const;

    const FactoredGram& gram_;
    bool rounded_;
};

}  // namespace deepspec

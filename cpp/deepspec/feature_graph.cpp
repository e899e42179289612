#include "deepspec/feature_graph.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "deepspec/eigensolver.hpp"
#include "deepspec/feature_gram.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"

namespace deepspec {

FeatureGraph::FeatureGraph(const ScaledFeatures& features, std::optional<SparseView> sparse,
                           double sparse_weight, const FeatureGraphOptions& options, ThreadPool& pool) {
    const std::size_t n = options.grid.size();
    const double solving = eigenpairs_bytes(n, options.k);
    const double allowed = std::min(options.max_memory, static_cast<double>(available_memory()));
    GramOptions gram{.height = options.grid.height, .width = options.grid.width, .bfloat16 = options.fast};
    if (!options.threshold && options.tolerance >= FactoredAffinity::finest_tolerance) {
        gram.entries = Entries::fixed16;
        const double budget = allowed - solving - ImplicitAffinity::product_bytes(n);
        factor_ = factored_gram(features, gram, sparse, sparse_weight, budget, pool);
        for (const bool rounded : {true, false}) {
            if (factor_ == nullptr) break;
            auto affinity = std::make_unique<FactoredAffinity>(*factor_, rounded);
            laplacian_.emplace(*affinity, options.kind, pool);
            if (affinity->tolerates(*laplacian_, options.tolerance)) {
                affinity_ = std::move(affinity);
                return;
            }
            laplacian_.reset();
        }
        factor_.reset();
    }
    const auto bytes = [&] {
        return feature_gram_bytes(features.grid(), features.channels(), gram, pool.size()) +
               TiledMatrix::product_bytes(n, options.k) + solving;
    };
    // False where the entries are too coarse.
    const auto keep_tiles = [&] {
        laplacian_.reset();
        affinity_.reset();
        tiles_.reset();
        tiles_ = feature_gram(features, gram, pool);
        const double epsilon = options.threshold ? options.threshold->epsilon : 0.0;
        auto affinity = std::make_unique<FusedAffinity>(&*tiles_, sparse, sparse_weight, epsilon);
        const bool rounded = gram.entries == Entries::fixed16 || gram.entries == Entries::fixed8;
        if (rounded && sparse_weight <= RowMatrix::largest_weight) affinity->round_sparse(pool);
        affinity_ = std::move(affinity);
        laplacian_.emplace(*affinity_, options.kind, pool);
        entries_ = gram.entries;
        return !gram.keep || laplacian_->tolerates(gram.entries, options.tolerance);
    };
    std::vector<Entries> kinds = entries_to_try(n, options.fast && kernels::has_bfloat16());
    if (options.threshold) {
        kinds = {Entries::bits};
        gram.threshold = options.threshold->threshold;
        gram.bfloat16 = false;
    }
    for (const Entries entries : kinds) {
        gram.entries = entries;
        if (bytes() <= allowed && keep_tiles()) return;
    }
    gram.keep = options.threshold.has_value();  // bits are so few that they are kept, or nothing fits
    const std::string job = "the eigenproblem of " + std::to_string(n) + " cells";
    if (bytes() > options.max_memory)
        throw InsufficientMemory(job + " needs " + std::to_string(std::llround(bytes())) +
                                 " bytes of memory, max_memory is " +
                                 std::to_string(std::llround(options.max_memory)));
    require_memory(bytes(), job);
    keep_tiles();
}

}  // namespace deepspec

#pragma once

#include <cstddef>

#include "deepspec/interpolation.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/parallel.hpp"
#include "deepspec/scaled_features.hpp"
#include "deepspec/tiled_matrix.hpp"

namespace deepspec {

struct GramOptions {
    std::size_t height = 0;  // the grid the features are brought to, by bilinear interpolation (cell centres
    std::size_t width = 0;   // aligned, edges clamped); their own grid leaves them as they are
    bool normalize = true;   // each feature to length 1 before that
    Entries entries = Entries::float32;
    bool keep = true;        // the entries; else only features are, and tiles worked out when they are needed
    bool bfloat16 = false;   // features rounded to bfloat16, where the processor multiplies such
    double threshold = 0.0;  // of entries that are bits, beside the largest entry
};

// W_feat = relu(F F^T) divided by its largest entry (section 3.2 of the paper); all zeros for features that
// are all zero. Throws std::invalid_argument on NaN or infinity, naming where.
template <class Scalar>
TiledMatrix feature_gram(FeatureView<Scalar> features, const GramOptions& options, ThreadPool& pool);

// The same of features that are scaled already; GramOptions::normalize is of no account.
TiledMatrix feature_gram(const ScaledFeatures& features, const GramOptions& options, ThreadPool& pool);

// The arithmetic that products of features are worth.
const kernels::Gram& gram_kernel(const GramOptions& options, std::size_t channels);

// Bytes it takes at most, the result included.
double feature_gram_bytes(Grid own, std::size_t channels, const GramOptions& options, int threads);

}  // namespace deepspec

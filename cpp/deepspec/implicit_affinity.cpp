#include "deepspec/implicit_affinity.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <vector>

#include "deepspec/columns.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"

namespace deepspec {

constexpr std::size_t few_rows = 128;  // threads end together where blocks are small

ImplicitAffinity::ImplicitAffinity(const FeatureAffinity* features, double feature_weight,
                                   const CountMatrix& sparse, double sparse_weight)
    : ImplicitAffinity(features, feature_weight, &sparse, sparse.n, sparse_weight) {}

ImplicitAffinity::ImplicitAffinity(const FeatureAffinity* features, double feature_weight,
                                   const RowMatrix& sparse, double sparse_weight)
    : ImplicitAffinity(features, feature_weight, &sparse, sparse.n, sparse_weight) {}

ImplicitAffinity::ImplicitAffinity(const FeatureAffinity* features, double feature_weight, Sparse sparse,
                                   std::size_t n, double sparse_weight)
    : features_(feature_weight > 0.0 ? features : nullptr),
      feature_weight_(feature_weight),
      sparse_(sparse),
      sparse_weight_(sparse_weight),
      n_(n) {
    if (features != nullptr && features->size() != n)
        throw std::invalid_argument("the parts of an affinity must have one size, got " +
                                    std::to_string(features->size()) + " and " + std::to_string(n) + " rows");
}

double ImplicitAffinity::product_bytes(std::size_t n) { return 4.0 * sizeof(float) * static_cast<double>(n); }

void ImplicitAffinity::multiply_sparse(const float* pairs, std::size_t begin, std::size_t end,
                                       float* products) const {
    constexpr std::size_t slice = CountMatrix::slice;
    static_assert(few_rows % slice == 0);  // blocks begin with a slice
    const kernels::PixelLoops& loops = kernels::selected().pixels;
    if (const auto* const found = std::get_if<const CountMatrix*>(&sparse_)) {
        const CountMatrix& counts = **found;
        loops.count_products(counts.slice_starts.data(), counts.columns.data(), counts.counts.data(), pairs,
                             begin / slice, (end + slice - 1) / slice, products);
    } else {
        const RowMatrix& rows = *std::get<const RowMatrix*>(sparse_);
        loops.row_products(rows.row_starts.data(), rows.columns.data(), rows.entries.data(), pairs, begin,
                           end, products);
    }
}

template <class Number, class Finish>
void ImplicitAffinity::multiply_two(const double* f, const Number* first, const Number* second,
                                    ThreadPool& pool, Finish finish) const {
    const std::size_t n = size();
    Buffer<float> pairs(2 * n);
    columns::interleave(f, first, second, pairs.data(), n, pool);
    std::vector<float> shared;
    if (features_ != nullptr) shared = features_->begin_product(pairs.data(), pool);
    pool.for_blocks(n, few_rows, [&](std::size_t begin, std::size_t end) {
        std::array<float, 2 * few_rows> of_sparse{}, of_features{};
        if (features_ != nullptr) features_->product_rows(shared, begin, end, of_features.data());
        if (sparse_weight_ > 0.0) multiply_sparse(pairs.data(), begin, end, of_sparse.data());
        for (std::size_t i = begin; i < end; ++i) {
            std::array<double, 2> sums;
            for (std::size_t v = 0; v < 2; ++v)
                sums[v] = sparse_weight_ * static_cast<double>(of_sparse[2 * (i - begin) + v]) +
                          feature_weight_ * static_cast<double>(of_features[2 * (i - begin) + v]);
            finish(i, sums);
        }
    });
}

void ImplicitAffinity::multiply(const double* x, double* y, ThreadPool& pool, std::size_t count,
                                std::size_t stride, Detail) const {
    for (std::size_t v = 0; v < count; v += 2) {
        const std::size_t first = v * stride, second = std::min(v + 1, count - 1) * stride;
        multiply_two(nullptr, x + first, x + second, pool,
                     [&](std::size_t i, const std::array<double, 2>& sums) {
                         y[first + i] = sums[0];
                         y[second + i] = sums[1];
                     });
    }
}

template <class Number>
void ImplicitAffinity::combine_all(Terms terms, const double* f, const Number* x, Number* y, ThreadPool& pool,
                                   std::size_t count, std::size_t stride) const {
    for (std::size_t v = 0; v < count; v += 2) {
        const std::size_t first = v * stride, second = std::min(v + 1, count - 1) * stride;
        multiply_two(f, x + first, x + second, pool, [&](std::size_t i, const std::array<double, 2>& sums) {
            const double factor = terms.product * f[i];
            y[first + i] =
                static_cast<Number>(terms.x * static_cast<double>(x[first + i]) + factor * sums[0]);
            y[second + i] =
                static_cast<Number>(terms.x * static_cast<double>(x[second + i]) + factor * sums[1]);
        });
    }
}

void ImplicitAffinity::combine(Terms terms, const double* f, const double* x, double* y, ThreadPool& pool,
                               std::size_t count, std::size_t stride, Detail) const {
    combine_all(terms, f, x, y, pool, count, stride);
}

void ImplicitAffinity::combine(Terms terms, const double* f, const float* x, float* y, ThreadPool& pool,
                               std::size_t count, std::size_t stride, Detail) const {
    combine_all(terms, f, x, y, pool, count, stride);
}

}  // namespace deepspec

#include "deepspec/feature_affinity.hpp"

#include <algorithm>
#include <array>

#include "deepspec/columns.hpp"
#include "deepspec/kernels/kernels.hpp"

namespace deepspec {

void FeatureAffinity::visit_edges(const Affinity::Visit& visit) const {
    const std::size_t n = size();
    ThreadPool alone(1);
    std::vector<float> x(2 * n, 0.0f), rows(2 * n);
    for (std::size_t i = 0; i < n; i += 2) {
        const std::size_t count = std::min<std::size_t>(2, n - i);
        for (std::size_t v = 0; v < count; ++v) x[2 * (i + v) + v] = 1.0f;
        product_rows(begin_product(x.data(), alone), i, n, rows.data());
        for (std::size_t v = 0; v < count; ++v) {
            for (std::size_t j = i; j < n; ++j) {
                const auto entry = static_cast<double>(rows[2 * (j - i) + v]);
                if (entry > 0.0 && !visit(i + v, j, entry)) return;
            }
            x[2 * (i + v) + v] = 0.0f;
        }
    }
}

std::vector<float> TiledFeatures::begin_product(const float* x, ThreadPool& pool) const {
    const std::size_t n = size();
    std::vector<double> vectors(2 * n), products(2 * n);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t v = 0; v < 2; ++v) vectors[v * n + i] = static_cast<double>(x[2 * i + v]);
    TiledMatrix::Product product(matrix_, vectors.data(), 2, n);
    pool.run(product.n_tasks(), [&](std::size_t task) { product.run(task); });
    product.add_to(products.data(), pool);
    std::vector<float> result(2 * n);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t v = 0; v < 2; ++v) result[2 * i + v] = static_cast<float>(products[v * n + i]);
    return result;
}

void TiledFeatures::product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                                 float* y) const {
    std::copy(shared.data() + 2 * begin, shared.data() + 2 * end, y);
}

FactoredFeatures::FactoredFeatures(const ScaledFeatures& features, ThreadPool& pool)
    : n_(features.grid().size()),
      channels_(features.channels()),
      rows_(columns::even_rows(n_)),
      factor_(n_blocks() * channels_ * rows_) {
    constexpr std::size_t strip = kernels::strip_size;
    pool.run(n_blocks(), [&](std::size_t b) {
        std::vector<float> cells(strip * channels_);
        float* const out = factor_.data() + b * channels_ * rows_;
        for (std::size_t first = 0; first < rows_; first += strip) {
            for (std::size_t s = 0; s < strip; ++s) {
                const std::size_t i = b * rows_ + first + s;
                float* const cell = cells.data() + s * channels_;
                if (i < n_)
                    features.get(i, cell);
                else
                    std::fill_n(cell, channels_, 0.0f);
            }
            for (std::size_t c = 0; c < channels_; ++c)
                for (std::size_t s = 0; s < strip; ++s) out[c * rows_ + first + s] = cells[s * channels_ + c];
        }
    });
}

double FactoredFeatures::bytes(std::size_t n, std::size_t channels) {
    return sizeof(float) * static_cast<double>(channels) * static_cast<double>(n + 2 * columns::most_rows);
}

// F^T X, one vector after the other.
std::vector<float> FactoredFeatures::begin_product(const float* x, ThreadPool& pool) const {
    const std::size_t size = 2 * channels_;
    std::vector<double> parts(n_blocks() * size);
    pool.run(n_blocks(), [&](std::size_t b) {
        std::array<float, 2 * columns::most_rows> vectors{};
        const std::size_t first = b * rows_, count = std::min(rows_, n_ - first);
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t v = 0; v < 2; ++v) vectors[v * rows_ + i] = x[2 * (first + i) + v];
        kernels::selected().long_floats.dots(block(b), rows_, channels_, vectors.data(), 2, rows_,
                                             parts.data() + b * size);
    });
    std::vector<float> sums(size);
    for (std::size_t c = 0; c < size; ++c) {
        double sum = 0.0;
        for (std::size_t b = 0; b < n_blocks(); ++b) sum += parts[b * size + c];
        sums[c] = static_cast<float>(sum);
    }
    return sums;
}

void FactoredFeatures::product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                                    float* y) const {
    std::vector<double> factors(shared.size());
    std::transform(shared.begin(), shared.end(), factors.begin(),
                   [](float z) { return -static_cast<double>(z); });
    while (begin < end) {
        const std::size_t b = begin / rows_,
                          within = begin % rows_ / kernels::length_unit * kernels::length_unit;
        const std::size_t skipped = begin % rows_ - within, count = std::min(end, (b + 1) * rows_) - begin;
        std::array<float, 2 * columns::most_rows> sums{};
        kernels::selected().long_floats.subtract(block(b) + within, rows_, channels_, factors.data(),
                                                 sums.data(), 2, columns::padded(skipped + count));
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t v = 0; v < 2; ++v) *y++ = sums[v * rows_ + skipped + i];
        begin += count;
    }
}

}  // namespace deepspec

#include "deepspec/feature_affinity.hpp"

#include <algorithm>
#include <array>

#include "deepspec/columns.hpp"
#include "deepspec/kernels/kernels.hpp"

namespace deepspec {

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
    : n_(features.grid().size()), length_(columns::padded(features.channels())), rows_(n_ * length_) {
    pool.for_blocks(n_, columns::even_rows(n_), [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            float* const out = rows_.data() + i * length_;
            features.get(i, out);
            std::fill(out + features.channels(), out + length_, 0.0f);
        }
    });
}

double FactoredFeatures::bytes(std::size_t n, std::size_t channels) {
    return sizeof(float) * static_cast<double>(columns::padded(channels)) * static_cast<double>(n);
}

double FactoredFeatures::entry(std::size_t i, std::size_t j) const {
    double product = 0.0;
    kernels::selected().long_floats.dots(row(i), length_, 1, row(j), 1, length_, &product);
    return product;
}

// F^T X, one vector after the other.
std::vector<float> FactoredFeatures::begin_product(const float* x, ThreadPool& pool) const {
    const std::size_t size = 2 * length_, rows = columns::even_rows(n_), n_blocks = (n_ + rows - 1) / rows;
    std::vector<float> parts(n_blocks * size);
    pool.for_blocks(n_, rows, [&](std::size_t begin, std::size_t end) {
        const std::size_t count = end - begin;
        std::array<double, 2 * columns::most_rows> negated;
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t v = 0; v < 2; ++v)
                negated[v * count + i] = -static_cast<double>(x[2 * (begin + i) + v]);
        kernels::selected().long_floats.subtract(row(begin), length_, count, negated.data(),
                                                 parts.data() + begin / rows * size, 2, length_);
    });
    std::vector<float> sums(size);
    for (std::size_t c = 0; c < size; ++c) {
        double sum = 0.0;
        for (std::size_t b = 0; b < n_blocks; ++b) sum += static_cast<double>(parts[b * size + c]);
        sums[c] = static_cast<float>(sum);
    }
    return sums;
}

void FactoredFeatures::product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                                    float* y) const {
    std::array<double, 2 * columns::most_rows> products;
    for (; begin < end; begin += columns::most_rows) {
        const std::size_t count = std::min(end - begin, columns::most_rows);
        kernels::selected().long_floats.dots(row(begin), length_, count, shared.data(), 2, length_,
                                             products.data());
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t v = 0; v < 2; ++v) *y++ = static_cast<float>(products[v * count + i]);
    }
}

}  // namespace deepspec

#include "deepspec/feature_affinity.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "deepspec/columns.hpp"
#include "deepspec/golden.hpp"
#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

// F^T X, one vector after the other, for rows of F of that length.
template <class Entry>
std::vector<float> column_products(const Entry* rows, std::size_t n, std::size_t length, const float* x,
                                   ThreadPool& pool) {
    const std::size_t size = 2 * length, block = columns::even_rows(n), n_blocks = (n + block - 1) / block;
    std::vector<float> parts(n_blocks * size);
    pool.for_blocks(n, block, [&](std::size_t begin, std::size_t end) {
        const std::size_t count = end - begin;
        std::array<double, 2 * columns::most_rows> negated;
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t v = 0; v < 2; ++v)
                negated[v * count + i] = -static_cast<double>(x[2 * (begin + i) + v]);
        columns::kernels_of(rows).subtract(rows + begin * length, length, count, negated.data(),
                                           parts.data() + begin / block * size, 2, length);
    });
    std::vector<double> sums(size);
    for (std::size_t b = 0; b < n_blocks; ++b)
        for (std::size_t c = 0; c < size; ++c) sums[c] += static_cast<double>(parts[b * size + c]);
    return {sums.begin(), sums.end()};
}

// F times what column_products returned, (n, 2).
template <class Entry>
void row_products(const Entry* rows, std::size_t length, const std::vector<float>& shared, std::size_t begin,
                  std::size_t end, float* y) {
    std::array<double, 2 * columns::most_rows> products;
    for (; begin < end; begin += columns::most_rows) {
        const std::size_t count = std::min(end - begin, columns::most_rows);
        columns::kernels_of(rows).dots(rows + begin * length, length, count, shared.data(), 2, length,
                                       products.data());
        for (std::size_t i = 0; i < count; ++i)
            for (std::size_t v = 0; v < 2; ++v) *y++ = static_cast<float>(products[v * count + i]);
    }
}

}  // namespace

std::vector<float> TiledFeatures::begin_product(const float* x, ThreadPool& pool) const {
    const std::size_t n = size();
    std::vector<double> vectors(2 * n), products(2 * n);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t v = 0; v < 2; ++v) vectors[v * n + i] = static_cast<double>(x[2 * i + v]);
    matrix_.multiply(vectors.data(), products.data(), pool, 2, n);
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
    : n_(features.grid().size()), length_(columns::padded(features.channels())), numbers_(n_ * length_) {
    pool.for_blocks(n_, columns::even_rows(n_), [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            float* const out = numbers_.data() + i * length_;
            features.get(i, out);
            std::fill(out + features.channels(), out + length_, 0.0f);
        }
    });
}

double FactoredFeatures::bytes(std::size_t n, std::size_t channels) {
    return sizeof(float) * static_cast<double>(columns::padded(channels)) * static_cast<double>(n);
}

void FactoredFeatures::get_entries(std::size_t i, const std::uint32_t* columns, std::size_t count,
                                   float* entries) const {
    kernels::selected().dots_with(rows(), columns, count, rows() + i * length_, length_, entries);
}

std::vector<float> FactoredFeatures::begin_product(const float* x, ThreadPool& pool) const {
    return column_products(rows(), n_, length_, x, pool);
}

void FactoredFeatures::product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                                    float* y) const {
    row_products(rows(), length_, shared, begin, end, y);
}

RoundedFeatures::RoundedFeatures(const FactoredFeatures& features, ThreadPool& pool)
    : n_(features.size()), length_(features.length()), words_(n_ * length_), units_(length_) {
    const std::size_t block = columns::even_rows(n_), n_blocks = (n_ + block - 1) / block;
    std::vector<float> largest(n_blocks * length_, 0.0f), squares(n_blocks * length_, 0.0f);
    pool.for_blocks(n_, block, [&](std::size_t begin, std::size_t end) {
        float* const of_block = largest.data() + begin / block * length_;
        float* const sums = squares.data() + begin / block * length_;
        for (std::size_t i = begin; i < end; ++i) {
            const float* const row = features.rows() + i * length_;
            for (std::size_t c = 0; c < length_; ++c) {
                of_block[c] = std::max(of_block[c], std::abs(row[c]));
                sums[c] += row[c] * row[c];
            }
        }
    });
    constexpr float most = 32767.0f;
    std::vector<float> per_unit(length_);
    double squares_of_all = 0.0, weighted = 0.0;
    for (std::size_t c = 0; c < length_; ++c) {
        float greatest = 0.0f;
        double sum = 0.0;
        for (std::size_t b = 0; b < n_blocks; ++b) {
            greatest = std::max(greatest, largest[b * length_ + c]);
            sum += static_cast<double>(squares[b * length_ + c]);
        }
        // No two channels have the same unit: what they round would add up where they are alike.
        const float larger = 1.0f + static_cast<float>(golden_fraction(c)) / 16.0f;
        units_[c] = larger * greatest / most;
        // A channel of numbers that are no normal floats in such units has none.
        per_unit[c] = greatest >= 1e-30f ? most / (larger * greatest) : 0.0f;
        const double square = static_cast<double>(units_[c]) * static_cast<double>(units_[c]) / 12.0;
        rounding_.of_rows += square;
        weighted += square * sum;
        squares_of_all += sum;
    }
    rounding_.of_channels = squares_of_all > 0.0 ? weighted / squares_of_all : 0.0;
    pool.for_blocks(n_, block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const float* const row = features.rows() + i * length_;
            std::int16_t* const out = words_.data() + i * length_;
            // To the nearest, by cutting off what is not negative: compilers know instructions for that.
            for (std::size_t c = 0; c < length_; ++c)
                out[c] = static_cast<std::int16_t>(
                    static_cast<std::int32_t>(row[c] * per_unit[c] + 32768.5f) - 32768);
        }
    });
}

double RoundedFeatures::bytes(std::size_t n, std::size_t channels) {
    return sizeof(std::int16_t) * static_cast<double>(columns::padded(channels)) * static_cast<double>(n);
}

// The units of both factors at once.
std::vector<float> RoundedFeatures::begin_product(const float* x, ThreadPool& pool) const {
    std::vector<float> products = column_products(words_.data(), n_, length_, x, pool);
    for (std::size_t c = 0; c < length_; ++c)
        for (const std::size_t at : {c, length_ + c}) products[at] *= units_[c] * units_[c];
    return products;
}

void RoundedFeatures::product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                                   float* y) const {
    row_products(words_.data(), length_, shared, begin, end, y);
}

}  // namespace deepspec

#include "deepspec/pixel_affinity.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <utility>

namespace deepspec {
namespace {

constexpr std::size_t block = 2048;  // vertices in a parallel task

// What is added up for itself, and then together: neither depends on the number of threads.
constexpr std::size_t lifted_bands = 16, sampled_bands = 8;

// A position among the cells of one axis: the first of the two that it lies between, and how far from it.
std::pair<std::size_t, float> between_cells(std::size_t pixel, std::size_t n_cells, double cell) {
    const double position =
        std::clamp((static_cast<double>(pixel) + 0.5) / cell - 0.5, 0.0, static_cast<double>(n_cells - 1));
    const auto low = static_cast<std::size_t>(position);
    return {low, static_cast<float>(position - static_cast<double>(low))};
}

// splitmix64: the same numbers on every platform.
std::uint64_t scrambled(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

}  // namespace

Interpolation::Interpolation(const Cells& cells, std::size_t image_width,
                             const std::vector<std::int32_t>& order)
    : grid_(cells.grid), places_(order.size()) {
    for (std::size_t v = 0; v < order.size(); ++v) {
        const auto pixel = static_cast<std::size_t>(order[v]);
        const auto [top, down] = between_cells(pixel / image_width, grid_.height, cells.height);
        const auto [left, right] = between_cells(pixel % image_width, grid_.width, cells.width);
        places_[v] = {static_cast<std::int32_t>(top * stride() + left), down, right};
    }
}

LiftedFeatures::LiftedFeatures(const TiledMatrix& affinity, Interpolation interpolation)
    : affinity_(affinity), interpolation_(std::move(interpolation)) {
    if (affinity.size() != interpolation_.grid().size())
        throw std::invalid_argument("the affinity must have a row for each of " +
                                    std::to_string(interpolation_.grid().size()) + " cells, got " +
                                    std::to_string(affinity.size()));
}

std::vector<double> LiftedFeatures::gathered(const double* x, ThreadPool& pool, std::size_t count,
                                             std::size_t stride) const {
    const std::size_t n = interpolation_.n_vertices(), padded = interpolation_.padded_size();
    const std::size_t band = (n + lifted_bands - 1) / lifted_bands;
    std::vector<double> sums(lifted_bands * count * padded);
    pool.run(lifted_bands, [&](std::size_t b) {
        double* const own = sums.data() + b * count * padded;
        for (std::size_t i = b * band; i < std::min(n, (b + 1) * band); ++i)
            interpolation_.corners(i, [&](std::size_t cell, double weight) {
                for (std::size_t v = 0; v < count; ++v) own[v * padded + cell] += weight * x[v * stride + i];
            });
    });
    const std::size_t n_cells = interpolation_.grid().size();
    std::vector<double> result(count * n_cells);
    for (std::size_t v = 0; v < count; ++v)
        for (std::size_t b = 0; b < lifted_bands; ++b)
            for (std::size_t cell = 0; cell < n_cells; ++cell)
                result[v * n_cells + cell] += sums[(b * count + v) * padded + interpolation_.padded(cell)];
    return result;
}

void LiftedFeatures::multiply(const double* x, double* y, ThreadPool& pool, std::size_t count,
                              std::size_t stride) const {
    const std::size_t n_cells = interpolation_.grid().size(), padded = interpolation_.padded_size();
    const std::vector<double> inputs = gathered(x, pool, count, stride);
    std::vector<double> products(count * n_cells), spread(count * padded);
    TiledMatrix::Product product(affinity_, inputs.data(), count, n_cells);
    pool.run(product.n_tasks(), [&](std::size_t task) { product.run(task); });
    product.add_to(products.data(), pool);
    for (std::size_t v = 0; v < count; ++v)
        for (std::size_t cell = 0; cell < n_cells; ++cell)
            spread[v * padded + interpolation_.padded(cell)] = products[v * n_cells + cell];
    pool.for_blocks(interpolation_.n_vertices(), block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t v = 0; v < count; ++v)
            for (std::size_t i = begin; i < end; ++i) {
                double sum = 0.0;
                interpolation_.corners(
                    i, [&](std::size_t cell, double weight) { sum += weight * spread[v * padded + cell]; });
                y[v * stride + i] = sum;
            }
    });
}

// Every vertex is joined to one that stands for a cell, the nearest to its centre, which it has an entry
// with; and those of cells that have one with each other.
void LiftedFeatures::visit_edges(const Affinity::Visit& visit) const {
    const std::size_t n_cells = interpolation_.grid().size(), padded = interpolation_.padded_size();
    std::vector<std::size_t> nearest(padded, 0);
    std::vector<double> weights(padded, 0.0);
    for (std::size_t i = 0; i < interpolation_.n_vertices(); ++i)
        interpolation_.corners(i, [&](std::size_t cell, double weight) {
            if (weight <= weights[cell]) return;
            weights[cell] = weight;
            nearest[cell] = i;
        });
    struct Edge {
        std::size_t cell = 0;  // padded
        double entry = 0.0;
    };
    std::vector<Edge> strongest(padded);
    for (std::size_t a = 0; a < n_cells; ++a)
        for (std::size_t b = 0; b < n_cells; ++b) {
            const std::size_t other = interpolation_.padded(b);
            const double entry = static_cast<double>(affinity_.at(a, b)) * weights[other];
            Edge& edge = strongest[interpolation_.padded(a)];
            if (entry > edge.entry) edge = {other, entry};
        }
    bool more = true;
    for (std::size_t i = 0; more && i < interpolation_.n_vertices(); ++i)
        interpolation_.corners(i, [&](std::size_t cell, double weight) {
            const Edge& edge = strongest[cell];
            if (more && weight * edge.entry > 0.0) more = visit(i, nearest[edge.cell], weight * edge.entry);
        });
    for (std::size_t a = 0; more && a < n_cells; ++a)
        for (std::size_t b = a + 1; more && b < n_cells; ++b) {
            const std::size_t one = interpolation_.padded(a), other = interpolation_.padded(b);
            const double entry = weights[one] * static_cast<double>(affinity_.at(a, b)) * weights[other];
            if (entry > 0.0) more = visit(nearest[one], nearest[other], entry);
        }
}

SampledFeatures::SampledFeatures(const float* gram, Interpolation interpolation, std::uint64_t seed)
    : gram_(gram), interpolation_(std::move(interpolation)), seed_(seed) {}

template <class Visit>
void SampledFeatures::for_drawn(std::size_t i, std::vector<float>& row, Visit visit) const {
    const std::size_t n = interpolation_.n_vertices(), n_cells = interpolation_.grid().size();
    const std::size_t width = interpolation_.grid().width, padded_width = width + 1;
    std::fill(row.begin(), row.end(), 0.0f);
    interpolation_.corners(i, [&](std::size_t cell, double weight) {
        if (weight == 0.0) return;
        const float* const own = gram_ + (cell / padded_width * width + cell % padded_width) * n_cells;
        const auto factor = static_cast<float>(weight);
        for (std::size_t r = 0; r < interpolation_.grid().height; ++r)
            for (std::size_t c = 0; c < width; ++c) row[r * padded_width + c] += factor * own[r * width + c];
    });
    std::uint64_t state = scrambled(seed_ + 0x9e3779b97f4a7c15u * (i + 1)), bytes = 0;
    for (std::size_t begin = i / stretch * stretch, drawn = 0; begin < n; begin += stretch, ++drawn) {
        bytes = drawn % 8 == 0 ? scrambled(state += 0x9e3779b97f4a7c15u) : bytes >> 8;
        const std::size_t j = begin + (bytes & 0xff);
        if (j < i || j >= n) continue;
        double entry = 0.0;
        interpolation_.corners(
            j, [&](std::size_t cell, double weight) { entry += weight * static_cast<double>(row[cell]); });
        if (entry > 0.0) visit(j, entry);
    }
}

void SampledFeatures::multiply(const double* x, double* y, ThreadPool& pool, std::size_t count,
                               std::size_t stride) const {
    // Two at a time: the bands' sums of more would take more memory than the search itself.
    for (std::size_t v = 0; v < count; v += 2)
        multiply_few(x + v * stride, y + v * stride, pool, std::min<std::size_t>(2, count - v), stride);
}

void SampledFeatures::multiply_few(const double* x, double* y, ThreadPool& pool, std::size_t count,
                                   std::size_t stride) const {
    const std::size_t n = interpolation_.n_vertices();
    std::vector<double> sums(sampled_bands * count * n);
    // Earlier rows have more entries: rows are dealt to the bands in turn.
    pool.run(sampled_bands, [&](std::size_t band) {
        double* const own = sums.data() + band * count * n;
        std::vector<float> row(interpolation_.padded_size());
        for (std::size_t i = band; i < n; i += sampled_bands)
            for_drawn(i, row, [&](std::size_t j, double entry) {
                for (std::size_t v = 0; v < count; ++v) {
                    own[v * n + i] += entry * x[v * stride + j];
                    if (j != i) own[v * n + j] += entry * x[v * stride + i];
                }
            });
    });
    pool.for_blocks(n, block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t v = 0; v < count; ++v)
            for (std::size_t i = begin; i < end; ++i) {
                double sum = 0.0;
                for (std::size_t band = 0; band < sampled_bands; ++band)
                    sum += sums[(band * count + v) * n + i];
                y[v * stride + i] = sum;
            }
    });
}

void SampledFeatures::visit_edges(const Affinity::Visit& visit) const {
    std::vector<float> row(interpolation_.padded_size());
    bool more = true;
    for (std::size_t i = 0; more && i < interpolation_.n_vertices(); ++i)
        for_drawn(i, row, [&](std::size_t j, double entry) { more = more && visit(i, j, entry); });
}

PixelAffinity::PixelAffinity(const PixelFeatures* features, double feature_weight, const CountMatrix& colors,
                             double color_weight)
    : features_(features), feature_weight_(feature_weight), colors_(colors), color_weight_(color_weight) {}

void PixelAffinity::multiply(const double* x, double* y, ThreadPool& pool, std::size_t count,
                             std::size_t stride, Detail) const {
    const std::size_t n = size();
    if (features_ != nullptr) features_->multiply(x, y, pool, count, stride);
    const double kept = features_ != nullptr ? feature_weight_ : 0.0;
    if (features_ == nullptr)
        for (std::size_t v = 0; v < count; ++v) std::fill_n(y + v * stride, n, 0.0);
    if (colors_.columns.empty() || color_weight_ == 0.0) {
        for (std::size_t v = 0; v < count; ++v)
            for (std::size_t i = 0; i < n; ++i) y[v * stride + i] *= kept;
        return;
    }
    std::array<float, 256> factors;
    for (std::size_t c = 0; c < factors.size(); ++c) factors[c] = static_cast<float>(c);
    // What a column's index finds of two vectors lies together.
    Buffer<float> pairs(2 * n);
    float* const entries = pairs.data();
    for (std::size_t v = 0; v < count; v += 2) {
        const std::size_t second = std::min(v + 1, count - 1);
        pool.for_blocks(n, block, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) {
                entries[2 * i] = static_cast<float>(x[v * stride + i]);
                entries[2 * i + 1] = static_cast<float>(x[second * stride + i]);
            }
        });
        pool.for_blocks(n, block, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) {
                float a[2] = {0.0f, 0.0f}, b[2] = {0.0f, 0.0f};
                auto slot = static_cast<std::size_t>(colors_.row_starts[i]);
                const auto last = static_cast<std::size_t>(colors_.row_starts[i + 1]);
                for (; slot + 2 <= last; slot += 2) {
                    const float f = factors[colors_.counts[slot]], g = factors[colors_.counts[slot + 1]];
                    const float* p = entries + 2 * static_cast<std::size_t>(colors_.columns[slot]);
                    const float* q = entries + 2 * static_cast<std::size_t>(colors_.columns[slot + 1]);
                    for (int e = 0; e < 2; ++e) a[e] += f * p[e];
                    for (int e = 0; e < 2; ++e) b[e] += g * q[e];
                }
                if (slot < last) {
                    const float f = factors[colors_.counts[slot]];
                    const float* p = entries + 2 * static_cast<std::size_t>(colors_.columns[slot]);
                    for (int e = 0; e < 2; ++e) a[e] += f * p[e];
                }
                double& first = y[v * stride + i];
                const double sum = static_cast<double>(a[0] + b[0]);
                first = kept * first + color_weight_ * sum;
                if (second != v) {
                    double& other = y[second * stride + i];
                    other = kept * other + color_weight_ * static_cast<double>(a[1] + b[1]);
                }
            }
        });
    }
}

double PixelAffinity::bytes(std::size_t n, std::size_t n_cells, bool sampled) {
    const auto vertices = static_cast<double>(n), cells = static_cast<double>(n_cells);
    const double sums = sampled ? 2.0 * sampled_bands * vertices : 2.0 * (lifted_bands + 3) * cells;
    return sizeof(double) * sums + (8.0 + 12.0) * vertices;
}

void PixelAffinity::visit_edges(const Visit& visit) const {
    bool more = true;
    const auto scaled = [&](double weight) {
        return [&, weight](std::size_t i, std::size_t j, double entry) {
            return more = weight * entry > 0.0 ? visit(i, j, weight * entry) : true;
        };
    };
    if (features_ != nullptr) features_->visit_edges(scaled(feature_weight_));
    const auto visit_color = scaled(color_weight_);
    for (std::size_t i = 0; more && i < size(); ++i)
        for (auto slot = static_cast<std::size_t>(colors_.row_starts[i]);
             more && slot < static_cast<std::size_t>(colors_.row_starts[i + 1]); ++slot)
            visit_color(i, static_cast<std::size_t>(colors_.columns[slot]),
                        static_cast<double>(colors_.counts[slot]));
}

}  // namespace deepspec

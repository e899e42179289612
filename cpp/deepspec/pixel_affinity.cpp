#include "deepspec/pixel_affinity.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <utility>

#include "deepspec/memory.hpp"

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

// visit(i, j, entry) for i <= j, until it returns false.
template <class Visit>
void for_upper_half(const TiledMatrix& matrix, Visit visit) {
    constexpr std::size_t side = TiledMatrix::tile_size;
    std::array<float, side> entries;
    for (std::size_t i = 0; i < matrix.size(); ++i)
        for (std::size_t left = i / side * side; left < matrix.size(); left += side) {
            matrix.get_row(i, left / side, entries.data());
            for (std::size_t j = std::max(i, left); j < std::min(left + side, matrix.size()); ++j)
                if (!visit(i, j, static_cast<double>(entries[j - left]))) return;
        }
}

// A row times two vectors, which are (n, 2).
std::array<float, 2> row_sums(const CountMatrix& matrix, std::size_t row, const float* pairs) {
    std::array<float, 2> even{}, odd{};  // one sum would wait for its own additions
    const auto add = [&](std::array<float, 2>& sums, std::size_t slot) {
        const auto count = static_cast<float>(matrix.counts[slot]);
        const float* const entries = pairs + 2 * static_cast<std::size_t>(matrix.columns[slot]);
        for (std::size_t v = 0; v < 2; ++v) sums[v] += count * entries[v];
    };
    auto slot = static_cast<std::size_t>(matrix.row_starts[row]);
    const auto end = static_cast<std::size_t>(matrix.row_starts[row + 1]);
    for (; slot + 2 <= end; slot += 2) {
        add(even, slot);
        add(odd, slot + 1);
    }
    if (slot < end) add(even, slot);
    return {even[0] + odd[0], even[1] + odd[1]};
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
    const std::size_t padded = interpolation_.padded_size();
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
    const auto propose = [&](std::size_t cell, std::size_t other, double entry) {
        entry *= weights[other];
        if (entry > strongest[cell].entry) strongest[cell] = {other, entry};
    };
    for_upper_half(affinity_, [&](std::size_t a, std::size_t b, double entry) {
        propose(interpolation_.padded(a), interpolation_.padded(b), entry);
        propose(interpolation_.padded(b), interpolation_.padded(a), entry);
        return true;
    });
    bool more = true;
    for (std::size_t i = 0; more && i < interpolation_.n_vertices(); ++i)
        interpolation_.corners(i, [&](std::size_t cell, double weight) {
            const Edge& edge = strongest[cell];
            if (more && weight * edge.entry > 0.0) more = visit(i, nearest[edge.cell], weight * edge.entry);
        });
    if (!more) return;
    for_upper_half(affinity_, [&](std::size_t a, std::size_t b, double entry) {
        const std::size_t one = interpolation_.padded(a), other = interpolation_.padded(b);
        entry *= weights[one] * weights[other];
        return entry > 0.0 ? visit(nearest[one], nearest[other], entry) : true;
    });
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
    static_assert(stretch == 256);  // a byte says where in one
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
    : features_(feature_weight > 0.0 ? features : nullptr),
      feature_weight_(feature_weight),
      colors_(colors),
      color_weight_(color_weight) {
    if (features != nullptr && features->size() != colors.n)
        throw std::invalid_argument("the parts of an affinity must have one size, got " +
                                    std::to_string(features->size()) + " and " + std::to_string(colors.n) +
                                    " rows");
}

void PixelAffinity::multiply(const double* x, double* y, ThreadPool& pool, std::size_t count,
                             std::size_t stride, Detail) const {
    if (features_ != nullptr) features_->multiply(x, y, pool, count, stride);
    pool.for_blocks(size(), block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t v = 0; v < count; ++v)
            for (std::size_t i = v * stride + begin; i < v * stride + end; ++i)
                y[i] = features_ != nullptr ? feature_weight_ * y[i] : 0.0;
    });
    for (std::size_t v = 0; color_weight_ > 0.0 && v < count; v += 2)
        add_colors(x + v * stride, y + v * stride, pool, std::min<std::size_t>(2, count - v), stride);
}

void PixelAffinity::add_colors(const double* x, double* y, ThreadPool& pool, std::size_t count,
                               std::size_t stride) const {
    const std::size_t last = (count - 1) * stride;
    Buffer<float> pairs(2 * size());  // what a column's index finds of both vectors lies together
    pool.for_blocks(size(), block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            pairs.data()[2 * i] = static_cast<float>(x[i]);
            pairs.data()[2 * i + 1] = static_cast<float>(x[last + i]);
        }
    });
    pool.for_blocks(size(), block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const std::array<float, 2> sums = row_sums(colors_, i, pairs.data());
            y[i] += color_weight_ * static_cast<double>(sums[0]);
            if (count == 2) y[last + i] += color_weight_ * static_cast<double>(sums[1]);
        }
    });
}

double PixelAffinity::bytes(std::size_t n, std::size_t n_cells, bool sampled, std::size_t count) {
    const auto vertices = static_cast<double>(n), cells = static_cast<double>(n_cells);
    const double sums = sampled ? sampled_bands * vertices : (lifted_bands + 3) * cells;
    return sizeof(double) * static_cast<double>(count) * sums + (8.0 + 12.0) * vertices;
}

void PixelAffinity::visit_edges(const Visit& visit) const {
    bool more = true;
    const auto visit_weighted = [&](std::size_t i, std::size_t j, double entry) {
        if (entry > 0.0) more = visit(i, j, entry);
        return more;
    };
    if (features_ != nullptr)
        features_->visit_edges([&](std::size_t i, std::size_t j, double entry) {
            return visit_weighted(i, j, feature_weight_ * entry);
        });
    for (std::size_t i = 0; more && i < size(); ++i)
        for (auto slot = static_cast<std::size_t>(colors_.row_starts[i]);
             more && slot < static_cast<std::size_t>(colors_.row_starts[i + 1]); ++slot)
            visit_weighted(i, static_cast<std::size_t>(colors_.columns[slot]),
                           color_weight_ * static_cast<double>(colors_.counts[slot]));
}

}  // namespace deepspec

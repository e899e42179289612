#include "deepspec/pixel_affinity.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <utility>

#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"

namespace deepspec {
namespace {

constexpr std::size_t block = 2048;  // vertices in a parallel task

// What is added up for itself, and then together: neither depends on the number of threads.
constexpr std::size_t lifted_bands = 16, sampled_bands = 8;

// splitmix64: the same numbers on every platform.
std::uint64_t scrambled(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// A row's places in its stretches, one after the other: each is one byte.
class Draws {
  public:
    Draws() = default;
    Draws(std::uint64_t seed, std::size_t row) : state_(scrambled(seed + step * (row + 1))) {}

    std::size_t next() {
        bytes_ = n_drawn_++ % sizeof bytes_ == 0 ? scrambled(state_ += step) : bytes_ >> 8;
        return static_cast<std::size_t>(bytes_ & 0xff);
    }

  private:
    static_assert(SampledFeatures::stretch == 256);
    static constexpr std::uint64_t step = 0x9e3779b97f4a7c15u;

    std::uint64_t state_ = 0, bytes_ = 0;
    std::size_t n_drawn_ = 0;
};

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

}  // namespace

Interpolation::Interpolation(const Cells& cells, std::size_t image_width,
                             const std::vector<std::int32_t>& order)
    : grid_(cells.grid), places_(order.size()) {
    for (std::size_t v = 0; v < order.size(); ++v) {
        const auto pixel = static_cast<std::size_t>(order[v]);
        const auto [top, down] = between_cells(pixel / image_width, grid_.height, cells.height);
        const auto [left, right] = between_cells(pixel % image_width, grid_.width, cells.width);
        places_[v] = {static_cast<std::int32_t>(top * stride() + left), static_cast<float>(down),
                      static_cast<float>(right)};
    }
}

LiftedFeatures::LiftedFeatures(const TiledMatrix& affinity, Interpolation interpolation)
    : affinity_(affinity), interpolation_(std::move(interpolation)) {
    if (affinity.size() != interpolation_.grid().size())
        throw std::invalid_argument("the affinity must have a row for each of " +
                                    std::to_string(interpolation_.grid().size()) + " cells, got " +
                                    std::to_string(affinity.size()));
}

std::vector<double> LiftedFeatures::gathered(const float* x, ThreadPool& pool) const {
    const std::size_t n = interpolation_.n_vertices(), padded = interpolation_.padded_size();
    const std::size_t band = (n + lifted_bands - 1) / lifted_bands;
    std::vector<double> sums(lifted_bands * 2 * padded);  // of each band (cells, 2)
    pool.run(lifted_bands, [&](std::size_t b) {
        double* const own = sums.data() + b * 2 * padded;
        const std::size_t begin = std::min(n, b * band), end = std::min(n, begin + band);
        interpolation_.add(begin, end, x + 2 * begin, own);
    });
    const std::size_t n_cells = interpolation_.grid().size();
    std::vector<double> result(2 * n_cells);
    for (std::size_t b = 0; b < lifted_bands; ++b)
        for (std::size_t cell = 0; cell < n_cells; ++cell)
            for (std::size_t v = 0; v < 2; ++v)
                result[v * n_cells + cell] += sums[2 * (b * padded + interpolation_.padded(cell)) + v];
    return result;
}

// A U^T X, padded.
std::vector<float> LiftedFeatures::begin_product(const float* x, ThreadPool& pool) const {
    const std::size_t n_cells = interpolation_.grid().size();
    const std::vector<double> inputs = gathered(x, pool);
    std::vector<double> products(2 * n_cells);
    std::vector<float> padded(2 * interpolation_.padded_size());
    TiledMatrix::Product product(affinity_, inputs.data(), 2, n_cells);
    pool.run(product.n_tasks(), [&](std::size_t task) { product.run(task); });
    product.add_to(products.data(), pool);
    for (std::size_t cell = 0; cell < n_cells; ++cell)
        for (std::size_t v = 0; v < 2; ++v)
            padded[2 * interpolation_.padded(cell) + v] = static_cast<float>(products[v * n_cells + cell]);
    return padded;
}

void LiftedFeatures::product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                                  float* y) const {
    interpolation_.get(begin, end, shared.data(), y);
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
    const auto visit_corner = [&](std::size_t i, std::size_t which) {
        const auto [cell, weight] = interpolation_.corner(i, which);
        const Edge& edge = strongest[cell];
        if (weight * edge.entry > 0.0) more = visit(i, nearest[edge.cell], weight * edge.entry);
    };
    // Most graphs are joined by one edge of each vertex and the first cells'.
    const std::size_t n = interpolation_.n_vertices();
    for (std::size_t i = 0; more && i < n; ++i) visit_corner(i, interpolation_.nearest_corner(i));
    for_upper_half(affinity_, [&](std::size_t a, std::size_t b, double entry) {
        const std::size_t one = interpolation_.padded(a), other = interpolation_.padded(b);
        entry *= weights[one] * weights[other];
        if (more && entry > 0.0) more = visit(nearest[one], nearest[other], entry);
        return more;
    });
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t which = 0; more && which < 4; ++which) visit_corner(i, which);
}

SampledFeatures::SampledFeatures(const float* gram, Interpolation interpolation, std::uint64_t seed)
    : gram_(gram), interpolation_(std::move(interpolation)), seed_(seed) {}

void SampledFeatures::fill_row(std::size_t i, float* row) const {
    const Grid grid = interpolation_.grid();
    const std::size_t padded_width = grid.width + 1;
    std::fill_n(row, interpolation_.padded_size(), 0.0f);
    interpolation_.corners(i, [&](std::size_t cell, double weight) {
        if (weight == 0.0) return;
        const std::size_t unpadded = cell / padded_width * grid.width + cell % padded_width;
        const float* const own = gram_ + unpadded * grid.size();
        const auto factor = static_cast<float>(weight);
        for (std::size_t r = 0; r < grid.height; ++r)
            for (std::size_t c = 0; c < grid.width; ++c)
                row[r * padded_width + c] += factor * own[r * grid.width + c];
    });
}

template <class Visit>
void SampledFeatures::for_drawn(std::size_t first, Visit visit) const {
    static_assert(stretch % group == 0);  // a group's rows begin with one stretch
    const std::size_t n = size(), end = std::min(n, first + group), padded = interpolation_.padded_size();
    Buffer<float> rows(group * padded);
    std::array<Draws, group> draws;
    for (std::size_t i = first; i < end; ++i) {
        fill_row(i, rows.data() + (i - first) * padded);
        draws[i - first] = Draws(seed_, i);
    }
    for (std::size_t begin = first / stretch * stretch; begin < n; begin += stretch)
        for (std::size_t i = first; i < end; ++i) {
            const std::size_t j = begin + draws[i - first].next();
            if (j < i || j >= n) continue;
            const float* const row = rows.data() + (i - first) * padded;
            double entry = 0.0;
            interpolation_.corners(j, [&](std::size_t cell, double weight) {
                entry += weight * static_cast<double>(row[cell]);
            });
            if (entry > 0.0) visit(i, j, entry);
        }
}

// All rows: an entry is drawn once for both of its halves.
std::vector<float> SampledFeatures::begin_product(const float* x, ThreadPool& pool) const {
    const std::size_t n = size();
    std::vector<double> sums(sampled_bands * 2 * n);  // of each band (n, 2)
    // Earlier rows have more entries: groups are dealt to the bands in turn.
    pool.run(sampled_bands, [&](std::size_t band) {
        double* const own = sums.data() + band * 2 * n;
        for (std::size_t first = band * group; first < n; first += sampled_bands * group)
            for_drawn(first, [&](std::size_t i, std::size_t j, double entry) {
                for (std::size_t v = 0; v < 2; ++v) {
                    own[2 * i + v] += entry * static_cast<double>(x[2 * j + v]);
                    if (j != i) own[2 * j + v] += entry * static_cast<double>(x[2 * i + v]);
                }
            });
    });
    std::vector<float> products(2 * n);
    pool.for_blocks(2 * n, block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            double sum = 0.0;
            for (std::size_t band = 0; band < sampled_bands; ++band) sum += sums[band * 2 * n + i];
            products[i] = static_cast<float>(sum);
        }
    });
    return products;
}

void SampledFeatures::product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                                   float* y) const {
    std::copy(shared.data() + 2 * begin, shared.data() + 2 * end, y);
}

void SampledFeatures::visit_edges(const Affinity::Visit& visit) const {
    bool more = true;
    for (std::size_t first = 0; more && first < size(); first += group)
        for_drawn(first,
                  [&](std::size_t i, std::size_t j, double entry) { more = more && visit(i, j, entry); });
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

template <class Number, class Finish>
void PixelAffinity::multiply_two(const double* f, const Number* first, const Number* second, ThreadPool& pool,
                                 Finish finish) const {
    constexpr std::size_t slice = CountMatrix::slice;
    static_assert(block % slice == 0);
    const std::size_t n = size();
    Buffer<float> pairs(2 * n);  // what a column's index finds of both vectors lies together
    pool.for_blocks(n, block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const double factor = f != nullptr ? f[i] : 1.0;
            pairs.data()[2 * i] = static_cast<float>(factor * static_cast<double>(first[i]));
            pairs.data()[2 * i + 1] = static_cast<float>(factor * static_cast<double>(second[i]));
        }
    });
    std::vector<float> shared;
    if (features_ != nullptr) shared = features_->begin_product(pairs.data(), pool);
    pool.for_blocks(n, block, [&](std::size_t begin, std::size_t end) {
        std::array<float, 2 * block> of_colors{}, of_features{};
        if (features_ != nullptr) features_->product_rows(shared, begin, end, of_features.data());
        if (color_weight_ > 0.0)
            kernels::selected().pixels.count_products(colors_.slice_starts.data(), colors_.columns.data(),
                                                      colors_.counts.data(), pairs.data(), begin / slice,
                                                      (end + slice - 1) / slice, of_colors.data());
        for (std::size_t i = begin; i < end; ++i) {
            std::array<double, 2> sums;
            for (std::size_t v = 0; v < 2; ++v)
                sums[v] = color_weight_ * static_cast<double>(of_colors[2 * (i - begin) + v]) +
                          feature_weight_ * static_cast<double>(of_features[2 * (i - begin) + v]);
            finish(i, sums);
        }
    });
}

void PixelAffinity::multiply(const double* x, double* y, ThreadPool& pool, std::size_t count,
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
void PixelAffinity::combine_all(Terms terms, const double* f, const Number* x, Number* y, ThreadPool& pool,
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

void PixelAffinity::combine(Terms terms, const double* f, const double* x, double* y, ThreadPool& pool,
                            std::size_t count, std::size_t stride, Detail) const {
    combine_all(terms, f, x, y, pool, count, stride);
}

void PixelAffinity::combine(Terms terms, const double* f, const float* x, float* y, ThreadPool& pool,
                            std::size_t count, std::size_t stride, Detail) const {
    combine_all(terms, f, x, y, pool, count, stride);
}

double PixelAffinity::bytes(std::size_t n, std::size_t n_cells, bool sampled) {
    const auto vertices = static_cast<double>(n), cells = static_cast<double>(n_cells);
    const double sums = sampled ? sampled_bands * vertices : (lifted_bands + 3) * cells;
    return 2.0 * sizeof(double) * sums + (16.0 + 12.0) * vertices;
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
        colors_.visit_row(i, [&](std::size_t j, std::uint8_t count) {
            return visit_weighted(i, j, color_weight_ * static_cast<double>(count));
        });
}

}  // namespace deepspec

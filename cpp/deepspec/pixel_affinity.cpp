#include "deepspec/pixel_affinity.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <utility>

#include "deepspec/columns.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"

namespace deepspec {
namespace {

// What is added up for itself, and then together: neither depends on the number of threads.
constexpr std::size_t sampled_bands = 8;
constexpr std::size_t lifted_bands(std::size_t n) { return n <= 65536 ? 4 : 16; }

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

LiftedFeatures::LiftedFeatures(const FeatureAffinity& cells, Interpolation interpolation)
    : cells_(cells), interpolation_(std::move(interpolation)) {
    if (cells.size() != interpolation_.grid().size())
        throw std::invalid_argument("the affinity must have a row for each of " +
                                    std::to_string(interpolation_.grid().size()) + " cells, got " +
                                    std::to_string(cells.size()));
}

double LiftedFeatures::bytes(std::size_t n, std::size_t n_cells) {
    return Interpolation::bytes(n) +
           2.0 * sizeof(double) * static_cast<double>(lifted_bands(n) + 3) * static_cast<double>(n_cells);
}

std::vector<float> LiftedFeatures::gathered(const float* x, ThreadPool& pool) const {
    const std::size_t n = interpolation_.n_vertices(), padded = interpolation_.padded_size();
    const std::size_t n_bands = lifted_bands(n), band = (n + n_bands - 1) / n_bands;
    std::vector<double> sums(n_bands * 2 * padded);  // of each band (cells, 2)
    pool.run(n_bands, [&](std::size_t b) {
        double* const own = sums.data() + b * 2 * padded;
        const std::size_t begin = std::min(n, b * band), end = std::min(n, begin + band);
        interpolation_.add(begin, end, x + 2 * begin, own);
    });
    const std::size_t n_cells = interpolation_.grid().size();
    std::vector<float> result(2 * n_cells);
    for (std::size_t cell = 0; cell < n_cells; ++cell)
        for (std::size_t v = 0; v < 2; ++v) {
            double sum = 0.0;
            for (std::size_t b = 0; b < n_bands; ++b)
                sum += sums[2 * (b * padded + interpolation_.padded(cell)) + v];
            result[2 * cell + v] = static_cast<float>(sum);
        }
    return result;
}

// A U^T X, padded.
std::vector<float> LiftedFeatures::begin_product(const float* x, ThreadPool& pool) const {
    const std::size_t n_cells = interpolation_.grid().size();
    const std::vector<float> inputs = gathered(x, pool), shared = cells_.begin_product(inputs.data(), pool);
    std::vector<float> products(2 * n_cells), padded(2 * interpolation_.padded_size());
    pool.for_blocks(n_cells, columns::even_rows(n_cells), [&](std::size_t begin, std::size_t end) {
        cells_.product_rows(shared, begin, end, products.data() + 2 * begin);
    });
    for (std::size_t cell = 0; cell < n_cells; ++cell)
        for (std::size_t v = 0; v < 2; ++v)
            padded[2 * interpolation_.padded(cell) + v] = products[2 * cell + v];
    return padded;
}

void LiftedFeatures::product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                                  float* y) const {
    interpolation_.get(begin, end, shared.data(), y);
}

LiftedTiles::LiftedTiles(const TiledFeatures& cells, Interpolation interpolation)
    : LiftedFeatures(cells, std::move(interpolation)), cells_(cells.matrix()) {}

// Every vertex is joined to one that stands for a cell, the nearest to its centre, which it has an entry
// with; and those of cells that have one with each other.
void LiftedTiles::visit_edges(const Affinity::Visit& visit) const {
    const std::size_t padded = interpolation().padded_size();
    std::vector<std::size_t> nearest(padded, 0);
    std::vector<double> weights(padded, 0.0);
    for (std::size_t i = 0; i < interpolation().n_vertices(); ++i)
        interpolation().corners(i, [&](std::size_t cell, double weight) {
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
    for_upper_half(cells_, [&](std::size_t a, std::size_t b, double entry) {
        propose(interpolation().padded(a), interpolation().padded(b), entry);
        propose(interpolation().padded(b), interpolation().padded(a), entry);
        return true;
    });
    bool more = true;
    const auto visit_corner = [&](std::size_t i, std::size_t which) {
        const auto [cell, weight] = interpolation().corner(i, which);
        const Edge& edge = strongest[cell];
        if (weight * edge.entry > 0.0) more = visit(i, nearest[edge.cell], weight * edge.entry);
    };
    // Most graphs are joined by one edge of each vertex and the first cells'.
    const std::size_t n = interpolation().n_vertices();
    for (std::size_t i = 0; more && i < n; ++i) visit_corner(i, interpolation().nearest_corner(i));
    for_upper_half(cells_, [&](std::size_t a, std::size_t b, double entry) {
        const std::size_t one = interpolation().padded(a), other = interpolation().padded(b);
        entry *= weights[one] * weights[other];
        if (more && entry > 0.0) more = visit(nearest[one], nearest[other], entry);
        return more;
    });
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t which = 0; more && which < 4; ++which) visit_corner(i, which);
}

SampledFeatures::SampledFeatures(const float* gram, Interpolation interpolation, std::uint64_t seed)
    : gram_(gram), interpolation_(std::move(interpolation)), seed_(seed) {}

double SampledFeatures::bytes(std::size_t n) {
    return Interpolation::bytes(n) + 2.0 * sizeof(double) * sampled_bands * static_cast<double>(n);
}

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
    pool.for_blocks(2 * n, 2 * columns::even_rows(n), [&](std::size_t begin, std::size_t end) {
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
    : ImplicitAffinity(features != nullptr ? &features->affinity() : nullptr, feature_weight, colors,
                       color_weight),
      features_(feature_weight > 0.0 ? features : nullptr),
      feature_weight_(feature_weight),
      colors_(colors),
      color_weight_(color_weight) {}

void PixelAffinity::visit_edges(const Visit& visit, const Settled&, ThreadPool&) const {
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

#include "deepspec/factored_affinity.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "deepspec/columns.hpp"
#include "deepspec/golden.hpp"
#include "deepspec/gram_tiles.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/pixel_affinity.hpp"

namespace deepspec {
namespace {

using kernels::tile_entries;
using kernels::tile_size;

// What the rounding of an inner product may make of 0.
constexpr float rounding = 0x1p-23f;

// The part of pairs of cells, of a sample, whose features' product is negative.
double negative_part(const ScaledFeatures& features, ThreadPool& pool) {
    constexpr std::size_t most = 128, block = 16;
    const std::size_t n = features.grid().size(), count = std::min(n, most);
    const std::size_t length = columns::padded(features.channels());
    std::vector<float> cells(count * length, 0.0f);
    pool.for_blocks(count, block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t s = begin; s < end; ++s) {
            const auto cell = static_cast<std::size_t>(golden_fraction(s) * static_cast<double>(n));
            features.get(cell, cells.data() + s * length);
        }
    });
    std::atomic<std::size_t> negative = 0;
    pool.for_blocks(count, block, [&](std::size_t begin, std::size_t end) {
        std::array<double, most * block> products;  // of these cells with those before them
        const float* const own = cells.data() + begin * length;
        kernels::selected().long_floats.dots(cells.data(), length, end, own, end - begin, length,
                                             products.data());
        for (std::size_t s = begin; s < end; ++s) {
            const double* const row = products.data() + (s - begin) * end;
            negative += static_cast<std::size_t>(
                std::count_if(row, row + s, [](double product) { return product < 0.0; }));
        }
    });
    return 2.0 * static_cast<double>(negative) / static_cast<double>(count * count);
}

// How many negative entries there may be, if factors are to be taken at all.
std::optional<std::size_t> most_negatives(const ScaledFeatures& features, Grid grid, ThreadPool& pool) {
    constexpr std::size_t small = 512;  // floats of so few rows stay in the second-level cache
    // Beside a multiply-add of a tile: one of the factor, at most (of its floats), and one that gathers.
    constexpr double of_factor = 1.2, of_gather = 4.0, worthwhile = 0.7;
    constexpr double most = 0.07;  // of all entries: they take the memory of fixed16 tiles then
    const auto n = static_cast<double>(grid.size()), own = static_cast<double>(features.grid().size());
    const double factor = of_factor * 2.0 * own * static_cast<double>(features.channels()) / (n * n);
    if (grid.size() <= small || factor >= worthwhile) return std::nullopt;
    const double part = negative_part(features, pool);  // a sample's: what is allowed has room for its error
    if (part > 0.7 * most || factor + of_gather * part >= worthwhile) return std::nullopt;
    return static_cast<std::size_t>(most * n * n);
}

// The bits from `begin` to `end`, which is below 64.
std::uint64_t bits_between(std::size_t begin, std::size_t end) {
    const auto below = [](std::size_t bound) { return (std::uint64_t{1} << bound) - 1; };
    return below(end) & ~below(std::min(begin, end));
}

// An entry of a tile.
struct Negative {
    std::uint16_t row, column;
    float value;
};

// The negative entries of the tiles of an upper half, and what they add to rows.
class Negatives {
  public:
    // Entries are given divided by `scale`.
    Negatives(std::size_t n, std::size_t most, float scale)
        : n_(n),
          tile_rows_((n + tile_size - 1) / tile_size),
          most_(most),
          scale_(scale),
          tiles_(tile_rows_ * tile_rows_) {}

    // Of a tile; of one on the diagonal, those above it. Entries, times the scale, are off by up to `error`;
    // correct(i, columns, count, entries) may correct those of a row that may be negative.
    template <class Correct>
    void add(std::size_t row, std::size_t column, const float* tile, float error, Correct correct) {
        constexpr std::size_t word = 16, words = tile_size / word, chunk = 48;
        static_assert(tile_size % chunk == 0 && chunk % word == 0);
        std::array<std::uint16_t, tile_entries / word> above;
        kernels::selected().to_bits(tile, (error - rounding) / scale_, above.data());
        std::vector<Negative>& found = tiles_[row * tile_rows_ + column];
        const std::size_t first_row = row * tile_size, first_column = column * tile_size;
        const std::size_t n_rows = std::min(tile_size, n_ - first_row);
        const std::size_t n_columns = std::min(tile_size, n_ - first_column);
        std::array<std::uint32_t, tile_size> columns;
        std::array<float, tile_size> entries;
        for (std::size_t i = 0; i < n_rows; ++i) {
            const std::size_t begin = row == column ? i + 1 : 0;
            std::size_t count = 0;
            for (std::size_t first = 0; first < n_columns; first += chunk) {
                std::uint64_t rest =
                    bits_between(std::max(begin, first) - first, std::min(chunk, n_columns - first));
                for (std::size_t w = 0; w < chunk / word; ++w)
                    rest &= ~(std::uint64_t{above[i * words + first / word + w]} << w * word);
                for (; rest != 0; rest &= rest - 1) {
                    const std::size_t j = first + static_cast<std::size_t>(std::countr_zero(rest));
                    entries[count] = tile[i * tile_size + j];
                    columns[count++] = static_cast<std::uint32_t>(first_column + j);
                }
            }
            if (count == 0) continue;
            correct(first_row + i, columns.data(), count, entries.data());
            for (std::size_t k = 0; k < count; ++k)
                if (const float entry = scale_ * entries[k]; entry < -rounding)
                    found.push_back({static_cast<std::uint16_t>(i),
                                     static_cast<std::uint16_t>(columns[k] - first_column), entry});
        }
        if ((count_ += 2 * found.size()) > most_) std::vector<Negative>().swap(found);
    }

    bool too_many() const { return count_ > most_; }

    // What makes them 0, in both halves, and `weight` times another matrix; `sums` are set to those of the
    // former's rows.
    RowMatrix correction(std::optional<SparseView> other, double weight, std::vector<double>& sums,
                         ThreadPool& pool) const {
        constexpr auto unit = static_cast<std::int64_t>(RowMatrix::unit);
        RowMatrix result(n_);
        std::vector<std::int64_t>& starts = result.row_starts;
        pool.run(tile_rows_, [&](std::size_t tile_row) {
            const std::size_t first = tile_row * tile_size, n_rows = std::min(tile_size, n_ - first);
            std::int64_t* const lengths = starts.data() + first + 1;
            for (std::size_t i = 0; other && i < n_rows; ++i)
                lengths[i] = other->row_starts[first + i + 1] - other->row_starts[first + i];
            visit_rows(tile_row, [&](std::size_t i, std::size_t, float) { ++lengths[i]; });
            for (std::size_t i = 0; i < n_rows; ++i) lengths[i] = (lengths[i] + unit - 1) / unit * unit;
        });
        std::partial_sum(starts.begin(), starts.end(), starts.begin());
        result.columns.resize(static_cast<std::size_t>(starts.back()));
        result.entries.resize(result.columns.size());
        sums.assign(n_, 0.0);
        pool.run(tile_rows_, [&](std::size_t tile_row) {
            const std::size_t first = tile_row * tile_size, n_rows = std::min(tile_size, n_ - first);
            std::array<std::int64_t, tile_size> slots;
            std::copy_n(starts.data() + first, n_rows, slots.begin());
            const auto put = [&](std::size_t i, std::size_t column, float entry) {
                const auto slot = static_cast<std::size_t>(slots[i]++);
                result.columns[slot] = static_cast<std::int32_t>(column);
                result.entries[slot] = entry;
            };
            for (std::size_t i = 0; other && i < n_rows; ++i)
                for (std::int64_t at = other->row_starts[first + i]; at < other->row_starts[first + i + 1];
                     ++at)
                    put(i, static_cast<std::size_t>(other->columns[at]),
                        static_cast<float>(weight * other->values[at]));
            visit_rows(tile_row, [&](std::size_t i, std::size_t column, float entry) {
                put(i, column, entry);
                sums[first + i] += static_cast<double>(entry);
            });
            for (std::size_t i = 0; i < n_rows; ++i)
                while (slots[i] < starts[first + i + 1]) put(i, first + i, 0.0f);
        });
        return result;
    }

  private:
    // visit(row within the tiles, column, what relu adds) for a row of tiles of both halves.
    template <class Visit>
    void visit_rows(std::size_t tile_row, Visit visit) const {
        for (std::size_t above = 0; above <= tile_row; ++above)
            for (const Negative& entry : tiles_[above * tile_rows_ + tile_row])
                visit(entry.column, above * tile_size + entry.row, -entry.value);
        for (std::size_t right = tile_row; right < tile_rows_; ++right)
            for (const Negative& entry : tiles_[tile_row * tile_rows_ + right])
                visit(entry.row, right * tile_size + entry.column, -entry.value);
    }

    std::size_t n_, tile_rows_, most_;
    float scale_;
    std::vector<std::vector<Negative>> tiles_;
    std::atomic<std::size_t> count_ = 0;
};

// The features' tiles and the negative entries; then these, what becomes of them, and the factor.
double bytes(const ScaledFeatures& features, Grid grid, std::size_t most, std::size_t n_other, double tiles) {
    constexpr double filled = 1.1;  // rows to a multiple of a few
    const std::size_t n = grid.size(), own = features.grid().size();
    const double found =
        sizeof(Negative) * static_cast<double>(most);  // half of them, in vectors that doubled
    const double sparse =
        filled * (sizeof(std::int32_t) + sizeof(float)) * static_cast<double>(most + n_other);
    const double factor = FactoredFeatures::bytes(own, features.channels()) +
                          RoundedFeatures::bytes(own, features.channels()) +
                          (own == n ? 0.0 : 2.0 * LiftedFeatures::bytes(n, own));
    return found + factor + std::max(tiles, sparse);
}

}  // namespace

std::unique_ptr<FactoredGram> factored_gram(const ScaledFeatures& features, const GramOptions& options,
                                            std::optional<SparseView> other, double weight, double budget,
                                            ThreadPool& pool) {
    const Grid own = features.grid(), grid{options.height, options.width};
    const bool over_own = goes_over_own_grid(own, grid);
    // Few channels cost little, and so do those of a coarse grid: there the entries are right at once.
    // Elsewhere those that may be negative are worked out once more, unless features may be rounded.
    const bool searches = own == grid && features.channels() > 64;
    const kernels::Gram& kernel =
        searches ? kernels::gram(kernels::Digits::signs) : gram_kernel(options, features.channels());
    const float error = searches && !options.bfloat16 ? kernels::signs_error(features.channels()) : 0.0f;
    const std::optional<std::size_t> most = most_negatives(features, grid, pool);
    if (!most || weight > RowMatrix::largest_weight) return nullptr;
    const double tiles_bytes =
        gram_tiles_bytes(own, grid, features.channels(), over_own, kernel, pool.size());
    const std::int64_t n_other = other ? other->row_starts[other->n] : 0;
    if (bytes(features, grid, *most, static_cast<std::size_t>(n_other), tiles_bytes) > budget) return nullptr;
    auto result = std::make_unique<FactoredGram>();
    result->other = other;
    result->weight = weight;
    auto factor = std::make_unique<FactoredFeatures>(features, pool);
    auto tiles = make_gram_tiles(features, grid, over_own, kernel, pool);
    result->scale = static_cast<double>(tiles->scale());
    Negatives negatives(grid.size(), *most, tiles->scale());
    const auto correct = [&](std::size_t i, const std::uint32_t* columns, std::size_t count, float* entries) {
        if (error != 0.0f) factor->get_entries(i, columns, count, entries);
    };
    tiles->for_each(pool, [&](std::size_t row, std::size_t column, const float* tile) {
        if (!negatives.too_many()) negatives.add(row, column, tile, error, correct);
    });
    tiles.reset();
    if (negatives.too_many()) return nullptr;
    result->sparse = negatives.correction(other, weight, result->added, pool);
    auto words = std::make_unique<RoundedFeatures>(*factor, pool);
    result->rounding = words->rounding();
    result->exact = FeaturesOfGrid(std::move(factor), own, grid);
    result->rounded = FeaturesOfGrid(std::move(words), own, grid);
    return result;
}

FeaturesOfGrid::FeaturesOfGrid(std::unique_ptr<const FeatureAffinity> cells, Grid own, Grid grid)
    : cells_(std::move(cells)) {
    if (own == grid) return;
    std::vector<std::int32_t> order(grid.size());
    std::iota(order.begin(), order.end(), 0);
    const Cells places{own, static_cast<double>(grid.height) / static_cast<double>(own.height),
                       static_cast<double>(grid.width) / static_cast<double>(own.width)};
    lifted_ = std::make_unique<LiftedFeatures>(*cells_, Interpolation(places, grid.width, order));
}

FactoredAffinity::FactoredAffinity(const FactoredGram& gram, bool rounded)
    : ImplicitAffinity(&(rounded ? gram.rounded : gram.exact).features(), gram.scale, gram.sparse, 1.0),
      gram_(gram),
      rounded_(rounded) {}

bool FactoredAffinity::tolerates(const Laplacian& laplacian, double tolerance) const {
    double inverses = 0.0, largest_inverse = 0.0;
    for (std::size_t i = 0; i < size(); ++i) {
        const double degree = laplacian.isolated(i) ? 0.0 : laplacian.degrees()[i];
        if (finest_tolerance * (degree + 2.0 * gram_.added[i]) > tolerance * degree) return false;
        if (degree == 0.0) continue;
        inverses += 1.0 / degree;
        largest_inverse = std::max(largest_inverse, 1.0 / degree);
    }
    if (!rounded_) return true;
    // With F + R in place of F, W y is off by R F^T y and F R^T y. Where y' D y = 1, F^T y and D^-1/2 F are
    // at most 1 long.
    const double spread = static_cast<double>(size()) / static_cast<double>(gram_.exact.n_cells());
    const double square = gram_.scale * (gram_.rounding.of_channels * inverses +
                                         gram_.rounding.of_rows * spread * largest_inverse);
    return std::sqrt(square) <= 0.5 * tolerance;
}

bool FactoredAffinity::visit_row(std::size_t i, const FeaturesOfGrid& of_grid, double error,
                                 const Visit& visit, ThreadPool& pool) const {
    const FeatureAffinity& features = of_grid.features();
    std::vector<float> unit(2 * size(), 0.0f), products(2 * size());
    unit[2 * i] = 1.0f;
    const std::vector<float> shared = features.begin_product(unit.data(), pool);
    pool.for_blocks(size(), columns::even_rows(size()), [&](std::size_t begin, std::size_t end) {
        features.product_rows(shared, begin, end, products.data() + 2 * begin);
    });
    for (std::size_t j = 0; j < size(); ++j) {
        const double entry = gram_.scale * (static_cast<double>(products[2 * j]) - error);
        if (entry > 0.0 && !visit(i, j, entry)) return false;
    }
    return true;
}

// A row is a product. One of a vertex that most others are connected with mostly suffices, of rounded
// features, where these leave no doubt that there is an edge.
void FactoredAffinity::visit_edges(const Visit& visit, const Settled& settled, ThreadPool& pool) const {
    std::size_t first = 0;
    while (first + 1 < size() && !settled(first)) ++first;
    // Half a unit of each channel, of one feature and of the other, which are at most 1 long.
    const double error = 1.01 * std::sqrt(12.0 * gram_.rounding.of_rows);
    if (!visit_row(first, gram_.rounded, error, visit, pool)) return;
    if (const std::optional<SparseView>& other = gram_.other)
        for (std::size_t i = 0; i < size(); ++i)
            for (std::int64_t slot = other->row_starts[i]; slot < other->row_starts[i + 1]; ++slot) {
                const double entry = gram_.weight * other->values[slot];
                if (entry > 0.0 && !visit(i, static_cast<std::size_t>(other->columns[slot]), entry)) return;
            }
    for (std::size_t i = 0; i < size(); ++i)
        if (!settled(i) && !visit_row(i, gram_.exact, 0.0, visit, pool)) return;
}

}  // namespace deepspec

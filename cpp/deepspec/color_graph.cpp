#include "deepspec/color_graph.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "deepspec/kd_tree.hpp"

namespace deepspec {
namespace {

constexpr std::size_t row_block = 128;  // rows in a parallel task
constexpr std::size_t leaf_block = 8;   // leaves in a parallel task
constexpr std::size_t most_bands = 4;   // of rows, when they are transposed
constexpr std::size_t window = 256;     // rows put in order of their length: what is near stays near

// The rows of a sparse matrix: distinct or repeated columns in no order. A row may end before the next
// begins.
struct Rows {
    std::vector<std::int64_t> starts;
    LargeVector<std::int32_t> columns;

    std::size_t size() const { return starts.size() - 1; }
    std::size_t length(std::size_t i) const { return static_cast<std::size_t>(starts[i + 1] - starts[i]); }
    std::span<std::int32_t> of(std::size_t i) { return {columns.data() + starts[i], length(i)}; }
    std::span<const std::int32_t> of(std::size_t i) const { return {columns.data() + starts[i], length(i)}; }
};

// coordinate(0) … coordinate(count - 1) run from 0 to 1.
double coordinate(std::size_t index, std::size_t count) {
    return count > 1 ? static_cast<double>(index) / static_cast<double>(count - 1) : 0.0;
}

// Rows of as many columns each.
Rows equal_rows(std::size_t n, std::size_t length) {
    Rows rows{std::vector<std::int64_t>(n + 1), LargeVector<std::int32_t>(n * length)};
    for (std::size_t i = 0; i <= n; ++i) rows.starts[i] = static_cast<std::int64_t>(i * length);
    return rows;
}

// The points of an image, of each of which the `neighbors` nearest are wanted.
template <std::size_t D>
struct PointSearch {
    LargeVector<std::array<double, D>> points;
    std::size_t neighbors;
};

template <std::size_t D>
using Trees = std::vector<std::optional<KdTree<D>>>;

template <std::size_t D>
Trees<D> plant(std::span<const PointSearch<D>> searches, ThreadPool& pool) {
    Trees<D> trees(searches.size());
    pool.run(trees.size(), [&](std::size_t s) { trees[s].emplace(searches[s].points); });
    return trees;
}

std::vector<std::int32_t> inverse(const std::vector<std::int32_t>& order) {
    std::vector<std::int32_t> places(order.size());
    for (std::size_t i = 0; i < order.size(); ++i)
        places[static_cast<std::size_t>(order[i])] = static_cast<std::int32_t>(i);
    return places;
}

// What each tree's points are called, by slot.
using Labels = std::vector<std::span<const std::int32_t>>;

// The neighbours of every point, those of the first search, then those of the next, in the row of its label.
template <std::size_t D>
Rows find_neighbors(const Trees<D>& trees, std::span<const PointSearch<D>> searches, const Labels& labels,
                    ThreadPool& pool) {
    std::vector<std::size_t> offsets;
    std::size_t length = 0;
    for (const PointSearch<D>& search : searches) {
        offsets.push_back(length);
        length += search.neighbors;
    }
    Rows rows = equal_rows(searches.front().points.size(), length);
    const std::size_t n_leaves = trees.front()->n_leaves();
    const std::size_t n_blocks = (n_leaves + leaf_block - 1) / leaf_block;
    pool.run(searches.size() * n_blocks, [&](std::size_t task) {
        const std::size_t s = task / n_blocks, begin = task % n_blocks * leaf_block;
        const std::span<const std::int32_t> label = labels[s];
        trees[s]->search(begin, std::min(begin + leaf_block, n_leaves), searches[s].neighbors,
                         [&](std::size_t slot, std::span<const std::int32_t> nearest) {
                             std::int32_t* out =
                                 rows.of(static_cast<std::size_t>(label[slot])).data() + offsets[s];
                             for (const std::int32_t near : nearest)
                                 *out++ = label[static_cast<std::size_t>(near)];
                         });
    });
    return rows;
}

// Between points in their own order.
template <std::size_t D>
Rows find_neighbors(std::span<const PointSearch<D>> searches, ThreadPool& pool) {
    const Trees<D> trees = plant(searches, pool);
    Labels labels;
    for (const auto& tree : trees) labels.push_back(tree->order());
    return find_neighbors(trees, searches, labels, pool);
}

// Between points in the order of the last tree, whose neighbours lie far apart in the image.
template <std::size_t D>
Rows find_ordered_neighbors(std::vector<PointSearch<D>> searches, std::vector<std::int32_t>& order,
                            ThreadPool& pool) {
    const Trees<D> trees = plant<D>(searches, pool);
    order.assign(trees.back()->order().begin(), trees.back()->order().end());
    const std::vector<std::int32_t> numbers = inverse(order);
    std::vector<std::vector<std::int32_t>> numbered(trees.size());
    pool.run(trees.size(), [&](std::size_t s) {
        numbered[s].reserve(numbers.size());
        for (const std::int32_t i : trees[s]->order())
            numbered[s].push_back(numbers[static_cast<std::size_t>(i)]);
    });
    return find_neighbors<D>(trees, searches, Labels(numbered.begin(), numbered.end()), pool);
}

// Bands of rows count what they have of each column, then write it after what earlier ones have.
Rows transposed(const Rows& rows, ThreadPool& pool) {
    const std::size_t n = rows.size(),
                      n_bands = std::min<std::size_t>(most_bands, static_cast<std::size_t>(pool.size()));
    LargeVector<std::int64_t> slots(n_bands * n);
    const auto for_entries = [&](std::size_t band, const auto& visit) {
        for (std::size_t i = band * n / n_bands; i < (band + 1) * n / n_bands; ++i)
            for (const std::int32_t j : rows.of(i)) visit(slots[band * n + static_cast<std::size_t>(j)], i);
    };
    pool.run(n_bands, [&](std::size_t band) {
        std::fill_n(slots.data() + band * n, n, 0);
        for_entries(band, [](std::int64_t& count, std::size_t) { ++count; });
    });
    Rows result{std::vector<std::int64_t>(n + 1), LargeVector<std::int32_t>(rows.columns.size())};
    std::int64_t next = 0;
    for (std::size_t j = 0; j < n; ++j) {
        result.starts[j] = next;
        for (std::size_t band = 0; band < n_bands; ++band) next += std::exchange(slots[band * n + j], next);
    }
    result.starts[n] = next;
    pool.run(n_bands, [&](std::size_t band) {
        for_entries(band, [&](std::int64_t& slot, std::size_t i) {
            result.columns[static_cast<std::size_t>(slot++)] = static_cast<std::int32_t>(i);
        });
    });
    return result;
}

// Distinct columns at the beginning of each row, and how often each was found.
struct CountedRows {
    Rows rows;
    LargeVector<std::uint8_t> counts = LargeVector<std::uint8_t>(rows.columns.size());
    std::vector<std::size_t> lengths = std::vector<std::size_t>(rows.size());

    // Keeps the first of each column that `tally` has and keep(column, count) accepts, and takes it from
    // there.
    template <class Keep>
    void condense(std::size_t i, std::uint8_t* tally, Keep keep) {
        const std::span<std::int32_t> columns = rows.of(i);
        std::uint8_t* const out = counts.data() + rows.starts[i];
        std::size_t length = 0;
        for (const std::int32_t j : columns) {
            std::uint8_t& count = tally[j];
            columns[length] = j;
            out[length] = count;
            length += count != 0 && keep(static_cast<std::size_t>(j), count);
            count = 0;
        }
        lengths[i] = length;
    }
};

// Rows and their transpose, of which row i together has each column once.
struct SymmetricRows {
    CountedRows forward, backward;

    std::size_t size() const { return forward.rows.size(); }
    std::size_t length(std::size_t i) const { return forward.lengths[i] + backward.lengths[i]; }

    // visit(j, count) for the entries of row i.
    template <class Visit>
    void visit(std::size_t i, Visit visit) const {
        for (const CountedRows* part : {&forward, &backward}) {
            const std::int32_t* columns = part->rows.of(i).data();
            const std::uint8_t* counts = part->counts.data() + part->rows.starts[i];
            for (std::size_t s = 0; s < part->lengths[i]; ++s) visit(columns[s], counts[s]);
        }
    }
};

// keep(i, j, count) says which entries are wanted.
template <class Keep>
SymmetricRows symmetric_rows(Rows found, Keep keep, ThreadPool& pool) {
    const std::size_t n = found.size();
    CountedRows backward{transposed(found, pool)};
    SymmetricRows result{{std::move(found)}, std::move(backward)};
    pool.for_blocks(n, std::max(row_block, n / 256), [&](std::size_t begin, std::size_t end) {
        std::vector<std::uint8_t> tallies(n);  // by pointer: to write a byte may change all that is in memory
        std::uint8_t* const tally = tallies.data();
        for (std::size_t i = begin; i < end; ++i) {
            for (CountedRows* part : {&result.forward, &result.backward})
                for (const std::int32_t j : part->rows.of(i)) ++tally[j];
            for (CountedRows* part : {&result.forward, &result.backward})
                part->condense(i, tally, [&](std::size_t j, int count) { return keep(i, j, count); });
        }
    });
    return result;
}

// Numbers for the rows of each window by their length: those of a slice are then about as long.
std::vector<std::int32_t> numbers_by_length(const SymmetricRows& rows, ThreadPool& pool) {
    static_assert(window % CountMatrix::slice == 0);
    std::vector<std::int32_t> order(rows.size()), numbers(rows.size());
    pool.for_blocks(order.size(), window, [&](std::size_t begin, std::size_t end) {
        const auto first = order.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto last = order.begin() + static_cast<std::ptrdiff_t>(end);
        std::iota(first, last, static_cast<std::int32_t>(begin));
        std::sort(first, last, [&](std::int32_t a, std::int32_t b) {
            return std::pair(rows.length(static_cast<std::size_t>(a)), a) <
                   std::pair(rows.length(static_cast<std::size_t>(b)), b);
        });
        for (std::size_t v = begin; v < end; ++v)
            numbers[static_cast<std::size_t>(order[v])] = static_cast<std::int32_t>(v);
    });
    return numbers;
}

// Of the rows and their transpose. Vertices are numbered anew: `order`, of the pixels, follows.
CountMatrix count_matrix(Rows found, std::vector<std::int32_t>& order, ThreadPool& pool) {
    constexpr std::size_t slice = CountMatrix::slice;
    const auto all = [](std::size_t, std::size_t, int) { return true; };
    const SymmetricRows rows = symmetric_rows(std::move(found), all, pool);
    const std::vector<std::int32_t> numbers = numbers_by_length(rows, pool);
    CountMatrix graph(rows.size());
    std::vector<std::int64_t>& starts = graph.slice_starts;
    const auto number = [&](std::size_t i) {  // those that fill the last slice keep theirs
        return i < graph.n ? static_cast<std::size_t>(numbers[i]) : i;
    };
    for (std::size_t i = 0; i < graph.n; ++i) {
        std::int64_t& longest = starts[number(i) / slice + 1];
        longest = std::max(longest, static_cast<std::int64_t>(rows.length(i)));
    }
    for (std::size_t s = 1; s < starts.size(); ++s)
        starts[s] = starts[s - 1] + starts[s] * std::int64_t{slice};
    graph.columns.resize(static_cast<std::size_t>(starts.back()));
    graph.counts.resize(graph.columns.size());
    pool.for_blocks((starts.size() - 1) * slice, window, [&](std::size_t begin, std::size_t end) {
        std::int32_t* const columns = graph.columns.data();
        std::uint8_t* const counts = graph.counts.data();
        for (std::size_t i = begin; i < end; ++i) {
            const std::size_t v = number(i);
            const auto last = static_cast<std::size_t>(starts[v / slice + 1]);
            std::size_t slot = static_cast<std::size_t>(starts[v / slice]) + v % slice;
            const auto add = [=, &slot](std::int32_t column, std::uint8_t count) {
                columns[slot] = column;
                counts[slot] = count;
                slot += slice;
            };
            if (i < graph.n)
                rows.visit(i, [&](std::int32_t j, std::uint8_t count) {
                    add(numbers[static_cast<std::size_t>(j)], count);
                });
            while (slot < last) add(0, 0);
        }
    });
    const std::vector<std::int32_t> pixels = order;
    for (std::size_t i = 0; i < graph.n; ++i) order[number(i)] = pixels[i];
    return graph;
}

// The symmetric graph of the rows and their transpose; value(i, j, count) gives an entry, 0 leaves it out.
template <class Value>
SparseMatrix symmetric_graph(Rows found, Value value, ThreadPool& pool) {
    const auto keep = [&](std::size_t i, std::size_t j, int count) { return value(i, j, count) > 0.0; };
    const SymmetricRows rows = symmetric_rows(std::move(found), keep, pool);
    const std::size_t n = rows.size();
    SparseMatrix graph{n, std::vector<std::int64_t>(n + 1), {}, {}};
    for (std::size_t i = 0; i < n; ++i)
        graph.row_starts[i + 1] = graph.row_starts[i] + static_cast<std::int64_t>(rows.length(i));
    graph.columns.resize(static_cast<std::size_t>(graph.row_starts[n]));
    graph.values.resize(graph.columns.size());
    // Transposed once more, which a symmetric graph does not notice, columns ascend.
    std::vector<std::int64_t> ends = graph.row_starts;
    for (std::size_t i = 0; i < n; ++i)
        rows.visit(i, [&](std::int32_t j, std::uint8_t count) {
            const auto slot = static_cast<std::size_t>(ends[static_cast<std::size_t>(j)]++);
            graph.columns[slot] = static_cast<std::int32_t>(i);
            graph.values[slot] = count;
        });
    pool.for_blocks(n, row_block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i)
            for (auto slot = static_cast<std::size_t>(graph.row_starts[i]);
                 slot < static_cast<std::size_t>(graph.row_starts[i + 1]); ++slot)
                graph.values[slot] = value(i, static_cast<std::size_t>(graph.columns[slot]),
                                           static_cast<int>(graph.values[slot]));
    });
    return graph;
}

// psi(u) of Eq. 1.
std::array<double, 6> hsv_position(const double* rgb, double x, double y) {
    const auto [low, high] = std::minmax({rgb[0], rgb[1], rgb[2]});
    const double chroma = high - low;
    double sextant = 0.0;  // hue in sixths of a turn; grey has hue 0
    if (chroma > 0.0) {
        if (high == rgb[0])
            sextant = (rgb[1] - rgb[2]) / chroma;
        else if (high == rgb[1])
            sextant = 2.0 + (rgb[2] - rgb[0]) / chroma;
        else
            sextant = 4.0 + (rgb[0] - rgb[1]) / chroma;
    }
    const double hue = sextant * std::numbers::pi / 3.0;
    const double saturation = high > 0.0 ? chroma / high : 0.0;
    return {std::cos(hue), std::sin(hue), saturation, high, x, y};
}

template <std::size_t D>
double distance(const std::array<double, D>& a, const std::array<double, D>& b) {
    double sum = 0.0;
    for (std::size_t d = 0; d < D; ++d) sum += (a[d] - b[d]) * (a[d] - b[d]);
    return std::sqrt(sum);
}

void require_neighbors(std::size_t neighbors) {
    if (neighbors == 0) throw std::invalid_argument("neighbors must be at least 1, got 0");
}

std::vector<PointSearch<5>> color_points(ImageView image, std::span<const ColorSearch> searches,
                                         ThreadPool& pool) {
    // Twice as many fit in the counts.
    if (searches.empty() || searches.size() > 127)
        throw std::invalid_argument("searches must be 1 to 127, got " + std::to_string(searches.size()));
    const std::size_t n = image.height * image.width;
    std::vector<PointSearch<5>> point_searches;
    for (const ColorSearch& search : searches) {
        require_neighbors(search.neighbors);
        auto& [points, neighbors] = point_searches.emplace_back();
        points.resize(n);
        neighbors = std::min(search.neighbors, n);
        pool.for_blocks(image.height, 16, [&](std::size_t begin, std::size_t end) {
            for (std::size_t row = begin; row < end; ++row) {
                const double y = search.position_weight * coordinate(row, image.height);
                for (std::size_t column = 0; column < image.width; ++column) {
                    const std::size_t i = row * image.width + column;
                    const double* rgb = image.pixels + 3 * i;
                    const double x = search.position_weight * coordinate(column, image.width);
                    points[i] = {rgb[0], rgb[1], rgb[2], x, y};
                }
            }
        });
    }
    return point_searches;
}

}  // namespace

SparseMatrix knn_color_graph(ImageView image, std::span<const ColorSearch> searches, ThreadPool& pool) {
    return symmetric_graph(
        find_neighbors<5>(color_points(image, searches, pool), pool),
        [](std::size_t, std::size_t, int count) { return static_cast<double>(count); }, pool);
}

OrderedGraph ordered_knn_color_graph(ImageView image, std::span<const ColorSearch> searches,
                                     ThreadPool& pool) {
    OrderedGraph graph;
    Rows found = find_ordered_neighbors(color_points(image, searches, pool), graph.order, pool);
    graph.matrix = count_matrix(std::move(found), graph.order, pool);
    return graph;
}

SparseMatrix knn_hsv_color_graph(ImageView image, std::size_t neighbors, ThreadPool& pool) {
    require_neighbors(neighbors);
    const std::size_t n = image.height * image.width;
    PointSearch<6> search{{}, std::min(neighbors, n)};
    for (std::size_t row = 0; row < image.height; ++row)
        for (std::size_t column = 0; column < image.width; ++column)
            search.points.push_back(hsv_position(image.pixels + 3 * (row * image.width + column),
                                                 coordinate(column, image.width),
                                                 coordinate(row, image.height)));
    return symmetric_graph(
        find_neighbors<6>({&search, 1}, pool),
        [&](std::size_t i, std::size_t j, int) {
            return std::max(0.0, 1.0 - distance(search.points[i], search.points[j]));
        },
        pool);
}

SparseMatrix random_walk_color_graph(ImageView image, ThreadPool& pool) {
    constexpr double sharpness = 900.0;
    Rows windows = equal_rows(image.height * image.width, 9);
    pool.for_blocks(image.height, 1, [&](std::size_t row, std::size_t) {
        const std::array<std::size_t, 3> rows{row - (row > 0), row, std::min(row + 1, image.height - 1)};
        for (std::size_t column = 0; column < image.width; ++column) {
            const std::array<std::size_t, 3> columns{column - (column > 0), column,
                                                     std::min(column + 1, image.width - 1)};
            std::int32_t* window = windows.of(row * image.width + column).data();
            for (const std::size_t r : rows)
                for (const std::size_t c : columns)
                    *window++ = static_cast<std::int32_t>(r * image.width + c);
        }
    });
    // The window is symmetric, so every entry is found once from either side: half of the count is its own.
    return symmetric_graph(
        std::move(windows),
        [&](std::size_t i, std::size_t j, int count) {
            double squared = 0.0;
            for (std::size_t c = 0; c < 3; ++c) {
                const double difference = image.pixels[3 * i + c] - image.pixels[3 * j + c];
                squared += difference * difference;
            }
            return 0.5 * count * std::exp(-sharpness * squared);
        },
        pool);
}

double color_graph_bytes(std::size_t n_pixels, std::size_t neighbors) {
    // A neighbour is a column and a count, the same in the transpose, and up to two entries of 12 bytes; a
    // pixel is a point of a few searches, the same in trees, and its place in the rows.
    return static_cast<double>(n_pixels) * static_cast<double>(34 * neighbors + 320);
}

double ordered_color_graph_bytes(std::size_t n_pixels, std::size_t neighbors) {
    // As above, but points and trees are gone when entries of 5 bytes are written.
    return static_cast<double>(n_pixels) * static_cast<double>(20 * neighbors + 60);
}

}  // namespace deepspec

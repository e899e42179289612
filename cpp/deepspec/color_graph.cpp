#include "deepspec/color_graph.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "deepspec/kd_tree.hpp"

namespace deepspec {
namespace {

constexpr std::size_t block = 256;  // pixels in a parallel task

// Neighbour lists of every pixel, `per_point` entries each, ascending in each list.
struct NeighborLists {
    std::size_t per_point;
    std::vector<std::int32_t> indices;

    std::span<const std::int32_t> of(std::size_t i) const {
        return {indices.data() + i * per_point, per_point};
    }
};

// coordinate(0) … coordinate(count - 1) run from 0 to 1.
double coordinate(std::size_t index, std::size_t count) {
    return count > 1 ? static_cast<double>(index) / static_cast<double>(count - 1) : 0.0;
}

template <std::size_t D>
void find_neighbors(const std::vector<std::array<double, D>>& points, std::size_t k, std::size_t offset,
                    NeighborLists& lists, ThreadPool& pool) {
    const KdTree<D> tree(points);
    pool.for_blocks(points.size(), block, [&](std::size_t begin, std::size_t end) {
        std::vector<typename KdTree<D>::Neighbor> nearest;
        for (std::size_t slot = begin; slot < end; ++slot) {
            const auto i = static_cast<std::size_t>(tree.order()[slot]);
            tree.search(points[i], k, nearest);
            std::int32_t* out = lists.indices.data() + i * lists.per_point + offset;
            for (std::size_t j = 0; j < k; ++j) out[j] = nearest[j].index;
        }
    });
}

void sort_lists(NeighborLists& lists, ThreadPool& pool) {
    pool.for_blocks(lists.indices.size() / lists.per_point, block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            std::int32_t* list = lists.indices.data() + i * lists.per_point;
            std::sort(list, list + lists.per_point);
        }
    });
}

// For every pixel, the pixels whose lists hold it, ascending because they are visited in order.
struct ReverseLists {
    std::vector<std::int64_t> starts;
    std::vector<std::int32_t> indices;

    explicit ReverseLists(const NeighborLists& lists) : indices(lists.indices.size()) {
        const std::size_t n = lists.indices.size() / lists.per_point;
        starts.assign(n + 2, 0);
        for (const std::int32_t j : lists.indices) ++starts[static_cast<std::size_t>(j) + 2];
        for (std::size_t i = 2; i < starts.size(); ++i) starts[i] += starts[i - 1];
        // starts is one ahead while filling: filling row j moves starts[j + 1] to the end of row j.
        for (std::size_t i = 0; i < n; ++i)
            for (const std::int32_t j : lists.of(i))
                indices[static_cast<std::size_t>(starts[static_cast<std::size_t>(j) + 1]++)] =
                    static_cast<std::int32_t>(i);
    }

    std::span<const std::int32_t> of(std::size_t i) const {
        return {indices.data() + starts[i], static_cast<std::size_t>(starts[i + 1] - starts[i])};
    }
};

// emit(column, count) for every distinct entry of two ascending lists, ascending.
template <class Emit>
void merge(std::span<const std::int32_t> a, std::span<const std::int32_t> b, Emit emit) {
    std::size_t i = 0, j = 0;
    while (i < a.size() || j < b.size()) {
        const std::int32_t column = i == a.size() ? b[j] : j == b.size() ? a[i] : std::min(a[i], b[j]);
        int count = 0;
        for (; i < a.size() && a[i] == column; ++i) ++count;
        for (; j < b.size() && b[j] == column; ++j) ++count;
        emit(column, count);
    }
}

// The symmetric graph of the lists and their reverses; value(i, j, count) gives an entry, 0 leaves it out.
template <class Value>
SparseMatrix symmetric_graph(const NeighborLists& lists, Value value, ThreadPool& pool) {
    const std::size_t n = lists.indices.size() / lists.per_point;
    const ReverseLists reverse(lists);
    SparseMatrix graph{n, std::vector<std::int64_t>(n + 1, 0), {}, {}};
    pool.for_blocks(n, block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i)
            merge(lists.of(i), reverse.of(i), [&](std::int32_t j, int count) {
                graph.row_starts[i + 1] += value(i, static_cast<std::size_t>(j), count) > 0.0;
            });
    });
    for (std::size_t i = 0; i < n; ++i) graph.row_starts[i + 1] += graph.row_starts[i];
    graph.columns.resize(static_cast<std::size_t>(graph.row_starts[n]));
    graph.values.resize(graph.columns.size());
    pool.for_blocks(n, block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            auto slot = static_cast<std::size_t>(graph.row_starts[i]);
            merge(lists.of(i), reverse.of(i), [&](std::int32_t j, int count) {
                const double entry = value(i, static_cast<std::size_t>(j), count);
                if (entry <= 0.0) return;
                graph.columns[slot] = j;
                graph.values[slot++] = entry;
            });
        }
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

}  // namespace

SparseMatrix knn_color_graph(ImageView image, std::span<const ColorSearch> searches, ThreadPool& pool) {
    const std::size_t n = image.height * image.width;
    NeighborLists lists{0, {}};
    for (const ColorSearch& search : searches) lists.per_point += std::min(search.neighbors, n);
    lists.indices.resize(n * lists.per_point);
    std::size_t offset = 0;
    std::vector<std::array<double, 5>> points(n);
    for (const ColorSearch& search : searches) {
        for (std::size_t row = 0, i = 0; row < image.height; ++row)
            for (std::size_t column = 0; column < image.width; ++column, ++i) {
                const double* rgb = image.pixels + 3 * i;
                points[i] = {rgb[0], rgb[1], rgb[2], search.position_weight * coordinate(column, image.width),
                             search.position_weight * coordinate(row, image.height)};
            }
        const std::size_t k = std::min(search.neighbors, n);
        find_neighbors(points, k, offset, lists, pool);
        offset += k;
    }
    sort_lists(lists, pool);
    return symmetric_graph(
        lists, [](std::size_t, std::size_t, int count) { return static_cast<double>(count); }, pool);
}

SparseMatrix knn_hsv_color_graph(ImageView image, std::size_t neighbors, ThreadPool& pool) {
    const std::size_t n = image.height * image.width;
    std::vector<std::array<double, 6>> points(n);
    for (std::size_t row = 0, i = 0; row < image.height; ++row)
        for (std::size_t column = 0; column < image.width; ++column, ++i)
            points[i] = hsv_position(image.pixels + 3 * i, coordinate(column, image.width),
                                     coordinate(row, image.height));
    NeighborLists lists{std::min(neighbors, n), {}};
    lists.indices.resize(n * lists.per_point);
    find_neighbors(points, lists.per_point, 0, lists, pool);
    sort_lists(lists, pool);
    return symmetric_graph(
        lists,
        [&](std::size_t i, std::size_t j, int) {
            return std::max(0.0, 1.0 - distance(points[i], points[j]));
        },
        pool);
}

SparseMatrix random_walk_color_graph(ImageView image, ThreadPool& pool) {
    constexpr double sharpness = 900.0;
    const std::size_t n = image.height * image.width;
    NeighborLists lists{9, std::vector<std::int32_t>(n * 9)};
    pool.for_blocks(image.height, 1, [&](std::size_t row, std::size_t) {
        const std::array<std::size_t, 3> rows{row - (row > 0), row, std::min(row + 1, image.height - 1)};
        for (std::size_t column = 0; column < image.width; ++column) {
            const std::array<std::size_t, 3> columns{column - (column > 0), column,
                                                     std::min(column + 1, image.width - 1)};
            std::int32_t* list = lists.indices.data() + (row * image.width + column) * 9;
            for (const std::size_t r : rows)
                for (const std::size_t c : columns) *list++ = static_cast<std::int32_t>(r * image.width + c);
        }
    });
    sort_lists(lists, pool);
    // The window is symmetric, so every entry is found once from either side: half of the count is its own.
    return symmetric_graph(
        lists,
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
    // A neighbour is an index in the lists, one in their reverses, and up to two entries of 12 bytes; a pixel
    // is a point, its copy in the tree and the row starts.
    return static_cast<double>(n_pixels) * static_cast<double>(32 * neighbors + 160);
}

}  // namespace deepspec

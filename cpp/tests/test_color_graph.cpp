#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "deepspec/color_graph.hpp"

using namespace deepspec;

namespace {

constexpr std::array<ColorSearch, 2> two_scales{{{20, 2.0}, {10, 0.1}}};

struct Image {
    std::size_t height, width;
    std::vector<double> pixels;

    ImageView view() const { return {pixels.data(), height, width}; }
    std::size_t size() const { return height * width; }
    double x(std::size_t i) const {
        return width > 1 ? static_cast<double>(i % width) / static_cast<double>(width - 1) : 0;
    }
    double y(std::size_t i) const {
        return height > 1 ? static_cast<double>(i / width) / static_cast<double>(height - 1) : 0;
    }
};

Image constant_image(std::size_t height, std::size_t width) {
    return {height, width, std::vector<double>(3 * height * width, 0.25)};
}

Image random_image(std::size_t height, std::size_t width) {
    std::mt19937 random(3);
    Image image = constant_image(height, width);
    for (double& value : image.pixels) value = std::uniform_real_distribution(0.0, 1.0)(random);
    return image;
}

Image gray_image(std::size_t height, std::size_t width, const std::vector<double>& values) {
    Image image{height, width, {}};
    for (const double value : values) image.pixels.insert(image.pixels.end(), 3, value);
    return image;
}

using Dense = std::vector<std::vector<double>>;

Dense to_dense(const SparseMatrix& graph) {
    Dense dense(graph.n, std::vector<double>(graph.n, 0.0));
    for (std::size_t i = 0; i < graph.n; ++i)
        for (auto slot = static_cast<std::size_t>(graph.row_starts[i]);
             slot < static_cast<std::size_t>(graph.row_starts[i + 1]); ++slot)
            dense[i][static_cast<std::size_t>(graph.columns[slot])] = graph.values[slot];
    return dense;
}

// Columns ascend strictly, no entry is zero, W equals its transpose exactly.
void check_well_formed(const SparseMatrix& graph) {
    CHECK_EQUAL(graph.row_starts.size(), graph.n + 1);
    CHECK_EQUAL(graph.row_starts.front(), 0);
    CHECK_EQUAL(static_cast<std::size_t>(graph.row_starts.back()), graph.columns.size());
    CHECK_EQUAL(graph.values.size(), graph.columns.size());
    for (std::size_t i = 0; i < graph.n; ++i)
        for (auto slot = static_cast<std::size_t>(graph.row_starts[i]);
             slot < static_cast<std::size_t>(graph.row_starts[i + 1]); ++slot) {
            CHECK(slot == static_cast<std::size_t>(graph.row_starts[i]) ||
                  graph.columns[slot - 1] < graph.columns[slot]);
            CHECK(graph.columns[slot] >= 0 && static_cast<std::size_t>(graph.columns[slot]) < graph.n);
            CHECK(graph.values[slot] > 0.0);
        }
    const Dense dense = to_dense(graph);
    for (std::size_t i = 0; i < graph.n; ++i)
        for (std::size_t j = 0; j < i; ++j) CHECK_EQUAL(dense[i][j], dense[j][i]);
}

void check_equal(const SparseMatrix& graph, const Dense& expected, double tolerance = 0.0) {
    check_well_formed(graph);
    const Dense dense = to_dense(graph);
    CHECK_EQUAL(dense.size(), expected.size());
    for (std::size_t i = 0; i < dense.size(); ++i)
        for (std::size_t j = 0; j < dense.size(); ++j) CHECK_NEAR(dense[i][j], expected[i][j], tolerance);
}

// The k nearest of every point, by (distance, index).
std::vector<std::vector<std::size_t>> nearest(const std::vector<std::vector<double>>& points, std::size_t k) {
    std::vector<std::vector<std::size_t>> lists;
    for (const auto& query : points) {
        std::vector<double> squared(points.size(), 0.0);
        for (std::size_t j = 0; j < points.size(); ++j)
            for (std::size_t d = 0; d < query.size(); ++d)
                squared[j] += (points[j][d] - query[d]) * (points[j][d] - query[d]);
        std::vector<std::size_t> order(points.size());
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return squared[a] < squared[b]; });
        order.resize(std::min(k, points.size()));
        lists.push_back(order);
    }
    return lists;
}

Dense knn_twin(const Image& image) {
    Dense graph(image.size(), std::vector<double>(image.size(), 0.0));
    for (const ColorSearch& search : two_scales) {
        std::vector<std::vector<double>> points;
        for (std::size_t i = 0; i < image.size(); ++i) {
            const double* rgb = image.pixels.data() + 3 * i;
            points.push_back({rgb[0], rgb[1], rgb[2], search.position_weight * image.x(i),
                              search.position_weight * image.y(i)});
        }
        const auto lists = nearest(points, search.neighbors);
        for (std::size_t i = 0; i < image.size(); ++i)
            for (const std::size_t j : lists[i]) {
                graph[i][j] += 1.0;
                graph[j][i] += 1.0;
            }
    }
    return graph;
}

Dense hsv_twin(const Image& image, std::size_t k) {
    std::vector<std::vector<double>> points;
    for (std::size_t i = 0; i < image.size(); ++i) {
        const double* rgb = image.pixels.data() + 3 * i;
        const double value = std::max({rgb[0], rgb[1], rgb[2]});
        const double least = std::min({rgb[0], rgb[1], rgb[2]});
        // A third of a turn per brightest channel, less or more as one of the other two is brighter.
        double turns = 0.0;
        if (value > least) {
            const auto brightest = static_cast<std::size_t>(std::max_element(rgb, rgb + 3) - rgb);
            turns = (2.0 * static_cast<double>(brightest) +
                     (rgb[(brightest + 1) % 3] - rgb[(brightest + 2) % 3]) / (value - least)) /
                    6.0;
        }
        const double hue = 2.0 * std::acos(-1.0) * turns;
        points.push_back({std::cos(hue), std::sin(hue), value > 0.0 ? 1.0 - least / value : 0.0, value,
                          image.x(i), image.y(i)});
    }
    Dense graph(image.size(), std::vector<double>(image.size(), 0.0));
    const auto lists = nearest(points, k);
    for (std::size_t i = 0; i < image.size(); ++i)
        for (const std::size_t j : lists[i]) {
            double squared = 0.0;
            for (std::size_t d = 0; d < 6; ++d)
                squared += (points[i][d] - points[j][d]) * (points[i][d] - points[j][d]);
            graph[i][j] = graph[j][i] = std::max(0.0, 1.0 - std::sqrt(squared));
        }
    return graph;
}

Dense random_walk_twin(const Image& image) {
    Dense graph(image.size(), std::vector<double>(image.size(), 0.0));
    const auto clamped = [](std::size_t position, int step, std::size_t count) {
        return static_cast<std::size_t>(
            std::clamp(static_cast<int>(position) + step, 0, static_cast<int>(count) - 1));
    };
    for (std::size_t i = 0; i < image.size(); ++i)
        for (const int down : {-1, 0, 1})
            for (const int right : {-1, 0, 1}) {
                const std::size_t j = clamped(i / image.width, down, image.height) * image.width +
                                      clamped(i % image.width, right, image.width);
                double squared = 0.0;
                for (std::size_t c = 0; c < 3; ++c)
                    squared += std::pow(image.pixels[3 * i + c] - image.pixels[3 * j + c], 2);
                graph[i][j] += std::exp(-900.0 * squared);
            }
    return graph;
}

void graphs_equal_brute_force() {
    ThreadPool pool(2);
    std::vector<Image> images{random_image(13, 17), random_image(1, 40), random_image(40, 1),
                              random_image(3, 2)};
    // Only ties: 2^m + 1 cells make every coordinate, and so every tie, exact.
    for (const auto& [height, width] : {std::pair{9, 17}, {1, 9}, {33, 1}, {1, 1}, {2, 2}})
        images.push_back(constant_image(static_cast<std::size_t>(height), static_cast<std::size_t>(width)));
    for (const Image& image : images) {
        check_equal(knn_color_graph(image.view(), two_scales, pool), knn_twin(image));
        check_equal(knn_hsv_color_graph(image.view(), 20, pool), hsv_twin(image, 20), 1e-12);
        check_equal(random_walk_color_graph(image.view(), pool), random_walk_twin(image), 1e-12);
    }
}

void knn_counts_by_hand() {
    ThreadPool pool(2);
    const Image constant = constant_image(2, 2);
    // Fewer pixels than neighbours: all are found from both ends by both searches.
    check_equal(knn_color_graph(constant.view(), two_scales, pool), Dense(4, std::vector<double>(4, 4.0)));
    // Two nearest: the pixel itself and, of two at the same distance, the one of smaller index.
    const ColorSearch two[] = {{2, 1.0}};
    check_equal(knn_color_graph(constant.view(), two, pool),
                {{2, 2, 1, 0}, {2, 2, 0, 1}, {1, 0, 2, 0}, {0, 1, 0, 2}});
    // A black row above a white one: colour parts them.
    const Image striped = gray_image(2, 2, {0, 0, 1, 1});
    check_equal(knn_color_graph(striped.view(), two, pool),
                {{2, 2, 0, 0}, {2, 2, 0, 0}, {0, 0, 2, 2}, {0, 0, 2, 2}});
    const Image single = constant_image(1, 1);
    check_equal(knn_color_graph(single.view(), two_scales, pool), {{4}});
}

void hsv_weights_by_hand() {
    ThreadPool pool(2);
    check_equal(knn_hsv_color_graph(constant_image(1, 1).view(), 20, pool), {{1}});
    // 0.5 apart in position; the grey one also by 1 in saturation: at a distance beyond 1 no edge is left.
    const Image red_and_gray{1, 3, {1, 0, 0, 1, 0, 0, 1, 1, 1}};
    check_equal(knn_hsv_color_graph(red_and_gray.view(), 3, pool), {{1, 0.5, 0}, {0.5, 1, 0}, {0, 0, 1}},
                1e-12);
    // Hues are 0 and a third of a turn, 3^1/2 apart; a dark and a bright red differ in value alone.
    const Image hues{1, 3, {1, 0, 0, 0.75, 0, 0, 0, 1, 0}};
    check_equal(knn_hsv_color_graph(hues.view(), 3, pool),
                {{1, 1 - std::sqrt(0.3125), 0}, {1 - std::sqrt(0.3125), 1, 0}, {0, 0, 1}}, 1e-12);
}

void random_walk_weights_by_hand() {
    ThreadPool pool(2);
    check_equal(random_walk_color_graph(constant_image(1, 1).view(), pool), {{9}});
    const Image pair{1, 2, {0.5, 0, 0, 0.5, 1.0 / 30.0, 0}};
    check_equal(random_walk_color_graph(pair.view(), pool), {{6, 3 * std::exp(-1)}, {3 * std::exp(-1), 6}},
                1e-12);
    // exp(-2700) is zero in double precision and no entry.
    check_equal(random_walk_color_graph(gray_image(1, 2, {0, 1}).view(), pool), {{6, 0}, {0, 6}});
}

// Every entry of the one is at its place in the other.
void check_renumbered(const OrderedGraph& ordered, const SparseMatrix& graph) {
    const CountMatrix& matrix = ordered.matrix;
    const std::size_t n = matrix.n;
    CHECK_EQUAL(n, graph.n);
    std::vector<std::int32_t> sorted = ordered.order, all(n);
    std::sort(sorted.begin(), sorted.end());
    std::iota(all.begin(), all.end(), 0);
    CHECK(sorted == all);
    CHECK_EQUAL(matrix.slice_starts.size(), (n + 3) / 4 + 1);
    CHECK_EQUAL(matrix.slice_starts.front(), 0);
    CHECK_EQUAL(static_cast<std::size_t>(matrix.slice_starts.back()), matrix.columns.size());
    CHECK_EQUAL(matrix.counts.size(), matrix.columns.size());
    Dense dense(n, std::vector<double>(n, 0.0));
    for (std::size_t v = 0; v < n; ++v)
        matrix.visit_row(v, [&](std::size_t w, std::uint8_t count) {
            double& entry =
                dense[static_cast<std::size_t>(ordered.order[v])][static_cast<std::size_t>(ordered.order[w])];
            CHECK_EQUAL(entry, 0.0);  // each column once
            entry = count;
            return true;
        });
    CHECK(dense == to_dense(graph));
}

void ordered_graph_is_the_same_renumbered() {
    ThreadPool pool(2);
    const std::vector<ColorSearch> many(127, ColorSearch{1, 1.0});
    const ColorSearch one[] = {{4, 1.0}};
    for (const Image& image : {random_image(13, 17), random_image(1, 40), random_image(40, 1),
                               random_image(3, 2), constant_image(9, 17), constant_image(1, 1)})
        for (const std::span<const ColorSearch> searches :
             {std::span<const ColorSearch>(two_scales), std::span<const ColorSearch>(one),
              std::span<const ColorSearch>(many)}) {
            const OrderedGraph ordered = ordered_knn_color_graph(image.view(), searches, pool);
            check_renumbered(ordered, knn_color_graph(image.view(), searches, pool));
        }
    CHECK_THROWS(std::invalid_argument, "got 0",
                 ordered_knn_color_graph(random_image(2, 2).view(), {}, pool));
}

// Vertices near in number are near in colour and place: an edge is short beside one between any two.
void ordered_neighbors_lie_near() {
    ThreadPool pool(2);
    const OrderedGraph graph = ordered_knn_color_graph(random_image(37, 41).view(), two_scales, pool);
    double distance = 0.0, n_entries = 0.0;
    for (std::size_t v = 0; v < graph.matrix.n; ++v)
        graph.matrix.visit_row(v, [&](std::size_t j, std::uint8_t) {
            distance += std::abs(static_cast<double>(v) - static_cast<double>(j));
            ++n_entries;
            return true;
        });
    distance /= n_entries;
    CHECK(distance < 0.2 * static_cast<double>(graph.matrix.n));  // of any two: a third of n
}

// Rows of much the same length stand together, so that a slice has little to fill up.
void slices_are_nearly_full() {
    ThreadPool pool(2);
    const CountMatrix matrix = ordered_knn_color_graph(random_image(37, 41).view(), two_scales, pool).matrix;
    const auto filled = std::count(matrix.counts.begin(), matrix.counts.end(), 0);
    CHECK(filled < static_cast<std::ptrdiff_t>(matrix.counts.size() / 20));
}

void bad_searches_are_named() {
    ThreadPool pool(1);
    const Image image = constant_image(2, 2);
    CHECK_THROWS(std::invalid_argument, "got 0", knn_color_graph(image.view(), {}, pool));
    const std::vector<ColorSearch> many(128, ColorSearch{1, 1.0});
    CHECK_THROWS(std::invalid_argument, "got 128", knn_color_graph(image.view(), many, pool));
    const ColorSearch none[] = {{2, 1.0}, {0, 1.0}};
    CHECK_THROWS(std::invalid_argument, "neighbors", knn_color_graph(image.view(), none, pool));
    CHECK_THROWS(std::invalid_argument, "neighbors", knn_hsv_color_graph(image.view(), 0, pool));
    // As many as there may be: each pixel finds itself from both ends of every search.
    const SparseMatrix graph = knn_color_graph(image.view(), {many.data(), 127}, pool);
    CHECK(graph.values == std::vector<double>(4, 254.0));
}

void threads_leave_no_trace() {
    const Image image = random_image(37, 41);
    const std::function<SparseMatrix(ThreadPool&)> graphs[] = {
        [&](ThreadPool& pool) { return knn_color_graph(image.view(), two_scales, pool); },
        [&](ThreadPool& pool) { return knn_hsv_color_graph(image.view(), 20, pool); },
        [&](ThreadPool& pool) { return random_walk_color_graph(image.view(), pool); },
    };
    for (const auto& graph : graphs) {
        ThreadPool alone(1);
        const SparseMatrix expected = graph(alone);
        check_well_formed(expected);
        for (const int threads : {2, 4, 7}) {
            ThreadPool pool(threads);
            const SparseMatrix other = graph(pool);
            CHECK(other.row_starts == expected.row_starts);
            CHECK(other.columns == expected.columns);
            CHECK(other.values == expected.values);
        }
    }
    ThreadPool alone(1);
    const OrderedGraph expected = ordered_knn_color_graph(image.view(), two_scales, alone);
    for (const int threads : {2, 4, 7}) {
        ThreadPool pool(threads);
        const OrderedGraph other = ordered_knn_color_graph(image.view(), two_scales, pool);
        CHECK(other.order == expected.order);
        CHECK(other.matrix.slice_starts == expected.matrix.slice_starts);
        CHECK(other.matrix.columns == expected.matrix.columns);
        CHECK(other.matrix.counts == expected.matrix.counts);
    }
}

}  // namespace

int main() {
    graphs_equal_brute_force();
    knn_counts_by_hand();
    hsv_weights_by_hand();
    random_walk_weights_by_hand();
    ordered_graph_is_the_same_renumbered();
    ordered_neighbors_lie_near();
    slices_are_nearly_full();
    bad_searches_are_named();
    threads_leave_no_trace();
    return check::result();
}

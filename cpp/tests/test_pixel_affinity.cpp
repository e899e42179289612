#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "combinations.hpp"
#include "deepspec/color_graph.hpp"
#include "deepspec/pixel_affinity.hpp"
#include "pixels.hpp"

using namespace deepspec;
using pixels::Matrix;

namespace {

struct Layout {
    std::size_t height, width;
    Cells cells;

    std::size_t n() const { return height * width; }
};

const std::vector<Layout> layouts{
    {47, 53, {{6, 7}, 8.0, 8.0}},   // more vertices than a parallel task has; strips that no cell covers
    {12, 20, {{3, 5}, 4.0, 4.0}},   // covered exactly
    {9, 14, {{2, 3}, 3.5, 4.2}},    // no whole number of pixels
    {11, 13, {{1, 4}, 11.0, 3.0}},  // one row
    {11, 13, {{4, 1}, 2.5, 13.0}},  // one column
    {7, 6, {{1, 1}, 4.0, 4.0}},     // one cell
    {1, 40, {{1, 9}, 1.0, 4.0}},    // one row of pixels
    {5, 4, {{10, 8}, 0.5, 0.5}},    // finer than pixels
    {6, 8, {{4, 4}, 4.0, 4.0}},     // cells beyond the image
};

std::vector<std::int32_t> shuffled(std::size_t n) {
    std::vector<std::int32_t> order(n);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(4));
    return order;
}

Interpolation interpolation(const Layout& layout) {
    return {layout.cells, layout.width, shuffled(layout.n())};
}

Matrix interpolation_twin(const Layout& layout) {
    return pixels::interpolation(layout.cells, layout.width, shuffled(layout.n()));
}

// Inner products of random features.
Matrix random_gram(std::size_t n) {
    std::mt19937 random(5);
    std::normal_distribution normal;
    Matrix features(n, 4), gram(n, n);
    for (double& entry : features.entries) entry = normal(random);
    for (std::size_t a = 0; a < n; ++a)
        for (std::size_t b = 0; b < n; ++b)
            for (std::size_t c = 0; c < 4; ++c) gram(a, b) += features(a, c) * features(b, c);
    return gram;
}

TiledMatrix pack(const Matrix& matrix) {
    ThreadPool pool(2);
    Matrix positive = matrix;
    for (double& entry : positive.entries) entry = std::max(0.0, entry);
    return pack_dense(positive.entries.data(), positive.rows, pool);
}

OrderedGraph random_color_graph(std::size_t height, std::size_t width) {
    std::mt19937 random(6);
    std::vector<double> image(3 * height * width);
    for (double& value : image) value = std::uniform_real_distribution(0.0, 1.0)(random);
    const ColorSearch searches[] = {{5, 2.0}, {3, 0.1}};
    ThreadPool pool(2);
    return ordered_knn_color_graph({image.data(), height, width}, searches, pool);
}

// One, two and three vectors, near to each other or not: like the matrix, with the same bits for any number
// of threads, and nothing written beside.
void check_products(const PixelAffinity& op, const Matrix& expected) {
    const std::size_t n = expected.rows;
    std::mt19937 random(7);
    double largest_sum = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        double row_sum = 0.0;
        for (std::size_t j = 0; j < n; ++j) row_sum += std::abs(expected(i, j));
        largest_sum = std::max(largest_sum, row_sum);
    }
    for (const std::size_t count : {1u, 2u, 3u})
        for (const std::size_t stride : {n, n + 11}) {
            std::vector<double> x(count * stride, NAN), y(count * stride, -7.0);
            for (std::size_t v = 0; v < count; ++v)
                for (std::size_t i = 0; i < n; ++i)
                    x[v * stride + i] = std::uniform_real_distribution(-1.0, 1.0)(random);
            ThreadPool alone(1);
            op.multiply(x.data(), y.data(), alone, count, stride);
            for (std::size_t v = 0; v < count; ++v) {
                for (std::size_t i = 0; i < n; ++i) {
                    double product = 0.0;
                    for (std::size_t j = 0; j < n; ++j) product += expected(i, j) * x[v * stride + j];
                    CHECK_NEAR(y[v * stride + i], product, 1e-6 * largest_sum);
                }
                for (std::size_t i = n; i < stride; ++i) CHECK_EQUAL(y[v * stride + i], -7.0);
            }
            for (const int threads : {2, 5}) {
                ThreadPool pool(threads);
                std::vector<double> other(count * stride, -7.0);
                op.multiply(x.data(), other.data(), pool, count, stride);
                CHECK(other == y);
            }
        }
}

void check_products(const PixelFeatures& features, const Matrix& expected) {
    const CountMatrix none(features.affinity().size());
    check_products(PixelAffinity(&features, 1.0, none, 1.0), expected);
}

void interpolation_by_hand() {
    // Two cells of two pixels, and a strip of three beside them.
    const Interpolation lift({{1, 2}, 1.0, 2.0}, 7, {3, 0, 1, 2, 4, 5, 6});
    const std::array<double, 7> second{1.0, 0.0, 0.25, 0.75, 1.0, 1.0, 1.0};
    CHECK_EQUAL(lift.n_vertices(), 7u);
    CHECK_EQUAL(lift.padded_size(), 6u);
    for (std::size_t v = 0; v < second.size(); ++v) {
        std::array<double, 6> weights{};
        lift.corners(v, [&](std::size_t cell, double weight) { weights.at(cell) += weight; });
        CHECK(weights == (std::array<double, 6>{1.0 - second[v], second[v], 0, 0, 0, 0}));
    }
}

void interpolation_equals_its_formula() {
    for (const Layout& layout : layouts) {
        const Interpolation lift = interpolation(layout);
        const Matrix expected = interpolation_twin(layout);
        CHECK(lift.grid() == layout.cells.grid);
        for (std::size_t v = 0; v < layout.n(); ++v) {
            std::vector<double> weights(lift.padded_size(), 0.0);
            lift.corners(v, [&](std::size_t cell, double weight) { weights.at(cell) += weight; });
            double in_grid = 0.0;
            for (std::size_t cell = 0; cell < layout.cells.grid.size(); ++cell) {
                CHECK_NEAR(weights[lift.padded(cell)], expected(v, cell), 1e-6);
                in_grid += weights[lift.padded(cell)];
            }
            CHECK_NEAR(in_grid, 1.0, 1e-12);
            CHECK_NEAR(std::accumulate(weights.begin(), weights.end(), 0.0), 1.0, 1e-12);
        }
    }
}

void lifted_features_are_u_a_ut() {
    for (const Layout& layout : layouts) {
        const TiledMatrix affinity = pack(random_gram(layout.cells.grid.size()));
        const TiledFeatures of_cells(affinity);
        const LiftedTiles lifted(of_cells, interpolation(layout));
        CHECK_EQUAL(lifted.size(), layout.n());
        check_products(lifted, pixels::lifted(interpolation_twin(layout), pixels::to_matrix(affinity)));
    }
}

std::vector<float> to_floats(const Matrix& matrix) { return {matrix.entries.begin(), matrix.entries.end()}; }

// Entries are those of relu(U G U^T), at most one from a stretch of a row's upper half.
void sampled_features_are_some_of_all() {
    for (const Layout& layout : layouts) {
        const Matrix gram = random_gram(layout.cells.grid.size());
        const std::vector<float> numbers = to_floats(gram);
        const SampledFeatures sampled(numbers.data(), interpolation(layout), 3);
        CHECK_EQUAL(sampled.size(), layout.n());
        const Matrix whole = pixels::lifted(interpolation_twin(layout), gram);
        std::vector<std::size_t> last(layout.n(), layout.n());  // the stretch of a row's last entry
        sampled.visit_edges([&](std::size_t i, std::size_t j, double entry) {
            const std::size_t stretch = j / SampledFeatures::stretch;
            CHECK(i <= j && j < layout.n());
            CHECK(entry > 0.0);
            CHECK(last[i] == layout.n() || last[i] < stretch);
            CHECK_NEAR(entry, whole(i, j), 1e-4);
            last[i] = stretch;
            return true;
        });
        check_products(sampled, pixels::visited(sampled, layout.n()));
    }
}

// Where no entry is negative: one from every whole stretch, one in 256 of all, evenly, anew for each seed.
void one_of_every_stretch_is_drawn() {
    constexpr std::size_t stretch = SampledFeatures::stretch;
    const Layout layout{40, 50, {{2, 2}, 20.0, 25.0}};
    const std::size_t n = layout.n();
    const std::vector<float> ones(16, 1.0f);
    const auto drawn = [&](std::uint64_t seed) {
        std::vector<std::pair<std::size_t, std::size_t>> entries;
        SampledFeatures(ones.data(), interpolation(layout), seed)
            .visit_edges([&](std::size_t i, std::size_t j, double entry) {
                CHECK_NEAR(entry, 1.0, 1e-6);
                entries.emplace_back(i, j);
                return true;
            });
        return entries;
    };
    const auto entries = drawn(1);
    CHECK(entries == drawn(1));
    CHECK(entries != drawn(2));
    std::vector<std::size_t> whole_stretches(n, 0), parts(4, 0);
    std::size_t n_diagonal = 0;
    for (const auto& [i, j] : entries) {
        const std::size_t begin = j / stretch * stretch;
        whole_stretches[i] += begin > i && begin + stretch <= n;
        ++parts[j % stretch * 4 / stretch];
        n_diagonal += i == j;
    }
    for (std::size_t i = 0; i < n; ++i)
        CHECK_EQUAL(whole_stretches[i], n / stretch - std::min(n / stretch, i / stretch + 1));
    // Within five standard deviations.
    const double expected = static_cast<double>(n * (n + 1) / 2) / stretch;
    const auto n_entries = static_cast<double>(entries.size());
    CHECK_NEAR(n_entries, expected, 5.0 * std::sqrt(expected));
    CHECK_NEAR(static_cast<double>(n_diagonal), static_cast<double>(n) / stretch,
               5.0 * std::sqrt(static_cast<double>(n) / stretch));
    for (const std::size_t part : parts)
        CHECK_NEAR(static_cast<double>(part), 0.25 * n_entries, 5.0 * std::sqrt(0.25 * n_entries));
}

void affinity_adds_its_parts() {
    for (const Layout& layout : layouts) {
        const OrderedGraph graph = random_color_graph(layout.height, layout.width);
        const Matrix gram = random_gram(layout.cells.grid.size());
        const std::vector<float> numbers = to_floats(gram);
        const TiledMatrix affinity = pack(gram);
        const Interpolation lift(layout.cells, layout.width, graph.order);
        const TiledFeatures of_cells(affinity);
        const LiftedTiles lifted(of_cells, lift);
        const SampledFeatures sampled(numbers.data(), lift, 8);
        const Matrix colors = pixels::to_matrix(graph.matrix), none(layout.n(), layout.n());
        const Matrix of_lifted = pixels::lifted(
            pixels::interpolation(layout.cells, layout.width, graph.order), pixels::to_matrix(affinity));
        const Matrix of_sampled = pixels::visited(sampled, layout.n());
        const CountMatrix without(layout.n());

        check_products(PixelAffinity(&lifted, 0.5, graph.matrix, 10.0),
                       pixels::sum(0.5, of_lifted, 10.0, colors));
        check_combinations(PixelAffinity(&lifted, 0.5, graph.matrix, 10.0));
        check_combinations(PixelAffinity(nullptr, 1.0, graph.matrix, 4.0));
        check_products(PixelAffinity(&sampled, 2.0, graph.matrix, 0.1),
                       pixels::sum(2.0, of_sampled, 0.1, colors));
        check_products(PixelAffinity(&lifted, 3.0, without, 1.0), pixels::sum(3.0, of_lifted, 0.0, none));
        check_products(PixelAffinity(&lifted, 3.0, graph.matrix, 0.0),
                       pixels::sum(3.0, of_lifted, 0.0, none));
        check_products(PixelAffinity(nullptr, 1.0, graph.matrix, 4.0), pixels::sum(0.0, none, 4.0, colors));
        check_products(PixelAffinity(&lifted, 0.0, graph.matrix, 4.0), pixels::sum(0.0, none, 4.0, colors));
    }
}

// Visits positive entries or less, enough of them to tell the components, and no more once told to stop.
void check_edges(const PixelAffinity& affinity, const Matrix& w) {
    std::size_t n_visits = 0;
    affinity.visit_edges([&](std::size_t i, std::size_t j, double entry) {
        CHECK(entry > 0.0);
        CHECK(entry <= w(i, j) * (1.0 + 1e-5));
        ++n_visits;
        return true;
    });
    ThreadPool pool(2);
    CHECK(Laplacian(affinity, LaplacianKind::normalized, pool).components(0.0, pool) ==
          pixels::components(w));
    for (const std::size_t most : {std::size_t{1}, n_visits / 2, n_visits}) {
        std::size_t left = most;
        affinity.visit_edges([&](std::size_t, std::size_t, double) {
            CHECK(left > 0);
            return --left > 0;
        });
        CHECK_EQUAL(left, 0u);
    }
}

// The cells of every second column have features, of one sort or of two; those between have none. A pixel in
// the middle of these has no edge.
void components_follow_the_cells() {
    const Layout layout{9, 15, {{3, 5}, 3.0, 3.0}};
    const Matrix u = interpolation_twin(layout);
    const CountMatrix none(layout.n());
    for (const bool alike : {true, false}) {
        Matrix gram(15, 15);
        for (std::size_t a = 0; a < 15; ++a)
            for (std::size_t b = 0; b < 15; ++b)
                if (a % 5 % 2 == 0 && b % 5 % 2 == 0 && (alike || a % 5 == b % 5))
                    gram(a, b) = 1.0 + static_cast<double>(a * b);
        const TiledMatrix cells = pack(gram);
        const TiledFeatures of_cells(cells);
        const LiftedTiles lifted(of_cells, interpolation(layout));
        const Matrix w = pixels::lifted(u, gram);
        const std::vector<std::size_t> parts = pixels::components(w);
        CHECK_EQUAL(*std::max_element(parts.begin(), parts.end()) + 1, (alike ? 1u : 3u) + 2u * 9u);
        check_edges({&lifted, 0.25, none, 1.0}, pixels::sum(0.25, w, 0.0, w));

        const std::vector<float> numbers = to_floats(gram);
        const SampledFeatures sampled(numbers.data(), interpolation(layout), 2);
        check_edges({&sampled, 0.25, none, 1.0},
                    pixels::sum(0.25, pixels::visited(sampled, layout.n()), 0.0, w));
    }
}

// Cells that have entries with others alone, not with themselves.
void components_of_crossed_cells() {
    const Layout layout{4, 12, {{1, 4}, 4.0, 3.0}};
    Matrix crossed(4, 4);
    crossed(0, 2) = crossed(2, 0) = 1.0;
    const TiledMatrix cells = pack(crossed);
    const TiledFeatures of_cells(cells);
    const LiftedTiles lifted(of_cells, interpolation(layout));
    check_edges({&lifted, 1.0, CountMatrix(layout.n()), 1.0},
                pixels::lifted(interpolation_twin(layout), crossed));
}

void components_of_all_layouts() {
    for (const Layout& layout : layouts) {
        if (layout.n() > 1000) continue;
        const OrderedGraph graph = random_color_graph(layout.height, layout.width);
        const TiledMatrix cells = pack(random_gram(layout.cells.grid.size()));
        const TiledFeatures of_cells(cells);
        const LiftedTiles lifted(of_cells, {layout.cells, layout.width, graph.order});
        const Matrix w = pixels::lifted(pixels::interpolation(layout.cells, layout.width, graph.order),
                                        pixels::to_matrix(cells));
        check_edges({&lifted, 1.0, CountMatrix(layout.n()), 1.0}, w);
        check_edges({&lifted, 2.0, graph.matrix, 3.0},
                    pixels::sum(2.0, w, 3.0, pixels::to_matrix(graph.matrix)));
    }
}

// Two halves of features, and a graph of colours whose edges alone connect them.
void colors_join_what_features_do_not() {
    const Layout layout{2, 12, {{1, 3}, 2.0, 4.0}};
    Matrix gram(3, 3);
    gram(0, 0) = gram(2, 2) = 1.0;
    const TiledMatrix cells = pack(gram);
    std::vector<std::int32_t> order(layout.n());
    std::iota(order.begin(), order.end(), 0);
    const TiledFeatures of_cells(cells);
    const LiftedTiles lifted(of_cells, {layout.cells, layout.width, order});
    const Matrix of_features = pixels::lifted(pixels::interpolation(layout.cells, layout.width, order), gram);
    CountMatrix bridge(layout.n());  // slices of four rows: (0, 23) is in the first, (23, 0) in the last
    bridge.slice_starts = {0, 4, 4, 4, 4, 4, 8};
    bridge.columns = {23, 0, 0, 0, 0, 0, 0, 0};
    bridge.counts = {1, 0, 0, 0, 0, 0, 0, 1};
    const auto n_components = [](const Matrix& w) {
        const std::vector<std::size_t> numbers = pixels::components(w);
        return *std::max_element(numbers.begin(), numbers.end()) + 1;
    };
    const Matrix colors = pixels::to_matrix(bridge);
    CHECK_EQUAL(n_components(of_features), 2u);
    CHECK_EQUAL(n_components(pixels::sum(1.0, of_features, 1.0, colors)), 1u);
    check_edges({&lifted, 1.0, bridge, 1.0}, pixels::sum(1.0, of_features, 1.0, colors));
    check_edges({&lifted, 1.0, bridge, 0.0}, of_features);
    check_edges({nullptr, 1.0, bridge, 1.0}, colors);
}

void parts_of_other_sizes_are_refused() {
    const Layout layout{2, 3, {{1, 2}, 2.0, 2.0}};
    const TiledMatrix two = pack(random_gram(2)), three = pack(random_gram(3));
    CHECK_THROWS(std::invalid_argument, "a row for each of 2 cells, got 3",
                 LiftedTiles(TiledFeatures(three), interpolation(layout)));
    const TiledFeatures of_cells(two);
    const LiftedTiles lifted(of_cells, interpolation(layout));
    const CountMatrix colors(7);
    CHECK_THROWS(std::invalid_argument, "got 6 and 7 rows", PixelAffinity(&lifted, 1.0, colors, 1.0));
}

void bytes_grow_with_the_image() {
    CHECK(ImplicitAffinity::product_bytes(1000) >= 8.0 * 1000);
    CHECK(ImplicitAffinity::product_bytes(2000) > ImplicitAffinity::product_bytes(1000));
    CHECK(LiftedFeatures::bytes(1000, 100) >= 12.0 * 1000 + 16.0 * 100);
    CHECK(LiftedFeatures::bytes(2000, 100) > LiftedFeatures::bytes(1000, 100));
    CHECK(SampledFeatures::bytes(1000) >= 28.0 * 1000);
    CHECK(SampledFeatures::bytes(2000) > SampledFeatures::bytes(1000));
}

}  // namespace

int main() {
    interpolation_by_hand();
    interpolation_equals_its_formula();
    lifted_features_are_u_a_ut();
    sampled_features_are_some_of_all();
    one_of_every_stretch_is_drawn();
    affinity_adds_its_parts();
    components_follow_the_cells();
    components_of_crossed_cells();
    components_of_all_layouts();
    colors_join_what_features_do_not();
    parts_of_other_sizes_are_refused();
    bytes_grow_with_the_image();
    return check::result();
}

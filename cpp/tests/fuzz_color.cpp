#include <array>
#include <numbers>
#include <span>
#include <string>

#include "deepspec/color_graph.hpp"
#include "deepspec/kd_tree.hpp"
#include "fuzz.hpp"

namespace fuzz {
namespace {

using namespace deepspec;

template <std::size_t D>
using Points = std::vector<std::array<double, D>>;

template <std::size_t D>
double squared_distance(const std::array<double, D>& a, const std::array<double, D>& b) {
    double sum = 0.0;
    for (std::size_t d = 0; d < D; ++d) sum += (a[d] - b[d]) * (a[d] - b[d]);
    return sum;
}

// The k nearest of points[i] by (squared distance, index), ascending by index.
template <std::size_t D>
std::vector<std::int32_t> nearest(const Points<D>& points, std::size_t i, std::size_t k) {
    std::vector<std::pair<double, std::int32_t>> all;
    for (std::size_t j = 0; j < points.size(); ++j)
        all.emplace_back(squared_distance(points[i], points[j]), static_cast<std::int32_t>(j));
    std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k), all.end());
    std::vector<std::int32_t> indices;
    for (std::size_t j = 0; j < k; ++j) indices.push_back(all[j].second);
    std::sort(indices.begin(), indices.end());
    return indices;
}

// Points in clusters or evenly spread, on a lattice (ties and duplicates) or not, of any scale.
template <std::size_t D>
Points<D> random_points(std::size_t n, Random& random) {
    const bool lattice = random.chance(0.4);
    const auto levels = static_cast<double>(random.size(1, 30));
    const double scale = random.chance(0.5) ? 1.0 : random.magnitude(1e-150, 1e150);
    const double spread = random.chance(0.5) ? 1.0 : random.magnitude(1e-10, 1.0);  // of a cluster
    Points<D> centers(random.size(1, 20));
    for (auto& center : centers)
        for (double& coordinate : center) coordinate = random.uniform(-1.0, 1.0);
    Points<D> points(n);
    for (auto& point : points) {
        point = centers[random.between(0, centers.size() - 1)];
        for (double& coordinate : point) {
            const double offset = random.uniform(-1.0, 1.0);
            coordinate += spread * (lattice ? std::floor(offset * levels) / levels : offset);
            coordinate *= scale;
        }
    }
    return points;
}

template <std::size_t D>
void attempt_neighbors(Random& random) {
    const Points<D> points = random_points<D>(random.size(1, 1000), random);
    const std::size_t k =
        random.size(1, std::min<std::size_t>(points.size(), random.chance(0.9) ? 40 : 1000));
    const KdTree<D> tree(points);
    std::vector<std::vector<std::int32_t>> found(points.size());
    const auto visit = [&](std::size_t slot, std::span<const std::int32_t> near) {
        for (const std::int32_t other : near)
            found[static_cast<std::size_t>(tree.order()[slot])].push_back(
                tree.order()[static_cast<std::size_t>(other)]);
    };
    const std::size_t middle = random.between(0, tree.n_leaves());
    tree.search(0, middle, k, visit);
    tree.search(middle, tree.n_leaves(), k, visit);
    for (std::size_t i = 0; i < points.size(); ++i) {
        std::sort(found[i].begin(), found[i].end());
        CHECK(found[i] == nearest(points, i, k));
    }
}

struct Image {
    std::size_t height, width;
    std::vector<double> pixels;

    ImageView view() const { return {pixels.data(), height, width}; }
    std::size_t size() const { return height * width; }
    const double* rgb(std::size_t i) const { return pixels.data() + 3 * i; }
    double x(std::size_t i) const { return along(i % width, width); }
    double y(std::size_t i) const { return along(i / width, height); }

  private:
    static double along(std::size_t at, std::size_t count) {
        return count > 1 ? static_cast<double>(at) / static_cast<double>(count - 1) : 0.0;
    }
};

// Of one colour, of a few, grey, a gradient, or noise.
Image random_image(Random& random) {
    const std::size_t cells = random.size(1, 700), height = random.size(1, cells);
    Image image{height, cells / height, {}};
    const auto levels = static_cast<double>(random.size(1, 255));
    const bool gray = random.chance(0.2), gradient = random.chance(0.2), constant = random.chance(0.1);
    for (std::size_t i = 0; i < image.size(); ++i)
        for (std::size_t c = 0; c < 3; ++c) {
            double value = gradient ? 0.5 * image.x(i) + 0.4 * image.y(i) : random.uniform(0.0, 1.0);
            value = std::round(value * levels) / levels;
            if (gray && c > 0) value = image.pixels[3 * i];
            image.pixels.push_back(constant ? 0.3 : value);
        }
    return image;
}

// Columns ascend strictly, entries are positive.
Dense to_dense(const SparseMatrix& graph) {
    Dense dense(graph.n);
    CHECK_EQUAL(graph.row_starts.size(), graph.n + 1);
    CHECK_EQUAL(static_cast<std::size_t>(graph.row_starts.back()), graph.columns.size());
    CHECK_EQUAL(graph.values.size(), graph.columns.size());
    for (std::size_t i = 0; i < graph.n; ++i) {
        std::int32_t last = -1;
        for (std::int64_t slot = graph.row_starts[i]; slot < graph.row_starts[i + 1]; ++slot) {
            const auto at = static_cast<std::size_t>(slot);
            CHECK(graph.columns[at] > last && static_cast<std::size_t>(graph.columns[at]) < graph.n);
            CHECK(graph.values[at] > 0.0);
            last = graph.columns[at];
            dense(i, static_cast<std::size_t>(last)) = graph.values[at];
        }
    }
    return dense;
}

void check_near(const Dense& actual, const Dense& expected, double tolerance) {
    CHECK_EQUAL(actual.n, expected.n);
    for (std::size_t i = 0; i < actual.n; ++i)
        for (std::size_t j = 0; j < actual.n; ++j) CHECK_NEAR(actual(i, j), expected(i, j), tolerance);
}

void check_same(const SparseMatrix& a, const SparseMatrix& b) {
    CHECK(a.row_starts == b.row_starts);
    CHECK(a.columns == b.columns);
    CHECK(a.values == b.values);
}

Dense expected_knn(const Image& image, std::span<const ColorSearch> searches) {
    Dense expected(image.size());
    for (const ColorSearch& search : searches) {
        Points<5> points;
        for (std::size_t i = 0; i < image.size(); ++i) {
            const double* rgb = image.rgb(i);
            points.push_back({rgb[0], rgb[1], rgb[2], search.position_weight * image.x(i),
                              search.position_weight * image.y(i)});
        }
        for (std::size_t i = 0; i < points.size(); ++i)
            for (const std::int32_t j : nearest(points, i, std::min(search.neighbors, points.size()))) {
                expected(i, static_cast<std::size_t>(j)) += 1.0;
                expected(static_cast<std::size_t>(j), i) += 1.0;
            }
    }
    return expected;
}

// psi of Eq. 1, the hue from the hexagon's corners.
std::array<double, 6> psi(const Image& image, std::size_t i) {
    const double* rgb = image.rgb(i);
    const auto brightest = static_cast<std::size_t>(std::max_element(rgb, rgb + 3) - rgb);
    const double value = rgb[brightest], least = *std::min_element(rgb, rgb + 3);
    double turn = 0.0;
    if (value > least)
        turn = (2.0 * static_cast<double>(brightest) +
                (rgb[(brightest + 1) % 3] - rgb[(brightest + 2) % 3]) / (value - least)) /
               6.0;
    const double hue = 2.0 * std::numbers::pi * turn;
    return {std::cos(hue), std::sin(hue), value > 0.0 ? 1.0 - least / value : 0.0,
            value,         image.x(i),    image.y(i)};
}

// Pixels whose distances differ by no more than rounding may change places.
void check_knn_hsv(const Dense& graph, const Image& image, std::size_t neighbors) {
    constexpr double rounding = 1e-9;
    const std::size_t n = image.size();
    Points<6> points;
    for (std::size_t i = 0; i < n; ++i) points.push_back(psi(image, i));
    Dense distances(n);
    std::vector<double> limits;
    for (std::size_t i = 0; i < n; ++i) {
        std::vector<double> sorted;
        for (std::size_t j = 0; j < n; ++j) {
            distances(i, j) = std::sqrt(squared_distance(points[i], points[j]));
            sorted.push_back(distances(i, j));
        }
        std::sort(sorted.begin(), sorted.end());
        limits.push_back(sorted[std::min(neighbors, n) - 1]);
    }
    for (std::size_t i = 0; i < n; ++i) {
        std::size_t n_positive = 0;
        for (std::size_t j = 0; j < n; ++j) {
            const double limit = std::max(limits[i], limits[j]), distance = distances(i, j);
            CHECK_EQUAL(graph(i, j), graph(j, i));
            if (graph(i, j) > 0.0) {
                CHECK(distance <= limit + rounding);
                CHECK_NEAR(graph(i, j), 1.0 - distance, rounding);
            } else {
                CHECK(distance >= limit - rounding || distance >= 1.0 - rounding);
            }
            n_positive += graph(i, j) > 0.0;
        }
        if (limits[i] < 1.0 - rounding) CHECK(n_positive >= std::min(neighbors, n));
    }
}

Dense expected_random_walk(const Image& image) {
    Dense expected(image.size());
    const auto clamped = [](std::size_t at, int step, std::size_t count) {
        return static_cast<std::size_t>(
            std::clamp(static_cast<int>(at) + step, 0, static_cast<int>(count) - 1));
    };
    for (std::size_t i = 0; i < image.size(); ++i)
        for (const int down : {-1, 0, 1})
            for (const int right : {-1, 0, 1}) {
                const std::size_t j = clamped(i / image.width, down, image.height) * image.width +
                                      clamped(i % image.width, right, image.width);
                double squared = 0.0;
                for (std::size_t c = 0; c < 3; ++c) squared += std::pow(image.rgb(i)[c] - image.rgb(j)[c], 2);
                expected(i, j) += std::exp(-900.0 * squared);
            }
    return expected;
}

}  // namespace

void try_neighbors(Random& random) {
    switch (random.between(0, 2)) {
        case 0:
            return attempt_neighbors<2>(random);
        case 1:
            return attempt_neighbors<5>(random);
        default:
            return attempt_neighbors<6>(random);
    }
}

void try_color_graphs(Random& random) {
    const Image image = random_image(random);
    ThreadPool pool(static_cast<int>(random.between(1, 4))), other(static_cast<int>(random.between(1, 4)));

    std::vector<ColorSearch> searches(random.size(1, 4));
    for (auto& [neighbors, weight] : searches) {
        neighbors = random.size(1, random.chance(0.9) ? 30 : 2000);
        weight = random.chance(0.2) ? 0.0 : random.magnitude(1e-3, 1e3);
    }
    const SparseMatrix knn = knn_color_graph(image.view(), searches, pool);
    check_near(to_dense(knn), expected_knn(image, searches), 0.0);
    check_same(knn, knn_color_graph(image.view(), searches, other));

    const std::size_t neighbors = random.size(1, random.chance(0.9) ? 30 : 2000);
    const SparseMatrix hsv = knn_hsv_color_graph(image.view(), neighbors, pool);
    check_knn_hsv(to_dense(hsv), image, neighbors);
    check_same(hsv, knn_hsv_color_graph(image.view(), neighbors, other));

    const SparseMatrix walk = random_walk_color_graph(image.view(), pool);
    check_near(to_dense(walk), expected_random_walk(image), 1e-12);
    check_same(walk, random_walk_color_graph(image.view(), other));
}

}  // namespace fuzz

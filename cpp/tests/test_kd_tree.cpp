#include <algorithm>
#include <random>
#include <stdexcept>

#include "check.hpp"
#include "deepspec/kd_tree.hpp"
#include "instruction_set.hpp"

using namespace deepspec;

namespace {

template <std::size_t D>
using Points = std::vector<std::array<double, D>>;

// Coordinates of `levels` steps from 0 to 1; few levels make duplicates and ties.
template <std::size_t D>
Points<D> random_points(std::size_t n, int levels, unsigned seed) {
    std::mt19937 random(seed);
    Points<D> points(n);
    for (auto& point : points)
        for (double& coordinate : point)
            coordinate = static_cast<double>(random() % static_cast<unsigned>(levels)) / levels;
    return points;
}

template <std::size_t D>
Points<D> mapped(Points<D> points, double scale, double shift) {
    for (auto& point : points)
        for (double& coordinate : point) coordinate = scale * coordinate + shift;
    return points;
}

// The k nearest of points[i] by (squared distance, index), ascending by index.
template <std::size_t D>
std::vector<std::int32_t> expected_neighbors(const Points<D>& points, std::size_t i, std::size_t k) {
    std::vector<std::pair<double, std::int32_t>> all;
    for (std::size_t j = 0; j < points.size(); ++j) {
        double squared = 0.0;
        for (std::size_t d = 0; d < D; ++d)
            squared += (points[j][d] - points[i][d]) * (points[j][d] - points[i][d]);
        all.emplace_back(squared, static_cast<std::int32_t>(j));
    }
    std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(k), all.end());
    std::vector<std::int32_t> nearest;
    for (std::size_t j = 0; j < k; ++j) nearest.push_back(all[j].second);
    std::sort(nearest.begin(), nearest.end());
    return nearest;
}

// Every `step`-th point against brute force.
template <std::size_t D>
void check_neighbors(const Points<D>& points, std::size_t k, std::size_t step = 1) {
    const KdTree<D> tree(points);
    std::vector<std::vector<std::int32_t>> found(points.size());
    const auto visit = [&](std::size_t slot, std::span<const std::int32_t> nearest) {
        std::vector<std::int32_t>& points_found = found[static_cast<std::size_t>(tree.order()[slot])];
        CHECK(points_found.empty());
        for (const std::int32_t near : nearest)
            points_found.push_back(tree.order()[static_cast<std::size_t>(near)]);
    };
    const std::size_t middle = tree.n_leaves() / 3;
    tree.search(middle, tree.n_leaves(), k, visit);
    tree.search(0, middle, k, visit);
    for (std::size_t i = 0; i < points.size(); ++i) {
        CHECK_EQUAL(found[i].size(), k);
        if (i % step != 0) continue;
        std::sort(found[i].begin(), found[i].end());
        CHECK(found[i] == expected_neighbors(points, i, k));
    }
}

template <std::size_t D>
void check_dimension() {
    for (const std::size_t n : {1u, 2u, 16u, 17u, 33u, 257u, 400u})
        for (const int levels : {1, 2, 5, 1'000'000})
            for (const std::size_t k : {std::size_t{1}, std::size_t{2}, std::size_t{20}, n})
                if (k <= n) check_neighbors(random_points<D>(n, levels, 1), k);
    // Three levels of groups, the last of each not full.
    for (const int levels : {3, 256, 1'000'000}) check_neighbors(random_points<D>(5000, levels, 2), 20, 50);
}

// Coordinates that differ less than floats do, or that floats do not hold.
void check_beyond_float() {
    for (const double scale : {1e-9, 1e-7, 1e-5}) {
        check_neighbors(mapped(random_points<5>(600, 1'000'000, 3), scale, 0.7), 10, 3);
        check_neighbors(mapped(random_points<5>(600, 4, 3), scale, -0.7), 10, 3);
        auto clusters = mapped(random_points<5>(600, 1'000'000, 3), scale, 0.0);
        for (std::size_t i = 0; i < clusters.size(); ++i) clusters[i][0] += static_cast<double>(i % 7);
        check_neighbors(clusters, 100, 3);
    }
    for (const double scale : {1e-100, 1e-30, 1e30, 1e150})
        check_neighbors(mapped(random_points<6>(300, 1'000'000, 4), scale, 0.0), 7);
    check_neighbors(mapped(random_points<2>(100, 1'000'000, 4), 0.0, 0.0), 7);
}

// More ties than a search has room for.
void check_many_ties() {
    check_neighbors(Points<5>(1500, {0.1, 0.2, 0.3, 0.4, 0.5}), 20, 10);
    Points<2> ring;
    for (int i = 0; i < 500; ++i) ring.push_back({i % 2 == 0 ? 1.0 : -1.0, 0.0});
    ring.push_back({0.0, 0.0});
    check_neighbors(ring, 30, 5);
}

}  // namespace

int main() {
    if (!check::has_kernels()) return check::skipped;
    check_dimension<2>();
    check_dimension<5>();
    check_dimension<6>();
    check_beyond_float();
    check_many_ties();
    return check::result();
}

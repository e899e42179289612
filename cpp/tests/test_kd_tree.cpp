#include <algorithm>
#include <random>

#include "check.hpp"
#include "deepspec/kd_tree.hpp"

using namespace deepspec;

namespace {

// Coordinates of `levels` steps from 0 to 1; few levels make duplicates and ties.
template <std::size_t D>
std::vector<std::array<double, D>> random_points(std::size_t n, int levels, unsigned seed) {
    std::mt19937 random(seed);
    std::vector<std::array<double, D>> points(n);
    for (auto& point : points)
        for (double& coordinate : point)
            coordinate = static_cast<double>(random() % static_cast<unsigned>(levels)) / levels;
    return points;
}

template <std::size_t D>
void check_against_brute_force(const std::vector<std::array<double, D>>& points,
                               const std::vector<std::array<double, D>>& queries) {
    using Neighbor = typename KdTree<D>::Neighbor;
    const KdTree<D> tree(points);

    std::vector<std::int32_t> order = tree.order();
    std::sort(order.begin(), order.end());
    for (std::size_t i = 0; i < points.size(); ++i) CHECK_EQUAL(order[i], static_cast<std::int32_t>(i));

    std::vector<Neighbor> nearest;
    for (const auto& query : queries) {
        std::vector<Neighbor> all;
        for (std::size_t i = 0; i < points.size(); ++i) {
            double squared = 0.0;
            for (std::size_t d = 0; d < D; ++d)
                squared += (points[i][d] - query[d]) * (points[i][d] - query[d]);
            all.push_back({squared, static_cast<std::int32_t>(i)});
        }
        std::sort(all.begin(), all.end());
        for (const std::size_t k : {std::size_t{1}, std::size_t{2}, std::size_t{20}, points.size()}) {
            if (k > points.size()) continue;
            tree.search(query, k, nearest);
            CHECK_EQUAL(nearest.size(), k);
            for (std::size_t j = 0; j < k; ++j) {
                CHECK_EQUAL(nearest[j].index, all[j].index);
                CHECK_EQUAL(nearest[j].squared_distance, all[j].squared_distance);
            }
        }
    }
}

template <std::size_t D>
void check_dimension() {
    for (const std::size_t n : {1u, 2u, 16u, 17u, 33u, 400u})
        for (const int levels : {1, 2, 5, 1'000'000}) {
            const auto points = random_points<D>(n, levels, 1);
            check_against_brute_force(points, points);
            auto elsewhere = random_points<D>(20, levels, 2);
            for (auto& query : elsewhere)
                for (double& coordinate : query) coordinate = 3.0 * coordinate - 1.0;
            check_against_brute_force(points, elsewhere);
        }
}

}  // namespace

int main() {
    check_dimension<2>();
    check_dimension<5>();
    check_dimension<6>();
    return check::result();
}

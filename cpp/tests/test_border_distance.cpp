#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "check.hpp"
#include "deepspec/border_distance.hpp"

using namespace deepspec;

namespace {

// Costs brought down, cell by cell, until none falls further.
template <class Start, class Extend>
std::vector<float> relaxed(std::size_t rows, std::size_t columns, Start start, Extend extend) {
    std::vector<float> costs(rows * columns, std::numeric_limits<float>::infinity());
    for (std::size_t i = 0; i < costs.size(); ++i)
        if (i / columns == 0 || i / columns == rows - 1 || i % columns == 0 || i % columns == columns - 1)
            costs[i] = start(i);
    for (bool changed = true; changed;) {
        changed = false;
        for (std::size_t i = 0; i < costs.size(); ++i)
            for (std::size_t j = 0; j < costs.size(); ++j) {
                const std::size_t steps =
                    std::max(i / columns, j / columns) - std::min(i / columns, j / columns) +
                    std::max(i % columns, j % columns) - std::min(i % columns, j % columns);
                if (steps != 1 || !(extend(costs[i], i, j) < costs[j])) continue;
                costs[j] = extend(costs[i], i, j);
                changed = true;
            }
    }
    return costs;
}

void distances_equal_relaxation() {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    constexpr std::array<std::array<std::size_t, 3>, 6> shapes{
        {{1, 1, 1}, {1, 5, 2}, {6, 1, 3}, {2, 2, 3}, {7, 9, 3}, {12, 5, 1}}};
    for (const auto& shape : shapes) {
        const std::size_t rows = shape[0], columns = shape[1], channels = shape[2];
        std::vector<float> grid(rows * columns * channels);
        for (float& value : grid) value = uniform(random);
        const auto at = [&](std::size_t cell, std::size_t c) { return grid[cell * channels + c]; };
        const BorderDistances found = border_distances(grid.data(), rows, columns, channels);
        const std::vector<float> geodesic = relaxed(
            rows, columns, [](std::size_t) { return 0.0f; },
            [&](float cost, std::size_t from, std::size_t to) {
                float squared = 0.0f;
                for (std::size_t c = 0; c < channels; ++c)
                    squared += (at(from, c) - at(to, c)) * (at(from, c) - at(to, c));
                return cost + std::sqrt(squared);
            });
        std::vector<float> barrier(rows * columns);
        for (std::size_t c = 0; c < channels; ++c) {
            const auto value = [&](std::size_t cell) { return at(cell, c); };
            const auto lower = [&](std::size_t cell) { return -at(cell, c); };
            const std::vector<float> over =
                relaxed(rows, columns, value,
                        [&](float cost, std::size_t, std::size_t to) { return std::max(cost, value(to)); });
            const std::vector<float> under =
                relaxed(rows, columns, lower,
                        [&](float cost, std::size_t, std::size_t to) { return std::max(cost, lower(to)); });
            for (std::size_t i = 0; i < barrier.size(); ++i) barrier[i] += over[i] + under[i];
        }
        CHECK_EQUAL(found.geodesic.size(), rows * columns);
        CHECK_EQUAL(found.barrier.size(), rows * columns);
        for (std::size_t i = 0; i < rows * columns; ++i) {
            CHECK_NEAR(found.geodesic[i], geodesic[i], 1e-5);
            CHECK_NEAR(found.barrier[i], barrier[i], 1e-5);
        }
    }
}

void distances_by_hand() {
    const std::vector<float> grid{0, 0, 0, 0, 0,  //
                                  0, 5, 5, 5, 0,  //
                                  0, 5, 9, 1, 0,  //
                                  0, 5, 2, 5, 0,  //
                                  0, 0, 0, 0, 0};
    const BorderDistances found = border_distances(grid.data(), 5, 5, 1);
    const std::vector<float> geodesic{0, 0, 0, 0, 0, 0, 5, 5, 5, 0, 0, 5, 9,
                                      1, 0, 0, 5, 2, 5, 0, 0, 0, 0, 0, 0};
    CHECK(found.geodesic == geodesic);
    CHECK(found.barrier == grid);  // hills alone: all of them are as high as they look
    // From 4 all around, the way to the 0 in the middle climbs to 6 and falls by 6.
    const std::vector<float> bowl{4, 4, 4, 4, 4,  //
                                  4, 6, 7, 6, 4,  //
                                  4, 7, 0, 6, 4,  //
                                  4, 6, 7, 6, 4,  //
                                  4, 4, 4, 4, 4};
    CHECK_EQUAL(border_distances(bowl.data(), 5, 5, 1).geodesic[12], 8.0f);
    // The path's maximum of 6 over a depth of 0, and its minimum of 0.
    CHECK_EQUAL(border_distances(bowl.data(), 5, 5, 1).barrier[12], 6.0f);
}

}  // namespace

int main() {
    distances_equal_relaxation();
    distances_by_hand();
    return check::result();
}

#include "deepspec/border_distance.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <queue>
#include <utility>

namespace deepspec {
namespace {

// A cell and what it costs to reach it, as one number that grows with the cost.
using Entry = std::uint64_t;

Entry make_entry(float cost, std::size_t cell) {
    const auto bits = std::bit_cast<std::uint32_t>(cost);
    const std::uint32_t ordered = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return Entry{ordered} << 32 | cell;
}

float cost_of(Entry entry) {
    const auto ordered = static_cast<std::uint32_t>(entry >> 32);
    return std::bit_cast<float>(ordered & 0x80000000u ? ordered & 0x7fffffffu : ~ordered);
}

// Dijkstra's algorithm from all border cells at once, for any cost that never falls along a path: start(cell)
// on the border, extend(cost, from, to) from there.
template <class Start, class Extend>
std::vector<float> least_costs(std::size_t rows, std::size_t columns, const Start& start,
                               const Extend& extend) {
    std::vector<float> costs(rows * columns, std::numeric_limits<float>::infinity());
    std::vector<Entry> of_border;
    for (std::size_t cell = 0; cell < costs.size(); ++cell) {
        const std::size_t row = cell / columns, column = cell % columns;
        if (row != 0 && row + 1 != rows && column != 0 && column + 1 != columns) continue;
        costs[cell] = start(cell);
        of_border.push_back(make_entry(costs[cell], cell));
    }
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open(std::greater<>(),
                                                                        std::move(of_border));
    while (!open.empty()) {
        const Entry least = open.top();
        open.pop();
        const float cost = cost_of(least);
        const std::size_t cell = static_cast<std::uint32_t>(least);
        if (cost > costs[cell]) continue;
        const auto reach = [&, cost, cell](std::size_t neighbor) {
            const float found = extend(cost, cell, neighbor);
            if (found >= costs[neighbor]) return;
            costs[neighbor] = found;
            open.push(make_entry(found, neighbor));
        };
        const std::size_t row = cell / columns, column = cell % columns;
        if (row > 0) reach(cell - columns);
        if (row + 1 < rows) reach(cell + columns);
        if (column > 0) reach(cell - 1);
        if (column + 1 < columns) reach(cell + 1);
    }
    return costs;
}

}  // namespace

BorderDistances border_distances(const float* grid, std::size_t rows, std::size_t columns,
                                 std::size_t channels) {
    BorderDistances distances;
    distances.geodesic = least_costs(
        rows, columns, [](std::size_t) { return 0.0f; },
        [=](float cost, std::size_t from, std::size_t to) {
            float squared = 0.0f;
            for (std::size_t c = 0; c < channels; ++c) {
                const float difference = grid[from * channels + c] - grid[to * channels + c];
                squared += difference * difference;
            }
            return cost + std::sqrt(squared);
        });
    distances.barrier.assign(rows * columns, 0.0f);
    std::vector<float> values(rows * columns);
    for (std::size_t c = 0; c < channels; ++c)
        for (const float sign : {1.0f, -1.0f}) {
            for (std::size_t cell = 0; cell < values.size(); ++cell)
                values[cell] = sign * grid[cell * channels + c];
            const std::vector<float> highest = least_costs(
                rows, columns, [&](std::size_t cell) { return values[cell]; },
                [&](float cost, std::size_t, std::size_t to) { return std::max(cost, values[to]); });
            for (std::size_t cell = 0; cell < values.size(); ++cell)
                distances.barrier[cell] += highest[cell] - values[cell];
        }
    return distances;
}

}  // namespace deepspec

#include "deepspec/border_distance.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <queue>
#include <utility>

namespace deepspec {
namespace {

// Dijkstra's algorithm from all border cells at once, for any cost that never falls along a path: start(cell)
// on the border, extend(cost, from, to) from there.
template <class Start, class Extend>
std::vector<float> least_costs(std::size_t rows, std::size_t columns, const Start& start,
                               const Extend& extend) {
    using Entry = std::pair<float, std::size_t>;
    std::vector<float> costs(rows * columns, std::numeric_limits<float>::infinity());
    std::vector<Entry> of_border;
    for (std::size_t cell = 0; cell < costs.size(); ++cell) {
        const std::size_t row = cell / columns, column = cell % columns;
        if (row != 0 && row + 1 != rows && column != 0 && column + 1 != columns) continue;
        costs[cell] = start(cell);
        of_border.emplace_back(costs[cell], cell);
    }
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> open(std::greater<>(),
                                                                        std::move(of_border));
    while (!open.empty()) {
        const auto [cost, cell] = open.top();
        open.pop();
        if (cost > costs[cell]) continue;
        const std::size_t row = cell / columns, column = cell % columns;
        const std::array<std::pair<bool, std::size_t>, 4> neighbors{{{row > 0, cell - columns},
                                                                     {row + 1 < rows, cell + columns},
                                                                     {column > 0, cell - 1},
                                                                     {column + 1 < columns, cell + 1}}};
        for (const auto& [inside, neighbor] : neighbors) {
            if (!inside) continue;
            const float found = extend(cost, cell, neighbor);
            if (found >= costs[neighbor]) continue;
            costs[neighbor] = found;
            open.emplace(found, neighbor);
        }
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

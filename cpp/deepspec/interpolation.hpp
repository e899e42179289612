#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

namespace deepspec {

struct Grid {
    std::size_t height = 0, width = 0;

    std::size_t size() const { return height * width; }
    bool operator==(const Grid&) const = default;
};

// Four cells of a grid, and what each contributes to a cell of another.
struct Corners {
    std::array<std::size_t, 4> cells;
    std::array<float, 4> weights;
};

// Bilinear interpolation from one grid to another, cell centres aligned and edges clamped: the corners of
// each cell of `to`, row by row.
inline std::vector<Corners> interpolate(Grid from, Grid to) {
    struct Pair {
        std::size_t low, high;
        float low_weight, high_weight;
    };
    const auto along = [](std::size_t coarse, std::size_t fine) {
        std::vector<Pair> pairs(fine);
        for (std::size_t i = 0; i < fine; ++i) {
            const double scale = static_cast<double>(coarse) / static_cast<double>(fine);
            const double position = std::max(0.0, (static_cast<double>(i) + 0.5) * scale - 0.5);
            const std::size_t low = std::min(static_cast<std::size_t>(position), coarse - 1);
            const double weight = position - static_cast<double>(low);
            pairs[i] = {low, std::min(low + 1, coarse - 1), static_cast<float>(1.0 - weight),
                        static_cast<float>(weight)};
        }
        return pairs;
    };
    const std::vector<Pair> rows = along(from.height, to.height), columns = along(from.width, to.width);
    std::vector<Corners> corners;
    corners.reserve(to.size());
    for (const Pair& y : rows)
        for (const Pair& x : columns)
            corners.push_back({{y.low * from.width + x.low, y.low * from.width + x.high,
                                y.high * from.width + x.low, y.high * from.width + x.high},
                               {y.low_weight * x.low_weight, y.low_weight * x.high_weight,
                                y.high_weight * x.low_weight, y.high_weight * x.high_weight}});
    return corners;
}

}  // namespace deepspec

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

// The first of the two cells of an axis between whose centres something lies, and the share of the second.
struct Between {
    std::size_t low;
    double share;
};

// Of the centre of unit `index` where each of n_cells cells is `cell` units long; clamped at either end.
inline Between between_cells(std::size_t index, std::size_t n_cells, double cell) {
    const double position =
        std::clamp((static_cast<double>(index) + 0.5) / cell - 0.5, 0.0, static_cast<double>(n_cells - 1));
    const auto low = static_cast<std::size_t>(position);
    return {low, position - static_cast<double>(low)};
}

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
            const auto [low, share] =
                between_cells(i, coarse, static_cast<double>(fine) / static_cast<double>(coarse));
            pairs[i] = {low, std::min(low + 1, coarse - 1), static_cast<float>(1.0 - share),
                        static_cast<float>(share)};
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

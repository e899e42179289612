#pragma once

#include <cstddef>
#include <vector>

namespace deepspec {

// How far each cell of a grid is from the grid's border, along 4-connected paths.
struct BorderDistances {
    // The least sum of the Euclidean differences between a path's cells.
    std::vector<float> geodesic;
    // Summed over channels: the least maximum of a path less the greatest minimum of one, the depth of the
    // basins and the height of the hills that a cell lies in. At most the minimum barrier distance, which
    // asks both of the same path, and, unlike that, found exactly in time n log n.
    std::vector<float> barrier;
};

// grid: (rows, columns, channels), finite; fewer than 2^32 cells.
BorderDistances border_distances(const float* grid, std::size_t rows, std::size_t columns,
                                 std::size_t channels);

}  // namespace deepspec

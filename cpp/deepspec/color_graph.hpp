#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "deepspec/parallel.hpp"
#include "deepspec/sparse.hpp"

// The colour affinities: each a symmetric matrix over the pixels of an image, row-major.
namespace deepspec {

// Interleaved RGB in [0, 1].
struct ImageView {
    const double* pixels = nullptr;
    std::size_t height = 0;
    std::size_t width = 0;
};

// One search of the KNN graph: the k nearest in (r, g, b, weight x, weight y), x and y from 0 to 1.
struct ColorSearch {
    std::size_t neighbors;
    double position_weight;
};

// Each neighbour j of i that a search finds (i itself among them) adds 1 to W_ij and 1 to W_ji.
SparseMatrix knn_color_graph(ImageView image, std::span<const ColorSearch> searches, ThreadPool& pool);

// The same graph for images of many pixels: a quarter of the memory, and neighbours in the image are near in
// memory too. Vertex v is pixel order[v].
struct OrderedGraph {
    CountMatrix matrix;
    std::vector<std::int32_t> order;
};
OrderedGraph ordered_knn_color_graph(ImageView image, std::span<const ColorSearch> searches,
                                     ThreadPool& pool);

// Eq. 1 of the paper: W_uv = max(0, 1 - |psi(u) - psi(v)|), psi = (cos h, sin h, s, v, x, y), where either
// pixel is among the other's nearest neighbours.
SparseMatrix knn_hsv_color_graph(ImageView image, std::size_t neighbors, ThreadPool& pool);

// exp(-900 |rgb difference|^2) over the 3 x 3 window, the pixel itself included; positions beyond the border
// are clamped to it and count again.
SparseMatrix random_walk_color_graph(ImageView image, ThreadPool& pool);

// Bytes a graph with so many neighbours a pixel takes while it is made.
double color_graph_bytes(std::size_t n_pixels, std::size_t neighbors);
double ordered_color_graph_bytes(std::size_t n_pixels, std::size_t neighbors);

}  // namespace deepspec

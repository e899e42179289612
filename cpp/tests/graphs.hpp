#pragma once

#include <cstddef>
#include <initializer_list>
#include <map>
#include <utility>
#include <vector>

#include "deepspec/sparse.hpp"

// Graphs with known spectra, for the tests.
namespace graphs {

struct Edge {
    std::size_t i, j;
    double weight = 1.0;
};

// Every edge counts in both directions, a loop once.
inline deepspec::SparseMatrix from_edges(std::size_t n, const std::vector<Edge>& edges) {
    std::map<std::pair<std::size_t, std::size_t>, double> entries;
    for (const Edge& edge : edges) entries[{edge.i, edge.j}] = entries[{edge.j, edge.i}] = edge.weight;
    deepspec::SparseMatrix matrix{n, std::vector<std::int64_t>(n + 1, 0), {}, {}};
    for (const auto& [position, weight] : entries) {
        ++matrix.row_starts[position.first + 1];
        matrix.columns.push_back(static_cast<std::int32_t>(position.second));
        matrix.values.push_back(weight);
    }
    for (std::size_t i = 0; i < n; ++i) matrix.row_starts[i + 1] += matrix.row_starts[i];
    return matrix;
}

// The edges of each graph on the vertices first … first + n - 1.
inline std::vector<Edge> path(std::size_t n, std::size_t first = 0) {
    std::vector<Edge> edges;
    for (std::size_t i = 0; i + 1 < n; ++i) edges.push_back({first + i, first + i + 1});
    return edges;
}

inline std::vector<Edge> cycle(std::size_t n) {
    std::vector<Edge> edges = path(n);
    edges.push_back({n - 1, 0});
    return edges;
}

inline std::vector<Edge> complete(std::size_t n, std::size_t first = 0) {
    std::vector<Edge> edges;
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < i; ++j) edges.push_back({first + i, first + j});
    return edges;
}

inline std::vector<Edge> together(std::initializer_list<std::vector<Edge>> parts) {
    std::vector<Edge> edges;
    for (const auto& part : parts) edges.insert(edges.end(), part.begin(), part.end());
    return edges;
}

inline std::vector<double> to_dense(const deepspec::SparseMatrix& matrix) {
    std::vector<double> dense(matrix.n * matrix.n, 0.0);
    for (std::size_t i = 0; i < matrix.n; ++i)
        for (std::int64_t slot = matrix.row_starts[i]; slot < matrix.row_starts[i + 1]; ++slot) {
            const auto at = static_cast<std::size_t>(slot);
            dense[i * matrix.n + static_cast<std::size_t>(matrix.columns[at])] = matrix.values[at];
        }
    return dense;
}

}  // namespace graphs

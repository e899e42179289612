#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "deepspec/pixel_affinity.hpp"

// The affinity of all pixels as matrices, for the tests.
namespace pixels {

// Row-major.
struct Matrix {
    Matrix(std::size_t n_rows, std::size_t n_columns)
        : rows(n_rows), columns(n_columns), entries(n_rows * n_columns, 0.0) {}
    double& operator()(std::size_t i, std::size_t j) { return entries[i * columns + j]; }
    double operator()(std::size_t i, std::size_t j) const { return entries[i * columns + j]; }

    std::size_t rows, columns;
    std::vector<double> entries;
};

// U: bilinear weights are hats over the cells' centres, and positions beyond the last centres are clamped.
inline Matrix interpolation(const deepspec::Cells& cells, std::size_t image_width,
                            const std::vector<std::int32_t>& order) {
    const auto hat = [](std::size_t pixel, double side, std::size_t n_cells, std::size_t cell) {
        const double position = (static_cast<double>(pixel) + 0.5) / side - 0.5;
        const double last = static_cast<double>(n_cells) - 1.0;
        return std::max(0.0, 1.0 - std::abs(std::clamp(position, 0.0, last) - static_cast<double>(cell)));
    };
    Matrix u(order.size(), cells.grid.size());
    for (std::size_t v = 0; v < order.size(); ++v) {
        const auto pixel = static_cast<std::size_t>(order[v]);
        for (std::size_t cell = 0; cell < cells.grid.size(); ++cell)
            u(v, cell) = hat(pixel / image_width, cells.height, cells.grid.height, cell / cells.grid.width) *
                         hat(pixel % image_width, cells.width, cells.grid.width, cell % cells.grid.width);
    }
    return u;
}

// U G U^T
inline Matrix lifted(const Matrix& u, const Matrix& gram) {
    Matrix half(u.rows, u.columns), result(u.rows, u.rows);
    for (std::size_t i = 0; i < u.rows; ++i)
        for (std::size_t a = 0; a < u.columns; ++a)
            for (std::size_t b = 0; u(i, a) != 0.0 && b < u.columns; ++b) half(i, b) += u(i, a) * gram(a, b);
    for (std::size_t j = 0; j < u.rows; ++j)
        for (std::size_t b = 0; b < u.columns; ++b)
            for (std::size_t i = 0; u(j, b) != 0.0 && i < u.rows; ++i) result(i, j) += half(i, b) * u(j, b);
    return result;
}

inline Matrix to_matrix(const deepspec::TiledMatrix& matrix) {
    Matrix result(matrix.size(), matrix.size());
    for (std::size_t i = 0; i < matrix.size(); ++i)
        for (std::size_t j = 0; j < matrix.size(); ++j) result(i, j) = static_cast<double>(matrix.at(i, j));
    return result;
}

inline Matrix to_matrix(const deepspec::CountMatrix& matrix) {
    Matrix result(matrix.n, matrix.n);
    for (std::size_t i = 0; i < matrix.n; ++i)
        matrix.visit_row(i, [&](std::size_t j, std::uint8_t count) {
            result(i, j) += count;
            return true;
        });
    return result;
}

inline Matrix sum(double first_weight, const Matrix& first, double second_weight, const Matrix& second) {
    Matrix result = first;
    for (std::size_t i = 0; i < result.entries.size(); ++i)
        result.entries[i] = first_weight * first.entries[i] + second_weight * second.entries[i];
    return result;
}

// Both halves of what a part visits, each pair of vertices once.
template <class Part>
Matrix visited(const Part& part, std::size_t n) {
    Matrix result(n, n);
    part.visit_edges([&](std::size_t i, std::size_t j, double entry) {
        result(i, j) = result(j, i) = entry;
        return true;
    });
    return result;
}

// The components of positive entries, numbered by their first vertices.
inline std::vector<std::size_t> components(const Matrix& w) {
    std::vector<std::size_t> numbers(w.rows, w.rows);
    std::size_t next = 0;
    for (std::size_t first = 0; first < w.rows; ++first) {
        if (numbers[first] < w.rows) continue;
        std::vector<std::size_t> open{first};
        numbers[first] = next;
        while (!open.empty()) {
            const std::size_t i = open.back();
            open.pop_back();
            for (std::size_t j = 0; j < w.rows; ++j) {
                if (!(w(i, j) > 0.0) || numbers[j] < w.rows) continue;
                numbers[j] = next;
                open.push_back(j);
            }
        }
        ++next;
    }
    return numbers;
}

}  // namespace pixels

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"

namespace deepspec {

// A symmetric n x n matrix in compressed sparse rows, columns ascending in each row; somebody else's memory.
struct SparseView {
    std::size_t n = 0;
    const std::int64_t* row_starts = nullptr;  // n + 1
    const std::int32_t* columns = nullptr;
    const double* values = nullptr;
};

struct SparseMatrix {
    std::size_t n = 0;
    std::vector<std::int64_t> row_starts;
    std::vector<std::int32_t> columns;
    std::vector<double> values;

    SparseView view() const { return {n, row_starts.data(), columns.data(), values.data()}; }
};

// A symmetric n x n matrix of floats, row after row, each filled up with zeros to a multiple of four entries.
// Where a column is twice in a row, its entries add up.
struct RowMatrix {
    static constexpr std::size_t unit = kernels::row_unit;
    static constexpr double largest_weight = 1e30;  // that what becomes floats may be multiplied by

    explicit RowMatrix(std::size_t size = 0) : n(size), row_starts(n + 1) {}

    std::size_t n;
    std::vector<std::int64_t> row_starts;
    LargeVector<std::int32_t> columns;
    LargeVector<float> entries;
};

// A symmetric n x n matrix of small whole numbers, each column once in a row, in five bytes an entry: slices
// of a few rows, in each one entry of every row after the other, filled up with counts of 0 to the length of
// the longest (sliced ELLPACK; Kreutzer et al., SIAM J. Sci. Comput. 36, 2014).
struct CountMatrix {
    static constexpr std::size_t slice = kernels::slice_size;

    explicit CountMatrix(std::size_t size = 0) : n(size), slice_starts((n + slice - 1) / slice + 1) {}

    // visit(column, count) for the entries of row i, until it returns false.
    template <class Visit>
    void visit_row(std::size_t i, Visit visit) const {
        const auto end = static_cast<std::size_t>(slice_starts[i / slice + 1]);
        for (std::size_t slot = static_cast<std::size_t>(slice_starts[i / slice]) + i % slice; slot < end;
             slot += slice)
            if (counts[slot] != 0 && !visit(static_cast<std::size_t>(columns[slot]), counts[slot])) return;
    }

    std::size_t n;
    std::vector<std::int64_t> slice_starts;
    LargeVector<std::int32_t> columns;
    LargeVector<std::uint8_t> counts;
};

}  // namespace deepspec

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

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

// A symmetric n x n matrix of small whole numbers, in compressed sparse rows of five bytes an entry; columns
// in any order, each once in a row.
struct CountMatrix {
    std::size_t n = 0;
    std::vector<std::int64_t> row_starts;
    LargeVector<std::int32_t> columns;
    LargeVector<std::uint8_t> counts;
};

}  // namespace deepspec

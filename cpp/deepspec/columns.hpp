#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "deepspec/kernels/kernels.hpp"
#include "deepspec/parallel.hpp"

// Products of columns of `length` numbers, one after the other; length is a multiple of kernels::length_unit.
// Rows are taken in pieces that do not depend on the number of threads.
namespace deepspec::columns {

constexpr std::size_t piece = 1024;  // rows

// A length that holds n numbers; those behind them are to be zero.
constexpr std::size_t padded(std::size_t n) {
    return (n + kernels::length_unit - 1) / kernels::length_unit * kernels::length_unit;
}

// Rows of a block where n of them are dealt to blocks: an even number of blocks, much alike, of at most
// most_rows.
constexpr std::size_t most_rows = 512;
constexpr std::size_t even_rows(std::size_t n) {
    const std::size_t n_blocks = 2 * ((n + 2 * most_rows - 1) / (2 * most_rows));
    return padded((n + n_blocks - 1) / n_blocks);
}

// Calls body(begin, end) for pieces of the rows; a thread is woken where so many products are worth it.
template <class Body>
void for_pieces(std::size_t length, std::size_t n_products, ThreadPool& pool, const Body& body) {
    constexpr std::size_t worthwhile = 100'000;  // multiplications
    if (n_products * length > worthwhile)
        pool.for_blocks(length, piece, body);
    else
        for (std::size_t begin = 0; begin < length; begin += piece)
            body(begin, std::min(begin + piece, length));
}

template <class From, class To>
void convert(const From* from, To* to, std::size_t size, ThreadPool& pool) {
    for_pieces(size, 1, pool, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) to[i] = static_cast<To>(from[i]);
    });
}

// pairs (n, 2): two columns times F, or times 1 where f is null, side by side: what a sparse row's index
// finds of both lies together.
template <class From, class To>
void interleave(const double* f, const From* first, const From* second, To* pairs, std::size_t n,
                ThreadPool& pool) {
    for_pieces(n, 2, pool, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            const double factor = f != nullptr ? f[i] : 1.0;
            pairs[2 * i] = static_cast<To>(factor * static_cast<double>(first[i]));
            pairs[2 * i + 1] = static_cast<To>(factor * static_cast<double>(second[i]));
        }
    });
}

inline const kernels::LongVectors<float>& kernels_of(const float*) { return kernels::selected().long_floats; }
inline const kernels::LongVectors<double>& kernels_of(const double*) {
    return kernels::selected().long_doubles;
}
inline const kernels::LongVectors<float, std::int16_t>& kernels_of(const std::int16_t*) {
    return kernels::selected().long_words;
}

// products[m * n_first + j] = first column j · second column m
template <class Number>
std::vector<double> dots(const Number* first, std::size_t n_first, const Number* second, std::size_t n_second,
                         std::size_t length, ThreadPool& pool) {
    const std::size_t size = n_first * n_second;
    std::vector<double> parts((length + piece - 1) / piece * size), sums(size, 0.0);
    for_pieces(length, size, pool, [&](std::size_t begin, std::size_t end) {
        kernels_of(first).dots(first + begin, length, n_first, second + begin, n_second, end - begin,
                               parts.data() + begin / piece * size);
    });
    for (std::size_t i = 0; i < parts.size(); ++i) sums[i % size] += parts[i];
    return sums;
}

// second column m -= sum_j factors[m * n_first + j] first column j
template <class Number>
void subtract(const Number* first, std::size_t n_first, const double* factors, Number* second,
              std::size_t n_second, std::size_t length, ThreadPool& pool) {
    for_pieces(length, n_first * n_second, pool, [&](std::size_t begin, std::size_t end) {
        kernels_of(first).subtract(first + begin, length, n_first, factors, second + begin, n_second,
                                   end - begin);
    });
}

// put(row, n, sums) is told of the rows row … row + n - 1 of sum m = sum_j factors[m * count + j] column j,
// which begins at sums + m * rows_at_once; it may write them over these rows of the columns.
constexpr std::size_t rows_at_once = 128;  // all columns of so many stay in a near cache
template <class Number, class Put>
void combine(const Number* columns, std::size_t count, const std::vector<double>& factors, std::size_t length,
             ThreadPool& pool, const Put& put) {
    const std::size_t n_sums = factors.size() / count;
    std::vector<double> negated(factors.size());
    std::transform(factors.begin(), factors.end(), negated.begin(), std::negate());
    for_pieces(length, factors.size(), pool, [&](std::size_t begin, std::size_t end) {
        std::vector<Number> near((count + n_sums) * rows_at_once);
        Number* const sums = near.data() + count * rows_at_once;
        for (std::size_t row = begin; row < end; row += rows_at_once) {
            const std::size_t n = std::min(rows_at_once, end - row);
            for (std::size_t j = 0; j < count; ++j)
                std::copy_n(columns + j * length + row, n, near.data() + j * rows_at_once);
            std::fill_n(sums, n_sums * rows_at_once, Number{0});
            kernels_of(columns).subtract(near.data(), rows_at_once, count, negated.data(), sums, n_sums, n);
            put(row, n, sums);
        }
    });
}

}  // namespace deepspec::columns

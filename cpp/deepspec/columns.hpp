#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "deepspec/kernels/kernels.hpp"
#include "deepspec/parallel.hpp"

// Products of columns of `length` numbers, one after the other; length is a multiple of kernels::length_unit.
// Rows are taken in pieces that do not depend on the number of threads.
namespace deepspec::columns {

constexpr std::size_t piece = 1024;  // rows

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

inline const kernels::LongVectors<float>& kernels_of(const float*) { return kernels::selected().long_floats; }
inline const kernels::LongVectors<double>& kernels_of(const double*) {
    return kernels::selected().long_doubles;
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

}  // namespace deepspec::columns

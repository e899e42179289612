#pragma once

#include <cmath>
#include <cstddef>

namespace deepspec {

// In [0, 1): the fractions of the golden ratio's multiples. Those of any successive numbers fall evenly, and
// on no grid's columns.
inline double golden_fraction(std::size_t i) {
    const double turns = 0.6180339887498949 * static_cast<double>(i);
    return turns - std::floor(turns);
}

}  // namespace deepspec

#pragma once

#include <iostream>
#include <stdexcept>

#include "deepspec/kernels/kernels.hpp"

namespace check {

inline constexpr int skipped = 77;  // ctest's SKIP_RETURN_CODE

// Whether there is a set of kernels to test: the one that $DEEPSPEC_ISA forces, or the one this processor
// gets by itself. If not, says why.
inline bool has_kernels() {
    try {
        deepspec::kernels::selected();
        return true;
    } catch (const std::invalid_argument& error) {
        std::cerr << error.what() << "\n";
        return false;
    }
}

}  // namespace check

#include <immintrin.h>

#include "deepspec/kernels/kernels.hpp"

namespace {

// Sums of 16 floats; what is multiplied are pairs of bfloat16.
struct Avx512Bfloat16 {
    using type = __m512;
    static constexpr int width = 16;
    static type zero() { return _mm512_setzero_ps(); }
    static type broadcast(float a) { return _mm512_set1_ps(a); }
    static void store(float* p, type a) { _mm512_storeu_ps(p, a); }
    static type mul(type a, type b) { return _mm512_mul_ps(a, b); }
    static type greater(type a, type b) { return _mm512_max_ps(a, b); }
    static __m512bh load(const std::uint32_t* p) { return (__m512bh)_mm512_loadu_si512(p); }
    static __m512bh broadcast(std::uint32_t pair) {
        return (__m512bh)_mm512_set1_epi32(static_cast<int>(pair));
    }
    static type multiply_add(__m512bh a, __m512bh b, type c) { return _mm512_dpbf16_ps(c, a, b); }
};

#include "deepspec/kernels/kernels.inl"

}  // namespace

const deepspec::kernels::GramBfloat16 deepspec::kernels::avx512_gram_bfloat16 =
    gram_panels<Avx512Bfloat16, 8, 3, std::uint32_t>;

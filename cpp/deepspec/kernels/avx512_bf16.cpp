#include <immintrin.h>

#include <cstring>

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

// The nearest, ties to even; of a finite number.
inline std::uint32_t to_bfloat16(float number) {
    std::uint32_t bits;
    std::memcpy(&bits, &number, sizeof bits);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

}  // namespace

const deepspec::kernels::Gram deepspec::kernels::avx512_gram_bfloat16{
    panel_bytes<std::uint32_t, 2>, pack_pairs<to_bfloat16>, nullptr,
    multiply_panels<Avx512Bfloat16, 8, 3, std::uint32_t, 2>};

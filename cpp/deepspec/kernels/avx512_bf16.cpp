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

void pack_pairs(const float* cells, std::size_t channels, std::size_t first, void* panel) {
    using namespace deepspec::kernels;
    std::uint32_t* const out = static_cast<std::uint32_t*>(panel) + first;
    for (std::size_t c = 0; c < channels; c += 2)
        for (std::size_t i = 0; i < strip_size; ++i) {
            const float* const pair = cells + i * channels + c;
            const float second = c + 1 < channels ? pair[1] : 0.0f;
            out[c / 2 * panel_size + i] = to_bfloat16(pair[0]) | to_bfloat16(second) << 16;
        }
}

}  // namespace

const deepspec::kernels::Gram deepspec::kernels::avx512_gram_bfloat16{
    panel_bytes<std::uint32_t, 2>, pack_pairs, nullptr,
    multiply_panels<Avx512Bfloat16, 8, 3, std::uint32_t, 2>};

#include <immintrin.h>

#include "deepspec/kernels/kernels.hpp"

namespace {

struct Avx512 {
    using type = __m512;
    static constexpr int width = 16;
    static type zero() { return _mm512_setzero_ps(); }
    static type load(const float* p) { return _mm512_loadu_ps(p); }
    static type broadcast(float a) { return _mm512_set1_ps(a); }
    static void store(float* p, type a) { _mm512_storeu_ps(p, a); }
    static type add(type a, type b) { return _mm512_add_ps(a, b); }
    static type mul(type a, type b) { return _mm512_mul_ps(a, b); }
    static type multiply_add(type a, type b, type c) { return _mm512_fmadd_ps(a, b, c); }
    static type relu(type a) { return _mm512_max_ps(a, zero()); }
    static float sum(type a) { return _mm512_reduce_add_ps(a); }
};

#include "deepspec/kernels/tile_kernels.inl"

}  // namespace

const deepspec::kernels::TileKernels deepspec::kernels::avx512{"avx512", gram_tile<Avx512, 12, 2>,
                                                               tile_product<Avx512, 6>};

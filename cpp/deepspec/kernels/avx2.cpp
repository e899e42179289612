#include <immintrin.h>

#include "deepspec/kernels/kernels.hpp"

namespace {

#include "deepspec/kernels/avx2.inl"

struct Avx2Double {
    using type = __m256d;
    static constexpr int width = 4;
    static type zero() { return _mm256_setzero_pd(); }
    static type load(const double* p) { return _mm256_loadu_pd(p); }
    static type broadcast(double a) { return _mm256_set1_pd(a); }
    static void store(double* p, type a) { _mm256_storeu_pd(p, a); }
    static type add(type a, type b) { return _mm256_add_pd(a, b); }
    static type mul(type a, type b) { return _mm256_mul_pd(a, b); }
    static type multiply_add(type a, type b, type c) { return _mm256_fmadd_pd(a, b, c); }
    static double total(type a) {
        const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
        return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
    }
};

#include "deepspec/kernels/crf.inl"
#include "deepspec/kernels/kernels.inl"
#include "deepspec/kernels/neighbors.inl"
#include "deepspec/kernels/pixels.inl"

}  // namespace

const deepspec::kernels::Kernels deepspec::kernels::avx2{
    "avx2",
    gram_of_floats<Avx2, 6, 2>,
    sum_of_squares<float>,
    sum_of_squares<double>,
    scale<float>,
    scale<double>,
    blend<Avx2>,
    tile_to_fixed<Avx2>,
    tile_to_halves<Avx2>,
    tile_to_bits<Avx2>,
    Products<Avx2, 2, 4, 1, 2>::of_floats,
    Products<Avx2, 2, 4, 1, 2>::of_fixed,
    Products<Avx2, 2, 4, 1, 2>::of_halves,
    Products<Avx2, 2, 4, 1, 2>::of_high,
    Products<Avx2, 2, 4, 1, 2>::of_bits,
    add_lanes<Avx2>,
    near_boxes<Avx2>,
    scan_leaf<Avx2>,
    rank_limits<Avx2>,
    keep_near<Avx2>,
    {dots<Avx2, float>, subtract<Avx2, float>},
    {dots<Avx2Double, double>, subtract<Avx2Double, double>},
    pixel_loops<Avx2>,
    crf_loops<Avx2>};

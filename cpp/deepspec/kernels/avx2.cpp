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

// Sums of 32-bit numbers; what is multiplied are pairs of 16-bit ones, in units of 2^-15. Features no longer
// than 1 have sums of at most 2^30 units (Cauchy-Schwarz), those of some channels too.
struct Avx2Words {
    static constexpr int width = 8;
    static __m256i zero() { return _mm256_setzero_si256(); }
    static __m256i load(const std::uint32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static __m256i broadcast(std::uint32_t pair) { return _mm256_set1_epi32(static_cast<int>(pair)); }
    static __m256i multiply_add(__m256i a, __m256i b, __m256i c) {
        return _mm256_add_epi32(c, _mm256_madd_epi16(a, b));
    }
    static __m256 broadcast(float a) { return _mm256_set1_ps(a); }
    static __m256 mul(__m256i a, __m256 b) {
        return _mm256_mul_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(a), _mm256_set1_ps(0x1p-30f)), b);
    }
    static __m256 greater(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
    static void store(float* p, __m256 a) { _mm256_storeu_ps(p, a); }
};

inline std::uint32_t to_word(float number) {
    const __m128i unit = _mm_cvtps_epi32(_mm_set_ss(32768.0f * number));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_packs_epi32(unit, unit))) & 0xffffu;
}

#include "deepspec/kernels/crf.inl"
#include "deepspec/kernels/kernels.inl"
#include "deepspec/kernels/neighbors.inl"
#include "deepspec/kernels/pixels.inl"

}  // namespace

const deepspec::kernels::Gram deepspec::kernels::avx2_gram_words{
    panel_bytes<std::uint32_t, 2>, pack_pairs<to_word>, nullptr,
    multiply_panels<Avx2Words, 4, 2, std::uint32_t, 2>};

const deepspec::kernels::Kernels deepspec::kernels::avx2{
    "avx2",
    gram_of_floats<Avx2, 6, 2>,
    sum_of_squares<float>,
    sum_of_squares<double>,
    scale<float>,
    scale<double>,
    blend<Avx2>,
    transpose<Avx2>,
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
    {dots<Avx2, float, std::int16_t>, subtract<Avx2, float, std::int16_t>},
    dots_with<Avx2>,
    pixel_loops<Avx2>,
    crf_loops<Avx2>};

#include <immintrin.h>

#include "deepspec/kernels/kernels.hpp"

namespace {

#include "deepspec/kernels/avx2.inl"

struct Avx512 {
    using type = __m512;
    using Half = Avx2;
    static constexpr int width = 16;
    static type zero() { return _mm512_setzero_ps(); }
    static type load(const float* p) { return _mm512_loadu_ps(p); }
    static type broadcast(float a) { return _mm512_set1_ps(a); }
    static void store(float* p, type a) { _mm512_storeu_ps(p, a); }
    static type add(type a, type b) { return _mm512_add_ps(a, b); }
    static type mul(type a, type b) { return _mm512_mul_ps(a, b); }
    static type divide(type a, type b) { return _mm512_div_ps(a, b); }
    static type multiply_add(type a, type b, type c) { return _mm512_fmadd_ps(a, b, c); }
    static type greater(type a, type b) { return _mm512_max_ps(a, b); }
    static type lesser(type a, type b) { return _mm512_min_ps(a, b); }
    static type load(const std::uint16_t* p) {
        const __m256i entries = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(entries));
    }
    static type load(const std::uint8_t* p) {
        const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(entries));
    }
    static type load(const std::int8_t* p) {
        const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(entries));
    }
    static type load(const std::int16_t* p) {
        const __m256i entries = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(entries));
    }
    static void store_fixed(std::uint16_t* p, type a) {
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_cvttps_epi32(a)));
    }
    static void store_high(std::uint8_t* p, type a) {
        const __m512i nearest = _mm512_add_epi32(_mm512_cvttps_epi32(a), _mm512_set1_epi32(128));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_srli_epi32(nearest, 8)));
    }
    static void store_low(std::int8_t* p, type a) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(a)));
    }
    // out[r] += the sum of rows[r]
    static void add_sums(const type (&rows)[4], float* out) {
        const type a = add(_mm512_unpacklo_ps(rows[0], rows[1]), _mm512_unpackhi_ps(rows[0], rows[1]));
        const type b = add(_mm512_unpacklo_ps(rows[2], rows[3]), _mm512_unpackhi_ps(rows[2], rows[3]));
        // Every quarter now holds a sum of each row.
        const type c = add(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
        const __m256 d = _mm256_add_ps(_mm512_castps512_ps256(c), _mm512_extractf32x8_ps(c, 1));
        const __m128 e = _mm_add_ps(_mm256_castps256_ps128(d), _mm256_extractf128_ps(d, 1));
        _mm_storeu_ps(out, _mm_add_ps(_mm_loadu_ps(out), e));
    }
    static type subtract(type a, type b) { return _mm512_sub_ps(a, b); }
    static unsigned at_most(type a, type b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
    static unsigned count(unsigned lanes) { return static_cast<unsigned>(_mm_popcnt_u32(lanes)); }
    static type ones_where(unsigned lanes) {
        return _mm512_maskz_mov_ps(static_cast<__mmask16>(lanes), _mm512_set1_ps(1.0f));
    }
    static float total(type a) { return _mm512_reduce_add_ps(a); }
    static type power_of_two(type k) {
        const __m512i exponents = _mm512_add_epi32(_mm512_cvtps_epi32(k), _mm512_set1_epi32(127));
        return _mm512_castsi512_ps(_mm512_slli_epi32(exponents, 23));
    }
    static float largest(type a) { return _mm512_reduce_max_ps(a); }
    static constexpr bool packs = true;
    static void pack(float* out, type a, unsigned lanes) {
        store(out, _mm512_maskz_compress_ps(static_cast<__mmask16>(lanes), a));
    }
    static void pack(std::int32_t* out, const std::int32_t* in, unsigned lanes) {
        const __m512i a = _mm512_loadu_si512(in);
        _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(static_cast<__mmask16>(lanes), a));
    }
};

struct Avx512Pairs : Avx2 {
    using Eight = __m512;
    static Eight no_eight() { return _mm512_setzero_ps(); }
    // Masked loads where AVX2 has shuffles, which one unit alone does, and two columns in a load.
    static Eight add_eight_pairs(const float* pairs, const std::int32_t* columns, const float* entries,
                                 Eight sums) {
        std::uint64_t two[4];
        for (int i = 0; i < 4; ++i) __builtin_memcpy(&two[i], columns + 2 * i, sizeof two[i]);
        const auto pair = [&](int e) {
            const std::uint64_t column = e % 2 == 0 ? two[e / 2] & 0xffffffffu : two[e / 2] >> 32;
            return _mm_load_sd(reinterpret_cast<const double*>(pairs) + column);
        };
        __m512d eight = _mm512_zextpd128_pd512(pair(0));
        eight = _mm512_mask_broadcastsd_pd(eight, 1 << 1, pair(1));
        eight = _mm512_mask_broadcastsd_pd(eight, 1 << 2, pair(2));
        eight = _mm512_mask_broadcastsd_pd(eight, 1 << 3, pair(3));
        eight = _mm512_mask_broadcastsd_pd(eight, 1 << 4, pair(4));
        eight = _mm512_mask_broadcastsd_pd(eight, 1 << 5, pair(5));
        eight = _mm512_mask_broadcastsd_pd(eight, 1 << 6, pair(6));
        eight = _mm512_mask_broadcastsd_pd(eight, 1 << 7, pair(7));
        const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
        const __m512 factors = _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(_mm256_loadu_ps(entries)));
        return _mm512_fmadd_ps(factors, _mm512_castpd_ps(eight), sums);
    }
    static type fold(Eight a) { return add(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1)); }
};

struct Avx512Double {
    using type = __m512d;
    static constexpr int width = 8;
    static type zero() { return _mm512_setzero_pd(); }
    static type load(const double* p) { return _mm512_loadu_pd(p); }
    static type broadcast(double a) { return _mm512_set1_pd(a); }
    static void store(double* p, type a) { _mm512_storeu_pd(p, a); }
    static type add(type a, type b) { return _mm512_add_pd(a, b); }
    static type mul(type a, type b) { return _mm512_mul_pd(a, b); }
    static type multiply_add(type a, type b, type c) { return _mm512_fmadd_pd(a, b, c); }
    static double total(type a) { return _mm512_reduce_add_pd(a); }
};

#include "deepspec/kernels/crf.inl"
#include "deepspec/kernels/kernels.inl"
#include "deepspec/kernels/neighbors.inl"
#include "deepspec/kernels/pixels.inl"

}  // namespace

const deepspec::kernels::Kernels deepspec::kernels::avx512{
    "avx512",
    gram_of_floats<Avx512, 8, 3>,
    sum_of_squares<float>,
    sum_of_squares<double>,
    scale<float>,
    scale<double>,
    blend<Avx512>,
    transpose<Avx2>,
    tile_to_fixed<Avx512>,
    tile_to_halves<Avx512>,
    tile_to_bits<Avx512>,
    Products<Avx512, 4, 6, 1, 6>::of_floats,
    Products<Avx512, 4, 6, 1, 6>::of_fixed,
    Products<Avx512, 4, 6, 1, 6>::of_halves,
    Products<Avx512, 4, 6, 1, 6>::of_high,
    Products<Avx512, 4, 6, 1, 6>::of_bits,
    add_lanes<Avx512>,
    near_boxes<Avx512>,
    scan_leaf<Avx512>,
    rank_limits<Avx512>,
    keep_near<Avx512>,
    {dots<Avx512, float>, subtract<Avx512, float>},
    {dots<Avx512Double, double>, subtract<Avx512Double, double>},
    {dots<Avx512, float, std::int16_t>, subtract<Avx512, float, std::int16_t>},
    dots_with<Avx512>,
    pixel_loops<Avx512Pairs>,
    crf_loops<Avx512>};

// Eight floats, for AVX2's file and, as half a vector, for AVX-512's; included inside an anonymous namespace.

// Of every eight bits the places of those that are set, in order.
struct SetLanes {
    unsigned char of[256][8] = {};
    constexpr SetLanes() {
        for (unsigned lanes = 0; lanes < 256; ++lanes)
            for (unsigned char lane = 0, count = 0; lane < 8; ++lane)
                if (lanes >> lane & 1) of[lanes][count++] = lane;
    }
};
inline constexpr SetLanes all_set_lanes;

struct Avx2 {
    using type = __m256;
    static constexpr int width = 8;
    static type zero() { return _mm256_setzero_ps(); }
    static type load(const float* p) { return _mm256_loadu_ps(p); }
    static type broadcast(float a) { return _mm256_set1_ps(a); }
    static void store(float* p, type a) { _mm256_storeu_ps(p, a); }
    static type add(type a, type b) { return _mm256_add_ps(a, b); }
    static type mul(type a, type b) { return _mm256_mul_ps(a, b); }
    static type divide(type a, type b) { return _mm256_div_ps(a, b); }
    static type multiply_add(type a, type b, type c) { return _mm256_fmadd_ps(a, b, c); }
    static type greater(type a, type b) { return _mm256_max_ps(a, b); }
    static type lesser(type a, type b) { return _mm256_min_ps(a, b); }
    static type load(const std::uint16_t* p) {
        const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(entries));
    }
    static type load(const std::uint8_t* p) {
        const __m128i entries = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(entries));
    }
    static type load(const std::int8_t* p) {
        const __m128i entries = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
        return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(entries));
    }
    static type load(const std::int16_t* p) {
        const __m128i entries = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
        return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(entries));
    }
    static __m128i to_words(type a) {
        const __m256i wide = _mm256_cvttps_epi32(a);
        return _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    }
    static void store_bytes(void* p, __m128i words) {
        _mm_storel_epi64(static_cast<__m128i*>(p), _mm_packus_epi16(words, words));
    }
    static void store_fixed(std::uint16_t* p, type a) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_words(a));
    }
    static void store_high(std::uint8_t* p, type a) {
        store_bytes(p, _mm_srli_epi16(_mm_add_epi16(to_words(a), _mm_set1_epi16(128)), 8));
    }
    static void store_low(std::int8_t* p, type a) {
        store_bytes(p, _mm_and_si128(to_words(a), _mm_set1_epi16(255)));
    }
    // out[r] += the sum of rows[r]
    static void add_sums(const type (&rows)[4], float* out) {
        const type halves =
            _mm256_hadd_ps(_mm256_hadd_ps(rows[0], rows[1]), _mm256_hadd_ps(rows[2], rows[3]));
        const __m128 sums = _mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1));
        _mm_storeu_ps(out, _mm_add_ps(_mm_loadu_ps(out), sums));
    }
    static type subtract(type a, type b) { return _mm256_sub_ps(a, b); }
    static unsigned at_most(type a, type b) {
        return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ)));
    }
    static unsigned count(unsigned lanes) { return static_cast<unsigned>(_mm_popcnt_u32(lanes)); }
    static type ones_where(unsigned lanes) {
        const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        const __m256i set = _mm256_and_si256(_mm256_set1_epi32(static_cast<int>(lanes)), each);
        return _mm256_and_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(set, each)), _mm256_set1_ps(1.0f));
    }
    static float total(type a) {
        const __m128 halves = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        const __m128 pairs = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
        return _mm_cvtss_f32(_mm_add_ss(pairs, _mm_movehdup_ps(pairs)));
    }
    static type power_of_two(type k) {
        const __m256i exponents = _mm256_add_epi32(_mm256_cvtps_epi32(k), _mm256_set1_epi32(127));
        return _mm256_castsi256_ps(_mm256_slli_epi32(exponents, 23));
    }
    static float largest(type a) {
        __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        s = _mm_max_ps(s, _mm_movehl_ps(s, s));
        return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
    }
    static constexpr std::size_t square = 8;
    static void transpose(const float* in, std::size_t in_stride, float* out, std::size_t out_stride) {
        type a[8], b[8];
        for (std::size_t r = 0; r < 8; ++r) a[r] = load(in + r * in_stride);
        for (int r = 0; r < 8; r += 2) {
            b[r] = _mm256_unpacklo_ps(a[r], a[r + 1]);
            b[r + 1] = _mm256_unpackhi_ps(a[r], a[r + 1]);
        }
        // a[4 h + c] becomes column c, and in its upper half column 4 + c, of the rows 4 h … 4 h + 3.
        for (int h = 0; h < 8; h += 4)
            for (int c = 0; c < 2; ++c) {
                a[h + 2 * c] = _mm256_shuffle_ps(b[h + c], b[h + 2 + c], 0x44);
                a[h + 2 * c + 1] = _mm256_shuffle_ps(b[h + c], b[h + 2 + c], 0xee);
            }
        for (std::size_t c = 0; c < 4; ++c) {
            store(out + c * out_stride, _mm256_permute2f128_ps(a[c], a[4 + c], 0x20));
            store(out + (4 + c) * out_stride, _mm256_permute2f128_ps(a[c], a[4 + c], 0x31));
        }
    }
    static constexpr bool takes_pairs = true;
    static __m128 load_four(const std::uint8_t* p) {
        return _mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_loadu_si32(p)));
    }
    static __m128 load_four(const float* p) { return _mm_loadu_ps(p); }
    template <class Entry>
    static type add_four_pairs(const float* pairs, const std::int32_t* columns, const Entry* entries,
                               type sums) {
        const auto pair = [&](int e) {
            return reinterpret_cast<const double*>(pairs + 2 * static_cast<std::size_t>(columns[e]));
        };
        const __m128d low = _mm_loadh_pd(_mm_load_sd(pair(0)), pair(1));
        const __m128d high = _mm_loadh_pd(_mm_load_sd(pair(2)), pair(3));
        const __m256d four = _mm256_insertf128_pd(_mm256_castpd128_pd256(low), high, 1);
        const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
        const type factors = _mm256_permutevar8x32_ps(_mm256_castps128_ps256(load_four(entries)), twice);
        return _mm256_fmadd_ps(factors, _mm256_castpd_ps(four), sums);
    }
    struct Eight {
        type low, high;
    };
    static Eight no_eight() { return {zero(), zero()}; }
    static Eight add_eight_pairs(const float* pairs, const std::int32_t* columns, const float* entries,
                                 Eight sums) {
        return {add_four_pairs(pairs, columns, entries, sums.low),
                add_four_pairs(pairs, columns + 4, entries + 4, sums.high)};
    }
    static type fold(Eight a) { return add(a.low, a.high); }
    // The sum of four pairs.
    static void store_pair(float* p, type a) {
        const __m128 two = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
        _mm_storel_pi(reinterpret_cast<__m64*>(p), _mm_add_ps(two, _mm_movehl_ps(two, two)));
    }
    static void add_to_corners(float down, float right, const float* pair, double* top, double* bottom) {
        const __m128 twice = _mm_castpd_ps(_mm_loaddup_pd(reinterpret_cast<const double*>(pair)));
        const __m128 farther = _mm_set1_ps(right);
        const __m128 share =
            _mm_mul_ps(twice, _mm_blend_ps(_mm_sub_ps(_mm_set1_ps(1.0f), farther), farther, 0b1100));
        const __m128 below = _mm_mul_ps(_mm_set1_ps(down), share);
        const auto add = [](double* p, __m128 a) {
            _mm256_storeu_pd(p, _mm256_add_pd(_mm256_loadu_pd(p), _mm256_cvtps_pd(a)));
        };
        add(top, _mm_sub_ps(share, below));
        add(bottom, below);
    }
    static void between_corners(float down, float right, const float* top, const float* bottom, float* pair) {
        const auto between = [](float at, __m128 a, __m128 b) {
            return _mm_fmadd_ps(_mm_set1_ps(at), _mm_sub_ps(b, a), a);
        };
        const __m128 both = between(down, _mm_loadu_ps(top), _mm_loadu_ps(bottom));
        _mm_storel_pi(reinterpret_cast<__m64*>(pair), between(right, both, _mm_movehl_ps(both, both)));
    }
    static constexpr bool packs = true;
    static __m256i set_lanes(unsigned lanes) {
        return _mm256_cvtepu8_epi32(
            _mm_loadl_epi64(reinterpret_cast<const __m128i*>(all_set_lanes.of[lanes])));
    }
    static void pack(float* out, type a, unsigned lanes) {
        _mm256_storeu_ps(out, _mm256_permutevar8x32_ps(a, set_lanes(lanes)));
    }
    static void pack(std::int32_t* out, const std::int32_t* values, unsigned lanes) {
        const __m256i all = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(values));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out),
                            _mm256_permutevar8x32_epi32(all, set_lanes(lanes)));
    }
};

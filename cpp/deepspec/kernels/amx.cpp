#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "deepspec/kernels/kernels.hpp"

// Products of bfloat16 by Intel's matrix units (AMX). A unit's tile has 16 rows of 64 bytes; a product takes
// one with 16 cells of 32 channels from the left and one with 16 pairs of channels of 16 cells from the
// right.
//
// A panel is, for every 32 channels, PARTS times three tiles, of 16 cells each, as they are multiplied from
// the right: the channels rounded to bfloat16 and, with two parts, what rounding left, rounded. To be
// multiplied from the left, each tile is transposed.
namespace {

using deepspec::kernels::panel_size;
using deepspec::kernels::strip_size;
using deepspec::kernels::tile_size;

constexpr std::size_t step = 32;  // channels
constexpr std::size_t tile_bytes = 1024;
constexpr std::size_t groups = panel_size / strip_size;
static_assert(strip_size == 16 && groups == 3);

template <int PARTS>
constexpr std::size_t step_bytes = PARTS * groups * tile_bytes;

std::size_t steps(std::size_t channels) { return (channels + step - 1) / step; }

template <int PARTS>
std::size_t panel_bytes(std::size_t channels) {
    return steps(channels) * step_bytes<PARTS>;
}

// 16 channels from `begin` on, zero from `channels` on.
inline __m512 load_channels(const float* feature, std::size_t begin, std::size_t channels) {
    if (begin + 16 <= channels) return _mm512_loadu_ps(feature + begin);
    if (begin >= channels) return _mm512_setzero_ps();
    return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << (channels - begin)) - 1), feature + begin);
}

inline __m512 widen(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// The transpose of 16 rows of 16 pairs.
inline void transpose(const __m512i (&rows)[16], char* out) {
    __m512i a[16], b[16];
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; ++j) {
            b[i + 2 * j] = _mm512_unpacklo_epi64(a[i + j], a[i + 2 + j]);
            b[i + 2 * j + 1] = _mm512_unpackhi_epi64(a[i + j], a[i + 2 + j]);
        }
    // b[4 m + c] has column 4 q + c of rows 4 m … 4 m + 3 in its quarter q.
    for (int c = 0; c < 4; ++c) {
        const __m512i even_low = _mm512_shuffle_i32x4(b[c], b[4 + c], 0x88);
        const __m512i odd_low = _mm512_shuffle_i32x4(b[c], b[4 + c], 0xdd);
        const __m512i even_high = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0x88);
        const __m512i odd_high = _mm512_shuffle_i32x4(b[8 + c], b[12 + c], 0xdd);
        _mm512_storeu_si512(out + 64 * c, _mm512_shuffle_i32x4(even_low, even_high, 0x88));
        _mm512_storeu_si512(out + 64 * (8 + c), _mm512_shuffle_i32x4(even_low, even_high, 0xdd));
        _mm512_storeu_si512(out + 64 * (4 + c), _mm512_shuffle_i32x4(odd_low, odd_high, 0x88));
        _mm512_storeu_si512(out + 64 * (12 + c), _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd));
    }
}

template <int PARTS>
void pack(const float* cells, std::size_t channels, std::size_t first, void* panel) {
    char* const out = static_cast<char*>(panel) + first / strip_size * tile_bytes;
    for (std::size_t s = 0; s < steps(channels); ++s) {
        __m512i parts[PARTS][strip_size];
        for (std::size_t i = 0; i < strip_size; ++i) {
            __m512 low = load_channels(cells + i * channels, s * step, channels);
            __m512 high = load_channels(cells + i * channels, s * step + 16, channels);
            for (int part = 0; part < PARTS; ++part) {
                const __m256i low_half = (__m256i)_mm512_cvtneps_pbh(low);
                const __m256i high_half = (__m256i)_mm512_cvtneps_pbh(high);
                parts[part][i] = _mm512_inserti64x4(_mm512_castsi256_si512(low_half), high_half, 1);
                low = _mm512_sub_ps(low, widen(low_half));
                high = _mm512_sub_ps(high, widen(high_half));
            }
        }
        for (std::size_t part = 0; part < PARTS; ++part)
            transpose(parts[part], out + s * step_bytes<PARTS> + part * groups * tile_bytes);
    }
}

template <int PARTS>
void to_rows(const void* panel, std::size_t channels, void* rows) {
    for (std::size_t at = 0; at < panel_bytes<PARTS>(channels); at += tile_bytes) {
        const char* const tile = static_cast<const char*>(panel) + at;
        __m512i pairs[16];
        for (int i = 0; i < 16; ++i) pairs[i] = _mm512_loadu_si512(tile + 64 * i);
        transpose(pairs, static_cast<char*>(rows) + at);
    }
}

// All eight tiles are 16 rows of 64 bytes.
struct alignas(64) Configuration {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// Adds the products of some steps to three tiles of sums, one below the other.
template <int PARTS>
inline void add_products(const char* rows, const char* columns, std::size_t n_steps) {
    for (std::size_t s = 0; s < n_steps; ++s, rows += step_bytes<PARTS>, columns += step_bytes<PARTS>) {
        _tile_loadd(3, rows, 64);
        _tile_loadd(4, rows + tile_bytes, 64);
        _tile_loadd(5, rows + 2 * tile_bytes, 64);
        _tile_loadd(6, columns, 64);
        _tile_dpbf16ps(0, 3, 6);
        _tile_dpbf16ps(1, 4, 6);
        _tile_dpbf16ps(2, 5, 6);
        if constexpr (PARTS == 2) {
            _tile_loadd(7, columns + groups * tile_bytes, 64);
            _tile_dpbf16ps(0, 3, 7);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 7);
            _tile_loadd(3, rows + 3 * tile_bytes, 64);
            _tile_loadd(4, rows + 4 * tile_bytes, 64);
            _tile_loadd(5, rows + 5 * tile_bytes, 64);
            _tile_dpbf16ps(0, 3, 6);
            _tile_dpbf16ps(1, 4, 6);
            _tile_dpbf16ps(2, 5, 6);
        }
    }
}

template <int PARTS>
void multiply(const void* rows, const void* columns, std::size_t channels, float scale, float least,
              float* out) {
    static const Configuration configuration;
    _tile_loadconfig(&configuration);
    // What so many steps read stays in the first-level cache while every group of columns meets all rows.
    constexpr std::size_t chunk = 6 / PARTS;
    constexpr std::size_t row_bytes = tile_size * sizeof(float);
    const std::size_t n_steps = steps(channels);
    for (std::size_t first = 0; first < n_steps; first += chunk)
        for (std::size_t group = 0; group < groups; ++group) {
            float* const top = out + group * strip_size;
            float* const middle = top + strip_size * tile_size;
            float* const bottom = middle + strip_size * tile_size;
            if (first == 0) {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
            } else {
                _tile_loadd(0, top, row_bytes);
                _tile_loadd(1, middle, row_bytes);
                _tile_loadd(2, bottom, row_bytes);
            }
            const std::size_t at = first * step_bytes<PARTS>;
            add_products<PARTS>(static_cast<const char*>(rows) + at,
                                static_cast<const char*>(columns) + at + group * tile_bytes,
                                n_steps - first < chunk ? n_steps - first : chunk);
            _tile_stored(0, top, row_bytes);
            _tile_stored(1, middle, row_bytes);
            _tile_stored(2, bottom, row_bytes);
        }
    _tile_release();
    if (scale == 1.0f && least == -__builtin_inff()) return;
    const __m512 factor = _mm512_set1_ps(scale), bound = _mm512_set1_ps(least);
    for (std::size_t i = 0; i < panel_size; ++i)
        for (std::size_t j = 0; j < panel_size; j += 16) {
            float* const at = out + i * tile_size + j;
            _mm512_storeu_ps(at, _mm512_max_ps(_mm512_mul_ps(_mm512_loadu_ps(at), factor), bound));
        }
}

}  // namespace

const deepspec::kernels::Gram deepspec::kernels::amx_gram_fixed16{panel_bytes<2>, pack<2>, to_rows<2>,
                                                                  multiply<2>};
const deepspec::kernels::Gram deepspec::kernels::amx_gram_bfloat16{panel_bytes<1>, pack<1>, to_rows<1>,
                                                                   multiply<1>};

// Linux gives a process the tiles' registers when it asks for them.
bool deepspec::kernels::ask_for_amx() {
    constexpr long ask_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, ask_permission, tile_data) == 0;
}

#include <arm_neon.h>

#include <cstring>

#include "deepspec/kernels/kernels.hpp"

namespace {

struct Neon {
    using type = float32x4_t;
    static constexpr int width = 4;
    static type zero() { return vdupq_n_f32(0.0f); }
    static type load(const float* p) { return vld1q_f32(p); }
    static type broadcast(float a) { return vdupq_n_f32(a); }
    static void store(float* p, type a) { vst1q_f32(p, a); }
    static type add(type a, type b) { return vaddq_f32(a, b); }
    static type mul(type a, type b) { return vmulq_f32(a, b); }
    static type divide(type a, type b) { return vdivq_f32(a, b); }
    static type multiply_add(type a, type b, type c) { return vfmaq_f32(c, a, b); }
    static type greater(type a, type b) { return vmaxq_f32(a, b); }
    static type lesser(type a, type b) { return vminq_f32(a, b); }
    static type load(const std::uint16_t* p) { return vcvtq_f32_u32(vmovl_u16(vld1_u16(p))); }
    static type load(const std::int16_t* p) { return vcvtq_f32_s32(vmovl_s16(vld1_s16(p))); }
    static uint32x2_t four_bytes(const void* p) {
        std::uint32_t bytes;
        std::memcpy(&bytes, p, sizeof bytes);
        return vdup_n_u32(bytes);
    }
    static type load(const std::uint8_t* p) {
        return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(four_bytes(p))))));
    }
    static type load(const std::int8_t* p) {
        return vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(four_bytes(p))))));
    }
    static void store_bytes(void* p, uint16x4_t halves) {
        const std::uint32_t bytes =
            vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(halves, halves))), 0);
        std::memcpy(p, &bytes, sizeof bytes);
    }
    static void store_fixed(std::uint16_t* p, type a) { vst1_u16(p, vmovn_u32(vcvtq_u32_f32(a))); }
    static void store_high(std::uint8_t* p, type a) {
        const uint16x4_t number = vmovn_u32(vcvtq_u32_f32(a));
        store_bytes(p, vshr_n_u16(vadd_u16(number, vdup_n_u16(128)), 8));
    }
    static void store_low(std::int8_t* p, type a) { store_bytes(p, vmovn_u32(vcvtq_u32_f32(a))); }
    // out[r] += the sum of rows[r]
    static void add_sums(const type (&rows)[4], float* out) {
        const type sums = vpaddq_f32(vpaddq_f32(rows[0], rows[1]), vpaddq_f32(rows[2], rows[3]));
        vst1q_f32(out, vaddq_f32(vld1q_f32(out), sums));
    }
    static type subtract(type a, type b) { return vsubq_f32(a, b); }
    static unsigned at_most(type a, type b) {
        const std::uint32_t bits[width] = {1, 2, 4, 8};
        return vaddvq_u32(vandq_u32(vcleq_f32(a, b), vld1q_u32(bits)));
    }
    static unsigned count(unsigned lanes) {
        return static_cast<unsigned>(0x4332322132212110u >> 4 * lanes & 7);  // a digit for each of 16 values
    }
    static type ones_where(unsigned lanes) {
        const uint32x4_t each = {1, 2, 4, 8};
        const uint32x4_t set = vtstq_u32(vdupq_n_u32(lanes), each);
        return vreinterpretq_f32_u32(vandq_u32(set, vreinterpretq_u32_f32(vdupq_n_f32(1.0f))));
    }
    static float total(type a) { return vaddvq_f32(a); }
    static type power_of_two(type k) {
        const int32x4_t exponents = vaddq_s32(vcvtnq_s32_f32(k), vdupq_n_s32(127));
        return vreinterpretq_f32_s32(vshlq_n_s32(exponents, 23));
    }
    static float largest(type a) { return vmaxvq_f32(a); }
    static constexpr std::size_t square = 4;
    static void transpose(const float* in, std::size_t in_stride, float* out, std::size_t out_stride) {
        float32x4x4_t columns;
        for (std::size_t r = 0; r < square; ++r) columns.val[r] = load(in + r * in_stride);
        float numbers[square * square];
        vst4q_f32(numbers, columns);
        for (std::size_t c = 0; c < square; ++c) store(out + c * out_stride, load(numbers + square * c));
    }
    static constexpr bool takes_pairs = false;
    static constexpr bool packs = false;
};

struct NeonDouble {
    using type = float64x2_t;
    static constexpr int width = 2;
    static type zero() { return vdupq_n_f64(0.0); }
    static type load(const double* p) { return vld1q_f64(p); }
    static type broadcast(double a) { return vdupq_n_f64(a); }
    static void store(double* p, type a) { vst1q_f64(p, a); }
    static type add(type a, type b) { return vaddq_f64(a, b); }
    static type mul(type a, type b) { return vmulq_f64(a, b); }
    static type multiply_add(type a, type b, type c) { return vfmaq_f64(c, a, b); }
    static double total(type a) { return vaddvq_f64(a); }
};

#include "deepspec/kernels/crf.inl"
#include "deepspec/kernels/kernels.inl"
#include "deepspec/kernels/neighbors.inl"
#include "deepspec/kernels/pixels.inl"

}  // namespace

const deepspec::kernels::Kernels deepspec::kernels::neon{
    "neon",
    gram_of_floats<Neon, 6, 4>,
    sum_of_squares<float>,
    sum_of_squares<double>,
    scale<float>,
    scale<double>,
    blend<Neon>,
    transpose<Neon>,
    tile_to_fixed<Neon>,
    tile_to_halves<Neon>,
    tile_to_bits<Neon>,
    Products<Neon, 4, 8, 2, 4>::of_floats,
    Products<Neon, 4, 8, 2, 4>::of_fixed,
    Products<Neon, 4, 8, 2, 4>::of_halves,
    Products<Neon, 4, 8, 2, 4>::of_high,
    Products<Neon, 4, 8, 2, 4>::of_bits,
    add_lanes<Neon>,
    near_boxes<Neon>,
    scan_leaf<Neon>,
    rank_limits<Neon>,
    keep_near<Neon>,
    {dots<Neon, float>, subtract<Neon, float>},
    {dots<NeonDouble, double>, subtract<NeonDouble, double>},
    {dots<Neon, float, std::int16_t>, subtract<Neon, float, std::int16_t>},
    dots_with<Neon>,
    pixel_loops<Neon>,
    crf_loops<Neon>};

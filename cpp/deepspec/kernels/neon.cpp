#include <arm_neon.h>

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
    static type multiply_add(type a, type b, type c) { return vfmaq_f32(c, a, b); }
    static type relu(type a) { return vmaxq_f32(a, zero()); }
    static float sum(type a) { return vaddvq_f32(a); }
};

#include "deepspec/kernels/tile_kernels.inl"

}  // namespace

const deepspec::kernels::TileKernels deepspec::kernels::neon{"neon", gram_tile<Neon, 6, 4>,
                                                             tile_product<Neon, 8>};

#include "deepspec/kernels/kernels.hpp"

namespace {

// Four floats in plain C++; compilers turn these loops into whatever the baseline has.
struct Portable {
    struct type {
        float lane[4];
    };
    static constexpr int width = 4;
    template <class F>
    static type each(F f) {
        return {{f(0), f(1), f(2), f(3)}};
    }
    static type zero() { return {}; }
    static type load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
    static type broadcast(float a) { return {{a, a, a, a}}; }
    static void store(float* p, const type& a) {
        for (int i = 0; i < width; ++i) p[i] = a.lane[i];
    }
    static type add(const type& a, const type& b) {
        return each([&](int i) { return a.lane[i] + b.lane[i]; });
    }
    static type mul(const type& a, const type& b) {
        return each([&](int i) { return a.lane[i] * b.lane[i]; });
    }
    static type divide(const type& a, const type& b) {
        return each([&](int i) { return a.lane[i] / b.lane[i]; });
    }
    static type multiply_add(const type& a, const type& b, const type& c) {
        return each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
    }
    static type greater(const type& a, const type& b) {
        return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    static type lesser(const type& a, const type& b) {
        return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
    }
    static type load(const std::uint16_t* p) {
        return each([&](int i) { return static_cast<float>(p[i]); });
    }
    static type load(const std::uint8_t* p) {
        return each([&](int i) { return static_cast<float>(p[i]); });
    }
    static type load(const std::int8_t* p) {
        return each([&](int i) { return static_cast<float>(p[i]); });
    }
    static type load(const std::int16_t* p) {
        return each([&](int i) { return static_cast<float>(p[i]); });
    }
    static void store_fixed(std::uint16_t* p, const type& a) {
        for (int i = 0; i < width; ++i) p[i] = static_cast<std::uint16_t>(a.lane[i]);
    }
    static void store_high(std::uint8_t* p, const type& a) {
        for (int i = 0; i < width; ++i)
            p[i] = static_cast<std::uint8_t>((static_cast<unsigned>(a.lane[i]) + 128) >> 8);
    }
    static void store_low(std::int8_t* p, const type& a) {
        for (int i = 0; i < width; ++i)
            p[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(static_cast<unsigned>(a.lane[i])));
    }
    // out[r] += the sum of rows[r]
    static void add_sums(const type (&rows)[4], float* out) {
        for (int r = 0; r < 4; ++r)
            out[r] += (rows[r].lane[0] + rows[r].lane[1]) + (rows[r].lane[2] + rows[r].lane[3]);
    }
    static type subtract(const type& a, const type& b) {
        return each([&](int i) { return a.lane[i] - b.lane[i]; });
    }
    static unsigned at_most(const type& a, const type& b) {
        unsigned lanes = 0;
        for (int i = 0; i < width; ++i) lanes |= static_cast<unsigned>(a.lane[i] <= b.lane[i]) << i;
        return lanes;
    }
    static unsigned count(unsigned lanes) {
        return static_cast<unsigned>(0x4332322132212110u >> 4 * lanes & 7);  // a digit for each of 16 values
    }
    static type ones_where(unsigned lanes) {
        return each([&](int i) { return (lanes >> i & 1u) != 0 ? 1.0f : 0.0f; });
    }
    static float total(const type& a) { return (a.lane[0] + a.lane[1]) + (a.lane[2] + a.lane[3]); }
    static type power_of_two(const type& k) {
        return each([&](int i) {
            return __builtin_bit_cast(float, (static_cast<std::int32_t>(k.lane[i]) + 127) << 23);
        });
    }
    static float largest(const type& a) {
        float greatest = a.lane[0];
        for (int i = 1; i < width; ++i) greatest = a.lane[i] > greatest ? a.lane[i] : greatest;
        return greatest;
    }
    static constexpr std::size_t square = 4;
    static void transpose(const float* in, std::size_t in_stride, float* out, std::size_t out_stride) {
        for (std::size_t r = 0; r < square; ++r)
            for (std::size_t c = 0; c < square; ++c) out[c * out_stride + r] = in[r * in_stride + c];
    }
    static constexpr bool takes_pairs = false;
    static constexpr bool packs = false;
};

struct PortableDouble {
    using type = double;
    static constexpr int width = 1;
    static type zero() { return 0.0; }
    static type load(const double* p) { return *p; }
    static type broadcast(double a) { return a; }
    static void store(double* p, type a) { *p = a; }
    static type add(type a, type b) { return a + b; }
    static type mul(type a, type b) { return a * b; }
    static type multiply_add(type a, type b, type c) { return a * b + c; }
    static double total(type a) { return a; }
};

#include "deepspec/kernels/crf.inl"
#include "deepspec/kernels/kernels.inl"
#include "deepspec/kernels/neighbors.inl"
#include "deepspec/kernels/pixels.inl"

}  // namespace

const deepspec::kernels::Kernels deepspec::kernels::portable{
    "portable",
    gram_of_floats<Portable, 4, 2>,
    sum_of_squares<float>,
    sum_of_squares<double>,
    scale<float>,
    scale<double>,
    blend<Portable>,
    transpose<Portable>,
    tile_to_fixed<Portable>,
    tile_to_halves<Portable>,
    tile_to_bits<Portable>,
    Products<Portable, 4, 3, 1, 2>::of_floats,
    Products<Portable, 4, 3, 1, 2>::of_fixed,
    Products<Portable, 4, 3, 1, 2>::of_halves,
    Products<Portable, 4, 3, 1, 2>::of_high,
    Products<Portable, 4, 3, 1, 2>::of_bits,
    add_lanes<Portable>,
    near_boxes<Portable>,
    scan_leaf<Portable>,
    rank_limits<Portable>,
    keep_near<Portable>,
    {dots<Portable, float>, subtract<Portable, float>},
    {dots<PortableDouble, double>, subtract<PortableDouble, double>},
    {dots<Portable, float, std::int16_t>, subtract<Portable, float, std::int16_t>},
    dots_with<Portable>,
    pixel_loops<Portable>,
    crf_loops<Portable>};

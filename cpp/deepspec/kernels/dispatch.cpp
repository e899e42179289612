#include <cmath>
#include <cstdlib>
#include <optional>
#include <stdexcept>
#include <string>

#include "deepspec/kernels/kernels.hpp"

#if defined(_MSC_VER) && !defined(__clang__)
#include <immintrin.h>
#include <intrin.h>
#endif
#ifdef DEEPSPEC_HAVE_AMX
#include <cpuid.h>
#endif

namespace deepspec::kernels {
namespace {

#if defined(DEEPSPEC_HAVE_AVX2) || defined(DEEPSPEC_HAVE_AVX512)
#if defined(_MSC_VER) && !defined(__clang__)
bool leaf7_has(int bit) {
    int info[4];
    __cpuidex(info, 7, 0);
    return (info[1] >> bit & 1) != 0;
}
// The processor's bit is not enough: the system must save the wide registers (XCR0).
bool system_saves(unsigned long long state) {
    int info[4];
    __cpuid(info, 1);
    const bool has_xgetbv = (info[2] >> 27 & 1) != 0;
    return has_xgetbv && (_xgetbv(0) & state) == state;
}
bool runs_avx2() {
    int info[4];
    __cpuid(info, 1);
    return (info[2] >> 12 & 1) != 0 && leaf7_has(5) && system_saves(0x6);
}
bool runs_avx512_bf16() {
    int info[4];
    __cpuidex(info, 7, 1);
    return (info[0] >> 5 & 1) != 0;
}
bool runs_avx512() {
    return runs_avx2() && leaf7_has(16) && leaf7_has(17) && leaf7_has(30) && leaf7_has(31) &&
           system_saves(0xe6);
}
#else
bool runs_avx512_bf16() { return __builtin_cpu_supports("avx512bf16"); }
bool runs_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool runs_avx512() {
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif
#endif

#ifdef DEEPSPEC_HAVE_AMX
bool runs_amx() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!runs_avx512() || !runs_avx512_bf16() || __get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
    const bool multiplies_bfloat16 = (d >> 22 & 1) != 0, has_tiles = (d >> 24 & 1) != 0;
    return multiplies_bfloat16 && has_tiles && ask_for_amx();
}
#endif

// The kernels of a set, and what it multiplies features with when float32 is more than is needed.
struct Set {
    Kernels kernels;
    const Gram* fixed16 = nullptr;
    const Gram* bfloat16 = nullptr;
    const Gram* words = nullptr;  // of 16 bits
};

std::optional<Set> find_runnable(const std::string& name) {
#ifdef DEEPSPEC_HAVE_AMX
    if (name == "amx" && runs_amx()) {
        Set set{avx512, &amx_gram_fixed16, &amx_gram_bfloat16};
        set.kernels.instruction_set = "amx";
        return set;
    }
#endif
#ifdef DEEPSPEC_HAVE_AVX512
    if (name == "avx512" && runs_avx512()) {
        Set set{avx512};
#ifdef DEEPSPEC_HAVE_AVX512_BF16
        if (runs_avx512_bf16()) set.bfloat16 = &avx512_gram_bfloat16;
#endif
        return set;
    }
#endif
#ifdef DEEPSPEC_HAVE_AVX2
    if (name == "avx2" && runs_avx2()) return Set{avx2, nullptr, nullptr, &avx2_gram_words};
#endif
#ifdef DEEPSPEC_HAVE_NEON
    if (name == "neon") return Set{neon};
#endif
    if (name == "portable") return Set{portable};
    return std::nullopt;
}

Set choose() {
    const char* forced = std::getenv("DEEPSPEC_ISA");
    if (forced != nullptr && *forced != '\0') {
        if (std::optional<Set> found = find_runnable(forced)) return *found;
        throw std::invalid_argument(
            "DEEPSPEC_ISA must be amx, avx512, avx2, neon or portable and run on this processor, got \"" +
            std::string(forced) + "\"");
    }
    for (const char* name : {"amx", "avx512", "avx2", "neon"})
        if (std::optional<Set> found = find_runnable(name)) return *found;
    return Set{portable};
}

const Set& chosen() {
    static const Set set = choose();
    return set;
}

}  // namespace

const Kernels& selected() { return chosen().kernels; }

const Gram& gram(Digits digits) {
    const Set& set = chosen();
    if (digits == Digits::signs) {
        if (set.words != nullptr) return *set.words;
        return gram(set.bfloat16 != nullptr ? Digits::bfloat16 : Digits::float32);
    }
    if (digits == Digits::bfloat16 && set.bfloat16 != nullptr) return *set.bfloat16;
    if (digits != Digits::float32 && set.fixed16 != nullptr) return *set.fixed16;
    return set.kernels.gram;
}

float signs_error(std::size_t channels) {
    // Rounded by half of 2^-15, the channels of two features are off by at most the sums of their sizes times
    // that, which for so many channels are at most sqrt(channels) each; by the products of what is off; and
    // one that is 1 is 2^-15 less.
    const auto n = static_cast<float>(channels);
    if (chosen().words != nullptr) return 0x1p-15f * (std::sqrt(n) + 1.0f) + 0x1p-31f * n;
    return has_bfloat16() ? 0x1p-7f : 0.0f;
}

bool has_bfloat16() { return chosen().bfloat16 != nullptr; }

}  // namespace deepspec::kernels

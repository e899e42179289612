#include <cstdlib>
#include <stdexcept>
#include <string>

#include "deepspec/kernels/kernels.hpp"

#if defined(_MSC_VER) && !defined(__clang__)
#include <immintrin.h>
#include <intrin.h>
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

const Kernels* find_runnable(const std::string& name) {
#ifdef DEEPSPEC_HAVE_AVX512
    if (name == "avx512" && runs_avx512()) return &avx512;
#endif
#ifdef DEEPSPEC_HAVE_AVX2
    if (name == "avx2" && runs_avx2()) return &avx2;
#endif
#ifdef DEEPSPEC_HAVE_NEON
    if (name == "neon") return &neon;
#endif
    if (name == "portable") return &portable;
    return nullptr;
}

const Kernels& choose() {
    const char* forced = std::getenv("DEEPSPEC_ISA");
    if (forced != nullptr && *forced != '\0') {
        if (const Kernels* found = find_runnable(forced)) return *found;
        throw std::invalid_argument(
            "DEEPSPEC_ISA must be avx512, avx2, neon or portable and run on this processor, got \"" +
            std::string(forced) + "\"");
    }
    for (const char* name : {"avx512", "avx2", "neon"})
        if (const Kernels* found = find_runnable(name)) return *found;
    return portable;
}

}  // namespace

const Kernels& selected() {
    static const Kernels& kernels = choose();
    return kernels;
}

GramBfloat16 gram_bfloat16() {
#ifdef DEEPSPEC_HAVE_AVX512_BF16
    static const bool runs = &selected() == &avx512 && runs_avx512_bf16();
    if (runs) return avx512_gram_bfloat16;
#endif
    return nullptr;
}

}  // namespace deepspec::kernels

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"
#include "deepspec/parallel.hpp"
#include "harness.hpp"

// What the arithmetic and the memory of this machine give to loops that do nothing else.
namespace bench {

// Every thread multiplies panels that stay in its second-level cache, `depth` entries of `channels_of_entry`
// channels deep.
template <class Entry, class Gram>
Part multiply_add(const std::string& name, Gram gram, Entry entry, std::size_t channels_of_entry,
                  deepspec::ThreadPool& pool) {
    using deepspec::kernels::panel_size;
    constexpr std::size_t depth = 384, rounds = 200, panel = depth * panel_size;
    const auto threads = static_cast<std::size_t>(pool.size());
    const auto operands = std::make_shared<deepspec::Buffer<Entry>>(threads * 2 * panel);
    const auto tiles = std::make_shared<deepspec::Buffer<float>>(threads * deepspec::kernels::tile_entries);
    std::fill_n(operands->data(), operands->size(), entry);
    const auto work = [=, &pool] {
        pool.run(threads, [&](std::size_t thread) {
            const Entry* rows = operands->data() + thread * 2 * panel;
            float* tile = tiles->data() + thread * deepspec::kernels::tile_entries;
            for (std::size_t round = 0; round < rounds; ++round)
                gram(rows, rows + panel, depth, 1.0f, 0.0f, tile);
        });
    };
    const std::size_t products = panel_size * panel_size * depth * channels_of_entry;
    return {name, work, 2e-9 * static_cast<double>(threads * rounds * products), "GF/s"};
}

inline Part float32_peak(deepspec::ThreadPool& pool) {
    return multiply_add("peak: float32", deepspec::kernels::selected().gram, 0.5f, 1, pool);
}

// Where the processor multiplies pairs of them.
inline Part bfloat16_peak(deepspec::ThreadPool& pool) {
    constexpr std::uint32_t two_halves = 0x3f003f00;
    return multiply_add("peak: bfloat16", deepspec::kernels::gram_bfloat16(), two_halves, 2, pool);
}

// The same memory again and again, each thread its share: from the caches where it fits.
inline Part read_peak(double bytes, deepspec::ThreadPool& pool) {
    constexpr std::size_t step = 16;  // as many sums: one alone would wait for its own additions
    const auto threads = static_cast<std::size_t>(pool.size());
    const std::size_t share = static_cast<std::size_t>(bytes) / sizeof(std::uint32_t) / threads / step * step;
    constexpr std::size_t enough = 1 << 24;
    const std::size_t passes = std::max<std::size_t>(1, enough / (share * threads));
    const auto memory = std::make_shared<deepspec::Buffer<std::uint32_t>>(share * threads);
    const auto sums = std::make_shared<deepspec::Buffer<std::uint32_t>>(threads * step);
    std::fill_n(memory->data(), memory->size(), 1u);
    const auto work = [=, &pool] {
        pool.run(threads, [&](std::size_t thread) {
            const std::uint32_t* begin = memory->data() + thread * share;
            for (std::size_t pass = 0; pass < passes; ++pass) {
                std::array<std::uint32_t, step> partial{};
                for (const std::uint32_t* at = begin; at < begin + share; at += step)
                    for (std::size_t lane = 0; lane < step; ++lane) partial[lane] += at[lane];
                std::copy(partial.begin(), partial.end(), sums->data() + thread * step);
            }
        });
    };
    char name[32];
    std::snprintf(name, sizeof name, "peak: read %.1f MB", 1e-6 * bytes);
    return {name, work, 1e-9 * sizeof(std::uint32_t) * static_cast<double>(passes * share * threads), "GB/s"};
}

}  // namespace bench

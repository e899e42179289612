#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "deepspec/kernels/kernels.hpp"
#include "deepspec/memory.hpp"
#include "deepspec/parallel.hpp"
#include "harness.hpp"

// What the arithmetic and the memory of this machine give to loops that do nothing else.
namespace bench {

// Every thread multiplies panels of 384 channels that stay in its second-level cache.
inline Part multiply_add(const std::string& name, const deepspec::kernels::Gram& gram,
                         deepspec::ThreadPool& pool) {
    using namespace deepspec::kernels;
    constexpr std::size_t channels = 384, rounds = 200;
    const auto threads = static_cast<std::size_t>(pool.size());
    const std::size_t panel = gram.panel_bytes(channels);
    const auto operands = std::make_shared<deepspec::Buffer<std::byte>>(threads * 2 * panel);
    const auto tiles = std::make_shared<deepspec::Buffer<float>>(threads * tile_entries);
    const std::vector<float> cells(strip_size * channels, 0.5f);
    for (std::size_t p = 0; p < threads * 2; ++p)
        for (std::size_t first = 0; first < panel_size; first += strip_size)
            gram.pack(cells.data(), channels, first, operands->data() + p * panel);
    if (gram.to_rows != nullptr)
        for (std::size_t thread = 0; thread < threads; ++thread) {
            std::byte* const rows = operands->data() + 2 * thread * panel;
            gram.to_rows(rows + panel, channels, rows);
        }
    const auto work = [=, &pool] {
        pool.run(threads, [&](std::size_t thread) {
            const std::byte* rows = operands->data() + thread * 2 * panel;
            float* tile = tiles->data() + thread * tile_entries;
            for (std::size_t round = 0; round < rounds; ++round)
                gram.multiply(rows, rows + panel, channels, 1.0f, 0.0f, tile);
        });
    };
    constexpr std::size_t products = panel_size * panel_size * channels;
    return {name, work, 2e-9 * static_cast<double>(threads * rounds * products), "GF/s"};
}

inline Part float32_peak(deepspec::ThreadPool& pool) {
    using namespace deepspec::kernels;
    return multiply_add("peak: float32", gram(Digits::float32), pool);
}

// Of what 16-bit entries are good for: float32's, unless there is something faster.
inline Part fixed16_peak(deepspec::ThreadPool& pool) {
    using namespace deepspec::kernels;
    return multiply_add("peak: for fixed16", gram(Digits::fixed16), pool);
}

// Where the processor multiplies such.
inline Part bfloat16_peak(deepspec::ThreadPool& pool) {
    using namespace deepspec::kernels;
    return multiply_add("peak: bfloat16", gram(Digits::bfloat16), pool);
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

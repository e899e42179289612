#pragma once

#include <cstddef>
#include <random>
#include <vector>

#include "check.hpp"
#include "deepspec/laplacian.hpp"

// That an affinity's combinations, of doubles or floats, are what its products say.
inline void check_combinations(const deepspec::Affinity& affinity) {
    const std::size_t n = affinity.size();
    std::mt19937 random(11);
    const auto drawn = [&](std::size_t size, double least) {
        std::vector<double> numbers(size);
        for (double& number : numbers) number = std::uniform_real_distribution(least, 1.0)(random);
        return numbers;
    };
    const deepspec::Affinity::Terms terms{-0.3, 1.7};
    for (const std::size_t count : {1u, 2u, 3u}) {
        const std::size_t stride = n + 5;
        const std::vector<double> f = drawn(n, 0.1), x = drawn(count * stride, -1.0);
        const std::vector<float> x_floats(x.begin(), x.end());
        std::vector<double> scaled(count * stride), products = scaled, found = scaled;
        std::vector<float> found_floats(count * stride);
        for (std::size_t v = 0; v < count; ++v)
            for (std::size_t i = 0; i < n; ++i) scaled[v * stride + i] = f[i] * x[v * stride + i];
        deepspec::ThreadPool pool(3);
        affinity.multiply(scaled.data(), products.data(), pool, count, stride);
        affinity.combine(terms, f.data(), x.data(), found.data(), pool, count, stride);
        affinity.combine(terms, f.data(), x_floats.data(), found_floats.data(), pool, count, stride);
        for (std::size_t v = 0; v < count; ++v)
            for (std::size_t i = 0; i < n; ++i) {
                const std::size_t at = v * stride + i;
                const double expected = terms.x * x[at] + terms.product * f[i] * products[at];
                CHECK_NEAR(found[at], expected, 1e-4);
                CHECK_NEAR(found_floats[at], expected, 1e-4);
            }
    }
}

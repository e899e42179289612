#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <random>
#include <vector>

#include "deepspec/interpolation.hpp"

namespace bench {

// In place of a photograph: smooth shading, three discs and sensor noise, in steps of 1/255.
inline std::vector<double> synthetic_image(deepspec::Grid grid) {
    std::mt19937 random(1);
    std::normal_distribution noise(0.0, 0.02);
    std::vector<double> pixels;
    for (std::size_t row = 0; row < grid.height; ++row)
        for (std::size_t column = 0; column < grid.width; ++column) {
            const double y = static_cast<double>(row) / static_cast<double>(grid.height);
            const double x = static_cast<double>(column) / static_cast<double>(grid.width);
            std::array<double, 3> rgb{0.3 + 0.3 * y, 0.4 + 0.1 * std::sin(7.0 * x), 0.5 - 0.3 * y};
            for (std::size_t c = 0; c < 3; ++c) {
                const double angle = 2.1 * static_cast<double>(c);
                if (std::hypot(x - 0.5 - 0.25 * std::cos(angle), y - 0.5 - 0.25 * std::sin(angle)) < 0.2)
                    rgb[c] += 0.35;
            }
            for (const double value : rgb)
                pixels.push_back(std::round(255.0 * std::clamp(value + noise(random), 0.0, 1.0)) / 255.0);
        }
    return pixels;
}

// In place of a network's: random waves over colour and position, and noise.
inline std::vector<float> synthetic_features(deepspec::Grid grid, std::size_t channels,
                                             const std::vector<double>& pixels) {
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<std::array<float, 6>> waves(channels);
    for (auto& wave : waves)
        for (float& coefficient : wave) coefficient = 2.0f * normal(random);
    std::vector<float> features;
    for (std::size_t i = 0; i < grid.size(); ++i) {
        const std::array<float, 6> at{static_cast<float>(pixels[3 * i]),
                                      static_cast<float>(pixels[3 * i + 1]),
                                      static_cast<float>(pixels[3 * i + 2]),
                                      static_cast<float>(i / grid.width) / static_cast<float>(grid.height),
                                      static_cast<float>(i % grid.width) / static_cast<float>(grid.width),
                                      1.0f};
        for (const auto& wave : waves)
            features.push_back(std::cos(std::inner_product(at.begin(), at.end(), wave.begin(), 0.0f)) +
                               0.3f * normal(random));
    }
    return features;
}

}  // namespace bench

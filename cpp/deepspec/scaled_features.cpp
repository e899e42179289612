#include "deepspec/scaled_features.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

double sum_of_squares(const float* values, std::size_t count) {
    return kernels::selected().sum_of_squares(values, count);
}

double sum_of_squares(const double* values, std::size_t count) {
    return kernels::selected().sum_of_squares_double(values, count);
}

// 1 / length of a feature, without overflow or underflow: NaN where an entry is not finite, 0 where all are
// (nearly) zero.
template <class Scalar>
double inverse_length(const Scalar* feature, std::size_t channels) {
    constexpr double small = 1e-200, large = 1e200;  // squares between them have lost nothing
    const double plain = sum_of_squares(feature, channels);
    if (plain > small && plain < large) return 1.0 / std::sqrt(plain);
    constexpr double nearly_zero = 1e-307;  // below, 1 / length is not a number a double holds
    double largest = 0.0, sum = 0.0;
    for (std::size_t c = 0; c < channels; ++c) {
        const double value = std::abs(static_cast<double>(feature[c]));
        sum += value * 0.0;  // NaN once a value is not finite
        largest = std::max(largest, value);
    }
    if (std::isnan(sum)) return sum;
    if (largest < nearly_zero) return 0.0;
    for (std::size_t c = 0; c < channels; ++c) {
        const double value = static_cast<double>(feature[c]) / largest;
        sum += value * value;
    }
    return 1.0 / largest / std::sqrt(sum);
}

}  // namespace

ScaledFeatures::ScaledFeatures(FeatureView<float> features, bool normalize, ThreadPool& pool)
    : grid_{features.height, features.width}, channels_(features.channels), floats_(features.data) {
    find_factors(features, normalize, pool);
}

ScaledFeatures::ScaledFeatures(FeatureView<double> features, bool normalize, ThreadPool& pool)
    : grid_{features.height, features.width}, channels_(features.channels), doubles_(features.data) {
    find_factors(features, normalize, pool);
}

template <class Scalar>
void ScaledFeatures::find_factors(FeatureView<Scalar> features, bool normalize, ThreadPool& pool) {
    const std::size_t n = grid_.size();
    factors_.resize(n);
    pool.for_blocks(n, 256, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i)
            factors_[i] = inverse_length(features.data + i * channels_, channels_);
    });
    for (std::size_t i = 0; i < n; ++i) {
        if (!std::isnan(factors_[i])) continue;
        throw std::invalid_argument("features must be finite, found NaN or infinity in the cell at row " +
                                    std::to_string(i / grid_.width) + ", column " +
                                    std::to_string(i % grid_.width));
    }
    if (normalize) return;
    double smallest = std::numeric_limits<double>::infinity();
    for (const double factor : factors_)
        if (factor > 0.0) smallest = std::min(smallest, factor);
    std::fill(factors_.begin(), factors_.end(), std::isfinite(smallest) ? smallest : 0.0);
}

void ScaledFeatures::get(std::size_t cell, float* out) const {
    const kernels::Kernels& kernel = kernels::selected();
    if (floats_ != nullptr)
        kernel.scale(floats_ + cell * channels_, channels_, factors_[cell], out);
    else
        kernel.scale_double(doubles_ + cell * channels_, channels_, factors_[cell], out);
}

void ScaledFeatures::get(const Corners& at, float* out) const {
    if (floats_ != nullptr)
        interpolate(floats_, at, out);
    else
        interpolate(doubles_, at, out);
}

template <class Scalar>
void ScaledFeatures::interpolate(const Scalar* features, const Corners& at, float* out) const {
    std::array<const Scalar*, 4> in;
    std::array<double, 4> weights;
    for (std::size_t m = 0; m < 4; ++m) {
        in[m] = features + at.cells[m] * channels_;
        weights[m] = factors_[at.cells[m]] * static_cast<double>(at.weights[m]);
    }
    for (std::size_t c = 0; c < channels_; ++c) {
        double sum = 0.0;
        for (std::size_t m = 0; m < 4; ++m) sum += static_cast<double>(in[m][c]) * weights[m];
        out[c] = static_cast<float>(sum);
    }
}

}  // namespace deepspec

#pragma once

#include <cstddef>
#include <vector>

#include "deepspec/interpolation.hpp"
#include "deepspec/parallel.hpp"

namespace deepspec {

// Features of a height x width grid, channels last; Scalar is float or double.
template <class Scalar>
struct FeatureView {
    const Scalar* data = nullptr;
    std::size_t height = 0;
    std::size_t width = 0;
    std::size_t channels = 0;
};

// The same, each of length 1, or else all divided by the length of the longest. Refers to them.
class ScaledFeatures {
  public:
    // Throws std::invalid_argument on NaN or infinity, naming where.
    ScaledFeatures(FeatureView<float> features, bool normalize, ThreadPool& pool);
    ScaledFeatures(FeatureView<double> features, bool normalize, ThreadPool& pool);

    Grid grid() const { return grid_; }
    std::size_t channels() const { return channels_; }

    // Writes the feature of a cell, as floats.
    void get(std::size_t cell, float* out) const;

    // The same between cells.
    void get(const Corners& at, float* out) const;

  private:
    template <class Scalar>
    void find_factors(FeatureView<Scalar> features, bool normalize, ThreadPool& pool);
    template <class Scalar>
    void interpolate(const Scalar* features, const Corners& at, float* out) const;

    Grid grid_;
    std::size_t channels_;
    const float* floats_ = nullptr;  // either of them
    const double* doubles_ = nullptr;
    std::vector<double> factors_;  // what each cell's feature is multiplied by
};

}  // namespace deepspec

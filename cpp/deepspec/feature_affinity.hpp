#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "deepspec/memory.hpp"
#include "deepspec/parallel.hpp"
#include "deepspec/scaled_features.hpp"
#include "deepspec/tiled_matrix.hpp"

namespace deepspec {

// A symmetric matrix made of features, as a product with two vectors.
class FeatureAffinity {
  public:
    virtual ~FeatureAffinity() = default;

    virtual std::size_t size() const = 0;

    // Rows of A X for two vectors, which are (n, 2), in two steps: what all rows share, and rows of it from
    // begin to end. The same bits for any number of threads.
    virtual std::vector<float> begin_product(const float* x, ThreadPool& pool) const = 0;
    virtual void product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                              float* y) const = 0;
};

// A matrix that is kept.
class TiledFeatures : public FeatureAffinity {
  public:
    // Refers to the matrix, which must outlive it.
    explicit TiledFeatures(const TiledMatrix& matrix) : matrix_(matrix) {}

    const TiledMatrix& matrix() const { return matrix_; }
    std::size_t size() const override { return matrix_.size(); }
    std::vector<float> begin_product(const float* x, ThreadPool& pool) const override;
    void product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                      float* y) const override;

  private:
    const TiledMatrix& matrix_;
};

// F F^T, of which F is kept: a product costs O(n C). It has negative entries where features point apart.
class FactoredFeatures : public FeatureAffinity {
  public:
    FactoredFeatures(const ScaledFeatures& features, ThreadPool& pool);

    static double bytes(std::size_t n, std::size_t channels);

    std::size_t size() const override { return n_; }
    std::vector<float> begin_product(const float* x, ThreadPool& pool) const override;
    void product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                      float* y) const override;

    // Some entries of a row.
    void get_entries(std::size_t i, const std::uint32_t* columns, std::size_t count, float* entries) const;

    // F, (n, length): the channels, filled up with zeros.
    std::size_t length() const { return length_; }
    const float* rows() const { return numbers_.data(); }

  private:
    std::size_t n_, length_;
    Buffer<float> numbers_;
};

// The same of features rounded to 16 bits, each channel in units of its own: half as much to read.
class RoundedFeatures : public FeatureAffinity {
  public:
    RoundedFeatures(const FactoredFeatures& features, ThreadPool& pool);

    static double bytes(std::size_t n, std::size_t channels);

    std::size_t size() const override { return n_; }
    std::vector<float> begin_product(const float* x, ThreadPool& pool) const override;
    void product_rows(const std::vector<float>& shared, std::size_t begin, std::size_t end,
                      float* y) const override;

    // Expected squares of what rounding changes.
    struct Rounding {
        double of_rows = 0.0;      // in all channels of a row
        double of_channels = 0.0;  // in a channel, in the mean of all, by the squares of their numbers
    };
    const Rounding& rounding() const { return rounding_; }

  private:
    std::size_t n_, length_;
    Buffer<std::int16_t> words_;
    std::vector<float> units_;
    Rounding rounding_;
};

}  // namespace deepspec

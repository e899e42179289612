#pragma once

#include <cstddef>
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

    double entry(std::size_t i, std::size_t j) const;

  private:
    const float* row(std::size_t i) const { return rows_.data() + i * length_; }

    std::size_t n_, length_;  // of a row: channels, filled up with zeros
    Buffer<float> rows_;
};

}  // namespace deepspec

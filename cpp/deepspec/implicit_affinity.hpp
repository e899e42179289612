#pragma once

#include <cstddef>
#include <cstdint>
#include <variant>

#include "deepspec/feature_affinity.hpp"
#include "deepspec/laplacian.hpp"
#include "deepspec/parallel.hpp"
#include "deepspec/sparse.hpp"

namespace deepspec {

// W = feature_weight * features + sparse_weight * sparse; either part may be missing. The features' part is
// never written down. Refers to its parts; they must outlive it.
class ImplicitAffinity : public Affinity {
  public:
    std::size_t size() const override { return n_; }

    using Affinity::multiply;
    void multiply(const double* x, double* y, ThreadPool& pool, std::size_t count, std::size_t stride,
                  Detail detail = Detail::full) const override;
    void combine(Terms terms, const double* f, const double* x, double* y, ThreadPool& pool,
                 std::size_t count, std::size_t stride, Detail detail = Detail::full) const override;
    void combine(Terms terms, const double* f, const float* x, float* y, ThreadPool& pool, std::size_t count,
                 std::size_t stride, Detail detail = Detail::full) const override;

    // Bytes a product takes.
    static double product_bytes(std::size_t n);

  protected:
    ImplicitAffinity(const FeatureAffinity* features, double feature_weight, const CountMatrix& sparse,
                     double sparse_weight);
    ImplicitAffinity(const FeatureAffinity* features, double feature_weight, const RowMatrix& sparse,
                     double sparse_weight);

  private:
    // finish(vertex, the vertex's two entries of W F X), for two vectors, the second one perhaps the first. F
    // may be null: no factors.
    template <class Number, class Finish>
    void multiply_two(const double* f, const Number* first, const Number* second, ThreadPool& pool,
                      Finish finish) const;

    template <class Number>
    void combine_all(Terms terms, const double* f, const Number* x, Number* y, ThreadPool& pool,
                     std::size_t count, std::size_t stride) const;

    // Rows from begin to end of the sparse part times vectors, which are (n, 2), as are products.
    void multiply_sparse(const float* pairs, std::size_t begin, std::size_t end, float* products) const;

    using Sparse = std::variant<const CountMatrix*, const RowMatrix*>;
    ImplicitAffinity(const FeatureAffinity* features, double feature_weight, Sparse sparse, std::size_t n,
                     double sparse_weight);

    const FeatureAffinity* features_;
    double feature_weight_;
    Sparse sparse_;
    double sparse_weight_;
    std::size_t n_;
};

}  // namespace deepspec

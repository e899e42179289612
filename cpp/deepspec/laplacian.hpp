#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <vector>

#include "deepspec/parallel.hpp"
#include "deepspec/sparse.hpp"
#include "deepspec/tiled_matrix.hpp"

namespace deepspec {

// A symmetric matrix W without negative entries, as an operator.
class Affinity {
  public:
    virtual ~Affinity() = default;

    virtual std::size_t size() const = 0;

    // Y = W X for `count` vectors, `stride` numbers apart; the same bits for any number of threads.
    virtual void multiply(const double* x, double* y, ThreadPool& pool, std::size_t count, std::size_t stride,
                          Detail detail = Detail::full) const = 0;

    void multiply(const double* x, double* y, ThreadPool& pool) const { multiply(x, y, pool, 1, size()); }

    // What vectors and their products are multiplied by before they are added.
    struct Terms {
        double x = 0.0, product = 0.0;
    };

    // Y = terms.x X + terms.product F W F X, vectors as above; F is a diagonal matrix.
    virtual void combine(Terms terms, const double* f, const double* x, double* y, ThreadPool& pool,
                         std::size_t count, std::size_t stride, Detail detail = Detail::full) const = 0;
    virtual void combine(Terms terms, const double* f, const float* x, float* y, ThreadPool& pool,
                         std::size_t count, std::size_t stride, Detail detail = Detail::full) const = 0;

    // visit(i, j, entry) for positive entries (or less than them), enough of them to tell what is connected.
    // Ends when it returns false. Two vertices of which settled(vertex) is true, now or later, are connected:
    // their entry may be left out. Of one vertex it is true from the beginning.
    using Visit = std::function<bool(std::size_t, std::size_t, double)>;
    using Settled = std::function<bool(std::size_t)>;
    virtual void visit_edges(const Visit& visit, const Settled& settled, ThreadPool& pool) const = 0;

    void visit_edges(const Visit& visit) const {
        ThreadPool alone(1);
        visit_edges(visit, [](std::size_t i) { return i == 0; }, alone);
    }

    // Whether a product can be coarse.
    virtual bool has_coarse() const { return false; }
};

// W = dense + sparse_weight * sparse + uniform, either part optional: the features' affinity and the
// colour's, fused but kept apart in memory, and what joins every two vertices. Refers to both parts; they
// must outlive it.
class FusedAffinity : public Affinity {
  public:
    FusedAffinity(const TiledMatrix* dense, std::optional<SparseView> sparse, double sparse_weight,
                  double uniform = 0.0);

    // Products are of floats from now on: half as much to read, and exact enough beside rounded tiles.
    void round_sparse(ThreadPool& pool);

    std::size_t size() const override { return n_; }
    bool has_coarse() const override { return dense_ != nullptr && dense_->has_coarse(); }

    using Affinity::multiply;
    void multiply(const double* x, double* y, ThreadPool& pool, std::size_t count, std::size_t stride,
                  Detail detail = Detail::full) const override;
    void combine(Terms terms, const double* f, const double* x, double* y, ThreadPool& pool,
                 std::size_t count, std::size_t stride, Detail detail = Detail::full) const override;
    void combine(Terms terms, const double* f, const float* x, float* y, ThreadPool& pool, std::size_t count,
                 std::size_t stride, Detail detail = Detail::full) const override;

    // All of them, those of either part, weighted; each dense one once.
    using Affinity::visit_edges;
    void visit_edges(const Visit& visit, const Settled& settled, ThreadPool& pool) const override;

  private:
    // finish(at, i, row i of W F x) for every row of every vector, of which x[at] is the entry; F is 1 where
    // there is none.
    template <class Number, class Finish>
    void multiply_all(const double* f, const Number* x, ThreadPool& pool, std::size_t count,
                      std::size_t stride, Detail detail, const Finish& finish) const;

    template <class Number>
    void combine_all(Terms terms, const double* f, const Number* x, Number* y, ThreadPool& pool,
                     std::size_t count, std::size_t stride, Detail detail) const;

    // Rows of the sparse part, at most a block of them, times two vectors; both are (rows, 2).
    void multiply_rounded(const float* pairs, std::size_t begin, std::size_t end, double* products) const;
    void multiply_sparse(const double* pairs, std::size_t begin, std::size_t end, double* products) const;

    const TiledMatrix* dense_;
    std::optional<SparseView> sparse_;
    double sparse_weight_, uniform_;
    std::size_t n_;
    std::optional<RowMatrix> rounded_;  // sparse_weight * sparse
};

// How to keep W's dense part: the first of these that fits and that its graph tolerates. Up to 512 rows
// float32 stays in the second-level cache. Up to 6000 fixed16 stays in the third-level one; beyond, most of a
// search reads the upper half of the digits alone.
std::vector<Entries> entries_to_try(std::size_t n, bool fast);

// What fixed8 entries, and the upper half of split16's, may do to residuals: what is expected is a tenth of
// it.
constexpr double coarse_tolerance = 5e-4;

enum class LaplacianKind {
    normalized,   // I - D^-1/2 W D^-1/2
    unnormalized  // D - W
};

// A Laplacian as an operator. D is the diagonal of W's row sums; a sum below 1e-12 is replaced by 1, which
// gives a vertex without edges the eigenvalue 1.
class Laplacian {
  public:
    // Throws std::invalid_argument when W is all zero.
    Laplacian(const Affinity& affinity, LaplacianKind kind, ThreadPool& pool);

    std::size_t size() const { return degrees_.size(); }
    LaplacianKind kind() const { return kind_; }
    const Affinity& affinity() const { return affinity_; }
    const std::vector<double>& degrees() const { return degrees_; }
    bool isolated(std::size_t vertex) const { return isolated_[vertex]; }

    // The operator that is applied has its spectrum in [0, 2]: the normalised Laplacian itself, the
    // unnormalised one divided by this scale, the largest degree.
    double scale() const { return scale_; }

    // y = L x / scale
    void apply(const double* x, double* y, ThreadPool& pool) const { apply(x, y, pool, 1, size()); }

    // The same for `count` vectors, `stride` numbers apart.
    void apply(const double* x, double* y, ThreadPool& pool, std::size_t count, std::size_t stride,
               Detail detail = Detail::full) const;

    // Y = terms.x X + terms.product L X / scale, of floats or doubles
    template <class Number>
    void combine(Affinity::Terms terms, const Number* x, Number* y, ThreadPool& pool, std::size_t count,
                 std::size_t stride, Detail detail = Detail::full) const;

    // Whether the errors of W's entries, kept so, stay below half of an eigensolver's tolerance, or for
    // fixed8 of coarse_tolerance. They are spread evenly over a digit's unit, so as a symmetric random matrix
    // they have norm 2 sqrt(n / 12) units, and beside them stands the smallest degree.
    bool tolerates(Entries entries, double tolerance) const;

    // For every vertex the number of its connected component, 0, 1, … by first vertex, where entries of
    // L / scale up to `negligible` do not connect.
    std::vector<std::size_t> components(double negligible, ThreadPool& pool) const;

    // The weight that turns a unit eigenvector u of the operator into y = D^-1/2 u; 1 where unnormalised.
    double vertex_factor(std::size_t vertex) const { return factors_[vertex]; }

  private:
    const Affinity& affinity_;
    LaplacianKind kind_;
    std::vector<double> degrees_, factors_;
    std::vector<bool> isolated_;
    double scale_ = 1.0;
};

}  // namespace deepspec

#include "deepspec/laplacian.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "deepspec/columns.hpp"
#include "deepspec/kernels/kernels.hpp"

namespace deepspec {
namespace {

constexpr std::size_t block = 256;  // rows in a parallel task

class DisjointSets {
  public:
    explicit DisjointSets(std::size_t n) : parent_(n), count_(n) {
        std::iota(parent_.begin(), parent_.end(), std::size_t{0});
    }

    std::size_t count() const { return count_; }

    std::size_t find(std::size_t i) {
        while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
        return i;
    }

    void join(std::size_t i, std::size_t j) {
        i = find(i);
        j = find(j);
        if (i == j) return;
        parent_[std::max(i, j)] = std::min(i, j);
        --count_;
    }

  private:
    std::vector<std::size_t> parent_;
    std::size_t count_;
};

// (n, 2) for every two of `count` vectors, times F. Where they are odd, the last is its own partner.
template <class Number, class Given>
std::vector<Number> in_pairs(const double* f, const Given* x, std::size_t n, std::size_t count,
                             std::size_t stride, ThreadPool& pool) {
    std::vector<Number> pairs((count + 1) / 2 * 2 * n);
    for (std::size_t v = 0; v < count; v += 2)
        columns::interleave(f, x + v * stride, x + std::min(v + 1, count - 1) * stride, pairs.data() + v * n,
                            n, pool);
    return pairs;
}

}  // namespace

FusedAffinity::FusedAffinity(const TiledMatrix* dense, std::optional<SparseView> sparse, double sparse_weight,
                             double uniform)
    : dense_(dense), sparse_(sparse), sparse_weight_(sparse_weight), uniform_(uniform) {
    if (dense == nullptr && !sparse)
        throw std::invalid_argument("an affinity needs a dense or a sparse part");
    n_ = dense != nullptr ? dense->size() : sparse->n;
    if (sparse && sparse->n != n_)
        throw std::invalid_argument("the parts of an affinity must have one size, got " + std::to_string(n_) +
                                    " and " + std::to_string(sparse->n) + " rows");
}

template <class Number, class Finish>
void FusedAffinity::multiply_all(const double* f, const Number* x, ThreadPool& pool, std::size_t count,
                                 std::size_t stride, Detail detail, const Finish& finish) const {
    std::optional<TiledMatrix::Product> dense;
    if (dense_ != nullptr) {
        dense.emplace(*dense_, f, x, count, stride, detail);
        pool.run(dense->n_tasks(), [&](std::size_t task) { dense->run(task); });
    }
    std::vector<double> pairs;
    std::vector<float> rounded_pairs;
    if (rounded_)
        rounded_pairs = in_pairs<float>(f, x, n_, count, stride, pool);
    else if (sparse_)
        pairs = in_pairs<double>(f, x, n_, count, stride, pool);
    std::vector<double> of_uniform(count, 0.0);
    for (std::size_t v = 0; uniform_ > 0.0 && v < count; ++v)
        for (std::size_t i = 0; i < n_; ++i)
            of_uniform[v] += uniform_ * (f != nullptr ? f[i] : 1.0) * static_cast<double>(x[v * stride + i]);
    pool.for_blocks(n_, block, [&](std::size_t begin, std::size_t end) {
        std::array<double, 2 * block> of_sparse{};
        std::array<double, block> sums;
        for (std::size_t v = 0; v < count; ++v) {
            if (v % 2 == 0 && rounded_)
                multiply_rounded(rounded_pairs.data() + v * n_, begin, end, of_sparse.data());
            else if (v % 2 == 0 && sparse_)
                multiply_sparse(pairs.data() + v * n_, begin, end, of_sparse.data());
            for (std::size_t i = 0; i < end - begin; ++i) sums[i] = of_sparse[2 * i + v % 2] + of_uniform[v];
            if (dense) dense->add_rows(v, begin, end, sums.data());
            for (std::size_t i = begin; i < end; ++i) finish(v * stride + i, i, sums[i - begin]);
        }
    });
}

void FusedAffinity::multiply(const double* x, double* y, ThreadPool& pool, std::size_t count,
                             std::size_t stride, Detail detail) const {
    multiply_all(nullptr, x, pool, count, stride, detail,
                 [&](std::size_t at, std::size_t, double sum) { y[at] = sum; });
}

void FusedAffinity::combine(Terms terms, const double* f, const double* x, double* y, ThreadPool& pool,
                            std::size_t count, std::size_t stride, Detail detail) const {
    combine_all(terms, f, x, y, pool, count, stride, detail);
}

void FusedAffinity::combine(Terms terms, const double* f, const float* x, float* y, ThreadPool& pool,
                            std::size_t count, std::size_t stride, Detail detail) const {
    combine_all(terms, f, x, y, pool, count, stride, detail);
}

template <class Number>
void FusedAffinity::combine_all(Terms terms, const double* f, const Number* x, Number* y, ThreadPool& pool,
                                std::size_t count, std::size_t stride, Detail detail) const {
    multiply_all(f, x, pool, count, stride, detail, [&](std::size_t at, std::size_t i, double sum) {
        y[at] = static_cast<Number>(terms.x * static_cast<double>(x[at]) + terms.product * f[i] * sum);
    });
}

void FusedAffinity::round_sparse(ThreadPool& pool) {
    if (!sparse_) return;
    constexpr auto unit = static_cast<std::int64_t>(RowMatrix::unit);
    rounded_.emplace(n_);
    std::vector<std::int64_t>& starts = rounded_->row_starts;
    for (std::size_t i = 0; i < n_; ++i)
        starts[i + 1] =
            starts[i] + (sparse_->row_starts[i + 1] - sparse_->row_starts[i] + unit - 1) / unit * unit;
    rounded_->columns.resize(static_cast<std::size_t>(starts.back()));
    rounded_->entries.resize(rounded_->columns.size());
    pool.for_blocks(n_, block, [&](std::size_t begin, std::size_t end) {
        for (std::size_t i = begin; i < end; ++i) {
            auto to = static_cast<std::size_t>(starts[i]);
            for (std::int64_t slot = sparse_->row_starts[i]; slot < sparse_->row_starts[i + 1];
                 ++slot, ++to) {
                rounded_->columns[to] = sparse_->columns[slot];
                rounded_->entries[to] = static_cast<float>(sparse_weight_ * sparse_->values[slot]);
            }
            for (; to < static_cast<std::size_t>(starts[i + 1]); ++to) {
                rounded_->columns[to] = static_cast<std::int32_t>(i);
                rounded_->entries[to] = 0.0f;
            }
        }
    });
}

void FusedAffinity::multiply_rounded(const float* pairs, std::size_t begin, std::size_t end,
                                     double* products) const {
    std::array<float, 2 * block> floats;
    kernels::selected().pixels.row_products(rounded_->row_starts.data(), rounded_->columns.data(),
                                            rounded_->entries.data(), pairs, begin, end, floats.data());
    std::copy_n(floats.data(), 2 * (end - begin), products);
}

void FusedAffinity::multiply_sparse(const double* pairs, std::size_t begin, std::size_t end,
                                    double* products) const {
    const std::int32_t* const columns = sparse_->columns;
    const double* const values = sparse_->values;
    constexpr std::size_t lanes = 4;  // one sum would wait for its own additions
    for (std::size_t i = begin; i < end; ++i) {
        std::array<double, 2 * lanes> sums{};
        const auto add = [&](std::size_t lane, std::int64_t slot) {
            const double* const both = pairs + 2 * static_cast<std::size_t>(columns[slot]);
            for (std::size_t v = 0; v < 2; ++v) sums[2 * lane + v] += values[slot] * both[v];
        };
        std::int64_t slot = sparse_->row_starts[i];
        for (; slot + static_cast<std::int64_t>(lanes) <= sparse_->row_starts[i + 1];
             slot += static_cast<std::int64_t>(lanes))
            for (std::size_t lane = 0; lane < lanes; ++lane)
                add(lane, slot + static_cast<std::int64_t>(lane));
        for (; slot < sparse_->row_starts[i + 1]; ++slot) add(0, slot);
        for (std::size_t v = 0; v < 2; ++v)
            *products++ = sparse_weight_ * ((sums[v] + sums[2 + v]) + (sums[4 + v] + sums[6 + v]));
    }
}

void FusedAffinity::visit_edges(const Visit& visit, const Settled&, ThreadPool&) const {
    constexpr std::size_t side = TiledMatrix::tile_size;
    std::array<float, side> entries;
    // Row after row, both parts of it: an answer rarely needs more than the first.
    for (std::size_t i = 0; i < n_; ++i) {
        for (std::size_t j = i; uniform_ > 0.0 && j < n_; ++j)
            if (!visit(i, j, uniform_)) return;
        if (sparse_)
            for (std::int64_t slot = sparse_->row_starts[i]; slot < sparse_->row_starts[i + 1]; ++slot) {
                const double entry = sparse_weight_ * sparse_->values[slot];
                if (entry > 0.0 && !visit(i, static_cast<std::size_t>(sparse_->columns[slot]), entry)) return;
            }
        for (std::size_t left = i / side * side; dense_ != nullptr && left < n_; left += side) {
            dense_->get_row(i, left / side, entries.data());
            for (std::size_t j = std::max(i, left); j < std::min(left + side, n_); ++j) {
                const auto entry = static_cast<double>(entries[j - left]);
                if (entry > 0.0 && !visit(i, j, entry)) return;
            }
        }
    }
}

std::vector<Entries> entries_to_try(std::size_t n, bool fast) {
    if (n <= 512) return {Entries::float32};
    const Entries fixed = n <= 6000 ? Entries::fixed16 : Entries::split16;
    if (fast) return {Entries::fixed8, fixed, Entries::float32};
    return {fixed, Entries::float32};
}

Laplacian::Laplacian(const Affinity& affinity, LaplacianKind kind, ThreadPool& pool)
    : affinity_(affinity),
      kind_(kind),
      degrees_(affinity.size()),
      factors_(affinity.size(), 1.0),
      isolated_(affinity.size()) {
    constexpr double no_degree = 1e-12;
    const std::size_t n = affinity.size();
    const std::vector<double> ones(n, 1.0);
    affinity.multiply(ones.data(), degrees_.data(), pool);
    bool any_edge = false;
    for (std::size_t i = 0; i < n; ++i) {
        if (!std::isfinite(degrees_[i]))
            throw std::invalid_argument("the row sums of the affinity must be finite, row " +
                                        std::to_string(i) + " is not");
        isolated_[i] = degrees_[i] < no_degree;
        any_edge = any_edge || !isolated_[i];
        if (isolated_[i]) degrees_[i] = 1.0;
    }
    if (!any_edge) throw std::invalid_argument("the affinity has no edge: every entry of W is zero");
    if (kind == LaplacianKind::normalized)
        std::transform(degrees_.begin(), degrees_.end(), factors_.begin(),
                       [](double d) { return 1.0 / std::sqrt(d); });
    else
        scale_ = *std::max_element(degrees_.begin(), degrees_.end());
}

void Laplacian::apply(const double* x, double* y, ThreadPool& pool, std::size_t count, std::size_t stride,
                      Detail detail) const {
    combine({.product = 1.0}, x, y, pool, count, stride, detail);
}

template <class Number>
void Laplacian::combine(Affinity::Terms terms, const Number* x, Number* y, ThreadPool& pool,
                        std::size_t count, std::size_t stride, Detail detail) const {
    if (kind_ == LaplacianKind::normalized)
        return affinity_.combine({terms.x + terms.product, -terms.product}, factors_.data(), x, y, pool,
                                 count, stride, detail);
    const std::size_t n = size();
    Buffer<Number> products(count * stride);
    affinity_.combine({.product = 1.0}, factors_.data(), x, products.data(), pool, count, stride, detail);
    for (std::size_t v = 0; v < count; ++v)
        columns::for_pieces(n, 4, pool, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i) {
                const std::size_t at = v * stride + i;
                const auto xi = static_cast<double>(x[at]),
                           product = static_cast<double>(products.data()[at]);
                y[at] =
                    static_cast<Number>(terms.x * xi + terms.product * (degrees_[i] * xi - product) / scale_);
            }
        });
}

template void Laplacian::combine(Affinity::Terms, const float*, float*, ThreadPool&, std::size_t, std::size_t,
                                 Detail) const;
template void Laplacian::combine(Affinity::Terms, const double*, double*, ThreadPool&, std::size_t,
                                 std::size_t, Detail) const;

bool Laplacian::tolerates(Entries entries, double tolerance) const {
    if (entries == Entries::float32 || entries == Entries::bits) return true;
    const bool coarse = entries == Entries::fixed8;
    const double error = 2.0 * std::sqrt(static_cast<double>(size()) / 12.0) * (coarse ? 0x1p-8 : 0x1p-16);
    const double smallest_degree = *std::min_element(degrees_.begin(), degrees_.end());
    return error <= 0.5 * (coarse ? coarse_tolerance : tolerance) * smallest_degree;
}

std::vector<std::size_t> Laplacian::components(double negligible, ThreadPool& pool) const {
    DisjointSets sets(size());
    const auto visit = [&](std::size_t i, std::size_t j, double entry) {
        // Beside the smaller degree: a vertex whose edges are all small ones of hubs is not cut off.
        const double factor = std::max(factors_[i], factors_[j]);
        if (factor * entry * factor > negligible * scale_) sets.join(i, j);
        return sets.count() > 1;  // most graphs are joined after a few rows
    };
    const auto hub =
        static_cast<std::size_t>(std::max_element(degrees_.begin(), degrees_.end()) - degrees_.begin());
    affinity_.visit_edges(visit, [&](std::size_t i) { return sets.find(i) == sets.find(hub); }, pool);
    std::vector<std::size_t> numbers(size());
    std::size_t next = 0;
    for (std::size_t i = 0; i < size(); ++i) {
        const std::size_t root = sets.find(i);  // the smallest member, so numbered before i
        numbers[i] = root == i ? next++ : numbers[root];
    }
    return numbers;
}

}  // namespace deepspec

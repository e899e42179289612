#include "deepspec/eigensolver.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <numbers>
#include <numeric>
#include <span>
#include <stdexcept>
#include <utility>

#include "deepspec/columns.hpp"
#include "deepspec/memory.hpp"

namespace deepspec {
namespace {

constexpr std::size_t dense_size = 128;  // a full decomposition is the fastest solver up to here

// The smallest problems, and nearly all pairs of larger ones.
bool needs_dense(std::size_t size, std::size_t count) { return size <= dense_size || 2 * count + 20 >= size; }

// A connected component: its vertices and their total mass, the squared length of its null vector before it
// is normalised (the sum of degrees, or the number of vertices where the Laplacian is unnormalised).
struct Component {
    std::vector<std::size_t> vertices;
    double mass = 0.0;
};

double null_entry(const Laplacian& laplacian, std::size_t vertex) {
    return 1.0 / laplacian.vertex_factor(vertex);
}

// Components that have edges, the heaviest first. Entries that together cannot move an eigenvalue by a tenth
// of the tolerance do not connect: a search would meet their eigenvalues as one multiple eigenvalue 0.
std::vector<Component> find_components(const Laplacian& laplacian, double tolerance, ThreadPool& pool) {
    const std::vector<std::size_t> numbers =
        laplacian.components(0.1 * tolerance / static_cast<double>(laplacian.size()), pool);
    std::vector<Component> components(*std::max_element(numbers.begin(), numbers.end()) + 1);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        if (laplacian.isolated(i)) continue;
        Component& component = components[numbers[i]];
        component.vertices.push_back(i);
        component.mass += null_entry(laplacian, i) * null_entry(laplacian, i);
    }
    std::erase_if(components, [](const Component& component) { return component.vertices.empty(); });
    std::stable_sort(components.begin(), components.end(),
                     [](const Component& a, const Component& b) { return a.mass > b.mass; });
    return components;
}

// An eigenvector of the operator in the making: unit, over all vertices.
struct Candidate {
    double value;  // of L / scale
    std::vector<double> vector;
};

// An orthonormal basis of the eigenvalue 0, at most `count` vectors: the constant one, then for each further
// component its contrast with all heavier ones together.
std::vector<Candidate> null_vectors(const Laplacian& laplacian, const std::vector<Component>& components,
                                    std::size_t count) {
    std::vector<Candidate> result;
    const auto fill = [&](Candidate& candidate, const Component& component, double weight) {
        for (const std::size_t i : component.vertices)
            candidate.vector[i] = weight * null_entry(laplacian, i);
    };
    double total = 0.0;
    for (const Component& component : components) total += component.mass;
    result.push_back({0.0, std::vector<double>(laplacian.size(), 0.0)});
    for (const Component& component : components) fill(result.back(), component, 1.0 / std::sqrt(total));
    double heavier = components.front().mass;
    for (std::size_t j = 1; j < components.size() && result.size() < count; ++j) {
        const double mass = components[j].mass;
        const double norm = std::sqrt(1.0 / heavier + 1.0 / mass);
        result.push_back({0.0, std::vector<double>(laplacian.size(), 0.0)});
        for (std::size_t i = 0; i < j; ++i) fill(result.back(), components[i], 1.0 / (heavier * norm));
        fill(result.back(), components[j], -1.0 / (mass * norm));
        heavier += mass;
    }
    return result;
}

// The same numbers in (-1, 1) on every platform (splitmix64), which std's distributions do not promise.
std::vector<double> start_vector(std::size_t size, std::uint64_t seed) {
    std::vector<double> start(size);
    std::uint64_t state = seed;
    for (double& entry : start) {
        std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        entry = static_cast<double>(static_cast<std::int64_t>(z)) * 0x1p-63;
    }
    return start;
}

// x -> (2 - L / scale) x on one component; vectors that are known are moved to the far end of the spectrum.
class ComponentSearch {
  public:
    ComponentSearch(const Laplacian& laplacian, const Component& component, ThreadPool& pool)
        : laplacian_(laplacian), component_(component), pool_(pool), length_(columns::padded(size())) {
        std::vector<double> null(size());
        for (std::size_t i = 0; i < size(); ++i)
            null[i] = null_entry(laplacian, component.vertices[i]) / std::sqrt(component.mass);
        add_known(null);
    }

    // The `count` smallest pairs beside the null vector; where not all converged, fewer, and complete() is
    // false.
    std::vector<Candidate> smallest(std::size_t count, Solver solver, const SolverOptions& options) {
        const bool dense = needs_dense(size(), count);
        if (!dense && solver == largest_eigenpairs_lanczos && laplacian_.affinity().has_coarse() &&
            laplacian_.tolerates(Entries::fixed8, options.tolerance))
            detail_ = Detail::coarse;
        SolverOptions first = options;
        if (detail_ == Detail::coarse) first.tolerance *= 2.0;  // less than is refined in any case
        std::vector<Candidate> found = search(count, dense ? largest_eigenpairs_dense : solver, first);
        if (!dense && complete_ && !none_hidden_) add_missed(found, solver, options);
        if (detail_ == Detail::coarse && complete_) found = refined(found, options);
        if (size() < laplacian_.size())
            for (Candidate& candidate : found) candidate.vector = to_all_vertices(candidate.vector);
        return found;
    }

    bool complete() const { return complete_; }
    std::size_t n_products() const { return n_products_; }

  private:
    std::size_t size() const { return component_.vertices.size(); }

    std::vector<Candidate> search(std::size_t count, Solver solver, const SolverOptions& options) {
        std::vector<double> start;
        for (std::size_t v = 0; v < options.block; ++v) {
            const std::size_t n_known = known_.size() / length_;
            std::vector<double> vector = start_vector(size(), n_known + 1000 * v);
            if (options.grid && n_known == 1) add_half_waves(*options.grid, v % 2 == 0, vector);
            vector.resize(length_, 0.0);
            project(vector.data());
            start.insert(start.end(), vector.begin(), vector.begin() + static_cast<std::ptrdiff_t>(size()));
        }
        return search(count, solver, options, std::move(start), false);
    }

    // Half a wave down the grid, and one across, added or subtracted: of the eigenvectors that are wanted
    // they have more than random numbers do. These stay, for they have some of any.
    void add_half_waves(Grid grid, bool add, std::vector<double>& vector) const {
        constexpr double ratio = 3.0;  // of lengths
        const auto half_wave = [](std::size_t cell, std::size_t n_cells) {
            return std::cos(std::numbers::pi * (static_cast<double>(cell) + 0.5) /
                            static_cast<double>(n_cells));
        };
        std::vector<double> waves(size());
        double square = 0.0, square_of_waves = 0.0;
        for (std::size_t i = 0; i < size(); ++i) {
            const std::size_t vertex = component_.vertices[i];
            const double down = half_wave(vertex / grid.width, grid.height);
            const double across = half_wave(vertex % grid.width, grid.width);
            waves[i] = (add ? down + across : down - across) * null_entry(laplacian_, vertex);
            square += vector[i] * vector[i];
            square_of_waves += waves[i] * waves[i];
        }
        if (square_of_waves == 0.0) return;
        const double factor = ratio * std::sqrt(square / square_of_waves);
        for (std::size_t i = 0; i < size(); ++i) vector[i] += factor * waves[i];
    }

    // What was found with the coarse W, to the whole one's tolerance: what the coarse one changed is mostly
    // far from the eigenvalues found, and goes within a product or two.
    std::vector<Candidate> refined(const std::vector<Candidate>& found, const SolverOptions& options) {
        detail_ = Detail::full;
        known_.resize(length_);
        known_floats_.resize(length_);
        std::vector<double> start;
        for (const Candidate& candidate : found)
            start.insert(start.end(), candidate.vector.begin(), candidate.vector.end());
        return search(found.size(), largest_eigenpairs_lanczos, options, std::move(start), true);
    }

    std::vector<Candidate> search(std::size_t count, Solver solver, const SolverOptions& options,
                                  std::vector<double> start, bool nearly_right) {
        const auto multiply = [this](const double* x, double* y, std::size_t n_vectors, std::size_t stride) {
            apply(x, y, n_vectors, stride);
        };
        const auto multiply_floats = [this](const float* x, float* y, std::size_t n_vectors,
                                            std::size_t stride) { apply(x, y, n_vectors, stride); };
        const SymmetricOperator op{size(), multiply, multiply_floats, std::move(start), nearly_right, pool_};
        const RitzPairs pairs = solver(op, count, options);
        n_products_ += pairs.n_products;
        complete_ = complete_ && pairs.values.size() == count;
        none_hidden_ = pairs.none_hidden;
        std::vector<Candidate> found;
        for (std::size_t j = 0; j < pairs.values.size(); ++j) {
            const double* vector = pairs.vectors.data() + j * size();
            found.push_back({2.0 - pairs.values[j], {vector, vector + size()}});
        }
        return found;
    }

    // A Krylov space holds one direction of an eigenspace, so a search misses the others of a multiple
    // eigenvalue, or of nearly equal ones. Searched again, without what is known and from another start, they
    // show. A first look is as coarse as the gaps between the values found allow; where it does not tell, a
    // search to the full tolerance does.
    void add_missed(std::vector<Candidate>& found, Solver solver, const SolverOptions& options) {
        constexpr double coarsest = 3e-3;
        for (const Candidate& candidate : found) add_known(candidate.vector);
        for (;;) {
            double gap = coarsest;
            for (std::size_t j = 1; j < found.size(); ++j)
                gap = std::min(gap, found[j].value - found[j - 1].value);
            SolverOptions look = options;
            look.tolerance = std::max(options.tolerance, gap);
            const std::vector<Candidate> glimpse = search(1, solver, look);
            if (glimpse.empty() || glimpse.front().value > found.back().value + look.tolerance) return;
            std::vector<Candidate> next =
                look.tolerance > options.tolerance ? search(1, solver, options) : glimpse;
            if (next.empty() || next.front().value >= found.back().value - options.tolerance) return;
            add_known(next.front().vector);
            found.back() = std::move(next.front());
            std::sort(found.begin(), found.end(),
                      [](const Candidate& a, const Candidate& b) { return a.value < b.value; });
        }
    }

    std::vector<double> to_all_vertices(const std::vector<double>& x) const {
        std::vector<double> full(laplacian_.size(), 0.0);
        for (std::size_t i = 0; i < size(); ++i) full[component_.vertices[i]] = x[i];
        return full;
    }

    void add_known(const std::vector<double>& vector) {
        known_.insert(known_.end(), vector.begin(), vector.end());
        known_.resize(known_.size() + length_ - size(), 0.0);
        known_floats_.assign(known_.begin(), known_.end());
    }

    const double* known(double) const { return known_.data(); }
    const float* known(float) const { return known_floats_.data(); }

    // The components along what is known of `count` vectors that are length_ numbers apart.
    template <class Number>
    std::vector<double> along_known(const Number* x, std::size_t count) const {
        return columns::dots<Number>(known(Number{}), known_.size() / length_, x, count, length_, pool_);
    }

    template <class Number>
    void subtract_known(const std::vector<double>& along, Number* x, std::size_t count) const {
        columns::subtract<Number>(known(Number{}), known_.size() / length_, along.data(), x, count, length_,
                                  pool_);
    }

    template <class Number>
    void project(Number* x, std::size_t count = 1) const {
        subtract_known(along_known(x, count), x, count);
    }

    void apply(const double* x, double* y, std::size_t count, std::size_t stride) {
        if (stride == length_) return apply_padded(x, y, count);
        padded_.resize(count * length_, 0.0);
        result_.resize(count * length_, 0.0);
        for (std::size_t v = 0; v < count; ++v)
            std::copy_n(x + v * stride, size(), padded_.data() + v * length_);
        apply_padded(padded_.data(), result_.data(), count);
        for (std::size_t v = 0; v < count; ++v)
            std::copy_n(result_.data() + v * length_, size(), y + v * stride);
    }

    // Vectors of length_ numbers, of which the last are zero.
    void apply_padded(const double* x, double* y, std::size_t count) {
        constexpr double negligible = 1e-14;  // beside vectors of length 1, which a search holds orthogonal
        const std::vector<double> along = along_known(x, count);
        const double* inside = x;
        if (std::any_of(along.begin(), along.end(), [](double a) { return !(std::abs(a) <= negligible); })) {
            inside_.assign(x, x + count * length_);
            subtract_known(along, inside_.data(), count);
            inside = inside_.data();
        }
        multiply(inside, y, count);
        project(y, count);
        if (inside == x) return;
        for (std::size_t i = 0; i < count * length_; ++i) y[i] -= x[i] - inside[i];
    }

    static constexpr Affinity::Terms shifted{.x = 2.0, .product = -1.0};

    // y = (2 - L / scale) x
    void multiply(const double* x, double* y, std::size_t count) {
        const std::size_t n = laplacian_.size();
        if (size() == n) return laplacian_.combine(shifted, x, y, pool_, count, length_, detail_);
        full_.resize(count * n, 0.0);
        product_.resize(count * n);
        for (std::size_t v = 0; v < count; ++v)
            for (std::size_t i = 0; i < size(); ++i)
                full_[v * n + component_.vertices[i]] = x[v * length_ + i];
        laplacian_.combine(shifted, full_.data(), product_.data(), pool_, count, n, detail_);
        for (std::size_t v = 0; v < count; ++v)
            for (std::size_t i = 0; i < size(); ++i)
                y[v * length_ + i] = product_[v * n + component_.vertices[i]];
    }

    // The same of floats, but that what is known becomes 0, which is as far from what is wanted. It is taken
    // out of the product alone: rounding leaves as much of it in any vector of floats.
    void apply(const float* x, float* y, std::size_t count, std::size_t stride) {
        if (size() == laplacian_.size() && stride == length_) {
            laplacian_.combine(shifted, x, y, pool_, count, length_, detail_);
            return project(y, count);
        }
        std::vector<double> vectors(count * stride), products(count * stride);
        columns::convert(x, vectors.data(), vectors.size(), pool_);
        apply(vectors.data(), products.data(), count, stride);
        columns::convert(products.data(), y, products.size(), pool_);
    }

    const Laplacian& laplacian_;
    const Component& component_;
    ThreadPool& pool_;
    std::size_t length_;                            // of vectors over the component, padded with zeros
    std::vector<double> known_;                     // orthonormal, one after the other
    std::vector<float> known_floats_;               // the same, rounded
    std::vector<double> inside_, padded_, result_;  // over the component, of one application
    std::vector<double> full_, product_;            // over all vertices
    Detail detail_ = Detail::full;
    std::size_t n_products_ = 0;
    bool complete_ = true;
    bool none_hidden_ = false;
};

// The published sign rule: negative entries are the majority; where neither sign is one, or one is
// everywhere, the entry of largest absolute value, the first of equals, is positive.
void fix_sign(float* vector, std::size_t n) {
    const auto positive =
        static_cast<std::size_t>(std::count_if(vector, vector + n, [](float v) { return v > 0; }));
    const auto negative =
        static_cast<std::size_t>(std::count_if(vector, vector + n, [](float v) { return v < 0; }));
    bool negate = false;
    if (2 * positive > n && positive < n) {
        negate = true;
    } else if (!(2 * negative > n && negative < n)) {
        negate = *std::max_element(vector, vector + n,
                                   [](float a, float b) { return std::abs(a) < std::abs(b); }) < 0;
    }
    if (negate)
        for (std::size_t i = 0; i < n; ++i) vector[i] = -vector[i];
}

// What the operator makes of unit vectors.
class Products {
  public:
    Products(const Laplacian& laplacian, std::span<const Candidate> candidates, ThreadPool& pool)
        : length_(columns::padded(laplacian.size())),
          pool_(pool),
          vectors_(candidates.size() * length_),
          products_(candidates.size() * length_) {
        const std::size_t n = laplacian.size();
        if (candidates.empty()) return;
        for (std::size_t j = 0; j < candidates.size(); ++j)
            columns::convert(candidates[j].vector.data(), vector(j), n, pool);
        laplacian.apply(vectors_.data(), products_.data(), pool, candidates.size(), length_);
        for (std::size_t j = 0; j < candidates.size(); ++j)
            for (double* const column : {vector(j), product(j)}) std::fill(column + n, column + length_, 0.0);
    }

    double rayleigh_quotient(std::size_t j) { return dot(vector(j), product(j)); }

    // |A v - value v|, which takes the product's place.
    double residual(std::size_t j, double value) {
        columns::subtract(vector(j), 1, &value, product(j), 1, length_, pool_);
        return std::sqrt(dot(product(j), product(j)));
    }

  private:
    double* vector(std::size_t j) { return vectors_.data() + j * length_; }
    double* product(std::size_t j) { return products_.data() + j * length_; }
    double dot(const double* x, const double* y) const {
        return columns::dots(x, 1, y, 1, length_, pool_).front();
    }

    std::size_t length_;
    ThreadPool& pool_;
    Buffer<double> vectors_, products_;
};

}  // namespace

Solver find_solver(const std::string& name) {
    if (name == "native" || name == "auto") return largest_eigenpairs_lanczos;
    if (name == "spectra") return largest_eigenpairs_spectra;
    throw std::invalid_argument("solver must be \"auto\", \"native\" or \"spectra\", got \"" + name + "\"");
}

Eigenpairs smallest_eigenpairs(const Laplacian& laplacian, std::size_t k, Solver solver,
                               const SolverOptions& options, ThreadPool& pool) {
    const std::size_t n = laplacian.size();
    if (k < 1 || k > n)
        throw std::invalid_argument("k must be from 1 to n = " + std::to_string(n) + ", got " +
                                    std::to_string(k));
    Eigenpairs result;
    const std::vector<Component> components = find_components(laplacian, options.tolerance, pool);
    std::vector<Candidate> candidates = null_vectors(laplacian, components, k);
    const std::size_t n_null = candidates.size();
    bool complete = true;
    // Keeps the k smallest, the null vectors first.
    const auto add = [&](std::vector<Candidate> found) {
        std::move(found.begin(), found.end(), std::back_inserter(candidates));
        std::stable_sort(candidates.begin() + static_cast<std::ptrdiff_t>(n_null), candidates.end(),
                         [](const Candidate& a, const Candidate& b) { return a.value < b.value; });
        candidates.resize(std::min(k, candidates.size()));
    };
    if (n_null < k) {
        for (const Component& component : components) {
            const std::size_t count = std::min(k - n_null, component.vertices.size() - 1);
            if (count == 0) continue;
            ComponentSearch search(laplacian, component, pool);
            add(search.smallest(count, solver, options));
            result.n_products += search.n_products();
            complete = complete && search.complete();
        }
        std::vector<Candidate> isolated;
        for (std::size_t i = 0; i < n && isolated.size() < k - n_null; ++i) {
            if (!laplacian.isolated(i)) continue;
            isolated.push_back({1.0 / laplacian.scale(), std::vector<double>(n, 0.0)});
            isolated.back().vector[i] = 1.0;
        }
        add(std::move(isolated));
    }

    // True residuals, and Rayleigh quotients for values. The constant vector's is zero, since D is the sums
    // of W, unless edges too weak to count lead to isolated vertices.
    bool any_isolated = false;
    for (std::size_t i = 0; i < n; ++i) any_isolated = any_isolated || laplacian.isolated(i);
    const std::size_t n_exact = any_isolated ? 0 : 1, n_measured = candidates.size() - n_exact;
    std::vector<double> residuals(n_exact, 0.0);
    Products products(laplacian, std::span(candidates).subspan(n_exact), pool);
    for (std::size_t j = n_exact; j < candidates.size(); ++j) {
        if (j >= n_null) candidates[j].value = std::max(0.0, products.rayleigh_quotient(j - n_exact));
        residuals.push_back(products.residual(j - n_exact, candidates[j].value));
    }
    result.n_products += n_measured;
    result.converged = complete && candidates.size() == k &&
                       *std::max_element(residuals.begin(), residuals.end()) <= options.tolerance;

    std::vector<std::size_t> order(candidates.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return candidates[a].value < candidates[b].value; });
    result.vectors.resize(candidates.size() * n);
    float* out = result.vectors.data();
    for (const std::size_t j : order) {
        result.values.push_back(candidates[j].value * laplacian.scale());
        result.residuals.push_back(residuals[j]);
        for (std::size_t i = 0; i < n; ++i)
            out[i] = static_cast<float>(laplacian.vertex_factor(i) * candidates[j].vector[i]);
        if (j > 0) fix_sign(out, n);  // the constant vector is positive already
        out += n;
    }
    return result;
}

double eigenpairs_bytes(std::size_t n, std::size_t k) {
    const auto rows = static_cast<double>(n);
    const double search = rows * static_cast<double>(krylov_dimension(n, k) + 3 * k + 10);
    const double dense = needs_dense(n, k) ? 4.0 * rows * rows : 0.0;
    return sizeof(double) * std::max(search, dense);
}

double lean_eigenpairs_bytes(std::size_t n, std::size_t k) {
    const double search =
        sizeof(double) * static_cast<double>(n) * static_cast<double>(lean_dimension(k) + 4 * k + 12);
    // Where the basis is not much smaller than the problem, the other solvers take over.
    return n < 4 * lean_dimension(k) ? std::max(search, eigenpairs_bytes(n, k)) : search;
}

}  // namespace deepspec

#include "deepspec/eigensolver.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace deepspec {
namespace {

constexpr std::size_t dense_size = 128;  // a full decomposition is the fastest solver up to here
constexpr std::size_t search_margin = 24;

double dot(const std::vector<double>& a, const std::vector<double>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// A connected component: its vertices and their total mass, the squared length of its null vector before it
// is normalised (the sum of degrees, or the number of vertices where the Laplacian is unnormalised).
struct Component {
    std::vector<std::size_t> vertices;
    double mass = 0.0;
};

double null_entry(const Laplacian& laplacian, std::size_t vertex) { return 1.0 / laplacian.vertex_factor(vertex); }

// Components that have edges, the heaviest first.
std::vector<Component> find_components(const Laplacian& laplacian) {
    const std::vector<std::size_t> numbers = laplacian.affinity().components();
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
std::vector<double> start_vector(std::size_t size) {
    std::vector<double> start(size);
    std::uint64_t state = 0;
    for (double& entry : start) {
        std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        z ^= z >> 31;
        entry = static_cast<double>(static_cast<std::int64_t>(z)) * 0x1p-63;
    }
    return start;
}

// x -> (2 - L / scale) x on one component, its null vector moved to the far end of the spectrum.
class DeflatedComponent {
  public:
    DeflatedComponent(const Laplacian& laplacian, const Component& component, ThreadPool& pool)
        : laplacian_(laplacian), component_(component), pool_(pool), null_(component.vertices.size()) {
        for (std::size_t i = 0; i < null_.size(); ++i)
            null_[i] = null_entry(laplacian, component.vertices[i]) / std::sqrt(component.mass);
    }

    SymmetricOperator as_operator() {
        std::vector<double> start = start_vector(null_.size());
        project(start);
        return {null_.size(), [this](const double* x, double* y) { apply(x, y); }, std::move(start)};
    }

    std::vector<double> to_all_vertices(const double* x) const {
        std::vector<double> full(laplacian_.size(), 0.0);
        for (std::size_t i = 0; i < null_.size(); ++i) full[component_.vertices[i]] = x[i];
        return full;
    }

  private:
    double project(std::vector<double>& x) const {
        const double along = dot(null_, x);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] -= along * null_[i];
        return along;
    }

    void apply(const double* x, double* y) const {
        std::vector<double> inside(x, x + null_.size());
        const double along = project(inside);
        const std::vector<double> full = to_all_vertices(inside.data());
        std::vector<double> product(full.size());
        laplacian_.apply(full.data(), product.data(), pool_);
        for (std::size_t i = 0; i < inside.size(); ++i)
            inside[i] = 2.0 * inside[i] - product[component_.vertices[i]];
        project(inside);
        for (std::size_t i = 0; i < inside.size(); ++i) y[i] = inside[i] - along * null_[i];
    }

    const Laplacian& laplacian_;
    const Component& component_;
    ThreadPool& pool_;
    std::vector<double> null_;
};

// The sign of METHOD: negative entries are the majority; where neither sign is one, or one is everywhere, the
// entry of largest absolute value, the first of equals, is positive.
void fix_sign(float* vector, std::size_t n) {
    const auto positive = static_cast<std::size_t>(std::count_if(vector, vector + n, [](float v) { return v > 0; }));
    const auto negative = static_cast<std::size_t>(std::count_if(vector, vector + n, [](float v) { return v < 0; }));
    bool negate = false;
    if (2 * positive > n && positive < n) {
        negate = true;
    } else if (!(2 * negative > n && negative < n)) {
        negate = *std::max_element(vector, vector + n, [](float a, float b) { return std::abs(a) < std::abs(b); }) < 0;
    }
    if (negate)
        for (std::size_t i = 0; i < n; ++i) vector[i] = -vector[i];
}

}  // namespace

Solver find_solver(const std::string& name) {
    if (name == "spectra" || name == "auto") return largest_eigenpairs_spectra;
    throw std::invalid_argument("solver must be \"auto\" or \"spectra\", got \"" + name + "\"");
}

Eigenpairs smallest_eigenpairs(const Laplacian& laplacian, std::size_t k, Solver solver, const SolverOptions& options,
                               ThreadPool& pool) {
    const std::size_t n = laplacian.size();
    if (k < 1 || k > n)
        throw std::invalid_argument("k must be from 1 to n = " + std::to_string(n) + ", got " + std::to_string(k));
    Eigenpairs result;
    const std::vector<Component> components = find_components(laplacian);
    std::vector<Candidate> candidates = null_vectors(laplacian, components, k);
    const std::size_t n_null = candidates.size();
    bool complete = true;
    if (n_null < k) {
        for (const Component& component : components) {
            const std::size_t size = component.vertices.size();
            const std::size_t count = std::min(k - n_null, size - 1);
            if (count == 0) continue;
            DeflatedComponent deflated(laplacian, component, pool);
            const bool small = size <= dense_size || count + search_margin >= size;
            const RitzPairs found =
                (small ? largest_eigenpairs_dense : solver)(deflated.as_operator(), count, options);
            complete = complete && found.values.size() == count;
            result.n_products += found.n_products;
            for (std::size_t j = 0; j < found.values.size(); ++j)
                candidates.push_back({2.0 - found.values[j], deflated.to_all_vertices(found.vectors.data() + j * size)});
        }
        for (std::size_t i = 0; i < n; ++i) {
            if (!laplacian.isolated(i)) continue;
            candidates.push_back({1.0 / laplacian.scale(), std::vector<double>(n, 0.0)});
            candidates.back().vector[i] = 1.0;
            if (candidates.size() > 2 * k + n_null) break;  // they are all alike, k of them are enough
        }
        std::stable_sort(candidates.begin() + static_cast<std::ptrdiff_t>(n_null), candidates.end(),
                         [](const Candidate& a, const Candidate& b) { return a.value < b.value; });
        candidates.resize(std::min(k, candidates.size()));
    }

    // True residuals, and Rayleigh quotients for values.
    std::vector<double> product(n);
    std::vector<double> residuals;
    for (std::size_t j = 0; j < candidates.size(); ++j) {
        Candidate& candidate = candidates[j];
        laplacian.apply(candidate.vector.data(), product.data(), pool);
        if (j >= n_null) candidate.value = std::max(0.0, dot(candidate.vector, product));
        double squared = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
            const double difference = product[i] - candidate.value * candidate.vector[i];
            squared += difference * difference;
        }
        residuals.push_back(std::sqrt(squared));
    }
    result.n_products += candidates.size();
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
        fix_sign(out, n);
        out += n;
    }
    return result;
}

double eigenpairs_bytes(std::size_t n, std::size_t k) {
    const auto rows = static_cast<double>(n), pairs = static_cast<double>(k);
    const double search = rows * (std::max(2.0 * pairs + 1.0, pairs + search_margin) + 3.0 * pairs + 10.0);
    const double dense = n <= dense_size || k + search_margin >= n ? 4.0 * rows * rows : 0.0;
    return sizeof(double) * std::max(search, dense);
}

}  // namespace deepspec

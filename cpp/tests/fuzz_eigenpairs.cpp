#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>

#include "deepspec/eigensolver.hpp"
#include "deepspec/laplacian.hpp"
#include "fuzz.hpp"
#include "graphs.hpp"

namespace fuzz {
namespace {

using namespace deepspec;

// The diagonal and the subdiagonal of a similar tridiagonal matrix, by Householder's reflections.
struct Tridiagonal {
    std::vector<double> diagonal, beside;

    explicit Tridiagonal(Dense a) {
        const std::size_t n = a.n;
        std::vector<double> v(n), p(n);
        for (std::size_t k = 0; k + 1 < n; ++k) {
            double squared = 0.0;
            for (std::size_t i = k + 1; i < n; ++i) squared += a(i, k) * a(i, k);
            const double length = std::copysign(std::sqrt(squared), a(k + 1, k));
            diagonal.push_back(a(k, k));
            beside.push_back(-length);
            if (squared == 0.0) continue;
            for (std::size_t i = k + 1; i < n; ++i) v[i] = a(i, k);
            v[k + 1] += length;
            const double factor = 1.0 / (squared + std::abs(length * a(k + 1, k)));  // 2 / |v|^2
            double along = 0.0;
            for (std::size_t i = k + 1; i < n; ++i) {
                p[i] = 0.0;
                for (std::size_t j = k + 1; j < n; ++j) p[i] += factor * a(i, j) * v[j];
                along += v[i] * p[i];
            }
            for (std::size_t i = k + 1; i < n; ++i) p[i] -= 0.5 * factor * along * v[i];
            for (std::size_t i = k + 1; i < n; ++i)
                for (std::size_t j = k + 1; j < n; ++j) a(i, j) -= v[i] * p[j] + p[i] * v[j];
        }
        diagonal.push_back(a(n - 1, n - 1));
    }

    // How many eigenvalues are below x (Sturm's sequence).
    std::size_t count_below(double x) const {
        std::size_t count = 0;
        double pivot = 1.0;
        for (std::size_t i = 0; i < diagonal.size(); ++i) {
            pivot = diagonal[i] - x - (i > 0 ? beside[i - 1] * beside[i - 1] / pivot : 0.0);
            if (pivot == 0.0) pivot = -std::numeric_limits<double>::min() * 1e20;
            count += pivot < 0.0;
        }
        return count;
    }
};

// The k smallest eigenvalues of a matrix whose spectrum is in [-1, 3], by bisection.
std::vector<double> smallest_eigenvalues(const Dense& matrix, std::size_t k) {
    const Tridiagonal tridiagonal(matrix);
    std::vector<double> values;
    for (std::size_t j = 0; j < k; ++j) {
        double low = -1.0, high = 3.0;
        while (high - low > 1e-13) {
            const double middle = 0.5 * (low + high);
            (tridiagonal.count_below(middle) > j ? high : low) = middle;
        }
        values.push_back(0.5 * (low + high));
    }
    return values;
}

// Vertices in blocks that few edges, or none, connect; some without any.
std::vector<graphs::Edge> random_edges(std::size_t n, Random& random) {
    std::vector<graphs::Edge> edges;
    const std::size_t n_blocks = random.chance(0.5) ? 1 : random.size(1, n);
    const std::size_t side = random.size(1, (n + n_blocks - 1) / n_blocks);  // of a block
    const bool plain = random.chance(0.4);  // equal weights make multiple eigenvalues
    const double least = random.magnitude(1e-6, 1.0),
                 scale = random.chance(0.7) ? 1.0 : random.magnitude(1e-9, 1e9);
    const auto connect = [&](std::size_t i, std::size_t j) {
        edges.push_back({i, j, scale * (plain ? 1.0 : random.magnitude(least, 1.0))});
    };
    const int kind = static_cast<int>(random.between(0, 4));
    for (std::size_t begin = 0; begin < n; begin += side) {
        const std::size_t end = std::min(n, begin + side), width = random.size(1, side);
        if (random.chance(0.05)) continue;
        for (std::size_t i = begin; i < end; ++i) {
            if (kind <= 1 && i + 1 < end) connect(i, i + 1);
            if (kind == 1 && i + width < end) connect(i, i + width);
            if (kind == 2)
                for (std::size_t j = begin; j < i; ++j) connect(i, j);
            if (kind == 3)
                for (int e = 0; e < 3; ++e) connect(i, random.between(begin, end - 1));
            if (kind == 4 && i > begin) connect(begin, i);
        }
    }
    if (random.chance(0.3)) {
        const double weak = scale * random.magnitude(1e-14, 1.0);
        for (std::size_t e = 0; e < random.size(1, n); ++e)
            edges.push_back({random.between(0, n - 1), random.between(0, n - 1), weak});
    }
    return edges;
}

// relu of the products of random features, in [0, 1].
Dense random_affinity(std::size_t n, Random& random) {
    const std::size_t channels = random.size(1, 20), n_groups = random.size(1, 8);
    const double noise = random.magnitude(1e-3, 1.0);
    const std::vector<double> centers = random_vector(n_groups * channels, random);
    std::vector<double> features;
    for (std::size_t i = 0; i < n; ++i) {
        const double* center = centers.data() + random.between(0, n_groups - 1) * channels;
        const double length = random.chance(0.03) ? 0.0 : 1.0;
        for (std::size_t c = 0; c < channels; ++c)
            features.push_back(length * (center[c] + noise * random.normal()));
    }
    Dense affinity(n);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) {
            const double* a = features.data() + i * channels;
            affinity(i, j) =
                std::max(0.0, std::inner_product(a, a + channels, features.data() + j * channels, 0.0));
        }
    const double largest = *std::max_element(affinity.entries.begin(), affinity.entries.end());
    for (double& entry : affinity.entries) entry /= std::max(largest, 1e-300);
    return affinity;
}

// A graph in the parts that an Affinity is made of, and W whole.
struct Problem {
    std::optional<TiledMatrix> dense;
    std::optional<SparseMatrix> sparse;
    double sparse_weight = 1.0;
    Dense w;
    LaplacianKind kind;

    explicit Problem(std::size_t n, Random& random)
        : w(n), kind(random.pick({LaplacianKind::normalized, LaplacianKind::unnormalized})) {
        if (random.chance(0.5)) {
            dense = tiled(random_affinity(n, random), random.pick(all_entries));
            for (std::size_t i = 0; i < n; ++i)
                for (std::size_t j = 0; j < n; ++j) w(i, j) = static_cast<double>(dense->at(i, j));
        }
        if (dense && random.chance(0.5)) return;
        sparse = graphs::from_edges(n, random_edges(n, random));
        if (random.chance(0.5)) sparse_weight = random.magnitude(1e-3, 100.0);
        const std::vector<double> entries = graphs::to_dense(*sparse);
        for (std::size_t i = 0; i < n * n; ++i) w.entries[i] += sparse_weight * entries[i];
    }

    FusedAffinity affinity() const {
        return {dense ? &*dense : nullptr, sparse ? std::optional(sparse->view()) : std::nullopt,
                sparse_weight};
    }
};

// The Laplacian as a matrix, divided by its scale.
struct DenseLaplacian {
    Dense matrix;
    std::vector<double> degrees, masses;  // masses: what the eigenvectors are orthonormal with
    std::vector<bool> isolated;
    double scale = 1.0;

    DenseLaplacian(const Dense& w, LaplacianKind kind)
        : matrix(w.n), degrees(w.n, 0.0), masses(w.n, 1.0), isolated(w.n) {
        const bool normalized = kind == LaplacianKind::normalized;
        for (std::size_t i = 0; i < w.n; ++i) {
            for (std::size_t j = 0; j < w.n; ++j) degrees[i] += w(i, j);
            isolated[i] = degrees[i] < 1e-12;
            if (isolated[i]) degrees[i] = 1.0;
        }
        if (normalized)
            masses = degrees;
        else
            scale = *std::max_element(degrees.begin(), degrees.end());
        for (std::size_t i = 0; i < w.n; ++i)
            for (std::size_t j = 0; j < w.n; ++j)
                matrix(i, j) =
                    ((i == j ? degrees[i] : 0.0) - w(i, j)) / std::sqrt(masses[i] * masses[j]) / scale;
    }

    // Where W as a whole is near the limit of what counts as an edge, what does not shows in residuals.
    bool near_limit() const { return *std::min_element(degrees.begin(), degrees.end()) < 1e-9; }

    bool has_edges() const { return std::find(isolated.begin(), isolated.end(), false) != isolated.end(); }

    std::vector<double> apply(const std::vector<double>& x) const {
        std::vector<double> y(matrix.n, 0.0);
        for (std::size_t i = 0; i < matrix.n; ++i)
            for (std::size_t j = 0; j < matrix.n; ++j) y[i] += matrix(i, j) * x[j];
        return y;
    }
};

// What products in float round, beside an operator of norm 2.
constexpr double rounding = 2e-6;

// The published rule, as far as rounding lets it be told.
void check_sign(const float* y, std::size_t n) {
    const auto positive = static_cast<std::size_t>(std::count_if(y, y + n, [](float v) { return v > 0; }));
    const auto negative = static_cast<std::size_t>(std::count_if(y, y + n, [](float v) { return v < 0; }));
    CHECK(2 * positive <= n || positive == n);
    if (2 * negative <= n && 2 * positive <= n) {
        const float* largest =
            std::max_element(y, y + n, [](float a, float b) { return std::abs(a) < std::abs(b); });
        CHECK(*largest > 0.0f);
    }
}

// What the header promises of pairs that have converged.
void check_promises(const Eigenpairs& pairs, const DenseLaplacian& laplacian, double tolerance) {
    const std::size_t n = laplacian.matrix.n, count = pairs.values.size();
    CHECK_EQUAL(pairs.residuals.size(), count);
    CHECK_EQUAL(pairs.vectors.size(), count * n);
    CHECK(std::is_sorted(pairs.values.begin(), pairs.values.end()));
    CHECK_EQUAL(pairs.values.at(0), 0.0);
    std::vector<std::vector<double>> units;  // D^1/2 y
    for (std::size_t j = 0; j < count; ++j) {
        const float* y = pairs.vectors.data() + j * n;
        std::vector<double>& u = units.emplace_back(y, y + n);
        for (std::size_t i = 0; i < n; ++i) u[i] *= std::sqrt(laplacian.masses[i]);
        for (std::size_t other = 0; other <= j; ++other)
            CHECK_NEAR(std::inner_product(u.begin(), u.end(), units[other].begin(), 0.0),
                       other == j ? 1.0 : 0.0, 1e-5 + tolerance);
        std::vector<double> difference = laplacian.apply(u);
        double squared = 0.0;
        for (std::size_t i = 0; i < n; ++i)
            squared += std::pow(difference[i] - pairs.values[j] / laplacian.scale * u[i], 2);
        CHECK_NEAR(std::sqrt(squared), pairs.residuals[j], rounding);
        if (j > 0) check_sign(y, n);
    }
    const float constant =
        *std::max_element(pairs.vectors.begin(), pairs.vectors.begin() + static_cast<std::ptrdiff_t>(n));
    CHECK(constant > 0.0f);
    for (std::size_t i = 0; i < n; ++i)
        CHECK_EQUAL(pairs.vectors[i], laplacian.isolated[i] ? 0.0f : constant);
}

void check_values(const Eigenpairs& pairs, const DenseLaplacian& laplacian, double tolerance) {
    const std::vector<double> expected = smallest_eigenvalues(laplacian.matrix, pairs.values.size());
    for (std::size_t j = 0; j < expected.size(); ++j) {
        CHECK_NEAR(pairs.values[j] / laplacian.scale, expected[j], 2.0 * tolerance + rounding);
        CHECK(pairs.residuals[j] <= tolerance);
    }
}

void check_same(const Eigenpairs& a, const Eigenpairs& b) {
    CHECK(a.values == b.values);
    CHECK(a.vectors == b.vectors);
    CHECK(a.residuals == b.residuals);
    CHECK_EQUAL(a.n_products, b.n_products);
    CHECK_EQUAL(a.converged, b.converged);
}

}  // namespace

void try_laplacian(Random& random) {
    const std::size_t n = random.size(1, 400);
    const Problem problem(n, random);
    const FusedAffinity affinity = problem.affinity();
    const DenseLaplacian expected(problem.w, problem.kind);
    ThreadPool pool(static_cast<int>(random.between(1, 4))), other(static_cast<int>(random.between(1, 4)));
    Dense edges(n);
    affinity.visit_edges([&](std::size_t i, std::size_t j, double entry) {
        CHECK(entry > 0.0);
        edges(i, j) += entry;
        return true;
    });
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < i; ++j)
            CHECK_EQUAL(edges(i, j) + edges(j, i) > 0.0, problem.w(i, j) > 0.0);
    if (!expected.has_edges()) {
        CHECK_THROWS(std::invalid_argument, "every entry of W is zero",
                     Laplacian(affinity, problem.kind, pool));
        return;
    }
    const Laplacian laplacian(affinity, problem.kind, pool);
    for (std::size_t i = 0; i < n; ++i) {
        CHECK_EQUAL(laplacian.isolated(i), expected.isolated[i]);
        CHECK_NEAR(laplacian.degrees()[i] / expected.degrees[i], 1.0, 1e-5);
    }
    const std::vector<double> x = random_vector(n, random), y = expected.apply(x);
    const double length = std::sqrt(std::inner_product(x.begin(), x.end(), x.begin(), 0.0));
    std::vector<double> product(n), again(2 * n), twice = x;
    laplacian.apply(x.data(), product.data(), pool);
    for (std::size_t i = 0; i < n; ++i) CHECK_NEAR(product[i], y[i], rounding * length);
    twice.insert(twice.end(), x.begin(), x.end());
    laplacian.apply(twice.data(), again.data(), other, 2, n);
    CHECK(std::equal(product.begin(), product.end(), again.begin()));
    CHECK(std::equal(product.begin(), product.end(), again.begin() + static_cast<std::ptrdiff_t>(n)));

    // Every edge that counts (whichever part it is from) is within a component; each component hangs
    // together.
    const double negligible = random.chance(0.5) ? 0.0 : random.magnitude(1e-9, 1e-2);
    const std::vector<std::size_t> components = laplacian.components(negligible, pool);
    const auto connects = [&](std::size_t i, std::size_t j) {
        return i != j && -expected.matrix(i, j) > 2.001 * negligible;
    };
    std::vector<std::size_t> reached(n, n);
    for (std::size_t first = 0; first < n; ++first) {
        if (reached[first] < n) continue;
        std::vector<std::size_t> open{reached[first] = first};
        while (!open.empty()) {
            const std::size_t i = open.back();
            open.pop_back();
            for (std::size_t j = 0; j < n; ++j)
                if (connects(i, j)) {
                    CHECK_EQUAL(components[i], components[j]);
                    if (reached[j] == n) reached[j] = first, open.push_back(j);
                }
        }
    }
    if (negligible == 0.0)
        for (std::size_t i = 0; i < n; ++i)
            for (std::size_t j = 0; j < n; ++j)
                if (!expected.isolated[i] && !expected.isolated[j])
                    CHECK_EQUAL(components[i] == components[j], reached[i] == reached[j]);
}

void try_eigenpairs(Random& random) {
    const std::size_t n = random.chance(0.5) ? random.size(1, 300) : random.between(129, 300);
    const Problem problem(n, random);
    const Solver solver = random.pick({Solver{largest_eigenpairs_lanczos}, Solver{largest_eigenpairs_lanczos},
                                       Solver{largest_eigenpairs_lean}, Solver{largest_eigenpairs_spectra}});
    try_solver(problem.affinity(), problem.w, problem.kind, solver, random);
}

void try_solver(const Affinity& affinity, const Dense& w, LaplacianKind kind, Solver solver, Random& random) {
    const DenseLaplacian expected(w, kind);
    if (!expected.has_edges()) return;
    const std::size_t k =
        random.chance(0.9) ? random.size(1, std::min<std::size_t>(w.n, 20)) : random.size(1, w.n);
    SolverOptions options{random.magnitude(1e-7, 1e-3), random.chance(0.8) ? 10000 : random.size(1, 200),
                          random.between(1, 3)};
    if (random.chance(0.5)) {
        std::size_t height = random.size(1, w.n);
        while (w.n % height != 0) --height;
        options.grid = {height, w.n / height};
    }
    const bool is_spectra = solver == largest_eigenpairs_spectra;
    const auto solve = [&] {
        ThreadPool pool(static_cast<int>(random.between(1, 4)));
        const Laplacian laplacian(affinity, kind, pool);
        return smallest_eigenpairs(laplacian, k, solver, options, pool);
    };
    try {
        const Eigenpairs pairs = solve();
        CHECK(pairs.values.size() <= k);
        if (pairs.converged) {
            CHECK_EQUAL(pairs.values.size(), k);
            check_promises(pairs, expected, options.tolerance);
            check_values(pairs, expected, options.tolerance);
        } else if (!is_spectra && options.tolerance > rounding && !expected.near_limit()) {
            CHECK(options.max_products < 10000);
        }
        check_same(pairs, solve());
    } catch (const std::runtime_error& error) {
        // Spectra gives up where an eigenvalue has a high multiplicity.
        CHECK(is_spectra);
        CHECK_EQUAL(std::string(error.what()), "TridiagEigen: eigen decomposition failed");
    }

    ThreadPool pool(1);
    const Laplacian laplacian(affinity, kind, pool);
    for (const std::size_t wrong : {std::size_t{0}, w.n + 1})
        CHECK_THROWS(std::invalid_argument, "got " + std::to_string(wrong),
                     smallest_eigenpairs(laplacian, wrong, solver, options, pool));
}

}  // namespace fuzz

#include <algorithm>
#include <cmath>
#include <functional>
#include <numbers>
#include <numeric>
#include <optional>
#include <random>
#include <stdexcept>
#include <type_traits>
#include <vector>

#include "check.hpp"
#include "deepspec/color_graph.hpp"
#include "deepspec/eigensolver.hpp"
#include "deepspec/feature_gram.hpp"
#include "graphs.hpp"

using namespace deepspec;

namespace {

constexpr LaplacianKind kinds[] = {LaplacianKind::normalized, LaplacianKind::unnormalized};
const Solver solvers[] = {find_solver("native"), find_solver("spectra"), largest_eigenpairs_lean};

struct Problem {
    LaplacianKind kind = LaplacianKind::normalized;
    SolverOptions options = {};
    Solver solver = find_solver("auto");
};

// Everything a result promises, against W itself: order, orthonormality, residuals, signs and the constant
// y_0.
void check_promises(const std::vector<double>& w, const Eigenpairs& pairs, LaplacianKind kind) {
    const std::size_t n = static_cast<std::size_t>(std::sqrt(static_cast<double>(w.size())) + 0.5);
    const bool normalized = kind == LaplacianKind::normalized;
    std::vector<double> degrees(n, 0.0);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) degrees[i] += w[i * n + j];
    std::vector<bool> isolated(n);
    for (std::size_t i = 0; i < n; ++i) {
        isolated[i] = degrees[i] < 1e-12;
        if (isolated[i]) degrees[i] = 1.0;
    }
    const double largest_degree = *std::max_element(degrees.begin(), degrees.end());
    const auto mass = [&](std::size_t i) { return normalized ? degrees[i] : 1.0; };

    CHECK_EQUAL(pairs.residuals.size(), pairs.values.size());
    CHECK_EQUAL(pairs.vectors.size(), n * pairs.values.size());
    CHECK_EQUAL(pairs.values.front(), 0.0);
    CHECK(std::is_sorted(pairs.values.begin(), pairs.values.end()));
    for (std::size_t a = 0; a < pairs.values.size(); ++a) {
        const float* y = pairs.vectors.data() + a * n;
        for (std::size_t b = 0; b <= a; ++b) {
            double product = 0.0;
            for (std::size_t i = 0; i < n; ++i)
                product +=
                    mass(i) * static_cast<double>(y[i]) * static_cast<double>(pairs.vectors[b * n + i]);
            CHECK_NEAR(product, a == b ? 1.0 : 0.0, 1e-5);
        }

        double squared = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
            const auto yi = static_cast<double>(y[i]);
            double entry = degrees[i] * yi - pairs.values[a] * mass(i) * yi;
            for (std::size_t j = 0; j < n; ++j) entry -= w[i * n + j] * static_cast<double>(y[j]);
            squared += normalized ? entry * entry / degrees[i] : std::pow(entry / largest_degree, 2);
        }
        CHECK_NEAR(std::sqrt(squared), pairs.residuals[a], 1e-6);

        const auto positive =
            static_cast<std::size_t>(std::count_if(y, y + n, [](float v) { return v > 0; }));
        if (a == 0) {
            CHECK(y[std::find(isolated.begin(), isolated.end(), false) - isolated.begin()] > 0);
            const float constant = *std::max_element(y, y + n);
            for (std::size_t i = 0; i < n; ++i)
                CHECK_NEAR(static_cast<double>(y[i]), isolated[i] ? 0.0 : static_cast<double>(constant),
                           1e-6);
        } else {
            CHECK(2 * positive <= n);
        }
    }
}

// Every test runs for several.
std::size_t block = 1;

SolverOptions in_blocks(SolverOptions options) {
    options.block = block;
    return options;
}

Eigenpairs solve(const SparseMatrix& graph, std::size_t k, const Problem& problem = {}) {
    ThreadPool pool(2);
    const FusedAffinity affinity(nullptr, graph.view(), 1.0);
    const Laplacian laplacian(affinity, problem.kind, pool);
    const Eigenpairs pairs =
        smallest_eigenpairs(laplacian, k, problem.solver, in_blocks(problem.options), pool);
    check_promises(graphs::to_dense(graph), pairs, problem.kind);
    return pairs;
}

void check_solved(const SparseMatrix& graph, std::vector<double> expected, const Problem& problem = {},
                  double tolerance = 1e-7) {
    std::sort(expected.begin(), expected.end());
    const Eigenpairs pairs = solve(graph, expected.size(), problem);
    CHECK(pairs.converged);
    CHECK_EQUAL(pairs.values.size(), expected.size());
    for (std::size_t j = 0; j < std::min(expected.size(), pairs.values.size()); ++j) {
        CHECK_NEAR(pairs.values[j], expected[j], tolerance);
        CHECK(pairs.residuals[j] <= problem.options.tolerance);
    }
}

// The k smallest eigenvalues of a path, and of a cycle.
std::vector<double> path_values(std::size_t n, std::size_t k,
                                LaplacianKind kind = LaplacianKind::normalized) {
    std::vector<double> values;
    for (std::size_t j = 0; j < k; ++j) {
        const double angle = std::numbers::pi * static_cast<double>(j);
        values.push_back(kind == LaplacianKind::normalized
                             ? 1.0 - std::cos(angle / static_cast<double>(n - 1))
                             : 2.0 - 2.0 * std::cos(angle / static_cast<double>(n)));
    }
    return values;
}

std::vector<double> cycle_values(std::size_t n, std::size_t k, LaplacianKind kind) {
    std::vector<double> values;
    for (std::size_t j = 0; j < k; ++j) {
        const double angle =
            2.0 * std::numbers::pi * static_cast<double>((j + 1) / 2) / static_cast<double>(n);
        values.push_back((kind == LaplacianKind::normalized ? 1.0 : 2.0) * (1.0 - std::cos(angle)));
    }
    return values;
}

// One size is decomposed densely, the other searched with restarts.
void known_spectra() {
    for (const LaplacianKind kind : kinds)
        for (const Solver solver : solvers) {
            const Problem problem{kind, {}, solver};
            for (const std::size_t n : {20u, 400u}) {
                check_solved(graphs::from_edges(n, graphs::path(n)), path_values(n, 6, kind), problem);
                // Every eigenvalue but the first is double: a search that follows one vector sees half of
                // them.
                check_solved(graphs::from_edges(n, graphs::cycle(n)), cycle_values(n, 7, kind), problem);
            }
            // One eigenvalue of multiplicity n - 1.
            for (const std::size_t n : {20u, 200u}) {
                const auto size = static_cast<double>(n);
                const double value = kind == LaplacianKind::normalized ? size / (size - 1.0) : size;
                check_solved(graphs::from_edges(n, graphs::complete(n)), {0, value, value, value, value},
                             problem, 1e-5);
            }
        }
    const SparseMatrix path = graphs::from_edges(5, graphs::path(5));
    CHECK_NEAR(static_cast<double>(solve(path, 1).vectors[0]), 1.0 / std::sqrt(8.0), 1e-7);
}

// A torus: eigenvalues of multiplicity four, and closer clusters of them.
void multiple_eigenvalues_are_all_found() {
    constexpr std::size_t side = 20;
    std::vector<graphs::Edge> edges;
    std::vector<double> values;
    for (std::size_t row = 0; row < side; ++row)
        for (std::size_t column = 0; column < side; ++column) {
            edges.push_back({row * side + column, row * side + (column + 1) % side});
            edges.push_back({row * side + column, (row + 1) % side * side + column});
            const auto wave = [](std::size_t j) {
                return std::cos(2.0 * std::numbers::pi * static_cast<double>(j) / side);
            };
            values.push_back(1.0 - 0.5 * (wave(row) + wave(column)));
        }
    std::sort(values.begin(), values.end());
    for (const std::size_t k : {2u, 3u, 5u, 8u, 13u})
        for (const Solver solver : solvers) {
            const auto end = values.begin() + static_cast<std::ptrdiff_t>(k);
            check_solved(graphs::from_edges(side * side, edges), {values.begin(), end}, {.solver = solver});
        }
}

// A rectangle of cells, each joined with those beside it, and loops at its border: its eigenvectors are
// products of half waves down and across. What a search starts from changes neither values nor what is found
// of even waves, of which the start has next to nothing, and leaves less to do.
void search_of_a_grid() {
    constexpr Grid grid{19, 26};
    std::vector<graphs::Edge> edges;
    std::vector<double> values;
    const auto wave = [](std::size_t j, std::size_t n) {
        return std::cos(std::numbers::pi * static_cast<double>(j) / static_cast<double>(n));
    };
    for (std::size_t row = 0; row < grid.height; ++row)
        for (std::size_t column = 0; column < grid.width; ++column) {
            const std::size_t cell = row * grid.width + column;
            const auto missing = static_cast<double>((row == 0) + (row + 1 == grid.height) + (column == 0) +
                                                     (column + 1 == grid.width));
            edges.push_back({cell, cell, missing});
            if (column + 1 < grid.width) edges.push_back({cell, cell + 1});
            if (row + 1 < grid.height) edges.push_back({cell, cell + grid.width});
            values.push_back(1.0 - 0.5 * (wave(row, grid.height) + wave(column, grid.width)));
        }
    std::sort(values.begin(), values.end());
    const SparseMatrix graph = graphs::from_edges(grid.size(), edges);
    for (const Solver solver : solvers)
        for (const std::size_t k : {3u, 6u, 11u})
            check_solved(graph, {values.begin(), values.begin() + static_cast<std::ptrdiff_t>(k)},
                         {.options = {.grid = grid}, .solver = solver});
    const auto n_products = [&](std::optional<Grid> known) {
        return solve(graph, 3, {.options = {.grid = known}}).n_products;
    };
    CHECK(n_products(grid) < n_products(std::nullopt));
    // Components, one of which has no cells of some rows; a grid on which half a wave across is nothing.
    const SparseMatrix paths =
        graphs::from_edges(300, graphs::together({graphs::path(180), graphs::path(120, 180)}));
    for (const Grid of_paths : {Grid{300, 1}, Grid{1, 300}, Grid{20, 15}}) {
        std::vector<double> expected = path_values(180, 4);
        const std::vector<double> others = path_values(120, 3);
        expected.insert(expected.end(), others.begin(), others.end());
        check_solved(paths, expected, {.options = {.grid = of_paths}});
    }
}

void all_pairs() {
    std::mt19937 random(1);
    for (const std::size_t n : {2u, 3u, 40u, 150u})
        for (const LaplacianKind kind : kinds) {
            std::vector<graphs::Edge> edges{{0, n - 1}};
            for (std::size_t e = 0; e < n; ++e)
                edges.push_back({random() % n, random() % n, 1.0 + random() % 9});
            const SparseMatrix graph = graphs::from_edges(n, edges);
            const Eigenpairs pairs = solve(graph, n, {kind});
            CHECK(pairs.converged);
            CHECK_EQUAL(pairs.values.size(), n);
            const std::vector<double> w = graphs::to_dense(graph);
            double trace = 0.0, sum = 0.0;
            for (std::size_t i = 0; i < n; ++i) {
                double degree = 0.0;
                for (std::size_t j = 0; j < n; ++j) degree += w[i * n + j];
                const double diagonal = degree > 0.0 ? degree - w[i * n + i] : 1.0;
                trace += kind == LaplacianKind::normalized && degree > 0.0 ? diagonal / degree : diagonal;
            }
            for (const double value : pairs.values) sum += value;
            CHECK_NEAR(sum, trace, 1e-9 * trace);
        }

    const Eigenpairs single = solve(graphs::from_edges(1, {{0, 0, 4.0}}), 1);
    CHECK(single.converged);
    CHECK_EQUAL(single.values.at(0), 0.0);
    CHECK_EQUAL(single.vectors.at(0), 0.5f);
}

void disconnected_graphs() {
    const auto merged = [](std::vector<double> a, const std::vector<double>& b, std::size_t k) {
        a.insert(a.end(), b.begin(), b.end());
        std::sort(a.begin(), a.end());
        a.resize(k);
        return a;
    };
    // Two vertices have no edge.
    // Equal components have every eigenvalue twice.
    for (const Solver solver : {find_solver("auto"), Solver{largest_eigenpairs_lean}})
        for (const std::size_t n : {150u, 250u}) {
            const std::vector<graphs::Edge> long_path = graphs::path(n);
            const Problem problem{.solver = solver};
            check_solved(
                graphs::from_edges(2 * n - 8, graphs::together({long_path, graphs::path(n - 10, n)})),
                merged(path_values(n, 9), path_values(n - 10, 9), 9), problem);
            check_solved(graphs::from_edges(2 * n, graphs::together({long_path, graphs::path(n, n)})),
                         merged(path_values(n, 8), path_values(n, 8), 8), problem);
        }
    // Fewer pairs are asked for than there are components, and the constant vector is still the first.
    const auto five = graphs::together(
        {graphs::path(3), graphs::path(4, 3), graphs::path(5, 7), graphs::path(6, 12), graphs::path(7, 18)});
    for (const LaplacianKind kind : kinds) check_solved(graphs::from_edges(27, five), {0, 0, 0}, {kind});
}

void vertices_without_edges_have_eigenvalue_one() {
    check_solved(graphs::from_edges(4, {{1, 2}}), {0, 1, 1, 2});
    check_solved(graphs::from_edges(4, {{1, 2, 0.1}}), {0, 0.2, 1, 1}, {LaplacianKind::unnormalized});
    // Every other eigenvalue of these three is 20/19.
    const auto three =
        graphs::together({graphs::complete(20), graphs::complete(20, 20), graphs::complete(20, 40)});
    check_solved(graphs::from_edges(70, three), {0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1});
}

struct PhotographLike {
    std::size_t height, width;
    std::vector<double> pixels, features;

    // A bright disc on a dark ground, both noisy; the features follow the disc.
    PhotographLike(std::size_t rows, std::size_t columns) : height(rows), width(columns) {
        std::mt19937 random(2);
        std::normal_distribution noise(0.0, 0.1);
        for (std::size_t row = 0; row < rows; ++row)
            for (std::size_t column = 0; column < columns; ++column) {
                const double y = static_cast<double>(row) / static_cast<double>(rows) - 0.5;
                const double x = static_cast<double>(column) / static_cast<double>(columns) - 0.4;
                const bool inside = x * x + y * y < 0.08;
                for (int c = 0; c < 3; ++c)
                    pixels.push_back(std::clamp((inside ? 0.8 : 0.3) + noise(random), 0.0, 1.0));
                for (int c = 0; c < 12; ++c)
                    features.push_back((c % 2 == 0) == inside ? 1.0 + noise(random) : noise(random));
            }
    }
};

struct FusedProblem {
    ThreadPool pool;
    TiledMatrix dense;
    SparseMatrix sparse;
    FusedAffinity affinity;

    FusedProblem(const PhotographLike& photograph, double color_weight, int threads = 2)
        : pool(threads),
          dense(feature_gram(
              FeatureView<double>{photograph.features.data(), photograph.height, photograph.width, 12},
              {photograph.height, photograph.width}, pool)),
          sparse(knn_color_graph({photograph.pixels.data(), photograph.height, photograph.width},
                                 std::vector<ColorSearch>{{20, 2.0}, {10, 0.1}}, pool)),
          affinity(&dense, sparse.view(), color_weight) {}

    Eigenpairs solve(std::size_t k, const Problem& problem) {
        const Laplacian laplacian(affinity, problem.kind, pool);
        return smallest_eigenpairs(laplacian, k, problem.solver, in_blocks(problem.options), pool);
    }
};

void solvers_agree() {
    const PhotographLike photograph(17, 19);
    const std::size_t n = 17 * 19;
    for (const double color_weight : {0.0, 1.0, 10.0})
        for (const LaplacianKind kind : kinds) {
            FusedProblem fused(photograph, color_weight);
            std::vector<double> w(n * n);
            const std::vector<double> color = graphs::to_dense(fused.sparse);
            for (std::size_t i = 0; i < n; ++i)
                for (std::size_t j = 0; j < n; ++j)
                    w[i * n + j] =
                        static_cast<double>(fused.dense.at(i, j)) + color_weight * color[i * n + j];
            const Eigenpairs dense = fused.solve(5, {kind, {}, largest_eigenpairs_dense});
            CHECK(dense.converged);
            check_promises(w, dense, kind);
            for (const Solver solver : solvers) {
                const Eigenpairs iterative = fused.solve(5, {kind, {}, solver});
                CHECK(iterative.converged);
                if (kind == LaplacianKind::normalized) CHECK(iterative.n_products < n);
                check_promises(w, iterative, kind);
                for (std::size_t j = 0; j < 5; ++j)
                    CHECK_NEAR(iterative.values[j] / dense.values[4], dense.values[j] / dense.values[4],
                               1e-6);
                // The second vector, well apart from the rest, is the disc.
                float largest = 0.0f, difference = 0.0f;
                for (std::size_t i = n; i < 2 * n; ++i) {
                    largest = std::max(largest, std::abs(dense.vectors[i]));
                    difference = std::max(difference, std::abs(dense.vectors[i] - iterative.vectors[i]));
                }
                CHECK(difference < 1e-3f * largest);
            }
        }
}

void threads_leave_no_trace() {
    const PhotographLike photograph(30, 33);
    for (const Solver solver : {find_solver("auto"), Solver{largest_eigenpairs_lean}}) {
        const Problem problem{.solver = solver};
        const Eigenpairs expected = FusedProblem(photograph, 10.0, 1).solve(5, problem);
        CHECK(expected.converged);
        for (const int threads : {1, 2, 4, 7}) {
            const Eigenpairs pairs = FusedProblem(photograph, 10.0, threads).solve(5, problem);
            CHECK(pairs.values == expected.values);
            CHECK(pairs.vectors == expected.vectors);
            CHECK(pairs.residuals == expected.residuals);
            CHECK_EQUAL(pairs.n_products, expected.n_products);
        }
    }
}

void says_when_not_converged() {
    const SparseMatrix path = graphs::from_edges(1000, graphs::path(1000));
    for (const Solver solver : solvers)
        for (const std::size_t max_products : {1u, 3u, 60u}) {
            const Problem problem{.options = {1e-10, max_products}, .solver = solver};
            const Eigenpairs pairs = solve(path, 5, problem);
            CHECK(!pairs.converged);
            CHECK(pairs.n_products < 120);
            CHECK(solve(path, 1, problem).converged);  // the constant vector needs no search
        }
}

// A diagonal matrix, given as an operator without anything known.
struct Diagonal {
    std::vector<double> entries;
    ThreadPool pool{2};

    SymmetricOperator as_operator() {
        const auto apply = [this](const auto* x, auto* y, std::size_t count, std::size_t stride) {
            for (std::size_t v = 0; v < count; ++v)
                for (std::size_t i = 0; i < entries.size(); ++i)
                    y[v * stride + i] = static_cast<std::decay_t<decltype(*y)>>(
                        entries[i] * static_cast<double>(x[v * stride + i]));
        };
        std::mt19937 random(9);
        std::vector<double> start(3 * entries.size());
        for (double& entry : start) entry = std::uniform_real_distribution(-1.0, 1.0)(random);
        return {entries.size(), apply, apply, start, false, pool};
    }
};

// Pairs that an operator's solver gave: descending, unit, orthogonal, and within the tolerance.
void check_pairs(const Diagonal& diagonal, const RitzPairs& pairs, double tolerance) {
    const std::size_t n = diagonal.entries.size();
    CHECK_EQUAL(pairs.vectors.size(), n * pairs.values.size());
    for (std::size_t j = 0; j < pairs.values.size(); ++j) {
        CHECK(j == 0 || pairs.values[j] <= pairs.values[j - 1] + tolerance);
        const double* const u = pairs.vectors.data() + j * n;
        double squared = 0.0;
        for (std::size_t i = 0; i < n; ++i)
            squared += std::pow((diagonal.entries[i] - pairs.values[j]) * u[i], 2);
        CHECK(std::sqrt(squared) <= tolerance);
        for (std::size_t other = 0; other <= j; ++other)
            CHECK_NEAR(std::inner_product(u, u + n, pairs.vectors.data() + other * n, 0.0),
                       j == other ? 1.0 : 0.0, 1e-9);
    }
}

// Values dense at the upper end, as a large graph's are.
std::vector<double> crowded_values(std::size_t n) {
    std::vector<double> values;
    for (std::size_t i = 0; i < n; ++i)
        values.push_back(2.0 - 2.0 * std::pow(static_cast<double>(i) / static_cast<double>(n), 1.5));
    return values;
}

void lean_search_of_an_operator() {
    Diagonal diagonal{crowded_values(3000)};
    for (const std::size_t count : {1u, 6u, 15u})
        for (const double tolerance : {1e-3, 1e-5, 1e-8}) {
            const SolverOptions options = in_blocks({tolerance});
            const RitzPairs pairs = largest_eigenpairs_lean(diagonal.as_operator(), count, options);
            CHECK_EQUAL(pairs.values.size(), count);
            check_pairs(diagonal, pairs, tolerance);
            for (std::size_t j = 0; j < pairs.values.size(); ++j)
                CHECK_NEAR(pairs.values[j], diagonal.entries[j], tolerance);
        }
}

// However few the products are: what is given is right, and what is not is said to be missing.
void lean_search_ends_with_what_converged() {
    Diagonal diagonal{crowded_values(3000)};
    std::size_t last = 0;
    for (const std::size_t max_products : {1u, 100u, 200u, 300u, 400u, 600u, 4000u}) {
        const SolverOptions options = in_blocks({1e-5, max_products});
        const RitzPairs pairs = largest_eigenpairs_lean(diagonal.as_operator(), 15, options);
        check_pairs(diagonal, pairs, 1e-5);
        CHECK(pairs.n_products <= std::max<std::size_t>(max_products, 15) + 3);
        CHECK(pairs.values.size() >= last);
        last = pairs.values.size();
        if (max_products == 1) CHECK_EQUAL(last, 0u);
    }
    CHECK_EQUAL(last, 15u);
}

void a_search_tells_how_far_it_is() {
    const SparseMatrix path = graphs::from_edges(1000, graphs::path(1000));
    std::vector<std::size_t> products;
    double excess = 0.0;
    const std::function<void(std::size_t, double)> watch = [&](std::size_t n_products, double above) {
        CHECK(products.empty() || n_products > products.back());
        CHECK(above >= 0.0);
        products.push_back(n_products);
        excess = above;
    };
    const Problem problem{.options = {.watch = &watch}, .solver = largest_eigenpairs_lean};
    ThreadPool pool(2);
    const FusedAffinity affinity(nullptr, path.view(), 1.0);
    const Laplacian laplacian(affinity, problem.kind, pool);
    SolverOptions options = in_blocks(problem.options);
    options.block = 2;
    const Eigenpairs pairs = smallest_eigenpairs(laplacian, 4, problem.solver, options, pool);
    CHECK(pairs.converged);
    CHECK(products.size() > 5);
    CHECK(products.back() <= pairs.n_products);
    CHECK(excess <= 1.0);
}

// More vectors at a time than the few that are kept allow for.
void wide_blocks() {
    Diagonal diagonal{crowded_values(500)};
    SymmetricOperator op = diagonal.as_operator();
    std::mt19937 random(10);
    op.start.resize(40 * op.size);
    for (double& entry : op.start) entry = std::uniform_real_distribution(-1.0, 1.0)(random);
    for (const Solver solver : {find_solver("native"), Solver{largest_eigenpairs_lean}})
        for (const std::size_t width : {4u, 8u, 40u}) {
            const RitzPairs pairs = solver(op, 3, {.block = width});
            CHECK_EQUAL(pairs.values.size(), 3u);
            check_pairs(diagonal, pairs, 1e-5);
        }
}

void a_search_can_be_cancelled() {
    const SparseMatrix path = graphs::from_edges(20000, graphs::path(20000));
    bool solving = false;
    ThreadPool pool(2, [&] {
        if (solving) throw std::runtime_error("interrupted");
    });
    const FusedAffinity affinity(nullptr, path.view(), 1.0);
    const Laplacian laplacian(affinity, LaplacianKind::normalized, pool);
    solving = true;
    CHECK_THROWS(std::runtime_error, "interrupted",
                 smallest_eigenpairs(laplacian, 5, find_solver("auto"), {1e-12, 100000}, pool));
}

void wrong_arguments() {
    const SparseMatrix path = graphs::from_edges(3, graphs::path(3));
    CHECK_THROWS(std::invalid_argument, "k must be from 1 to n = 3, got 4", solve(path, 4));
    CHECK_THROWS(std::invalid_argument, "got 0", solve(path, 0));
    CHECK_THROWS(std::invalid_argument, "\"magic\"", find_solver("magic"));
}

}  // namespace

int main() {
    for (const std::size_t size : {1u, 2u, 3u}) {
        block = size;
        known_spectra();
        multiple_eigenvalues_are_all_found();
        search_of_a_grid();
        all_pairs();
        disconnected_graphs();
        vertices_without_edges_have_eigenvalue_one();
        solvers_agree();
        threads_leave_no_trace();
        says_when_not_converged();
        lean_search_of_an_operator();
        lean_search_ends_with_what_converged();
    }
    a_search_tells_how_far_it_is();
    wide_blocks();
    a_search_can_be_cancelled();
    wrong_arguments();
    return check::result();
}

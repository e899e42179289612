#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "check.hpp"
#include "combinations.hpp"
#include "deepspec/laplacian.hpp"
#include "graphs.hpp"

using namespace deepspec;

namespace {

std::vector<double> random_vector(std::size_t n) {
    std::mt19937 random(7);
    std::vector<double> values(n);
    for (double& value : values) value = std::uniform_real_distribution(-1.0, 1.0)(random);
    return values;
}

SparseMatrix random_graph(std::size_t n, std::size_t n_edges) {
    std::mt19937 random(8);
    std::vector<graphs::Edge> edges;
    for (std::size_t e = 0; e < n_edges; ++e)
        edges.push_back({random() % n, random() % n, 1.0 + random() % 5});
    return graphs::from_edges(n, edges);
}

TiledMatrix pack(const SparseMatrix& graph) {
    ThreadPool pool(2);
    return pack_dense(graphs::to_dense(graph).data(), graph.n, pool);
}

// W, row-major, of both parts together.
std::vector<double> fuse(const SparseMatrix& dense, const SparseMatrix& sparse, double weight) {
    std::vector<double> fused = graphs::to_dense(dense);
    const std::vector<double> other = graphs::to_dense(sparse);
    for (std::size_t i = 0; i < fused.size(); ++i) fused[i] += weight * other[i];
    return fused;
}

void affinity_adds_its_parts() {
    // More rows than one parallel block and than one tile has.
    const std::size_t n = 1100;
    const SparseMatrix first = random_graph(n, 4000), second = random_graph(n, 700);
    const TiledMatrix dense = pack(first);
    const SparseMatrix none = graphs::from_edges(n, {});
    const std::vector<double> x = random_vector(n);
    const auto check = [&](const Affinity& affinity, const std::vector<double>& expected) {
        CHECK_EQUAL(affinity.size(), n);
        ThreadPool alone(1);
        std::vector<double> y(n, NAN);
        affinity.multiply(x.data(), y.data(), alone);
        for (std::size_t i = 0; i < n; ++i) {
            double sum = 0.0;
            for (std::size_t j = 0; j < n; ++j) sum += expected[i * n + j] * x[j];
            CHECK_NEAR(y[i], sum, 1e-4);
        }
        for (const int threads : {2, 4, 7}) {
            ThreadPool pool(threads);
            std::vector<double> other(n, NAN);
            affinity.multiply(x.data(), other.data(), pool);
            CHECK(other == y);
        }
        check_combinations(affinity);
    };
    check(FusedAffinity(&dense, second.view(), 10.0), fuse(first, second, 10.0));
    check(FusedAffinity(&dense, std::nullopt, 1.0), graphs::to_dense(first));
    check(FusedAffinity(nullptr, second.view(), 2.5), fuse(none, second, 2.5));
    ThreadPool pool(2);
    FusedAffinity rounded(&dense, second.view(), 10.0);
    rounded.round_sparse(pool);
    check(rounded, fuse(first, second, 10.0));
    constexpr std::size_t count = 3;
    std::vector<double> vectors, together(count * n), alone(n);
    for (std::size_t v = 0; v < count; ++v)
        for (std::size_t i = 0; i < n; ++i) vectors.push_back(x[(i + 17 * v) % n]);
    rounded.multiply(vectors.data(), together.data(), pool, count, n);
    for (std::size_t v = 0; v < count; ++v) {
        rounded.multiply(vectors.data() + v * n, alone.data(), pool);
        CHECK(std::equal(alone.begin(), alone.end(), together.begin() + static_cast<std::ptrdiff_t>(v * n)));
    }

    const SparseMatrix small = random_graph(3, 3);
    CHECK_THROWS(std::invalid_argument, "got 1100 and 3 rows", FusedAffinity(&dense, small.view(), 1.0));
    CHECK_THROWS(std::invalid_argument, "a dense or a sparse part",
                 FusedAffinity(nullptr, std::nullopt, 1.0));
}

void components_follow_positive_entries() {
    using Numbers = std::vector<std::size_t>;
    ThreadPool pool(2);
    const auto components = [&](const Affinity& affinity, double negligible = 0.0) {
        return Laplacian(affinity, LaplacianKind::normalized, pool).components(negligible, pool);
    };
    const SparseMatrix triangles =
        graphs::from_edges(7, graphs::together({graphs::complete(3), graphs::complete(3, 3)}));
    const SparseMatrix bridge = graphs::from_edges(7, {{2, 5}, {6, 6}, {0, 6, 0.0}});
    const TiledMatrix dense = pack(triangles);
    const Numbers apart{0, 0, 0, 1, 1, 1, 2}, joined{0, 0, 0, 0, 0, 0, 1};
    CHECK(components(FusedAffinity(nullptr, triangles.view(), 1.0)) == apart);
    CHECK(components(FusedAffinity(&dense, std::nullopt, 1.0)) == apart);
    CHECK(components(FusedAffinity(&dense, bridge.view(), 1.0)) == joined);
    CHECK(components(FusedAffinity(&dense, bridge.view(), 0.0)) == apart);

    // The bridge's entry of the Laplacian is -1e-6 / (2 + 1e-6).
    CHECK(components(FusedAffinity(&dense, bridge.view(), 1e-6), 4e-7) == joined);
    CHECK(components(FusedAffinity(&dense, bridge.view(), 1e-6), 6e-7) == apart);

    const SparseMatrix interleaved = graphs::from_edges(6, {{4, 2}, {2, 0}, {5, 3}, {3, 1}});
    CHECK(components(FusedAffinity(nullptr, interleaved.view(), 1.0)) == (Numbers{0, 1, 0, 1, 0, 1}));
    // A path across several tiles; what lies beyond n in the last one joins nothing.
    const TiledMatrix path = pack(graphs::from_edges(300, graphs::path(299)));
    Numbers expected(300, 0);
    expected.back() = 1;
    CHECK(components(FusedAffinity(&path, std::nullopt, 1.0)) == expected);
}

void degrees_are_row_sums() {
    ThreadPool pool(2);
    // A star with a loop at its centre, a vertex without edges and one with next to none.
    const SparseMatrix star =
        graphs::from_edges(6, {{0, 0, 3.0}, {0, 1}, {0, 2, 2.0}, {0, 3}, {5, 5, 1e-13}});
    const FusedAffinity affinity(nullptr, star.view(), 2.0);
    const Laplacian normalized(affinity, LaplacianKind::normalized, pool);
    CHECK(normalized.degrees() == (std::vector<double>{14, 2, 4, 2, 1, 1}));
    for (std::size_t i = 0; i < 6; ++i) {
        CHECK_EQUAL(normalized.isolated(i), i >= 4);
        CHECK_NEAR(normalized.vertex_factor(i), 1.0 / std::sqrt(normalized.degrees()[i]), 1e-15);
    }
    CHECK_EQUAL(normalized.scale(), 1.0);
    const Laplacian unnormalized(affinity, LaplacianKind::unnormalized, pool);
    CHECK(unnormalized.degrees() == normalized.degrees());
    CHECK_EQUAL(unnormalized.scale(), 14.0);
    CHECK_EQUAL(unnormalized.vertex_factor(0), 1.0);
}

void applies_like_the_matrix() {
    const std::size_t n = 300;
    const SparseMatrix first = random_graph(n, 300), second = random_graph(n, 100);  // some vertices isolated
    const TiledMatrix dense = pack(first);
    const FusedAffinity affinity(&dense, second.view(), 10.0);
    const std::vector<double> w = fuse(first, second, 10.0);
    std::vector<double> degrees(n, 0.0);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j) degrees[i] += w[i * n + j];
    std::replace(degrees.begin(), degrees.end(), 0.0, 1.0);
    const double largest = *std::max_element(degrees.begin(), degrees.end());

    const std::vector<double> x = random_vector(n);
    for (const LaplacianKind kind : {LaplacianKind::normalized, LaplacianKind::unnormalized}) {
        ThreadPool pool(2);
        const Laplacian laplacian(affinity, kind, pool);
        std::vector<double> y(n);
        laplacian.apply(x.data(), y.data(), pool);
        for (std::size_t i = 0; i < n; ++i) {
            double expected = kind == LaplacianKind::normalized ? x[i] : degrees[i] * x[i] / largest;
            for (std::size_t j = 0; j < n; ++j)
                expected -=
                    w[i * n + j] * x[j] /
                    (kind == LaplacianKind::normalized ? std::sqrt(degrees[i] * degrees[j]) : largest);
            CHECK_NEAR(y[i], expected, 1e-6);
        }
    }
}

void senseless_affinities_are_refused() {
    ThreadPool pool(2);
    const SparseMatrix empty = graphs::from_edges(4, {});
    const FusedAffinity nothing(nullptr, empty.view(), 1.0);
    CHECK_THROWS(std::invalid_argument, "zero", Laplacian(nothing, LaplacianKind::normalized, pool));
    const SparseMatrix endless = graphs::from_edges(4, {{1, 2, std::numeric_limits<double>::infinity()}});
    const FusedAffinity infinite(nullptr, endless.view(), 1.0);
    CHECK_THROWS(std::invalid_argument, "row 1", Laplacian(infinite, LaplacianKind::normalized, pool));
}

}  // namespace

int main() {
    affinity_adds_its_parts();
    components_follow_positive_entries();
    degrees_are_row_sums();
    applies_like_the_matrix();
    senseless_affinities_are_refused();
    return check::result();
}

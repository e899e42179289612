#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "check.hpp"
#include "deepspec/eigensolver.hpp"
#include "deepspec/factored_affinity.hpp"
#include "deepspec/feature_graph.hpp"
#include "deepspec/pixel_affinity.hpp"
#include "instruction_set.hpp"
#include "pixels.hpp"

using namespace deepspec;
using pixels::Matrix;

namespace {

constexpr double no_limit = std::numeric_limits<double>::infinity();

// A grid of features, (n, channels).
struct Cells {
    Grid grid;
    std::size_t channels;
    std::vector<double> numbers;

    FeatureView<double> view() const { return {numbers.data(), grid.height, grid.width, channels}; }
    double* at(std::size_t i) { return numbers.data() + i * channels; }
};

// All but one in `every` point much the same way.
Cells alike(Grid grid, std::size_t channels, std::size_t every = 130) {
    Cells cells{grid, channels, {}};
    std::mt19937 random(21);
    std::normal_distribution normal;
    for (std::size_t i = 0; i < grid.size(); ++i) {
        const auto row = static_cast<double>(i / grid.width), column = static_cast<double>(i % grid.width);
        const double turned = 0.4 * std::sin(0.4 * row + 0.05 * column);
        for (std::size_t c = 0; c < channels; ++c)
            cells.numbers.push_back((i % every == 7 ? -1.0 : 1.0) *
                                        (1.0 + turned * (c % 2 == 0 ? 2.0 : -1.0)) +
                                    0.2 * normal(random));
    }
    return cells;
}

// They turn by and by, the first and the last ones so far that their products are negative.
Cells turning(Grid grid, std::size_t channels) {
    Cells cells{grid, channels, {}};
    for (std::size_t i = 0; i < grid.size(); ++i) {
        const double angle = 1.7 * static_cast<double>(i) / static_cast<double>(grid.size());
        for (std::size_t c = 0; c < channels; ++c)
            cells.numbers.push_back(std::cos(angle + (c % 2 == 0 ? 0.0 : 1.57)));
    }
    return cells;
}

SparseMatrix ring(std::size_t n) {
    SparseMatrix matrix{n, {0}, {}, {}};
    for (std::size_t i = 0; i < n; ++i) {
        for (const std::size_t j :
             {std::min((i + n - 1) % n, (i + 1) % n), std::max((i + n - 1) % n, (i + 1) % n)}) {
            matrix.columns.push_back(static_cast<std::int32_t>(j));
            matrix.values.push_back(1.0 + static_cast<double>(std::min(i, j)) / static_cast<double>(n));
        }
        matrix.row_starts.push_back(static_cast<std::int64_t>(matrix.columns.size()));
    }
    return matrix;
}

// relu(F F^T) / its largest entry + weight * other, in double precision; F is interpolated by hand-written
// weights.
Matrix twin(const Cells& cells, Grid grid, const SparseMatrix* other, double weight) {
    const std::size_t n = grid.size(), channels = cells.channels;
    std::vector<double> scaled = cells.numbers;
    for (std::size_t i = 0; i < cells.grid.size(); ++i) {
        double square = 0.0;
        for (std::size_t c = 0; c < channels; ++c)
            square += scaled[i * channels + c] * scaled[i * channels + c];
        for (std::size_t c = 0; c < channels && square > 0.0; ++c)
            scaled[i * channels + c] /= std::sqrt(square);
    }
    const auto share = [](std::size_t i, std::size_t fine, std::size_t j, std::size_t coarse) {
        const double at = std::clamp(
            (static_cast<double>(i) + 0.5) * static_cast<double>(coarse) / static_cast<double>(fine) - 0.5,
            0.0, static_cast<double>(coarse - 1));
        return std::max(0.0, 1.0 - std::abs(at - static_cast<double>(j)));
    };
    std::vector<double> features(n * channels, 0.0);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < cells.grid.size(); ++j) {
            const double part = share(i / grid.width, grid.height, j / cells.grid.width, cells.grid.height) *
                                share(i % grid.width, grid.width, j % cells.grid.width, cells.grid.width);
            for (std::size_t c = 0; part > 0.0 && c < channels; ++c)
                features[i * channels + c] += part * scaled[j * channels + c];
        }
    Matrix w(n, n);
    double largest = 0.0;
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j <= i; ++j) {
            double product = 0.0;
            for (std::size_t c = 0; c < channels; ++c)
                product += features[i * channels + c] * features[j * channels + c];
            w(i, j) = w(j, i) = std::max(0.0, product);
            largest = std::max(largest, product);
        }
    for (double& entry : w.entries) entry /= largest;
    for (std::size_t i = 0; other != nullptr && i < n; ++i)
        for (auto slot = static_cast<std::size_t>(other->row_starts[i]);
             slot < static_cast<std::size_t>(other->row_starts[i + 1]); ++slot)
            w(i, static_cast<std::size_t>(other->columns[slot])) += weight * other->values[slot];
    return w;
}

std::unique_ptr<FactoredGram> factored(const Cells& cells, Grid grid, const SparseMatrix* other = nullptr,
                                       double weight = 0.0, int threads = 2, double budget = no_limit) {
    ThreadPool pool(threads);
    const ScaledFeatures scaled(cells.view(), true, pool);
    std::optional<SparseView> view;
    if (other != nullptr) view = other->view();
    return factored_gram(scaled, {.height = grid.height, .width = grid.width, .entries = Entries::fixed16},
                         view, weight, budget, pool);
}

std::vector<double> products(const Affinity& affinity, const std::vector<double>& x, std::size_t count,
                             int threads) {
    ThreadPool pool(threads);
    std::vector<double> y(x.size());
    affinity.multiply(x.data(), y.data(), pool, count, affinity.size());
    return y;
}

// Own grid and others, few channels and many (whose signs are found with fewer digits), with another matrix
// and without: like the matrix, with the same bits for any number of threads.
void products_are_those_of_the_matrix() {
    for (const auto& [own, grid] : {std::pair<Grid, Grid>{{24, 31}, {24, 31}},
                                    {{12, 15}, {24, 30}},
                                    {{27, 30}, {24, 28}},
                                    {{20, 20}, {25, 27}}})
        for (const std::size_t channels : {9u, 65u, 100u})
            for (const double weight : {0.0, 10.0}) {
                const Cells cells = alike(own, channels);
                const SparseMatrix other = ring(grid.size());
                const SparseMatrix* const given = weight > 0.0 ? &other : nullptr;
                auto gram = factored(cells, grid, given, weight);
                CHECK(gram != nullptr);
                if (gram == nullptr) continue;
                const Matrix w = twin(cells, grid, given, weight);
                // relu has something to take away.
                const auto n_zeros = std::count(w.entries.begin(), w.entries.end(), 0.0);
                CHECK(n_zeros > static_cast<std::ptrdiff_t>(w.entries.size() / 2000));
                const FactoredAffinity affinity(*gram, false), rounded(*gram, true);
                const std::size_t n = grid.size(), count = 3;
                std::mt19937 random(22);
                std::vector<double> x(count * n);
                for (double& entry : x) entry = std::uniform_real_distribution(-1.0, 1.0)(random);
                const std::vector<double> y = products(affinity, x, count, 1);
                const std::vector<double> rounded_y = products(rounded, x, count, 1);
                CHECK(rounded_y != y);
                for (std::size_t v = 0; v < count; ++v)
                    for (std::size_t i = 0; i < n; ++i) {
                        double product = 0.0, sum = static_cast<double>(n);  // of F F^T, at most
                        for (std::size_t j = 0; j < n; ++j) {
                            product += w(i, j) * x[v * n + j];
                            sum += w(i, j);
                        }
                        CHECK_NEAR(y[v * n + i], product, 1e-7 * sum);
                        // Half a unit of each channel, of one feature and of the other; at random, less.
                        CHECK_NEAR(rounded_y[v * n + i], product, 1e-6 * sum);
                    }
                const auto same_gram = factored(cells, grid, given, weight, 3);
                CHECK(products(FactoredAffinity(*same_gram, false), x, count, 4) == y);
                CHECK(products(FactoredAffinity(*same_gram, true), x, count, 4) == rounded_y);
            }
}

// Floats as doubles, features that are not normalised, and one that is zero.
void features_are_scaled_as_elsewhere() {
    Cells cells = alike({23, 24}, 70);
    for (double& number : cells.numbers) number = static_cast<double>(static_cast<float>(7.0 * number));
    std::fill_n(cells.at(100), 70, 0.0);
    const std::vector<float> floats(cells.numbers.begin(), cells.numbers.end());
    ThreadPool pool(2);
    const GramOptions options{.height = 23, .width = 24, .entries = Entries::fixed16};
    for (const bool normalize : {true, false}) {
        const ScaledFeatures of_doubles(cells.view(), normalize, pool);
        const ScaledFeatures of_floats(FeatureView<float>{floats.data(), 23, 24, 70}, normalize, pool);
        const TiledMatrix tiles =
            feature_gram(of_doubles, {.height = 23, .width = 24, .entries = Entries::float32}, pool);
        const FusedAffinity expected(&tiles, std::nullopt, 1.0);
        std::vector<double> x(cells.grid.size());
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(static_cast<double>(i));
        const std::vector<double> y = products(expected, x, 1, 2);
        for (const ScaledFeatures* const scaled : {&of_doubles, &of_floats}) {
            auto gram = factored_gram(*scaled, options, std::nullopt, 1.0, no_limit, pool);
            CHECK(gram != nullptr);
            if (gram == nullptr) continue;
            const std::vector<double> found = products(FactoredAffinity(*gram, false), x, 1, 2);
            for (std::size_t i = 0; i < x.size(); ++i) CHECK_NEAR(found[i], y[i], 1e-4);
            CHECK_EQUAL(found[100], 0.0);
        }
    }
}

void what_is_not_worth_it_is_left() {
    CHECK(factored(alike({10, 20}, 4), {10, 20}) == nullptr);      // so few cells
    CHECK(factored(alike({23, 24}, 400), {23, 24}) == nullptr);    // so many channels beside them
    CHECK(factored(alike({23, 24}, 20, 8), {23, 24}) == nullptr);  // so many negative entries
    const Cells cells = alike({23, 24}, 20);
    CHECK(factored(cells, {23, 24}) != nullptr);
    CHECK(factored(cells, {23, 24}, nullptr, 0.0, 2, 1e5) == nullptr);  // no memory
    const SparseMatrix other = ring(cells.grid.size());
    CHECK(factored(cells, {23, 24}, &other, 1e30) != nullptr);
    CHECK(factored(cells, {23, 24}, &other, 1e35) == nullptr);  // no such floats
    // Half of the cells, but few of those that a sample meets, point the other way.
    Cells odd = alike({23, 24}, 20, 10'000);
    std::vector<bool> met(odd.grid.size());
    for (std::size_t s = 0; s < 128; ++s) {
        const double turns = 0.6180339887498949 * static_cast<double>(s);
        met[static_cast<std::size_t>((turns - std::floor(turns)) * static_cast<double>(odd.grid.size()))] =
            true;
    }
    for (std::size_t i = 0, turned = 0; i < odd.grid.size() && turned < odd.grid.size() / 2; ++i) {
        if (met[i]) continue;
        ++turned;
        for (std::size_t c = 0; c < 20; ++c) odd.at(i)[c] *= -1.0;
    }
    CHECK(factored(odd, odd.grid) == nullptr);
}

// Three sorts of cells, orthogonal to each other or at an obtuse angle: the third has few, so that few
// entries are negative. Neither these nor rounding join what relu keeps apart.
void components_are_those_of_the_positive_entries() {
    const Grid grid{24, 24};
    Cells cells{grid, 5, std::vector<double>(grid.size() * 5, 0.0)};
    for (std::size_t i = 0; i < grid.size(); ++i) {
        double* const cell = cells.at(i);
        const bool few = i % 100 == 50;
        cell[0] = few ? -0.6 : 1.0;
        cell[1] = few ? 0.8 : 0.0;
        if (i % 97 == 3) cell[0] = cell[1] = 0.0, cell[2] = 1.0;  // orthogonal to all others
        if (i == 5) std::fill_n(cell, 5, 0.0);                    // joined to none
    }
    const SparseMatrix other = ring(grid.size());
    ThreadPool pool(2);
    for (const double weight : {0.0, 1.0}) {
        auto gram = factored(cells, grid, &other, weight);
        CHECK(gram != nullptr);
        if (gram == nullptr) return;
        const FactoredAffinity affinity(*gram, true);
        const Matrix w = twin(cells, grid, &other, weight);
        affinity.visit_edges([&](std::size_t i, std::size_t j, double entry) {
            CHECK(entry > 0.0 && entry <= w(i, j) + 1e-6);
            return true;
        });
        CHECK(Laplacian(affinity, LaplacianKind::normalized, pool).components(1e-9, pool) ==
              pixels::components(w));
        std::size_t left = 10;
        affinity.visit_edges([&](std::size_t, std::size_t, double) {
            CHECK(left > 0);
            return --left > 0;
        });
    }
}

// Four groups of cells, side by side, of which each has channels of its own.
Cells grouped(Grid grid, std::size_t channels) {
    Cells cells{grid, channels, {}};
    std::mt19937 random(23);
    std::normal_distribution normal;
    for (std::size_t i = 0; i < grid.size(); ++i)
        for (std::size_t c = 0; c < channels; ++c)
            cells.numbers.push_back((c % 4 == i % grid.width * 4 / grid.width ? 1.0 : 0.1) +
                                    0.2 * normal(random));
    return cells;
}

// What rounding must be expected to move residuals by is much what it does.
void rounding_moves_residuals_as_is_expected() {
    const Grid own{24, 26};
    ThreadPool pool(2);
    for (const Grid grid : {own, Grid{48, 52}}) {
        const Cells cells = grouped(own, 96);
        const SparseMatrix other = ring(grid.size());
        const auto gram = factored(cells, grid, &other, 1.0);
        CHECK(gram != nullptr);
        if (gram == nullptr) return;
        const FactoredAffinity exact(*gram, false), rounded(*gram, true);
        const Laplacian laplacian(exact, LaplacianKind::normalized, pool);
        const std::size_t k = 4, n = grid.size();
        const Eigenpairs pairs = smallest_eigenpairs(laplacian, k, largest_eigenpairs_lanczos, {}, pool);
        const std::vector<double> y(pairs.vectors.begin(), pairs.vectors.end());
        const std::vector<double> own_products = products(exact, y, k, 2),
                                  others = products(rounded, y, k, 2);
        double largest = 0.0;
        for (std::size_t j = 0; j < k; ++j) {
            double square = 0.0, length = 0.0;
            for (std::size_t i = 0; i < n; ++i) {
                const double change = others[j * n + i] - own_products[j * n + i];
                square += change * change / laplacian.degrees()[i];
                length += laplacian.degrees()[i] * y[j * n + i] * y[j * n + i];
            }
            largest = std::max(largest, std::sqrt(square / length));
        }
        // Half of the tolerance is left to it.
        CHECK(rounded.tolerates(laplacian, 6.0 * largest));
        CHECK(!rounded.tolerates(laplacian, largest));
        CHECK(exact.tolerates(laplacian, largest));
    }
}

// The graph takes the factor where there is one, and its eigenpairs are those of tiles.
void eigenpairs_are_those_of_tiles() {
    const Cells cells = turning({23, 26}, 80);
    const SparseMatrix other = ring(cells.grid.size());
    ThreadPool pool(2);
    const ScaledFeatures scaled(cells.view(), true, pool);
    const TiledMatrix tiles = feature_gram(scaled, {.height = 23, .width = 26}, pool);
    const FusedAffinity fused(&tiles, other.view(), 10.0);
    for (const LaplacianKind kind : {LaplacianKind::normalized, LaplacianKind::unnormalized})
        for (const bool fast : {false, true}) {
            const FeatureGraph graph(scaled, other.view(), 10.0,
                                     {.grid = cells.grid, .fast = fast, .kind = kind, .max_memory = 1e12},
                                     pool);
            CHECK(!graph.entries());
            const Eigenpairs found = smallest_eigenpairs(graph.laplacian(), 4, find_solver("auto"), {}, pool);
            const Laplacian expected(fused, kind, pool);
            const Eigenpairs pairs = smallest_eigenpairs(expected, 4, largest_eigenpairs_dense, {}, pool);
            CHECK(found.converged);
            for (std::size_t j = 0; j < 4; ++j)
                // Signs that bfloat16 takes wrongly are those of entries of less than 2^-7.
                CHECK_NEAR(found.values[j] / expected.scale(), pairs.values[j] / expected.scale(),
                           fast ? 1e-5 : 2e-6);
            for (std::size_t i = 0; i < graph.laplacian().size(); ++i)
                CHECK_NEAR(graph.laplacian().degrees()[i], expected.degrees()[i],
                           (fast ? 1e-4 : 1e-5) * expected.degrees()[i]);
        }
    // Beside what is taken from cells that point away from all others their digits are lost.
    const Cells odd = alike({23, 26}, 80);
    const ScaledFeatures scaled_odd(odd.view(), true, pool);
    CHECK(factored(odd, odd.grid) != nullptr);
    const FeatureGraph of_odd(scaled_odd, std::nullopt, 0.0, {.grid = odd.grid, .max_memory = 1e12}, pool);
    CHECK(of_odd.entries() == Entries::float32);
    for (const double length : {1e-3, 1e-4, 1e-5}) {
        Cells tiny = turning({23, 26}, 80);
        for (std::size_t c = 0; c < 80; ++c) tiny.at(7)[c] *= -length;
        const ScaledFeatures scaled_tiny(tiny.view(), false, pool);
        const FeatureGraph of_tiny(scaled_tiny, std::nullopt, 0.0, {.grid = tiny.grid}, pool);
        CHECK(of_tiny.entries() == Entries::float32);
    }
    const FeatureGraph exact(scaled, other.view(), 10.0,
                             {.grid = cells.grid, .tolerance = 1e-9, .max_memory = 1e12}, pool);
    CHECK(exact.entries() == Entries::float32);
    const FeatureGraph bits(scaled, other.view(), 10.0,
                            {.grid = cells.grid, .threshold = Threshold{0.2, 1e-5}, .max_memory = 1e12},
                            pool);
    CHECK(bits.entries() == Entries::bits);
}

}  // namespace

int main() {
    if (!check::has_kernels()) return check::skipped;
    products_are_those_of_the_matrix();
    features_are_scaled_as_elsewhere();
    what_is_not_worth_it_is_left();
    components_are_those_of_the_positive_entries();
    rounding_moves_residuals_as_is_expected();
    eigenpairs_are_those_of_tiles();
    return check::result();
}

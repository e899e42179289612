#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "deepspec/factored_affinity.hpp"
#include "deepspec/feature_gram.hpp"
#include "deepspec/interpolation.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/tiled_matrix.hpp"
#include "fuzz.hpp"

namespace fuzz {
namespace {

using namespace deepspec;

constexpr double fixed16_error = 0x1p-17 * 1.01;  // of keeping an entry so

// Of products that are good enough for that: float32's rounding, unless the processor has a faster way.
double product_error() {
    using namespace kernels;
    return &kernels::gram(Digits::fixed16) == &kernels::gram(Digits::float32) ? 2e-6 : 3 * 0x1p-16 * 1.01;
}

struct Problem {
    Grid own, wanted;
    std::size_t channels;
    bool normalize;
    std::vector<double> features;
};

Grid random_grid(std::size_t most_cells, Random& random) {
    const std::size_t cells = random.size(1, most_cells);
    const std::size_t height = random.size(1, cells);
    return {height, cells / height};
}

// The grid the features are brought to: their own, one of twice the size, or any.
Grid wanted_grid(Grid own, Random& random) {
    if (random.chance(0.4)) return own;
    if (random.chance(0.5)) return {2 * own.height, 2 * own.width};
    return random_grid(400, random);
}

struct Range {
    double low, high;
};

std::vector<double> random_features(std::size_t n, std::size_t channels, Range range, Random& random) {
    std::vector<double> features(n * channels);
    const bool positive = random.chance(0.3), sparse = random.chance(0.2), uneven = random.chance(0.3);
    const bool repeated = random.chance(0.2);
    const double scale = random.chance(0.5) ? 1.0 : random.magnitude(range.low, range.high);
    for (std::size_t i = 0; i < n; ++i) {
        const bool zero = random.chance(0.05);
        const double length = uneven ? random.magnitude(1e-6, 1.0) : 1.0;
        for (std::size_t c = 0; c < channels; ++c) {
            double value = random.normal() * length * scale;
            if (zero || (sparse && random.chance(0.8))) value = 0.0;
            features[i * channels + c] = positive ? std::abs(value) : value;
        }
        if (repeated && i > 0 && random.chance(0.5))
            std::copy_n(features.begin(), channels,
                        features.begin() + static_cast<std::ptrdiff_t>(i * channels));
    }
    return features;
}

Problem random_problem(Range range, Random& random) {
    Problem problem;
    problem.own = random_grid(random.chance(0.1) ? 900 : 200, random);
    problem.wanted = wanted_grid(problem.own, random);
    problem.channels = random.size(1, problem.wanted.size() > 500 ? 40 : 300);
    problem.normalize = random.chance(0.6);
    problem.features = random_features(problem.own.size(), problem.channels, range, random);
    return problem;
}

// The features of the wanted grid, of which the longest of the own grid has the length 1.
std::vector<double> interpolated(const Problem& problem) {
    const std::size_t channels = problem.channels;
    std::vector<double> scaled = problem.features;
    std::vector<double> lengths;
    for (std::size_t i = 0; i < problem.own.size(); ++i) {
        double length = 0.0;
        for (std::size_t c = 0; c < channels; ++c) length = std::hypot(length, scaled[i * channels + c]);
        lengths.push_back(length);
    }
    const double longest = *std::max_element(lengths.begin(), lengths.end());
    for (std::size_t i = 0; i < scaled.size(); ++i) {
        const double length = problem.normalize ? lengths[i / channels] : longest;
        scaled[i] = length > 0.0 ? scaled[i] / length : 0.0;
    }
    if (problem.own == problem.wanted) return scaled;
    std::vector<double> features;
    const auto position = [](std::size_t i, std::size_t coarse, std::size_t fine) {
        const double center =
            (static_cast<double>(i) + 0.5) * static_cast<double>(coarse) / static_cast<double>(fine);
        return std::clamp(center - 0.5, 0.0, static_cast<double>(coarse - 1));
    };
    for (std::size_t i = 0; i < problem.wanted.height; ++i)
        for (std::size_t j = 0; j < problem.wanted.width; ++j) {
            const double y = position(i, problem.own.height, problem.wanted.height);
            const double x = position(j, problem.own.width, problem.wanted.width);
            const auto top = static_cast<std::size_t>(y), left = static_cast<std::size_t>(x);
            const std::size_t bottom = std::min(top + 1, problem.own.height - 1);
            const std::size_t right = std::min(left + 1, problem.own.width - 1);
            const double down = y - std::floor(y), across = x - std::floor(x);
            const auto at = [&](std::size_t row, std::size_t column, std::size_t c) {
                return scaled[(row * problem.own.width + column) * channels + c];
            };
            for (std::size_t c = 0; c < channels; ++c)
                features.push_back((1.0 - down) * std::lerp(at(top, left, c), at(top, right, c), across) +
                                   down * std::lerp(at(bottom, left, c), at(bottom, right, c), across));
        }
    return features;
}

struct Expected {
    Dense entries;
    double largest = 0.0;  // before all are divided by it

    explicit Expected(const Problem& problem) : entries(problem.wanted.size()) {
        const std::vector<double> features = interpolated(problem);
        for (std::size_t i = 0; i < entries.n; ++i)
            for (std::size_t j = 0; j <= i; ++j) {
                double sum = 0.0;
                for (std::size_t c = 0; c < problem.channels; ++c)
                    sum += features[i * problem.channels + c] * features[j * problem.channels + c];
                entries(i, j) = entries(j, i) = std::max(0.0, sum);
                largest = std::max(largest, sum);
            }
        if (largest == 0.0) return;
        for (double& entry : entries.entries) entry /= largest;
    }

    // `error`: what rounding a feature of length 1 to the arithmetic's digits adds to a product.
    // Interpolation between opposite features leaves little of them, and of their digits.
    void check(std::size_t i, std::size_t j, float entry, double error) const {
        const double tolerance = 1e-5 + error / std::max(largest, 1e-12);
        CHECK(entry >= 0.0f && static_cast<double>(entry) <= 1.0 + tolerance);
        CHECK_NEAR(static_cast<double>(entry), entries(i, j), tolerance);
    }
};

void check_all(const TiledMatrix& gram, const Expected& expected, double error) {
    CHECK_EQUAL(gram.size(), expected.entries.n);
    for (std::size_t i = 0; i < gram.size(); ++i)
        for (std::size_t j = i; j < gram.size(); ++j) expected.check(i, j, gram.at(i, j), error);
}

// One row of each tile: a matrix that is not kept works out a tile for it.
void check_some(const TiledMatrix& gram, const Expected& expected, double error, Random& random) {
    constexpr std::size_t side = TiledMatrix::tile_size;
    const std::size_t n = gram.size();
    CHECK_EQUAL(n, expected.entries.n);
    std::vector<float> row(side);
    for (std::size_t tile = 0; tile < gram.n_tiles(); ++tile) {
        const auto position = gram.position(tile);
        const std::size_t first = position.row * side, left = position.column * side;
        const std::size_t i = random.between(first, std::min(first + side, n) - 1);
        gram.get_row(i, position.column, row.data());
        for (std::size_t j = std::max(i, left); j < std::min(left + side, n); ++j)
            expected.check(i, j, row[j - left], error);
    }
}

template <class Scalar>
void attempt_gram(Range range, Random& random) {
    Problem problem = random_problem(range, random);
    std::vector<Scalar> features(problem.features.begin(), problem.features.end());
    problem.features.assign(features.begin(), features.end());  // rounded
    const FeatureView<Scalar> view{features.data(), problem.own.height, problem.own.width, problem.channels};
    const GramOptions options{problem.wanted.height, problem.wanted.width, problem.normalize};
    ThreadPool pool(static_cast<int>(random.between(1, 4)));
    if (random.chance(0.15)) {
        const std::size_t at = random.between(0, features.size() - 1);
        constexpr Scalar infinity = std::numeric_limits<Scalar>::infinity();
        features[at] = random.pick({infinity, -infinity, std::numeric_limits<Scalar>::quiet_NaN()});
        const std::size_t cell = at / problem.channels;
        CHECK_THROWS(std::invalid_argument,
                     "row " + std::to_string(cell / problem.own.width) + ", column " +
                         std::to_string(cell % problem.own.width),
                     feature_gram(view, options, pool));
        return;
    }
    ThreadPool other(static_cast<int>(random.between(1, 4)));
    GramOptions changed = options;
    const Expected expected(problem);
    const TiledMatrix gram = feature_gram(view, options, pool);
    check_all(gram, expected, 2e-6);
    CHECK(to_dense(feature_gram(view, options, other)).entries == to_dense(gram).entries);
    changed.bfloat16 = true;
    check_all(feature_gram(view, changed, pool), expected, 0x1p-6);

    changed.keep = false;
    check_some(feature_gram(view, changed, pool), expected, 0x1p-6, random);
    changed.bfloat16 = false;
    check_some(feature_gram(view, changed, pool), expected, problem.channels < 64 ? 2e-6 : product_error(),
               random);

    changed = options;
    changed.entries = Entries::fixed16;
    const TiledMatrix fixed = feature_gram(view, changed, pool);
    // float32's products are what the entries are compared with.
    const bool same = problem.channels < 64 || product_error() == 2e-6;
    const double error = fixed16_error + (same ? 0.0 : product_error() / std::max(expected.largest, 1e-12));
    for (std::size_t i = 0; i < fixed.size(); ++i)
        for (std::size_t j = i; j < fixed.size(); ++j)
            CHECK_NEAR(static_cast<double>(fixed.at(i, j)),
                       static_cast<double>(std::min(gram.at(i, j), 1.0f)), error);
}

// Entries from 0 to 1, many of them 0.
Dense random_matrix(std::size_t n, Random& random) {
    Dense matrix(n);
    const double share = random.uniform(0.0, 1.0);
    for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j <= i; ++j)
            if (random.chance(share))
                matrix(i, j) = matrix(j, i) =
                    static_cast<double>(static_cast<float>(random.uniform(0.0, 1.0)));
    return matrix;
}

// Products with one and with several vectors.
void check_products(const TiledMatrix& matrix, const Dense& dense, Random& random) {
    const std::size_t n = matrix.size(), count = random.size(1, 5);
    std::vector<double> x = random_vector(count * n, random);
    const double spread = random.chance(0.5) ? 1.0 : random.magnitude(1.0, 1e15);
    for (double& entry : x) entry *= random.magnitude(1.0 / spread, spread);
    std::vector<double> together(count * n, 0.0), product(n, NAN);
    ThreadPool pool(static_cast<int>(random.between(1, 4))), other(static_cast<int>(random.between(1, 4)));
    matrix.multiply(x.data(), together.data(), other, count, n);
    for (std::size_t vector = 0; vector < count; ++vector) {
        const double* xv = x.data() + vector * n;
        matrix.multiply(xv, product.data(), pool);
        for (std::size_t i = 0; i < n; ++i) {
            double sum = 0.0, magnitude = 0.0;
            for (std::size_t j = 0; j < n; ++j) {
                sum += dense(i, j) * xv[j];
                magnitude += std::abs(dense(i, j) * xv[j]);
            }
            CHECK_NEAR(product[i], sum, 1e-5 * magnitude);
        }
        CHECK(std::equal(product.begin(), product.end(),
                         together.begin() + static_cast<std::ptrdiff_t>(vector * n)));
    }
}

template <class Scalar>
void attempt_packing(Dense matrix, Random& random) {
    ThreadPool pool(static_cast<int>(random.between(1, 4)));
    const double scale = random.chance(0.5) ? 1.0 : random.magnitude(1e-20, 1e20);
    std::vector<Scalar> scaled;
    for (const double entry : matrix.entries) scaled.push_back(static_cast<Scalar>(entry * scale));
    const auto pack = [&] { return pack_dense(scaled.data(), matrix.n, pool); };
    const TiledMatrix packed = pack();
    for (std::size_t i = 0; i < matrix.n; ++i)
        for (std::size_t j = 0; j < matrix.n; ++j)
            CHECK_EQUAL(packed.at(i, j), static_cast<float>(scaled[i * matrix.n + j]));
    check_products(packed, to_dense(packed), random);

    const std::size_t row = random.between(0, matrix.n - 1), column = random.between(0, matrix.n - 1);
    Scalar& entry = scaled[row * matrix.n + column];
    constexpr Scalar infinity = std::numeric_limits<Scalar>::infinity();
    const Scalar wrong = random.pick({infinity, std::numeric_limits<Scalar>::quiet_NaN(), Scalar(-1)});
    const Scalar right = std::exchange(entry, wrong);
    CHECK_THROWS(std::invalid_argument, "finite and not negative", pack());
    entry = right + static_cast<Scalar>(scale);
    if (row != column) CHECK_THROWS(std::invalid_argument, "symmetric", pack());
}

}  // namespace

void try_gram(Random& random) {
    if (random.chance(0.5))
        attempt_gram<float>({1e-38, 1e36}, random);
    else
        attempt_gram<double>({1e-290, 1e300}, random);
}

void try_tiles(Random& random) {
    const Dense matrix = random_matrix(random.size(1, random.chance(0.9) ? 400 : 1500), random);
    for (const Entries entries : all_entries) {
        const TiledMatrix tiles = tiled(matrix, entries);
        const double error = entries == Entries::float32  ? 0.0
                             : entries == Entries::fixed8 ? 256.0 * fixed16_error
                                                          : fixed16_error;
        for (std::size_t i = 0; i < matrix.n; ++i)
            for (std::size_t j = 0; j < matrix.n; ++j)
                CHECK_NEAR(static_cast<double>(tiles.at(i, j)), matrix(i, j), error);
        const Dense kept = to_dense(tiles);
        check_products(tiles, kept, random);
        const TiledMatrix computed(matrix.n, [&](std::size_t row, std::size_t column, float* tile) {
            copy_tile(kept, row, column, tile);
        });
        check_products(computed, kept, random);
    }
    if (random.chance(0.5))
        attempt_packing<float>(matrix, random);
    else
        attempt_packing<double>(matrix, random);
}

// Features of which few point away from the others, beside a sparse matrix or not. Factors are taken, or left
// where they are not worth it.
void try_factored(Random& random) {
    Problem problem;
    problem.own = random_grid(900, random);
    problem.wanted = wanted_grid(problem.own, random);
    problem.channels = random.size(1, 200);
    problem.normalize = random.chance(0.6);
    const double turned = random.uniform(0.0, 1.0), noise = random.magnitude(1e-3, 1.0);
    for (std::size_t i = 0; i < problem.own.size(); ++i) {
        const double turn =
            turned * std::sin(0.01 * static_cast<double>(i)) * (random.chance(0.02) ? -2.0 : 1.0);
        const bool zero = random.chance(0.005);
        for (std::size_t c = 0; c < problem.channels; ++c)
            problem.features.push_back(
                zero ? 0.0 : 1.0 + turn * (c % 2 == 0 ? 2.0 : -1.0) + noise * random.normal());
    }
    const std::size_t n = problem.wanted.size();
    SparseMatrix other{n, std::vector<std::int64_t>(1), {}, {}};
    Dense beside(n);
    for (std::size_t r = 0; r < n; ++r) {
        const std::size_t i = random.between(0, n - 1), j = random.between(0, n - 1);
        beside(i, j) = beside(j, i) = random.uniform(0.0, 2.0);
    }
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < n; ++j) {
            if (beside(i, j) == 0.0) continue;
            other.columns.push_back(static_cast<std::int32_t>(j));
            other.values.push_back(beside(i, j));
        }
        other.row_starts.push_back(static_cast<std::int64_t>(other.columns.size()));
    }
    const double weight = random.chance(0.3) ? 0.0 : random.magnitude(1e-2, 1e2);
    std::optional<SparseView> view;
    if (weight > 0.0) view = other.view();
    ThreadPool pool(static_cast<int>(random.between(1, 4))), fewer(static_cast<int>(random.between(1, 4)));
    const ScaledFeatures scaled(
        FeatureView<double>{problem.features.data(), problem.own.height, problem.own.width, problem.channels},
        problem.normalize, pool);
    const GramOptions options{
        .height = problem.wanted.height, .width = problem.wanted.width, .entries = Entries::fixed16};
    const double budget = random.chance(0.1) ? random.magnitude(1.0, 1e8) : 1e18;
    auto gram = factored_gram(scaled, options, view, weight, budget, pool);
    if (gram == nullptr) return;
    const bool rounded = random.chance(0.5);
    const FactoredAffinity affinity(*gram, rounded);
    const auto same_gram = factored_gram(scaled, options, view, weight, budget, fewer);
    const FactoredAffinity again(*same_gram, rounded);
    const Expected expected(problem);
    const std::vector<double> x = random_vector(2 * n, random);
    std::vector<double> y(2 * n), other_y(2 * n);
    affinity.multiply(x.data(), y.data(), pool, 2, n);
    again.multiply(x.data(), other_y.data(), fewer, 2, n);
    CHECK(y == other_y);
    const double tolerance = (1e-6 + product_error()) / std::max(expected.largest, 1e-12);
    // Half a unit of each channel, of one feature and of the other.
    const double of_rounding = rounded ? 1.08 * std::sqrt(static_cast<double>(problem.channels)) / 32767.0 /
                                             std::max(expected.largest, 1e-12)
                                       : 0.0;
    for (std::size_t v = 0; v < 2; ++v)
        for (std::size_t i = 0; i < n; ++i) {
            double product = 0.0, sum = 0.0;
            for (std::size_t j = 0; j < n; ++j) {
                const double entry = expected.entries(i, j) + weight * beside(i, j);
                product += entry * x[v * n + j];
                sum += entry + 1.0;
            }
            CHECK_NEAR(y[v * n + i], product, (tolerance + of_rounding) * sum);
        }
    affinity.visit_edges([&](std::size_t i, std::size_t j, double entry) {
        CHECK(entry > 0.0 &&
              entry <= (expected.entries(i, j) + weight * beside(i, j)) * (1.0 + 1e-6) + tolerance);
        return true;
    });
}

}  // namespace fuzz

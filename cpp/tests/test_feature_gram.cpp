#include <algorithm>
#include <cmath>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "deepspec/feature_gram.hpp"
#include "instruction_set.hpp"

using namespace deepspec;

namespace {

using Dense = std::vector<std::vector<double>>;

template <class Scalar>
TiledMatrix gram(const std::vector<Scalar>& features, Grid own, Grid wanted, bool normalize = true) {
    ThreadPool pool(2);
    const FeatureView<Scalar> view{features.data(), own.height, own.width,
                                   features.size() / (own.height * own.width)};
    return feature_gram(view, {wanted.height, wanted.width, normalize}, pool);
}

template <class Scalar>
TiledMatrix gram(const std::vector<Scalar>& features, Grid own, bool normalize = true) {
    return gram(features, own, own, normalize);
}

void check_equal(const TiledMatrix& matrix, const Dense& expected, double tolerance) {
    CHECK_EQUAL(matrix.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
        for (std::size_t j = 0; j < expected.size(); ++j)
            CHECK_NEAR(static_cast<double>(matrix.at(i, j)), expected[i][j], tolerance);
}

std::vector<double> random_features(std::size_t size) {
    std::mt19937 random(11);
    std::vector<double> features(size);
    for (double& value : features) value = std::normal_distribution()(random);
    return features;
}

// The definition in double precision: each fine cell samples the coarse grid, whose cells have their values
// at their centres and are constant beyond the outermost.
Dense twin(const std::vector<double>& features, Grid own, Grid wanted, bool normalize) {
    const std::size_t channels = features.size() / (own.height * own.width);
    const auto feature = [&](std::size_t row, std::size_t column) {
        const auto begin =
            features.begin() + static_cast<std::ptrdiff_t>((row * own.width + column) * channels);
        std::vector<double> values(begin, begin + static_cast<std::ptrdiff_t>(channels));
        double squared = 0.0;
        for (const double value : values) squared += value * value;
        if (normalize)
            for (double& value : values) value /= std::sqrt(squared);
        return values;
    };
    const auto position = [](std::size_t i, std::size_t coarse, std::size_t fine) {
        const double center =
            (static_cast<double>(i) + 0.5) / static_cast<double>(fine) * static_cast<double>(coarse);
        return std::clamp(center - 0.5, 0.0, static_cast<double>(coarse - 1));
    };
    std::vector<std::vector<double>> cells;
    for (std::size_t i = 0; i < wanted.height; ++i)
        for (std::size_t j = 0; j < wanted.width; ++j) {
            const double y = position(i, own.height, wanted.height), x = position(j, own.width, wanted.width);
            std::vector<double> cell(channels, 0.0);
            for (std::size_t row = 0; row < own.height; ++row)
                for (std::size_t column = 0; column < own.width; ++column) {
                    const double weight = std::max(0.0, 1.0 - std::abs(y - static_cast<double>(row))) *
                                          std::max(0.0, 1.0 - std::abs(x - static_cast<double>(column)));
                    if (weight == 0.0) continue;
                    const std::vector<double> values = feature(row, column);
                    for (std::size_t c = 0; c < channels; ++c) cell[c] += weight * values[c];
                }
            cells.push_back(cell);
        }
    Dense matrix(cells.size(), std::vector<double>(cells.size(), 0.0));
    double largest = 0.0;
    for (std::size_t i = 0; i < cells.size(); ++i)
        for (std::size_t j = 0; j < cells.size(); ++j) {
            for (std::size_t c = 0; c < channels; ++c) matrix[i][j] += cells[i][c] * cells[j][c];
            matrix[i][j] = std::max(0.0, matrix[i][j]);
            largest = std::max(largest, matrix[i][j]);
        }
    for (auto& row : matrix)
        for (double& entry : row) entry /= largest;
    return matrix;
}

void equals_its_definition() {
    // Cells around one and two tiles, channels around a kernel's slice.
    for (const Grid own : {Grid{1, 1}, {5, 19}, {8, 12}, {1, 97}, {14, 15}})
        for (const std::size_t channels : {1u, 3u, 200u})
            for (const bool normalize : {true, false}) {
                const auto features = random_features(own.height * own.width * channels);
                check_equal(gram(features, own, normalize), twin(features, own, own, normalize), 1e-5);
            }
    for (const auto& [own, wanted] : {std::pair<Grid, Grid>{{4, 5}, {8, 10}},
                                      {{3, 4}, {10, 11}},
                                      {{1, 7}, {5, 7}},
                                      {{1, 1}, {2, 3}},
                                      {{9, 11}, {18, 22}},
                                      {{5, 6}, {6, 7}},
                                      {{6, 7}, {5, 4}}})
        for (const bool normalize : {true, false}) {
            const auto features = random_features(own.height * own.width * 20);
            check_equal(gram(features, own, wanted, normalize), twin(features, own, wanted, normalize), 1e-5);
        }
}

void by_hand() {
    // Lengths 5 and 2 go with normalisation; the negative product is cut.
    const std::vector<double> three{3, 4, 0, 2, -6, -8};
    check_equal(gram(three, {1, 3}), {{1, 0.8, 0}, {0.8, 1, 0}, {0, 0, 1}}, 1e-6);
    check_equal(gram(three, {3, 1}, false), {{0.25, 0.08, 0}, {0.08, 0.04, 0}, {0, 0, 1}}, 1e-6);
    // Two cells brought to four: (1, 0), (3/4, 1/4), (1/4, 3/4), (0, 1), not normalised again.
    const Dense upsampled{
        {1, 0.75, 0.25, 0}, {0.75, 0.625, 0.375, 0.25}, {0.25, 0.375, 0.625, 0.75}, {0, 0.25, 0.75, 1}};
    check_equal(gram<double>({7, 0, 0, 0.1}, {1, 2}, {1, 4}), upsampled, 1e-6);
    check_equal(gram<double>({7, 0, 0, 0.1}, {2, 1}, {4, 1}), upsampled, 1e-6);
}

void zero_features_have_no_affinity() {
    for (const bool normalize : {true, false}) {
        check_equal(gram<double>({0, 0, 0, 3, 0, 0}, {1, 3}, normalize), {{0, 0, 0}, {0, 1, 0}, {0, 0, 0}},
                    0.0);
        check_equal(gram(std::vector<double>(8, 0.0), {2, 2}, normalize),
                    Dense(4, std::vector<double>(4, 0.0)), 0.0);
    }
    // What has no inverse in double precision counts as zero.
    check_equal(gram<double>({1e-310, 2}, {1, 2}), {{0, 0}, {0, 1}}, 0.0);
    check_equal(gram<double>({0, 5}, {1, 2}, {1, 4}), twin({0, 5}, {1, 2}, {1, 4}, false), 1e-6);
}

void scale_and_precision_do_not_matter() {
    const auto features = random_features(7 * 9 * 30);
    const Dense expected = twin(features, {7, 9}, {7, 9}, true);
    for (const double scale : {1.0, 1e-30, 1e30, 1e-306, 1e300}) {
        std::vector<double> scaled(features);
        for (double& value : scaled) value *= scale;
        check_equal(gram(scaled, {7, 9}), expected, 1e-5);
        const std::vector<float> in_float(scaled.begin(), scaled.end());
        if (scale >= 1e-30 && scale <= 1e30) check_equal(gram(in_float, {7, 9}), expected, 1e-5);
    }
    // Not normalised, the largest feature decides.
    const std::vector<double> uneven{1e300, 1e-300, 0, 1e300, 1e-300, 1e-300};
    check_equal(gram(uneven, {1, 3}, false), {{1, 0, 0}, {0, 1, 0}, {0, 0, 0}}, 1e-6);
}

void not_finite_features_are_refused() {
    for (const float wrong : {NAN, INFINITY, -INFINITY})
        for (std::size_t at = 0; at < 12; ++at)
            for (const float others : {0.0f, 1.0f})
                for (const bool normalize : {true, false}) {
                    std::vector<float> features(12, others);
                    features[at] = wrong;
                    const std::string cell =
                        "row " + std::to_string(at / 6) + ", column " + std::to_string(at / 2 % 3);
                    CHECK_THROWS(std::invalid_argument, cell, gram(features, {2, 3}, normalize));
                    CHECK_THROWS(std::invalid_argument, cell, gram(features, {2, 3}, {4, 6}, normalize));
                }
}

void fixed_point_entries_are_as_near_as_promised() {
    constexpr Grid grid{13, 16};
    const std::vector<double> features = random_features(grid.height * grid.width * 96);
    const FeatureView<double> view{features.data(), grid.height, grid.width, 96};
    ThreadPool pool(2);
    // Where the processor has a faster way than float32 to so many digits.
    const bool same = &kernels::gram(kernels::Digits::fixed16) == &kernels::gram(kernels::Digits::float32);
    const double product_error = same ? 0.0 : 3 * 0x1p-16;
    const TiledMatrix exact = feature_gram(view, {grid.height, grid.width}, pool);
    const TiledMatrix fixed =
        feature_gram(view, {.height = grid.height, .width = grid.width, .entries = Entries::fixed16}, pool);
    for (std::size_t i = 0; i < fixed.size(); ++i)
        for (std::size_t j = 0; j < fixed.size(); ++j)
            CHECK_NEAR(static_cast<double>(fixed.at(i, j)), static_cast<double>(exact.at(i, j)),
                       7.7e-6 + product_error);
}

void threads_leave_no_trace() {
    const std::vector<double> features = random_features(11 * 13 * 40);
    const FeatureView<double> view{features.data(), 11, 13, 40};
    ThreadPool alone(1);
    const TiledMatrix expected = feature_gram(view, {22, 26}, alone);
    for (const int threads : {2, 4, 7}) {
        ThreadPool pool(threads);
        const TiledMatrix other = feature_gram(view, {22, 26}, pool);
        for (std::size_t i = 0; i < other.size(); ++i)
            for (std::size_t j = i; j < other.size(); ++j) CHECK_EQUAL(other.at(i, j), expected.at(i, j));
    }
}

}  // namespace

int main() {
    if (!check::has_kernels()) return check::skipped;
    equals_its_definition();
    by_hand();
    zero_features_have_no_affinity();
    scale_and_precision_do_not_matter();
    not_finite_features_are_refused();
    fixed_point_entries_are_as_near_as_promised();
    threads_leave_no_trace();
    return check::result();
}

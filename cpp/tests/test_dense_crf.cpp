#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "check.hpp"
#include "deepspec/dense_crf.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/permutohedral.hpp"
#include "instruction_set.hpp"

using namespace deepspec;

namespace {

struct Image {
    std::size_t height, width;
    std::vector<std::uint8_t> pixels;
    RgbView view() const { return {pixels.data(), height, width}; }
    std::size_t size() const { return height * width; }
};

// A bright disc on a dark ground, with noise.
Image make_image(std::size_t height, std::size_t width) {
    std::mt19937 random(1);
    std::normal_distribution noise(0.0, 8.0);
    Image image{height, width, {}};
    for (std::size_t p = 0; p < height * width; ++p) {
        const double y = static_cast<double>(p / width) / static_cast<double>(height) - 0.5;
        const double x = static_cast<double>(p % width) / static_cast<double>(width) - 0.5;
        for (int c = 0; c < 3; ++c) {
            const double value = (std::hypot(x, y) < 0.3 ? 180.0 : 60.0) + noise(random);
            image.pixels.push_back(static_cast<std::uint8_t>(std::clamp(value, 0.0, 255.0)));
        }
    }
    return image;
}

std::vector<float> random_unary(std::size_t n_labels, std::size_t n_pixels) {
    std::mt19937 random(2);
    std::uniform_real_distribution cost(0.0f, 3.0f);
    std::vector<float> unary(n_labels * n_pixels);
    for (float& value : unary) value = cost(random);
    return unary;
}

std::vector<float> infer(const Image& image, const std::vector<float>& unary, const CrfOptions& options = {},
                         int threads = 2) {
    ThreadPool pool(threads);
    std::vector<float> posterior(unary.size(), NAN);
    dense_crf(image.view(), unary.data(), unary.size() / image.size(), options, posterior.data(), pool);
    return posterior;
}

void checks_probabilities(const std::vector<float>& posterior, std::size_t n_pixels) {
    for (std::size_t p = 0; p < n_pixels; ++p) {
        double sum = 0.0;
        for (std::size_t at = p; at < posterior.size(); at += n_pixels) {
            CHECK(posterior[at] >= 0.0f && posterior[at] <= 1.0f);
            sum += static_cast<double>(posterior[at]);
        }
        CHECK_NEAR(sum, 1.0, 1e-5);
    }
}

void gives_probabilities() {
    for (const auto& [height, width] :
         {std::pair<std::size_t, std::size_t>{1, 1}, {1, 70}, {37, 53}, {180, 200}}) {
        const Image image = make_image(height, width);
        for (const std::size_t n_labels : {1u, 2u, 3u, 8u, 9u, 16u, 17u, 21u, 24u, 25u, 33u, 40u})
            checks_probabilities(infer(image, random_unary(n_labels, image.size())), image.size());
    }
}

// Without iterations, and without kernels, each pixel has its own softmax.
void is_a_softmax_without_neighbors() {
    const Image image = make_image(20, 30);
    for (const std::size_t n_labels : {2u, 3u, 8u, 9u, 21u, 24u, 25u, 33u}) {
        const std::vector<float> unary = random_unary(n_labels, image.size());
        const std::vector<float> none = infer(image, unary, {.n_iterations = 0});
        CHECK(none == infer(image, unary, {.bilateral_weight = 0.0, .gaussian_weight = 0.0}));
        for (std::size_t p = 0; p < image.size(); ++p) {
            double sum = 0.0;
            for (std::size_t label = 0; label < n_labels; ++label)
                sum += std::exp(-static_cast<double>(unary[label * image.size() + p]));
            for (std::size_t label = 0; label < n_labels; ++label)
                CHECK_NEAR(none[label * image.size() + p],
                           std::exp(-static_cast<double>(unary[label * image.size() + p])) / sum, 1e-6);
        }
    }
}

// Two labels go their own way, by one number a pixel; beside impossible ones they go the others'.
void ways_agree() {
    const Image image = make_image(90, 120);
    std::vector<float> unary = random_unary(2, image.size());
    const std::vector<float> two = infer(image, unary);
    for (const std::size_t n_labels : {3u, 8u, 9u, 21u, 24u, 25u, 33u}) {
        unary.resize(n_labels * image.size(), std::numeric_limits<float>::infinity());
        const std::vector<float> more = infer(image, unary);
        for (std::size_t i = 0; i < two.size(); ++i) CHECK_NEAR(two[i], more[i], 1e-4);
        for (std::size_t i = two.size(); i < more.size(); ++i) CHECK_NEAR(more[i], 0.0, 1e-30);
    }
}

void is_the_same_for_any_number_of_threads() {
    const Image image = make_image(200, 260);
    for (const std::size_t n_labels : {2u, 5u, 21u}) {
        const std::vector<float> unary = random_unary(n_labels, image.size());
        const std::vector<float> alone = infer(image, unary, {}, 1);
        for (const int threads : {2, 4, 7}) CHECK(infer(image, unary, {}, threads) == alone);
    }
}

void finds_the_disc() {
    const Image image = make_image(90, 120);
    std::vector<float> unary = random_unary(2, image.size());
    // A hint in the middle, nothing but noise elsewhere.
    for (std::size_t p = 0; p < image.size(); ++p) {
        const double y = static_cast<double>(p / 120) / 90.0 - 0.5,
                     x = static_cast<double>(p % 120) / 120.0 - 0.5;
        unary[p] += std::hypot(x, y) < 0.15 ? 3.0f : -0.5f;
    }
    const std::vector<float> posterior = infer(image, unary);
    std::size_t wrong = 0;
    for (std::size_t p = 0; p < image.size(); ++p)
        wrong += (image.pixels[3 * p] > 120) != (posterior[image.size() + p] > 0.5f);
    CHECK(wrong < image.size() / 100);
}

// exp(-|a - b|^2 / 2) for all pairs, symmetrically normalised, against the lattice's: near it on average.
void filters_like_a_gaussian(std::size_t dimensions) {
    constexpr std::size_t n = 700;
    constexpr double extent = 4.0;
    std::mt19937 random(3);
    std::uniform_real_distribution<float> position(0.0f, static_cast<float>(extent));
    std::vector<float> points(n * dimensions);
    for (float& coordinate : points) coordinate = position(random);
    ThreadPool pool(2);
    PermutohedralLattice lattice(
        n, std::vector<double>(dimensions, extent),
        [&](std::size_t begin, std::size_t end, float* out) {
            for (std::size_t p = begin; p < end; ++p)
                for (std::size_t i = 0; i < dimensions; ++i)
                    out[i * kernels::lattice_block + p - begin] = points[p * dimensions + i];
        },
        pool);
    CHECK(lattice.n_vertices() > 10);
    CHECK(lattice.n_vertices() <= n * (dimensions + 1));
    lattice.normalize(2.0, pool);

    std::vector<double> kernel(n * n), sums(n, 0.0);
    for (std::size_t a = 0; a < n; ++a)
        for (std::size_t b = 0; b < n; ++b) {
            double squared = 0.0;
            for (std::size_t i = 0; i < dimensions; ++i)
                squared += std::pow(points[a * dimensions + i] - points[b * dimensions + i], 2);
            kernel[a * n + b] = std::exp(-0.5 * squared);
            sums[a] += kernel[a * n + b];
        }
    for (const std::size_t channels : {1u, 8u, 16u, 24u, 32u, 40u, 48u, 56u}) {
        std::vector<float> in(n * channels), base(n * channels, 0.25f), out(n * channels, NAN);
        for (std::size_t i = 0; i < in.size(); ++i)
            in[i] = points[i / channels * dimensions] > 2.0f + 0.01f * static_cast<float>(i % channels);
        PermutohedralLattice::Values values = lattice.make_values(channels);
        for (int again = 0; again < 2; ++again) {  // what was collected before is gone
            lattice.collect(0, n, in.data(), values);
            lattice.blur(values, pool);
        }
        lattice.gather(0, n, values, base.data(), out.data());
        double error = 0.0, size = 0.0;
        for (std::size_t a = 0; a < n; ++a)
            for (std::size_t c = 0; c < channels; ++c) {
                double expected = 0.0;
                for (std::size_t b = 0; b < n; ++b)
                    expected += 2.0 * kernel[a * n + b] / std::sqrt(sums[a] * sums[b]) * in[b * channels + c];
                error += std::abs(out[a * channels + c] - 0.25 - expected);
                size += expected;
            }
        CHECK(error < 0.12 * size);
    }
}

void refuses_points_that_are_too_far_apart() {
    const Image image = make_image(4, 4);
    const std::vector<float> unary = random_unary(2, image.size());
    for (const double tiny : {1e-3, 1e-30}) {
        CHECK_THROWS(std::invalid_argument, "too small", infer(image, unary, {.bilateral_rgb = tiny}));
        CHECK_THROWS(std::invalid_argument, "too small", infer(image, unary, {.gaussian_xy = tiny * 1e-3}));
    }
}

}  // namespace

int main() {
    if (!check::has_kernels()) return check::skipped;
    gives_probabilities();
    is_a_softmax_without_neighbors();
    ways_agree();
    is_the_same_for_any_number_of_threads();
    finds_the_disc();
    filters_like_a_gaussian(2);
    filters_like_a_gaussian(5);
    refuses_points_that_are_too_far_apart();
    return check::result();
}

#include <numeric>

#include "deepspec/color_graph.hpp"
#include "deepspec/pixel_affinity.hpp"
#include "fuzz.hpp"
#include "pixels.hpp"

namespace fuzz {
namespace {

using namespace deepspec;
using pixels::Matrix;

// Of few colours or many, in an order of its own; or without edges, in any.
OrderedGraph random_graph(std::size_t height, std::size_t width, bool with_colors, Random& random) {
    const std::size_t n = height * width;
    ThreadPool pool(static_cast<int>(random.between(1, 4)));
    if (with_colors) {
        const auto levels = static_cast<double>(random.size(1, 255));
        std::vector<double> image(3 * n);
        for (double& value : image) value = std::round(levels * random.uniform(0.0, 1.0)) / levels;
        std::vector<ColorSearch> searches(random.size(1, 3));
        for (auto& [neighbors, weight] : searches) {
            neighbors = random.size(1, 20);
            weight = random.magnitude(1e-2, 1e2);
        }
        return ordered_knn_color_graph({image.data(), height, width}, searches, pool);
    }
    OrderedGraph graph{CountMatrix(n), std::vector<std::int32_t>(n)};
    std::iota(graph.order.begin(), graph.order.end(), 0);
    for (std::size_t v = n - 1; v > 0; --v) std::swap(graph.order[v], graph.order[random.between(0, v)]);
    return graph;
}

// Cells that end within the image, at its border, or beyond.
Cells random_cells(std::size_t height, std::size_t width, Random& random) {
    const Grid grid{random.size(1, 12), random.size(1, 12)};
    if (random.chance(0.3)) return {grid, random.magnitude(0.2, 40.0), random.magnitude(0.2, 40.0)};
    const auto side = [](std::size_t pixels, std::size_t n_cells) {
        return static_cast<double>(std::max<std::size_t>(1, pixels / n_cells));
    };
    return {grid, side(height, grid.height), side(width, grid.width)};
}

// The products of features of few kinds, in [-1, 1]; some are zero.
Matrix random_gram(std::size_t n, Random& random) {
    const std::size_t channels = random.size(1, 8), n_kinds = random.size(1, 6);
    const double noise = random.magnitude(1e-3, 1.0);
    const double missing = random.pick({0.0, 0.05, 0.6});
    const std::vector<double> kinds = random_vector(n_kinds * channels, random);
    Matrix features(n, channels), gram(n, n);
    for (std::size_t a = 0; a < n; ++a) {
        const double* const kind = kinds.data() + random.between(0, n_kinds - 1) * channels;
        const double length = random.chance(missing) ? 0.0 : 1.0;
        for (std::size_t c = 0; c < channels; ++c)
            features(a, c) = length * (kind[c] + noise * random.normal());
    }
    double largest = 1e-300;
    for (std::size_t a = 0; a < n; ++a)
        for (std::size_t b = 0; b < n; ++b) {
            for (std::size_t c = 0; c < channels; ++c) gram(a, b) += features(a, c) * features(b, c);
            largest = std::max(largest, std::abs(gram(a, b)));
        }
    for (double& entry : gram.entries) entry /= largest;
    return gram;
}

Dense positive_part(const Matrix& matrix) {
    Dense result(matrix.rows);
    std::transform(matrix.entries.begin(), matrix.entries.end(), result.entries.begin(),
                   [](double entry) { return std::max(0.0, entry); });
    return result;
}

// Like the matrix, whatever the threads and the vectors beside.
void check_product(const Affinity& affinity, const Matrix& w, Random& random) {
    const std::size_t n = w.rows, count = random.between(1, 4), stride = n + random.between(0, 20);
    const std::vector<double> x = random_vector(count * stride, random);
    std::vector<double> y(x.size()), alone(n);
    ThreadPool pool(static_cast<int>(random.between(1, 4))), other(static_cast<int>(random.between(1, 4)));
    affinity.multiply(x.data(), y.data(), pool, count, stride);
    for (std::size_t v = 0; v < count; ++v) {
        affinity.multiply(x.data() + v * stride, alone.data(), other);
        for (std::size_t i = 0; i < n; ++i) {
            double product = 0.0, sum = 0.0;
            for (std::size_t j = 0; j < n; ++j) {
                product += w(i, j) * x[v * stride + j];
                sum += w(i, j);
            }
            CHECK_NEAR(y[v * stride + i], product, 1e-5 * sum);
            CHECK_EQUAL(alone[i], y[v * stride + i]);
        }
    }
}

void check_edges(const Affinity& affinity, const Matrix& w) {
    Matrix edges(w.rows, w.rows);
    affinity.visit_edges([&](std::size_t i, std::size_t j, double entry) {
        CHECK(entry > 0.0 && entry <= w(i, j) * (1.0 + 1e-4));
        edges(i, j) = edges(j, i) = 1.0;
        return true;
    });
    CHECK(pixels::components(edges) == pixels::components(w));
}

}  // namespace

void try_pixels(Random& random) {
    const std::size_t n = random.chance(0.5) ? random.size(1, 500) : random.between(150, 500);
    const std::size_t height = random.size(1, n), width = n / height;
    const bool with_colors = random.chance(0.7), with_features = !with_colors || random.chance(0.7);
    const OrderedGraph graph = random_graph(height, width, with_colors, random);
    const Cells cells = random_cells(height, width, random);
    const Interpolation lift(cells, width, graph.order);
    const Matrix gram = random_gram(cells.grid.size(), random);
    const std::vector<float> numbers(gram.entries.begin(), gram.entries.end());
    const TiledMatrix affinity_of_cells = tiled(positive_part(gram), random.pick(all_entries));
    const TiledFeatures of_cells(affinity_of_cells);
    const LiftedTiles lifted(of_cells, lift);
    const SampledFeatures sampled(numbers.data(), lift, random.between(0, 1000));
    const bool samples = random.chance(0.3);
    const PixelFeatures* const features = !with_features ? nullptr
                                          : samples      ? static_cast<const PixelFeatures*>(&sampled)
                                                         : &lifted;
    const Matrix of_features = samples ? pixels::visited(sampled, graph.order.size())
                                       : pixels::lifted(pixels::interpolation(cells, width, graph.order),
                                                        pixels::to_matrix(affinity_of_cells));
    const double feature_weight = random.magnitude(1e-3, 10.0), color_weight = random.magnitude(1e-3, 10.0);
    const PixelAffinity affinity(features, feature_weight, graph.matrix, color_weight);
    const Matrix w = pixels::sum(with_features ? feature_weight : 0.0, of_features, color_weight,
                                 pixels::to_matrix(graph.matrix));
    check_product(affinity, w, random);
    check_edges(affinity, w);
    try_solver(affinity, positive_part(w),
               random.pick({LaplacianKind::normalized, LaplacianKind::unnormalized}), largest_eigenpairs_lean,
               random);
}

}  // namespace fuzz

#include <limits>
#include <map>
#include <numeric>

#include "deepspec/dense_crf.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/permutohedral.hpp"
#include "fuzz.hpp"

namespace fuzz {
namespace {

using namespace deepspec;
using Vertex = std::vector<int>;

// The lattice as it is defined: points whose d + 1 coordinates are all congruent modulo d + 1 and sum up to
// 0.
class NaiveLattice {
  public:
    NaiveLattice(const std::vector<double>& points, std::size_t dimensions)
        : d_(static_cast<int>(dimensions)), n_(points.size() / dimensions) {
        for (std::size_t p = 0; p < n_; ++p) enclose(points.data() + p * dimensions);
    }

    // Whether rounding may have put a point beyond the border of its simplex, where other vertices take part.
    bool is_near_border() const { return least_share_ < 2e-5; }

    // The filter, not normalised.
    std::vector<double> filter(const std::vector<double>& in) const {
        std::map<Vertex, double> values;
        for (std::size_t p = 0; p < n_; ++p)
            for (const auto& [vertex, share] : corners_[p]) values[vertex] += share * in[p];
        for (int direction = 0; direction <= d_; ++direction) {
            std::map<Vertex, double> blurred;
            for (const auto& [vertex, value] : values) {
                blurred[vertex] = value;
                for (const int sign : {1, -1}) {
                    Vertex neighbor = vertex;
                    for (int& coordinate : neighbor) coordinate += sign;
                    neighbor[static_cast<std::size_t>(direction)] -= sign * (d_ + 1);
                    const auto found = values.find(neighbor);
                    if (found != values.end()) blurred[vertex] += 0.5 * found->second;
                }
            }
            values = blurred;
        }
        std::vector<double> out(n_, 0.0);
        for (std::size_t p = 0; p < n_; ++p)
            for (const auto& [vertex, share] : corners_[p]) out[p] += share * values.at(vertex);
        return out;
    }

  private:
    void enclose(const double* point) {
        const std::size_t size = static_cast<std::size_t>(d_) + 1;
        std::vector<double> elevated(size, 0.0);
        for (int i = 0; i < d_; ++i) {
            // Along (1, …, 1, -(i + 1), 0, …): orthogonal to all ones.
            const double scaled =
                point[i] * std::sqrt(2.0 / 3.0) * (d_ + 1) / std::sqrt((i + 1.0) * (i + 2.0));
            for (int j = 0; j <= i; ++j) elevated[static_cast<std::size_t>(j)] += scaled;
            elevated[static_cast<std::size_t>(i) + 1] -= (i + 1) * scaled;
        }
        // The nearest point of remainder 0: multiples of d + 1, the farthest rounded ones moved until they
        // sum up to 0.
        Vertex nearest(size);
        std::vector<double> away(size);
        int excess = 0;
        for (std::size_t i = 0; i < size; ++i) {
            nearest[i] = (d_ + 1) * static_cast<int>(std::lround(elevated[i] / (d_ + 1)));
            away[i] = elevated[i] - nearest[i];
            excess += nearest[i] / (d_ + 1);
        }
        for (; excess != 0; excess += excess > 0 ? -1 : 1) {
            const auto worst = excess > 0 ? std::min_element(away.begin(), away.end())
                                          : std::max_element(away.begin(), away.end());
            const int step = excess > 0 ? -(d_ + 1) : d_ + 1;
            nearest[static_cast<std::size_t>(worst - away.begin())] += step;
            *worst -= step;
        }
        std::vector<std::size_t> order(size);  // the coordinates, farthest up first
        std::iota(order.begin(), order.end(), std::size_t{0});
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return away[a] > away[b]; });
        auto& corners = corners_.emplace_back();
        Vertex vertex = nearest;
        for (int k = 0; k <= d_; ++k) {
            const auto at = [&](int i) { return away[order[static_cast<std::size_t>(i)]]; };
            const double share =
                k == 0 ? 1.0 + (at(d_) - at(0)) / (d_ + 1) : (at(d_ - k) - at(d_ + 1 - k)) / (d_ + 1);
            corners.push_back({vertex, share});
            least_share_ = std::min(least_share_, share);
            for (int& coordinate : vertex) ++coordinate;
            vertex[order[static_cast<std::size_t>(d_ - k)]] -= d_ + 1;
        }
    }

    int d_;
    std::size_t n_;
    double least_share_ = 1.0;
    std::vector<std::vector<std::pair<Vertex, double>>> corners_;
};

}  // namespace

void try_lattice(Random& random) {
    const std::size_t n = random.size(1, 300), dimensions = random.pick({2u, 5u});
    const std::size_t channels = random.pick({1u, 8u, 16u, 24u, 32u, 40u, 64u});
    std::vector<double> extents;
    for (std::size_t i = 0; i < dimensions; ++i) extents.push_back(random.magnitude(1e-2, 30.0));
    std::vector<double> points;
    for (std::size_t p = 0; p < n; ++p)
        for (std::size_t i = 0; i < dimensions; ++i)
            points.push_back(static_cast<double>(static_cast<float>(random.uniform(0.0, extents[i]))));
    ThreadPool pool(static_cast<int>(random.between(1, 4)));
    PermutohedralLattice lattice(
        n, extents,
        [&](std::size_t begin, std::size_t end, float* out) {
            for (std::size_t p = begin; p < end; ++p)
                for (std::size_t i = 0; i < dimensions; ++i)
                    out[i * kernels::lattice_block + p - begin] =
                        static_cast<float>(points[p * dimensions + i]);
        },
        pool);
    const double weight = random.magnitude(0.1, 10.0);
    lattice.normalize(weight, pool);
    std::vector<float> in(n * channels), base(n * channels), out(n * channels, NAN);
    for (float& number : in) number = static_cast<float>(random.uniform(-1.0, 1.0));
    for (float& number : base) number = static_cast<float>(random.uniform(-1.0, 1.0));
    PermutohedralLattice::Values values = lattice.make_values(channels);
    for (std::size_t begin = 0; begin < n; begin += 100)
        lattice.collect(begin, std::min(n, begin + 100), in.data() + begin * channels, values);
    lattice.blur(values, pool);
    lattice.gather(0, n, values, base.data(), out.data());

    const NaiveLattice naive(points, dimensions);
    if (naive.is_near_border()) return;
    const std::vector<double> sums = naive.filter(std::vector<double>(n, 1.0));
    const std::size_t channel = random.between(0, channels - 1);
    std::vector<double> numbers(n);
    for (std::size_t p = 0; p < n; ++p)
        numbers[p] = static_cast<double>(in[p * channels + channel]) / std::sqrt(sums[p]);
    const std::vector<double> filtered = naive.filter(numbers);
    for (std::size_t p = 0; p < n; ++p)
        CHECK_NEAR(static_cast<double>(out[p * channels + channel] - base[p * channels + channel]),
                   weight * filtered[p] / std::sqrt(sums[p]), 2e-3 * weight);
}

void try_crf(Random& random) {
    const std::size_t height = random.size(1, 60), width = random.size(1, 400), n = height * width;
    const std::size_t n_labels = random.size(1, 40);
    std::vector<std::uint8_t> image;
    const std::size_t colors = random.pick({1u, 3u, 256u});
    for (std::size_t i = 0; i < 3 * n; ++i)
        image.push_back(static_cast<std::uint8_t>(random.between(0, colors - 1) * (255 / colors)));
    std::vector<float> unary;
    const double scale = random.magnitude(1e-3, 1e6);
    for (std::size_t i = 0; i < n_labels * n; ++i)
        unary.push_back(i >= n && random.chance(0.01) ? std::numeric_limits<float>::infinity()
                                                      : static_cast<float>(random.uniform(-scale, scale)));
    CrfOptions options{.bilateral_xy = random.magnitude(1.0, 200.0),
                       .bilateral_rgb = random.magnitude(2.0, 200.0),
                       .gaussian_xy = random.magnitude(0.5, 50.0),
                       .n_iterations = random.between(0, 4)};
    if (random.chance(0.2)) options.bilateral_weight = 0.0;
    if (random.chance(0.2)) options.gaussian_weight = 0.0;
    const auto infer = [&] {
        ThreadPool pool(static_cast<int>(random.between(1, 4)));
        std::vector<float> posterior(n_labels * n, NAN);
        dense_crf({image.data(), height, width}, unary.data(), n_labels, options, posterior.data(), pool);
        return posterior;
    };
    const std::vector<float> posterior = infer();
    CHECK(posterior == infer());
    for (std::size_t p = 0; p < n; ++p) {
        double sum = 0.0;
        for (std::size_t label = 0; label < n_labels; ++label) {
            const float probability = posterior[label * n + p];
            CHECK(probability >= 0.0f && probability <= 1.0f);
            if (std::isinf(unary[label * n + p])) CHECK(probability < 1e-30f);
            sum += static_cast<double>(probability);
        }
        CHECK_NEAR(sum, 1.0, 1e-5);
    }
}

}  // namespace fuzz

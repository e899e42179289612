// Times each part of the core beside what the machine can do:
//   bench_core [--threads N] [--repetitions N] [--filter NAME]

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <exception>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "deepspec/color_graph.hpp"
#include "deepspec/eigensolver.hpp"
#include "deepspec/feature_gram.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/laplacian.hpp"
#include "deepspec/memory.hpp"
#include "harness.hpp"

using namespace deepspec;

namespace {

constexpr std::array<ColorSearch, 2> searches{{{20, 2.0}, {10, 0.1}}};
constexpr double color_weight = 10.0;

std::string name_of(Grid grid) { return " n=" + std::to_string(grid.size()); }

// In place of a photograph: smooth shading, three discs and sensor noise, in steps of 1/255.
std::vector<double> synthetic_image(Grid grid) {
    std::mt19937 random(1);
    std::normal_distribution noise(0.0, 0.02);
    std::vector<double> pixels;
    for (std::size_t row = 0; row < grid.height; ++row)
        for (std::size_t column = 0; column < grid.width; ++column) {
            const double y = static_cast<double>(row) / static_cast<double>(grid.height);
            const double x = static_cast<double>(column) / static_cast<double>(grid.width);
            std::array<double, 3> rgb{0.3 + 0.3 * y, 0.4 + 0.1 * std::sin(7.0 * x), 0.5 - 0.3 * y};
            for (std::size_t c = 0; c < 3; ++c) {
                const double angle = 2.1 * static_cast<double>(c);
                if (std::hypot(x - 0.5 - 0.25 * std::cos(angle), y - 0.5 - 0.25 * std::sin(angle)) < 0.2)
                    rgb[c] += 0.35;
            }
            for (const double value : rgb)
                pixels.push_back(std::round(255.0 * std::clamp(value + noise(random), 0.0, 1.0)) / 255.0);
        }
    return pixels;
}

// In place of a network's: random waves over colour and position, and noise.
std::vector<float> synthetic_features(Grid grid, std::size_t channels, const std::vector<double>& pixels) {
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<std::array<float, 6>> waves(channels);
    for (auto& wave : waves)
        for (float& coefficient : wave) coefficient = 2.0f * normal(random);
    std::vector<float> features;
    for (std::size_t i = 0; i < grid.size(); ++i) {
        const std::array<float, 6> at{static_cast<float>(pixels[3 * i]),
                                      static_cast<float>(pixels[3 * i + 1]),
                                      static_cast<float>(pixels[3 * i + 2]),
                                      static_cast<float>(i / grid.width) / static_cast<float>(grid.height),
                                      static_cast<float>(i % grid.width) / static_cast<float>(grid.width),
                                      1.0f};
        for (const auto& wave : waves)
            features.push_back(std::cos(std::inner_product(at.begin(), at.end(), wave.begin(), 0.0f)) +
                               0.3f * normal(random));
    }
    return features;
}

// What the arithmetic and the memory of this machine give to loops that do nothing else.
void time_machine(const bench::Table& table, ThreadPool& pool) {
    const auto threads = static_cast<std::size_t>(pool.size());

    // Operands and result of one tile stay in the second-level cache.
    constexpr std::size_t channels = 128, rounds = 200;
    constexpr std::size_t stride = 2 * channels * kernels::panel_size + kernels::tile_entries;
    Buffer<float> operands(threads * stride);
    std::fill_n(operands.data(), operands.size(), 0.5f);
    table.time(
        "machine: multiply-add in cache",
        [&] {
            pool.run(threads, [&](std::size_t thread) {
                float* rows = operands.data() + thread * stride;
                float* columns = rows + channels * kernels::panel_size;
                for (std::size_t round = 0; round < rounds; ++round)
                    kernels::selected().gram(rows, columns, channels, 1.0f, 0.0f,
                                             columns + channels * kernels::panel_size);
            });
        },
        bench::rate(2e-9 * static_cast<double>(threads * rounds * channels * kernels::panel_size *
                                               kernels::panel_size),
                    "GF/s"));

    for (const std::size_t megabytes : {16u, 256u}) {
        const std::string name = "machine: read " + std::to_string(megabytes) + " MB";
        if (!table.wants(name)) continue;
        const std::vector<std::uint64_t> memory((megabytes << 20) / sizeof(std::uint64_t), 1);
        std::vector<std::uint64_t> sums(threads);
        const std::size_t share = memory.size() / threads;
        table.time(
            name,
            [&] {
                pool.run(threads, [&](std::size_t thread) {
                    const std::uint64_t* begin = memory.data() + thread * share;
                    sums[thread] += std::accumulate(begin, begin + share, std::uint64_t{0});
                });
            },
            bench::rate(8e-9 * static_cast<double>(share * threads), "GB/s"));
    }
}

void time_color_graphs(const bench::Table& table, ThreadPool& pool, Grid grid) {
    const std::vector<double> pixels = synthetic_image(grid);
    const ImageView image{pixels.data(), grid.height, grid.width};
    const auto per_pixel = bench::rate(1e-3 * static_cast<double>(grid.size()), "kpixel/s");
    table.time("color knn" + name_of(grid), [&] { knn_color_graph(image, searches, pool); }, per_pixel);
    table.time("color knn_hsv" + name_of(grid), [&] { knn_hsv_color_graph(image, 20, pool); }, per_pixel);
    table.time("color random_walk" + name_of(grid), [&] { random_walk_color_graph(image, pool); }, per_pixel);
}

void time_feature_gram(const bench::Table& table, ThreadPool& pool, Grid grid, std::size_t channels) {
    const std::string name = "feature gram" + name_of(grid) + " C=" + std::to_string(channels);
    if (!table.wants(name)) return;
    const std::vector<float> features = synthetic_features(grid, channels, synthetic_image(grid));
    const FeatureView<float> view{features.data(), grid.height, grid.width, channels};
    const auto n = static_cast<double>(grid.size());
    table.time(
        name, [&] { feature_gram(view, {grid.height, grid.width}, pool); },
        bench::rate(1e-9 * n * (n + 1.0) * static_cast<double>(channels), "GF/s"));
    table.time(
        name + " bf16",
        [&] { feature_gram(view, {.height = grid.height, .width = grid.width, .bfloat16 = true}, pool); },
        bench::rate(1e-9 * n * (n + 1.0) * static_cast<double>(channels), "GF/s"));
    const Grid finer{2 * grid.height, 2 * grid.width};
    const Entries entries = prefers_fixed16(finer.size()) ? Entries::fixed16 : Entries::float32;
    table.time(
        name + " upsampled 2x",
        [&] { feature_gram(view, {.height = finer.height, .width = finer.width, .entries = entries}, pool); },
        bench::rate(16e-9 * n * n, "Gentries/s"));
}

// From the products with the two parts of the affinity to the whole way from features and image to
// eigenpairs.
void time_spectral(const bench::Table& table, ThreadPool& pool, Grid grid) {
    constexpr std::size_t channels = 384, k = 5;
    const std::vector<double> pixels = synthetic_image(grid);
    const std::vector<float> features = synthetic_features(grid, channels, pixels);
    const ImageView image{pixels.data(), grid.height, grid.width};
    const FeatureView<float> view{features.data(), grid.height, grid.width, channels};
    const Entries entries = prefers_fixed16(grid.size()) ? Entries::fixed16 : Entries::float32;
    const GramOptions options{.height = grid.height, .width = grid.width, .entries = entries};

    const TiledMatrix dense = feature_gram(view, options, pool);
    const SparseMatrix sparse = knn_color_graph(image, searches, pool);
    const Affinity color(nullptr, sparse.view(), color_weight);
    const Affinity affinity(&dense, sparse.view(), color_weight);
    const Laplacian laplacian(affinity, LaplacianKind::normalized, pool);

    std::vector<double> x(grid.size(), 1.0), y(grid.size());
    table.time(
        "tiled product" + name_of(grid), [&] { dense.multiply(x.data(), y.data(), pool); },
        bench::rate(1e-9 * TiledMatrix::bytes(grid.size(), options.entries), "GB/s"));
    constexpr std::size_t entry_bytes = sizeof sparse.columns[0] + sizeof sparse.values[0];
    table.time(
        "sparse product" + name_of(grid), [&] { color.multiply(x.data(), y.data(), pool); },
        bench::rate(1e-9 * static_cast<double>(sparse.values.size() * entry_bytes), "GB/s"));
    table.time(
        "laplacian" + name_of(grid), [&] { Laplacian(affinity, LaplacianKind::normalized, pool); },
        [](double) { return ""; });

    Eigenpairs pairs;
    const auto products = [&](double) {
        return std::to_string(pairs.n_products) + " products" + (pairs.converged ? "" : ", NOT CONVERGED");
    };
    for (const std::string solver : {"native", "spectra"})
        table.time(
            "eigensolve k=5 " + solver + name_of(grid),
            [&] { pairs = smallest_eigenpairs(laplacian, k, find_solver(solver), {}, pool); }, products);
    table.time(
        "features to eigenpairs" + name_of(grid),
        [&] {
            const TiledMatrix gram = feature_gram(view, options, pool);
            const SparseMatrix graph = knn_color_graph(image, searches, pool);
            const Affinity fused(&gram, graph.view(), color_weight);
            const Laplacian normalized(fused, LaplacianKind::normalized, pool);
            pairs = smallest_eigenpairs(normalized, k, find_solver("auto"), {}, pool);
        },
        products);
}

void run(const bench::Options& options) {
    ThreadPool pool(options.threads);
    std::printf("%s kernels, %d threads, %d repetitions\n\n", kernels::selected().instruction_set,
                options.threads, options.repetitions);
    const bench::Table table(options);
    time_machine(table, pool);
    for (const Grid grid : {Grid{32, 32}, {64, 64}, {96, 96}}) time_color_graphs(table, pool, grid);
    for (const std::size_t channels : {384u, 768u})
        for (const Grid grid : {Grid{32, 32}, {46, 62}, {64, 64}})
            time_feature_gram(table, pool, grid, channels);
    for (const Grid grid : {Grid{18, 25}, {32, 32}, {46, 62}, {64, 64}}) time_spectral(table, pool, grid);
}

}  // namespace

int main(int argc, char** argv) {
    try {
        run(bench::parse_options(argc, argv));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench_core: %s\n", error.what());
        return 1;
    }
}

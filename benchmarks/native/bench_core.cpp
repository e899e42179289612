// Times each stage of the core beside what the machine can do, and the whole beside its floor:
//   bench_core [--threads N] [--repetitions N] [--channels N] [--cells N] [--filter NAME]

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "deepspec/color_graph.hpp"
#include "deepspec/eigensolver.hpp"
#include "deepspec/feature_gram.hpp"
#include "deepspec/feature_graph.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/laplacian.hpp"
#include "deepspec/memory.hpp"
#include "deepspec/pixel_affinity.hpp"
#include "harness.hpp"
#include "machine.hpp"
#include "problem.hpp"

using namespace deepspec;

namespace {

constexpr std::array<Grid, 4> grids{{{32, 32}, {46, 62}, {64, 64}, {96, 96}}};
constexpr Grid photograph{512, 512};
constexpr std::array<ColorSearch, 2> searches{{{20, 2.0}, {10, 0.1}}};
constexpr double color_weight = 10.0;
constexpr std::size_t k = 5;

// Features and an image of one grid, and the ways through them.
class Problem {
  public:
    Problem(Grid grid, std::size_t channels, ThreadPool& pool)
        : grid_(grid),
          channels_(channels),
          pool_(pool),
          pixels_(bench::synthetic_image(grid)),
          features_(bench::synthetic_features(grid, channels, pixels_)) {}

    std::size_t n() const { return grid_.size(); }
    Grid grid() const { return grid_; }
    std::size_t channels() const { return channels_; }
    ThreadPool& pool() const { return pool_; }

    SparseMatrix color_graph() const {
        return knn_color_graph({pixels_.data(), grid_.height, grid_.width}, searches, pool_);
    }

    TiledMatrix gram(Entries entries, bool bfloat16 = false) const {
        return feature_gram(view(), options(entries, bfloat16), pool_);
    }

    struct Solution {
        Eigenpairs pairs;
        Entries entries;  // of tiles that meet the tolerance, also where the factor was kept instead
    };

    // As deepspec.eigenpairs keeps it.
    FeatureGraph graph(const SparseMatrix& colors, bool bfloat16) const {
        const FeatureGraphOptions graph_options{.grid = grid_, .fast = bfloat16, .k = k};
        return FeatureGraph(ScaledFeatures(view(), true, pool_), colors.view(), color_weight, graph_options,
                            pool_);
    }

    // From features and image to eigenpairs.
    Solution solve(bool bfloat16) const {
        const SparseMatrix colors = color_graph();
        const FeatureGraph graph = this->graph(colors, bfloat16);
        return {smallest_eigenpairs(graph.laplacian(), k, find_solver("auto"), {.grid = grid_}, pool_),
                graph.entries().value_or(entries_to_try(n(), bfloat16).front())};
    }

  private:
    FeatureView<float> view() const { return {features_.data(), grid_.height, grid_.width, channels_}; }

    GramOptions options(Entries entries, bool bfloat16) const {
        return {.height = grid_.height, .width = grid_.width, .entries = entries, .bfloat16 = bfloat16};
    }

    Grid grid_;
    std::size_t channels_;
    ThreadPool& pool_;
    std::vector<double> pixels_;
    std::vector<float> features_;
};

std::string title_of(Grid grid) {
    return "n = " + std::to_string(grid.size()) + " (" + std::to_string(grid.height) + " x " +
           std::to_string(grid.width) + ")";
}

// Operations of half a Gram matrix, in thousands of millions.
double gram_work(std::size_t n, std::size_t channels) {
    const auto rows = static_cast<double>(n);
    return 1e-9 * rows * (rows + 1.0) * static_cast<double>(channels);
}

void time_machine(const bench::Options& options, ThreadPool& pool) {
    bench::Group machine("machine", options);
    machine.add(bench::float32_peak(pool));
    machine.add(bench::fixed16_peak(pool));
    if (kernels::has_bfloat16()) machine.add(bench::bfloat16_peak(pool));
    for (const double megabytes : {1.0, 8.0, 17.0, 256.0})
        machine.add(bench::read_peak(1e6 * megabytes, pool));
    machine.run();
}

void time_color_graphs(const bench::Options& options, ThreadPool& pool, Grid grid) {
    const std::vector<double> pixels = bench::synthetic_image(grid);
    const ImageView image{pixels.data(), grid.height, grid.width};
    const double kilopixels = 1e-3 * static_cast<double>(grid.size());
    bench::Group graphs(title_of(grid), options);
    const auto add = [&](const char* name, const std::function<void()>& work) {
        graphs.add({name, work, kilopixels, "kpix/s"});
    };
    add("color knn", [&] { knn_color_graph(image, searches, pool); });
    add("color knn_hsv", [&] { knn_hsv_color_graph(image, 20, pool); });
    add("color random_walk", [&] { random_walk_color_graph(image, pool); });
    graphs.run();
}

// Products of two vectors with the affinity of all pixels, whose features have a cell for 8 x 8 of them.
void time_pixel_affinity(const bench::Options& options, ThreadPool& pool, Grid grid) {
    const Grid cells{grid.height / 8, grid.width / 8};
    const std::vector<double> pixels = bench::synthetic_image(grid);
    const OrderedGraph graph =
        ordered_knn_color_graph({pixels.data(), grid.height, grid.width}, searches, pool);
    const auto channels = static_cast<std::size_t>(options.channels);
    const auto features = bench::synthetic_features(cells, channels, bench::synthetic_image(cells));
    const TiledMatrix gram =
        feature_gram(FeatureView<float>{features.data(), cells.height, cells.width, channels},
                     {.height = cells.height, .width = cells.width, .entries = Entries::fixed16}, pool);
    const TiledFeatures of_cells(gram);
    const LiftedTiles lifted(of_cells, Interpolation({cells, 8.0, 8.0}, grid.width, graph.order));
    const PixelAffinity of_features(&lifted, 1.0, graph.matrix, 0.0);
    const PixelAffinity of_colors(nullptr, 0.0, graph.matrix, color_weight);
    const PixelAffinity both(&lifted, 1.0, graph.matrix, color_weight);

    constexpr std::size_t entry_bytes = sizeof graph.matrix.columns[0] + sizeof graph.matrix.counts[0];
    const double color_gigabytes = 1e-9 * static_cast<double>(graph.matrix.columns.size() * entry_bytes);
    const double gram_gigabytes = 1e-9 * TiledMatrix::bytes(gram.size(), Entries::fixed16);
    const std::vector<double> x(2 * grid.size(), 1.0);
    std::vector<double> y(x.size());
    bench::Group products(title_of(grid) + ", two vectors", options);
    const bench::Part& read = products.add(bench::read_peak(1e9 * (color_gigabytes + gram_gigabytes), pool));
    const auto add = [&](const char* name, const PixelAffinity& affinity, double gigabytes) {
        const auto work = [&] { affinity.multiply(x.data(), y.data(), pool, 2, grid.size()); };
        products.add({name, work, gigabytes, "GB/s", &read});
    };
    add("product pixel features", of_features, gram_gigabytes);
    add("product pixel colors", of_colors, color_gigabytes);
    add("product pixels", both, color_gigabytes + gram_gigabytes);
    products.run();
}

// The affinity of a problem from the features of half its grid.
void add_upsampled_gram(bench::Group& group, const Problem& problem, const bench::Part& peak) {
    const Grid fine = problem.grid(), own{fine.height / 2, fine.width / 2};
    const auto features = bench::synthetic_features(own, problem.channels(), bench::synthetic_image(own));
    const GramOptions options{.height = fine.height, .width = fine.width, .entries = Entries::fixed16};
    // Interpolation takes four multiply-adds an entry: of own x fine ones, then of the upper half.
    const auto rows = static_cast<double>(fine.size()), own_rows = static_cast<double>(own.size());
    const double interpolation = 1e-9 * (8.0 * own_rows * rows + 4.0 * rows * (rows + 1.0));
    const auto work = [=, &problem] {
        const FeatureView<float> view{features.data(), own.height, own.width, problem.channels()};
        feature_gram(view, options, problem.pool());
    };
    group.add({"gram upsampled 2x", work, gram_work(own.size(), problem.channels()) + interpolation, "GF/s",
               &peak});
}

// What a way from features to eigenpairs cannot do without: half a Gram matrix at the peak of its
// arithmetic, the products it used at the rate its matrix can be read, and the colour graph.
void print_floor(const std::string& name, const Problem& problem, const Problem::Solution& solution,
                 const bench::Part& whole, const bench::Part& arithmetic, const bench::Part& read,
                 const bench::Part& knn) {
    if (!whole.timed() || !knn.timed()) return;
    const double gram = gram_work(problem.n(), problem.channels()) / arithmetic.amount;
    const double products = static_cast<double>(solution.pairs.n_products) *
                            (1e-9 * TiledMatrix::bytes(problem.n(), solution.entries)) / read.amount;
    std::vector<double> floors, ratios;
    for (std::size_t round = 0; round < whole.seconds.size(); ++round) {
        floors.push_back(gram * arithmetic.seconds[round] + products * read.seconds[round] +
                         knn.seconds[round]);
        ratios.push_back(whole.seconds[round] / floors.back());
    }
    std::printf("floor%s: %.2f ms = gram %.2f + %zu products %.2f + knn %.2f; %.2f ms is %.2f times it\n",
                name.c_str(), 1e3 * bench::median(floors), 1e3 * gram * bench::median(arithmetic.seconds),
                solution.pairs.n_products, 1e3 * products * bench::median(read.seconds),
                1e3 * bench::median(knn.seconds), 1e3 * bench::median(whole.seconds), bench::median(ratios));
}

std::string products_of(const Eigenpairs& pairs) {
    return std::to_string(pairs.n_products) + " products" + (pairs.converged ? "" : ", NOT CONVERGED");
}

void time_stages(const bench::Options& options, ThreadPool& pool, Grid grid) {
    const Problem problem(grid, static_cast<std::size_t>(options.channels), pool);
    const bool has_bfloat16 = kernels::has_bfloat16();
    const Problem::Solution solution = problem.solve(false);
    const double dense_gigabytes = 1e-9 * TiledMatrix::bytes(problem.n(), solution.entries);

    bench::Group stages(title_of(grid) + ", C = " + std::to_string(options.channels), options);
    const bench::Part& float32 = stages.add(bench::float32_peak(pool));
    const bench::Part& fixed16 = stages.add(bench::fixed16_peak(pool));
    const bench::Part* bfloat16 = has_bfloat16 ? &stages.add(bench::bfloat16_peak(pool)) : nullptr;
    const bench::Part& read = stages.add(bench::read_peak(1e9 * dense_gigabytes, pool));

    const bench::Part& knn = stages.add(
        {"color knn", [&] { problem.color_graph(); }, 1e-3 * static_cast<double>(problem.n()), "kpix/s"});
    const double work = gram_work(problem.n(), problem.channels());
    stages.add({"gram float32", [&] { problem.gram(Entries::float32); }, work, "GF/s", &float32});
    stages.add({"gram fixed16", [&] { problem.gram(Entries::fixed16); }, work, "GF/s", &fixed16});
    if (has_bfloat16)
        stages.add(
            {"gram bf16, fixed8", [&] { problem.gram(Entries::fixed8, true); }, work, "GF/s", bfloat16});
    add_upsampled_gram(stages, problem, fixed16);

    const TiledMatrix dense = problem.gram(solution.entries);
    const SparseMatrix sparse = problem.color_graph();
    const FusedAffinity color(nullptr, sparse.view(), color_weight);
    const FusedAffinity affinity(&dense, sparse.view(), color_weight);
    const Laplacian laplacian(affinity, LaplacianKind::normalized, pool);
    constexpr std::size_t entry_bytes = sizeof sparse.columns[0] + sizeof sparse.values[0];
    const double sparse_gigabytes = 1e-9 * static_cast<double>(sparse.values.size() * entry_bytes);
    const std::vector<double> x(2 * problem.n(), 1.0);
    std::vector<double> y(2 * problem.n());
    stages.add(
        {"product dense", [&] { dense.multiply(x.data(), y.data(), pool); }, dense_gigabytes, "GB/s", &read});
    stages.add(
        {"product sparse", [&] { color.multiply(x.data(), y.data(), pool); }, sparse_gigabytes, "GB/s"});
    stages.add({"product of both", [&] { affinity.multiply(x.data(), y.data(), pool); },
                dense_gigabytes + sparse_gigabytes, "GB/s", &read});
    stages.add({"products with two vectors",
                [&] { affinity.multiply(x.data(), y.data(), pool, 2, problem.n()); },
                dense_gigabytes + sparse_gigabytes, "GB/s", &read});
    stages.add({"laplacian", [&] { Laplacian(affinity, LaplacianKind::normalized, pool); },
                dense_gigabytes + sparse_gigabytes, "GB/s", &read});
    for (const std::string solver : {"native", "spectra"}) {
        const auto solve = [&, solver] {
            return smallest_eigenpairs(laplacian, k, find_solver(solver), {.grid = problem.grid()}, pool);
        };
        const Eigenpairs pairs = solve();
        stages.add({"eigensolve " + solver, [=] { solve(); },
                    static_cast<double>(pairs.n_products) * (dense_gigabytes + sparse_gigabytes), "GB/s",
                    &read, products_of(pairs)});
    }

    // In the columns of the rate and of the peak these have nothing: their floor is below.
    const FeatureGraph graph = problem.graph(sparse, false);
    const std::string kept = graph.entries() ? "in tiles" : "by its factor";
    stages.add({.name = "graph as it is kept",
                .work = [&] { problem.graph(sparse, false); },
                .unit = "",
                .remark = kept});
    stages.add({.name = "its product with two vectors",
                .work = [&] { graph.laplacian().apply(x.data(), y.data(), pool, 2, problem.n()); },
                .unit = "",
                .remark = kept});
    const auto add_whole = [&](const char* name, bool fast,
                               const Problem::Solution& found) -> const bench::Part& {
        return stages.add({.name = name,
                           .work = [&, fast] { problem.solve(fast); },
                           .unit = "",
                           .remark = products_of(found.pairs)});
    };
    const bench::Part& whole = add_whole("features to eigenpairs", false, solution);
    const Problem::Solution fast_solution = has_bfloat16 ? problem.solve(true) : solution;
    const bench::Part* fast =
        has_bfloat16 ? &add_whole("features to eigenpairs, fast", true, fast_solution) : nullptr;
    stages.run();
    print_floor("", problem, solution, whole, float32, read, knn);
    if (fast != nullptr) print_floor(", fast", problem, fast_solution, *fast, *bfloat16, read, knn);
}

void run(const bench::Options& options) {
    const auto wants = [&](Grid grid) {
        return options.cells == 0 || grid.size() == static_cast<std::size_t>(options.cells);
    };
    if (std::none_of(grids.begin(), grids.end(), wants) && !wants(photograph))
        throw std::invalid_argument("--cells must be 1024, 2852, 4096, 9216 or 262144, got " +
                                    std::to_string(options.cells));
    ThreadPool pool(options.threads);
    std::printf("%s kernels, %d threads, %d repetitions\n", kernels::selected().instruction_set,
                options.threads, options.repetitions);
    if (options.cells == 0) time_machine(options, pool);
    for (const Grid grid : grids)
        if (wants(grid)) time_stages(options, pool, grid);
    if (!wants(photograph)) return;
    time_color_graphs(options, pool, photograph);
    time_pixel_affinity(options, pool, photograph);
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

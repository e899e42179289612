#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "deepspec/border_distance.hpp"
#include "deepspec/color_graph.hpp"
#include "deepspec/dense_crf.hpp"
#include "deepspec/eigensolver.hpp"
#include "deepspec/feature_gram.hpp"
#include "deepspec/feature_graph.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/laplacian.hpp"
#include "deepspec/memory.hpp"
#include "deepspec/parallel.hpp"
#include "deepspec/pixel_affinity.hpp"
#include "deepspec/sparse.hpp"
#include "deepspec/tiled_matrix.hpp"

namespace py = pybind11;
namespace ds = deepspec;

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;
using Csr = std::tuple<Array<std::int64_t>, Array<std::int32_t>, Array<double>>;
using Features = std::variant<Array<float>, Array<double>>;
using Matrix = std::variant<Array<float>, Array<double>>;

// Gives a vector's memory to numpy.
template <class T>
Array<T> to_array(std::vector<T> values, std::vector<py::ssize_t> shape) {
    auto owner = std::make_unique<std::vector<T>>(std::move(values));
    T* data = owner->data();
    const py::capsule capsule(owner.release(), [](void* p) { delete static_cast<std::vector<T>*>(p); });
    return Array<T>(std::move(shape), data, capsule);
}

template <class T>
Array<T> to_array(std::vector<T> values) {
    const auto size = static_cast<py::ssize_t>(values.size());
    return to_array(std::move(values), {size});
}

Csr to_csr(ds::SparseMatrix matrix) {
    return {to_array(std::move(matrix.row_starts)), to_array(std::move(matrix.columns)),
            to_array(std::move(matrix.values))};
}

ds::SparseView csr_view(const Csr& csr) {
    const auto& [row_starts, columns, values] = csr;
    return {static_cast<std::size_t>(row_starts.size() - 1), row_starts.data(), columns.data(),
            values.data()};
}

ds::ImageView image_view(const Array<double>& image) {
    return {image.data(), static_cast<std::size_t>(image.shape(0)), static_cast<std::size_t>(image.shape(1))};
}

template <class T>
ds::FeatureView<T> feature_view(const Array<T>& features) {
    return {features.data(), static_cast<std::size_t>(features.shape(0)),
            static_cast<std::size_t>(features.shape(1)), static_cast<std::size_t>(features.shape(2))};
}

// A pool whose caller's thread looks for Ctrl-C now and then, and calls `poll`, which may raise: Python tells
// only its main thread of signals.
class InterruptiblePool : public ds::ThreadPool {
  public:
    explicit InterruptiblePool(int threads, py::object poll = py::none())
        : ThreadPool(threads, [poll = std::move(poll)] {
              const py::gil_scoped_acquire gil;
              if (PyErr_CheckSignals() != 0) throw py::error_already_set();
              if (!poll.is_none()) poll();
          }) {}
};

constexpr std::array<ds::ColorSearch, 2> searches{{{20, 2.0}, {10, 0.1}}};
constexpr std::size_t searched_neighbors = 30;

std::size_t color_neighbors(const std::string& method) {
    if (method == "knn") return searched_neighbors;
    if (method == "knn_hsv") return 20;
    if (method == "random_walk") return 9;
    throw py::value_error("the colour affinity must be \"knn\", \"knn_hsv\" or \"random_walk\", got \"" +
                          method + "\"");
}

ds::SparseMatrix make_color_graph(const Array<double>& image, const std::string& method,
                                  ds::ThreadPool& pool) {
    const ds::ImageView view = image_view(image);
    const std::size_t n = view.height * view.width, neighbors = color_neighbors(method);
    ds::require_memory(ds::color_graph_bytes(n, neighbors),
                       "the colour graph of " + std::to_string(n) + " pixels");
    const py::gil_scoped_release release;
    if (method == "knn") return ds::knn_color_graph(view, searches, pool);
    if (method == "knn_hsv") return ds::knn_hsv_color_graph(view, neighbors, pool);
    return ds::random_walk_color_graph(view, pool);
}

Csr color_graph(const Array<double>& image, const std::string& method, int threads) {
    InterruptiblePool pool(threads);
    return to_csr(make_color_graph(image, method, pool));
}

ds::ScaledFeatures scaled(const Features& features, bool normalize, ds::ThreadPool& pool) {
    return std::visit(
        [&](const auto& array) { return ds::ScaledFeatures(feature_view(array), normalize, pool); },
        features);
}

ds::TiledMatrix gram_of(const Features& features, const ds::GramOptions& options, ds::ThreadPool& pool) {
    return ds::feature_gram(scaled(features, options.normalize, pool), options, pool);
}

double gram_bytes(const Features& features, const ds::GramOptions& options, int threads) {
    return std::visit(
        [&](const auto& array) {
            const auto side = [&](int axis) { return static_cast<std::size_t>(array.shape(axis)); };
            return ds::feature_gram_bytes({side(0), side(1)}, side(2), options, threads);
        },
        features);
}

ds::GramOptions pixel_gram_options(std::pair<std::size_t, std::size_t> grid) {
    return {.height = grid.first,
            .width = grid.second,
            .entries = ds::entries_to_try(grid.first * grid.second, false).front()};
}

Array<float> feature_gram(const Features& features, std::pair<std::size_t, std::size_t> grid, bool normalize,
                          int threads) {
    const ds::GramOptions options{grid.first, grid.second, normalize};
    const std::size_t n = options.height * options.width;
    ds::require_memory(gram_bytes(features, options, threads) +
                           static_cast<double>(n) * static_cast<double>(n) * sizeof(float),
                       "the dense affinity of " + std::to_string(n) + " cells");
    Array<float> result({n, n});
    float* out = result.mutable_data();
    InterruptiblePool pool(threads);
    {
        const py::gil_scoped_release release;
        const ds::TiledMatrix gram = gram_of(features, options, pool);
        pool.for_blocks(n, 16, [&](std::size_t begin, std::size_t end) {
            for (std::size_t i = begin; i < end; ++i)
                for (std::size_t j = 0; j < n; ++j) out[i * n + j] = gram.at(i, j);
        });
    }
    return result;
}

ds::LaplacianKind to_kind(const std::string& name) {
    if (name == "normalized") return ds::LaplacianKind::normalized;
    if (name == "unnormalized") return ds::LaplacianKind::unnormalized;
    throw py::value_error("laplacian must be \"normalized\" or \"unnormalized\", got \"" + name + "\"");
}

struct SolveOptions {
    std::size_t k;
    std::string laplacian;
    std::string solver;
    double tolerance;
    std::optional<ds::Grid> grid = {};  // whose cells the vertices are
};

py::dict to_dict(ds::Eigenpairs pairs, const std::vector<double>& degrees) {
    const auto n = static_cast<py::ssize_t>(degrees.size());
    const auto found = static_cast<py::ssize_t>(pairs.values.size());
    py::dict result;
    result["values"] = to_array(std::move(pairs.values));
    result["vectors"] = to_array(std::move(pairs.vectors), {found, n});
    result["degrees"] = to_array(std::vector<float>(degrees.begin(), degrees.end()));
    result["residuals"] = to_array(std::move(pairs.residuals));
    result["n_products"] = pairs.n_products;
    result["converged"] = pairs.converged;
    return result;
}

py::dict solve(const ds::Laplacian& laplacian, const SolveOptions& options, ds::ThreadPool& pool) {
    ds::Eigenpairs pairs;
    {
        const ds::Solver solver = ds::find_solver(options.solver);
        const py::gil_scoped_release release;
        pairs = ds::smallest_eigenpairs(laplacian, options.k, solver,
                                        {.tolerance = options.tolerance, .grid = options.grid}, pool);
    }
    return to_dict(std::move(pairs), laplacian.degrees());
}

py::dict solve(const ds::Affinity& affinity, const SolveOptions& options, ds::ThreadPool& pool) {
    const ds::LaplacianKind kind = to_kind(options.laplacian);
    const auto laplacian = [&] {
        const py::gil_scoped_release release;
        return ds::Laplacian(affinity, kind, pool);
    }();
    return solve(laplacian, options, pool);
}

// Features, a colour image of the grid's size, or both.
py::dict eigenpairs(const std::optional<Features>& features, const std::optional<Array<double>>& image,
                    std::pair<std::size_t, std::size_t> grid, bool normalize, const std::string& color,
                    double color_weight, std::size_t k, const std::string& laplacian,
                    const std::string& solver, double tolerance, const std::string& precision,
                    std::optional<std::pair<double, double>> threshold, double max_memory, int threads,
                    py::object poll) {
    const ds::Grid cells{grid.first, grid.second};
    const SolveOptions solve_options{k, laplacian, solver, tolerance, cells};
    InterruptiblePool pool(threads, std::move(poll));
    ds::SparseMatrix colors;
    std::optional<ds::SparseView> view;
    if (image) {
        colors = make_color_graph(*image, color, pool);
        view = colors.view();
    }
    if (!features) return solve(ds::FusedAffinity(nullptr, view, color_weight), solve_options, pool);
    ds::FeatureGraphOptions options{.grid = cells,
                                    .fast = precision == "fast",
                                    .kind = to_kind(laplacian),
                                    .k = k,
                                    .tolerance = tolerance,
                                    .max_memory = max_memory};
    if (threshold) options.threshold = {threshold->first, threshold->second};
    std::optional<ds::FeatureGraph> graph;
    {
        const py::gil_scoped_release release;
        graph.emplace(scaled(*features, normalize, pool), view, color_weight, options, pool);
    }
    return solve(graph->laplacian(), solve_options, pool);
}

// At most, of one call of `eigenpairs`, beside its arguments.
double eigenpairs_bytes(const std::optional<Features>& features, std::pair<std::size_t, std::size_t> grid,
                        std::size_t k, int threads) {
    const std::size_t n = grid.first * grid.second;
    const ds::GramOptions options{grid.first, grid.second, true, ds::Entries::float32};
    const double gram = features ? gram_bytes(*features, options, threads) : 0.0;
    return gram + ds::TiledMatrix::product_bytes(n, k) + ds::color_graph_bytes(n, color_neighbors("knn")) +
           ds::eigenpairs_bytes(n, k);
}

py::dict sparse_eigenpairs(const Csr& affinity, std::size_t k, const std::string& laplacian,
                           const std::string& solver, double tolerance, int threads) {
    const auto n = static_cast<std::size_t>(std::get<0>(affinity).size() - 1);
    ds::require_memory(ds::eigenpairs_bytes(n, k), "the eigenproblem of " + std::to_string(n) + " vertices");
    InterruptiblePool pool(threads);
    return solve(ds::FusedAffinity(nullptr, csr_view(affinity), 1.0), {k, laplacian, solver, tolerance},
                 pool);
}

py::dict dense_eigenpairs(const Matrix& affinity, std::size_t k, const std::string& laplacian,
                          const std::string& solver, double tolerance, int threads) {
    const std::size_t n =
        std::visit([](const auto& m) { return static_cast<std::size_t>(m.shape(0)); }, affinity);
    ds::require_memory(ds::TiledMatrix::bytes(n, ds::Entries::float32) +
                           ds::TiledMatrix::product_bytes(n, k) + ds::eigenpairs_bytes(n, k),
                       "the eigenproblem of " + std::to_string(n) + " vertices");
    InterruptiblePool pool(threads);
    const ds::TiledMatrix packed = std::visit(
        [&](const auto& m) {
            const auto* data = m.data();
            const py::gil_scoped_release release;
            return ds::pack_dense(data, n, pool);
        },
        affinity);
    return solve(ds::FusedAffinity(&packed, std::nullopt, 0.0), {k, laplacian, solver, tolerance}, pool);
}

using Pixels = Array<std::uint8_t>;

std::vector<double> unit_colors(const Pixels& image) {
    std::vector<double> colors(static_cast<std::size_t>(image.size()));
    for (std::size_t i = 0; i < colors.size(); ++i) colors[i] = image.data()[i] / 255.0;
    return colors;
}

// Without colours every pixel is its own vertex.
ds::OrderedGraph pixel_graph(const Pixels& image, bool with_colors, ds::ThreadPool& pool) {
    const auto height = static_cast<std::size_t>(image.shape(0)),
               width = static_cast<std::size_t>(image.shape(1));
    if (with_colors) {
        const std::vector<double> colors = unit_colors(image);
        return ds::ordered_knn_color_graph({colors.data(), height, width}, searches, pool);
    }
    ds::OrderedGraph graph{ds::CountMatrix(height * width), std::vector<std::int32_t>(height * width)};
    std::iota(graph.order.begin(), graph.order.end(), 0);
    return graph;
}

// From an order of vertices to the image's.
void to_pixels(ds::Eigenpairs& pairs, std::vector<double>& degrees, const std::vector<std::int32_t>& order) {
    const std::size_t n = order.size();
    std::vector<float> numbers(n);
    for (float* vector = pairs.vectors.data(); vector != pairs.vectors.data() + pairs.vectors.size();
         vector += n) {
        for (std::size_t v = 0; v < n; ++v) numbers[static_cast<std::size_t>(order[v])] = vector[v];
        std::copy(numbers.begin(), numbers.end(), vector);
    }
    const std::vector<double> ordered = std::exchange(degrees, std::vector<double>(n));
    for (std::size_t v = 0; v < n; ++v) degrees[static_cast<std::size_t>(order[v])] = ordered[v];
}

// `features` with `grid`, the cells to join, is lifted to the pixels; `gram` is sampled; neither leaves the
// colours. A cell covers `cell` pixels (height, width).
py::dict pixel_eigenpairs(const Pixels& image, const std::optional<Features>& features,
                          const std::optional<Array<float>>& gram, std::pair<std::size_t, std::size_t> grid,
                          std::pair<double, double> cell, double feature_weight, double color_weight,
                          std::size_t k, double tolerance, std::uint64_t seed, int threads,
                          const py::object& poll, const py::object& watch) {
    InterruptiblePool pool(threads, poll);
    const std::function<void(std::size_t, double)> tell = [&](std::size_t n_products, double excess) {
        const py::gil_scoped_acquire gil;
        watch(n_products, excess);
    };
    const ds::SolverOptions options{.tolerance = tolerance, .watch = watch.is_none() ? nullptr : &tell};
    ds::Eigenpairs pairs;
    std::vector<double> degrees;
    {
        const py::gil_scoped_release release;
        const ds::OrderedGraph graph = pixel_graph(image, color_weight > 0.0, pool);
        const ds::Cells cells{{grid.first, grid.second}, cell.first, cell.second};
        std::optional<ds::TiledMatrix> affinity_of_cells;
        std::optional<ds::TiledFeatures> features_of_cells;
        std::unique_ptr<ds::PixelFeatures> part;
        if (features || gram) {
            ds::Interpolation lift(cells, static_cast<std::size_t>(image.shape(1)), graph.order);
            if (gram) {
                part = std::make_unique<ds::SampledFeatures>(gram->data(), std::move(lift), seed);
            } else {
                affinity_of_cells.emplace(gram_of(*features, pixel_gram_options(grid), pool));
                features_of_cells.emplace(*affinity_of_cells);
                part = std::make_unique<ds::LiftedTiles>(*features_of_cells, std::move(lift));
            }
        }
        const ds::PixelAffinity affinity(part.get(), feature_weight, graph.matrix, color_weight);
        const ds::Laplacian laplacian(affinity, ds::LaplacianKind::normalized, pool);
        pairs = ds::smallest_eigenpairs(laplacian, k, ds::largest_eigenpairs_lean, options, pool);
        degrees = laplacian.degrees();
        to_pixels(pairs, degrees, graph.order);
    }
    return to_dict(std::move(pairs), degrees);
}

// relu(F F^T), divided by its largest entry, times vectors (m, p).
Array<double> feature_products(const Features& features, const Array<double>& vectors,
                               std::pair<std::size_t, std::size_t> grid, int threads) {
    InterruptiblePool pool(threads);
    const auto count = static_cast<std::size_t>(vectors.shape(0)),
               n = static_cast<std::size_t>(vectors.shape(1));
    std::vector<double> products(count * n);
    const double* const x = vectors.data();
    {
        const py::gil_scoped_release release;
        const ds::TiledMatrix gram = gram_of(features, pixel_gram_options(grid), pool);
        ds::FusedAffinity(&gram, std::nullopt, 0.0).multiply(x, products.data(), pool, count, n);
    }
    return to_array(std::move(products), {vectors.shape(0), vectors.shape(1)});
}

// At most, of one call of `pixel_eigenpairs`, beside its arguments.
double pixel_eigenpairs_bytes(std::size_t n_pixels, const std::optional<Features>& features, bool sampled,
                              std::pair<std::size_t, std::size_t> grid, std::size_t k, int threads) {
    const double cells = features ? gram_bytes(*features, pixel_gram_options(grid), threads) : 0.0;
    const auto n = static_cast<double>(n_pixels);
    const double graph = ds::ordered_color_graph_bytes(n_pixels, searched_neighbors);
    // Of the graph, at most twice its neighbours stay, of 5 bytes.
    const double part = sampled ? ds::SampledFeatures::bytes(n_pixels)
                                : ds::LiftedFeatures::bytes(n_pixels, grid.first * grid.second);
    const double solve = part + ds::ImplicitAffinity::product_bytes(n_pixels) +
                         ds::lean_eigenpairs_bytes(n_pixels, k) + 10.0 * searched_neighbors * n;
    return cells + std::max(graph, solve);
}

Array<float> dense_crf(const Array<std::uint8_t>& image, const Array<float>& unary, double bilateral_weight,
                       double bilateral_xy, double bilateral_rgb, double gaussian_weight, double gaussian_xy,
                       std::size_t n_iterations, int threads) {
    const ds::RgbView view{image.data(), static_cast<std::size_t>(image.shape(0)),
                           static_cast<std::size_t>(image.shape(1))};
    const auto n_labels = static_cast<std::size_t>(unary.shape(0));
    ds::require_memory(
        ds::dense_crf_bytes(view.size(), n_labels),
        "the CRF of " + std::to_string(view.size()) + " pixels and " + std::to_string(n_labels) + " labels");
    Array<float> posterior({unary.shape(0), unary.shape(1), unary.shape(2)});
    float* const out = posterior.mutable_data();
    InterruptiblePool pool(threads);
    const py::gil_scoped_release release;
    ds::dense_crf(view, unary.data(), n_labels,
                  {bilateral_weight, bilateral_xy, bilateral_rgb, gaussian_weight, gaussian_xy, n_iterations},
                  out, pool);
    return posterior;
}

std::pair<Array<float>, Array<float>> border_distances(const Array<float>& grid) {
    ds::BorderDistances distances;
    {
        const py::gil_scoped_release release;
        distances = ds::border_distances(grid.data(), static_cast<std::size_t>(grid.shape(0)),
                                         static_cast<std::size_t>(grid.shape(1)),
                                         static_cast<std::size_t>(grid.shape(2)));
    }
    const std::vector<py::ssize_t> shape{grid.shape(0), grid.shape(1)};
    return {to_array(std::move(distances.geodesic), shape), to_array(std::move(distances.barrier), shape)};
}

std::string compiler() {
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#elif defined(_MSC_VER)
    return "msvc " + std::to_string(_MSC_VER);
#else
    return "unknown";
#endif
}

py::dict build_info() {
    py::dict info;
    info["version"] = DEEPSPEC_VERSION;
    info["compiler"] = compiler();
#ifdef NDEBUG
    info["build"] = "release";
#else
    info["build"] = "debug";
#endif
    info["instruction_set"] = ds::kernels::selected().instruction_set;
    info["bfloat16"] = ds::kernels::has_bfloat16();
    return info;
}

}  // namespace

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
    m.doc() = "The native core. Arguments are checked by the Python modules that call it.";
    py::register_exception_translator([](std::exception_ptr thrown) {
        try {
            if (thrown) std::rethrow_exception(thrown);
        } catch (const ds::InsufficientMemory& error) {
            PyErr_SetString(PyExc_MemoryError, error.what());
        }
    });
    m.attr("__version__") = DEEPSPEC_VERSION;
    m.def("build_info", &build_info);
    m.def("default_threads", &ds::default_threads);
    m.def("available_memory", &ds::available_memory);
    m.def("release_kept_memory", &ds::release_kept_memory);
    m.def("color_graph", &color_graph, py::arg("image"), py::kw_only(), py::arg("method"),
          py::arg("threads"));
    m.def("feature_gram", &feature_gram, py::arg("features"), py::kw_only(), py::arg("grid"),
          py::arg("normalize"), py::arg("threads"));
    m.def("eigenpairs", &eigenpairs, py::arg("features"), py::arg("image"), py::kw_only(), py::arg("grid"),
          py::arg("normalize"), py::arg("color"), py::arg("color_weight"), py::arg("k"), py::arg("laplacian"),
          py::arg("solver"), py::arg("tolerance"), py::arg("precision"), py::arg("threshold"),
          py::arg("max_memory"), py::arg("threads"), py::arg("poll") = py::none());
    m.def("eigenpairs_bytes", &eigenpairs_bytes, py::arg("features"), py::kw_only(), py::arg("grid"),
          py::arg("k"), py::arg("threads"));
    m.def("feature_products", &feature_products, py::arg("features"), py::arg("vectors"), py::kw_only(),
          py::arg("grid"), py::arg("threads"));
    m.def("pixel_eigenpairs", &pixel_eigenpairs, py::arg("image"), py::kw_only(), py::arg("features"),
          py::arg("gram"), py::arg("grid"), py::arg("cell"), py::arg("feature_weight"),
          py::arg("color_weight"), py::arg("k"), py::arg("tolerance"), py::arg("seed"), py::arg("threads"),
          py::arg("poll") = py::none(), py::arg("watch") = py::none());
    m.def("pixel_eigenpairs_bytes", &pixel_eigenpairs_bytes, py::arg("n_pixels"), py::kw_only(),
          py::arg("features"), py::arg("sampled"), py::arg("grid"), py::arg("k"), py::arg("threads"));
    m.def("dense_crf", &dense_crf, py::arg("image"), py::arg("unary"), py::kw_only(),
          py::arg("bilateral_weight"), py::arg("bilateral_xy"), py::arg("bilateral_rgb"),
          py::arg("gaussian_weight"), py::arg("gaussian_xy"), py::arg("n_iterations"), py::arg("threads"));
    m.def("border_distances", &border_distances, py::arg("grid"));
    m.def("sparse_eigenpairs", &sparse_eigenpairs, py::arg("affinity"), py::kw_only(), py::arg("k"),
          py::arg("laplacian"), py::arg("solver"), py::arg("tolerance"), py::arg("threads"));
    m.def("dense_eigenpairs", &dense_eigenpairs, py::arg("affinity"), py::kw_only(), py::arg("k"),
          py::arg("laplacian"), py::arg("solver"), py::arg("tolerance"), py::arg("threads"));
}

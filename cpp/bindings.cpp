#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "deepspec/color_graph.hpp"
#include "deepspec/eigensolver.hpp"
#include "deepspec/feature_gram.hpp"
#include "deepspec/kernels/kernels.hpp"
#include "deepspec/laplacian.hpp"
#include "deepspec/memory.hpp"
#include "deepspec/parallel.hpp"
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

// A pool whose caller's thread looks for Ctrl-C now and then.
class InterruptiblePool : public ds::ThreadPool {
  public:
    explicit InterruptiblePool(int threads) : ThreadPool(threads, check_signals) {}

  private:
    static void check_signals() {
        const py::gil_scoped_acquire gil;
        if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    }
};

std::vector<std::pair<std::size_t, double>> default_searches() { return {{20, 2.0}, {10, 0.1}}; }

// make(image, pool) without the GIL.
template <class Make>
Csr color_graph(const Array<double>& image, std::size_t neighbors, int threads, Make make) {
    const ds::ImageView view = image_view(image);
    const std::size_t n = view.height * view.width;
    ds::require_memory(ds::color_graph_bytes(n, neighbors),
                       "the colour graph of " + std::to_string(n) + " pixels");
    ds::SparseMatrix graph;
    {
        const py::gil_scoped_release release;
        InterruptiblePool pool(threads);
        graph = make(view, pool);
    }
    return to_csr(std::move(graph));
}

Csr color_knn(const Array<double>& image, const std::vector<std::pair<std::size_t, double>>& searches,
              int threads) {
    std::vector<ds::ColorSearch> color_searches;
    std::size_t total = 0;
    for (const auto& [neighbors, weight] : searches) {
        color_searches.push_back({neighbors, weight});
        total += neighbors;
    }
    return color_graph(image, total, threads, [&](ds::ImageView view, ds::ThreadPool& pool) {
        return ds::knn_color_graph(view, color_searches, pool);
    });
}

Csr color_knn_hsv(const Array<double>& image, std::size_t neighbors, int threads) {
    return color_graph(image, neighbors, threads, [&](ds::ImageView view, ds::ThreadPool& pool) {
        return ds::knn_hsv_color_graph(view, neighbors, pool);
    });
}

Csr color_random_walk(const Array<double>& image, int threads) {
    return color_graph(image, 9, threads, ds::random_walk_color_graph);
}

ds::TiledMatrix gram_of(const Features& features, const ds::GramOptions& options, ds::ThreadPool& pool) {
    return std::visit([&](const auto& array) { return ds::feature_gram(feature_view(array), options, pool); },
                      features);
}

double gram_bytes(const Features& features, const ds::GramOptions& options, int threads) {
    return std::visit(
        [&](const auto& array) {
            const auto side = [&](int axis) { return static_cast<std::size_t>(array.shape(axis)); };
            return ds::feature_gram_bytes({side(0), side(1)}, side(2), options, threads);
        },
        features);
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
    {
        const py::gil_scoped_release release;
        InterruptiblePool pool(threads);
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
};

py::dict solve(const ds::TiledMatrix* dense, const std::optional<Csr>& sparse, double sparse_weight,
               const SolveOptions& options, ds::ThreadPool& pool) {
    ds::Eigenpairs pairs;
    std::vector<double> degrees;
    {
        const auto view = sparse ? std::optional(csr_view(*sparse)) : std::nullopt;
        const ds::LaplacianKind kind = to_kind(options.laplacian);
        const ds::Solver solver = ds::find_solver(options.solver);
        const py::gil_scoped_release release;
        const ds::Affinity affinity(dense, view, sparse_weight);
        const ds::Laplacian laplacian(affinity, kind, pool);
        pairs = ds::smallest_eigenpairs(laplacian, options.k, solver, {.tolerance = options.tolerance}, pool);
        degrees = laplacian.degrees();
    }
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

py::dict feature_eigenpairs(const Features& features, std::pair<std::size_t, std::size_t> grid,
                            bool normalize, const std::optional<Csr>& colors, double color_weight,
                            std::size_t k, const std::string& laplacian, const std::string& solver,
                            double tolerance, int threads) {
    const std::size_t n = grid.first * grid.second;
    InterruptiblePool pool(threads);
    const auto make_gram = [&](ds::Entries entries) {
        const ds::GramOptions options{grid.first, grid.second, normalize, entries};
        ds::require_memory(gram_bytes(features, options, threads) + ds::eigenpairs_bytes(n, k),
                           "the eigenproblem of " + std::to_string(n) + " cells");
        const py::gil_scoped_release release;
        return gram_of(features, options, pool);
    };
    std::optional<ds::TiledMatrix> gram;
    if (ds::prefers_fixed16(n)) {
        gram = make_gram(ds::Entries::fixed16);
        const auto view = colors ? std::optional(csr_view(*colors)) : std::nullopt;
        const py::gil_scoped_release release;
        if (!ds::tolerates_fixed16(ds::Affinity(&*gram, view, color_weight), tolerance, pool)) gram.reset();
    }
    if (!gram) gram = make_gram(ds::Entries::float32);
    return solve(&*gram, colors, color_weight, {k, laplacian, solver, tolerance}, pool);
}

py::dict sparse_eigenpairs(const Csr& affinity, std::size_t k, const std::string& laplacian,
                           const std::string& solver, double tolerance, int threads) {
    const auto n = static_cast<std::size_t>(std::get<0>(affinity).size() - 1);
    ds::require_memory(ds::eigenpairs_bytes(n, k), "the eigenproblem of " + std::to_string(n) + " vertices");
    InterruptiblePool pool(threads);
    return solve(nullptr, affinity, 1.0, {k, laplacian, solver, tolerance}, pool);
}

py::dict dense_eigenpairs(const Matrix& affinity, std::size_t k, const std::string& laplacian,
                          const std::string& solver, double tolerance, int threads) {
    const std::size_t n =
        std::visit([](const auto& m) { return static_cast<std::size_t>(m.shape(0)); }, affinity);
    ds::require_memory(ds::TiledMatrix::bytes(n, ds::Entries::float32) + ds::eigenpairs_bytes(n, k),
                       "the eigenproblem of " + std::to_string(n) + " vertices");
    InterruptiblePool pool(threads);
    const ds::TiledMatrix packed = std::visit(
        [&](const auto& m) {
            const auto* data = m.data();
            const py::gil_scoped_release release;
            return ds::pack_dense(data, n, pool);
        },
        affinity);
    return solve(&packed, std::nullopt, 0.0, {k, laplacian, solver, tolerance}, pool);
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
    m.def("color_knn", &color_knn, py::arg("image"), py::kw_only(), py::arg("searches") = default_searches(),
          py::arg("threads"));
    m.def("color_knn_hsv", &color_knn_hsv, py::arg("image"), py::kw_only(), py::arg("neighbors") = 20,
          py::arg("threads"));
    m.def("color_random_walk", &color_random_walk, py::arg("image"), py::kw_only(), py::arg("threads"));
    m.def("feature_gram", &feature_gram, py::arg("features"), py::kw_only(), py::arg("grid"),
          py::arg("normalize"), py::arg("threads"));
    m.def("feature_eigenpairs", &feature_eigenpairs, py::arg("features"), py::kw_only(), py::arg("grid"),
          py::arg("normalize"), py::arg("colors"), py::arg("color_weight"), py::arg("k"),
          py::arg("laplacian"), py::arg("solver"), py::arg("tolerance"), py::arg("threads"));
    m.def("sparse_eigenpairs", &sparse_eigenpairs, py::arg("affinity"), py::kw_only(), py::arg("k"),
          py::arg("laplacian"), py::arg("solver"), py::arg("tolerance"), py::arg("threads"));
    m.def("dense_eigenpairs", &dense_eigenpairs, py::arg("affinity"), py::kw_only(), py::arg("k"),
          py::arg("laplacian"), py::arg("solver"), py::arg("tolerance"), py::arg("threads"));
}

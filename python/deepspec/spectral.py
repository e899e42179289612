"""From features and colours to the eigenvectors of their graph's Laplacian (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from deepspec import _core, images

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Image = npt.NDArray[Any]
#: A sparse matrix as the core takes it: row starts (int64), columns (int32), values (float64).
Csr = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Float64]

COLOR_METHODS: dict[str, Callable[..., Csr]] = {
    "knn": _core.color_knn,
    "knn_hsv": _core.color_knn_hsv,
    "random_walk": _core.color_random_walk,
}
LAPLACIANS = ("normalized", "unnormalized")
SOLVERS = ("auto", "native", "spectra")
PRECISIONS = ("standard",)


@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """The smallest eigenpairs of a graph Laplacian.

    Attributes
    ----------
    values : (k,) float64
        Eigenvalues μ, ascending; ``values[0]`` is 0.
    vectors : (k, H', W') float32, or (k, n) from :func:`laplacian_eigenpairs`
        Eigenvectors y with ``(D − W) y = μ D y``, D-orthonormal (orthonormal for the unnormalised Laplacian).
        ``vectors[0]`` is constant and positive. Negative entries are the majority in each of the others;
        where neither sign is one, the entry of largest absolute value is positive.
    degrees : (H', W') or (n,) float32
        The diagonal of D: row sums of W, those below 1e-12 replaced by 1.
    residuals : (k,) float64
        ``‖D^-½((D − W)y − μDy)‖ / ‖D^½y‖``; for the unnormalised Laplacian
        ``‖(D − W)y − μy‖ / (‖y‖ max D)``.
    n_products : int
        How often the Laplacian was applied.
    """

    values: Float64
    vectors: Float32
    degrees: Float32
    residuals: Float64
    n_products: int


class ConvergenceError(RuntimeError):
    """The eigensolver gave up before every residual was within the tolerance.

    Attributes
    ----------
    pairs : Eigenpairs
        What had converged, possibly fewer pairs than asked for.
    """

    def __init__(self, message: str, pairs: Eigenpairs) -> None:
        super().__init__(message)
        self.pairs = pairs

    def __reduce__(self) -> tuple[type[ConvergenceError], tuple[str, Eigenpairs]]:
        return type(self), (str(self), self.pairs)


def eigenpairs(
    features: npt.ArrayLike | None,
    image: npt.ArrayLike | None = None,
    *,
    grid: tuple[int, int] | None = None,
    color_weight: float = 10.0,
    k: int = 5,
    color: str = "knn",
    laplacian: str = "normalized",
    normalize_features: bool = True,
    solver: str = "auto",
    tol: float = 1e-5,
    precision: str = "standard",
    threads: int | None = None,
) -> Eigenpairs:
    """The k smallest eigenpairs of the Laplacian of ``W = W_feat + color_weight · W_color`` (section 3.2).

    Parameters
    ----------
    features : (h, w, C) floating-point array, or None
        Features of a grid of patches, of any scale. ``W_feat = relu(F Fᵀ)`` divided by its largest entry.
        None only with ``color_weight=math.inf``.
    image : (H, W, 3) uint8 or floating point in [0, 1], optional
        The image the features cover, resized to the grid. May be left out, and then ``color_weight`` has no
        effect: there is no colour term.
    grid : (H', W'), optional
        The grid of the graph; features are brought to it by bilinear interpolation. Default: their own, or the
        image's where there are none.
    color_weight : float in [0, inf]
        λ. ``math.inf`` takes the colour affinity alone, 0 the features' alone.
    k : int
        How many eigenpairs, the constant one included; at most H'·W'.
    color : {"knn", "knn_hsv", "random_walk"}
        The colour affinity, see :func:`color_affinity`.
    laplacian : {"normalized", "unnormalized"}
        ``(D − W) y = μ D y`` or ``(D − W) y = μ y``.
    normalize_features : bool
        Scale each feature to length 1 before interpolating. A zero feature stays zero.
    solver : {"auto", "native", "spectra"}
        ``"native"``: Lanczos with full reorthogonalisation and thick restarts; ``"spectra"``: the Spectra
        library's implicitly restarted Lanczos. ``"auto"`` is ``"native"``.
    tol : float
        Largest residual accepted. The features' affinity is held in float32: below about 1e-6 it is out of reach.
    precision : {"standard"}
        float32 affinities.
    threads : int, optional
        Default: ``$DEEPSPEC_NUM_THREADS``, else the cores available. The result does not depend on it.

    Returns
    -------
    Eigenpairs
        Vectors of shape (k, H', W').

    Raises
    ------
    ValueError
        Wrong shapes, types, names or ranges; NaN or infinity; a graph without any edge.
    MemoryError
        The problem does not fit; the message says what it needs.
    ConvergenceError
        The tolerance was not reached; it carries what was found.
    """
    weight = _check_color_weight(color_weight)
    n_threads = _check_threads(threads)
    _check_choice("precision", precision, PRECISIONS)
    options = _solver_options(k, laplacian, solver, tol, n_threads)
    array = None if features is None else _check_features(features)
    colors_needed = weight > 0.0 and image is not None
    _check_choice("color", color, COLOR_METHODS)
    if array is None and not math.isinf(weight):
        raise ValueError(
            f"features may be None only with color_weight=math.inf, got color_weight={color_weight}"
        )
    if math.isinf(weight) and image is None:
        raise ValueError("color_weight=math.inf needs an image")
    picture = None if image is None else _check_image(image)
    shape = _grid_shape(grid, array, picture)
    _check_k(k, math.prod(shape))
    colors = None
    if colors_needed:
        assert picture is not None
        colors = _color_graph(picture, color, n_threads, shape)
    if math.isinf(weight):
        found = _core.sparse_eigenpairs(colors, **options)
    else:
        found = _core.feature_eigenpairs(
            array, grid=shape, normalize=normalize_features, colors=colors, color_weight=weight, **options
        )
    return _to_eigenpairs(found, shape, tol, k)


def laplacian_eigenpairs(
    W: Any,
    k: int = 5,
    *,
    laplacian: str = "normalized",
    solver: str = "auto",
    tol: float = 1e-5,
    threads: int | None = None,
) -> Eigenpairs:
    """The k smallest eigenpairs of the Laplacian of any symmetric affinity.

    Parameters
    ----------
    W : (n, n) scipy.sparse matrix or dense array
        Symmetric, finite, not negative. Sparse ones are used in float64, dense ones in float32.
    k, laplacian, solver, tol, threads
        As in :func:`eigenpairs`.

    Returns
    -------
    Eigenpairs
        Vectors of shape (k, n).

    Raises
    ------
    ValueError, MemoryError, ConvergenceError
        As :func:`eigenpairs`.

    Examples
    --------
    >>> import numpy as np
    >>> two_pairs = np.kron(np.eye(2), np.ones((2, 2)))
    >>> laplacian_eigenpairs(two_pairs, k=3).values.round(6)
    array([0., 0., 1.])
    """
    options = _solver_options(k, laplacian, solver, tol, _check_threads(threads))
    if scipy.sparse.issparse(W):
        matrix = _check_sparse_affinity(W)
        _check_k(k, matrix.shape[0])
        csr = (matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data)
        found = _core.sparse_eigenpairs(csr, **options)
    else:
        dense = np.asarray(W)
        if dense.ndim != 2 or dense.shape[0] != dense.shape[1] or dense.shape[0] == 0:
            raise ValueError(f"W must be square, (n, n), got shape {dense.shape}")
        _check_k(k, dense.shape[0])
        if dense.dtype.kind not in "fiub":
            raise ValueError(f"W must be real, got dtype {dense.dtype}")
        dtype = np.float32 if dense.dtype in (np.float16, np.float32) else np.float64
        found = _core.dense_eigenpairs(np.ascontiguousarray(dense, dtype=dtype), **options)
    return _to_eigenpairs(found, found["degrees"].shape, tol, k)


def color_affinity(
    image: npt.ArrayLike, method: str = "knn", *, threads: int | None = None
) -> scipy.sparse.csr_array:
    """The colour affinity between all pixels of an image.

    Parameters
    ----------
    image : (H, W, 3) uint8 or floating point in [0, 1]
    method : {"knn", "knn_hsv", "random_walk"}
        ``"knn"``: the nearest neighbours in (r, g, b, w·x, w·y), x and y from 0 to 1, found twice: 20 with
        w = 2 and 10 with w = 0.1, a pixel itself among them; each j found from i adds 1 to W_ij and to W_ji.
        ``"knn_hsv"``: Eq. 1 of the paper, ``max(0, 1 − ‖ψ(u) − ψ(v)‖)`` with ψ = (cos h, sin h, s, v, x, y)
        where either pixel is among the other's 20 nearest.
        ``"random_walk"``: ``exp(−900 ‖Δrgb‖²)`` over the 3 × 3 window, positions beyond the border clamped to it.
        Neighbours are exact, ties broken by index.
    threads : int, optional
        As in :func:`eigenpairs`.

    Returns
    -------
    (H·W, H·W) scipy.sparse.csr_array of float64
        Symmetric, columns sorted; pixels in row-major order.

    Raises
    ------
    ValueError
        Not an image, or an unknown method.
    """
    _check_choice("method", method, COLOR_METHODS)
    return _to_csr_array(_color_graph(_check_image(image), method, _check_threads(threads)))


def affinity(
    features: npt.ArrayLike | None,
    image: npt.ArrayLike | None = None,
    *,
    grid: tuple[int, int] | None = None,
    color_weight: float = 10.0,
    color: str = "knn",
    normalize_features: bool = True,
    sparsify: tuple[str, float] | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> scipy.sparse.csr_array:
    """The fused affinity ``W_feat + color_weight · W_color`` as a sparse matrix, for other solvers and for study.

    Parameters
    ----------
    features, image, grid, color_weight, color, normalize_features, threads
        As in :func:`eigenpairs`.
    sparsify : (str, number), optional
        What is kept of W_feat; default all of it.
        ``("strongest", m)``: an entry that is among the m largest of its row or of its column.
        ``("threshold", t)``: entries above t.
        ``("sample", p)``: a random share p of the pairs, as the matting of section 4.4 does with p = 1/256.
    seed : int
        Seed of the sample.

    Returns
    -------
    (n, n) scipy.sparse.csr_array of float64
        n = H'·W', symmetric, columns sorted.

    Raises
    ------
    ValueError, MemoryError
        As :func:`eigenpairs`.
    """
    weight = _check_color_weight(color_weight)
    n_threads = _check_threads(threads)
    _check_choice("color", color, COLOR_METHODS)
    keep = _check_sparsify(sparsify)
    array = None if features is None else _check_features(features)
    if array is None and not math.isinf(weight):
        raise ValueError(
            f"features may be None only with color_weight=math.inf, got color_weight={color_weight}"
        )
    if math.isinf(weight) and image is None:
        raise ValueError("color_weight=math.inf needs an image")
    picture = None if image is None else _check_image(image)
    shape = _grid_shape(grid, array, picture)
    fused = scipy.sparse.csr_array((math.prod(shape),) * 2)
    if not math.isinf(weight):
        gram = _core.feature_gram(array, grid=shape, normalize=normalize_features, threads=n_threads)
        fused = fused + keep(gram, np.random.default_rng(seed))
    if weight > 0.0 and picture is not None:
        colors = _to_csr_array(_color_graph(picture, color, n_threads, shape))
        fused = fused + (colors if math.isinf(weight) else weight * colors)
    fused.sort_indices()
    return fused


def laplacian(W: Any, kind: str = "normalized") -> scipy.sparse.csr_array:
    """The Laplacian of a symmetric affinity: ``I − D^-½ W D^-½``, or ``D − W`` for ``kind="unnormalized"``.

    Parameters
    ----------
    W : (n, n) scipy.sparse matrix or dense array
        Symmetric, finite, not negative.
    kind : {"normalized", "unnormalized"}

    Returns
    -------
    (n, n) scipy.sparse.csr_array of float64
        D holds the row sums of W, those below 1e-12 replaced by 1.

    Raises
    ------
    ValueError
        W is not such a matrix, or an unknown kind.
    """
    _check_choice("kind", kind, LAPLACIANS)
    matrix = _check_sparse_affinity(scipy.sparse.csr_array(W))
    degrees = matrix.sum(axis=1)
    degrees[degrees < 1e-12] = 1.0
    if kind == "unnormalized":
        result = scipy.sparse.diags_array(degrees) - matrix
    else:
        root = scipy.sparse.diags_array(1.0 / np.sqrt(degrees))
        result = scipy.sparse.eye_array(matrix.shape[0]) - root @ matrix @ root
    result = scipy.sparse.csr_array(result)
    result.sort_indices()
    return result


def _to_eigenpairs(found: dict[str, Any], shape: tuple[int, ...], tol: float, k: int) -> Eigenpairs:
    pairs = Eigenpairs(
        values=found["values"],
        vectors=found["vectors"].reshape(-1, *shape),
        degrees=found["degrees"].reshape(shape),
        residuals=found["residuals"],
        n_products=found["n_products"],
    )
    if not found["converged"]:
        largest = pairs.residuals.max(initial=0.0)
        raise ConvergenceError(
            f"found {len(pairs.values)} of {k} eigenpairs with residuals up to {largest:.1e} after "
            f"{pairs.n_products} products, wanted tol={tol:.1e}",
            pairs,
        )
    return pairs


def _color_graph(image: Image, method: str, threads: int, shape: tuple[int, int] | None = None) -> Csr:
    """The colour affinity of an image, resized to `shape` in its own number format."""
    if shape is not None and shape != image.shape[:2]:
        image = images.resize(image, shape)
    scale = 255.0 if image.dtype == np.uint8 else 1.0
    return COLOR_METHODS[method](np.ascontiguousarray(image / scale, dtype=np.float64), threads=threads)


def _to_csr_array(csr: Csr) -> scipy.sparse.csr_array:
    row_starts, columns, values = csr
    n = len(row_starts) - 1
    return scipy.sparse.csr_array((values, columns, row_starts), shape=(n, n))


def _solver_options(k: int, laplacian: str, solver: str, tol: float, threads: int) -> dict[str, Any]:
    _check_choice("laplacian", laplacian, LAPLACIANS)
    _check_choice("solver", solver, SOLVERS)
    if not 0.0 < tol < 1.0:
        raise ValueError(f"tol must be between 0 and 1, got {tol}")
    return {"k": k, "laplacian": laplacian, "solver": solver, "tolerance": float(tol), "threads": threads}


def _check_k(k: int, n: int) -> None:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k <= n:
        raise ValueError(f"k must be a whole number from 1 to the {n} cells of the graph, got {k!r}")


def _check_choice(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def _check_color_weight(color_weight: float) -> float:
    weight = float(color_weight)
    if not weight >= 0.0:
        raise ValueError(f"color_weight must be from 0 to inf, got {color_weight}")
    return weight


def _check_threads(threads: int | None) -> int:
    if threads is None:
        return _core.default_threads()
    if isinstance(threads, bool) or not isinstance(threads, (int, np.integer)) or not 1 <= threads <= 4096:
        raise ValueError(f"threads must be a whole number from 1 to 4096, got {threads!r}")
    return int(threads)


def _check_features(features: npt.ArrayLike) -> Float32 | Float64:
    array = np.asarray(features)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"features must be (h, w, C) with no side of 0, got shape {array.shape}")
    if array.dtype.kind != "f":
        raise ValueError(f"features must be floating point, got dtype {array.dtype}")
    dtype = np.float32 if array.dtype in (np.float16, np.float32) else np.float64
    return np.ascontiguousarray(array, dtype=dtype)


def _check_image(image: npt.ArrayLike) -> Image:
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
        raise ValueError(f"image must be (H, W, 3), got shape {array.shape}")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise ValueError(f"image must be uint8 or floating point, got dtype {array.dtype}")
    if not (array.min() >= 0.0 and array.max() <= 1.0):
        raise ValueError(
            f"image must be in [0, 1] where it is floating point, got {array.min()} … {array.max()}"
        )
    return array


def _grid_shape(
    grid: tuple[int, int] | None, features: Float32 | Float64 | None, image: Image | None
) -> tuple[int, int]:
    if grid is None:
        source = features if features is not None else image
        assert source is not None
        return source.shape[0], source.shape[1]
    if len(grid) != 2 or not all(isinstance(side, (int, np.integer)) and side >= 1 for side in grid):
        raise ValueError(f"grid must be two whole numbers (H', W') of at least 1, got {grid}")
    return int(grid[0]), int(grid[1])


def _check_sparse_affinity(W: Any) -> scipy.sparse.csr_array:
    matrix = scipy.sparse.csr_array(W)
    if matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"W must be square, (n, n), got shape {matrix.shape}")
    if matrix.dtype.kind not in "fiub":
        raise ValueError(f"W must be real, got dtype {matrix.dtype}")
    matrix = matrix.astype(np.float64)
    matrix.sum_duplicates()
    if not (np.isfinite(matrix.data).all() and (matrix.data >= 0.0).all()):
        raise ValueError("W must be finite and not negative")
    asymmetry = abs(matrix - matrix.T)
    if asymmetry.nnz and asymmetry.max() > 1e-6 * matrix.max():
        raise ValueError(f"W must be symmetric, but W - W.T has an entry of {asymmetry.max():g}")
    return matrix


def _check_sparsify(
    sparsify: tuple[str, float] | None,
) -> Callable[[Float32, np.random.Generator], scipy.sparse.csr_array]:
    """What turns the dense W_feat into what is kept of it."""
    if sparsify is None:
        return lambda gram, rng: scipy.sparse.csr_array(gram, dtype=np.float64)
    how, amount = sparsify if isinstance(sparsify, tuple) and len(sparsify) == 2 else ("", 0.0)
    if how == "strongest" and amount >= 1 and int(amount) == amount:
        return lambda gram, rng: _keep_strongest(gram, int(amount))
    if how == "threshold" and 0.0 <= amount <= 1.0:
        return lambda gram, rng: scipy.sparse.csr_array(np.where(gram > amount, gram, 0.0), dtype=np.float64)
    if how == "sample" and 0.0 < amount <= 1.0:
        return lambda gram, rng: _keep_sample(gram, amount, rng)
    raise ValueError(
        "sparsify must be ('strongest', a whole number of at least 1), ('threshold', 0 … 1) or "
        f"('sample', a share above 0 and up to 1), got {sparsify!r}"
    )


def _keep_strongest(gram: Float32, m: int) -> scipy.sparse.csr_array:
    n = len(gram)
    # A stable sort: of equal entries the first columns are kept.
    columns = np.argsort(-gram, axis=1, kind="stable")[:, : min(m, n)]
    kept = np.zeros((n, n), dtype=bool)
    np.put_along_axis(kept, columns, True, axis=1)
    return scipy.sparse.csr_array(np.where(kept | kept.T, gram, 0.0), dtype=np.float64)


def _keep_sample(gram: Float32, share: float, rng: np.random.Generator) -> scipy.sparse.csr_array:
    # Pairs are drawn once, on the upper triangle, and mirrored.
    drawn = np.triu(rng.random(gram.shape) < share)
    return scipy.sparse.csr_array(np.where(drawn | drawn.T, gram, 0.0), dtype=np.float64)

"""From features and colours to the graph: the fused affinity and its Laplacian (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from deepspec import _core, images
from deepspec.checks import check_choice, check_color_weight, check_whole

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating[Any]]
Image = npt.NDArray[Any]
#: A sparse matrix as the core takes it: row starts (int64), columns (int32), values (float64).
Csr = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Float64]

COLOR_METHODS = ("knn", "knn_hsv", "random_walk")
LAPLACIANS = ("normalized", "unnormalized")
AFFINITIES = ("relu", "threshold")


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
        As in :func:`deepspec.eigenpairs`.

    Returns
    -------
    (H·W, H·W) scipy.sparse.csr_array of float64
        Symmetric, columns sorted; pixels in row-major order.

    Raises
    ------
    ValueError
        Not an image, or an unknown method.
    """
    check_choice("method", method, COLOR_METHODS)
    pixels = _to_double(_check_image(image))
    return _to_csr_array(_core.color_graph(pixels, method=method, threads=check_threads(threads)))


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
        As in :func:`deepspec.eigenpairs`.
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
        As :func:`deepspec.eigenpairs`.
    """
    problem = check_problem(features, image, grid, color_weight, color)
    n_threads = check_threads(threads)
    keep = _check_sparsify(sparsify)
    check_whole("seed", seed, 0)
    fused = scipy.sparse.csr_array((math.prod(problem.shape),) * 2)
    array, pixels = problem.inputs()
    if array is not None:
        gram = _core.feature_gram(
            array, grid=problem.shape, normalize=bool(normalize_features), threads=n_threads
        )
        fused = fused + keep(gram, np.random.default_rng(seed))
    if pixels is not None:
        colors = _core.color_graph(pixels, method=color, threads=n_threads)
        fused = fused + problem.color_weight * _to_csr_array(colors)
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
    check_choice("kind", kind, LAPLACIANS)
    matrix = check_sparse_affinity(W)
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


@dataclass(frozen=True)
class Problem:
    """What a fused graph is made of, checked."""

    features: Floats | None  # None: the colour affinity alone
    image: Image | None  # None: the features' affinity alone
    shape: tuple[int, int]
    color_weight: float  # finite: 1 where the colour is alone

    def inputs(self) -> tuple[Float32 | Float64 | None, Float64 | None]:
        """Features and image as the core takes them, the image on the grid."""
        features = image = None
        if self.features is not None:
            dtype = np.float32 if self.features.dtype in (np.float16, np.float32) else np.float64
            features = np.ascontiguousarray(self.features, dtype=dtype)
        if self.image is not None:
            same = self.image.shape[:2] == self.shape
            image = _to_double(self.image if same else images.resize(self.image, self.shape))
        return features, image


def check_problem(
    features: npt.ArrayLike | None,
    image: npt.ArrayLike | None,
    grid: tuple[int, int] | None,
    color_weight: float,
    color: str,
) -> Problem:
    weight = check_color_weight(color_weight)
    check_choice("color", color, COLOR_METHODS)
    array = None if features is None else _check_features(features)
    picture = None if image is None else _check_image(image)
    source = picture if array is None else array
    if math.isinf(weight) and picture is None:
        raise ValueError("color_weight=math.inf needs an image")
    if source is None or (array is None and not math.isinf(weight)):
        raise ValueError(
            f"features may be None only with color_weight=math.inf, got color_weight={color_weight}"
        )
    if grid is None:
        grid = (source.shape[0], source.shape[1])
    elif not (
        isinstance(grid, (tuple, list))
        and len(grid) == 2
        and all(isinstance(side, Integral) and side >= 1 for side in grid)
    ):
        raise ValueError(f"grid must be two whole numbers (H', W') of at least 1, got {grid!r}")
    shape = (int(grid[0]), int(grid[1]))
    if math.isinf(weight):
        return Problem(None, picture, shape, 1.0)
    return Problem(array, picture if weight > 0.0 else None, shape, weight)


def _to_double(image: Image) -> Float64:
    """In [0, 1]."""
    scale = 255.0 if image.dtype == np.uint8 else 1.0
    return np.ascontiguousarray(image / scale, dtype=np.float64)


def _to_csr_array(csr: Csr) -> scipy.sparse.csr_array:
    row_starts, columns, values = csr
    n = len(row_starts) - 1
    return scipy.sparse.csr_array((values, columns, row_starts), shape=(n, n))


def _check_features(features: npt.ArrayLike) -> Floats:
    array = np.asarray(features)
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"features must be (h, w, C) with no side of 0, got shape {array.shape}")
    if array.dtype.kind != "f":
        raise ValueError(f"features must be floating point, got dtype {array.dtype}")
    return array


def check_finite(features: Floats) -> None:
    """As the core does itself, but before it has begun."""
    finite = np.isfinite(features)
    if not finite.all():
        row, column, _ = np.argwhere(~finite)[0]
        raise ValueError(
            f"features must be finite, found NaN or infinity in the cell at row {row}, column {column}"
        )


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


def check_sparse_affinity(W: Any) -> scipy.sparse.csr_array:
    shape = np.shape(W)
    if len(shape) != 2:
        raise ValueError(f"W must be square, (n, n), got shape {shape}")
    matrix = scipy.sparse.csr_array(W)
    if matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"W must be square, (n, n), got shape {matrix.shape}")
    if matrix.dtype.kind not in "fiub":
        raise ValueError(f"W must be real, got dtype {matrix.dtype}")
    if matrix.shape[0] >= 2**31:
        raise ValueError(f"W must have fewer than 2^31 rows, got {matrix.shape[0]}")
    matrix = matrix.astype(np.float64)
    matrix.sum_duplicates()
    if not (np.isfinite(matrix.data).all() and (matrix.data >= 0.0).all()):
        raise ValueError("W must be finite and not negative")
    asymmetry = abs(matrix - matrix.T)
    if asymmetry.nnz and asymmetry.max() > 1e-6 * matrix.max():
        raise ValueError(f"W must be symmetric, but W - W.T has an entry of {asymmetry.max():g}")
    return matrix


def check_threads(threads: int | None) -> int:
    if threads is None:
        return _core.default_threads()
    return check_whole("threads", threads, 1, 4096)


def check_affinity(affinity: str, threshold: float, epsilon: float) -> None:
    check_choice("affinity", affinity, AFFINITIES)
    for name, value in (("threshold", threshold), ("epsilon", epsilon)):
        if not (isinstance(value, Real) and 0.0 <= value <= 1.0):
            raise ValueError(f"{name} must be a number from 0 to 1, got {value!r}")


def _check_sparsify(
    sparsify: tuple[str, float] | None,
) -> Callable[[Float32, np.random.Generator], scipy.sparse.csr_array]:
    """What turns the dense W_feat into what is kept of it."""
    if sparsify is None:
        return lambda gram, rng: scipy.sparse.csr_array(gram, dtype=np.float64)
    how, amount = sparsify if isinstance(sparsify, tuple) and len(sparsify) == 2 else ("", 0.0)
    if not isinstance(amount, Real):
        how = ""
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

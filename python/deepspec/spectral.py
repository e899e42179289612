"""From a graph of features and colours to the eigenvectors of its Laplacian (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from deepspec import _core
from deepspec.graph import LAPLACIANS, check_choice, check_problem, check_sparse_affinity, check_threads

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

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
        The colour affinity, see :func:`deepspec.color_affinity`.
    laplacian : {"normalized", "unnormalized"}
        ``(D − W) y = μ D y`` or ``(D − W) y = μ y``.
    normalize_features : bool
        Scale each feature to length 1 before interpolating. A zero feature stays zero.
    solver : {"auto", "native", "spectra"}
        ``"native"``: Lanczos with full reorthogonalisation and thick restarts; ``"spectra"``: the Spectra
        library's implicitly restarted Lanczos. ``"auto"`` is ``"native"``.
    tol : float
        Largest residual accepted. Below about 1e-6 it is out of reach of the arithmetic on W_feat.
    precision : {"standard"}
        W_feat in float32; above 2048 cells in 16-bit fixed point, an error of up to 2⁻¹⁷ an entry, where the
        degrees are large enough for this to change residuals by less than half of ``tol``.
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
    problem = check_problem(features, image, grid, color_weight, color)
    n_threads = check_threads(threads)
    check_choice("precision", precision, PRECISIONS)
    options = _solver_options(k, laplacian, solver, tol, n_threads)
    shape = problem.shape
    _check_k(k, math.prod(shape))
    found = _core.eigenpairs(
        problem.features,
        problem.pixels(),
        grid=shape,
        normalize=bool(normalize_features),
        color=color,
        color_weight=problem.color_weight,
        **options,
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
    options = _solver_options(k, laplacian, solver, tol, check_threads(threads))
    if scipy.sparse.issparse(W):
        matrix = check_sparse_affinity(W)
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


def _solver_options(k: int, laplacian: str, solver: str, tol: float, threads: int) -> dict[str, Any]:
    check_choice("laplacian", laplacian, LAPLACIANS)
    check_choice("solver", solver, SOLVERS)
    if not (isinstance(tol, Real) and 0.0 < tol < 1.0):
        raise ValueError(f"tol must be a number between 0 and 1, got {tol!r}")
    return {"k": k, "laplacian": laplacian, "solver": solver, "tolerance": float(tol), "threads": threads}


def _check_k(k: int, n: int) -> None:
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= n:
        raise ValueError(f"k must be a whole number from 1 to the {n} cells of the graph, got {k!r}")

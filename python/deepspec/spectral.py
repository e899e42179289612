"""From a graph of features and colours to the eigenvectors of its Laplacian (paper, sections 3.1 and 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from deepspec import _core
from deepspec._crew import Crew, result
from deepspec.checks import check_choice, check_max_memory, check_tol
from deepspec.graph import (
    LAPLACIANS,
    Problem,
    check_affinity,
    check_finite,
    check_problem,
    check_sparse_affinity,
    check_threads,
)

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

SOLVERS = ("auto", "native", "spectra")
#: Precisions of W_feat, and the residual each solves to unless told otherwise.
PRECISIONS = {"standard": 1e-5, "fast": 5e-5}


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
    affinity: str = "relu",
    threshold: float = 0.2,
    epsilon: float = 1e-5,
    color: str = "knn",
    laplacian: str = "normalized",
    normalize_features: bool = True,
    solver: str = "auto",
    tol: float | None = None,
    precision: str = "standard",
    max_memory: float | None = None,
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
    affinity : {"relu", "threshold"}
        The features' affinity. ``"threshold"``: 1 where relu(F Fᵀ), divided by its largest entry, is above `threshold`, 0
        elsewhere, and `epsilon` more everywhere: TokenCut's graph (Wang et al., CVPR 2022), an eighth of a byte an
        entry. It is the same for both precisions.
    threshold, epsilon : float
        In [0, 1]; of ``affinity="threshold"``.
    color : {"knn", "knn_hsv", "random_walk"}
        The colour affinity, see :func:`deepspec.color_affinity`.
    laplacian : {"normalized", "unnormalized"}
        ``(D − W) y = μ D y`` or ``(D − W) y = μ y``.
    normalize_features : bool
        Scale each feature to length 1 before interpolating. A zero feature stays zero.
    solver : {"auto", "native", "spectra"}
        ``"native"``: block Lanczos with thick restarts, its basis orthogonal to rounding, or from a `tol` of 1e-5 on,
        where it is of floats, to a hundredth of `tol`; ``"spectra"``: the Spectra
        library's implicitly restarted Lanczos. ``"auto"`` is ``"native"``.
    tol : float, optional
        Largest residual accepted. Default: 1e-5, or 5e-5 where `precision` is ``"fast"``. Below about 1e-6 it is out
        of reach of the arithmetic on W_feat.
    precision : {"standard", "fast"}
        ``"standard"``: W_feat from float32 products of the features. Above 512 cells it is kept as F Fᵀ and, where few
        entries are negative, what relu takes away; else in 16-bit fixed point, an error of up to 2⁻¹⁷ an entry.
        F is rounded to 16 bits a channel, and fixed point is taken, where the degrees are large enough for this to
        change residuals by less than half of `tol`. ``"fast"``: from products of features rounded to bfloat16, an
        error of up to 2⁻⁷ of an entry of |F| |F|ᵀ, most of which cancels; above 512 cells in 8 bits, where the degrees
        are large enough. `residuals` are then those of the rounded graph; on the unrounded one they stayed below 2e-4
        for networks' features of a thousand cells and more. Where the processor has no such products (``deepspec info``
        tells) the arithmetic is the standard one. Where F Fᵀ is kept as such, only what relu takes away is rounded
        further (on AVX2 to 16 bits).
    max_memory : float, optional
        Bytes that may be used besides the arguments and the colour graph. Default: what the system has. Where the
        packed W_feat (n² bytes in fixed point; less where few entries of F Fᵀ are negative) is above it, its entries are
        worked out again in every product: the memory is then that of the features and of some 170 vectors, the time
        that of C / 2 times as many operations.
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
    n_threads = check_threads(threads)
    question = _check(
        features,
        image,
        grid=grid,
        color_weight=color_weight,
        k=k,
        affinity=affinity,
        threshold=threshold,
        epsilon=epsilon,
        color=color,
        laplacian=laplacian,
        normalize_features=normalize_features,
        solver=solver,
        tol=tol,
        precision=precision,
        max_memory=check_max_memory(max_memory),
    )
    return question.solve(n_threads)


def eigenpairs_batch(
    features: Sequence[npt.ArrayLike | None] | npt.NDArray[Any] | None,
    images: Sequence[npt.ArrayLike | None] | npt.NDArray[Any] | None = None,
    *,
    grid: tuple[int, int] | Sequence[tuple[int, int] | None] | None = None,
    color_weight: float = 10.0,
    k: int = 5,
    affinity: str = "relu",
    threshold: float = 0.2,
    epsilon: float = 1e-5,
    color: str = "knn",
    laplacian: str = "normalized",
    normalize_features: bool = True,
    solver: str = "auto",
    tol: float | None = None,
    precision: str = "standard",
    threads: int | None = None,
) -> list[Eigenpairs]:
    """The eigenpairs of many images, several at a time: `eigenpairs` of each, to the bit, sooner.

    Up to 2048 cells an image is solved by one thread, beside as many others as there are threads; a larger one by
    ⌈(n / 2048)²⌉ threads, more where the images are few. So many are under way as fit into memory.

    Parameters
    ----------
    features : sequence of (h, w, C) floating-point arrays, or one (N, h, w, C) array, or None
        Grids may differ, and channels. None only with ``color_weight=math.inf``.
    images : sequence of (H, W, 3) arrays, optional
        As many as features; sizes may differ. An image may be None.
    grid : (H', W'), optional
        Of all graphs, or a sequence of one for each.
    color_weight, k, affinity, threshold, epsilon, color, laplacian, normalize_features, solver, tol, precision
        Of all of them, as in :func:`eigenpairs`.
    threads : int, optional
        In all. Default: ``$DEEPSPEC_NUM_THREADS``, else the cores available.

    Returns
    -------
    list of Eigenpairs
        In the order of the features.

    Raises
    ------
    ValueError, MemoryError, ConvergenceError
        As :func:`eigenpairs`; the message begins with the item, counted from 0. What the arguments tell is raised
        before any work begins; of what the work shows, the first item's in order.

    Examples
    --------
    >>> import numpy as np
    >>> features = np.random.default_rng(0).random((3, 4, 6, 8))
    >>> [pairs.vectors.shape for pairs in eigenpairs_batch(features, k=2)]
    [(2, 4, 6), (2, 4, 6), (2, 4, 6)]
    """
    n_threads = check_threads(threads)
    items = _items(features, images, grid)
    questions = []
    for index, (array, image, shape) in enumerate(items):
        with _named(index):
            question = _check(
                array,
                image,
                grid=shape,
                color_weight=color_weight,
                k=k,
                affinity=affinity,
                threshold=threshold,
                epsilon=epsilon,
                color=color,
                laplacian=laplacian,
                normalize_features=normalize_features,
                solver=solver,
                tol=tol,
                precision=precision,
            )
            if question.problem.features is not None:
                check_finite(question.problem.features)
            questions.append(question)
    with Crew(n_threads, len(questions)) as crew:
        futures = [crew.submit(question.solve_beside, crew) for question in questions]
        found = []
        for index, future in enumerate(futures):
            with _named(index):
                found.append(result(future))
        return found


def eigenpairs_beside(
    crew: Crew, features: npt.ArrayLike | None, image: npt.ArrayLike | None = None, **options: Any
) -> Eigenpairs:
    """`eigenpairs` in one of the crew's threads; options are all but `threads`."""
    return _check(features, image, **options).solve_beside(crew)


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
    options = {**_solver_options(k, laplacian, solver, tol), "threads": check_threads(threads)}
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
    return to_eigenpairs(found, found["degrees"].shape, tol, k)


@dataclass(frozen=True)
class _Question:
    """What `eigenpairs` is asked, checked."""

    problem: Problem
    options: dict[str, Any]

    def solve(self, threads: int) -> Eigenpairs:
        return self._solve(*self.problem.inputs(), threads)

    def solve_beside(self, crew: Crew) -> Eigenpairs:
        features, image = self.problem.inputs()
        n = math.prod(self.problem.shape)
        wanted = math.ceil((n / _CELLS_A_THREAD) ** 2)
        memory = _core.eigenpairs_bytes(
            features, grid=self.problem.shape, k=self.options["k"], threads=wanted
        )
        with crew.share(wanted, memory) as threads:
            return self._solve(features, image, threads, crew.poll)

    def _solve(
        self,
        features: Float32 | Float64 | None,
        image: Float64 | None,
        threads: int,
        poll: Callable[[], None] | None = None,
    ) -> Eigenpairs:
        shape = self.problem.shape
        found = _core.eigenpairs(
            features,
            image,
            grid=shape,
            color_weight=self.problem.color_weight,
            **self.options,
            threads=threads,
            poll=poll,
        )
        return to_eigenpairs(found, shape, self.options["tolerance"], self.options["k"])


# An affinity of so many cells is solved as fast by two threads in turn with another as by one beside it: beyond, two do
# not fit into a cache.
_CELLS_A_THREAD = 2048


def _check(
    features: npt.ArrayLike | None,
    image: npt.ArrayLike | None,
    *,
    grid: tuple[int, int] | None = None,
    color_weight: float = 10.0,
    k: int = 5,
    affinity: str = "relu",
    threshold: float = 0.2,
    epsilon: float = 1e-5,
    color: str = "knn",
    laplacian: str = "normalized",
    normalize_features: bool = True,
    solver: str = "auto",
    tol: float | None = None,
    precision: str = "standard",
    max_memory: float = math.inf,
) -> _Question:
    problem = check_problem(features, image, grid, color_weight, color)
    check_choice("precision", precision, PRECISIONS)
    check_affinity(affinity, threshold, epsilon)
    options = {
        **_solver_options(k, laplacian, solver, PRECISIONS[precision] if tol is None else tol),
        "color": color,
        "normalize": bool(normalize_features),
        "precision": precision,
        "threshold": (float(threshold), float(epsilon)) if affinity == "threshold" else None,
        "max_memory": max_memory,
    }
    _check_k(k, math.prod(problem.shape))
    return _Question(problem, options)


def _items(features: Any, images: Any, grid: Any) -> list[tuple[Any, Any, Any]]:
    """(features, image, grid) of each item."""
    counts = {}
    for name, values in (("features", features), ("images", images)):
        if values is None:
            continue
        if isinstance(values, (str, bytes)) or not (
            hasattr(values, "__len__") and hasattr(values, "__getitem__")
        ):
            raise ValueError(f"{name} must be a sequence of arrays, got {type(values).__name__}")
        counts[name] = len(values)
    if not counts:
        raise ValueError("features and images are both None: there is nothing to count")
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"there must be as many images as features, got {counts['images']} and {counts['features']}"
        )
    n = next(iter(counts.values()))
    each_grid = isinstance(grid, Sequence) and not all(isinstance(side, Integral) for side in grid)
    if each_grid and len(grid) != n:
        raise ValueError(f"there must be one grid, or one for each of {n} items, got {len(grid)}")
    return [
        (
            None if features is None else features[i],
            None if images is None else images[i],
            grid[i] if each_grid else grid,
        )
        for i in range(n)
    ]


@contextmanager
def _named(index: int) -> Iterator[None]:
    """Errors of a batch's item say which."""
    try:
        yield
    except (ValueError, MemoryError, ConvergenceError) as error:
        error.args = (f"item {index}: {error}", *error.args[1:])
        raise


def to_eigenpairs(found: dict[str, Any], shape: tuple[int, ...], tol: float, k: int) -> Eigenpairs:
    """What the core found; ConvergenceError where it is not what it was asked for."""
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


def _solver_options(k: int, laplacian: str, solver: str, tol: float) -> dict[str, Any]:
    check_choice("laplacian", laplacian, LAPLACIANS)
    check_choice("solver", solver, SOLVERS)
    return {"k": k, "laplacian": laplacian, "solver": solver, "tolerance": check_tol(tol)}


def _check_k(k: int, n: int) -> None:
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= n:
        raise ValueError(f"k must be a whole number from 1 to the {n} cells of the graph, got {k!r}")

"""From features and an image to the eigenvectors of the graph of all its pixels (section 4.4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec import _core
from deepspec.checks import check_choice, check_color_weight, check_max_memory, check_tol, check_whole
from deepspec.coarse_to_fine import TILES, refine, refinement_bytes
from deepspec.features import Features, check_within, evenly
from deepspec.graph import check_threads
from deepspec.pixel_problem import AFFINITIES, SHARE, PixelProblem
from deepspec.spectral import Eigenpairs, to_eigenpairs

#: Told of a stage by name, and of the share of it that is done, in [0, 1]; it may raise to cancel.
StageProgress = Callable[[str, float], None]


def pixel_eigenpairs(
    image: NDArray[np.uint8],
    features: Features | NDArray[np.floating[Any]] | None = None,
    *,
    affinity: str = "patch",
    color_weight: float = 10.0,
    k: int = 5,
    tol: float = 1e-3,
    seed: int = 0,
    max_memory: float | None = None,
    threads: int | None = None,
    progress: StageProgress | None = None,
) -> Eigenpairs:
    """The k smallest eigenpairs of the normalised Laplacian of ``W = W_feat + color_weight · W_knn`` over all pixels.

    W_knn is :func:`deepspec.color_affinity` of the image.

    Parameters
    ----------
    image : (H, W, 3) uint8
    features : Features or (h, w, C) floating-point array, or None
        A bare array covers the image evenly. Each feature is scaled to length 1. Needed unless `color_weight` is
        infinite.
    affinity : {"patch", "patch4", "sampled"}
        W_feat. U is the bilinear interpolation from the features' cells to pixels, F their features and s = 1/256,
        the share of the entries that the paper keeps: it sets the balance of features and colours.
        ``"patch"``: s U relu(F Fᵀ) Uᵀ, an exact product of O(n + p²) operations for n pixels and p cells.
        ``"patch4"``: the same with relu taken on a grid of four times as many rows and columns, which comes close
        to relu(U F Fᵀ Uᵀ) and costs 256 times as much memory for the cells' affinity.
        ``"sampled"``: what the paper has, a random share s of the entries of relu(U F Fᵀ Uᵀ), worked out in every
        product: O(n²) operations.
        The affinity of cells is divided by its largest entry.
    color_weight : float in [0, inf]
        λ. ``math.inf`` takes the colours alone.
    k : int
        The constant one included; at most H·W.
    tol : float
        Largest residual accepted. Eigenvalues that differ by less may be taken for one another.
    seed : int
        Of the sample.
    max_memory : float, optional
        Bytes that may be used besides the arguments, of those the system has. Where the whole graph needs more,
        it is solved on a smaller copy of the image, lifted to the full size and polished there in tiles (see
        `plan`); `residuals` then tell how near this came, and may be above `tol`.
    threads : int, optional
        Default: ``$DEEPSPEC_NUM_THREADS``, else the cores available. The result does not depend on it.
    progress : callable, optional

    Returns
    -------
    Eigenpairs
        Vectors of shape (k, H, W).

    Raises
    ------
    ValueError
        Wrong shapes, types, names or ranges; a graph without any edge.
    MemoryError
        Not even a smaller copy fits; the message says what it needs.
    ConvergenceError
        The tolerance was not reached; it carries what was found.
    """
    problem = _check(image, features, affinity, color_weight, k, seed)
    tol = check_tol(tol)
    n_threads = check_threads(threads)
    report = progress or (lambda stage, share: None)
    chosen = _plan(problem, max_memory, n_threads)
    if chosen.tile is None:
        return _solve(problem, tol, n_threads, report)
    rough = _solve(problem.resized(chosen.working), tol, n_threads, report)
    _core.release_kept_memory()  # polishing has the whole budget
    return refine(problem, rough, chosen.tile, n_threads, report)


@dataclass(frozen=True)
class Plan:
    """How the eigenpairs of an image's pixels will be found.

    Attributes
    ----------
    size : (height, width)
    working : (height, width)
        Of the copy that is solved; the image's own where everything fits.
    tile : int or None
        In pixels, the side of the tiles in which a solution of a smaller copy is polished.
    bytes : int
        About what it takes at most, beside the image and the features.
    """

    size: tuple[int, int]
    working: tuple[int, int]
    tile: int | None
    bytes: int

    @property
    def line(self) -> str:
        """For the screen."""
        line = f"{self.size[1]} x {self.size[0]} pixels: about {self.bytes / 1e6:.0f} MB of memory"
        if self.tile is None:
            return line
        return f"{line}, solved at {self.working[1]} x {self.working[0]} and polished in tiles of {self.tile} pixels"


def plan(
    size: tuple[int, int],
    features: Features | NDArray[np.floating[Any]] | None,
    *,
    affinity: str = "patch",
    k: int = 5,
    max_memory: float | None = None,
    threads: int | None = None,
) -> Plan:
    """How `pixel_eigenpairs` would go about an image of (height, width), and what it would take.

    Parameters
    ----------
    size : (height, width)
    features, affinity, k, max_memory, threads
        As `pixel_eigenpairs` takes them; no features for colours alone.

    Raises
    ------
    ValueError
        As `pixel_eigenpairs`.
    MemoryError
        Not even a smaller copy fits.
    """
    height, width = (check_whole("a side of the image", side, 1) for side in size)
    # Only its size counts: an image of one number.
    image = np.broadcast_to(np.uint8(0), (height, width, 3))
    color_weight = math.inf if features is None else 1.0
    problem = _check(image, features, affinity, color_weight, k, 0)
    return _plan(problem, max_memory, check_threads(threads))


def _solve(problem: PixelProblem, tol: float, threads: int, progress: StageProgress) -> Eigenpairs:
    """The whole graph at once."""
    progress("graph", 0.0)
    most = 1.0

    def watch(n_products: int, excess: float) -> None:
        """Residuals fall by about the same factor from step to step."""
        nonlocal most
        most = max(most, excess)
        progress("eigenvectors", 1.0 - math.log(max(1.0, excess)) / math.log(most) if most > 1.0 else 1.0)

    found = _core.pixel_eigenpairs(**problem.inputs(), tolerance=tol, threads=threads, watch=watch)
    return to_eigenpairs(found, problem.size, tol, problem.k)


def _check(
    image: NDArray[np.uint8], features: Any, affinity: str, color_weight: float, k: int, seed: int
) -> PixelProblem:
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"image must be (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    check_choice("affinity", affinity, AFFINITIES)
    weight = check_color_weight(color_weight)
    check_whole("k", k, 1, pixels.shape[0] * pixels.shape[1])
    check_whole("seed", seed, 0, 2**64 - 1)
    if features is None and not math.isinf(weight):
        raise ValueError(f"features may be None only with color_weight=math.inf, got color_weight={weight}")
    alone = math.isinf(weight)
    return PixelProblem(
        image=pixels,
        features=None if alone else _check_features(features, pixels.shape[:2]),
        affinity=affinity,
        # Of a sample, every entry is whole.
        feature_weight=1.0 if affinity == "sampled" else SHARE,
        color_weight=1.0 if alone else weight,
        k=int(k),
        seed=int(seed),
    )


def _check_features(features: Any, size: tuple[int, ...]) -> Features:
    """As the core takes them."""
    found = features if isinstance(features, Features) else evenly(features, size)
    # Cells of a smaller copy need not be whole pixels of the image: half a cell of slack.
    height, width = (max(0.5, 0.5 * side) for side in found.cell)
    check_within(found, size, (height, width))
    dtype = np.float32 if found.array.dtype in (np.float16, np.float32) else np.float64
    return replace(found, array=np.ascontiguousarray(found.array, dtype))


def _plan(problem: PixelProblem, max_memory: float | None, threads: int) -> Plan:
    """The whole graph where it fits, else the largest copy that does."""
    budget = min(check_max_memory(max_memory), float(_core.available_memory()))
    whole = problem.bytes(problem.size, threads)
    if whole <= budget:
        return Plan(problem.size, problem.size, None, round(whole))
    refused = f"the eigenvectors of {problem.size[1]} x {problem.size[0]} pixels need {whole / 1e6:.0f} MB of memory"
    if problem.sampled:
        raise MemoryError(f"{refused}, there are {budget / 1e6:.0f} MB; affinity='patch' can do with less")
    least = whole
    for working in _copies(problem):
        copy = problem.bytes(working, threads)
        # What was found of it stays beside.
        found = float(working[0] * working[1]) * (4.0 * problem.k + 8.0)
        for tile in TILES:
            needed = max(copy, found + refinement_bytes(problem, tile, threads))
            least = min(least, needed)
            if needed <= budget:
                return Plan(problem.size, working, tile, round(needed))
    smaller = f", {math.ceil(least / 1e6)} MB from a smaller copy" if least < whole else ""
    raise MemoryError(
        f"{refused}{smaller}; there are {budget / 1e6:.0f} MB; "
        f"fewer than {problem.k}, or those of a smaller image, take less"
    )


_SMALLEST_COPY = 64 * 64  # pixels


def _copies(problem: PixelProblem) -> Iterator[tuple[int, int]]:
    """Sizes of smaller copies of an image, each of nine tenths of the pixels, that have as many pixels as vectors."""
    height, width = problem.size
    n_pixels = float(height * width)
    while n_pixels > max(_SMALLEST_COPY, problem.k):
        n_pixels *= 0.9
        scale = math.sqrt(n_pixels / (height * width))
        size = max(1, round(height * scale)), max(1, round(width * scale))
        if size[0] * size[1] >= problem.k:
            yield size

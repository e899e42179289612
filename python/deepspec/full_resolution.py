"""From features and an image to the eigenvectors of the graph of all its pixels (section 4.4)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec import _core, coarse_to_fine
from deepspec.checks import check_choice, check_whole
from deepspec.features import Features
from deepspec.graph import check_threads
from deepspec.pixel_problem import AFFINITIES, PixelProblem
from deepspec.spectral import ConvergenceError, Eigenpairs

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
    """The k smallest eigenpairs of the normalised Laplacian of ``W = s · W_feat + color_weight · W_knn`` over all pixels.

    s is 1/256, the share of W_feat's entries that the paper keeps: it sets the balance of features and colours.
    W_knn is :func:`deepspec.color_affinity` of the image.

    Parameters
    ----------
    image : (H, W, 3) uint8
    features : Features or (h, w, C) floating-point array, or None
        A bare array covers the image evenly. Each feature is scaled to length 1. Needed unless `color_weight` is
        infinite.
    affinity : {"patch", "patch4", "sampled"}
        W_feat. U is the bilinear interpolation from the features' cells to pixels and F their features.
        ``"patch"``: U relu(F Fᵀ) Uᵀ, an exact product of O(n + p²) operations for n pixels and p cells.
        ``"patch4"``: the same with relu taken on a grid of four times as many rows and columns, which comes close
        to relu(U F Fᵀ Uᵀ) and costs 256 times as much memory for the cells' affinity.
        ``"sampled"``: what the paper has, a random 1/256 of the entries of relu(U F Fᵀ Uᵀ), worked out in every
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
        Bytes that may be used besides the arguments; default: what the system has. Where the whole graph needs more,
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
    if not (isinstance(tol, Real) and 0.0 < tol < 1.0):
        raise ValueError(f"tol must be a number between 0 and 1, got {tol!r}")
    n_threads = check_threads(threads)
    report = progress or (lambda stage, share: None)
    chosen = _plan(problem, max_memory, n_threads)
    if chosen.tile is None:
        return solve(problem, float(tol), n_threads, report)
    small = problem.resized(chosen.working)
    rough = solve(small, float(tol), n_threads, report)
    return coarse_to_fine.refine(problem, rough, chosen.tile, n_threads, report)


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
    features: Features | None,
    *,
    affinity: str = "patch",
    k: int = 5,
    max_memory: float | None = None,
    threads: int | None = None,
) -> Plan:
    """How `pixel_eigenpairs` would go about an image of (height, width), and what it would take.

    Raises
    ------
    MemoryError
        Not even a smaller copy fits.
    """
    height, width = (check_whole("a side of the image", side, 1) for side in size)
    return _plan(
        PixelProblem.sketch((height, width), features, affinity, k), max_memory, check_threads(threads)
    )


def solve(problem: PixelProblem, tol: float, threads: int, progress: StageProgress) -> Eigenpairs:
    """The whole graph at once."""
    progress("graph", 0.0)
    started: list[float] = []

    def watch(n_products: int, excess: float) -> None:
        started.append(max(excess, 1.0 + 1e-9))
        progress(
            "eigenvectors",
            float(np.clip(1.0 - math.log(max(excess, 1.0)) / math.log(max(started)), 0.0, 1.0)),
        )

    found = _core.pixel_eigenpairs(
        problem.image, **problem.inputs(threads), k=problem.k, tolerance=tol, threads=threads, watch=watch
    )
    height, width = problem.size
    pairs = Eigenpairs(
        found["values"],
        found["vectors"].reshape(-1, height, width),
        found["degrees"].reshape(height, width),
        found["residuals"],
        found["n_products"],
    )
    if not found["converged"]:
        largest = pairs.residuals.max(initial=0.0)
        raise ConvergenceError(
            f"found {len(pairs.values)} of {problem.k} eigenpairs with residuals up to {largest:.1e} after "
            f"{pairs.n_products} products, wanted tol={tol:.1e}",
            pairs,
        )
    return pairs


def _check(
    image: NDArray[np.uint8], features: Any, affinity: str, color_weight: float, k: int, seed: int
) -> PixelProblem:
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape:
        raise ValueError(f"image must be (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    height, width = pixels.shape[:2]
    check_choice("affinity", affinity, AFFINITIES)
    if not (isinstance(color_weight, Real) and color_weight >= 0.0):
        raise ValueError(f"color_weight must be a number from 0 to inf, got {color_weight!r}")
    check_whole("k", k, 1, height * width)
    check_whole("seed", seed, 0, 2**64 - 1)
    if math.isinf(color_weight):
        features = None
    elif features is None:
        raise ValueError(
            f"features may be None only with color_weight=math.inf, got color_weight={color_weight}"
        )
    elif not isinstance(features, Features):
        array = np.asarray(features)
        cell = (height / array.shape[0], width / array.shape[1]) if array.ndim == 3 and array.size else (1, 1)
        features = Features(array, cell)
    weight = 1.0 if math.isinf(color_weight) else float(color_weight)
    return PixelProblem(
        np.ascontiguousarray(pixels), (height, width), features, affinity, weight, int(k), int(seed)
    )


def _plan(problem: PixelProblem, max_memory: float | None, threads: int) -> Plan:
    """The whole graph where it fits, else the largest copy that does."""
    if max_memory is not None and not (isinstance(max_memory, Real) and max_memory > 0):
        raise ValueError(f"max_memory must be a number of bytes above 0, got {max_memory!r}")
    budget = float(_core.available_memory() if max_memory is None else max_memory)
    needed = problem.bytes(problem.size, threads)
    if needed <= budget:
        return Plan(problem.size, problem.size, None, round(needed))
    refused = f"the eigenvectors of {problem.size[1]} x {problem.size[0]} pixels need {needed / 1e6:.0f} MB of memory"
    if problem.affinity == "sampled":
        raise MemoryError(f"{refused}, there are {budget / 1e6:.0f} MB; affinity='patch' can do with less")
    tile = coarse_to_fine.largest_tile(problem, budget)
    working = _largest_copy(problem, budget, threads)
    if tile is None or working is None:
        least = max(
            coarse_to_fine.refinement_bytes(problem, coarse_to_fine.SMALLEST_TILE),
            problem.bytes(_scaled(problem, _SMALLEST_COPY), threads),
        )
        raise MemoryError(
            f"{refused}, {least / 1e6:.0f} MB from a smaller copy; there are {budget / 1e6:.0f} MB"
        )
    needed = max(coarse_to_fine.refinement_bytes(problem, tile), problem.bytes(working, threads))
    return Plan(problem.size, working, tile, round(needed))


_SMALLEST_COPY = 64 * 64  # pixels


def _scaled(problem: PixelProblem, n_pixels: float) -> tuple[int, int]:
    height, width = problem.size
    scale = min(1.0, math.sqrt(n_pixels / (height * width)))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _largest_copy(problem: PixelProblem, budget: float, threads: int) -> tuple[int, int] | None:
    n_pixels = float(problem.size[0] * problem.size[1])
    while n_pixels > _SMALLEST_COPY:
        n_pixels *= 0.9
        size = _scaled(problem, n_pixels)
        if problem.bytes(size, threads) <= budget:
            return size
    return None

"""The eigenvectors of a smaller copy of an image, brought to its full size in tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray
from PIL import Image

from deepspec import _core
from deepspec.graph import color_affinity
from deepspec.pixel_problem import PixelProblem
from deepspec.spectral import Eigenpairs

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

SMALLEST_TILE, LARGEST_TILE = 128, 1024
_HALO = 24  # pixels around a tile, whose neighbours are looked for and smoothed with its own
_SWEEPS = 4


def refine(
    problem: PixelProblem,
    rough: Eigenpairs,
    tile: int,
    threads: int,
    progress: Callable[[str, float], None],
) -> Eigenpairs:
    """Eigenpairs of all pixels from those of a copy.

    The copy's vectors are interpolated, and in each tile brought nearer to ``(1 − μ) D y = W y``: the features' part
    of W y, which is smooth, is taken from the interpolated vectors, and the colours' is that of the graph of the tile
    and its surroundings; a few Jacobi steps follow the colours' edges. The Rayleigh-Ritz method then makes them
    orthogonal again, and tells their residuals.

    Returns
    -------
    Eigenpairs
        Those of the graph whose colour edges stay within a tile and its surroundings.
    """
    height, width = problem.size
    lift = _Lift.of(problem)
    vectors = np.empty((problem.k, height, width), np.float32)
    for j, vector in enumerate(rough.vectors):
        picture = Image.fromarray(vector).resize((width, height), Image.Resampling.BILINEAR)
        vectors[j] = np.asarray(picture)
    vectors[0] = 1.0
    cells = lift.products(vectors, threads)
    colored = np.empty(
        (problem.k, height, width), np.float32
    )  # of W y, the colours' part; of 1: their degrees
    corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
    lifted = vectors.copy() if len(corners) > 1 else vectors
    for done, (top, left) in enumerate(corners):
        progress("polish", done / len(corners))
        window = _Window.around(top, left, tile, problem.size)
        smooth, product = _polished(problem, lift, lifted, cells, rough.values, window, threads)
        for whole, part in zip((*vectors[1:], *colored), (*smooth[1:], *product), strict=True):
            whole[window.core] = part[window.inner]
    progress("polish", 1.0)
    return _rayleigh_ritz(problem, lift, vectors, colored, threads)


def refinement_bytes(problem: PixelProblem, tile: int) -> float:
    """What `refine` takes, its result included."""
    height, width = problem.size
    n, k = float(height * width), problem.k
    window = float(min(height, tile + 2 * _HALO) * min(width, tile + 2 * _HALO))
    p = float(problem.grid[0] * problem.grid[1])
    # Of all pixels the vectors before and after, their products and degrees; of a tile the graph as it is made.
    return n * (12.0 * k + 4.0) + window * (1800.0 + 48.0 * k) + 4.0 * p * p + 1e6


def largest_tile(problem: PixelProblem, budget: float) -> int | None:
    """The side of the largest tile within so many bytes; None where there is none."""
    tile = LARGEST_TILE
    while tile >= SMALLEST_TILE and refinement_bytes(problem, tile) > budget:
        tile -= SMALLEST_TILE // 2
    return tile if tile >= SMALLEST_TILE else None


@dataclass(frozen=True)
class _Window:
    """A tile within the image, and with what surrounds it."""

    core: tuple[slice, slice]
    outer: tuple[slice, slice]
    inner: tuple[slice, slice]  # the tile within its surroundings

    @classmethod
    def around(cls, top: int, left: int, tile: int, size: tuple[int, int]) -> _Window:
        parts = []
        for begin, side in zip((top, left), size, strict=True):
            end = min(begin + tile, side)
            first, last = max(0, begin - _HALO), min(side, end + _HALO)
            parts.append((slice(begin, end), slice(first, last), slice(begin - first, end - first)))
        core, outer, inner = zip(*parts, strict=True)
        return cls(core, outer, inner)


@dataclass(frozen=True)
class _Lift:
    """s U A Uᵀ: the affinity of cells, lifted to pixels along rows and columns."""

    problem: PixelProblem
    rows: scipy.sparse.csr_array  # (H, h)
    columns: scipy.sparse.csr_array  # (W, w)

    @classmethod
    def of(cls, problem: PixelProblem) -> _Lift:
        axes = zip(problem.size, problem.grid, problem.cell, strict=True)
        rows, columns = (_bilinear(*axis) for axis in axes)
        return cls(problem, rows, columns)

    def products(self, vectors: Float32, threads: int) -> Float64:
        """s A Uᵀ Y for vectors (m, H, W), as (m, h, w)."""
        h, w = self.problem.grid
        features = self.problem.array()
        if features is None:
            return np.zeros((len(vectors), h, w))
        gathered = np.stack([(self.rows.T @ vector) @ self.columns for vector in vectors])
        found = _core.feature_products(
            features,
            np.ascontiguousarray(gathered.reshape(len(vectors), -1), np.float64),
            grid=self.problem.grid,
            threads=threads,
        )
        return self.problem.feature_weight * np.asarray(found).reshape(-1, h, w)

    def spread(self, cells: Float64, window: tuple[slice, slice]) -> Float64:
        """U of cells (m, h, w), as (m, …) of the window's pixels."""
        rows, columns = self.rows[window[0]], self.columns[window[1]]
        return np.stack([(rows @ plane) @ columns.T for plane in cells])


def _bilinear(n_pixels: int, n_cells: int, cell: float) -> scipy.sparse.csr_array:
    """The interpolation along one axis: cell centres aligned, clamped at either end."""
    at = np.clip((np.arange(n_pixels) + 0.5) / cell - 0.5, 0, n_cells - 1)
    low = np.minimum(at.astype(np.int64), n_cells - 1)
    high = np.minimum(low + 1, n_cells - 1)
    pixels = np.arange(n_pixels)
    entries = np.concatenate([1 - (at - low), at - low])
    places = np.concatenate([pixels, pixels]), np.concatenate([low, high])
    return scipy.sparse.csr_array((entries, places), shape=(n_pixels, n_cells))


def _polished(
    problem: PixelProblem,
    lift: _Lift,
    vectors: Float32,
    cells: Float64,
    values: Float64,
    window: _Window,
    threads: int,
) -> tuple[Float64, Float64]:
    """Of the window's pixels the vectors after some steps, and the colours' part of W times these, (k, …) each."""
    outer = window.outer
    shape = vectors[0][outer].shape
    k = len(vectors)
    features = lift.spread(cells, outer).reshape(k, -1).T
    y = np.stack([vector[outer].ravel() for vector in vectors], axis=1).astype(np.float64)
    if problem.color_weight > 0.0:
        colors = problem.color_weight * color_affinity(problem.image[outer], threads=threads)
        degrees = features[:, :1] + colors.sum(axis=1)[:, None]
        for _ in range(_SWEEPS):
            y[:, 1:] = (features[:, 1:] + colors @ y[:, 1:]) / (degrees * (1.0 - values[1:]))
        product = colors @ y
    else:
        product = np.zeros_like(y)
    return y.T.reshape(k, *shape), product.T.reshape(k, *shape)


def _rayleigh_ritz(
    problem: PixelProblem, lift: _Lift, vectors: Float32, colored: Float32, threads: int
) -> Eigenpairs:
    """The best eigenpairs in the span of vectors (k, H, W), the first of which is 1, in their place."""
    k, height, _ = vectors.shape
    cells = lift.products(vectors, threads)

    def blocks() -> Iterator[tuple[slice, Float64, Float64]]:
        """Rows of the image, of their pixels the vectors and W times them, (k, pixels) each."""
        for begin in range(0, height, _ROWS):
            rows = slice(begin, min(begin + _ROWS, height))
            product = lift.spread(cells, (rows, slice(None))) + colored[:, rows]
            yield rows, vectors[:, rows].reshape(k, -1).astype(np.float64), product.reshape(k, -1)

    affinities, masses = np.zeros((k, k)), np.zeros((k, k))
    for _, y, product in blocks():
        affinities += y @ product.T
        masses += (y * product[0]) @ y.T
    # Without the constant vector, whose product is the degrees.
    means = masses[0] / masses[0, 0]
    means[0] = 0.0
    affinities -= (
        np.outer(means, masses[0]) + np.outer(masses[0], means) - masses[0, 0] * np.outer(means, means)
    )
    masses -= masses[0, 0] * np.outer(means, means)
    shares, mix = scipy.linalg.eigh(0.5 * (affinities + affinities.T)[1:, 1:], masses[1:, 1:])
    shares, mix = shares[::-1], mix[:, ::-1]
    degrees = np.empty(vectors.shape[1:], np.float32)
    squares = np.zeros(k - 1)
    total = float(masses[0, 0])
    for rows, y, product in blocks():
        found = mix.T @ (y[1:] - means[1:, None])
        remainder = (
            mix.T @ (product[1:] - means[1:, None] * product[0]) - shares[:, None] * found * product[0]
        )
        squares += (remainder**2 / product[0]).sum(axis=1)
        degrees[rows] = product[0].reshape(degrees[rows].shape)
        vectors[1:, rows] = found.reshape(vectors[1:, rows].shape)
    vectors[0] = 1.0 / math.sqrt(total)
    for vector in vectors[1:]:
        _fix_sign(vector)
    values = np.concatenate([[0.0], np.maximum(0.0, 1.0 - shares)])
    return Eigenpairs(values, vectors, degrees, np.concatenate([[0.0], np.sqrt(squares)]), _SWEEPS + 1)


_ROWS = 64  # of the image, at a time


def _fix_sign(vector: Float32) -> None:
    """The rule of `Eigenpairs.vectors`, in place."""
    positive, negative = np.count_nonzero(vector > 0), np.count_nonzero(vector < 0)
    if 2 * positive > vector.size > positive:
        negated = True
    elif 2 * negative > vector.size > negative:
        negated = False
    else:
        negated = bool(vector.flat[np.abs(vector).argmax()] < 0)
    if negated:
        np.negative(vector, out=vector)

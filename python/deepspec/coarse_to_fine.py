"""The eigenvectors of a smaller copy of an image, brought to its full size in tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

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

#: Sides of tiles to choose from, in pixels; the largest that fits is the best.
TILES = range(1024, 64, -64)
_HALO = 24  # pixels around a tile, whose neighbours are looked for and smoothed with its own
_SWEEPS = 4
_BLOCK = 2**16  # pixels of the rows that the Rayleigh-Ritz method takes at a time


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

    Parameters
    ----------
    problem : PixelProblem
    rough : Eigenpairs
        Of a copy of any size, as many as the problem asks for.
    tile : int
        The side of a tile at most, in pixels.
    threads : int
    progress : callable
        Told of the stage ``"polish"`` and the share of the tiles that are done; it may raise to cancel.

    Returns
    -------
    Eigenpairs
        Those of the graph whose colour edges stay within a tile and its surroundings. `residuals` are exact for one
        tile; of several, what surrounds a tile is taken as it was smoothed there, which makes them some percent too
        small where tiles are as small as 128 pixels.
    """
    lift = _Lift.of(problem)
    vectors, colored = _polished(problem, lift, rough, tile, threads, progress)
    return _rayleigh_ritz(lift, vectors, colored, threads)


def refinement_bytes(problem: PixelProblem, tile: int, threads: int) -> float:
    """What `refine` takes, its result included."""
    height, width = problem.size
    k = problem.k
    # Of all pixels the vectors before and after and their products; then one of them as numbers of 8 bytes.
    whole = height * width * max(12.0 * k, 8.0 * k + 12.0)
    # The graph of a tile as it is made, and what becomes of its vectors.
    window = min(height, tile + 2 * _HALO) * min(width, tile + 2 * _HALO) * (1800.0 + 48.0 * k)
    rows = min(height * width, max(_BLOCK, width)) * 56.0 * k
    return whole + max(window, rows) + problem.bytes_of_cells(threads)


@dataclass(frozen=True)
class _Window:
    """A tile within the image, and with what surrounds it."""

    core: tuple[slice, slice]
    outer: tuple[slice, slice]
    inner: tuple[slice, slice]  # the tile within its surroundings

    @classmethod
    def all(cls, size: tuple[int, int], tile: int) -> list[_Window]:
        """Of tiles of about one size that cover an image."""
        rows, columns = (list(_spans(side, tile)) for side in size)
        return [cls(*zip(row, column, strict=True)) for row in rows for column in columns]


def _spans(side: int, tile: int) -> Iterator[tuple[slice, slice, slice]]:
    """Along one axis: tiles, these with their surroundings, and the former within the latter."""
    n = math.ceil(side / tile)
    for begin, end in pairwise(side * i // n for i in range(n + 1)):
        first, last = max(0, begin - _HALO), min(side, end + _HALO)
        yield slice(begin, end), slice(first, last), slice(begin - first, end - first)


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
        features = self.problem.array
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
    rough: Eigenpairs,
    tile: int,
    threads: int,
    progress: Callable[[str, float], None],
) -> tuple[Float32, Float32]:
    """The vectors (k, H, W), the first of them 1, and the colours' part of W times these."""
    lifted = _enlarged(rough.vectors, problem.size)
    cells = lift.products(lifted, threads)
    vectors, colored = np.empty_like(lifted), np.empty_like(lifted)
    windows = _Window.all(problem.size, tile)
    for done, window in enumerate(windows):
        progress("polish", done / len(windows))
        smooth, product = _smoothed(problem, lift, lifted, cells, rough.values, window, threads)
        for whole, part in zip((*vectors, *colored), (*smooth, *product), strict=True):
            whole[window.core] = part[window.inner]
    progress("polish", 1.0)
    return vectors, colored


def _enlarged(vectors: Float32, size: tuple[int, int]) -> Float32:
    """Vectors (k, h, w) of a copy at the size of the image, the first of them 1."""
    height, width = size
    enlarged = np.empty((len(vectors), height, width), np.float32)
    for large, vector in zip(enlarged, vectors, strict=True):
        picture = Image.fromarray(vector).resize((width, height), Image.Resampling.BILINEAR)
        large[:] = np.asarray(picture)
    enlarged[0] = 1.0
    return enlarged


def _smoothed(
    problem: PixelProblem,
    lift: _Lift,
    vectors: Float32,
    cells: Float64,
    values: Float64,
    window: _Window,
    threads: int,
) -> tuple[Float64, Float64]:
    """Of the window's pixels the vectors after some steps, and the colours' part of W times these, (k, …) each."""
    k = len(vectors)
    y = np.stack([vector[window.outer] for vector in vectors]).astype(np.float64)
    if problem.color_weight == 0.0:
        return y, np.zeros_like(y)
    shape = y.shape
    y = y.reshape(k, -1).T.copy()
    features = lift.spread(cells, window.outer).reshape(k, -1).T
    colors = problem.color_weight * color_affinity(problem.image[window.outer], threads=threads)
    degrees = features[:, :1] + colors.sum(axis=1)[:, None]
    # A step divides by 1 − μ, and so do the errors of all that is smoother: of large μ they would bury the vector.
    polished = np.flatnonzero(values <= 0.5)[1:]
    for _ in range(_SWEEPS):
        y[:, polished] = (features[:, polished] + colors @ y[:, polished]) / (
            degrees * (1.0 - values[polished])
        )
    return y.T.reshape(shape), (colors @ y).T.reshape(shape)


def _rayleigh_ritz(lift: _Lift, vectors: Float32, colored: Float32, threads: int) -> Eigenpairs:
    """The best eigenpairs in the span of vectors (k, H, W), the first of which is 1, in their place."""
    k, height, width = vectors.shape
    cells = lift.products(vectors, threads)
    step = max(1, _BLOCK // width)

    def blocks() -> Iterator[tuple[slice, Float64, Float64]]:
        """Rows of the image, of their pixels the vectors and W times them, (k, pixels) each."""
        for begin in range(0, height, step):
            rows = slice(begin, min(begin + step, height))
            product = lift.spread(cells, (rows, slice(None))) + colored[:, rows]
            yield rows, vectors[:, rows].reshape(k, -1).astype(np.float64), product.reshape(k, -1)

    affinities, masses = np.zeros((k, k)), np.zeros((k, k))
    for _, y, product in blocks():
        affinities += y @ product.T
        masses += (y * product[0]) @ y.T
    total = float(masses[0, 0])
    # Without the constant vector, whose product is the degrees.
    means = masses[0] / total
    means[0] = 0.0
    affinities -= np.outer(means, masses[0]) + np.outer(masses[0], means) - total * np.outer(means, means)
    masses -= total * np.outer(means, means)
    shares, mix = scipy.linalg.eigh(0.5 * (affinities + affinities.T)[1:, 1:], masses[1:, 1:])
    shares, mix = shares[::-1], mix[:, ::-1]
    degrees = np.empty((height, width), np.float32)
    squares = np.zeros(k - 1)
    for rows, y, product in blocks():
        d = product[0]
        isolated = d < 1e-12
        d, y[:, isolated], product[:, isolated] = np.where(isolated, 1.0, d), 0.0, 0.0
        y[1:] -= means[1:, None] * y[0]
        product[1:] -= means[1:, None] * product[0]
        found = mix.T @ y[1:]
        remainder = mix.T @ product[1:] - shares[:, None] * found * d
        squares += (remainder**2 / d).sum(axis=1)
        degrees[rows] = d.reshape(-1, width)
        vectors[0, rows] = y[0].reshape(-1, width) / math.sqrt(total)
        vectors[1:, rows] = found.reshape(k - 1, len(degrees[rows]), width)
    for vector in vectors[1:]:
        _fix_sign(vector)
    values = np.concatenate([[0.0], np.maximum(0.0, 1.0 - shares)])
    return Eigenpairs(values, vectors, degrees, np.concatenate([[0.0], np.sqrt(squares)]), _SWEEPS + 1)


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

"""Graphs over the pixels of an image, from numpy and SciPy: what the full-resolution eigenpairs are those of.

W = W_feat + λ · W_knn, of four feature terms; f are patch features of length 1, U lifts patches to pixels bilinearly:

exact     s · relu(F Fᵀ) / max, with F = U f: the dense affinity the paper samples
patch     s · U relu(f fᵀ) Uᵀ / max
patch4    the same from a grid of four times as many patches a side, whose features are interpolated
sampled   relu(F Fᵀ) at a random s of all pairs, 0 elsewhere: the paper's (section 4.4), literally

with s = 1 / 16². None of them is deepspec's code. `dense` is a float32 matrix of all entries, for solving again and
again; a `Gram` without it works its entries out in every product, in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
import scipy.sparse
from numpy.typing import DTypeLike
from problems import Array, Grid

from deepspec import Features

SHARE = 1 / 16**2  # of all pairs of pixels, that are kept
FINER = 4  # patches of "patch4" for one of "patch", a side
STRIP = 2048  # rows


@dataclass(frozen=True, eq=False)
class PixelProblem:
    """An image (H, W, 3) uint8 and the features of its patches."""

    image: Array
    features: Features

    @property
    def grid(self) -> Grid:
        return self.image.shape[0], self.image.shape[1]

    @property
    def n(self) -> int:
        return self.grid[0] * self.grid[1]


class FeatureTerm(Protocol):
    """W_feat."""

    def product(self, x: Array) -> Array:
        """W_feat x of (n, m) float64."""


class Gram:
    """s · relu(F Fᵀ) divided by its largest entry, of rows F."""

    def __init__(self, rows: Array, scale: float = 1.0, dense: bool = False) -> None:
        self._rows = rows.astype(np.float32 if dense else np.float64)
        # The largest entry is on the diagonal (Cauchy and Schwarz).
        self._scale = scale / float(np.einsum("ic,ic->i", rows, rows).max())
        self._strips = [self._strip(start) for start in self._starts] if dense else None

    def product(self, x: Array) -> Array:
        strips = self._strips or map(self._strip, self._starts)
        product: Array = np.concatenate([strip @ x.astype(strip.dtype) for strip in strips], dtype=float)
        product *= self._scale
        return product

    @property
    def _starts(self) -> range:
        return range(0, len(self._rows), STRIP)

    def _strip(self, start: int) -> Array:
        # Not F @ F.T at once: numpy hands that to OpenBLAS's dsyrk, which can crash at 2 GB (numpy's issue 19685).
        strip = self._rows[start : start + STRIP] @ self._rows.T
        return np.maximum(strip, 0, out=strip)


@dataclass(frozen=True, eq=False)
class Lifted:
    """U W Uᵀ of W on patches."""

    inner: FeatureTerm
    lift: Lift

    def product(self, x: Array) -> Array:
        return self.lift.up(self.inner.product(self.lift.down(x)))


class Sampled:
    """Entries of relu(F Fᵀ) at pairs that are drawn once, both of (i, j) and (j, i), each with the chance `share`."""

    def __init__(self, rows: Array, share: float, seed: int = 0) -> None:
        self.matrix = sampled_affinity(
            rows.astype(np.float32, copy=False), share, np.random.default_rng(seed)
        )

    def product(self, x: Array) -> Array:
        # In strips: SciPy makes the precision of both factors one first.
        starts = range(0, self.matrix.shape[0], STRIP)
        product: Array = np.concatenate([self.matrix[start : start + STRIP] @ x for start in starts])
        return product


class Lift:
    """U: bilinear interpolation from patch centres to pixel centres, constant outside of the outermost centres."""

    def __init__(
        self, grid: Grid, patches: Grid, cell: tuple[float, float], dtype: DTypeLike = np.float64
    ) -> None:
        self._grid, self._patches = grid, patches
        self._rows, self._columns = (
            _interpolation(*side).astype(dtype) for side in zip(grid, patches, cell, strict=True)
        )
        self._rows_back, self._columns_back = self._rows.T.tocsr(), self._columns.T.tocsr()

    def up(self, x: Array) -> Array:
        """(h · w, m) → (H · W, m)."""
        return self._along(x, self._patches, self._rows, self._columns)

    def down(self, x: Array) -> Array:
        """Uᵀ: (H · W, m) → (h · w, m)."""
        return self._along(x, self._grid, self._rows_back, self._columns_back)

    @staticmethod
    def _along(x: Array, shape: Grid, rows: Array, columns: Array) -> Array:
        height, width = shape
        m = x.shape[1]
        x = (rows @ x.reshape(height, width * m)).reshape(-1, width, m).transpose(1, 0, 2)
        x = (columns @ x.reshape(width, -1)).reshape(columns.shape[0], -1, m).transpose(1, 0, 2)
        result: Array = x.reshape(-1, m)
        return result


def _interpolation(pixels: int, patches: int, cell: float) -> scipy.sparse.csr_array:
    """(pixels, patches): two weights a row."""
    at = np.clip((np.arange(pixels) + 0.5) / cell - 0.5, 0, patches - 1)
    low = np.minimum(at.astype(int), max(patches - 2, 0))
    high = np.minimum(low + 1, patches - 1)
    entries = np.concatenate([low + 1 - at, at - low])
    indices = np.tile(np.arange(pixels), 2), np.concatenate([low, high])
    return scipy.sparse.csr_array((entries, indices), shape=(pixels, patches))


def unit_rows(features: Features) -> Array:
    """(h · w, C) float64: features of length 1, zeros stay zeros."""
    rows = features.array.reshape(-1, features.array.shape[2]).astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows


def pixel_rows(problem: PixelProblem, dtype: DTypeLike = np.float64) -> Array:
    """(n, C): F, the features of length 1 upsampled to pixels."""
    return patch_lift(problem, dtype).up(unit_rows(problem.features).astype(dtype))


def patch_lift(problem: PixelProblem, dtype: DTypeLike = np.float64) -> Lift:
    height, width = problem.features.array.shape[:2]
    return Lift(problem.grid, (height, width), problem.features.cell, dtype)


def exact_term(problem: PixelProblem, dense: bool = False) -> FeatureTerm:
    return Gram(pixel_rows(problem), SHARE, dense)


def patch_term(problem: PixelProblem, dense: bool = False) -> FeatureTerm:
    return Lifted(Gram(unit_rows(problem.features), SHARE, dense), patch_lift(problem))


def patch4_term(problem: PixelProblem, dense: bool = False) -> FeatureTerm:
    height, width = problem.features.array.shape[:2]
    finer = FINER * height, FINER * width
    rows = Lift(finer, (height, width), (FINER, FINER)).up(unit_rows(problem.features))
    cell = problem.features.cell[0] / FINER, problem.features.cell[1] / FINER
    return Lifted(Gram(rows, SHARE, dense), Lift(problem.grid, finer, cell))


def sampled_term(problem: PixelProblem, dense: bool = False) -> FeatureTerm:
    return Sampled(pixel_rows(problem, np.float32), SHARE)


TERMS: dict[str, Callable[[PixelProblem, bool], FeatureTerm]] = {
    "exact": exact_term,
    "patch": patch_term,
    "patch4": patch4_term,
    "sampled": sampled_term,
}


def sampled_affinity(rows: Array, share: float, generator: np.random.Generator) -> scipy.sparse.csr_array:
    """(n, n): relu(F Fᵀ) where i and j are drawn, in the precision of the rows."""
    n = len(rows)
    upper = []
    for start in range(0, n, STRIP):
        i, j = _drawn_pairs(start, min(start + STRIP, n), n, share, generator)
        # Row by row, whose partners fit into the cache: a third of the time of all pairs' rows gathered at once.
        ends = np.searchsorted(i, np.arange(start, min(start + STRIP, n) + 1))
        partners = (j[first:last] for first, last in pairwise(ends))
        values = np.concatenate(
            [rows[found] @ row for found, row in zip(partners, rows[start:], strict=False)]
        )
        drawn = np.maximum(values, 0), (i - start, j)
        upper.append(scipy.sparse.csr_array(drawn, shape=(min(STRIP, n - start), n)))
    half = scipy.sparse.vstack(upper, format="csr")
    del upper
    diagonal = scipy.sparse.diags_array(half.diagonal(), format="csr", dtype=half.dtype)
    return half + half.T.tocsr() - diagonal


def _drawn_pairs(
    start: int, stop: int, n: int, share: float, generator: np.random.Generator
) -> tuple[Array, Array]:
    """Pairs i ≤ j of rows start ≤ i < stop, each with the chance `share`: the gaps between them are geometric."""
    total = (stop - start) * n
    expected = total * share
    at = np.empty(0, np.int64)
    last = -1
    while last < total:
        gaps = generator.geometric(share, int(expected + 4 * np.sqrt(expected) + 16))
        found = last + np.cumsum(gaps)
        at, last = np.concatenate([at, found]), int(found[-1])
    at = at[at < total]
    i, j = start + at // n, at % n
    kept = i <= j
    return i[kept].astype(np.int32), j[kept].astype(np.int32)


@dataclass(frozen=True, eq=False)
class PixelGraph:
    """W = weight · W_feat + λ · W_knn, and its normalised Laplacian."""

    term: FeatureTerm
    colors: scipy.sparse.csr_array  # λ · W_knn
    weight: float = 1.0

    @property
    def n(self) -> int:
        return int(self.colors.shape[0])

    def product(self, x: Array) -> Array:
        """W x of (n, m) float64."""
        product: Array = self.weight * self.term.product(x) + self.colors @ x
        return product

    @cached_property
    def degrees(self) -> Array:
        """(n,) float64, those below 1e-12 replaced by 1."""
        degrees: Array = self.product(np.ones((self.n, 1)))[:, 0]
        degrees[degrees < 1e-12] = 1
        return degrees

    def normalized_product(self, u: Array) -> Array:
        """D^-½ W D^-½ u of (n, m)."""
        scale = 1 / np.sqrt(self.degrees)[:, None]
        product: Array = scale * self.product(scale * u)
        return product

    def residuals(self, vectors: Array, values: Array | None = None) -> Array:
        """‖D^-½((D − W)y − μDy)‖ / ‖D^½y‖ of (k, n) y, which needs no eigenpairs; μ by default those of the vectors."""
        u = np.sqrt(self.degrees)[:, None] * vectors.T.astype(np.float64)
        u /= np.linalg.norm(u, axis=0)
        applied = u - self.normalized_product(u)
        values = (u * applied).sum(axis=0) if values is None else values
        residuals: Array = np.linalg.norm(applied - values * u, axis=0)
        return residuals

"""Decompositions and images made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepspec.decomposition import Decomposition
from deepspec.features import Features
from deepspec.spectral import Eigenpairs


def decomposition(
    *vectors: ArrayLike,
    cell: tuple[float, float] = (8, 8),
    size: tuple[int, int] | None = None,
    values: Sequence[float] | None = None,
    degrees: ArrayLike | None = None,
) -> Decomposition:
    """A decomposition with y₁, y₂, … as given; the image is black and, unless its size is given, just covered."""
    arrays = [np.asarray(vector, np.float32) for vector in vectors]
    grid = arrays[0].shape
    height, width = size or (round(grid[0] * cell[0]), round(grid[1] * cell[1]))
    k = len(arrays) + 1
    pairs = Eigenpairs(
        values=np.arange(k) / k if values is None else np.asarray(values, np.float64),
        vectors=np.stack([np.ones(grid, np.float32), *arrays]),
        degrees=np.ones(grid, np.float32) if degrees is None else np.asarray(degrees, np.float32),
        residuals=np.zeros(k),
        n_products=0,
    )
    return Decomposition(np.zeros((height, width, 3), np.uint8), cell, pairs, {})


def two_colors(height: int, width: int, inner: tuple[slice, slice]) -> NDArray[Any]:
    """A blue image with an orange rectangle and a little noise, (height, width, 3) uint8."""
    image = np.empty((height, width, 3))
    image[:] = (40, 60, 150)
    image[inner] = (230, 130, 30)
    image += np.random.default_rng(0).normal(scale=4, size=image.shape)
    return image.clip(0, 255).astype(np.uint8)


def mean_colors(image: NDArray[np.uint8]) -> Features:
    """Of cells of 8 pixels, in [-1, 1]: features that can be compared between images."""
    rows, columns = (side // 8 for side in image.shape[:2])
    cells = image[: 8 * rows, : 8 * columns].reshape(rows, 8, columns, 8, 3).mean(axis=(1, 3))
    return Features(cells / 127.5 - 1, (8, 8), {"features": "mean colours"})


mean_colors.settings = {"features": "mean colours"}

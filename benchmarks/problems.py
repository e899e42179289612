"""What the benchmarks decompose: features of a photograph, and the photograph on the grid.

dinov2      DINOv2 ViT-S/14's tokens (test data), interpolated from their 37 × 37 grid. Interpolation makes neighbours
            more alike than a network of that grid would, so a little noise is added.
squeezenet  SqueezeNet's fire9 (test data), the photograph resized to 16 pixels a cell: features of that very grid.
surrogate   random projections of local colour and texture, whose spectrum falls off as a network's does; no data needed.

A network's channels are brought to another number by a random orthogonal map, which keeps all inner products where
the number grows.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypeAlias

import dinov2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from squeezenet import STRIDE, SqueezeNet

Array: TypeAlias = NDArray[Any]
Grid: TypeAlias = tuple[int, int]

GRIDS: dict[int, Grid] = {1024: (32, 32), 2852: (46, 62), 4096: (64, 64), 9216: (96, 96), 16384: (128, 128)}
SOURCES = ("own", "half")  # the grid the features come from, of that of the graph
NOISE = 0.2  # of the standard deviation of interpolated features


@dataclass(frozen=True)
class Problem:
    """Features (h, w, C) float32, and an image (H', W', 3) uint8 on the grid of the graph."""

    features: Array
    image: Array

    @property
    def grid(self) -> Grid:
        return self.image.shape[0], self.image.shape[1]

    @property
    def n(self) -> int:
        return self.grid[0] * self.grid[1]

    def rows(self) -> Array:
        """(n, C) float32: the features the affinity is made of, of length 1 on their own grid."""
        if self._is_upsampled:
            return self._upsampled_float32
        rows = self.features.reshape(self.n, -1)
        result: Array = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return result

    def exact_rows(self) -> Array:
        """The same in float64."""
        lengths = np.linalg.norm(self.features.astype(np.float64), axis=-1, keepdims=True)
        rows = self.features / lengths
        return (interpolate(rows, self.grid) if self._is_upsampled else rows).reshape(self.n, -1)

    @cached_property
    def _upsampled_float32(self) -> Array:
        """Made once, before anything is timed: upsampling costs the peers nothing."""
        return self.exact_rows().astype(np.float32)

    @property
    def _is_upsampled(self) -> bool:
        return self.features.shape[:2] != self.grid


def make(kind: str, grid: Grid, channels: int = 384, source: str = "own") -> Problem:
    """A problem of one of the kinds `FEATURES` on a grid, its features from a grid of the same size or half of it."""
    divisor = 1 + SOURCES.index(source)
    if grid[0] % divisor or grid[1] % divisor:
        raise ValueError(f"a grid to be upsampled to twice its size must have even sides, got {grid}")
    features = FEATURES[kind]((grid[0] // divisor, grid[1] // divisor), channels)
    return Problem(np.ascontiguousarray(features, np.float32), photograph(kind, grid))


def tiny() -> Problem:
    """Something to warm up on: random features and colours on 12 × 12 cells."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(12, 12, 16)).astype(np.float32)
    return Problem(features, rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))


def photograph(kind: str, grid: Grid) -> Array:
    """(H', W', 3) uint8: the photograph the features of a kind are of, resized."""
    resized = Image.fromarray(PHOTOS[kind]()).resize((grid[1], grid[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def dinov2_photo() -> Array:
    return dinov2.load(data_folder() / "dinov2_features")[0]


def coffee_photo() -> Array:
    from skimage import data

    photo: Array = data.coffee()
    return photo


PHOTOS: dict[str, Callable[[], Array]] = {
    "dinov2": dinov2_photo,
    "squeezenet": coffee_photo,
    "surrogate": coffee_photo,
}


def dinov2_features(grid: Grid, channels: int) -> Array:
    tokens = dinov2.load(data_folder() / "dinov2_features")[1]
    features = interpolate(tokens, grid)
    noise = np.random.default_rng(0).normal(size=features.shape)
    return with_channels(features + NOISE * features.std() * noise, channels)


@cache
def squeezenet_features(grid: Grid, channels: int) -> Array:
    network = SqueezeNet(data_folder() / "squeezenet" / "squeezenet_v1.0.npz")
    size = (grid[1] * STRIDE, grid[0] * STRIDE)
    pixels = Image.fromarray(coffee_photo()).resize(size, Image.Resampling.BICUBIC)
    activations = network.fire9(np.asarray(pixels))
    return with_channels(activations - activations.mean(axis=(0, 1)), channels)


def surrogate_features(grid: Grid, channels: int) -> Array:
    """Cosine features of smoothed colour and gradient energy at four scales."""
    cell = 8
    size = (grid[1] * cell, grid[0] * cell)
    pixels = (
        np.asarray(Image.fromarray(coffee_photo()).resize(size, Image.Resampling.BICUBIC), np.float32) / 255
    )
    gray = pixels.mean(-1)
    maps = []
    for sigma in (2.0, 4.0, 8.0, 16.0):
        maps += [ndimage.gaussian_filter(pixels[..., c], sigma) for c in range(3)]
        for axis in (0, 1):
            edge = abs(ndimage.gaussian_filter1d(gray, sigma / 2, axis=axis, order=1))
            maps.append(ndimage.gaussian_filter(edge, sigma))
    cells = np.stack(maps, axis=-1).reshape(grid[0], cell, grid[1], cell, -1).mean(axis=(1, 3))
    cells = (cells - cells.mean((0, 1))) / (cells.std((0, 1)) + 1e-6)
    rng = np.random.default_rng(0)
    projection = rng.normal(size=(cells.shape[-1], channels)) / np.sqrt(cells.shape[-1])
    waves: Array = np.cos(cells @ projection + rng.uniform(0, 2 * np.pi, channels))
    return waves + 0.1 * rng.normal(size=waves.shape)


FEATURES: dict[str, Callable[[Grid, int], Array]] = {
    "dinov2": dinov2_features,
    "squeezenet": squeezenet_features,
    "surrogate": surrogate_features,
}


def default_features() -> str:
    return "dinov2" if os.environ.get("DEEPSPEC_TEST_DATA") else "surrogate"


def data_folder() -> Path:
    folder = os.environ.get("DEEPSPEC_TEST_DATA")
    if not folder:
        raise SystemExit(
            "features of a network need the test data: set DEEPSPEC_TEST_DATA, or --features surrogate"
        )
    return Path(folder)


def interpolate(features: Array, grid: Grid) -> Array:
    """Bilinear, cell centres to cell centres (align_corners=False)."""
    zoom = (grid[0] / features.shape[0], grid[1] / features.shape[1], 1)
    result: Array = ndimage.zoom(features, zoom, order=1, grid_mode=True, mode="nearest")
    return result


def with_channels(features: Array, channels: int) -> Array:
    own = features.shape[-1]
    if own == channels:
        return features
    normal = np.random.default_rng(1).normal(size=(max(own, channels), min(own, channels)))
    orthonormal = np.linalg.qr(normal)[0]
    result: Array = features @ (orthonormal if own > channels else orthonormal.T)
    return result

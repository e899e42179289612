"""What the graph of all pixels is made of, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec import _core, images
from deepspec.features import Features

AFFINITIES = ("patch", "patch4", "sampled")
#: Of the entries of the features' affinity, those that the paper keeps.
SHARE = 1 / 256
_FINER = {"patch": 1, "patch4": 4, "sampled": 1}


@dataclass(frozen=True, eq=False)
class PixelProblem:
    """Parameters of `pixel_eigenpairs`, checked.

    Attributes
    ----------
    image : (H, W, 3) uint8
    features : Features or None
        As the core takes them, float32 or float64; None: the colours alone.
    feature_weight : float
        s, or 1 where that is the share of the entries that are drawn.
    color_weight : float
        Finite: 1 where the colours are alone.
    """

    image: NDArray[np.uint8]
    features: Features | None
    affinity: str
    feature_weight: float
    color_weight: float
    k: int
    seed: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.image.shape[0], self.image.shape[1]

    @property
    def sampled(self) -> bool:
        return self.features is not None and self.affinity == "sampled"

    @property
    def grid(self) -> tuple[int, int]:
        """Of the cells whose affinity is lifted to pixels; (1, 1) without features."""
        if self.features is None:
            return 1, 1
        finer = _FINER[self.affinity]
        rows, columns = self.features.array.shape[:2]
        return finer * rows, finer * columns

    @property
    def cell(self) -> tuple[float, float]:
        """In pixels, what one of these cells covers."""
        if self.features is None:
            return 1.0, 1.0
        finer = _FINER[self.affinity]
        return self.features.cell[0] / finer, self.features.cell[1] / finer

    @property
    def array(self) -> NDArray[Any] | None:
        """The features (h, w, C)."""
        return None if self.features is None else self.features.array

    def inputs(self) -> dict[str, Any]:
        """Arguments of the core."""
        return {
            "image": np.ascontiguousarray(self.image),
            "features": None if self.sampled else self.array,
            "gram": self._gram() if self.sampled else None,
            "grid": self.grid,
            "cell": self.cell,
            "feature_weight": self.feature_weight,
            "color_weight": self.color_weight,
            "k": self.k,
            "seed": self.seed,
        }

    def bytes(self, size: tuple[int, int], threads: int) -> float:
        """What the eigenpairs of all pixels of a copy of this size take."""
        own = _core.pixel_eigenpairs_bytes(
            size[0] * size[1],
            features=self.array,
            sampled=self.sampled,
            grid=self.grid,
            k=self.k,
            threads=threads,
        )
        copied = 0.0 if self.array is None else float(self.array.nbytes)
        cells = float(self.grid[0] * self.grid[1])
        kept = 4e6  # of blocks that are free, by allocators
        return float(own) + copied + kept + (8.0 * cells**2 if self.sampled else 0.0)

    def bytes_of_cells(self, threads: int) -> float:
        """Of these, what does not grow with the image."""
        return self.bytes((1, 1), threads)

    def resized(self, size: tuple[int, int]) -> PixelProblem:
        """The same of a copy of the image, features and colours weighted as in the whole.

        With y smooth, the features' part of yᵀ(D − W)y grows as n² and the colours', whose neighbours are as many
        pixels away in either, not at all.
        """
        rows, columns = size[0] / self.size[0], size[1] / self.size[1]
        features = self.features
        if features is not None:
            features = replace(features, cell=(features.cell[0] * rows, features.cell[1] * columns))
        return replace(
            self,
            image=images.resize(self.image, size),
            features=features,
            feature_weight=self.feature_weight / (rows * columns) ** 2,
        )

    def _gram(self) -> NDArray[np.float32]:
        """Inner products of the features scaled to length 1, the largest 1."""
        assert self.features is not None
        rows = self.features.array.reshape(-1, self.features.array.shape[2]).astype(np.float32)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        gram = rows @ rows.T
        return np.ascontiguousarray(
            gram / max(float(gram.max()), np.finfo(np.float32).tiny), dtype=np.float32
        )

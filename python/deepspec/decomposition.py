"""Image → its spectral decomposition, computed once and asked for box, mask and segments after."""

from __future__ import annotations

import json
import math
import os
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec import images
from deepspec._files import replacing
from deepspec.baselines import VECTORS, check_vectors
from deepspec.checks import check_color_weight
from deepspec.features import Features, FeatureSource, extract
from deepspec.graph import check_affinity
from deepspec.images import ImageSource
from deepspec.spectral import Eigenpairs, eigenpairs


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Eigenvectors of an image's graph, with the image and how they were made.

    Attributes
    ----------
    image : (H, W, 3) uint8
        The whole image.
    cell : (height, width)
        In image pixels, of a cell of the eigenvectors' grid. Cells start at the top left corner; a strip at
        the right and bottom may stay uncovered.
    pairs : Eigenpairs
        On the (H', W') grid.
    settings : dict
        What `decompose` was asked for, as plain JSON values.

    Raises
    ------
    ValueError
        The parts do not belong together.
    """

    image: NDArray[np.uint8]
    cell: tuple[float, float]
    pairs: Eigenpairs
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"image must be (H, W, 3) uint8, got {self.image.shape} {self.image.dtype}")
        pairs = self.pairs
        k, *grid = pairs.vectors.shape
        if len(grid) != 2 or pairs.degrees.shape != tuple(grid) or pairs.values.shape != (k,):
            raise ValueError(
                "pairs must have values (k,), vectors (k, H', W') and degrees (H', W'), got shapes "
                f"{pairs.values.shape}, {pairs.vectors.shape} and {pairs.degrees.shape}"
            )
        if len(self.cell) != 2 or not all(0 < side < math.inf for side in self.cell):
            raise ValueError(f"cell must be two positive numbers of pixels (height, width), got {self.cell}")

    @property
    def covered(self) -> tuple[int, int]:
        """(height, width) in pixels of the region that the grid covers."""
        rows, columns = self.pairs.vectors.shape[1:]
        return covered(self.image.shape[:2], (rows, columns), self.cell)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to one compressed `.npz` file, under exactly the name given.

        The file appears whole or not at all.

        Raises
        ------
        OSError
            The file cannot be written.
        """
        arrays: dict[str, Any] = {name: getattr(self.pairs, name) for name in _PAIRS}
        arrays |= {"image": self.image, "cell": np.array(self.cell)}
        arrays["settings"] = np.array(json.dumps(self.settings, allow_nan=False))
        with replacing(path) as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Decomposition:
        """Read what `save` wrote. Nothing in the file is executed (no pickles).

        Raises
        ------
        OSError
            The file cannot be opened.
        ValueError
            The file is not a whole decomposition; the message names it.
        """
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                parts: dict[str, Any] = {name: arrays[name] for name in _PAIRS}
                parts["n_products"] = int(parts["n_products"])
                image, cell, settings = (arrays[name] for name in ("image", "cell", "settings"))
                return cls(
                    image, (float(cell[0]), float(cell[1])), Eigenpairs(**parts), json.loads(str(settings))
                )
        except (
            ValueError,
            TypeError,
            AttributeError,
            LookupError,
            EOFError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise ValueError(
                f"{os.fspath(path)}: not a saved decomposition, or incomplete: {error}"
            ) from error


_PAIRS = ("values", "vectors", "degrees", "residuals", "n_products")


def decompose(
    image: ImageSource,
    features: FeatureSource = "dino_vits16",
    *,
    max_size: int | None = 1024,
    k: int = 5,
    color_weight: float = 10.0,
    grid: str | int = "auto",
    vectors: str = "laplacian",
    affinity: str = "relu",
    threshold: float = 0.2,
    epsilon: float = 1e-5,
    color: str = "knn",
    laplacian: str = "normalized",
    solver: str = "auto",
    tol: float = 1e-5,
    threads: int | None = None,
) -> Decomposition:
    """The first eigenvectors of an image's graph of features and colours.

    Parameters
    ----------
    image : path, file object, PIL image or array
        Anything `images.load` reads.
    features : str, callable, Features or array
        See `features.extract`. The default's weights are downloaded at the first use; `"classical"` needs none.
    max_size : int or None
        In pixels: a larger image is taken apart on a copy whose longer side is this; None: never. Everything in
        the result counts the image's own pixels all the same. The paper's images are smaller than the default. It
        does not apply to `features` that are already computed.
    k : int
        Number of eigenpairs, the constant one included; at most the number of grid cells.
    color_weight : float in [0, inf]
        λ of `W = W_feat + λ W_color`; 0 leaves the colours out, `math.inf` the features.
    grid : {"auto", "patch"} or int
        `"auto"`: 8-pixel cells where the features' cells have 8 or 16 pixels, otherwise the features' own grid;
        `"patch"`: the features' own grid; a number: pixels a cell (of the reduced copy, where there is one), at
        most the features' own, and adjusted so that whole cells fill the region the features cover.
    vectors : {"laplacian", "affinity", "svd", "lost", "attention"}
        What is split: the eigenvectors of the graph's Laplacian, or, to compare with, what stands in `vectors[1]` for
        them: the leading eigenvector of W itself (with `color_weight` and `color`), the leading left singular vector of
        the features, or 1 on the object that LOST or DINO-[CLS] finds and 0 elsewhere (two vectors, whatever k is). The last three need `grid="patch"`
        and `color_weight=0`. `baselines.METHODS` holds each method's settings.
    affinity, threshold, epsilon, color, laplacian, solver, tol, threads
        See `eigenpairs`.

    Returns
    -------
    Decomposition
        With all of these settings in it.

    Raises
    ------
    ImportError
        The features are a network's and torch or timm is not installed.
    OSError
        The image cannot be read, or the network's weights cannot be had.
    ValueError
        A parameter is out of range.
    ConvergenceError
        The eigenvectors did not reach `tol`.
    """
    graph: dict[str, Any] = {
        "max_size": max_size,
        "k": k,
        "color_weight": color_weight,
        "grid": grid,
        "vectors": vectors,
        "affinity": affinity,
        "threshold": threshold,
        "epsilon": epsilon,
    }
    check_settings(**graph)
    pixels = images.load(image)
    ready = not (isinstance(features, str) or callable(features))
    working = pixels if ready else images.shrink(pixels, max_size)
    return decompose_features(
        pixels,
        working,
        extract(working, features),
        **graph,
        color=color,
        laplacian=laplacian,
        solver=solver,
        tol=tol,
        solve=partial(eigenpairs, threads=threads),
    )


def decompose_features(
    image: NDArray[np.uint8],
    working: NDArray[np.uint8],
    features: Features,
    *,
    max_size: int | None,
    k: int,
    color_weight: float,
    grid: str | int,
    vectors: str = "laplacian",
    affinity: str = "relu",
    threshold: float = 0.2,
    epsilon: float = 1e-5,
    color: str = "knn",
    laplacian: str = "normalized",
    solver: str = "auto",
    tol: float = 1e-5,
    solve: Callable[..., Eigenpairs],
) -> Decomposition:
    """`decompose` from where the features of `working`, the image or a reduced copy of it, are known.

    `solve` is `eigenpairs`, with what it takes besides.
    """
    shape, cell = _working_grid(features, grid)
    pairs = VECTORS.get(vectors, solve)(
        features.array,
        images.crop(working, *covered(working.shape[:2], shape, cell)),
        grid=shape,
        color_weight=color_weight,
        k=k,
        affinity=affinity,
        threshold=threshold,
        epsilon=epsilon,
        color=color,
        laplacian=laplacian,
        solver=solver,
        tol=tol,
    )
    # Two numbers that only one of the affinities has.
    of_threshold = {"threshold": float(threshold), "epsilon": float(epsilon)}
    settings = {
        **features.settings,
        "max_size": None if max_size is None else int(max_size),
        "k": int(k),
        "color_weight": plain_weight(color_weight),
        "grid": grid if isinstance(grid, str) else int(grid),
        "vectors": vectors,
        "affinity": affinity,
        **(of_threshold if affinity == "threshold" else {}),
        "color": color,
        "laplacian": laplacian,
        "solver": solver,
        "tol": float(tol),
        "deepspec": _version(),
    }
    own_cell = (
        cell[0] * image.shape[0] / working.shape[0],
        cell[1] * image.shape[1] / working.shape[1],
    )
    return Decomposition(image, own_cell, pairs, settings)


def covered(size: tuple[int, ...], grid: tuple[int, ...], cell: tuple[float, float]) -> tuple[int, int]:
    """Pixels of an image of (height, width) whose centres the cells of a grid cover, along each axis."""
    height, width = (
        min(side, max(1, math.ceil(n * step - 0.5))) for side, n, step in zip(size, grid, cell, strict=True)
    )
    return height, width


def check_settings(
    *,
    max_size: int | None,
    k: int,
    color_weight: float,
    grid: str | int,
    vectors: str,
    affinity: str,
    threshold: float,
    epsilon: float,
) -> None:
    """ValueError where `decompose` cannot take these, whatever the image holds."""
    if max_size is not None and not (isinstance(max_size, Integral) and max_size >= 1):
        raise ValueError(f"max_size must be None or a whole number of pixels, at least 1, got {max_size!r}")
    if not (isinstance(k, Integral) and k >= 1):
        raise ValueError(f"k must be a whole number of at least 1, got {k!r}")
    check_color_weight(color_weight)
    known = grid in ("auto", "patch") if isinstance(grid, str) else isinstance(grid, Integral) and grid >= 1
    if not known:
        raise ValueError(
            f"grid must be 'auto', 'patch' or a whole number of pixels, at least 1, got {grid!r}"
        )
    check_affinity(affinity, threshold, epsilon)
    check_vectors(vectors, color_weight=color_weight, grid=grid, affinity=affinity)


def plain_weight(color_weight: float) -> float | str:
    """A weight for settings: JSON has no infinity, and float() reads this word."""
    return "inf" if math.isinf(color_weight) else float(color_weight)


def _working_grid(features: Features, grid: str | int) -> tuple[tuple[int, int], tuple[float, float]]:
    """Shape of the eigenvectors' grid and its cell."""
    rows, columns = features.array.shape[:2]
    height, width = features.cell
    if grid == "auto":
        grid = 8 if features.cell == (16, 16) else "patch"
    if isinstance(grid, str):
        return (rows, columns), features.cell
    if grid > min(height, width):
        raise ValueError(
            f"grid must be at most the features' own cell of {height:g} x {width:g} pixels, got {grid}"
        )
    shape = round(rows * height / grid), round(columns * width / grid)
    return shape, (rows * height / shape[0], columns * width / shape[1])


def _version() -> str:
    # At the first use: the package imports this module while it is itself being imported.
    from deepspec import __version__

    return str(__version__)

"""Image → a grid of feature vectors, from a name, a callable or an array."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from inspect import signature
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image8: TypeAlias = NDArray[np.uint8]
Floats: TypeAlias = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Features:
    """A grid of feature vectors and the image area they cover.

    Attributes
    ----------
    array : (h, w, C) floating, finite
    cell : (height, width)
        In image pixels, the area one vector covers. The first cell starts at the image's
        top left corner; a strip at the right and bottom may stay uncovered.
    settings : dict
        How they were made, as plain JSON values; `"features"` names the source.

    Raises
    ------
    ValueError
        The array or the cell is not as described.
    """

    array: Floats
    cell: tuple[float, float]
    settings: dict[str, Any] = field(default_factory=lambda: {"features": "array"})

    def __post_init__(self) -> None:
        array = np.asarray(self.array)
        if array.ndim != 3 or 0 in array.shape:
            raise ValueError(f"features must be (h, w, C) without an empty axis, got shape {array.shape}")
        if array.dtype.kind != "f":
            raise ValueError(f"features must be floating, got {array.dtype}")
        if not np.isfinite(array).all():
            bad = np.count_nonzero(~np.isfinite(array))
            raise ValueError(f"features must be finite, got {bad} NaN or infinite values")
        cell = tuple(float(side) for side in self.cell)
        if len(cell) != 2 or not all(0 < side < np.inf for side in cell):
            raise ValueError(f"cell must be two positive numbers of pixels (height, width), got {self.cell}")
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "cell", cell)


FeatureSource: TypeAlias = "str | Features | Floats | Callable[[Image8], Features | Floats]"


def extract(image: Image8, features: FeatureSource) -> Features:
    """The features of an image.

    Parameters
    ----------
    image : (H, W, 3) uint8
    features : str, callable, Features or array
        A name (`"classical"`, or what `load_backbone` knows), a callable (a loaded backbone is one) that takes
        the image and returns `Features` or an (h, w, C) array, or either of these two themselves. A bare array covers
        the whole image evenly.

    Raises
    ------
    ImportError
        The name is a network's and torch or timm is not installed.
    OSError
        The network's weights cannot be had.
    ValueError
        The name is unknown, the image is too small for the network, or the features are malformed or cover
        more than the image.
    """
    return extract_all([image], features)[0]


def extract_all(pictures: Sequence[Image8], features: FeatureSource) -> list[Features]:
    """`extract` for several images; a backbone takes those of one size together."""
    source = named(features) if isinstance(features, str) else features
    if hasattr(source, "extract"):
        found = source.extract(pictures)
    elif callable(source):
        found = [source(image) for image in pictures]
    else:
        found = [source] * len(pictures)
    return [_checked(image, result, source) for image, result in zip(pictures, found, strict=True)]


def embed_all(
    pictures: Sequence[Image8],
    source: str | Callable[[Image8], Features | Floats],
    masks: Sequence[NDArray[Any]] | None = None,
) -> NDArray[np.float32]:
    """One vector for each picture, comparable across pictures.

    A source with a method `embed` is asked for it: a network gives its [CLS] token or pooled features, the
    classical features a descriptor of colours and texture. Of any other the vector is the mean over the cells.

    Parameters
    ----------
    pictures : sequence of (h, w, 3) uint8
    source : str or callable
        As `extract` takes it, but for features that are computed already.
    masks : sequence of (h, w) bool or floating, optional
        How much each pixel of a picture counts: at least 0, and not 0 everywhere. They weigh the mean over the
        cells, pixels beyond the grid counting to its nearest cell, and are handed to an `embed` with a parameter
        `masks`. A network's has none: its token is that of the whole picture.

    Returns
    -------
    (N, C) float32

    Raises
    ------
    ImportError, OSError
        As `extract` does.
    ValueError
        There is no picture, the source cannot take one, or the vectors or masks are malformed.
    """
    source = named(source) if isinstance(source, str) else source
    computed = not callable(source)
    if computed:
        raise ValueError(f"source must be a name or a callable to embed with, got {type(source).__name__}")
    if len(pictures) == 0:
        raise ValueError("pictures must hold at least one picture, got none")
    weights = [None] * len(pictures) if masks is None else check_masks(pictures, masks)
    embed = getattr(source, "embed", None)
    if embed is None:
        found = [
            _mean_over_cells(*parts) for parts in zip(extract_all(pictures, source), weights, strict=True)
        ]
    elif masks is not None and takes_masks(source):
        found = embed(pictures, masks=masks)
    else:
        found = embed(pictures)
    return _checked_embeddings(found, len(pictures))


def takes_masks(source: Any) -> bool:
    """Whether `embed_all` can weigh pixels: not where a source's `embed` knows whole pictures alone."""
    embed = getattr(source, "embed", None)
    return embed is None or "masks" in signature(embed).parameters


def check_masks(pictures: Sequence[Image8], masks: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """What each pixel of each picture counts, as numbers; ValueError where masks are not as `embed_all` says."""
    if len(masks) != len(pictures):
        raise ValueError(f"there must be a mask for each of {len(pictures)} pictures, got {len(masks)}")
    checked = []
    for picture, mask in zip(pictures, masks, strict=True):
        array = np.asarray(mask)
        if array.shape != picture.shape[:2] or array.dtype.kind not in "bf":
            raise ValueError(
                f"mask must be {picture.shape[:2]} bool or floating, as its picture is, "
                f"got {array.dtype} of shape {array.shape}"
            )
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() > 0):
            raise ValueError(
                "mask must be finite, at least 0 and not 0 everywhere, "
                f"got values from {array.min()} to {array.max()}"
            )
        checked.append(array.astype(np.float64))
    return checked


def _mean_over_cells(features: Features, weights: NDArray[np.float64] | None) -> Floats:
    cells = features.array.reshape(-1, features.array.shape[2])
    if weights is None:
        return np.asarray(cells.mean(axis=0, dtype=np.float64))
    rows, columns = cells_of_pixels(weights.shape, features.cell, features.array.shape[:2])
    number = rows[:, None] * features.array.shape[1] + columns
    counts = np.bincount(number.ravel(), weights.ravel(), minlength=len(cells))
    return np.asarray(np.average(cells, axis=0, weights=counts))


def _checked_embeddings(found: Sequence[Floats] | Floats, n: int) -> NDArray[np.float32]:
    lengths = {np.shape(vector) for vector in found}
    if len(found) != n or len(lengths) != 1 or len(next(iter(lengths))) != 1:
        raise ValueError(
            f"embeddings must be {n} vectors of one length, got {len(found)} of shapes {sorted(lengths)}"
        )
    array = np.asarray(found, np.float32)
    if not np.isfinite(array).all():
        raise ValueError(
            f"embeddings must be finite, got {np.count_nonzero(~np.isfinite(array))} that are not"
        )
    return array


def named(name: str, **options: Any) -> Callable[[Image8], Features | Floats]:
    """The source of a name, kept until another is asked for: loading a network takes seconds.

    Parameters
    ----------
    name : str
    **options
        What `load_backbone` takes besides, for a network, or `Classical`.

    Raises
    ------
    ImportError, OSError
        As `extract` does.
    ValueError
        The name is unknown, or an option is out of range or not for this source.
    """
    # What was loaded last is found by its options, which must be hashable.
    return _named(
        name, **{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    )


@lru_cache(maxsize=1)
def _named(name: str, **options: Any) -> Callable[[Image8], Features | Floats]:
    if name == "classical":
        from deepspec.classical import Classical

        unknown = [option for option in options if option != "center_prior"]
        if unknown:
            raise ValueError(f"classical features have no {', '.join(unknown)}")
        return Classical(**options)
    from deepspec.backbones import load_backbone

    if "center_prior" in options:
        raise ValueError(f"{name} features have no center_prior: it is of the classical ones")
    return load_backbone(name, **options)


def settings_of(source: Callable[..., Any]) -> dict[str, Any]:
    """How a callable makes its features: what it says of itself, or its name."""
    name = str(getattr(source, "__qualname__", type(source).__qualname__))
    return dict(getattr(source, "settings", {"features": name}))


def border_cells(rows: int, columns: int) -> NDArray[np.bool_]:
    """Which cells of a grid lie on its border, (rows, columns)."""
    border = np.ones((rows, columns), bool)
    border[1:-1, 1:-1] = False
    return border


def cells_of_pixels(
    size: tuple[int, ...], cell: tuple[float, float], grid: tuple[int, ...]
) -> list[NDArray[np.intp]]:
    """For the pixels along each axis, the cell their centre lies in, or the last one beyond the grid."""
    return [
        np.minimum((np.arange(side) + 0.5) // step, n - 1).astype(np.intp)
        for side, step, n in zip(size, cell, grid, strict=True)
    ]


def evenly(array: Floats, size: tuple[int, ...]) -> Features:
    """Features that cover an image of (height, width) evenly; ValueError where there are none."""
    array = np.asarray(array)
    rows, columns = array.shape[:2] if array.ndim == 3 else (1, 1)
    return Features(array, (size[0] / max(rows, 1), size[1] / max(columns, 1)))


def check_within(features: Features, size: tuple[int, ...], slack: tuple[float, float] = (0.5, 0.5)) -> None:
    """ValueError where features cover more than an image of (height, width).

    Half a pixel of slack is for cells that are not whole pixels.
    """
    rows, columns = features.array.shape[:2]
    covered = rows * features.cell[0], columns * features.cell[1]
    if any(part > whole + more for part, whole, more in zip(covered, size, slack, strict=True)):
        raise ValueError(
            f"features must lie within the image's {size[0]} x {size[1]} pixels, "
            f"but {rows} x {columns} cells of {features.cell[0]:g} x {features.cell[1]:g} cover "
            f"{covered[0]:g} x {covered[1]:g}"
        )


def _checked(image: Image8, result: Features | Floats, source: Any) -> Features:
    if not isinstance(result, Features):
        result = evenly(result, image.shape[:2])
    if callable(source) and result.settings == {"features": "array"}:
        result = replace(result, settings=settings_of(source))
    check_within(result, image.shape[:2])
    return result

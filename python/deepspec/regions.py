"""Decomposition → box, object mask, segments and confidence (paper, sections 3.3 to 3.5)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepspec.checks import check_choice
from deepspec.clustering import kmeans
from deepspec.decomposition import Decomposition, covered
from deepspec.features import border_cells, cells_of_pixels
from deepspec.refine import REFINEMENTS, refine_labels

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Box:
    """A box in pixels, half-open: it holds columns xmin…xmax−1 and rows ymin…ymax−1. `score` is in [0, 1]."""

    xmin: int
    ymin: int
    xmax: int
    ymax: int
    score: float


FOREGROUNDS = ("smaller", "border", "seed")
PARTITIONS = ("sign", "mean", "middle")


def localize(d: Decomposition, *, foreground: str = "smaller", partition: str = "sign") -> Box:
    """The box of the image's main object (section 3.3).

    The sign of y₁ splits the grid in two; the box is that of the largest 8-connected part of what is in front.

    Parameters
    ----------
    d : Decomposition
        With k ≥ 2.
    foreground : {"smaller", "border", "seed"}
        Which side is in front. `"smaller"`: the one with fewer cells, as in the paper; y₁ > 0 where both
        have as many, and the whole grid where one side is empty. `"border"`: the side of which the smaller share of
        cells lies on the grid's border; y₁ > 0 where the shares are equal. Better on features that were
        not learnt on objects. `"seed"`: of the side with y₁'s entry of largest absolute value, the first where several
        are, the 4-connected part that holds it, as TokenCut does.
    partition : {"sign", "mean", "middle"}
        Where y₁ is split: at 0, as in the paper; at its mean, as TokenCut does; or halfway between its least and its
        largest entry.

    Returns
    -------
    Box
        Within the covered region, at least one pixel wide and high; its score is `objectness(d)`.

    Raises
    ------
    ValueError
        k is 1, or the rule is unknown.
    """
    front = _front(d, partition, foreground)
    if not front.any():
        front = ~front
    parts, _ = ndimage.label(front, structure=np.ones((3, 3)))
    largest = np.argmax(np.bincount(parts.ravel())[1:]) + 1
    return box_of_cells(parts == largest, d.image.shape[:2], d.cell, objectness(d))


def box_of_cells(mask: Mask, size: tuple[int, ...], cell: tuple[float, float], score: float) -> Box:
    """The box of some cells of a grid, in pixels of an image of (height, width); at least one pixel wide and high."""
    ranges = []
    for axis in (0, 1):
        hit = np.flatnonzero(mask.any(axis=1 - axis))
        cells = cells_of_pixels(size, cell, mask.shape)[axis][: covered(size, mask.shape, cell)[axis]]
        start, stop = np.searchsorted(cells, [hit[0], hit[-1] + 1])
        start = min(int(start), len(cells) - 1)
        ranges.append((start, max(start + 1, int(stop))))
    (ymin, ymax), (xmin, xmax) = ranges
    return Box(xmin, ymin, xmax, ymax, score)


@dataclass(frozen=True, eq=False)
class ObjectMask:
    """The main object, coarse and refined.

    Attributes
    ----------
    mask : (H, W) bool
    coarse : (H, W) bool
        The cells' own outlines; the same where nothing was refined.
    kept : float
        The share of the coarse mask's pixels that is in the mask; 1 where the coarse mask is empty.
    """

    mask: Mask
    coarse: Mask
    kept: float

    @property
    def lost(self) -> bool:
        """Whether refinement took the object away: it kept under a quarter of it."""
        return self.kept < 0.25


class ObjectLostWarning(UserWarning):
    """Refinement kept under a quarter of an object's coarse mask."""


def find_object(
    d: Decomposition,
    *,
    foreground: str = "smaller",
    partition: str = "sign",
    threshold: float = 0.0,
    refine: str | None = "crf",
    threads: int | None = None,
) -> ObjectMask:
    """The mask of the image's main object, with what refinement changed; the parameters are `segment_object`'s."""
    _check_refine(refine)
    if not np.isfinite(threshold):
        raise ValueError(f"threshold must be finite, got {threshold}")
    coarse = _to_image(_front(d, partition, foreground, threshold), d)
    if refine is None:
        return ObjectMask(coarse, coarse, 1.0)
    mask = refine_labels(d.image, coarse, refine, threads=threads) == 1
    kept = np.count_nonzero(mask & coarse) / np.count_nonzero(coarse) if coarse.any() else 1.0
    return ObjectMask(mask, coarse, kept)


def segment_object(
    d: Decomposition,
    *,
    foreground: str = "smaller",
    partition: str = "sign",
    threshold: float = 0.0,
    refine: str | None = "crf",
    threads: int | None = None,
) -> Mask:
    """The mask of the image's main object (section 3.4).

    Parameters
    ----------
    d : Decomposition
        With k ≥ 2.
    foreground : {"smaller", "border", "seed"}
        Which side of the split is in front: see `localize`.
    partition : {"sign", "mean", "middle"}
        Where y₁ is split: see `localize`.
    threshold : float
        Added to where y₁ is split. y₁ is D-orthonormal, so its entries are small: of the order of
        (the sum of D)^-½.
    refine : {"crf", "pydensecrf", "guided", None}
        How the cells' outlines become the image's: see `refine.refine_labels`. None: not at all; the mask is upsampled by
        nearest neighbour, with the edge replicated into the strip that the grid leaves uncovered, as it
        also is before it is refined.
    threads : int, optional
        Of the CRF. Default: ``$DEEPSPEC_NUM_THREADS``, else the cores available.

    Returns
    -------
    (H, W) bool

    Warns
    -----
    ObjectLostWarning
        Refinement kept under a quarter of the coarse mask, as happens to small objects: `find_object` returns both.

    Raises
    ------
    ImportError
        What `refine` needs is not installed.
    ValueError
        k is 1, or a parameter is unknown or not finite.
    """
    found = find_object(
        d, foreground=foreground, partition=partition, threshold=threshold, refine=refine, threads=threads
    )
    if found.lost:
        warnings.warn(
            f"refine={refine!r} kept {found.kept:.0%} of the object's coarse mask",
            ObjectLostWarning,
            stacklevel=2,
        )
    return found.mask


def segment_regions(
    d: Decomposition,
    *,
    n_segments: int | str = 15,
    resolution: str = "image",
    background: str = "border",
    refine: str | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> NDArray[np.int32]:
    """Segments of the image: k-means over the entries of y₁ … y_{k−1} (section 3.5).

    Parameters
    ----------
    d : Decomposition
        With k ≥ 2.
    n_segments : int or "auto"
        Number of segments, the background included, or `"auto"`: the eigengap, 1 + argmax of
        values[j + 1] − values[j] over j ≥ 1, which needs k ≥ 3. Where fewer entries are distinct (to
        six digits of the largest), each distinct one is a segment.
    resolution : {"image", "grid"}
        `"image"`: upsampled by nearest neighbour, the edge replicated into the uncovered strip; `"grid"`.
    background : {"border", "size"}
        Which segment becomes 0: `"border"`: the one that holds most cells of the grid's border;
        `"size"`: the largest, as in the paper.
    refine : {None, "crf", "pydensecrf", "guided"}
        How the cells' outlines become the image's, at its resolution: see `segment_object`. A small segment may
        vanish; the numbers of the others stay.
    seed : int
        Of k-means, which keeps the best of 10 starts. The same seed gives the same segments.
    threads : int, optional
        Of the CRF.

    Returns
    -------
    (H, W) int32, or (H', W') for `"grid"`
        0 is the background, 1, 2, … the others by decreasing size.

    Raises
    ------
    ImportError
        scikit-learn is not installed, or what `refine` needs.
    ValueError
        k is too small, there are fewer cells than segments, a parameter is unknown, or segments of the grid are to be
        refined.
    """
    _check_refine(refine)
    if refine is not None and resolution == "grid":
        raise ValueError(f"refine={refine!r} needs resolution='image', got 'grid'")
    if resolution not in ("image", "grid"):
        raise ValueError(f"resolution must be 'image' or 'grid', got {resolution!r}")
    check_choice("background", background, BACKGROUNDS)
    _second_eigenvector(d)
    n = number_of_segments(d.pairs.values, d.pairs.degrees.size, n_segments)
    labels = segment_vectors(d.pairs.vectors[1:], n, background=background, seed=seed)
    if resolution == "grid":
        return labels
    coarse: NDArray[np.int32] = _to_image(labels, d)
    return coarse if refine is None else refine_labels(d.image, coarse, refine, threads=threads)


BACKGROUNDS = ("border", "size")


def segment_vectors(
    vectors: NDArray[np.floating[Any]], n_segments: int, *, background: str = "border", seed: int = 0
) -> NDArray[np.int32]:
    """Segments of a grid: k-means over the entries of (m, h, w) vectors; the parameters are `segment_regions`'s.

    Returns
    -------
    (h, w) int32
    """
    check_choice("background", background, BACKGROUNDS)
    m, *grid = vectors.shape
    points = np.asarray(vectors.reshape(m, -1).T, np.float64)
    clusters = kmeans(points, n_segments, seed).reshape(grid)
    sizes = np.bincount(clusters.ravel())
    border_sizes = np.bincount(clusters[border_cells(*grid)], minlength=len(sizes))
    first = int(np.argmax(border_sizes if background == "border" else sizes))
    order = np.argsort(-sizes, kind="stable")
    order = np.concatenate([[first], order[order != first]])
    return np.argsort(order).astype(np.int32)[clusters]


def number_of_segments(values: NDArray[np.float64], n_cells: int, n_segments: int | str) -> int:
    """`n_segments` as a number: "auto" is 1 + argmax of values[j + 1] − values[j] over j ≥ 1.

    Raises
    ------
    ValueError
        There are too few cells or eigenvalues, or it is neither a whole number nor "auto".
    """
    if isinstance(n_segments, str):
        if n_segments != "auto":
            raise ValueError(f"n_segments must be a number or 'auto', got {n_segments!r}")
        if len(values) < 3:
            raise ValueError(
                f"k must be at least 3 for n_segments='auto', got a decomposition with k = {len(values)}"
            )
        return int(np.argmax(np.diff(values)[1:])) + 2
    if not (isinstance(n_segments, Integral) and 1 <= n_segments <= n_cells):
        raise ValueError(
            f"n_segments must be a whole number between 1 and the number of cells {n_cells}, got {n_segments}"
        )
    return int(n_segments)


def objectness(d: Decomposition) -> float:
    """How likely there is one object to be found, in [0, 1]: a confidence for the box and the mask.

    The product of three shares, each of which is 1 where an object lies clearly before its ground:

    - of y₁'s variance, cells weighted by their degree, what its split at 0 explains (the variance between the two sides
      over the whole): 1 where y₁ takes two values, 8/π² ≈ 0.81 for half a wave across the image, 0.75 for an even
      ramp, 0 where y₁ is constant;
    - of the grid's border, what lies on the side that has most of it;
    - 1 − μ₁, at least 0: how weakly the sides are joined (of the unnormalised Laplacian, μ₁ over the largest degree).

    Raises
    ------
    ValueError
        k is 1.
    """
    front = _second_eigenvector(d) > 0
    on_border = front[border_cells(*front.shape)].mean()
    value = float(d.pairs.values[1])
    if d.settings.get("laplacian") == "unnormalized":
        value /= float(d.pairs.degrees.max())
    return float(_explained_by_split(d) * max(on_border, 1 - on_border) * max(0.0, 1 - value))


def _explained_by_split(d: Decomposition) -> float:
    y = _second_eigenvector(d).astype(np.float64)
    weights = d.pairs.degrees.astype(np.float64)
    y = y - np.average(y, weights=weights)
    front = _second_eigenvector(d) > 0
    between = sum(
        np.sum(weights[side] * y[side]) ** 2 / np.sum(weights[side]) for side in (front, ~front) if side.any()
    )
    total = np.sum(weights * y**2)
    return float(min(between / total, 1.0)) if total > 0 else 0.0


def _check_refine(refine: str | None) -> None:
    if refine is not None:
        check_choice("refine", refine, (*REFINEMENTS, None))


def _second_eigenvector(d: Decomposition) -> NDArray[np.float32]:
    """y₁, (H', W'); ValueError where k is 1."""
    if len(d.pairs.vectors) < 2:
        raise ValueError(
            f"k must be at least 2 to split an image, got a decomposition with k = {len(d.pairs.vectors)}"
        )
    y1: NDArray[np.float32] = d.pairs.vectors[1]
    return y1


def _front(d: Decomposition, partition: str, foreground: str, threshold: float = 0.0) -> Mask:
    """The cells in front: see `localize`."""
    check_choice("partition", partition, PARTITIONS)
    check_choice("foreground", foreground, FOREGROUNDS)
    y = _second_eigenvector(d)
    middle = {"sign": 0.0, "mean": y.mean(dtype=np.float64), "middle": (float(y.min()) + float(y.max())) / 2}
    mask = np.asarray(y > middle[partition] + threshold)
    if foreground == "seed":
        seed = np.unravel_index(np.argmax(np.abs(y)), y.shape)
        parts, _ = ndimage.label(mask if mask[seed] else ~mask)
        return np.asarray(parts == parts[seed])
    if foreground == "smaller":
        behind = 0.5 < mask.mean() < 1.0
    else:
        border = border_cells(*mask.shape)
        behind = 0 < mask.mean() < 1 and border[mask].mean() > border[~mask].mean()
    return ~mask if behind else mask


def upsample(grid: NDArray[Any], size: tuple[int, ...], cell: tuple[float, float]) -> NDArray[Any]:
    """A grid (h, w) at the resolution of an image of (height, width), by nearest neighbour; its edge is repeated."""
    return grid[np.ix_(*cells_of_pixels(size, cell, grid.shape))]


def _to_image(grid: NDArray[Any], d: Decomposition) -> NDArray[Any]:
    return upsample(grid, d.image.shape[:2], d.cell)

"""How much of a set of images each class takes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from deepspec._files import write_json


@dataclass(frozen=True)
class ClassStatistics:
    """What there is of one class in all images.

    Attributes
    ----------
    id : int
        0 is the background.
    name : str or None
    n_pixels : int
    share : float
        Of all images' pixels, in [0, 1].
    n_images : int
        With at least one pixel of it.
    n_segments : int
        That were put into it; refinement may have left one no pixels.
    """

    id: int
    name: str | None
    n_pixels: int
    share: float
    n_images: int
    n_segments: int


def count_classes(labels: NDArray[np.integer[Any]], segment_classes: npt.ArrayLike) -> dict[str, Any]:
    """What `class_statistics` needs of one image, as plain JSON values that can be stored by themselves.

    Parameters
    ----------
    labels : (H, W) int
        The classes' ids; 0 is the background.
    segment_classes : (n,) int
        The class of each of the image's segments; any number of them, also none.

    >>> count_classes(np.array([[0, 2, 2], [0, 2, 1]]), [2, 1, 2])
    {'pixels': [[0, 2], [1, 1], [2, 3]], 'segments': [[1, 1], [2, 2]]}
    """
    segments = np.asarray(segment_classes, np.int64)
    return {"pixels": _counts(labels), "segments": _counts(segments)}


def class_statistics(
    counts: Iterable[Mapping[str, Any]], n_classes: int, names: Mapping[int, str] | None = None
) -> list[ClassStatistics]:
    """Add up the counts of images, which are read one at a time.

    Parameters
    ----------
    counts : iterable of mapping
        Of `count_classes`.
    n_classes : int
        Classes have the ids 1 … n_classes.
    names : mapping of int to str, optional
        Names of some ids; 0 is "background" unless named.

    Returns
    -------
    list of ClassStatistics
        n_classes + 1 of them, the background first, also of classes that no image contains.

    Raises
    ------
    ValueError
        An image contains another class.
    """
    pixels, images, segments = np.zeros((3, n_classes + 1), np.int64)
    for image in counts:
        for class_id, count in image["pixels"]:
            _check_id(class_id, n_classes)
            pixels[class_id] += count
            images[class_id] += 1
        for class_id, count in image["segments"]:
            _check_id(class_id, n_classes)
            segments[class_id] += count
    total = max(1, int(pixels.sum()))
    known = {0: "background", **(names or {})}
    columns = zip(pixels.tolist(), images.tolist(), segments.tolist(), strict=True)
    return [
        ClassStatistics(class_id, known.get(class_id), n_pixels, n_pixels / total, n_images, n_segments)
        for class_id, (n_pixels, n_images, n_segments) in enumerate(columns)
    ]


def write_statistics(statistics: Sequence[ClassStatistics], path: str | os.PathLike[str]) -> None:
    """Write a JSON list of the statistics' fields, whole or not at all.

    Raises
    ------
    OSError
        It cannot be written.
    """
    write_json([asdict(row) for row in statistics], Path(path))


def statistics_table(statistics: Sequence[ClassStatistics]) -> str:
    """A Markdown table for the screen, the largest class first and the background last."""
    order = sorted(statistics, key=lambda row: (row.id == 0, -row.n_pixels, row.id))
    cells = [["id", "class", "pixels", "images", "segments"]]
    for row in order:
        numbers = f"{row.share:.1%}", f"{row.n_images:,}", f"{row.n_segments:,}"
        # A bar in a name would end its cell, a line's end its row.
        name = " ".join((row.name or "").split()).replace("|", "\\|")
        cells.append([str(row.id), name, *numbers])
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    rule = ["-" * (width - 1) + ":" for width in widths]
    rule[1] = "-" * widths[1]
    lines = [cells[0], rule, *cells[1:]]
    return "\n".join(f"| {' | '.join(_aligned(line, widths))} |" for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Names to the left, numbers to the right."""
    return [
        text.ljust(width) if column == 1 else text.rjust(width)
        for column, (text, width) in enumerate(zip(line, widths, strict=True))
    ]


def _counts(values: NDArray[np.integer[Any]]) -> list[list[int]]:
    ids, counts = np.unique(values, return_counts=True)
    return [list(pair) for pair in zip(ids.tolist(), counts.tolist(), strict=True)]


def _check_id(class_id: int, n_classes: int) -> None:
    if not 0 <= class_id <= n_classes:
        raise ValueError(f"classes must be from 0 to n_classes = {n_classes}, got {class_id}")

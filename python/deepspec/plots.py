"""Pictures of eigenvectors, boxes, masks and segments with matplotlib, which is imported on first use.

The figures do not go through pyplot: nothing needs a display or has to be closed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepspec._files import replacing
from deepspec.decomposition import Decomposition
from deepspec.images import palette
from deepspec.regions import Box

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Row:
    """What a page shows of one image; what is None is left out.

    Attributes
    ----------
    title : str
        Printed beside the image.
    d : Decomposition
    box : Box or None
    mask : (H, W) bool or None
    labels : (H, W) int or None
    """

    title: str
    d: Decomposition
    box: Box | None = None
    mask: NDArray[np.bool_] | None = None
    labels: NDArray[np.integer[Any]] | None = None


def show_image(d: Decomposition, *, ax: Axes | None = None) -> Axes:
    """Draw the image itself, on new axes of a new figure where `ax` is None. Returns the axes.

    Raises
    ------
    ImportError
        matplotlib is not installed. All functions of this module raise it.
    """
    return _picture(d.image, ax)


def show_eigenvector(d: Decomposition, index: int = 1, *, ax: Axes | None = None) -> Axes:
    """Draw eigenvector y_index over the image's extent: red above zero, blue below, white at zero.

    Raises
    ------
    ValueError
        There is no such eigenvector.
    """
    vectors = d.pairs.vectors
    if not 0 <= index < len(vectors):
        raise ValueError(f"index must be at least 0 and below k = {len(vectors)}, got {index}")
    y = vectors[index]
    # A few extreme cells would leave the rest pale.
    limit = float(np.quantile(np.abs(y), 0.98)) or 1.0
    rows, columns = y.shape
    ax = _axes(d.image, ax)
    ax.imshow(
        y,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        interpolation="bilinear",
        extent=(-0.5, columns * d.cell[1] - 0.5, rows * d.cell[0] - 0.5, -0.5),
    )
    return _bare(d.image, ax)


def show_eigenvectors(d: Decomposition, *, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw y₁, y₂, … side by side with their eigenvalues, as many as there are axes, or all where `axes` is None.

    Raises
    ------
    ValueError
        There are more axes than eigenvectors after the constant one, or k is 1.
    """
    count = len(d.pairs.vectors) - 1 if axes is None else len(axes)
    if not 1 <= count < len(d.pairs.vectors):
        raise ValueError(f"axes must be between 1 and k - 1 = {len(d.pairs.vectors) - 1}, got {count}")
    if axes is None:
        axes = list(_figure(_WIDTH * count, _WIDTH).subplots(1, count, squeeze=False)[0])
    for index, ax in enumerate(axes, start=1):
        show_eigenvector(d, index, ax=ax).set_title(
            f"{_eigenvector_title(index)}   μ = {d.pairs.values[index]:.3g}"
        )
    return list(axes)


def show_box(d: Decomposition, box: Box, *, ax: Axes | None = None) -> Axes:
    """Draw the image with a box on it."""
    ax = _picture(d.image, ax)
    from matplotlib.patches import Rectangle

    width, height = box.xmax - box.xmin, box.ymax - box.ymin
    # Pixel centres are at whole numbers. White below the colour keeps it visible on any background.
    for color, linewidth in (("white", 3.5), (_ACCENT, 2.0)):
        outline = Rectangle(
            (box.xmin - 0.5, box.ymin - 0.5), width, height, fill=False, color=color, linewidth=linewidth
        )
        ax.add_patch(outline)
    return ax


def show_mask(d: Decomposition, mask: NDArray[np.bool_], *, ax: Axes | None = None) -> Axes:
    """Draw the image with what is outside a mask faded, and the mask's outline.

    Raises
    ------
    ValueError
        The mask has not the image's height and width.
    """
    _check_shape("mask", mask, d)
    gray = d.image.mean(axis=2, keepdims=True)
    ax = _picture(np.where(mask[..., None], d.image, 0.3 * gray + 0.7 * 255).astype(np.uint8), ax)
    if 0 < mask.mean() < 1:
        ax.contour(mask, levels=[0.5], colors=_ACCENT, linewidths=1.2)
    return ax


def show_segments(d: Decomposition, labels: NDArray[np.integer[Any]], *, ax: Axes | None = None) -> Axes:
    """Draw segments in the colours of `images.palette` over the image in gray; label 0 stays gray.

    Raises
    ------
    ValueError
        The labels have not the image's height and width, or lie outside 0 … 255.
    """
    _check_shape("labels", labels, d)
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"labels must be in [0, 255], got [{labels.min()}, {labels.max()}]")
    gray = np.broadcast_to(d.image.mean(axis=2, keepdims=True), d.image.shape)
    blend = np.where(labels[..., None] > 0, 0.35 * gray + 0.65 * palette()[labels], gray)
    return _picture(blend.astype(np.uint8), ax)


def save_page(rows: Sequence[Row], path: str | os.PathLike[str], *, n_eigenvectors: int = 3) -> None:
    """Write one PNG with a row of pictures for each image: itself, its first eigenvectors, box, mask, segments.

    Parameters
    ----------
    rows : sequence of Row
        At least one. A column that no row has anything for is left out.
    path : path
        File to write; it appears whole or not at all.
    n_eigenvectors : int
        How many of y₁, y₂, … to show, where there are so many.

    Raises
    ------
    ValueError
        There are no rows, or a part of one does not fit its image.
    OSError
        The file cannot be written.
    """
    if not rows:
        raise ValueError("rows must hold at least one image, got none")
    drawings = [_drawings(row, n_eigenvectors) for row in rows]
    titles = ["image", *map(_eigenvector_title, range(1, n_eigenvectors + 1)), "box", "mask", "segments"]
    titles = [title for title in titles if any(title in drawing for drawing in drawings)]
    heights = [_WIDTH * row.d.image.shape[0] / row.d.image.shape[1] for row in rows]
    with _drawing:
        figure = _figure(_WIDTH * len(titles), sum(heights) + 0.3)
        grid = figure.subplots(len(rows), len(titles), squeeze=False, gridspec_kw={"height_ratios": heights})
        for row, drawing, axes in zip(rows, drawings, grid, strict=True):
            for title, ax in zip(titles, axes, strict=True):
                if title in drawing:
                    drawing[title](ax=ax)
                else:
                    ax.set_axis_off()
            axes[0].set_ylabel(row.title)
        for title, ax in zip(titles, grid[0], strict=True):
            ax.set_title(title)
        with replacing(path) as file:
            figure.savefig(file, format="png", dpi=100)


def save_training_curve(records: Sequence[Mapping[str, float]], path: str | os.PathLike[str]) -> None:
    """Write one PNG of a training's loss, and of its mIoU beside that of the pseudo-labels, over its steps.

    Parameters
    ----------
    records : sequence of mappings
        `step` and `loss`; `miou` and `pseudo_labels_miou` where they were measured, both in [0, 1].
    path : path
        File to write; it appears whole or not at all.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    scored = [record for record in records if "miou" in record]
    with _drawing:
        figure = _figure(6, 3.5)
        ax = figure.subplots()
        ax.plot([record["step"] for record in records], [record["loss"] for record in records], color="0.4")
        ax.set_xlabel("step")
        ax.set_ylabel("cross entropy")
        if scored:
            steps = [record["step"] for record in scored]
            right = ax.twinx()
            right.plot(steps, [record["miou"] for record in scored], "o-", color=_ACCENT, label="network")
            if "pseudo_labels_miou" in scored[-1]:
                level = scored[-1]["pseudo_labels_miou"]
                right.axhline(level, color=_ACCENT, linestyle="--", label="pseudo-labels")
            right.set_ylabel("mIoU")
            right.set_ylim(0, 1)
            right.legend()
        with replacing(path) as file:
            figure.savefig(file, format="png", dpi=100)


def check_installed() -> None:
    """ImportError where matplotlib is not installed."""
    _figure(1, 1)


# Matplotlib's figures share fonts and settings, which are not made for several threads.
_drawing = threading.Lock()
_WIDTH = 2.4  # inches of a picture on a page
_ACCENT = "#e31a1c"


def _drawings(row: Row, n_eigenvectors: int) -> dict[str, Callable[..., Axes]]:
    """What there is to draw of a row, under the titles of its columns."""
    drawings: dict[str, Callable[..., Axes]] = {"image": partial(show_image, row.d)}
    for index in range(1, min(n_eigenvectors + 1, len(row.d.pairs.vectors))):
        drawings[_eigenvector_title(index)] = partial(show_eigenvector, row.d, index)
    if row.box is not None:
        drawings["box"] = partial(show_box, row.d, row.box)
    if row.mask is not None:
        drawings["mask"] = partial(show_mask, row.d, row.mask)
    if row.labels is not None:
        drawings["segments"] = partial(show_segments, row.d, row.labels)
    return drawings


def _eigenvector_title(index: int) -> str:
    return f"$y_{{{index}}}$"


def _check_shape(name: str, array: NDArray[Any], d: Decomposition) -> None:
    if array.shape != d.image.shape[:2]:
        raise ValueError(f"{name} must have the image's shape {d.image.shape[:2]}, got {array.shape}")


def _figure(width: float, height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'deepspec[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def _picture(image: NDArray[np.uint8], ax: Axes | None) -> Axes:
    ax = _axes(image, ax)
    ax.imshow(image)
    return _bare(image, ax)


def _axes(image: NDArray[np.uint8], ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    return _figure(5, 5 * image.shape[0] / image.shape[1]).subplots()


def _bare(image: NDArray[np.uint8], ax: Axes) -> Axes:
    """Limits at the image's edges, without ticks or frame; labels stay possible."""
    ax.set_xlim(-0.5, image.shape[1] - 0.5)
    ax.set_ylim(image.shape[0] - 0.5, -0.5)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return ax

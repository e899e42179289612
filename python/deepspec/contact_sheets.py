"""Contact sheets: many crops on one picture, so that a person can say what they have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deepspec._files import replacing

Crop = NDArray[np.uint8]


def contact_sheet(
    crops: Sequence[Crop], *, title: str = "", height: int = 120, width: int = 960
) -> Image.Image:
    """Rows of crops without gaps to speak of, each row as wide as the sheet, in the order given.

    Parameters
    ----------
    crops : sequence of (h, w, 3) uint8
    title : str
        A line above them. Pillow's own font shows characters that are not ASCII as boxes.
    height : int
        Of the rows, in pixels, at most: each is made lower until the crops fill it exactly. The last row keeps its height.
    width : int
        Of the sheet, in pixels.

    Returns
    -------
    PIL.Image.Image
        RGB, white where there are no crops.

    Raises
    ------
    ValueError
        A crop is not (h, w, 3) uint8 or has no pixels, or the height or the width is below 16.
    """
    for name, value in (("height", height), ("width", width)):
        if value < 16:
            raise ValueError(f"{name} must be at least 16 pixels, got {value}")
    for crop in crops:
        if crop.ndim != 3 or crop.shape[2] != 3 or crop.size == 0 or crop.dtype != np.uint8:
            raise ValueError(f"crops must be (h, w, 3) uint8 with pixels, got {crop.shape} {crop.dtype}")
    rows = [_row(part, height, width) for part in _split(crops, height, width)]
    above = _TITLE_HEIGHT if title else 0
    total = above + sum(row.height + _GAP for row in rows) - (_GAP if rows else 0)
    sheet = Image.new("RGB", (width, max(1, total)), _PAPER)
    if title:
        font = ImageFont.load_default(_TITLE_SIZE)
        ImageDraw.Draw(sheet).text((4, above / 2), " ".join(title.split()), _INK, font, anchor="lm")
    top = above
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + _GAP
    return sheet


def write_contact_sheet(
    crops: Sequence[Crop],
    folder: str | os.PathLike[str],
    class_id: int,
    *,
    name: str | None = None,
    height: int = 120,
    width: int = 960,
) -> Path:
    """Write the contact sheet of a class as `folder`/ID.jpg, whole or not at all; its title is the id and the name.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        See `contact_sheet`.
    OSError
        It cannot be written.
    """
    title = f"{class_id}" if name is None else f"{class_id}  {name}"
    sheet = contact_sheet(crops, title=title, height=height, width=width)
    path = Path(folder) / f"{class_id}.jpg"
    with replacing(path) as file:
        sheet.save(file, format="jpeg", quality=85, optimize=True)
    return path


_GAP = 2
_PAPER = (255, 255, 255)
_INK = (36, 39, 44)
_TITLE_SIZE = 18
_TITLE_HEIGHT = 32


def _split(crops: Sequence[Crop], height: int, width: int) -> list[list[Crop]]:
    """Fill rows with crops of a height until they are at least as wide as the sheet."""
    rows: list[list[Crop]] = []
    taken = width
    for crop in crops:
        if taken >= width:
            rows.append([])
            taken = -_GAP
        rows[-1].append(crop)
        taken += _GAP + max(1, round(height * crop.shape[1] / crop.shape[0]))
    return rows


def _row(crops: Sequence[Crop], height: int, width: int) -> Image.Image:
    """Crops side by side at one height, at most that given, at which they are no wider than the sheet."""
    ratios = np.array([crop.shape[1] / crop.shape[0] for crop in crops])
    available = width - _GAP * (len(crops) - 1)
    exact = available / float(ratios.sum())
    row_height = max(1, min(height, round(exact)))
    # Rounding the ends instead of the widths keeps the sum.
    ends = np.rint(np.cumsum(ratios) * min(exact, height)).astype(int)
    starts = np.concatenate([[0], ends[:-1]])
    row = Image.new("RGB", (width, row_height), _PAPER)
    for index, (crop, start, end) in enumerate(zip(crops, starts.tolist(), ends.tolist(), strict=True)):
        size = (max(1, end - start), row_height)
        picture = Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
        row.paste(picture, (start + index * _GAP, 0))
    return row

"""Small pictures of what was found in an image, for the pages of a run."""

from __future__ import annotations

import base64
import io
from colorsys import hsv_to_rgb
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from deepspec.decomposition import Decomposition
from deepspec.regions import Box


@dataclass(frozen=True)
class Panel:
    """One picture of an entry.

    Attributes
    ----------
    caption : str
        What it shows: "box", "segments", "y₁".
    width, height : int
        In pixels.
    jpeg : str
        The file, in base64.
    """

    caption: str
    width: int
    height: int
    jpeg: str


def panel(caption: str, picture: Image.Image) -> Panel:
    file = io.BytesIO()
    picture.save(file, format="jpeg", quality=75, optimize=True)
    return Panel(caption, *picture.size, base64.b64encode(file.getvalue()).decode())


def scaled(image: NDArray[np.uint8], height: int) -> tuple[Image.Image, float]:
    """An (H, W, 3) image at a height in pixels, lower where it is more than twice as wide as high; and the scale.

    Raises
    ------
    ValueError
        The height is below 1.
    """
    if height < 1:
        raise ValueError(f"height must be at least 1 pixel, got {height}")
    rows, columns = image.shape[:2]
    scale = min(height / rows, 2 * height / columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0), scale


def check_labels(labels: NDArray[np.integer[Any]], image: NDArray[np.uint8]) -> None:
    """ValueError where labels do not fit an image or are not in [0, 255]."""
    if labels.shape != image.shape[:2]:
        raise ValueError(f"labels must have the image's shape {image.shape[:2]}, got {labels.shape}")
    if not 0 <= labels.min() <= labels.max() <= 255:
        raise ValueError(f"labels must be in [0, 255], got [{labels.min()}, {labels.max()}]")


def shade_segments(image: Image.Image, labels: NDArray[np.integer[Any]]) -> Image.Image:
    """The image in gray and over it the labels' colours, but for label 0."""
    small = Image.fromarray(labels.astype(np.uint8)).resize(image.size, Image.Resampling.NEAREST)
    ids = np.asarray(small)[..., None]
    gray = np.asarray(image.convert("L"), np.float32)[..., None]
    return _rgb(np.where(ids > 0, 0.45 * gray + 0.55 * segment_colors()[ids[..., 0]], gray))


@cache
def segment_colors() -> NDArray[np.float64]:
    """(256, 3) in [0, 255]: hues far from the one before, bright, since VOC's palette begins too dark for a photograph.

    Hues come close again after 8 colours: the next 8 are deeper, then paler.
    """
    hues = np.arange(256) * (5**0.5 - 1) / 2 % 1
    tones = ((0.7, 1.0), (1.0, 0.85), (0.35, 1.0))  # saturation, value
    colors = 255 * np.array([hsv_to_rgb(hue, *tones[index // 8 % 3]) for index, hue in enumerate(hues)])
    colors.flags.writeable = False  # the cache hands out this very array
    return colors


def outline_mask(image: Image.Image, mask: NDArray[np.bool_]) -> Image.Image:
    """What is outside turned grayish and pale, and a soft line where the mask ends."""
    inside = Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).resize(image.size, Image.Resampling.BOX)
    soft = np.asarray(inside.filter(ImageFilter.GaussianBlur(1)), np.float32)[..., None] / 255
    wide = np.asarray(inside.filter(ImageFilter.GaussianBlur(2)), np.float32)[..., None] / 255
    color = np.asarray(image, np.float32)
    gray = np.asarray(image.convert("L"), np.float32)[..., None]
    picture = soft * color + (1 - soft) * (0.55 * gray + 0.45 * 128)
    # p (1 - p) of a blurred step is a bump on its edge.
    for line, shade in ((4 * wide * (1 - wide), (255, 255, 255)), (4 * soft * (1 - soft), _ACCENT)):
        picture = line * np.array(shade) + (1 - line) * picture
    return _rgb(picture)


def draw_box(image: Image.Image, box: Box, scale: float) -> None:
    """Draw a box into an image, whose pixels are `scale` times those that the box counts."""
    left, top = round(box.xmin * scale), round(box.ymin * scale)
    right, bottom = max(left, round(box.xmax * scale) - 1), max(top, round(box.ymax * scale) - 1)
    draw = ImageDraw.Draw(image)
    # White around the colour keeps it visible on any background.
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(255, 255, 255), width=4)
    draw.rectangle((left, top, right, bottom), outline=_ACCENT, width=2)


def eigenvector(d: Decomposition, index: int, size: tuple[int, int], scale: float) -> Image.Image:
    """y of an index as a (width, height) picture: red above zero, blue below, gray where the grid does not reach."""
    y = d.pairs.vectors[index]
    # A few extreme cells would leave the rest pale.
    limit = float(np.quantile(np.abs(y), 0.98)) or 1.0
    rows, columns = y.shape
    extent = max(1, round(columns * d.cell[1] * scale)), max(1, round(rows * d.cell[0] * scale))
    smooth = np.asarray(Image.fromarray(y / np.float32(limit)).resize(extent, Image.Resampling.BILINEAR))
    levels = np.rint(127.5 * (smooth.clip(-1, 1) + 1)).astype(np.intp)
    picture = np.full((size[1], size[0], 3), _UNCOVERED, np.uint8)
    covered = _diverging_colors()[levels[: size[1], : size[0]]]
    picture[: covered.shape[0], : covered.shape[1]] = covered
    return Image.fromarray(picture)


_ACCENT = (227, 26, 28)
_UNCOVERED = 160  # gray
# From blue to red, evenly spaced.
_DIVERGING = np.array(
    [
        (16, 58, 122),
        (59, 128, 191),
        (157, 200, 226),
        (247, 247, 246),
        (244, 176, 141),
        (208, 82, 70),
        (122, 8, 34),
    ]
)


def _diverging_colors() -> NDArray[np.uint8]:
    """(256, 3): blue, white, red."""
    stops = np.linspace(0, 255, len(_DIVERGING))
    channels = [np.interp(np.arange(256), stops, channel) for channel in _DIVERGING.T]
    return np.stack(channels, axis=1).astype(np.uint8)


def _rgb(array: NDArray[Any]) -> Image.Image:
    return Image.fromarray(np.rint(array).astype(np.uint8))

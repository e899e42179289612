"""A photograph and an alpha → the colours in front and behind, and new pictures of them."""

from __future__ import annotations

import os
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageOps

from deepspec import images
from deepspec._blocks import blocks
from deepspec.images import ImageSource

Float32 = NDArray[np.float32]
Color: TypeAlias = "str | tuple[int, int, int]"


def estimate_colors(image: NDArray[np.uint8], alpha: Float32) -> tuple[Float32, Float32]:
    """The colours F in front and B behind, for which α F + (1 − α) B is the photograph, to a quarter of an 8-bit step.

    They are those of PyMatting's multi-level estimation (Germer et al., ICPR 2020), which are smooth, brought to the
    nearest ones in [0, 1] for which the equation holds.

    Parameters
    ----------
    image : (H, W, 3) uint8
    alpha : (H, W) float32 in [0, 1]

    Returns
    -------
    foreground, background : (H, W, 3) float32 in [0, 1]

    Raises
    ------
    ImportError
        PyMatting is not installed.
    """
    if alpha.size == 1:  # which PyMatting divides by zero for
        return to_shares(image), to_shares(image)
    foreground, background = _pymatting()(to_shares(image), alpha, return_background=True)
    for rows in row_blocks(image):
        foreground[rows], background[rows] = _nearest_colors(
            to_shares(image[rows]), alpha[rows, :, None], foreground[rows], background[rows]
        )
    return foreground, background


def _nearest_colors(
    colors: Float32, alpha: Float32, foreground: Float32, background: Float32
) -> tuple[Float32, Float32]:
    """Those for which α F + (1 − α) B is the photograph."""
    behind = 1 - alpha
    # F = I − t (1 − α) and B = I + t α fulfil the equation for any t.
    t = (alpha * (background - colors) - behind * (foreground - colors)) / (alpha**2 + behind**2)
    # Where one of the shares is next to nothing, the other's colours set no limit.
    front_share, back_share = np.maximum(alpha, _TINY), np.maximum(behind, _TINY)
    dark, light = colors + _SLACK, 1 - colors + _SLACK
    least = np.maximum(-light / back_share, -dark / front_share)
    most = np.minimum(dark / back_share, light / front_share)
    t = np.clip(t, least, most)
    return _clipped(colors - t * behind), _clipped(colors + t * alpha)


def require_pymatting() -> None:
    """ImportError where the colours cannot be estimated."""
    _pymatting()


def _pymatting() -> Any:
    try:
        from pymatting import estimate_foreground_ml
    except ImportError as error:
        raise ImportError(
            "the colours of a foreground need PyMatting: pip install 'deepspec[matting]'"
        ) from error
    return estimate_foreground_ml


def blend(foreground: NDArray[Any], background: NDArray[Any], alpha: Float32) -> NDArray[np.uint8]:
    """α F + (1 − α) B of 8-bit colours or such in [0, 1], (H, W, 3), as 8-bit ones."""
    mixed = np.empty(foreground.shape, np.uint8)
    for rows in row_blocks(mixed):
        share = alpha[rows, :, None]
        mixed[rows] = to_levels(
            share * to_shares(foreground[rows]) + (1 - share) * to_shares(background[rows])
        )
    return mixed


def to_levels(colors: NDArray[np.floating[Any]], bits: int = 8) -> NDArray[Any]:
    """Colours in [0, 1], (H, W, 3), in whole numbers of 8 or 16 bits."""
    levels = np.empty(colors.shape, np.uint8 if bits == 8 else np.uint16)
    for rows in row_blocks(levels):
        levels[rows] = np.rint((2**bits - 1) * _clipped(colors[rows]))
    return levels


def to_shares(colors: NDArray[Any]) -> Float32:
    """Colours in [0, 1] of 8-bit ones, or those that are."""
    if colors.dtype != np.uint8:
        return np.asarray(colors, np.float32)
    return np.asarray(np.divide(colors, np.float32(255), dtype=np.float32))


def row_blocks(colors: NDArray[Any]) -> list[slice]:
    """Rows of (H, W, 3) to work on at a time."""
    return blocks(len(colors), 3 * colors.shape[1])


def backdrop(background: ImageSource | Color, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A picture to put behind a photograph of (height, width), (height, width, 3).

    Parameters
    ----------
    background : color or image
        (r, g, b) or text that `PIL.ImageColor` knows, such as `"white"` and `"#ff8800"`: that colour everywhere.
        Otherwise an image that `images.load` reads, scaled to cover the photograph and cut to its size about the
        centre.
    size : (height, width)

    Raises
    ------
    OSError, ValueError
        It is neither.
    """
    color = as_color(background)
    if color is not None:
        return np.broadcast_to(np.array(color, np.uint8), (*size, 3))
    try:
        picture = images.load(background)  # type: ignore[arg-type]
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{os.fspath(background)}: no such image file, and no colour such as white or #ff8800"  # type: ignore[arg-type]
        ) from error
    return np.asarray(
        ImageOps.fit(Image.fromarray(picture), (size[1], size[0]), Image.Resampling.LANCZOS), np.uint8
    )


def as_color(value: Any) -> tuple[int, int, int] | None:
    """(r, g, b) of a colour, or None for what is none.

    >>> as_color("orange"), as_color((1, 2, 3)), as_color("beach.jpg")
    ((255, 165, 0), (1, 2, 3), None)

    Raises
    ------
    ValueError
        Three numbers that are not whole ones from 0 to 255.
    """
    if isinstance(value, str):
        try:
            return ImageColor.getrgb(value)[:3]
        except ValueError:
            return None
    if not isinstance(value, (tuple, list)):
        return None
    whole = [isinstance(part, (int, np.integer)) and not isinstance(part, bool) for part in value]
    if len(value) != 3 or not all(whole) or not all(0 <= part <= 255 for part in value):
        raise ValueError(f"a colour must be three whole numbers (r, g, b) from 0 to 255, got {value!r}")
    return int(value[0]), int(value[1]), int(value[2])


def in_color(image: NDArray[np.uint8], color: tuple[int, int, int]) -> Float32:
    """A photograph in the hue and saturation of a colour, with its own lightness, (H, W, 3) in [0, 1].

    This is the blend mode that image editors call "color" (W3C, Compositing and Blending Level 1, section 10.2).
    """
    found, hue = np.empty(image.shape, np.float32), to_shares(np.array(color, np.uint8))
    for rows in row_blocks(image):
        found[rows] = _in_hue(to_shares(image[rows]), hue)
    return found


def _in_hue(image: Float32, hue: Float32) -> Float32:
    light = image @ _LUMINOSITY
    colors = hue + (light - hue @ _LUMINOSITY)[..., None]
    # What lies outside [0, 1] is drawn towards the gray of its lightness.
    light = light[..., None]
    least, most = colors.min(axis=2, keepdims=True), colors.max(axis=2, keepdims=True)
    low = light / np.maximum(light - least, _TINY)
    high = (1 - light) / np.maximum(most - light, _TINY)
    return _clipped(light + (colors - light) * np.minimum(1, np.minimum(low, high)))


def _clipped(values: NDArray[np.floating[Any]]) -> Float32:
    return np.asarray(np.clip(values, 0, 1), np.float32)


_LUMINOSITY = np.array([0.3, 0.59, 0.11], np.float32)
_TINY = np.float32(1e-6)
_SLACK = np.float32(0.25 / 255)  # what no 8-bit picture shows

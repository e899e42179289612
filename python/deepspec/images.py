"""Any image file, file object, PIL image or array as (H, W, 3) uint8."""

from __future__ import annotations

import os
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

ImageSource: TypeAlias = "str | os.PathLike[str] | IO[bytes] | Image.Image | NDArray[Any]"


def load(source: ImageSource) -> NDArray[np.uint8]:
    """Read an image as 8-bit RGB.

    Files and PIL images are turned as their EXIF orientation says; of several frames the first is taken;
    transparent pixels lie over white; 16-bit values are scaled to 8 bits; other colour spaces are converted
    by Pillow without colour management.

    Parameters
    ----------
    source : path, binary file object, PIL image or array
        Arrays are (H, W), (H, W, 1), (H, W, 2: gray and alpha), (H, W, 3) or (H, W, 4: RGB and alpha), and
        uint8, uint16 or floating in [0, 1].

    Returns
    -------
    (H, W, 3) uint8 array
        Contiguous and not shared with `source`.

    Raises
    ------
    OSError
        The file is missing, not an image, or truncated; the message names it.
    ValueError
        The array has another shape, type or range, or the image has no pixels.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        return _from_pil(source, "image")
    name = str(source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", "image file"))
    try:
        with Image.open(source) as image:
            return _from_pil(image, name)
    except (ValueError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and name in str(error):
            raise
        # On broken files Pillow's decoders raise errors of many kinds.
        raise OSError(f"{name}: cannot be read as an image: {error}") from error


def crop(image: NDArray[Any], height: int, width: int) -> NDArray[Any]:
    """The top left `height` × `width` pixels of an (H, W, ...) array, as a view.

    Raises
    ------
    ValueError
        The region is empty or larger than the image.
    """
    if not (1 <= height <= image.shape[0] and 1 <= width <= image.shape[1]):
        raise ValueError(
            f"height and width must be within the image's {image.shape[0]} x {image.shape[1]} pixels, "
            f"got {height} x {width}"
        )
    return image[:height, :width]


def resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize an image with Pillow's bilinear filter, which widens with the reduction (antialiasing).

    Parameters
    ----------
    image : (H, W, 3) uint8 or floating
    size : (height, width) of the result

    Returns
    -------
    (height, width, 3) array
        uint8 for uint8, float32 for floating input.

    Raises
    ------
    ValueError
        The image has another shape or type, or a size is below 1.
    """
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"image must be (H, W, 3) with at least one pixel, got shape {image.shape}")
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be at least 1 x 1, got {height} x {width}")
    if image.dtype == np.uint8:
        pil = Image.fromarray(np.ascontiguousarray(image))
        return np.array(pil.resize((width, height), Image.Resampling.BILINEAR))
    if image.dtype.kind != "f":
        raise ValueError(f"image must be uint8 or floating, got {image.dtype}")
    # Pillow has no floating RGB image: channel by channel.
    channels = [
        Image.fromarray(np.ascontiguousarray(image[..., c], np.float32)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        for c in range(3)
    ]
    return np.stack([np.asarray(channel) for channel in channels], axis=2)


def shrink(image: NDArray[Any], max_size: int | None) -> NDArray[Any]:
    """The image with its longer side reduced to `max_size` pixels, or itself where that is not longer or None.

    Raises
    ------
    ValueError
        `max_size` is below 1, or the image is not as `resize` wants it.
    """
    if max_size is None:
        return image
    if max_size < 1:
        raise ValueError(f"max_size must be at least 1 pixel, got {max_size}")
    scale = max_size / max(image.shape[:2])
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    return resize(image, (height, width))


def palette() -> NDArray[np.uint8]:
    """PASCAL VOC's palette, (256, 3) uint8: the bits of a label, dealt to red, green and blue in turn.

    >>> palette()[[0, 1, 2, 15]].tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [192, 128, 128]]
    """
    labels = np.arange(256)
    colors = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            # The label's lowest three bits set the colours' highest bits, the next three the next highest.
            if 3 * (7 - bit) + channel < 8:
                colors[:, channel] |= (((labels >> (3 * (7 - bit) + channel)) & 1) << bit).astype(np.uint8)
    return colors


def _from_pil(image: Image.Image, name: str) -> NDArray[np.uint8]:
    if 0 in image.size:
        raise ValueError(f"{name}: image has no pixels, its size is {image.size[0]} x {image.size[1]}")
    try:
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            return _from_array(_deep_gray(image))
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            image = image.convert("RGBA")
        elif image.mode != "RGB":
            image = image.convert("RGB")
        return _from_array(np.asarray(image))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _deep_gray(image: Image.Image) -> NDArray[Any]:
    """Pixels of Pillow's 16-bit, 32-bit ("I": 16-bit values in older files and versions) and float modes."""
    array = np.asarray(image)
    if array.dtype.kind == "f":
        return array
    if array.min() < 0 or array.max() > 65535:
        raise ValueError(f"integer image must lie in [0, 65535], got [{array.min()}, {array.max()}]")
    return array.astype(np.uint16)


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise ValueError(f"image must be (H, W) or (H, W, 1 to 4), got shape {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"image has no pixels, its shape is {array.shape}")
    array = _to_uint8(array)
    channels = array.shape[2]
    if channels in (2, 4):
        alpha = array[:, :, -1:].astype(np.uint32)
        over_white = array[:, :, :-1] * alpha + 255 * (255 - alpha)
        array = ((over_white + 127) // 255).astype(np.uint8)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)))


def _to_uint8(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return np.asarray((array.astype(np.uint32) + 128) // 257, np.uint8)
    if array.dtype.kind != "f":
        raise ValueError(f"image must be uint8, uint16 or floating in [0, 1], got {array.dtype}")
    # NaN fails both comparisons.
    if not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(f"floating image must lie in [0, 1], got [{array.min()}, {array.max()}]")
    return np.asarray(np.rint(array * 255), np.uint8)

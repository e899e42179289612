"""Any image file, file object, PIL image or array as (H, W, 3) uint8."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

ImageSource: TypeAlias = "str | os.PathLike[str] | IO[bytes] | Image.Image | NDArray[Any]"


def load(source: ImageSource) -> NDArray[np.uint8]:
    """Read an image as 8-bit RGB.

    Files and PIL images are turned as their EXIF orientation says; of several frames the first is taken;
    transparent pixels lie over white; 16-bit values are scaled to 8 bits; other colour spaces are converted
    without colour management. Pillow's warnings, such as those of damaged EXIF data, are not passed on.

    Parameters
    ----------
    source : path, binary file object, PIL image or array
        File objects are read from their beginning and stay open. Arrays are (H, W), (H, W, 1), (H, W, 2: gray and
        alpha), (H, W, 3) or (H, W, 4: RGB and alpha), and uint8, uint16 or floating in [0, 1].

    Returns
    -------
    (H, W, 3) uint8 array
        Contiguous and not shared with `source`.

    Raises
    ------
    OSError
        The file is missing, not an image, damaged, or has more than twice `PIL.Image.MAX_IMAGE_PIXELS`; the message
        names it.
    ValueError
        The array has another shape, type or range, the image has no pixels, or `source` is something else.
    """
    return _over_white(_read(source))


def load_rgba(source: ImageSource) -> NDArray[np.uint8]:
    """`load` with the transparency kept: (H, W, 4) uint8, alpha last, 255 throughout where there is none."""
    array = _read(source)
    height, width, channels = array.shape
    rgba = np.full((height, width, 4), 255, np.uint8)
    colors = channels - 1 if channels in (2, 4) else channels
    rgba[:, :, :3] = array[:, :, :colors]
    if colors < channels:
        rgba[:, :, 3] = array[:, :, -1]
    return rgba


def size_of(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) that `load` would give a file's image, from the file's header where that tells it.

    Raises
    ------
    OSError
        As `load` does.
    """
    with Path(path).open("rb") as file, _opened(file, str(path)) as image:
        try:
            if image.format == "TIFF":
                image.load()  # which turns it
            turned = _orientation(image) >= 5
        except Exception as error:
            raise _unreadable(str(path), error) from error
        width, height = image.size
    return (width, height) if turned else (height, width)


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


def write_labels(labels: NDArray[np.integer[Any]], file: IO[bytes]) -> None:
    """Write labels as PNG with PASCAL VOC's palette: the values of its pixels are the labels.

    Parameters
    ----------
    labels : (H, W) integer in [0, 255]
    file : binary file object

    Raises
    ------
    ValueError
        The labels have another shape, type or range.
    """
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be (H, W) integer, got shape {labels.shape} {labels.dtype}")
    if labels.min() < 0 or labels.max() > 255:
        raise ValueError(f"labels must be in [0, 255], got [{labels.min()}, {labels.max()}]")
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(palette().tobytes())
    picture.save(file, format="png")


def read_labels(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read labels as `write_labels` writes them: what a pixel of a PNG with a palette, or in gray, holds.

    Returns
    -------
    (H, W) uint8

    Raises
    ------
    OSError
        The file is missing, damaged or no image.
    ValueError
        Its pixels are colours, or have more than 8 bits.
    """
    with Path(path).open("rb") as file, _opened(file, str(path)) as image:
        if image.mode not in ("P", "L"):
            raise ValueError(
                f"{path}: labels must be 8-bit palette or gray, got an image of mode {image.mode}"
            )
        try:
            return np.array(image)
        except Exception as error:
            raise _unreadable(str(path), error) from error


def write_mask(mask: NDArray[np.bool_], file: IO[bytes]) -> None:
    """Write an (H, W) bool mask as grayscale PNG of 0 and 255.

    Raises
    ------
    ValueError
        The mask has another shape or type.
    """
    if mask.ndim != 2 or mask.size == 0 or mask.dtype != np.bool_:
        raise ValueError(f"mask must be (H, W) bool, got shape {mask.shape} {mask.dtype}")
    Image.fromarray(mask * np.uint8(255)).save(file, format="png")


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


def _read(source: ImageSource) -> NDArray[np.uint8]:
    """(H, W, 1 to 4) uint8, perhaps shared with `source`; alpha is the last of 2 or 4 channels."""
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        with _without_warnings_of_pillow():
            return _from_pil(source, getattr(source, "filename", "") or "image")
    if isinstance(source, (str, os.PathLike)):
        with Path(source).open("rb") as file:
            return _from_file(file, str(source))
    if not hasattr(source, "read") or isinstance(source, io.TextIOBase):
        raise ValueError(
            f"image must be a path, a binary file object, a PIL image or an array, got {type(source).__name__}"
        )
    name = getattr(source, "name", None)
    return _from_file(source, name if isinstance(name, str) else "image file")


def _from_file(file: IO[bytes], name: str) -> NDArray[np.uint8]:
    # Pillow goes back and forth.
    if not (hasattr(file, "seekable") and file.seekable()):
        file = io.BytesIO(file.read())
    with _opened(file, name) as image:
        return _from_pil(image, name)


@contextmanager
def _opened(file: IO[bytes], name: str) -> Iterator[Image.Image]:
    with _without_warnings_of_pillow():
        try:
            image = Image.open(file)
        except UnidentifiedImageError as error:
            raise OSError(f"{name}: not a readable image: {_kind(file)}") from error
        except Exception as error:
            raise _unreadable(name, error) from error
        with image:
            yield image


def _from_pil(image: Image.Image, name: str) -> NDArray[np.uint8]:
    if 0 in image.size:
        raise ValueError(f"{name}: image has no pixels, its size is {image.size[0]} x {image.size[1]}")
    try:
        image.load()
        orientation = _orientation(image)
        pixels = _pixels(image)
    except MemoryError:
        raise
    except Exception as error:
        # On broken files Pillow's decoders raise errors of many kinds.
        raise _unreadable(name, error) from error
    try:
        array = _from_array(_deep(pixels))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return _upright(array, orientation)


def _pixels(image: Image.Image) -> NDArray[Any]:
    """(H, W, 3) or (H, W, 4) uint8, or of the deep modes (H, W) or (H, W, 2) in their own type."""
    mode, transparent = image.mode, image.info.get("transparency")
    if mode.startswith(("I", "F")):
        gray = np.asarray(image)
        if mode == "F" or not isinstance(transparent, int):
            return gray
        return np.stack([gray, np.where(gray == transparent, 0, 65535).astype(gray.dtype)], axis=2)
    if mode == "LAB":
        return np.asarray(_from_lab(image))
    if mode == "La":
        image = image.convert("LA")
    palette_mode = image.palette.mode if image.palette else ""
    if "A" in mode or "a" in mode or transparent is not None or palette_mode == "RGBA":
        return np.asarray(image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _from_lab(image: Image.Image) -> Image.Image:
    # Pillow's own conversion does not know this space.
    from PIL import ImageCms

    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, rgb, "LAB", "RGB").apply(image)


def _deep(array: NDArray[Any]) -> NDArray[Any]:
    """Pillow's integer modes as uint16: "I" holds the 16-bit values of older files and versions."""
    if array.dtype.kind == "f" or array.dtype == np.uint8:
        return array
    if array.min() < 0 or array.max() > 65535:
        raise ValueError(f"integer image must lie in [0, 65535], got [{array.min()}, {array.max()}]")
    return array.astype(np.uint16)


def _orientation(image: Image.Image) -> int:
    """1 to 8, as EXIF counts; 1 where there is none or the data is damaged."""
    if image.format == "TIFF":
        # Pillow has turned it while loading; old versions tell the orientation nevertheless.
        return 1
    found = None
    # There are as many kinds of errors as ways to damage it.
    with suppress(Exception):
        found = image.getexif().get(0x0112)
    return found if isinstance(found, int) else 1


def _upright(array: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


_OF_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextmanager
def _without_warnings_of_pillow() -> Iterator[None]:
    """Ignore them, in any number of threads at a time.

    `warnings.catch_warnings` would put the list of filters back that it found, and with it those of another thread
    that has ended meanwhile. One entry more or less leaves every other filter alone.
    """
    warnings.filters.insert(0, _OF_PILLOW)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        # It is gone where another thread has put its own list in place.
        with suppress(ValueError):
            warnings.filters.remove(_OF_PILLOW)  # type: ignore[attr-defined]


def _unreadable(name: str, error: Exception) -> OSError:
    if isinstance(error, Image.DecompressionBombError):
        # "Image size (N pixels) exceeds limit of M pixels, could be …"
        reason = f"{str(error).split(',')[0]}, twice PIL.Image.MAX_IMAGE_PIXELS"
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
    return OSError(f"{name}: cannot be read as an image: {reason}")


_KINDS = {
    rb"\s*%PDF": "a PDF document",
    rb"(?i)\s*<(!doctype html|html|head|body)": "an HTML page",
    rb"(?i)\s*<(\?xml|svg)": "an SVG drawing or other XML",
    rb"PK\x03\x04": "a ZIP archive",
    rb"....ftyp(hei|hev|mif|msf)": "a HEIC image, for which Pillow needs a plugin",
    rb"....ftypavi": "an AVIF image, damaged or beyond this version of Pillow",
    rb"....ftyp": "a video",
    rb"\xff\xd8\xff": "a damaged JPEG image",
    rb"\x89PNG": "a damaged PNG image",
    rb"GIF8": "a damaged GIF image",
    rb"RIFF....WEBP": "a damaged WebP image",
    rb"II\*\0|MM\0\*": "a TIFF image, damaged or of a kind that Pillow does not know",
    rb"[\t\n\r -~]+$": "text",
}


def _kind(file: IO[bytes]) -> str:
    """What a file looks like that Pillow did not recognise."""
    file.seek(0)
    head = file.read(64)
    if not head:
        return "it is empty"
    for pattern, kind in _KINDS.items():
        if re.match(pattern, head, re.DOTALL):
            return f"it looks like {kind}"
    return "its format is unknown"


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4):
        raise ValueError(f"image must be (H, W) or (H, W, 1 to 4), got shape {array.shape}")
    if 0 in array.shape:
        raise ValueError(f"image has no pixels, its shape is {array.shape}")
    return _to_uint8(array)


def _over_white(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.shape[2] in (2, 4):
        alpha = array[:, :, -1:].astype(np.uint32)
        over_white = array[:, :, :-1] * alpha + 255 * (255 - alpha)
        array = ((over_white + 127) // 255).astype(np.uint8)
    return np.array(np.broadcast_to(array, (*array.shape[:2], 3)), order="C")


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

"""PNG files of colours with an alpha channel, 8 or 16 bits a channel."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def write_rgba(pixels: NDArray[Any], file: IO[bytes]) -> None:
    """Write (H, W, 4) uint8 or uint16 as PNG; the colours of transparent pixels are kept.

    Raises
    ------
    ValueError
        The array has another shape or type.
    """
    if pixels.ndim != 3 or pixels.shape[2] != 4 or 0 in pixels.shape or pixels.dtype not in _DEPTHS:
        raise ValueError(f"pixels must be (H, W, 4) uint8 or uint16, got {pixels.shape} {pixels.dtype}")
    if pixels.dtype == np.uint8:
        Image.fromarray(np.ascontiguousarray(pixels)).save(file, format="png")
    else:
        _write_deep(pixels, file)


def read_rgba(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read what `write_rgba` wrote, or any 8-bit PNG of colours with an alpha channel.

    Returns
    -------
    (H, W, 4) uint8 or uint16

    Raises
    ------
    OSError
        The file is missing or damaged.
    ValueError
        It is of another kind: no RGBA image, or one of 16 bits that another program wrote.
    """
    data = Path(path).read_bytes()
    if data[:8] == _SIGNATURE and data[12:16] == b"IHDR" and data[24:26] == _DEEP_RGBA:
        return _read_deep(data, path)
    try:
        with Image.open(io.BytesIO(data)) as image:
            mode, pixels = image.mode, np.array(image)
    except Exception as error:
        # On broken files Pillow's decoders raise errors of many kinds.
        raise OSError(f"{path}: cannot be read as an image: {error}") from error
    if mode != "RGBA":
        raise ValueError(f"{path}: must be an RGBA image, got one of mode {mode}")
    return pixels


_DEPTHS = (np.uint8, np.uint16)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_DEEP_RGBA = b"\x10\x06"  # 16 bits a channel, colours with alpha
_UP = 2  # the filter of each row: its difference from the row above
_PIXEL_BYTES = 8


def _write_deep(pixels: NDArray[np.uint16], file: IO[bytes]) -> None:
    """Pillow has no image of four 16-bit channels: the format of ISO/IEC 15948, each row filtered by `_UP`."""
    height, width = pixels.shape[:2]
    header = (
        struct.pack(">II", width, height) + _DEEP_RGBA + bytes(3)
    )  # deflated, filters by row, not interlaced
    file.write(_SIGNATURE)
    _write_chunk(b"IHDR", header, file)
    deflate = zlib.compressobj(6)
    above = np.zeros(_PIXEL_BYTES * width, np.uint8)
    for row in pixels:
        bytes_of_row = row.astype(">u2").reshape(-1).view(np.uint8)
        # In uint8: differences wrap around, as the format wants it.
        if data := deflate.compress(bytes([_UP]) + (bytes_of_row - above).tobytes()):
            _write_chunk(b"IDAT", data, file)
        above = bytes_of_row
    _write_chunk(b"IDAT", deflate.flush(), file)
    _write_chunk(b"IEND", b"", file)


def _write_chunk(kind: bytes, data: bytes, file: IO[bytes]) -> None:
    file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


def _read_deep(data: bytes, path: str | os.PathLike[str]) -> NDArray[np.uint16]:
    width, height = struct.unpack(">II", data[16:24])
    try:
        packed = b"".join(content for kind, content in _chunks(data) if kind == b"IDAT")
        rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + _PIXEL_BYTES * width)
    except (zlib.error, struct.error, ValueError) as error:
        raise OSError(f"{path}: cannot be read as an image: {error}") from error
    if (rows[:, 0] != _UP).any():
        raise ValueError(f"{path}: was not written by deepspec: its rows have other filters")
    sums = np.add.accumulate(rows[:, 1:], axis=0, dtype=np.uint8)
    return sums.view(">u2").reshape(height, width, 4).astype(np.uint16)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and contents, each checked against its sum."""
    start = len(_SIGNATURE)
    while start < len(data):
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        content = data[start + 8 : start + 8 + length]
        (expected,) = struct.unpack(">I", data[start + 8 + length : start + 12 + length])
        if zlib.crc32(kind + content) != expected:
            raise ValueError(f"the sum of its chunk {kind.decode('latin-1')} is wrong")
        yield kind, content
        start += 12 + length

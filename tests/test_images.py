from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, features

from deepspec import images

RGB = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8
)


def encoded(image: Image.Image, extension: str = "png", **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format=extension, **options)
    file.seek(0)
    return file


def png(width: int, height: int, depth: int, color: int, rows: bytes, **chunks: bytes) -> bytes:
    """A PNG file by hand."""

    def chunk(name: str, data: bytes) -> bytes:
        body = name.encode() + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    parts = {"IHDR": header, **chunks, "IDAT": zlib.compress(rows), "IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in parts.items())


def tiff(array: np.ndarray, order: str) -> bytes:
    """An uncompressed TIFF file by hand, (H, W) or (H, W, C) of any type, in byte order "<" or ">"."""
    pixels = array[..., None] if array.ndim == 2 else array
    height, width, channels = pixels.shape
    bits = struct.pack(f"{order}{channels}H", *[8 * array.itemsize] * channels)
    data = pixels.astype(array.dtype.newbyteorder(order)).tobytes()
    n_entries = 9
    after = 8 + 2 + 12 * n_entries + 4

    def short(tag: int, value: int) -> bytes:
        return struct.pack(order + "HHIHH", tag, 3, 1, value, 0)

    def long(tag: int, value: int) -> bytes:
        return struct.pack(order + "HHII", tag, 4, 1, value)

    entries = [
        long(256, width),
        long(257, height),
        short(258, 8 * array.itemsize)
        if channels == 1
        else struct.pack(order + "HHII", 258, 3, channels, after),
        short(262, 1 if channels == 1 else 2),
        long(273, after + len(bits)),
        short(277, channels),
        long(278, height),
        long(279, len(data)),
        short(339, {"u": 1, "i": 2, "f": 3}[array.dtype.kind]),
    ]
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, n_entries)
    return start + b"".join(entries) + bytes(4) + bits + data


@pytest.fixture
def no_warnings() -> Iterator[None]:
    """Whatever a filter would hide elsewhere fails the test."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    assert [str(warning.message) for warning in seen] == []


def test_every_kind_of_source_gives_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(RGB).save(path)
    with path.open("rb") as file:
        for source in (path, str(path), file, encoded(Image.fromarray(RGB)), Image.fromarray(RGB), RGB):
            found = images.load(source)
            assert found.dtype == np.uint8
            assert found.flags.c_contiguous
            np.testing.assert_array_equal(found, RGB)


def test_result_is_not_shared_with_the_source() -> None:
    source = RGB.copy()
    images.load(source)[:] = 0
    np.testing.assert_array_equal(source, RGB)


def test_file_objects_are_read_from_the_start_and_stay_open() -> None:
    file = encoded(Image.fromarray(RGB))
    for position in (0, 10, len(file.getvalue())):
        file.seek(position)
        np.testing.assert_array_equal(images.load(file), RGB)
    broken = io.BytesIO(b"broken")
    with pytest.raises(OSError, match="image file: not a readable image"):
        images.load(broken)
    assert broken.getvalue() == b"broken"


def test_a_file_that_can_be_read_once() -> None:
    content = encoded(Image.fromarray(RGB)).getvalue()

    def load_from_pipe(content: bytes) -> np.ndarray:
        reader, writer = os.pipe()
        with os.fdopen(writer, "wb") as file:
            file.write(content)
        with os.fdopen(reader, "rb") as file:
            assert not file.seekable()
            return images.load(file)

    np.testing.assert_array_equal(load_from_pipe(content), RGB)
    with pytest.raises(OSError, match="image file: not a readable image: it looks like a PDF document"):
        load_from_pipe(b"%PDF-1.7")

    class Reader:
        def read(self, size: int = -1) -> bytes:
            return content

    np.testing.assert_array_equal(images.load(Reader()), RGB)


@pytest.mark.parametrize("source", [None, 7, b"image.png", [[1, 2]], io.StringIO("text")])
def test_other_sources_are_refused(source: object) -> None:
    with pytest.raises(ValueError, match=f"PIL image or an array, got {type(source).__name__}"):
        images.load(source)


UPRIGHT = [
    (1, RGB),
    (2, RGB[:, ::-1]),
    (3, RGB[::-1, ::-1]),
    (4, RGB[::-1]),
    (5, RGB.transpose(1, 0, 2)),
    (6, np.rot90(RGB, -1)),
    (7, np.rot90(RGB.transpose(1, 0, 2), 2)),
    (8, np.rot90(RGB, 1)),
]


@pytest.mark.parametrize(("orientation", "upright"), UPRIGHT)
def test_exif_orientation_is_applied(orientation: int, upright: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for pixels, expected in ((RGB, upright), (RGB[..., 1], upright[..., [1, 1, 1]])):
        file = encoded(Image.fromarray(pixels), exif=exif)
        np.testing.assert_array_equal(images.load(file), expected)
        with Image.open(file) as opened:
            np.testing.assert_array_equal(images.load(opened), expected)
    deep = Image.fromarray(RGB[..., 1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(images.load(encoded(deep, exif=exif)), upright[..., [1, 1, 1]])
    # Large areas, which JPEG keeps.
    found = images.load(
        encoded(Image.fromarray(RGB.repeat(16, 0).repeat(16, 1)), "jpeg", exif=exif, quality=95)
    )
    np.testing.assert_allclose(found[8::16, 8::16].astype(int), upright, atol=12)
    for compression in (None, "tiff_lzw"):
        file = encoded(Image.fromarray(RGB), "tiff", tiffinfo={0x0112: orientation}, compression=compression)
        np.testing.assert_array_equal(images.load(file), upright)
        with Image.open(file) as opened:
            np.testing.assert_array_equal(images.load(opened), upright)
            np.testing.assert_array_equal(images.load(opened), upright)
            np.testing.assert_array_equal(images.load(opened.copy()), upright)


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_orientations_that_do_not_exist(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(images.load(encoded(Image.fromarray(RGB), exif=exif)), RGB)


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"nonsense",
        b"II*\0",
        b"MM*\0\0\0\0\x08",
        b"II*\0\xff\xff\xff\xff",
        # 65535 entries, of which there are none; and one whose value lies beyond the end.
        b"II*\0\x08\0\0\0\xff\xff",
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\0\0\0\xff\xff\0\0",
        # An orientation that is text.
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0ab\0\0\0\0\0\0",
        # Two orientations.
        b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x02\0\0\0\x06\0\x06\0\0\0\0\0",
    ],
)
def test_broken_exif_data_is_no_reason_to_fail(exif: bytes) -> None:
    image = Image.fromarray(RGB.repeat(16, 0).repeat(16, 1))
    for extension, header in (("jpeg", b"Exif\0\0"), ("png", b"")):
        assert images.load(encoded(image, extension, exif=header + exif)).shape in ((32, 48, 3), (48, 32, 3))


def test_transparent_pixels_lie_over_white() -> None:
    rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 100, 255, 128]]], np.uint8)
    expected = [[[255, 255, 255], [0, 0, 0], [127, 177, 255]]]
    np.testing.assert_array_equal(images.load(rgba), expected)
    np.testing.assert_array_equal(images.load(encoded(Image.fromarray(rgba))), expected)
    gray_alpha = np.array([[[10, 255], [10, 0]]], np.uint8)
    np.testing.assert_array_equal(images.load(gray_alpha), [[[10] * 3, [255] * 3]])
    np.testing.assert_array_equal(images.load(encoded(Image.fromarray(gray_alpha))), [[[10] * 3, [255] * 3]])


def test_transparency_of_a_palette_and_of_one_gray_level() -> None:
    palette = Image.fromarray(np.array([[0, 1]], np.uint8))
    palette.putpalette([200, 0, 0, 0, 200, 0])
    np.testing.assert_array_equal(images.load(encoded(palette)), [[[200, 0, 0], [0, 200, 0]]])
    np.testing.assert_array_equal(
        images.load(encoded(palette, transparency=1)), [[[200, 0, 0], [255, 255, 255]]]
    )
    np.testing.assert_array_equal(
        images.load(encoded(palette, transparency=bytes([255, 0]))), [[[200, 0, 0], [255, 255, 255]]]
    )
    gray = Image.fromarray(np.array([[7, 8]], np.uint8))
    np.testing.assert_array_equal(images.load(encoded(gray, transparency=7)), [[[255] * 3, [8] * 3]])
    rgb = Image.fromarray(RGB[:1])
    np.testing.assert_array_equal(
        images.load(encoded(rgb, transparency=(0, 255, 0))), [[[255, 0, 0], [255] * 3, [0, 0, 255]]]
    )
    deep = b"\0" + struct.pack(">3H", 0, 1000, 65535)
    np.testing.assert_array_equal(
        images.load(io.BytesIO(png(3, 1, 16, 0, deep, tRNS=struct.pack(">H", 1000)))),
        [[[0] * 3, [255] * 3, [255] * 3]],
    )
    bilevel = png(2, 1, 1, 0, b"\0\x40", tRNS=struct.pack(">H", 0))
    np.testing.assert_array_equal(images.load(io.BytesIO(bilevel)), [[[255] * 3, [255] * 3]])


def test_gray_bilevel_and_deep_files() -> None:
    gray = np.array([[0, 77, 255]], np.uint8)
    expected = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(images.load(encoded(Image.fromarray(gray))), expected)
    deep = gray.astype(np.uint16) * 257
    np.testing.assert_array_equal(images.load(encoded(Image.fromarray(deep))), expected)
    np.testing.assert_array_equal(
        images.load(encoded(Image.fromarray(deep.astype(np.int32)), "tiff")), expected
    )
    floating = Image.fromarray(gray.astype(np.float32) / 255)
    np.testing.assert_array_equal(images.load(encoded(floating, "tiff")), expected)
    bilevel = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")
    np.testing.assert_array_equal(images.load(encoded(bilevel)), [[[0] * 3, [255] * 3]])


@pytest.mark.usefixtures("no_warnings")
def test_every_mode_of_pillow() -> None:
    """What files do not hold, but programs do."""
    rgba = np.array([[[200, 30, 60, 255], [200, 30, 60, 0]]], np.uint8)
    over_white = [[[200, 30, 60], [255] * 3]]
    image = Image.fromarray(rgba)
    for found in (image, image.convert("RGBa"), image.quantize(4, method=Image.Quantize.FASTOCTREE)):
        np.testing.assert_allclose(images.load(found).astype(int), over_white, atol=8)
    gray_alpha = Image.fromarray(np.array([[[99, 255], [99, 0]]], np.uint8))
    palette_alpha = Image.frombytes("PA", (2, 1), bytes([1, 255, 1, 0]))
    palette_alpha.putpalette([0, 0, 0, 99, 99, 99])
    for found in (gray_alpha, gray_alpha.convert("La"), palette_alpha):
        np.testing.assert_array_equal(images.load(found), [[[99] * 3, [255] * 3]])
    color = Image.new("RGB", (2, 2), (200, 30, 60))
    for mode in ("RGBX", "CMYK", "YCbCr", "HSV"):
        found = images.load(color.convert(mode)).astype(int)
        np.testing.assert_allclose(found, np.broadcast_to([200, 30, 60], (2, 2, 3)), atol=4)
    # L = 54, a = 81, b = 70 (of D50) is nearly the red of sRGB; a and b are offset by 128 in files alone.
    lab = Image.frombytes("LAB", (1, 1), bytes([round(54.3 * 2.55), 81, 70]))
    np.testing.assert_allclose(images.load(lab)[0, 0].astype(int), (255, 0, 0), atol=6)
    np.testing.assert_allclose(images.load(encoded(lab, "tiff"))[0, 0].astype(int), (255, 0, 0), atol=6)
    for mode in ("1", "L", "I", "F", "I;16", "I;16B", "I;16L"):
        np.testing.assert_array_equal(images.load(Image.new(mode, (3, 2))), np.zeros((2, 3, 3)))


CMYK = (20, 130, 200, 40)
CMYK_AS_RGB = [round((255 - ink) * (255 - CMYK[3]) / 255) for ink in CMYK[:3]]


def test_inks_of_a_jpeg() -> None:
    """JPEGs of image editors hold the inks inverted, and often as luma and chroma (Adobe's transform 2)."""
    plain = encoded(Image.new("CMYK", (16, 16), CMYK), "jpeg", quality=100)
    np.testing.assert_allclose(images.load(plain)[8, 8].astype(int), CMYK_AS_RGB, atol=3)
    luma, *chroma = (
        np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]]) @ CMYK[:3]
    )
    stored = np.round([luma, chroma[0] + 128, chroma[1] + 128]).astype(int)
    inverted = Image.new("CMYK", (16, 16), (*(255 - stored).tolist(), CMYK[3]))
    content = bytearray(encoded(inverted, "jpeg", quality=100).read())
    content[content.index(b"Adobe") + 11] = 2
    np.testing.assert_allclose(images.load(io.BytesIO(content))[8, 8].astype(int), CMYK_AS_RGB, atol=4)
    np.testing.assert_allclose(
        images.load(encoded(Image.new("CMYK", (4, 4), CMYK), "tiff"))[2, 2].astype(int), CMYK_AS_RGB, atol=1
    )


def test_luma_and_chroma_of_a_jpeg() -> None:
    color = Image.new("RGB", (16, 16), (200, 30, 60))
    for mode in ("RGB", "YCbCr"):
        found = images.load(encoded(color.convert(mode), "jpeg", quality=100))
        np.testing.assert_allclose(found.astype(int), np.broadcast_to([200, 30, 60], found.shape), atol=6)


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_tiff_files_of_both_byte_orders(order: str) -> None:
    deep = np.array([[0, 1000, 30000], [40000, 60000, 65535]], np.uint16)
    expected = np.rint(deep / 257)[..., None].repeat(3, axis=2)
    for array in (deep, deep.astype(np.int32), (deep / 65535).astype(np.float32)):
        np.testing.assert_array_equal(images.load(io.BytesIO(tiff(array, order))), expected)
    color = np.stack([deep, deep[::-1], deep[:, ::-1]], axis=2)
    # Pillow keeps the upper 8 of 16 bits of a colour.
    np.testing.assert_array_equal(images.load(io.BytesIO(tiff(color, order))), color >> 8)
    outside = io.BytesIO(tiff(np.array([[0, 300]], np.float32), order))
    with pytest.raises(
        ValueError, match=r"image file: floating image must lie in \[0, 1\], got \[0.0, 300.0\]"
    ):
        images.load(outside)
    negative = io.BytesIO(tiff(np.array([[-5, 300]], np.int32), order))
    with pytest.raises(ValueError, match=r"must lie in \[0, 65535\], got \[-5, 300\]"):
        images.load(negative)


def test_deep_png_files() -> None:
    rgb = b"\0" + struct.pack(">6H", 65535, 0, 25700, 0, 65535, 257)
    np.testing.assert_array_equal(
        images.load(io.BytesIO(png(2, 1, 16, 2, rgb))), [[[255, 0, 100], [0, 255, 1]]]
    )
    rgba = b"\0" + struct.pack(">8H", 65535, 0, 25700, 65535, 0, 65535, 257, 0)
    np.testing.assert_array_equal(
        images.load(io.BytesIO(png(2, 1, 16, 6, rgba))), [[[255, 0, 100], [255] * 3]]
    )


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("extension", ["gif", "png", "webp", "tiff", "mpo"])
def test_first_frame_of_several(extension: str) -> None:
    if extension == "webp" and not features.check("webp"):
        pytest.skip("this build of Pillow has no WebP")
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "blue", "lime")]
    options = {"lossless": True} if extension == "webp" else {}
    file = encoded(frames[0], extension, save_all=True, append_images=frames[1:], **options)
    with Image.open(file) as image:
        assert image.n_frames == 3
        image.seek(1)
    found = images.load(file)
    np.testing.assert_allclose(found.astype(int), np.broadcast_to([255, 0, 0], (16, 16, 3)), atol=2)


def test_transparency_of_an_animation() -> None:
    frame = Image.fromarray(np.array([[0, 1]], np.uint8))
    frame.putpalette([200, 0, 0, 0, 200, 0])
    file = encoded(frame, "gif", save_all=True, append_images=[frame.copy()], transparency=1)
    np.testing.assert_array_equal(images.load(file), [[[200, 0, 0], [255, 255, 255]]])


@given(arrays(np.uint8, st.tuples(st.integers(1, 6), st.integers(1, 6), st.just(3))))
def test_floats_and_16_bits_round_trip(pixels: np.ndarray) -> None:
    for dtype in (np.float32, np.float64):
        np.testing.assert_array_equal(images.load(pixels.astype(dtype) / 255), pixels)
    np.testing.assert_array_equal(images.load(pixels.astype(np.uint16) * 257), pixels)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(4, np.uint8), r"\(H, W\) or \(H, W, 1 to 4\), got shape \(4,"),
        (np.zeros((4, 4, 5), np.uint8), r"shape \(4, 4, 5\)"),
        (np.zeros((0, 4, 3), np.uint8), r"no pixels, its shape is \(0, 4, 3\)"),
        (np.zeros((4, 4), np.int64), "int64"),
        (np.zeros((4, 4), bool), "bool"),
        (np.full((4, 4), 1.5), r"\[0, 1\], got \[1.5, 1.5\]"),
        (np.full((4, 4), -0.1), r"\[-0.1, -0.1\]"),
        (np.full((4, 4), np.nan), "nan"),
    ],
)
def test_bad_arrays(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images.load(array)


JPEG = encoded(
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "jpeg"
).getvalue()
BROKEN = {
    "truncated.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "start.jpg": (JPEG[:10], "Truncated"),
    "noise.jpg": (b"\xff\xd8\xff" + bytes(20), "a damaged JPEG image"),
    "header.png": (b"\x89PNG\r\n\x1a\n", "a damaged PNG image"),
    "truncated.png": (png(64, 64, 8, 2, bytes(range(256)) * 49)[:150], "truncated"),
    "no rows.png": (png(4, 0, 8, 2, b""), "a damaged PNG image"),
    "no columns.png": (png(0, 4, 8, 2, b"\0" * 4), "a damaged PNG image"),
    "start.gif": (b"GIF89a\x01", "a damaged GIF image"),
    "start.webp": (b"RIFF\x04\0\0\0WEBP", "a damaged WebP image"),
    "double.tif": (tiff(np.ones((2, 2)), "<"), "a TIFF image, damaged or of a kind"),
    "nothing.jpg": (b"", "it is empty"),
    "text.png": (b"not an image\n", "it looks like text"),
    "page.jpg": (b"\n<!DOCTYPE html>\n<html><body>404</body></html>", "an HTML page"),
    "drawing.jpg": (b'<?xml version="1.0"?><svg/>', "an SVG drawing"),
    "document.jpg": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
    "archive.jpg": (b"PK\x03\x04" + bytes(30), "a ZIP archive"),
    "phone.jpg": (b"\0\0\0\x18ftypheic" + bytes(30), "a HEIC image"),
    "movie.jpg": (b"\0\0\0\x18ftypisom" + bytes(30), "a video"),
    "zeros.jpg": (bytes(100), "its format is unknown"),
    "random.png": (bytes(np.random.default_rng(1).integers(0, 256, 999, np.uint8)), "its format is unknown"),
}


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named_once_with_the_reason(name: str, tmp_path: Path) -> None:
    content, reason = BROKEN[name]
    path = tmp_path / name
    path.write_bytes(content)

    def check(source: object, expected: str) -> None:
        with pytest.raises(OSError, match=reason) as error:
            images.load(source)
        message = str(error.value)
        assert message.startswith(expected + ": ")
        assert message.count(name) == expected.count(name)
        assert "\n" not in message
        assert "object at" not in message

    check(path, str(path))
    check(str(path), str(path))
    with path.open("rb") as file:
        check(file, str(path))
        assert not file.closed
    check(io.BytesIO(content), "image file")


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        images.load(tmp_path / "missing.png")
    with pytest.raises(OSError, match=tmp_path.name):
        images.load(tmp_path)


def test_images_without_pixels() -> None:
    for size in ((0, 3), (3, 0), (0, 0)):
        with pytest.raises(
            ValueError, match=f"image: image has no pixels, its size is {size[0]} x {size[1]}"
        ):
            images.load(Image.new("RGB", size))


def test_a_truncated_image_that_was_opened_before(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    path.write_bytes(JPEG[: len(JPEG) // 2])
    with Image.open(path) as image, pytest.raises(OSError, match=r"half\.jpg: cannot be read .* truncated"):
        images.load(image)


@pytest.mark.usefixtures("no_warnings")
def test_large_images_are_read_up_to_twice_the_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60)
    for extension in ("png", "gif", "tiff"):
        assert images.load(encoded(Image.new("L", (10, 12)), extension)).shape == (12, 10, 3)
        path = tmp_path / f"large.{extension}"
        Image.new("L", (11, 12)).save(path)
        with pytest.raises(OSError, match=rf"^\S+{path.name}: .*\(132 pixels\) exceeds limit of 120 pixels"):
            images.load(path)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked() -> None:
    bomb = png(60_000, 50_000, 1, 0, b"")
    with pytest.raises(OSError, match=r"image file: .*3000000000 pixels.* limit of \d+ pixels"):
        images.load(io.BytesIO(bomb))


def test_warnings_of_pillow_are_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\xff\0\0\0\xff\xff\0\0"
    damaged = encoded(Image.fromarray(RGB[:1]), "jpeg", exif=exif).getvalue()
    for content in (
        encoded(Image.fromarray(RGB)).getvalue(),
        damaged,
        png(1, 1, 8, 0, b"\0\0", acTL=bytes(8)),
    ):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            filters = list(warnings.filters)
            images.load(io.BytesIO(content))
            assert seen == []
            assert list(warnings.filters) == filters
            with Image.open(io.BytesIO(content)) as image:
                image.getexif()
            assert seen != []


def test_filters_of_other_threads_stay_as_they_are() -> None:
    def read(_: int) -> None:
        images.load(io.BytesIO(JPEG))
        with pytest.raises(OSError, match="empty"):
            images.load(io.BytesIO())

    with warnings.catch_warnings():
        before = list(warnings.filters)
        with ThreadPoolExecutor(4) as pool:
            done = pool.map(read, range(60))
            for _ in range(200):
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    with pytest.raises(UserWarning, match="ours"):
                        warnings.warn("ours", stacklevel=1)
            list(done)
        after = list(warnings.filters)
    # What may be left of ours concerns Pillow alone.
    assert [entry for entry in after if "PIL" not in str(entry[3])] == before


def outcome(content: bytes) -> np.ndarray | str:
    """The image, or the message of one of the two errors that a file may end in."""
    try:
        return images.load(io.BytesIO(content))
    except (OSError, ValueError) as error:
        return str(error)


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("extension", ["png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm", "tga", "jpeg2000"])
def test_a_damaged_file_is_an_image_or_an_error(
    extension: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if not features.check({"webp": "webp", "jpeg2000": "jpg_2000"}.get(extension, "zlib")):
        pytest.skip(f"this build of Pillow has no {extension}")
    # A damaged header may ask for any size.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    rng = np.random.default_rng(len(extension))
    whole = encoded(Image.fromarray(RGB.repeat(8, 0).repeat(8, 1)), extension).getvalue()
    outcomes = []
    for _ in range(100):
        content = bytearray(whole)
        # Half of them are damaged in the header.
        end = min(len(content), rng.choice([60, len(content)]))
        for position in rng.integers(0, end, rng.integers(0, 4)):
            content[position] = rng.integers(256)
        if rng.random() < 0.5:
            content = content[: rng.integers(1, len(content))]
        outcomes.append(outcome(bytes(content)))
    errors = [found for found in outcomes if isinstance(found, str)]
    assert 0 < len(errors) < len(outcomes)
    assert all(error.startswith("image file: ") and "\n" not in error for error in errors)
    assert all(found.shape[2] == 3 for found in outcomes if not isinstance(found, str))
    assert capfd.readouterr().err == ""


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"BM", b"\xff\xd8\xff"]),
)
def test_any_bytes_are_an_image_or_an_error(content: bytes, start: bytes) -> None:
    found = outcome(start + content)
    assert found.startswith("image file: ") if isinstance(found, str) else found.shape[2] == 3


@pytest.mark.usefixtures("no_warnings")
def test_real_photographs_are_as_pillow_reads_them(test_data: Path) -> None:
    files = sorted((test_data / "VOCdevkit").rglob("*.jpg"))[:5] + sorted((test_data / "photos").iterdir())
    for path in files:
        if path.suffix in (".jpg", ".jpeg"):
            with Image.open(path) as image:
                np.testing.assert_array_equal(images.load(path), np.asarray(image.convert("RGB")))
        elif path.suffix in (".png", ".gif", ".tif", ".webp"):
            assert images.load(path).shape[2] == 3


def test_crop_is_the_top_left_region() -> None:
    np.testing.assert_array_equal(images.crop(RGB, 1, 2), RGB[:1, :2])
    for height, width in ((0, 1), (3, 1), (1, 4), (1, -1)):
        with pytest.raises(ValueError, match=f"within the image's 2 x 3 pixels, got {height} x {width}"):
            images.crop(RGB, height, width)


def test_resize_is_pillows_bilinear_for_both_types() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    small = images.resize(pixels, (10, 12))
    pillow = Image.fromarray(pixels).resize((12, 10), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(small, np.asarray(pillow))
    floating = images.resize(pixels / 255, (10, 12))
    assert floating.dtype == np.float32
    np.testing.assert_allclose(floating * 255, small, atol=1.01)
    np.testing.assert_allclose(images.resize(np.full((9, 7, 3), 0.3), (4, 5)), 0.3, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "size", "message"),
    [
        (np.zeros((4, 4), np.uint8), (2, 2), r"\(H, W, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), (2, 2), "at least one pixel"),
        (np.zeros((4, 4, 3), np.int32), (2, 2), "int32"),
        (np.zeros((4, 4, 3), np.uint8), (0, 2), "at least 1 x 1, got 0 x 2"),
    ],
)
def test_resize_refuses(image: np.ndarray, size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        images.resize(image, size)


def test_palette_is_vocs() -> None:
    colors = images.palette()
    assert colors.shape == (256, 3)
    assert colors.dtype == np.uint8
    # Aeroplane, bicycle, person, television and "void" of the PASCAL VOC annotations.
    expected = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    for label, color in expected.items():
        assert tuple(colors[label]) == color
    assert len(np.unique(colors, axis=0)) == 256


def test_labels_are_read_as_they_were_written(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    path = tmp_path / "labels.png"
    with path.open("wb") as file:
        images.write_labels(labels, file)
    np.testing.assert_array_equal(images.read_labels(path), labels)
    Image.fromarray(labels).save(path)
    np.testing.assert_array_equal(images.read_labels(path), labels)
    Image.fromarray(labels.astype(np.uint16)).save(path)
    with pytest.raises(ValueError, match=r"labels.png: labels must be 8-bit palette or gray, got .* mode I"):
        images.read_labels(path)
    path.write_bytes(b"text")
    with pytest.raises(OSError, match=r"labels\.png: not a readable image: it looks like text"):
        images.read_labels(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_size_is_that_of_the_upright_image(suffix: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / f"image{suffix}"
    image = Image.new("RGB", (40, 24))
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    assert images.size_of(path) == images.load(path).shape[:2]
    assert images.size_of(path) == ((40, 24) if orientation > 4 else (24, 40))


def test_labels_are_the_values_of_a_palette_png() -> None:
    labels = np.array([[0, 1, 2], [15, 254, 255]])
    for dtype in (np.int32, np.uint8, np.int64):
        file = io.BytesIO()
        images.write_labels(labels.astype(dtype), file)
        with Image.open(file) as image:
            assert (image.format, image.mode) == ("PNG", "P")
            np.testing.assert_array_equal(np.asarray(image), labels)
        np.testing.assert_array_equal(images.load(file), images.palette()[labels])


def test_a_mask_is_a_png_of_0_and_255() -> None:
    mask = np.array([[True, False, True]])
    file = io.BytesIO()
    images.write_mask(mask, file)
    with Image.open(file) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        np.testing.assert_array_equal(np.asarray(image), [[255, 0, 255]])


def test_what_is_no_label_or_mask_is_not_written() -> None:
    file = io.BytesIO()
    for labels, message in (
        (np.array([[0, 256]]), r"labels must be in \[0, 255\], got \[0, 256\]"),
        (np.array([[-1, 3]]), r"got \[-1, 3\]"),
        (np.zeros((2, 2)), r"\(H, W\) integer, got shape \(2, 2\) float64"),
        (np.zeros(3, int), r"got shape \(3,\)"),
        (np.zeros((0, 3), int), r"got shape \(0, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            images.write_labels(labels, file)
    for mask in (np.zeros((2, 2), np.uint8), np.zeros(4, bool), np.zeros((2, 0), bool)):
        with pytest.raises(ValueError, match=r"mask must be \(H, W\) bool, got shape"):
            images.write_mask(mask, file)
    assert file.getvalue() == b""

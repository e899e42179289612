from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from deepspec import images

RGB = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [40, 50, 60], [70, 80, 90]]], np.uint8
)


def encoded(image: Image.Image, extension: str = "png", **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format=extension, **options)
    file.seek(0)
    return file


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


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, RGB),
        (2, RGB[:, ::-1]),
        (3, RGB[::-1, ::-1]),
        (4, RGB[::-1]),
        (5, RGB.transpose(1, 0, 2)),
        (6, np.rot90(RGB, -1)),
        (7, np.rot90(RGB.transpose(1, 0, 2), 2)),
        (8, np.rot90(RGB, 1)),
    ],
)
def test_exif_orientation_is_applied(orientation: int, upright: np.ndarray) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(images.load(encoded(Image.fromarray(RGB), exif=exif)), upright)


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


def test_cmyk_and_other_spaces_are_converted() -> None:
    flat = Image.new("RGB", (16, 16), (200, 30, 60))
    for mode in ("CMYK", "YCbCr"):
        found = images.load(encoded(flat.convert(mode), "jpeg", quality=100))
        assert found.shape == (16, 16, 3)
        np.testing.assert_allclose(found.astype(int), np.broadcast_to([200, 30, 60], found.shape), atol=6)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    found = images.load(encoded(frames[0], "gif", save_all=True, append_images=frames[1:]))
    np.testing.assert_array_equal(found, np.broadcast_to([255, 0, 0], (4, 4, 3)))


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


def test_bad_files_are_named(tmp_path: Path) -> None:
    whole = encoded(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)), "jpeg"
    ).read()
    for name, content in {
        "truncated.jpg": whole[: len(whole) // 2],
        "text.png": b"not an image",
        "empty.png": b"",
        "header.png": b"\x89PNG\r\n\x1a\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OSError, match=name):
            images.load(tmp_path / name)
        with (tmp_path / name).open("rb") as file, pytest.raises(OSError, match=name):
            images.load(file)
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        images.load(tmp_path / "missing.png")
    with pytest.raises(OSError, match=tmp_path.name):
        images.load(tmp_path)


@given(st.integers(0, 500))
def test_a_damaged_file_is_an_image_or_one_of_two_errors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(encoded(Image.fromarray(RGB.repeat(8, 0).repeat(8, 1))).read())
    for position in rng.integers(0, len(content), 3):
        content[position] = rng.integers(256)
    try:
        found = images.load(io.BytesIO(content[: rng.integers(1, len(content) + 1)]))
    except (OSError, ValueError):
        return
    assert found.shape[2] == 3


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

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from deepspec._files import replacing
from deepspec.rgba import read_rgba, write_rgba


def write(pixels: np.ndarray, path: Path) -> Path:
    with replacing(path) as file:
        write_rgba(pixels, file)
    return path


def by_opencv(path: Path) -> np.ndarray:
    blue_first = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return blue_first[..., [2, 1, 0, 3]]


@given(st.data())
def test_other_readers_see_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    size = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16]))
    pixels = data.draw(arrays(dtype, (*size, 4)))
    path = write(pixels, tmp_path_factory.mktemp("rgba") / "a.png")
    np.testing.assert_array_equal(by_opencv(path), pixels)
    np.testing.assert_array_equal(read_rgba(path), pixels)
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "RGBA", size[::-1])
        # Pillow keeps the upper 8 bits.
        np.testing.assert_array_equal(np.asarray(image), pixels if dtype == np.uint8 else pixels >> 8)


def test_long_rows_and_many_of_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for size in ((3, 5000), (700, 300)):
        pixels = rng.integers(0, 65536, (*size, 4), dtype=np.uint16)
        path = write(pixels, tmp_path / "a.png")
        np.testing.assert_array_equal(by_opencv(path), pixels)
        np.testing.assert_array_equal(read_rgba(path), pixels)


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 2, 3), np.uint8),
        np.zeros((2, 2), np.uint16),
        np.zeros((0, 2, 4), np.uint8),
        np.zeros((2, 2, 4), np.float32),
    ],
)
def test_other_arrays_are_refused(pixels: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pixels must be \(H, W, 4\) uint8 or uint16, got"):
        write(pixels, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_told(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (20, 20, 4), dtype=np.uint16)
    whole = write(pixels, tmp_path / "a.png").read_bytes()
    path = tmp_path / "b.png"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(OSError, match=r"b\.png: cannot be read as an image"):
        read_rgba(path)
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(OSError, match="the sum of its chunk IDAT is wrong"):
        read_rgba(path)
    shallow = write((pixels >> 8).astype(np.uint8), tmp_path / "a.png").read_bytes()
    for content in (b"no image", b"", shallow[: len(shallow) // 2]):
        path.write_bytes(content)
        with pytest.raises(OSError, match=r"b\.png: cannot be read as an image"):
            read_rgba(path)


def test_other_images_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: must be an RGBA image, got one of mode RGB"):
        read_rgba(tmp_path / "a.png")
    deep = np.random.default_rng(0).integers(0, 65536, (9, 9, 4), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "b.png"), deep, [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH])
    with pytest.raises(ValueError, match=r"b\.png: was not written by deepspec"):
        read_rgba(tmp_path / "b.png")

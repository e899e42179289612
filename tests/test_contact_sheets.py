from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepspec.contact_sheets import contact_sheet, write_contact_sheet

RED, GREEN, BLUE = (200, 30, 30), (30, 160, 60), (40, 60, 200)


def crop(height: int, width: int, color: tuple[int, int, int] = RED) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def test_rows_by_hand() -> None:
    # At 60 pixels high they are 60, 120 and 60 wide: the first two, 180 and a gap, fill 91 pixels at half of that.
    sheet = contact_sheet([crop(30, 30), crop(10, 20, GREEN), crop(90, 90, BLUE)], height=60, width=92)
    pixels = np.asarray(sheet)
    assert sheet.mode == "RGB"
    assert pixels.shape == (30 + 2 + 60, 92, 3)
    assert (pixels[:30, :30] == RED).all()
    assert (pixels[:30, 30:32] == 255).all()
    assert (pixels[:30, 32:] == GREEN).all()
    assert (pixels[30:32] == 255).all()
    assert (pixels[32:, :60] == BLUE).all()
    assert (pixels[32:, 60:] == 255).all()


def test_title_is_above() -> None:
    plain = np.asarray(contact_sheet([crop(20, 20)], height=20, width=100))
    titled = np.asarray(contact_sheet([crop(20, 20)], title="3  bird\nnest", height=20, width=100))
    np.testing.assert_array_equal(titled[-20:], plain)
    above = titled[:-20]
    assert above.min() < 100
    assert (above[[0, -1]] == 255).all()


def test_extreme_crops_and_none() -> None:
    # A line as wide as the sheet, and one of a pixel's width.
    wide = np.asarray(contact_sheet([crop(1, 3000)], height=40, width=300))
    assert wide.shape == (1, 300, 3)
    assert (wide == RED).all()
    tall = np.asarray(contact_sheet([crop(3000, 1), crop(40, 40, BLUE)], height=40, width=300))
    assert (tall[:, 3:43] == BLUE).sum() >= 3 * 40 * 39
    assert contact_sheet([], width=300).size == (300, 1)
    assert contact_sheet([], title="4", width=300).height > 16


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=30),
    st.integers(16, 60),
    st.integers(16, 200),
)
def test_every_row_but_the_last_is_full(sizes: list[tuple[int, int]], height: int, width: int) -> None:
    pixels = np.asarray(contact_sheet([crop(h, w) for h, w in sizes], height=height, width=width))
    assert pixels.shape[1] == width
    filled = (pixels == RED).all(axis=2)
    rows = np.flatnonzero(filled.any(axis=1))
    starts = [int(part[0]) for part in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)]
    for start in starts[:-1]:
        assert filled[start, -1]
    heights = np.diff([*starts, pixels.shape[0] + 2]) - 2
    assert heights.min() >= 1
    assert heights.max() <= height


def test_what_cannot_be_drawn_is_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"crops must be \(h, w, 3\) uint8 with pixels, got \("):
            contact_sheet([crop(4, 4), wrong])
    with pytest.raises(ValueError, match="height must be at least 16 pixels, got 0"):
        contact_sheet([], height=0)
    with pytest.raises(ValueError, match="width must be at least 16 pixels, got 9"):
        contact_sheet([], width=9)


def test_sheet_of_a_class_is_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "classes"
    path = write_contact_sheet([crop(30, 40), crop(30, 40, BLUE)], folder, 7, height=60, width=400)
    named = write_contact_sheet([crop(30, 40)], folder, 12, name="bird", height=60, width=400)
    assert path == folder / "7.jpg"
    assert sorted(file.name for file in folder.iterdir()) == ["12.jpg", "7.jpg"]
    with Image.open(path) as sheet:
        assert sheet.format == "JPEG"
        pixels = np.asarray(sheet).astype(int)
    np.testing.assert_allclose(pixels[-40:-20, 20:60].mean(axis=(0, 1)), RED, atol=4)
    np.testing.assert_allclose(pixels[-40:-20, 100:140].mean(axis=(0, 1)), BLUE, atol=4)
    first = path.read_bytes()
    write_contact_sheet([crop(30, 40), crop(30, 40, BLUE)], folder, 7, height=60, width=400)
    assert path.read_bytes() == first
    # What is there stays where a new one cannot be drawn.
    with pytest.raises(ValueError, match="crops must be"):
        write_contact_sheet([np.zeros((1, 1), np.uint8)], folder, 12)
    with Image.open(named) as sheet:
        assert sheet.width == 400

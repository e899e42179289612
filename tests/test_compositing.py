from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from deepspec.compositing import as_color, backdrop, blend, estimate_colors, in_color

LUMINOSITY = (0.3, 0.59, 0.11)


@given(st.data())
def test_estimated_colors_give_the_photograph(data: st.DataObject) -> None:
    size = data.draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    image = data.draw(arrays(np.uint8, (*size, 3)))
    alpha = data.draw(arrays(np.float32, size, elements=st.floats(0, 1, width=32)))
    foreground, background = estimate_colors(image, alpha)
    for colors in (foreground, background):
        assert colors.shape == image.shape
        assert colors.dtype == np.float32
        assert colors.min() >= 0
        assert colors.max() <= 1
    np.testing.assert_array_equal(blend(foreground, background, alpha), image)


def test_colors_of_a_mixture_are_told_apart() -> None:
    """Half of orange over blue at the edge: neither side is a mixture."""
    alpha = np.repeat(np.array([1, 1, 1, 1, 0.5, 0, 0, 0, 0], np.float32)[None], 9, axis=0)
    orange, blue = np.array([200, 100, 0]), np.array([0, 50, 200])
    image = np.rint(alpha[..., None] * orange + (1 - alpha[..., None]) * blue).astype(np.uint8)
    foreground, background = estimate_colors(image, alpha)
    np.testing.assert_allclose(255 * foreground[:, 4], np.broadcast_to(orange, (9, 3)), atol=3)
    np.testing.assert_allclose(255 * background[:, 4], np.broadcast_to(blue, (9, 3)), atol=3)


def test_missing_pymatting_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymatting", None)
    with pytest.raises(ImportError, match=r"pip install 'deepspec\[matting\]'"):
        estimate_colors(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), np.float32))


def test_backdrop_covers(tmp_path: Path) -> None:
    np.testing.assert_array_equal(backdrop("#010203", (2, 3)), np.broadcast_to([1, 2, 3], (2, 3, 3)))
    assert backdrop((255, 0, 7), (1, 1)).tolist() == [[[255, 0, 7]]]
    # Three stripes, 10 wide each: a square sees the one in the middle alone.
    stripes = np.zeros((10, 30, 3), np.uint8)
    stripes[:, 10:20] = (9, 8, 7)
    Image.fromarray(stripes).save(tmp_path / "a.png")
    np.testing.assert_array_equal(backdrop(tmp_path / "a.png", (10, 10)), stripes[:, 10:20])
    small = backdrop(stripes, (4, 4))
    assert small.shape == (4, 4, 3)
    np.testing.assert_array_equal(small[:, 1:3], np.broadcast_to([9, 8, 7], (4, 2, 3)))
    assert backdrop(str(tmp_path / "a.png"), (7, 50)).shape == (7, 50, 3)


def test_backdrops_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"beach\.jpg: no such image file, and no colour such as white"
    ):
        backdrop("beach.jpg", (2, 2))
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"a\.png: not a readable image"):
        backdrop(tmp_path / "a.png", (2, 2))
    for color in ((1, 2), (1, 2, 256), (0.5, 0, 0), (True, 0, 0)):
        with pytest.raises(ValueError, match=r"three whole numbers \(r, g, b\) from 0 to 255, got"):
            backdrop(color, (2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got int"):
        backdrop(3, (2, 2))  # type: ignore[arg-type]


def test_colors_with_alpha_lose_it() -> None:
    assert as_color("#01020304") == (1, 2, 3)
    assert as_color([np.uint8(1), 2, 3]) == (1, 2, 3)


@given(arrays(np.uint8, (3, 3, 3)), st.tuples(*[st.integers(0, 255)] * 3))
def test_recoloring_keeps_the_lightness(image: np.ndarray, color: tuple[int, int, int]) -> None:
    found = in_color(image, color)
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_allclose(found @ LUMINOSITY, image / 255 @ LUMINOSITY, atol=1e-5)


def test_recoloring_by_hand() -> None:
    """Gray of lightness 0.5 in red: red's is 0.3, so all channels rise by 0.2; 1.2 is drawn to 1 around 0.5."""
    gray = np.full((1, 1, 3), 0.5 * 255).astype(np.uint8)
    light = gray[0, 0, 0] / 255
    raised = np.array([1, 0, 0]) + light - 0.3
    expected = light + (raised - light) * (1 - light) / (raised[0] - light)
    np.testing.assert_allclose(in_color(gray, (255, 0, 0))[0, 0], expected, atol=1e-6)
    # A gray takes the colour away.
    np.testing.assert_allclose(in_color(np.array([[[255, 0, 0]]], np.uint8), (9, 9, 9))[0, 0], 0.3, atol=1e-6)

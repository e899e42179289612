from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepspec.descriptors import describe

# Bins: 6 of L, 7 × 7 of a and b, and twice 6 directions and the flat one.
LIGHTNESS, HUE, FINE, COARSE = np.split(np.arange(69), [6, 55, 62])
FLAT = 6


def lab(lightness: np.ndarray, a: float = 0, b: float = 0) -> np.ndarray:
    return np.dstack([lightness, np.full_like(lightness, a), np.full_like(lightness, b)])


def test_histograms_of_one_color_are_split_linearly_between_its_bins() -> None:
    """L bins are 20 apart, those of a and b 25; everything is flat."""
    squares = describe(lab(np.full((9, 9), 30.0), a=-75, b=10), np.ones((9, 9))) ** 2
    expected = np.zeros(69)
    expected[LIGHTNESS[[1, 2]]] = 0.5
    expected[HUE[[3, 4]]] = 0.6, 0.4  # b: bins −75, −50, …, 0, 25
    expected[[FINE[FLAT], COARSE[FLAT]]] = 1
    np.testing.assert_allclose(squares, expected / 4, atol=1e-6)


def test_gradient_counts_to_its_direction_by_its_strength() -> None:
    """Up by 4 a pixel from left to right: half at 0°, half flat; down the image: 90°, the fourth of 30° each."""
    ramp = np.broadcast_to(4.0 * np.arange(20), (20, 20))
    middle = np.zeros((20, 20))
    middle[9:11, 9:11] = 1  # far from where the border is replicated
    for lightness, direction in ((ramp, 0), (ramp.T, 3), (-ramp + 80, 0)):
        squares = describe(lab(np.array(lightness)), middle) ** 2
        expected = np.zeros(7)
        expected[[direction, FLAT]] = 0.5
        np.testing.assert_allclose(4 * squares[FINE], expected, atol=1e-4)
        np.testing.assert_allclose(4 * squares[COARSE], expected, atol=1e-2)


def test_pixels_count_by_their_weights() -> None:
    picture = lab(np.full((8, 8), 0.0))
    picture[:, 4:, 0] = 100
    weights = np.ones((8, 8))
    weights[:, 4:] = 3
    squares = 4 * describe(picture, weights) ** 2
    np.testing.assert_allclose(squares[LIGHTNESS], [0.25, 0, 0, 0, 0, 0.75], atol=1e-6)
    left = describe(picture, np.where(np.arange(8) < 4, weights, 0))
    np.testing.assert_allclose(4 * left[LIGHTNESS] ** 2, [1, 0, 0, 0, 0, 0], atol=1e-6)


@settings(max_examples=50)
@given(
    arrays(np.float32, (5, 6, 3), elements=st.floats(-200, 200, width=32)),
    arrays(np.float32, (5, 6), elements=st.floats(0, 1, width=32)).filter(lambda weights: weights.max() > 0),
)
def test_descriptors_have_length_1_and_do_not_depend_on_the_weights_scale(
    picture: np.ndarray, weights: np.ndarray
) -> None:
    found = describe(picture, weights)
    assert found.dtype == np.float32
    assert found.shape == (69,)
    assert found.min() >= 0
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(found, describe(picture, 2.0 * weights.astype(np.float64)))


@settings(max_examples=20)
@given(st.integers(0, 1000))
def test_flips_keep_the_colors_and_mirror_the_directions(seed: int) -> None:
    picture = np.random.default_rng(seed).uniform(0, 100, (10, 12, 3))
    weights = np.ones((10, 12))
    found, flipped = describe(picture, weights), describe(picture[:, ::-1], weights)
    colors = np.concatenate([LIGHTNESS, HUE])
    np.testing.assert_allclose(flipped[colors], found[colors], atol=1e-6)
    mirrored = [0, 5, 4, 3, 2, 1, FLAT]
    for part in (FINE, COARSE):
        np.testing.assert_allclose(flipped[part], found[part][mirrored], atol=1e-5)
    np.testing.assert_allclose(describe(picture[::-1, ::-1], weights), found, atol=1e-5)

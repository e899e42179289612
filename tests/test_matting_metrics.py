"""Values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepspec.matting_metrics import (
    connectivity_error,
    gradient_error,
    mean_squared_error,
    sum_of_absolute_differences,
)

ERRORS = [sum_of_absolute_differences, mean_squared_error, gradient_error, connectivity_error]
ALPHAS = arrays(np.float32, (5, 7), elements=st.integers(0, 20).map(lambda i: i / 20))
Metric = Callable[..., float]


def test_differences_by_hand() -> None:
    alpha, truth = [[0, 0.5], [1, 0.25]], [[0.5, 0.5], [0, 0.5]]
    unknown = np.array([[True, True], [False, True]])
    assert sum_of_absolute_differences(alpha, truth) == 1.75
    assert sum_of_absolute_differences(alpha, truth, unknown) == 0.75
    assert mean_squared_error(alpha, truth) == (0.25 + 1 + 0.0625) / 4
    assert mean_squared_error(alpha, truth, unknown) == (0.25 + 0.0625) / 3


def test_gradient_of_a_ramp_by_hand() -> None:
    # Along x the derivative of the Gaussian, Σ x g = 0, gives of a ramp of slope s: s Σ x² g / √(Σ x² g²), and the
    # Gaussian across it Σ g / √(Σ g²).
    g = {x: math.exp(-(x**2) / 3.92) for x in range(-4, 5)}
    along = sum(x**2 * v for x, v in g.items()) / math.sqrt(sum((x * v) ** 2 for x, v in g.items()))
    across = sum(g.values()) / math.sqrt(sum(v**2 for v in g.values()))
    ramp = np.tile(np.linspace(0, 1, 21), (9, 1))
    middle = np.zeros(ramp.shape, bool)
    middle[:, 4:17] = True  # four pixels from the border
    expected = 9 * 13 * (0.05 * along * across) ** 2
    assert gradient_error(ramp, np.zeros_like(ramp), middle) == pytest.approx(expected, rel=1e-9)
    # Magnitudes: the direction does not matter, nor a constant.
    assert gradient_error(ramp, ramp[:, ::-1]) == pytest.approx(0, abs=1e-20)
    assert gradient_error(ramp / 2, ramp / 2 + 0.5) == pytest.approx(0, abs=1e-20)
    assert gradient_error(ramp.T, np.zeros((21, 9)), middle.T) == pytest.approx(expected, rel=1e-9)


def test_connectivity_of_an_island_by_hand() -> None:
    truth = np.array([[1, 1, 1, 0, 0, 0]])
    # An island apart from the largest region is not connected from the first level on: l = 0, φ = 1 − 0.6 against 1.
    assert connectivity_error([[1, 1, 1, 0, 0, 0.6]], truth) == pytest.approx(0.6)
    # The same where it touches: 0.6 lies below the first level in what both share, too.
    assert connectivity_error([[1, 1, 1, 0.6, 0, 0]], truth) == pytest.approx(0.6)
    # 0.1 is less than 0.15 above the level.
    assert connectivity_error([[1, 1, 1, 0, 0, 0.1]], truth) == 0
    assert connectivity_error([[1, 1, 1, 0, 0, 0.15]], truth) == pytest.approx(0.15)
    # Only the region that counts, but with levels of the whole image.
    unknown = np.array([[False] * 3 + [True, True, False]])
    assert connectivity_error([[1, 1, 1, 0.3, 0, 0.6]], truth, unknown) == pytest.approx(0.3)


def test_connectivity_counts_levels() -> None:
    # Both share ½ at the last pixel, which is in Ω up to level 0.5; the true one is ½ above that: φ = ½ against 1.
    assert connectivity_error([[1, 1, 0.5]], [[1, 1, 1]]) == pytest.approx(0.5)
    # 0.55 is 0.05 above level 0.5, and 1 is 0.5 above it.
    assert connectivity_error([[1, 1, 0.55]], [[1, 1, 1]]) == pytest.approx(0.5)
    # A pixel once outside stays there: at 0.4 the bridge breaks, the right part is smaller, so l = 0.3 there for both.
    bridge = np.array([[1, 1, 1, 0.3, 1, 1]])
    assert connectivity_error(bridge, bridge) == 0
    # Without the bridge in one l = 0 beyond it: φ' = 1 − 0.3, and both have 1 − 1 = 0 on the island.
    assert connectivity_error([[1, 1, 1, 0, 1, 1]], bridge) == pytest.approx(0.3)


def test_regions_are_connected_by_sides() -> None:
    diagonal = np.array([[1, 1, 0], [0, 0, 0.5]])
    assert connectivity_error(diagonal, [[1, 1, 0], [0, 0, 1]]) == pytest.approx(0.5)  # l = 0: φ = ½ and 0
    beside = np.array([[1, 1, 1], [0, 0, 0.5]])
    assert connectivity_error(beside, [[1, 1, 1], [0, 0, 1]]) == pytest.approx(0.5)  # l = ½: φ = 1 and ½
    less = np.array([[1, 1, 1], [0, 0, 0.9]])
    assert connectivity_error(less, [[1, 1, 1], [0, 0, 1]]) == 0  # l = 0.9: 0.1 above
    apart = np.array([[1, 1, 0], [0, 0, 0.9]])
    assert connectivity_error(apart, [[1, 1, 0], [0, 0, 1]]) == pytest.approx(0.1)  # l = 0: φ = 0.1 and 0


def test_tenths_in_single_precision_are_tenths() -> None:
    for tenth in range(1, 11):
        alpha = np.full((1, 3), tenth / 10, np.float32)
        # In Ω up to its own level, so that one that is 0.1 larger is as connected.
        assert connectivity_error(alpha, np.minimum(alpha + np.float32(0.1), 1)) == 0


@pytest.mark.parametrize("error", ERRORS)
@settings(max_examples=25)
@given(ALPHAS, ALPHAS)
def test_errors_are_symmetric_and_0_where_both_are_equal(error: Metric, a: np.ndarray, b: np.ndarray) -> None:
    assert error(a, a) == 0
    assert error(a, b) == error(b, a) >= 0
    if error in ERRORS[:2] and (a != b).any():
        assert error(a, b) > 0
    for turn in (np.rot90, np.fliplr):
        if error is not connectivity_error:  # where regions are of one size, the first counts
            assert error(turn(a), turn(b)) == pytest.approx(error(a, b), abs=1e-9)


@pytest.mark.parametrize("error", ERRORS)
@settings(max_examples=25)
@given(ALPHAS, ALPHAS, arrays(bool, (5, 7)))
def test_sums_over_parts_make_the_whole(
    error: Metric, a: np.ndarray, b: np.ndarray, part: np.ndarray
) -> None:
    if part.all() or not part.any():
        return
    shares = (part.mean(), 1 - part.mean()) if error is mean_squared_error else (1, 1)
    parts = shares[0] * error(a, b, part) + shares[1] * error(a, b, ~part)
    assert parts == pytest.approx(error(a, b), abs=1e-9)


@pytest.mark.parametrize("error", ERRORS)
def test_what_errors_must_be_given(error: Metric) -> None:
    half = np.full((2, 3), 0.5)
    with pytest.raises(ValueError, match=r"\(H, W\) of one shape, got \(2, 3\), \(3, 2\) and \(3, 2\)"):
        error(half, half.T)
    with pytest.raises(ValueError, match=r"of one shape, got \(2, 3\), \(2, 3\) and \(3,\)"):
        error(half, half, np.ones(3, bool))
    with pytest.raises(ValueError, match=r"truth must be in \[0, 1\], got 127.5 to 127.5"):
        error(half, half * 255)
    with pytest.raises(ValueError, match=r"alpha must be in \[0, 1\], got nan"):
        error(half * np.nan, half)
    with pytest.raises(ValueError, match="region must be bool, got float64"):
        error(half, half, half)
    with pytest.raises(ValueError, match="region must have a pixel"):
        error(half, half, half > 1)

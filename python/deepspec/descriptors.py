"""Colours and texture of a picture, or of a part of it, as one vector that other pictures' can be compared with."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepspec.features import Floats

_LIGHTNESS = (0.0, 100.0, 6)  # of L: the first and the last bin's centre, and how many there are
_HUE = (-75.0, 75.0, 7)  # of a and of b; colours beyond are counted into the outermost bins
_SCALES = (
    1.0,
    2.0,
)  # pixels: standard deviations of what smooths the brightness before its gradient is taken
_N_DIRECTIONS = 6
_EDGE = 4.0  # units of L a pixel: a pixel with this gradient counts half as flat


def describe(lab: Floats, weights: Floats) -> NDArray[np.float32]:
    """Soft histograms of the colours and of the directions of the gradient, pixels counted by their weights.

    There are four: of L; of a and b together; and, at two scales, of the direction in which L changes, turned by half a
    circle being the same, where a gradient of m units a pixel counts m / (m + 4) to its direction and the rest to being
    flat. Each sums to 1, and their roots are joined, so that the inner product of two descriptors is the mean of four
    Bhattacharyya coefficients.

    Parameters
    ----------
    lab : (h, w, 3) floating
        CIE L*a*b*.
    weights : (h, w) floating
        At least 0, and not all 0.

    Returns
    -------
    (69,) float32
        Of length 1.
    """
    counted = weights > 0
    shares = weights[counted] / weights[counted].sum(dtype=np.float64)
    lightness, a, b = lab[counted].T
    histograms = [
        _histogram(shares, _position(lightness, *_LIGHTNESS)),
        _histogram(shares, _position(a, *_HUE), _position(b, *_HUE)),
        *(_directions(lab[..., 0], scale, counted, shares) for scale in _SCALES),
    ]
    joined = np.concatenate(histograms) / len(histograms)
    return np.sqrt(joined, dtype=np.float32)


Position = tuple[Floats, int]


def _position(values: Floats, first: float, last: float, n_bins: int) -> Position:
    """Where values lie among bins, from 0 to n_bins − 1, and how many bins there are."""
    return np.clip((values - first) * ((n_bins - 1) / (last - first)), 0, n_bins - 1), n_bins


def _histogram(shares: Floats, *positions: Position) -> Floats:
    """Shares by position along one axis or several, split linearly between the bins about it; flat."""
    size = math.prod(n_bins for _, n_bins in positions)
    total = np.zeros(size)
    lows = [np.minimum(position.astype(np.intp), n_bins - 2) for position, n_bins in positions]
    for corner in itertools.product((0, 1), repeat=len(positions)):
        bins, weights = np.zeros(len(shares), np.intp), shares
        for step, low, (position, n_bins) in zip(corner, lows, positions, strict=True):
            bins = bins * n_bins + low + step
            weights = weights * np.abs(position - low - (1 - step))
        total += np.bincount(bins, weights, minlength=size)
    return total


def _directions(lightness: Floats, scale: float, counted: NDArray[np.bool_], shares: Floats) -> Floats:
    """(7,): of six directions, 30° apart, and of being flat."""
    smooth = ndimage.gaussian_filter(lightness, scale, mode="nearest")
    down, across = (gradient[counted] for gradient in np.gradient(smooth))
    strength = np.hypot(down, across)
    strength /= strength + _EDGE
    angle = np.arctan2(down, across)
    angle[angle < 0] += np.pi
    # At 180° directions begin anew.
    position = _position(angle, 0, np.pi, _N_DIRECTIONS + 1)
    histogram = _histogram(shares * strength, position)
    histogram[0] += histogram[-1]
    histogram[-1] = np.sum(shares * (1 - strength))
    return histogram

"""Errors of an opacity against the true one, by the protocol of alphamatting.com.

Rhemann et al., "A perceptually motivated online benchmark for image matting", CVPR 2009. All are sums or means over the
unknown region of the trimap, not divided by 1000 as tables of SAD, gradient and connectivity print them; the filters and
thresholds see the whole image. All are 0 where both are equal, and do not change where the two change places.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

Float64: TypeAlias = NDArray[np.float64]


def sum_of_absolute_differences(
    alpha: npt.ArrayLike, truth: npt.ArrayLike, unknown: npt.ArrayLike | None = None
) -> float:
    """SAD: Σ |α − α*|.

    Parameters
    ----------
    alpha, truth : (H, W) in [0, 1]
    unknown : (H, W) bool, optional
        The region that counts; default: all.

    Raises
    ------
    ValueError
        Shapes differ, alphas are outside [0, 1], or the region is not bool or empty.
    """
    found, true, region = _checked(alpha, truth, unknown)
    return float(np.abs(found - true)[region].sum())


def mean_squared_error(
    alpha: npt.ArrayLike, truth: npt.ArrayLike, unknown: npt.ArrayLike | None = None
) -> float:
    """MSE: the mean of (α − α*)². See `sum_of_absolute_differences`."""
    found, true, region = _checked(alpha, truth, unknown)
    return float(np.square(found - true)[region].mean())


SIGMA = 1.4  # pixels
#: Where a Gaussian of σ = 1.4 pixels falls below 0.01, its filters end: σ √(−2 ln(0.01 σ √2π)), rounded up.
RADIUS = 4


def gradient_error(alpha: npt.ArrayLike, truth: npt.ArrayLike, unknown: npt.ArrayLike | None = None) -> float:
    """Σ (|∇α| − |∇α*|)². See `sum_of_absolute_differences`.

    The gradients are first derivatives of a Gaussian with σ = 1.4 pixels, filters of 9 x 9 pixels whose squares sum to 1;
    beyond the border its pixels are repeated.
    """
    found, true, region = _checked(alpha, truth, unknown)
    return float(np.square(_gradient_magnitude(found) - _gradient_magnitude(true))[region].sum())


def _gradient_magnitude(alpha: Float64) -> Float64:
    from scipy.ndimage import correlate1d

    x = np.arange(-RADIUS, RADIUS + 1)
    gaussian = np.exp(-(x**2) / (2 * SIGMA**2))
    # The filter is the outer product of these two.
    smooth = gaussian / np.linalg.norm(gaussian)
    derivative = x * gaussian / np.linalg.norm(x * gaussian)
    along = [
        correlate1d(
            correlate1d(alpha, derivative, axis=axis, mode="nearest"), smooth, axis=1 - axis, mode="nearest"
        )
        for axis in (0, 1)
    ]
    magnitude: Float64 = np.hypot(*along)
    return magnitude


STEPS = 10
THETA = 0.15  # less than this above the level at which a pixel is connected does not count


def connectivity_error(
    alpha: npt.ArrayLike, truth: npt.ArrayLike, unknown: npt.ArrayLike | None = None
) -> float:
    """Σ |φ − φ*|, how much less connected to the foreground the pixels of one are. See `sum_of_absolute_differences`.

    As the field's evaluation scripts have it: at each level 0.1, 0.2, …, 1 Ω is the largest 4-connected region in which both alphas are at least the level. A pixel's
    l is the level below the first at which it is outside Ω, 1 where there is none. With d = α − l,
    φ = 1 − d where d ≥ 0.15, otherwise 1.
    """
    found, true, region = _checked(alpha, truth, unknown)
    level = _connected_level(np.minimum(found, true))
    return float(np.abs(_connectedness(found, level) - _connectedness(true, level))[region].sum())


def _connected_level(both: Float64) -> Float64:
    """At each pixel, of the smaller of the two alphas."""
    from scipy.ndimage import label

    level = np.zeros(both.shape)
    connected = np.ones(both.shape, bool)
    for step in range(1, STEPS + 1):
        # A tenth in float32 may lie below the same in float64.
        regions, n_regions = label(both >= step / STEPS - 1e-6)
        if n_regions == 0:
            break
        sizes = np.bincount(regions.ravel())
        sizes[0] = 0
        connected &= regions == sizes.argmax()
        level[connected] = step / STEPS
    return level


def _connectedness(alpha: Float64, level: Float64) -> Float64:
    above = alpha - level
    return 1 - np.where(above >= THETA - 1e-6, above, 0)


def _checked(
    alpha: npt.ArrayLike, truth: npt.ArrayLike, unknown: npt.ArrayLike | None
) -> tuple[Float64, Float64, NDArray[np.bool_]]:
    found, true = np.asarray(alpha, np.float64), np.asarray(truth, np.float64)
    region = np.ones(true.shape, bool) if unknown is None else np.asarray(unknown)
    if found.ndim != 2 or not found.shape == true.shape == region.shape:
        shapes = f"{found.shape}, {true.shape} and {region.shape}"
        raise ValueError(f"alpha, truth and the unknown region must be (H, W) of one shape, got {shapes}")
    if region.dtype != np.bool_:
        raise ValueError(f"the unknown region must be bool, got {region.dtype}")
    if not region.any():
        raise ValueError("the unknown region must have a pixel, got none")
    for name, array in (("alpha", found), ("truth", true)):
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"{name} must be in [0, 1], got {array.min()} to {array.max()}")
    return found, true, region

"""Coarse labels → labels at image resolution: the fully connected CRF."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

from deepspec import _core
from deepspec.checks import check_choice
from deepspec.graph import check_threads


def dense_crf(
    image: npt.ArrayLike,
    unary: npt.ArrayLike,
    *,
    bilateral_weight: float = 10.0,
    bilateral_xy: float = 80.0,
    bilateral_rgb: float = 13.0,
    gaussian_weight: float = 3.0,
    gaussian_xy: float = 3.0,
    n_iterations: int = 5,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Mean-field inference in a fully connected CRF (Krähenbühl and Koltun, NIPS 2011; section 3.4).

    Every two pixels p and q that take different labels cost

        bilateral_weight · exp(−|x_p − x_q|² / 2 bilateral_xy² − |c_p − c_q|² / 2 bilateral_rgb²)
        + gaussian_weight · exp(−|x_p − x_q|² / 2 gaussian_xy²),

    x the positions and c the colours, each kernel normalised symmetrically, N^-½ K N^-½ with N the sums of its rows. The
    kernels are applied on a permutohedral lattice, in time linear in the number of pixels, which approximates
    Gaussians to some per cent.

    Parameters
    ----------
    image : (H, W, 3) uint8
    unary : (n_labels, H, W) floating point
        −log p of each label at each pixel, up to a constant for each pixel: see `unary_from_labels`. ``inf`` where a
        label is impossible, but not all of them at a pixel.
    bilateral_weight, gaussian_weight : float
        At least 0; at 0 a kernel is left out.
    bilateral_xy, gaussian_xy : float
        Standard deviations in pixels, above 0.
    bilateral_rgb : float
        Standard deviation in steps of 8-bit colour, above 0.
    n_iterations : int
        0 gives the softmax of −unary.
    threads : int, optional
        The same bits for any number. Default: ``$DEEPSPEC_NUM_THREADS``, else the cores available.

    Returns
    -------
    (n_labels, H, W) float32
        The labels' probabilities: in [0, 1], 1 in all at each pixel.

    Raises
    ------
    ValueError
        A shape, type or value is wrong, or the standard deviations are so small that the lattice's vertices cannot be
        numbered.
    MemoryError
        It does not fit, see the message. A pixel takes about 200 bytes with two labels.
    """
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or 0 in pixels.shape or pixels.dtype != np.uint8:
        raise ValueError(f"image must be (H, W, 3) uint8, got {pixels.shape} {pixels.dtype}")
    costs = np.asarray(unary)
    if costs.ndim != 3 or costs.shape[0] < 1 or costs.shape[1:] != pixels.shape[:2]:
        raise ValueError(
            f"unary must be (n_labels, {pixels.shape[0]}, {pixels.shape[1]}) as the image is, got {costs.shape}"
        )
    if not np.issubdtype(costs.dtype, np.floating):
        raise ValueError(f"unary must be floating point, got {costs.dtype}")
    costs = np.ascontiguousarray(costs, np.float32)
    least = costs.min(axis=0)
    if not np.isfinite(least).all():
        raise ValueError(
            "unary must be finite, or inf for some of a pixel's labels, got NaN, -inf or inf for all"
        )
    weights = {"bilateral_weight": bilateral_weight, "gaussian_weight": gaussian_weight}
    deviations = {
        "bilateral_xy": bilateral_xy,
        "bilateral_rgb": bilateral_rgb,
        "gaussian_xy": gaussian_xy,
    }
    for name, value in weights.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and at least 0, got {value}")
    for name, value in deviations.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be finite and above 0, got {value}")
    if isinstance(n_iterations, bool) or not isinstance(n_iterations, Integral) or n_iterations < 0:
        raise ValueError(f"n_iterations must be a whole number of at least 0, got {n_iterations!r}")
    return _core.dense_crf(
        np.ascontiguousarray(pixels),
        costs,
        **weights,
        **deviations,
        n_iterations=int(n_iterations),
        threads=check_threads(threads),
    )


def unary_from_labels(labels: npt.ArrayLike, n_labels: int, confidence: float = 0.99) -> NDArray[np.float32]:
    """−log p for `dense_crf`, where each pixel's label is right with the probability `confidence`.

    Parameters
    ----------
    labels : (H, W) integers or bool
        0 … n_labels − 1, or −1 where nothing is known.
    n_labels : int
        At least 1.
    confidence : float
        In (0, 1). The other labels share 1 − confidence.

    Returns
    -------
    (n_labels, H, W) float32

    Raises
    ------
    ValueError
        A shape, type or value is wrong.
    """
    given = np.asarray(labels)
    if given.ndim != 2 or given.size == 0 or given.dtype.kind not in "biu":
        raise ValueError(f"labels must be (H, W) integers or bool, got {given.shape} {given.dtype}")
    if isinstance(n_labels, bool) or not isinstance(n_labels, Integral) or n_labels < 1:
        raise ValueError(f"n_labels must be a whole number of at least 1, got {n_labels!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be between 0 and 1, got {confidence}")
    if given.dtype.kind != "b" and not -1 <= given.min() <= given.max() < n_labels:
        raise ValueError(f"labels must be from -1 to {n_labels - 1}, got {given.min()} to {given.max()}")
    if n_labels == 1:
        return np.zeros((1, *given.shape), np.float32)
    other = (1.0 - confidence) / (n_labels - 1)
    number = np.arange(n_labels).reshape(-1, 1, 1)
    unary = np.where(given == number, -math.log(confidence), -math.log(other))
    return np.where(given == -1, math.log(n_labels), unary).astype(np.float32)


REFINEMENTS = ("crf", "pydensecrf", "guided")

#: How sure a coarse label is at its pixel, for both CRFs.
CONFIDENCE = 0.99


def refine_labels(
    image: NDArray[np.uint8], labels: NDArray[np.integer[Any]], method: str, *, threads: int | None = None
) -> NDArray[np.int32]:
    """Labels whose outlines follow the image's (section 3.4).

    Parameters
    ----------
    image : (H, W, 3) uint8
    labels : (H, W) integers or bool
        0, 1, …; a label may lose all its pixels.
    method : {"crf", "pydensecrf", "guided"}
        `dense_crf` with its defaults, the labels being right with probability 0.99; the same by the package
        pydensecrf; or a guided filter of each label (He, Sun, Tang, ECCV 2010; OpenCV's), of which the largest wins.
    threads : int, optional
        Of the CRF.

    Raises
    ------
    ImportError
        pydensecrf or OpenCV is not installed.
    ValueError
        The method is unknown.
    """
    check_choice("refine", method, REFINEMENTS)
    given = np.asarray(labels, np.int32)
    n_labels = int(given.max()) + 1
    if n_labels == 1:
        return given
    if method == "guided":
        return _guided(image, given, n_labels)
    unary = unary_from_labels(given, n_labels, CONFIDENCE)
    probabilities = dense_crf(image, unary, threads=threads) if method == "crf" else pydensecrf(image, unary)
    return np.asarray(probabilities.argmax(axis=0), np.int32)


def pydensecrf(image: NDArray[np.uint8], unary: NDArray[np.float32]) -> NDArray[np.float32]:
    """`dense_crf` with its defaults by the package pydensecrf, one thread.

    Raises
    ------
    ImportError
        The package is not installed.
    """
    try:
        from pydensecrf.densecrf import DenseCRF2D  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError("refine='pydensecrf' needs pydensecrf2: pip install 'deepspec[crf]'") from error
    n_labels, height, width = unary.shape
    crf = DenseCRF2D(width, height, n_labels)
    crf.setUnaryEnergy(unary.reshape(n_labels, -1))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=np.array(image, order="C"), compat=10)
    return np.asarray(crf.inference(5), np.float32).reshape(unary.shape)


_GUIDED_RADIUS = 16  # pixels: two cells of the paper's grid
_GUIDED_CONTRAST = 5.0  # steps of 8-bit colour: below, an edge does not stop the filter


def _guided(image: NDArray[np.uint8], labels: NDArray[np.int32], n_labels: int) -> NDArray[np.int32]:
    try:
        from cv2.ximgproc import createGuidedFilter
    except ImportError as error:
        raise ImportError(
            "refine='guided' needs OpenCV's contributions: pip install 'deepspec[guided]'"
        ) from error
    guide = createGuidedFilter(image, _GUIDED_RADIUS, _GUIDED_CONTRAST**2)
    smooth = [guide.filter((labels == label).astype(np.float32)) for label in range(n_labels)]
    return np.asarray(np.argmax(smooth, axis=0), np.int32)

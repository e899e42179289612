"""What a trimap or strokes say about an image, and the foreground that it chooses in the span of eigenvectors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec import images
from deepspec._blocks import blocks
from deepspec.checks import check_whole
from deepspec.images import ImageSource
from deepspec.spectral import Eigenpairs


@dataclass(frozen=True, eq=False)
class Known:
    """The pixels of which the opacity of the foreground is known.

    Attributes
    ----------
    mask : (H, W) bool
        Where it is known.
    alpha : (H, W) float32
        In [0, 1]: 0 on the background, 1 on the foreground. What stands elsewhere has no meaning.

    Raises
    ------
    ValueError
        Shapes, types or values are wrong, or no pixel is known of the foreground (above ½), or of the background.
    """

    mask: NDArray[np.bool_]
    alpha: NDArray[np.float32]

    def __post_init__(self) -> None:
        mask, alpha = self.mask, self.alpha
        if mask.ndim != 2 or mask.dtype != np.bool_ or alpha.shape != mask.shape or alpha.dtype != np.float32:
            raise ValueError(
                "mask and alpha must be (H, W) bool and float32 of one shape, "
                f"got {mask.shape} {mask.dtype} and {alpha.shape} {alpha.dtype}"
            )
        said = alpha[mask]
        if not ((said >= 0) & (said <= 1)).all():
            raise ValueError(f"alpha must be in [0, 1] where it is known, got {said.min()} to {said.max()}")
        front = int(np.count_nonzero(said > 0.5))
        back = said.size - front
        if front == 0 or back == 0:
            raise ValueError(
                f"pixels of both foreground and background must be known, got {front} of the foreground "
                f"and {back} of the background among {mask.size}"
            )


def known_from_trimap(trimap: ImageSource, size: tuple[int, int]) -> Known:
    """What a gray picture says: black is background, white is foreground.

    Parameters
    ----------
    trimap : path, file object, PIL image or array
        Anything `images.load` reads, the image's size, gray. 0 is background and 255 (1 in floating point) foreground,
        exactly; every value between is unknown, and so is what is not opaque.
    size : (height, width) of the image

    Raises
    ------
    OSError
        It cannot be read as an image; the message names the file.
    ValueError
        It has another size, or colours, or no foreground or background.
    """
    return _from_picture(trimap, size, "trimap")


def known_from_scribbles(scribbles: ImageSource, size: tuple[int, int]) -> Known:
    """What strokes say: in front, behind, or nothing.

    Parameters
    ----------
    scribbles : (H, W) array of signed integers, or path, file object, PIL image or other array
        Integers: 1 in front, −1 behind, 0 where nothing is said. Pictures, the image's size: white strokes in front and
        black ones behind on a transparent ground; or a trimap, see `known_from_trimap`.
    size : (height, width) of the image

    Raises
    ------
    OSError
        It cannot be read as an image; the message names the file.
    ValueError
        It has another size, other integers, or colours, or no foreground or background.
    """
    if not (isinstance(scribbles, np.ndarray) and scribbles.ndim == 2 and scribbles.dtype.kind == "i"):
        return _from_picture(scribbles, size, "scribbles")
    _check_size("scribbles", scribbles.shape, size)
    if scribbles.min() < -1 or scribbles.max() > 1:
        raise ValueError(
            f"scribbles must be 1 in front, -1 behind and 0 elsewhere, got {scribbles.min()} to {scribbles.max()}"
        )
    return _known(scribbles == 1, scribbles == -1, "scribbles")


def solve_alpha(
    pairs: Eigenpairs, known: Known, *, smoothness: float = 0.1, window: int = 11
) -> NDArray[np.float32]:
    """The opacity in the span of the eigenvectors that agrees with what is known.

    With α = Σ_i z_i ŷ_i, ŷ_i = y_i √(Σ d) so that ŷ_0 = 1, the least of

        Σ_p c_p (α_p − a_p)² / Σ_p c_p + smoothness · Σ_i (μ_i / μ_max) z_i²,

    p over the known pixels with alpha a_p, d the degrees, μ the eigenvalues; then clipped to [0, 1], and known pixels as
    given. The second term is the matting energy αᵀ (D − W) α, in units in which the roughest of the vectors has 1: without
    them `smoothness` would mean another thing with every size of image and kind of feature. c_p is the share of unknown
    pixels in the window around p. In the full problem what is known acts on the rest through the edges between the two,
    and c_p stands for the share of a pixel's edges that lead there: so the many pixels in the midst of what is known do
    not take up the few degrees of freedom that the span has.

    Parameters
    ----------
    pairs : Eigenpairs
        With vectors (k, H, W), one entry a pixel, D-orthonormal.
    known : Known
        Of the same size.
    smoothness : float
        Finite and above 0.
    window : int
        Odd, at least 3: the window's side in pixels.

    Returns
    -------
    (H, W) float32 in [0, 1]

    Raises
    ------
    ValueError
        Shapes differ, or a parameter is out of range.
    """
    vectors = pairs.vectors
    if vectors.ndim != 3 or vectors.shape[1:] != known.mask.shape:
        raise ValueError(
            f"vectors must be (k, {known.mask.shape[0]}, {known.mask.shape[1]}) as what is known is, "
            f"got {vectors.shape}"
        )
    if not (isinstance(smoothness, Real) and 0 < smoothness < math.inf):
        raise ValueError(f"smoothness must be finite and above 0, got {smoothness!r}")
    if check_whole("window", window, 3) % 2 == 0:
        raise ValueError(f"window must be an odd number of pixels, got {window}")
    if known.mask.all():
        return known.alpha.copy()
    scale = math.sqrt(float(pairs.degrees.sum(dtype=np.float64)))
    normal, right = _normal_equations(vectors, known, scale, window)
    roughest = float(pairs.values.max())
    if roughest > 0:
        normal[np.diag_indices_from(normal)] += smoothness * pairs.values / roughest
    # Of least norm: a part of the graph without a known pixel has an eigenvalue of 0 and leaves this singular.
    coefficients = (np.linalg.lstsq(normal, right, rcond=None)[0] * scale).astype(np.float32)
    alpha = np.empty(known.mask.shape, np.float32)
    for rows in _row_blocks(vectors):
        np.tensordot(coefficients, vectors[:, rows], axes=1).clip(0, 1, out=alpha[rows])
    np.copyto(alpha, known.alpha, where=known.mask)
    return alpha


def _normal_equations(
    vectors: NDArray[np.float32], known: Known, scale: float, window: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Σ_p c_p v_p v_pᵀ (k, k) and Σ_p c_p a_p v_p (k,), over Σ_p c_p; v_p are the scaled vectors at p."""
    k = len(vectors)
    normal, right, total = np.zeros((k, k)), np.zeros(k), 0.0
    shares = _shares_of_unknown(known, window)
    for rows in _row_blocks(vectors):
        at = shares[rows] > 0
        share = shares[rows][at].astype(np.float64)
        v = vectors[:, rows][:, at].astype(np.float64) * scale
        weighted = v * share
        normal += weighted @ v.T
        right += weighted @ known.alpha[rows][at]
        total += float(share.sum())
    return normal / total, right / total


def _shares_of_unknown(known: Known, window: int) -> NDArray[np.float32]:
    """(H, W): of the pixels in the window around each known one, the border's repeated; 0 at the others."""
    from scipy.ndimage import uniform_filter

    shares: NDArray[np.float32] = uniform_filter((~known.mask).astype(np.float32), window, mode="nearest")
    # The filter's running sums leave some 1e-7 where no pixel is unknown.
    shares[~known.mask | (shares < 0.5 / window**2)] = 0
    return shares


def _row_blocks(vectors: NDArray[np.float32]) -> list[slice]:
    """Rows of the image whose vectors (k, H, W) these are."""
    k, height, width = vectors.shape
    return blocks(height, k * width)


def _from_picture(source: ImageSource, size: tuple[int, int], what: str) -> Known:
    rgba = images.load_rgba(source)
    _check_size(what, rgba.shape[:2], size)
    opaque = rgba[:, :, 3] == 255
    red = rgba[:, :, 0]
    colored = opaque & ((rgba[:, :, 1] != red) | (rgba[:, :, 2] != red))
    if colored.any():
        row, column = np.unravel_index(colored.argmax(), colored.shape)
        raise ValueError(
            f"{what} must be gray, got the colour {tuple(rgba[row, column, :3].tolist())} "
            f"in row {row}, column {column}"
        )
    return _known(opaque & (red == 255), opaque & (red == 0), what)


def _check_size(what: str, found: tuple[int, ...], size: tuple[int, int]) -> None:
    if tuple(found) != tuple(size):
        raise ValueError(
            f"{what} must have the image's size of {size[0]} x {size[1]} pixels (height x width), "
            f"got {found[0]} x {found[1]}"
        )


def _known(front: NDArray[Any], back: NDArray[Any], what: str) -> Known:
    try:
        return Known(front | back, front.astype(np.float32))
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error

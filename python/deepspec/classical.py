"""The classical features: colour, texture and what stands out from the image's border; no weights, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.linalg import lapack

from deepspec import _core
from deepspec.descriptors import describe
from deepspec.features import Features, Floats, Image8, border_cells, check_masks

_CELL = 8
# Arrays below 128 KB are not memory that is fresh each time, which costs more than the arithmetic on it.
_STRIP = 64  # rows of an image
_PART = 256  # cells
_ALIKE = 15.0  # units of Lab: the standard deviation within which two colours are alike
_LEAST_SALIENCY = 0.1  # it is about 1 in photographs, and its root changes most where it is small
# Of L, a and b, texture, geodesic distance, contrast and saliency: their weights, and standard deviations below
# which they are noise, not to be amplified.
_WEIGHTS = np.array([1, 1, 1, 1, 1, 1, 2], np.float32)
_FLOORS = np.array([1, 1, 1, 0.1, 1, 1, 0.3], np.float32)
_CENTER = 0.25  # of the image's sides: the standard deviation of the prior


@dataclass(frozen=True)
class Classical:
    """Colour, texture and saliency of 8-pixel cells: a callable that makes `Features`.

    What photographs' borders show is background more often than not, and objects are compact. Of the cells' mean Lab
    colours, smoothed, come four cues:

    - g, the geodesic distance from the border, along which differences of colour add up (Wei et al., ECCV 2012);
    - m, the barrier to the border: for each channel of Lab, the least maximum of a path to the border less the greatest
      minimum of one; at most the minimum barrier distance (Strand et al., CVIU 2013; Zhang et al., ICCV 2015);
    - a, the Mahalanobis distances from the colours of the four sides' cells, their sum less the largest, so that an
      object may touch one side;
    - v, the variance of the position of cells of a similar colour (Perazzi et al., CVPR 2012).

    Saliency is S = (g + m + a) exp(−v / mean v), g, m and a divided by their means, times a Gaussian in the image's
    centre, unless `center_prior` is False. A cell is then measured by its colour, the spread of its brightness, g,
    the Mahalanobis distance from the whole border's colours, and, with twice the weight, √S. The vectors
    returned are a Nyström map (Williams and Seeger, NIPS 2000) of these: the inner product of two of them is close
    to a Gaussian of the distance of the two cells.

    Parameters
    ----------
    center_prior : bool
        Whether the image's centre counts for more, as photographers put their object there: worth 0.03 to 0.05
        of mean IoU on ECSSD, and wrong for images that nobody framed.
    """

    center_prior: bool = True

    @property
    def settings(self) -> dict[str, Any]:
        """What determines the features, as plain JSON values."""
        return {"features": "classical", "center_prior": self.center_prior}

    def __call__(self, image: Image8) -> Features:
        """The features of an image.

        Parameters
        ----------
        image : (H, W, 3) uint8, at least 8 × 8

        Returns
        -------
        Features
            Cell (8, 8), array (H // 8, W // 8, at most 64) float32; the same for the same image.

        Raises
        ------
        ValueError
            The image is smaller than a cell.
        """
        _check_size(image)
        rgb, spread = _cells(image)
        smooth = _smooth(np.concatenate([_lab(_linear(rgb)), np.log1p(spread)], axis=2))
        color = np.ascontiguousarray(smooth[..., :3])
        geodesic, barrier = _core.border_distances(color)
        saliency = _saliency(color, geodesic, barrier)
        if self.center_prior:
            saliency = saliency * _centered_gaussian(*saliency.shape)
        contrast = _distance_from(color, color[border_cells(*saliency.shape)])
        measures = np.dstack([smooth, geodesic, contrast, np.sqrt(saliency + _LEAST_SALIENCY)])
        features = _gaussian_kernel_map(_standardize(measures) * _WEIGHTS)
        return Features(features, (_CELL, _CELL), dict(self.settings))

    def embed(
        self, images: Sequence[Image8], masks: Sequence[NDArray[Any]] | None = None
    ) -> NDArray[np.float32]:
        """One vector for each image or crop, of its colours and texture: see `descriptors.describe`.

        The cells' own features are of one image's graph; these can be compared across images.

        Parameters
        ----------
        images : sequence of (h, w, 3) uint8, at least 8 × 8 each
        masks : sequence of (h, w) bool or floating, optional
            How much each pixel of an image counts: at least 0, and not 0 everywhere. Without them a Gaussian in
            the middle, of a quarter of the sides: a crop's object is there, and what is about it at the rim.

        Returns
        -------
        (N, 69) float32
            Of length 1; the same for the same image, whichever others are given.

        Raises
        ------
        ValueError
            There is no image, an image is smaller than 8 × 8, or a mask is not as described.
        """
        if len(images) == 0:
            raise ValueError("images must hold at least one image, got none")
        for image in images:
            _check_pixels(image)
            _check_size(image)
        if masks is None:
            weights: Sequence[Floats] = [_centered_gaussian(*image.shape[:2]) for image in images]
        else:
            weights = check_masks(images, masks)
        described = (
            describe(_lab(_LINEAR[image]), mask) for image, mask in zip(images, weights, strict=True)
        )
        return np.stack(list(described))


def _check_pixels(image: Image8) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image must be (H, W, 3) uint8, got {image.dtype} of shape {image.shape}")


def _check_size(image: Image8) -> None:
    if min(image.shape[:2]) < _CELL:
        raise ValueError(
            f"image must be at least {_CELL} x {_CELL} pixels for classical features, "
            f"got {image.shape[0]} x {image.shape[1]}"
        )


def _cells(image: Image8) -> tuple[Floats, Floats]:
    """Mean colour, (H // 8, W // 8, 3) in [0, 1], and the standard deviation of the brightness, (H // 8, W // 8, 1)."""
    strips = range(0, len(image) - _CELL + 1, _STRIP)
    colors, spreads = zip(*(_cells_of_strip(image[start : start + _STRIP]) for start in strips), strict=True)
    return np.concatenate(colors), np.concatenate(spreads)


def _cells_of_strip(image: Image8) -> tuple[Floats, Floats]:
    red, green, blue = np.moveaxis(image, 2, 0)
    brightness = (red.astype(np.uint16) + green + blue)[..., None].astype(np.uint32)
    # Whole numbers below 2³²: no cancellation.
    variance = _CELL**2 * _cell_sum(brightness**2) - _cell_sum(brightness) ** 2
    spread = np.sqrt(variance.astype(np.float32)) / (3 * _CELL**2)
    return _cell_sum(image).astype(np.float32) / (255 * _CELL**2), spread


def _cell_sum(pixels: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.uint32]:
    """(H, W, C) → (H // 8, W // 8, C)."""
    rows, columns = pixels.shape[0] // _CELL, pixels.shape[1] // _CELL
    whole = pixels[: rows * _CELL, : columns * _CELL]
    # Rows first: whole lines are added.
    lines = whole.reshape(rows, _CELL, -1).sum(axis=1, dtype=np.uint32)
    starts = np.arange(0, columns * _CELL, _CELL)
    return np.add.reduceat(lines.reshape(rows, columns * _CELL, -1), starts, axis=1)


def _linear(rgb: Floats) -> Floats:
    """sRGB → linear, both in [0, 1]."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


_LINEAR = _linear(np.arange(256, dtype=np.float32) / 255)


def _lab(linear: Floats) -> Floats:
    """CIE L*a*b* (D65) of linear sRGB in [0, 1]."""
    # Rows: X, Y, Z relative to white, so that each sums to 1.
    to_xyz = np.array([[0.43395, 0.37622, 0.18983], [0.21264, 0.71517, 0.07219], [0.01775, 0.10945, 0.87280]])
    xyz = linear @ to_xyz.T.astype(linear.dtype)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, 2, 0)
    lab: Floats = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=2)
    return lab


def _saliency(color: Floats, geodesic: Floats, barrier: Floats) -> Floats:
    """S of each cell, without the prior."""
    sides = [_distance_from(color, side) for side in (color[0], color[-1], color[:, 0], color[:, -1])]
    standing_out = (geodesic, barrier, np.sum(sides, axis=0) - np.max(sides, axis=0))
    variance = _position_variance(color)
    # An image of one cell has no variance.
    compact = np.exp(-variance / max(float(variance.mean()), 1e-6))
    return np.asarray(sum(map(_relative, standing_out)) * compact)


def _relative(cue: Floats) -> Floats:
    """From 0, by its mean; a mean below a unit is that of an image without contrast, and left as it is."""
    cue = cue - cue.min()
    return np.asarray(cue / max(float(cue.mean()), 1.0))


def _distance_from(color: Floats, cells: Floats) -> Floats:
    """Mahalanobis distance of each cell's colour from the colours (n, 3) of some."""
    mean = cells.mean(axis=0)
    offset, spread = color - mean, cells - mean
    # Three units of Lab are added to their spread: uniform ones have none of their own.
    precision = np.linalg.inv(spread.T @ spread / len(cells) + 9 * np.eye(3, dtype=color.dtype))
    return np.asarray(np.sqrt(np.sum((offset @ precision) * offset, axis=2)))


def _position_variance(color: Floats) -> Floats:
    """Of the cells of each cell's colour: of their position, in shares of the image's sides."""
    rows, columns, _ = color.shape
    points = color.reshape(rows * columns, -1)
    y, x = ((np.arange(side) + 0.5) / side for side in (rows, columns))
    moments = np.stack(
        np.broadcast_arrays(1.0, x, y[:, None], x**2 + y[:, None] ** 2), axis=2, dtype=color.dtype
    )
    # Some cells stand for all, each for those about it.
    picked = _evenly(8, rows, columns)
    sums = _kernel_product(
        points, color[picked].reshape(-1, 3), 2 * _ALIKE**2, moments[picked].reshape(-1, 4)
    )
    weight, mean_x, mean_y, mean_square = sums.T
    weight = np.maximum(weight, 1e-12)  # a colour that none of those is like
    variance = mean_square / weight - (mean_x / weight) ** 2 - (mean_y / weight) ** 2
    return np.asarray(variance).reshape(rows, columns)


def _centered_gaussian(rows: int, columns: int) -> Floats:
    y, x = ((np.arange(side) + 0.5) / side - 0.5 for side in (rows, columns))
    return np.asarray(np.exp(-(y[:, None] ** 2 + x**2) / (2 * _CENTER**2)), np.float32)


def _smooth(grid: Floats) -> Floats:
    smooth: Floats = ndimage.gaussian_filter(grid, sigma=(1, 1, 0), mode="nearest")
    return smooth


def _standardize(measures: Floats) -> Floats:
    centered = measures - measures.mean(axis=(0, 1))
    return np.asarray(centered / np.maximum(measures.std(axis=(0, 1)), _FLOORS))


def _gaussian_kernel_map(grid: Floats) -> Floats:
    """Unit vectors whose inner products approximate exp(−d² / 2σ²), σ half the root mean square distance (≥ 0.7)."""
    rows, columns, channels = grid.shape
    points = grid.reshape(-1, channels)
    landmarks = grid[_evenly(8, rows, columns)].reshape(-1, channels)
    # The measures are scaled so that differences below 1 hardly show: in a flat image they stay small.
    apart = np.sum(
        np.var(points, axis=0)
        + np.var(landmarks, axis=0)
        + (points.mean(axis=0) - landmarks.mean(axis=0)) ** 2
    )
    two_variances = max(0.5 * float(apart), 1.0)
    exact = landmarks.astype(np.float64)
    among = np.exp(-_squared_distances(exact, exact) / two_variances)
    # Where landmarks are alike, and the kernel among them has no inverse, the small diagonal decides.
    root = np.linalg.cholesky(among + 1e-6 * np.eye(len(among)))
    inverse, _ = lapack.dtrtri(root, lower=1)
    vectors = _kernel_product(points, landmarks, two_variances, inverse.T.astype(np.float32))
    # Shorter than 1 where a cell is like no landmark; of nearly no length where it is like none at all.
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return vectors.reshape(rows, columns, -1)


def _evenly(n: int, *shape: int) -> tuple[NDArray[np.intp], ...]:
    """Index of at most n rows and columns of a grid, the first and the last among them."""
    return np.ix_(*(np.unique(np.linspace(0, side - 1, n).round().astype(np.intp)) for side in shape))


def _kernel_product(points: Floats, landmarks: Floats, two_variances: float, matrix: Floats) -> Floats:
    """exp(−d² / 2σ²) times a matrix, d the distances of points (n, C) from landmarks (m, C); all float32."""
    product = np.empty((len(points), matrix.shape[1]), np.float32)
    for start in range(0, len(points), _PART):
        part = slice(start, start + _PART)
        exponents = _squared_distances(points[part], landmarks)
        exponents /= -two_variances
        _multiply(np.exp(exponents, out=exponents), matrix, product[part])
    return product


def _squared_distances(a: Floats, b: Floats) -> Floats:
    squared = np.empty((len(a), len(b)), np.result_type(a, b))
    _multiply(a, -2 * b.T, squared)
    squared += np.sum(a**2, axis=1)[:, None]
    squared += np.sum(b**2, axis=1)
    return np.maximum(squared, 0, out=squared)


def _multiply(a: Floats, b: Floats, out: Floats) -> None:
    """out = a @ b in parts that OpenBLAS does not give to several threads.

    Those would spin for some 50 ms after it, on the cores where the eigensolver works meanwhile. Hence no `eigh` either.
    """
    rows = max(1, 2**18 // b.size)
    for start in range(0, len(a), rows):
        np.matmul(a[start : start + rows], b, out=out[start : start + rows])

"""The classical features: colour, texture and contrast, measured from the image itself; no weights, no torch."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage, sparse
from scipy.linalg import lapack
from scipy.sparse import csgraph

from deepspec.features import Features, Floats, Image8, border_cells

_CELL = 8
_STRIP = 32  # rows


def classical(image: Image8) -> Features:
    """Colour, texture and contrast of 8-pixel cells, measured from the image itself.

    Each cell has its mean Lab colour, the spread of it, the energy of oriented derivatives of the lightness at
    three scales, and two contrasts with the image's border, which shows background more often than not: the
    Mahalanobis distance from the border's colours and the geodesic distance from the border, along which
    differences of colour add up (Wei et al., "Geodesic saliency using background priors", ECCV 2012).
    The vectors returned are a Nyström map (Williams and Seeger, NIPS 2000): the cosine of two of them is
    close to a Gaussian of the distance of the two cells in these measures.

    Parameters
    ----------
    image : (H, W, 3) uint8, at least 8 × 8

    Returns
    -------
    Features
        Cell (8, 8), array (H // 8, W // 8, at most 100) float32; the same for the same image.

    Raises
    ------
    ValueError
        The image is smaller than a cell.
    """
    if min(image.shape[:2]) < _CELL:
        raise ValueError(
            f"image must be at least {_CELL} x {_CELL} pixels for classical features, "
            f"got {image.shape[0]} x {image.shape[1]}"
        )
    lab = _lab(image)
    color = _smooth(_cell_mean(lab))
    spread = np.sqrt(np.maximum(_cell_mean(lab**2) - _cell_mean(lab) ** 2, 0))
    energies = [_cell_mean(np.abs(response)[..., None]) for response in _derivatives(lab[..., 0])]
    texture = np.concatenate([spread, *energies], axis=2)
    contrast = np.stack([_border_contrast(color), _border_distance(color)], axis=2)
    # A standard deviation below one unit of Lab, or 10 % of a texture's energy, is noise: not amplified.
    measures = [
        _standardize(color, floor=1.0),
        0.3 * _standardize(_smooth(np.log1p(texture)), floor=0.1),
        2.0 * _standardize(contrast, floor=1.0),
    ]
    return Features(_gaussian_kernel_map(np.concatenate(measures, axis=2)), (_CELL, _CELL))


def _lab(image: Image8) -> Floats:
    """CIE L*a*b* (D65) of sRGB, float32."""
    lab = np.empty(image.shape, np.float32)
    # In strips that fit into a cache: whole images of every step cost more in fresh memory than in arithmetic.
    for start in range(0, len(image), _STRIP):
        lab[start : start + _STRIP] = _lab_of_strip(image[start : start + _STRIP])
    return lab


def _lab_of_strip(image: Image8) -> Floats:
    code = np.arange(256, dtype=np.float32) / 255
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)[image]
    # Rows: X, Y, Z relative to white, so that each sums to 1.
    to_xyz = np.array([[0.43395, 0.37622, 0.18983], [0.21264, 0.71517, 0.07219], [0.01775, 0.10945, 0.87280]])
    xyz = linear @ to_xyz.T.astype(np.float32)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = np.moveaxis(f, 2, 0)
    lab: Floats = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=2)
    return lab


def _derivatives(lightness: Floats) -> list[Floats]:
    """Gaussian derivatives along four directions at three scales, each scaled by its sigma."""
    responses = []
    for sigma in (1.0, 2.0, 4.0):
        along_y = sigma * ndimage.gaussian_filter(lightness, sigma, order=(1, 0))
        along_x = sigma * ndimage.gaussian_filter(lightness, sigma, order=(0, 1))
        responses += [
            along_y,
            along_x,
            (along_x + along_y) / math.sqrt(2),
            (along_x - along_y) / math.sqrt(2),
        ]
    return responses


def _cell_mean(pixels: Floats) -> Floats:
    """(H, W, C) → (H // 8, W // 8, C)."""
    rows, columns = pixels.shape[0] // _CELL, pixels.shape[1] // _CELL
    whole = pixels[: rows * _CELL, : columns * _CELL]
    # Rows first: whole lines are added, a tenth of the time of both axes at once.
    lines = whole.reshape(rows, _CELL, -1).mean(axis=1)
    mean: Floats = lines.reshape(rows, columns, _CELL, -1).mean(axis=2)
    return mean


def _smooth(grid: Floats) -> Floats:
    smooth: Floats = ndimage.gaussian_filter(grid, sigma=(1, 1, 0), mode="nearest")
    return smooth


def _border_contrast(color: Floats) -> Floats:
    """Mahalanobis distance of each cell from the colours of the border cells."""
    border = color[border_cells(*color.shape[:2])]
    offset = color - border.mean(axis=0)
    # Three units of Lab are added to the border's spread: a uniform border has none of its own.
    covariance = np.cov(border.T, bias=True) + 9 * np.eye(3)
    squared = np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(covariance), offset)
    return np.asarray(np.sqrt(squared))


def _border_distance(color: Floats) -> Floats:
    """Least sum of colour differences along 4-connected paths from each cell to the border."""
    rows, columns = color.shape[:2]
    cells = np.arange(rows * columns).reshape(rows, columns)
    start = np.concatenate([cells[:, :-1].ravel(), cells[:-1].ravel()])
    end = np.concatenate([cells[:, 1:].ravel(), cells[1:].ravel()])
    flat = color.reshape(-1, 3)
    # The graph routines take a weight of zero for no edge.
    weights = np.linalg.norm(flat[start] - flat[end], axis=1) + 1e-6
    graph = sparse.csr_array((weights, (start, end)), shape=(rows * columns, rows * columns))
    border = np.flatnonzero(border_cells(rows, columns))
    distance: Floats = csgraph.dijkstra(graph, directed=False, indices=border, min_only=True)
    return distance.reshape(rows, columns)


def _standardize(grid: Floats, floor: float) -> Floats:
    centered = grid - grid.mean(axis=(0, 1))
    standardized: Floats = centered / np.maximum(grid.std(axis=(0, 1)), floor)
    return standardized


def _gaussian_kernel_map(grid: Floats) -> Floats:
    """Vectors whose inner products approximate exp(−d² / 2σ²), σ half the root mean square distance (≥ 0.7)."""
    rows, columns, channels = grid.shape
    points = grid.reshape(-1, channels).astype(np.float64)
    picked = np.ix_(*(np.unique(np.linspace(0, n - 1, 10).round().astype(int)) for n in (rows, columns)))
    landmarks = grid[picked].reshape(-1, channels).astype(np.float64)
    squared = _squared_distances(points, landmarks)
    # The measures are scaled so that differences below 1 hardly show: in a flat image they stay small.
    two_variances = max(0.5 * float(squared.mean()), 1.0)
    among = np.exp(-_squared_distances(landmarks, landmarks) / two_variances)
    # Where landmarks are alike, and the kernel among them has no inverse, the small diagonal decides.
    root = np.linalg.cholesky(among + 1e-6 * np.eye(len(among)))
    inverse, _ = lapack.dtrtri(root, lower=1)
    kernel = np.exp(np.divide(squared, -two_variances, out=squared), out=squared)
    mapped = _product(kernel, inverse.T)
    return np.asarray(mapped.reshape(rows, columns, -1), np.float32)


def _squared_distances(a: Floats, b: Floats) -> Floats:
    squared = _product(a, -2 * b.T)
    squared += np.sum(a**2, axis=1)[:, None]
    squared += np.sum(b**2, axis=1)
    return np.maximum(squared, 0, out=squared)


def _product(a: Floats, b: Floats) -> Floats:
    """a @ b in blocks that OpenBLAS does not give to several threads.

    Those would spin for some 50 ms after it, on the cores where the eigensolver works meanwhile. Hence no `eigh` either.
    """
    rows = max(1, 2**18 // b.size)
    product = np.empty((len(a), b.shape[1]))
    for start in range(0, len(a), rows):
        np.matmul(a[start : start + rows], b, out=product[start : start + rows])
    return product

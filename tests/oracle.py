"""The mathematics of the core once more: dense, float64, by brute force, with nothing shared with the package.

Every function takes and returns plain arrays; pixels and cells are numbered row by row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.csgraph
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Array = NDArray[Any]
KNN_SEARCHES = ((20, 2.0), (10, 0.1))
HSV_NEIGHBOURS = 20


# Features


def normalized_rows(features: ArrayLike) -> Array:
    """(h, w, C) or (n, C) → rows of length 1, zero rows kept, at any scale a double can hold."""
    rows = np.asarray(features, float)
    rows = rows / np.where(peak := abs(rows).max(-1, keepdims=True), peak, 1)
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms, norms, 1)


def interpolation(size: int, new_size: int) -> Array:
    """(new_size, size) linear interpolation, align_corners=False: cell centres map to cell centres."""
    position = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    position = np.clip(position, 0, size - 1)
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, size - 1)
    matrix = np.zeros((new_size, size))
    rows = np.arange(new_size)
    np.add.at(matrix, (rows, low), 1 - (position - low))
    np.add.at(matrix, (rows, high), position - low)
    return matrix


def upsampling(shape: tuple[int, int], grid: tuple[int, int]) -> Array:
    """(H'·W', h·w) bilinear interpolation of values on `shape` to `grid`."""
    return np.kron(interpolation(shape[0], grid[0]), interpolation(shape[1], grid[1]))


def feature_affinity(features: Array, grid: tuple[int, int] | None = None, normalize: bool = True) -> Array:
    """relu(F Fᵀ) / max of the features (h, w, C), normalised first and then upsampled to the grid."""
    h, w, channels = features.shape
    rows = (
        normalized_rows(features) if normalize else np.asarray(features, float) / (abs(features).max() or 1)
    )
    rows = rows.reshape(h * w, channels)
    if grid is not None and grid != (h, w):
        rows = upsampling((h, w), grid) @ rows
    gram: Array = np.maximum(rows @ rows.T, 0)
    return gram / (gram.max() or 1)


def lift(n_pixels: int, n_cells: int, cell: float) -> Array:
    """(n_pixels, n_cells): interpolation along an axis whose cells cover `cell` pixels each, constant beyond the grid."""
    position = np.clip((np.arange(n_pixels) + 0.5) / cell - 0.5, 0, n_cells - 1)
    return np.array([[max(0.0, 1 - abs(at - c)) for c in range(n_cells)] for at in position])


def lifted_affinity(
    features: Array, cell: tuple[float, float], size: tuple[int, int], finer: int = 1
) -> Array:
    """U relu(F Fᵀ) Uᵀ / max over all pixels of an image, relu taken on a grid of `finer` times as many rows and columns."""
    grid = finer * features.shape[0], finer * features.shape[1]
    affinity = feature_affinity(features, grid)
    rows, columns = (lift(*axis) for axis in zip(size, grid, (cell[0] / finer, cell[1] / finer), strict=True))
    up = np.kron(rows, columns)
    return up @ affinity @ up.T


# Colour


def resized(image: Array, grid: tuple[int, int]) -> Array:
    """The image (H, W, 3) on the grid: PIL's bilinear filter, channel by channel for floats."""
    if image.shape[:2] == grid:
        return image
    size = (grid[1], grid[0])
    if image.dtype == np.uint8:
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    channels = [Image.fromarray(c.astype(np.float32)) for c in np.moveaxis(image, -1, 0)]
    return np.stack([np.asarray(c.resize(size, Image.Resampling.BILINEAR)) for c in channels], axis=-1)


def unit_rgb(image: Array) -> Array:
    return image / 255 if image.dtype == np.uint8 else np.asarray(image, float)


def positions(height: int, width: int) -> tuple[Array, Array]:
    """x and y of each pixel, from 0 to 1 along each axis; 0 on an axis of one pixel."""
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    return x.ravel(), y.ravel()


def neighbours(points: Array, k: int) -> tuple[Array, Array]:
    """The min(k, n) nearest points of each point, itself included, by (squared distance, index).

    Returns the indices (n, min(k, n)) and for each point whether its last neighbour ties with the next one,
    up to what rounding in single precision can decide.
    """
    n, k = len(points), min(k, len(points))
    indices = np.empty((n, k), int)
    tied = np.zeros(n, bool)
    for start in range(0, n, 256):
        block = slice(start, min(n, start + 256))
        squared = np.zeros((block.stop - start, n))
        for coordinate in points.T:
            squared += (coordinate[block, None] - coordinate) ** 2
        order = np.argsort(squared, axis=1, kind="stable")
        indices[block] = order[:, :k]
        if k < n:
            last, following = np.take_along_axis(squared, order[:, k - 1 : k + 1], axis=1).T
            tied[block] = (
                following - last <= 1e-6 * (following + abs(points).max() * np.sqrt(following)) + 1e-12
            )
    return indices, tied


def knn_points(image: Array, weight: float) -> Array:
    """[r, g, b, w·x, w·y] of each pixel."""
    x, y = positions(*image.shape[:2])
    return np.column_stack([unit_rgb(image).reshape(-1, 3), weight * x, weight * y])


def color_knn(image: Array) -> tuple[Array, Array]:
    """The two-scale KNN affinity (n, n) and the pixels (n,) whose neighbours are not unique."""
    n = image.shape[0] * image.shape[1]
    affinity = np.zeros((n, n))
    ambiguous = np.zeros(n, bool)
    for k, weight in KNN_SEARCHES:
        indices, tied = neighbours(knn_points(image, weight), k)
        found = np.zeros((n, n))
        np.put_along_axis(found, indices, 1, axis=1)
        affinity += found + found.T
        ambiguous |= tied
    return affinity, ambiguous


def hsv_points(image: Array) -> Array:
    """ψ = (cos h, sin h, s, v, x, y) of Eq. 1 for each pixel; a grey pixel has hue and saturation 0."""
    rgb = unit_rgb(image).reshape(-1, 3)
    value = rgb.max(1)
    chroma = value - rgb.min(1)
    safe = np.where(chroma, chroma, 1)
    r, g, b = rgb.T
    sextant = np.select(
        [chroma == 0, value == r, value == g],
        [0 * r, (g - b) / safe % 6, (b - r) / safe + 2],
        (r - g) / safe + 4,
    )
    hue = sextant * np.pi / 3
    saturation = chroma / np.where(value, value, 1)
    return np.column_stack([np.cos(hue), np.sin(hue), saturation, value, *positions(*image.shape[:2])])


def color_knn_hsv(image: Array) -> tuple[Array, Array]:
    """Eq. 1: 1 − ‖ψ(u) − ψ(v)‖ where either is among the other's neighbours, and the ambiguous pixels."""
    points = hsv_points(image)
    indices, tied = neighbours(points, HSV_NEIGHBOURS)
    affinity = np.zeros((len(points), len(points)))
    distance = np.linalg.norm(points[:, None] - points[indices], axis=-1)
    np.put_along_axis(affinity, indices, np.maximum(1 - distance, 0), axis=1)
    return np.maximum(affinity, affinity.T), tied


def color_random_walk(image: Array) -> tuple[Array, Array]:
    """exp(−900‖Δrgb‖²) over the 3×3 window, positions beyond the border taken at the border and so repeated."""
    height, width = image.shape[:2]
    rgb = unit_rgb(image).reshape(-1, 3)
    affinity = np.zeros((len(rgb), len(rgb)))
    rows, columns = np.divmod(np.arange(len(rgb)), width)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            other = np.clip(rows + dy, 0, height - 1) * width + np.clip(columns + dx, 0, width - 1)
            weight = np.exp(-900 * ((rgb - rgb[other]) ** 2).sum(1))
            np.add.at(affinity, (np.arange(len(rgb)), other), weight)
    return affinity, np.zeros(len(rgb), bool)


COLOR = {"knn": color_knn, "knn_hsv": color_knn_hsv, "random_walk": color_random_walk}


# Eigenproblem


def fused_affinity(feature_part: Array | None, color_part: Array | None, color_weight: float) -> Array:
    """W_feat + λ W_color, the colour part alone for λ = ∞ and the feature part alone for λ = 0."""
    if color_weight == np.inf:
        assert color_part is not None
        return color_part
    if color_weight == 0 or color_part is None:
        assert feature_part is not None
        return feature_part
    assert feature_part is not None
    return feature_part + color_weight * color_part


def degrees(affinity: Array) -> Array:
    sums = np.asarray(affinity, float).sum(1)
    return np.where(sums < 1e-12, 1, sums)


def eigenpairs(affinity: Array, kind: str = "normalized") -> tuple[Array, Array]:
    """All eigenvalues, ascending, and eigenvectors (n, n), by row, of (D − W) y = μ D y, or of D − W."""
    scale = 1 / np.sqrt(metric(affinity, kind))
    # Of either kind a vertex without neighbours has D = 1 and W = 0, and so the eigenvalue 1.
    matrix = np.diag(scale * degrees(affinity) * scale) - scale[:, None] * affinity * scale
    # LAPACK's search for a few pairs was seen to err by 0.005 on graphs in pieces: all pairs.
    values, vectors = scipy.linalg.eigh(matrix, driver="evd")
    return values, (scale[:, None] * vectors).T


def residuals(affinity: Array, values: Array, vectors: Array, kind: str = "normalized") -> Array:
    """‖D^-½((D−W)y − μDy)‖ / ‖D^½y‖, or ‖(D−W)y − μy‖ / (‖y‖ max D), of each pair."""
    d, m = degrees(affinity), metric(affinity, kind)
    y = np.asarray(vectors, float).reshape(len(values), -1)
    error = d * y - y @ affinity - values[:, None] * m * y
    scale = 1 if kind == "normalized" else d.max()
    norms: Array = np.linalg.norm(error / np.sqrt(m), axis=1) / np.linalg.norm(y * np.sqrt(m), axis=1)
    return norms / scale


def metric(affinity: Array, kind: str = "normalized") -> Array:
    """The diagonal (n,) of the matrix the eigenvectors are orthonormal in."""
    return degrees(affinity) if kind == "normalized" else np.ones(len(affinity))


def angle(vectors: Array, others: Array, weight: Array) -> float:
    """The largest principal angle in radians from span(vectors) to span(others), rows, in the inner product of `weight`.

    With fewer `vectors` than `others` it is 0 where the first space lies in the second.
    """
    root = np.sqrt(weight)[:, None]
    a = scipy.linalg.orth(root * np.asarray(vectors, float).reshape(len(vectors), -1).T)
    b = scipy.linalg.orth(root * np.asarray(others, float).reshape(len(others), -1).T)
    outside = a - b @ (b.T @ a)
    return float(np.arcsin(min(1.0, float(np.linalg.norm(outside, 2)))))


def cluster_bounds(values: Array, size: int, width: float) -> tuple[int, int]:
    """(low, high): the last gap wider than `width` at or before `size` and the first one at or after it."""
    gaps = [0, *(np.flatnonzero(np.diff(values) > width) + 1), len(values)]
    return max(g for g in gaps if g <= size), min(g for g in gaps if g >= size)


def signed(vector: Array) -> Array:
    """The vector or its negative, by the sign rule of `Eigenpairs`: fewer positive entries than half, else the peak positive."""
    flat = np.asarray(vector).ravel()
    positive, negative = np.mean(flat > 0), np.mean(flat < 0)
    if 0.5 < positive < 1:
        return -vector
    if 0.5 < negative < 1:
        return vector
    peak = flat[np.argmax(abs(flat))]
    return -vector if peak < 0 else vector


def components(affinity: Array) -> Array:
    """Component number of each vertex; −1 where the degree is 0."""
    connected = np.asarray(affinity) > 0
    labels = scipy.sparse.csgraph.connected_components(scipy.sparse.csr_array(connected), directed=False)[1]
    return np.where(connected.any(1), labels, -1)


# The fully connected CRF


def permutohedral_filter(points: ArrayLike, numbers: ArrayLike) -> Array:
    """A Gaussian of standard deviation 1 on the permutohedral lattice: (n, d) points, (n, m) numbers → (n, m).

    Vertices are tuples of d + 1 whole numbers, congruent modulo d + 1, which sum up to 0.
    """
    points, numbers = np.asarray(points, float), np.asarray(numbers, float)
    d = points.shape[1]
    simplices = [_simplex(point) for point in points]
    values: dict[tuple[int, ...], Array] = {}
    for simplex, of_point in zip(simplices, numbers, strict=True):
        for vertex, share in simplex:
            values[vertex] = values.get(vertex, 0.0) + share * of_point
    nothing = np.zeros(numbers.shape[1])
    for direction in range(d + 1):
        step = np.ones(d + 1, int) - (d + 1) * (np.arange(d + 1) == direction)
        values = {
            vertex: value + 0.5 * sum(values.get(tuple(sign * step + vertex), nothing) for sign in (1, -1))
            for vertex, value in values.items()
        }
    return np.array([sum(share * values[vertex] for vertex, share in simplex) for simplex in simplices])


def _simplex(point: Array) -> list[tuple[tuple[int, ...], float]]:
    """The corners of the simplex that encloses a point, and what they have of it."""
    d = len(point)
    plane = np.zeros(d + 1)
    for i, coordinate in enumerate(point):
        scaled = coordinate * np.sqrt(2 / 3) * (d + 1) / np.sqrt((i + 1) * (i + 2))
        plane[: i + 1] += scaled
        plane[i + 1] -= (i + 1) * scaled
    corner = ((d + 1) * np.rint(plane / (d + 1))).astype(int)
    while corner.sum():
        away = plane - corner
        # Of equals, the first counts as the farthest up.
        if corner.sum() > 0:
            corner[d - np.argmin(away[::-1])] -= d + 1
        else:
            corner[np.argmax(away)] += d + 1
    order = np.argsort(corner - plane, kind="stable")  # the farthest above the corner first
    away = (plane - corner)[order] / (d + 1)
    shares = [1 + away[d] - away[0], *(away[d - k] - away[d + 1 - k] for k in range(1, d + 1))]
    corners = []
    for k in range(d + 1):
        corners.append(tuple(corner.tolist()))
        corner = corner + 1 - (d + 1) * (np.arange(d + 1) == order[d - k])
    return list(zip(corners, shares, strict=True))


def dense_crf(
    image: Array, unary: Array, kernels: list[tuple[float, float, float | None]], steps: int
) -> Array:
    """Mean field with kernels of (weight, deviation in pixels, deviation in colour or None)."""
    labels, height, width = unary.shape
    y, x = np.divmod(np.arange(height * width), width)
    rows = -unary.reshape(labels, -1).T.astype(float)

    def softmax(logits: Array) -> Array:
        sizes = np.exp(logits - logits.max(axis=1, keepdims=True))
        return sizes / sizes.sum(axis=1, keepdims=True)

    filters = []
    for weight, xy, rgb in kernels:
        points = np.stack([x, y], axis=1) / xy
        if rgb is not None:
            points = np.hstack([points, image.reshape(-1, 3) / rgb])
        norm = 1 / np.sqrt(permutohedral_filter(points, np.ones((len(points), 1))))
        filters.append((weight, points, norm))
    field = softmax(rows)
    for _ in range(steps):
        field = softmax(
            rows + sum(w * norm * permutohedral_filter(p, norm * field) for w, p, norm in filters)
        )
    return field.T.reshape(labels, height, width)

"""The affinity as one builds it from numpy, SciPy and PyMatting: where the peers of deepspec start."""

from __future__ import annotations

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from problems import Array, Problem

KNN_SEARCHES = ((20, 2.0), (10, 0.1))  # (k, weight of the position) of the "knn" colour graph


def gram(problem: Problem) -> Array:
    """(n, n) float32: relu(F Fᵀ) divided by its largest entry."""
    rows = problem.rows()
    product: Array = rows @ rows.T
    np.maximum(product, 0, out=product)
    product /= product.max()
    return product


def pymatting_knn(image: Array) -> scipy.sparse.csr_array:
    """(n, n): the "knn" colour graph by PyMatting's neighbour search."""
    return graph_of([pymatting_search(points, k) for k, points in knn_points(image)])


def pymatting_search(points: Array, k: int) -> Array:
    """(n, k): the indices of the nearest among the points."""
    from pymatting import knn

    rounded = points.astype(np.float32)
    found: Array = knn(rounded, rounded, k=k)[1]
    return found


def knn_points(image: Array) -> list[tuple[int, Array]]:
    """The two searches of the "knn" colour graph: k, and the points (n, 5) float64."""
    height, width = image.shape[:2]
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    position = np.stack([x, y], axis=-1).reshape(-1, 2)
    colors = image.reshape(-1, 3) / 255
    return [(min(k, len(position)), np.hstack([colors, weight * position])) for k, weight in KNN_SEARCHES]


def graph_of(neighbors: list[Array]) -> scipy.sparse.csr_array:
    """(n, n): each j among the neighbours (n, k) of i adds 1 to the entries (i, j) and (j, i)."""
    n = len(neighbors[0])
    rows = [np.repeat(np.arange(n), found.shape[1]) for found in neighbors]
    columns = [found.ravel() for found in neighbors]
    entries = np.concatenate(rows + columns), np.concatenate(columns + rows)
    return scipy.sparse.csr_array((np.ones(len(entries[0])), entries), shape=(n, n))


def dense_affinity(problem: Problem, color_weight: float) -> Array:
    """(n, n) float32: W."""
    affinity = gram(problem)
    if color_weight:
        affinity += np.float32(color_weight) * pymatting_knn(problem.image).toarray().astype(np.float32)
    return affinity


def normalized_affinity(problem: Problem, color_weight: float) -> tuple[Array, Array]:
    """D^-½ W D^-½, (n, n) float32, and the degrees (n,)."""
    affinity = dense_affinity(problem, color_weight)
    degrees = affinity.sum(1)
    degrees[degrees < 1e-12] = 1
    scale = 1 / np.sqrt(degrees)
    affinity *= scale[:, None]
    affinity *= scale
    return affinity, degrees


def normalized_operator(
    problem: Problem, color_weight: float, dtype: type
) -> tuple[scipy.sparse.linalg.LinearOperator, Array]:
    """D^-½ W D^-½ as an operator that computes in float32, and the degrees (n,) float32."""
    feature_part = gram(problem)
    n = problem.n
    color_part = scipy.sparse.csr_array((n, n), dtype=np.float32)
    if color_weight:
        color_part = np.float32(color_weight) * pymatting_knn(problem.image).astype(np.float32)
    degrees = feature_part.sum(1) + color_part.sum(1)
    degrees[degrees < 1e-12] = 1
    scale = 1 / np.sqrt(degrees)[:, None]

    def multiply(x: Array) -> Array:
        scaled = scale * x.reshape(n, -1).astype(np.float32)
        product: Array = scale * (feature_part @ scaled + color_part @ scaled)
        return product.reshape(x.shape)

    operator = scipy.sparse.linalg.LinearOperator((n, n), matvec=multiply, matmat=multiply, dtype=dtype)
    return operator, degrees


def start_near(leading: Array) -> Array:
    """(n,): the leading vector with as much of random numbers, the same ones in every run; the leading vector's dtype."""
    noise = np.random.default_rng(0).normal(size=len(leading)).astype(leading.dtype)
    start: Array = leading + leading.mean() * noise
    return start

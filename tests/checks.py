"""What the tests of the eigensolver ask of every result, and the inputs they share."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
from numpy.typing import NDArray

import deepspec

Array = NDArray[Any]
SOLVERS = ("native", "spectra")


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], channels: int, scale: int = 4) -> Array:
    """(h, w, channels) normal noise on a grid `scale` times coarser, interpolated: what neighbours share."""
    coarse = (max(2, -(-shape[0] // scale)), max(2, -(-shape[1] // scale)))
    values = rng.normal(size=(coarse[0] * coarse[1], channels))
    return (oracle.upsampling(coarse, shape) @ values).reshape(*shape, channels)


def random_features(rng: np.random.Generator, shape: tuple[int, int], channels: int, kind: str) -> Array:
    """Features (h, w, channels) float32 of one of the kinds networks give: see the branches."""
    noise = rng.normal(size=(*shape, channels))
    if kind == "smooth":
        noise = smooth_noise(rng, shape, channels) + 0.3 * noise
    elif kind == "relu":
        noise = np.maximum(smooth_noise(rng, shape, channels) + 0.5, 0)
    elif kind == "aligned":  # but for a few cells, whose products with many others are negative
        noise = smooth_noise(rng, shape, channels) + 0.3 * noise + 0.5 * rng.normal(size=channels)
    elif kind == "clusters":
        centres = rng.normal(size=(5, channels))
        noise = centres[smooth_noise(rng, shape, 5).argmax(-1)] + 0.5 * noise
    elif kind != "noise":
        raise ValueError(kind)
    return np.asarray(noise, np.float32)


def random_image(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """(h, w, 3) float in [0, 1]: smooth colours with noise, so that no two distances are equal."""
    image = 0.5 + 0.2 * smooth_noise(rng, shape, 3) + 0.05 * rng.normal(size=(*shape, 3))
    return np.clip(image, rng.uniform(0, 0.02, (*shape, 3)), 1 - rng.uniform(0, 0.02, (*shape, 3)))


def color_affinity(image: Array, method: str) -> Array:
    """The package's colour affinity, dense, once it is known to be the oracle's wherever neighbours are unique."""
    graph: Array = deepspec.color_affinity(image, method).toarray()
    assert_same_graph(graph, image, method)
    return graph


def assert_same_graph(graph: Array, image: Array, method: str) -> None:
    expected, ambiguous = oracle.COLOR[method](image)
    certain = ~(ambiguous[:, None] | ambiguous)
    np.testing.assert_allclose(graph[certain], expected[certain], rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(graph, graph.T)
    if method == "knn":
        assert graph.sum() == expected.sum(), "every search finds k neighbours, however ties fall"


def fused_affinity(
    features: Array | None,
    image: Array | None,
    *,
    grid: tuple[int, int] | None = None,
    color_weight: float = 10.0,
    color: str = "knn",
    normalize_features: bool = True,
) -> Array:
    """W (n, n) for the arguments of `deepspec.eigenpairs`, by the oracle."""
    feature_part = color_part = None
    if features is not None and color_weight != np.inf:
        feature_part = oracle.feature_affinity(features, grid, normalize_features)
    if image is not None and color_weight != 0:
        shape = grid or (image.shape[:2] if features is None else features.shape[:2])
        color_part = color_affinity(oracle.resized(image, shape), color)
    return oracle.fused_affinity(feature_part, color_part, color_weight)


def assert_agrees(
    pairs: deepspec.Eigenpairs,
    affinity: Array,
    kind: str = "normalized",
    spectrum: tuple[Array, Array] | None = None,
    residual: float = 1e-5,
) -> None:
    """The pairs are the smallest of the affinity's Laplacian, to the accuracy the project promises.

    `spectrum` is what `oracle.eigenpairs` says of it, where that is known already; `residual` is the largest allowed.
    """
    k, n = len(pairs.values), len(affinity)
    degrees = oracle.degrees(affinity)
    scale = 1.0 if kind == "normalized" else degrees.max()
    vectors = pairs.vectors.reshape(k, n)
    assert pairs.values.dtype == np.float64
    assert pairs.vectors.dtype == pairs.degrees.dtype == np.float32
    np.testing.assert_allclose(pairs.degrees.ravel(), degrees, rtol=max(1e-4, 10 * residual))

    values, expected = spectrum or oracle.eigenpairs(affinity, kind)
    assert pairs.values[0] == 0
    assert (np.diff(pairs.values) >= 0).all()
    np.testing.assert_allclose(pairs.values / scale, values[:k] / scale, atol=residual, rtol=0)

    residuals = oracle.residuals(affinity, pairs.values, vectors, kind)
    assert residuals.max() <= residual, residuals
    assert pairs.residuals.max() <= residual, pairs.residuals

    weight = oracle.metric(affinity, kind)
    gram = np.einsum("in,n,jn->ij", vectors.astype(float), weight, vectors.astype(float))
    np.testing.assert_allclose(gram, np.eye(k), atol=max(1e-4, 10 * residual))
    for size in range(1, min(5, k) + 1):
        assert_same_subspace(vectors, expected, values / scale, residuals.max(), weight, size)

    assert (vectors[0] >= 0).all()
    for vector in vectors[1:]:
        np.testing.assert_array_equal(oracle.signed(vector), vector)


def assert_same_subspace(
    vectors: Array, expected: Array, values: Array, residual: float, weight: Array, size: int
) -> None:
    """The first `size` vectors span what the oracle's do; within a cluster of equal values any basis will do."""
    low, high = oracle.cluster_bounds(values, size, width=max(2e-5, 20 * residual))

    def limit(bound: int) -> float:
        if bound in (0, len(values)):
            return 1e-3
        return max(1e-3, 2 * residual / float(values[bound] - values[bound - 1]))

    assert oracle.angle(vectors[:size], expected[:high], weight) <= limit(high)
    if low:
        assert oracle.angle(expected[:low], vectors[:size], weight) <= limit(low)

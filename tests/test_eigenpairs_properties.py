"""What holds for every input of the eigensolver."""

from __future__ import annotations

import math
from typing import Any

import checks
import numpy as np
import oracle
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

import deepspec

seeds = st.integers(0, 2**32 - 1)
shapes = st.tuples(st.integers(1, 14), st.integers(1, 14)).filter(lambda shape: shape[0] * shape[1] >= 3)
kinds = st.sampled_from(["noise", "smooth", "relu", "clusters"])
colors = st.sampled_from(["knn", "knn_hsv", "random_walk"])
solvers = st.sampled_from(checks.SOLVERS)
weights = st.one_of(st.just(0.0), st.floats(1e-3, 1e3), st.just(math.inf))

modest = settings(max_examples=100, deadline=None)


def inputs(seed: int, shape: tuple[int, int], kind: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    features = checks.random_features(rng, shape, int(rng.integers(2, 40)), kind)
    features[..., 0] = abs(features[..., 0]) + 0.1  # no row of zeros
    return features, checks.random_image(rng, shape)


@modest
@given(seeds, shapes, kinds, colors, weights, st.integers(1, 8), solvers)
def test_agrees_with_the_oracle(
    seed: int, shape: tuple[int, int], kind: str, color: str, color_weight: float, k: int, solver: str
) -> None:
    features, image = inputs(seed, shape, kind)
    options: dict[str, Any] = {"color": color, "color_weight": color_weight}
    pairs = deepspec.eigenpairs(features, image, k=min(k, shape[0] * shape[1]), solver=solver, **options)
    checks.assert_agrees(pairs, checks.fused_affinity(features, image, **options))


@modest
@given(
    seeds,
    st.integers(1, 40),
    st.floats(0, 0.3),
    st.integers(0, 6),
    st.integers(1, 12),
    st.sampled_from(["normalized", "unnormalized"]),
    st.booleans(),
    solvers,
)
def test_any_graph_agrees_with_the_oracle(
    seed: int, n: int, density: float, decades: int, k: int, laplacian: str, sparse: bool, solver: str
) -> None:
    """Graphs in pieces, with vertices alone, with and without loops, and weights over several decades."""
    rng = np.random.default_rng(seed)
    affinity = np.triu(10 ** -rng.uniform(0, decades, (n, n)) * (rng.uniform(size=(n, n)) < density))
    affinity[0, -1] = 1
    affinity = np.maximum(affinity, affinity.T)
    form = scipy.sparse.csr_array(affinity) if sparse else affinity
    pairs = deepspec.laplacian_eigenpairs(form, min(k, n), laplacian=laplacian, solver=solver)
    checks.assert_agrees(pairs, affinity, laplacian)


@modest
@given(seeds, shapes, kinds, weights)
def test_scaling_each_feature_changes_nothing(
    seed: int, shape: tuple[int, int], kind: str, color_weight: float
) -> None:
    features, image = inputs(seed, shape, kind)
    factors = 10 ** np.random.default_rng(seed).uniform(-6, 6, (*shape, 1))
    options: dict[str, Any] = {"color_weight": color_weight, "k": 3}
    expected = deepspec.eigenpairs(features, image, **options)
    scaled = deepspec.eigenpairs(features * factors, image, **options)
    np.testing.assert_allclose(scaled.values, expected.values, atol=2e-6)


@modest
@given(seeds, shapes, kinds)
def test_order_of_the_channels_does_not_matter(seed: int, shape: tuple[int, int], kind: str) -> None:
    features, image = inputs(seed, shape, kind)
    order = np.random.default_rng(seed).permutation(features.shape[-1])
    expected = deepspec.eigenpairs(features, image, k=3)
    np.testing.assert_allclose(
        deepspec.eigenpairs(features[..., order], image, k=3).values, expected.values, atol=2e-6
    )


@modest
@given(seeds, st.integers(2, 90), st.integers(1, 6), st.sampled_from(["normalized", "unnormalized"]))
def test_permuting_the_vertices_permutes_the_vectors(seed: int, n: int, k: int, laplacian: str) -> None:
    rng = np.random.default_rng(seed)
    affinity = rng.uniform(size=(n, n)) ** 8
    affinity += affinity.T
    k = min(k, n)
    order = rng.permutation(n)
    pairs = deepspec.laplacian_eigenpairs(affinity, k, laplacian=laplacian)
    permuted = deepspec.laplacian_eigenpairs(affinity[order][:, order], k, laplacian=laplacian)
    scale = affinity.sum(1).max() if laplacian == "unnormalized" else 1
    np.testing.assert_allclose(permuted.values / scale, pairs.values / scale, atol=2e-6)
    weight = oracle.metric(affinity, laplacian)
    values = oracle.eigenpairs(affinity, laplacian)[0] / scale
    if k == n or values[k] - values[k - 1] > 1e-3:
        restored = np.empty_like(permuted.vectors)
        restored[:, order] = permuted.vectors
        assert oracle.angle(restored, pairs.vectors, weight) < 1e-2


@modest
@given(seeds, shapes, kinds, st.floats(1e-3, 1e3), colors)
def test_color_weight_scales_the_color_part(
    seed: int, shape: tuple[int, int], kind: str, color_weight: float, color: str
) -> None:
    features, image = inputs(seed, shape, kind)
    fused = (
        deepspec.affinity(features, color_weight=0).toarray()
        + color_weight * deepspec.color_affinity(image, color).toarray()
    )
    pairs = deepspec.eigenpairs(features, image, color_weight=color_weight, color=color, k=3)
    np.testing.assert_allclose(pairs.values, deepspec.laplacian_eigenpairs(fused, 3).values, atol=2e-6)


@modest
@given(seeds, st.integers(2, 60), st.floats(1e-4, 1e4))
def test_scaling_an_affinity_scales_only_the_unnormalized_values(seed: int, n: int, factor: float) -> None:
    affinity = np.random.default_rng(seed).uniform(0.1, 1, (n, n))
    affinity += affinity.T
    for laplacian, power in (("normalized", 0), ("unnormalized", 1)):
        expected = deepspec.laplacian_eigenpairs(affinity, 2, laplacian=laplacian).values
        values = deepspec.laplacian_eigenpairs(factor * affinity, 2, laplacian=laplacian).values
        np.testing.assert_allclose(values, expected * factor**power, rtol=1e-4, atol=1e-6 * factor**power)


@modest
@given(seeds, shapes, colors, st.integers(1, 256))
def test_color_affinity_is_symmetric_and_canonical(
    seed: int, shape: tuple[int, int], color: str, levels: int
) -> None:
    image = np.random.default_rng(seed).integers(0, levels, (*shape, 3)).astype(np.uint8)
    graph = deepspec.color_affinity(image, color)
    assert abs(graph - graph.T).nnz == 0
    assert graph.data.min() > 0
    rows = np.repeat(np.arange(graph.shape[0]), np.diff(graph.indptr))
    assert (np.diff(rows.astype(np.int64) * graph.shape[0] + graph.indices) > 0).all()


@modest
@given(seeds, shapes, colors)
def test_mirrored_images_have_mirrored_graphs(seed: int, shape: tuple[int, int], color: str) -> None:
    image = checks.random_image(np.random.default_rng(seed), shape)
    mirror = np.arange(shape[0] * shape[1]).reshape(shape)[:, ::-1].ravel()
    graph = deepspec.color_affinity(image, color).toarray()
    mirrored = deepspec.color_affinity(image[:, ::-1], color).toarray()
    ambiguous = oracle.COLOR[color](image)[1]
    certain = ~(ambiguous[:, None] | ambiguous)
    np.testing.assert_allclose(mirrored[mirror][:, mirror][certain], graph[certain], atol=1e-9)


@modest
@given(seeds, shapes, kinds, weights, st.sampled_from([2, 4, 7]))
def test_threads_change_no_bit(
    seed: int, shape: tuple[int, int], kind: str, color_weight: float, threads: int
) -> None:
    features, image = inputs(seed, shape, kind)
    one, many = (
        deepspec.eigenpairs(features, image, color_weight=color_weight, k=3, threads=t) for t in (1, threads)
    )
    np.testing.assert_array_equal(one.values, many.values)
    np.testing.assert_array_equal(one.vectors, many.vectors)


@modest
@given(seeds, shapes, kinds, weights)
def test_values_lie_between_zero_and_two(
    seed: int, shape: tuple[int, int], kind: str, color_weight: float
) -> None:
    features, image = inputs(seed, shape, kind)
    pairs = deepspec.eigenpairs(features, image, color_weight=color_weight, k=shape[0] * shape[1])
    assert pairs.values[0] == 0
    assert pairs.values[-1] <= 2 + 1e-6
    assert (pairs.degrees > 0).all()
    assert pairs.vectors[0] == pytest.approx(1 / math.sqrt(pairs.degrees.sum(dtype=float)), rel=1e-4)

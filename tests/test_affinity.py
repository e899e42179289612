"""The fused affinity and its Laplacian as sparse matrices."""

from __future__ import annotations

import math
from typing import Any

import checks
import numpy as np
import oracle
import pytest
import scipy.sparse
from PIL import Image

import deepspec


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return checks.random_features(rng, (15, 17), 12, "smooth"), checks.random_image(rng, (15, 17))


def assert_canonical(matrix: scipy.sparse.csr_array) -> None:
    assert isinstance(matrix, scipy.sparse.csr_array)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    keys = rows.astype(np.int64) * matrix.shape[1] + matrix.indices
    assert (np.diff(keys) > 0).all(), "sorted, without duplicates"


@pytest.mark.parametrize("color_weight", [0, 1, 10, math.inf])
@pytest.mark.parametrize("color", ["knn", "knn_hsv", "random_walk"])
@pytest.mark.parametrize("grid", [None, (19, 30)])
def test_whole_affinity_agrees_with_the_oracle(
    problem: tuple[np.ndarray, np.ndarray], color_weight: float, color: str, grid: tuple[int, int] | None
) -> None:
    features, image = problem
    options: dict[str, Any] = {"color_weight": color_weight, "color": color, "grid": grid}
    affinity = deepspec.affinity(features, image, **options)
    assert_canonical(affinity)
    assert abs(affinity - affinity.T).max() == 0
    expected = checks.fused_affinity(features, image, **options)
    np.testing.assert_allclose(affinity.toarray(), expected, atol=2e-6 * max(1, expected.max()))


@pytest.mark.parametrize("grid", [(30, 34), (23, 41)])
def test_features_are_interpolated_as_pillow_enlarges_images(
    problem: tuple[np.ndarray, np.ndarray], grid: tuple[int, int]
) -> None:
    channels = np.moveaxis(oracle.normalized_rows(problem[0]), -1, 0).astype(np.float32)
    size = (grid[1], grid[0])
    enlarged = [Image.fromarray(c).resize(size, Image.Resampling.BILINEAR) for c in channels]
    rows = np.stack([np.asarray(c, float) for c in enlarged], axis=-1).reshape(-1, len(enlarged))
    gram = np.maximum(rows @ rows.T, 0)
    affinity = deepspec.affinity(problem[0], color_weight=0, grid=grid)
    np.testing.assert_allclose(affinity.toarray(), gram / gram.max(), atol=1e-5)


@pytest.mark.parametrize("color_weight", [0, 10, math.inf])
@pytest.mark.parametrize("laplacian", ["normalized", "unnormalized"])
@pytest.mark.parametrize("grid", [None, (20, 20)])
def test_its_eigenpairs_are_those_of_the_features(
    problem: tuple[np.ndarray, np.ndarray], color_weight: float, laplacian: str, grid: tuple[int, int] | None
) -> None:
    options: dict[str, Any] = {"color_weight": color_weight, "grid": grid}
    affinity = deepspec.affinity(*problem, **options)
    expected = deepspec.eigenpairs(*problem, k=6, laplacian=laplacian, **options)
    scale = expected.degrees.max() if laplacian == "unnormalized" else 1
    for form in (affinity, affinity.toarray()):
        pairs = deepspec.laplacian_eigenpairs(form, k=6, laplacian=laplacian)
        np.testing.assert_allclose(pairs.values / scale, expected.values / scale, atol=2e-6)
        np.testing.assert_allclose(pairs.degrees, expected.degrees.ravel(), rtol=1e-4)
        weight = pairs.degrees if laplacian == "normalized" else np.ones(affinity.shape[0])
        assert oracle.angle(pairs.vectors[:2], expected.vectors[:2], weight) < 1e-3


def test_strongest_entries_of_each_row(problem: tuple[np.ndarray, np.ndarray]) -> None:
    whole = oracle.feature_affinity(problem[0])
    n, m = len(whole), 20
    sparse = deepspec.affinity(problem[0], color_weight=0, sparsify=("strongest", m))
    assert_canonical(sparse)
    kept = sparse.toarray()
    np.testing.assert_array_equal(kept, kept.T)
    np.testing.assert_allclose(kept[kept > 0], whole[kept > 0], atol=1e-6)
    weakest, following = np.sort(whole, axis=1)[:, [n - m, n - m - 1]].T
    assert (weakest - following > 1e-7).all(), "the test's features must leave no tie"
    among = whole > (weakest + following)[:, None] / 2
    np.testing.assert_array_equal(kept > 0, (among | among.T) & (whole > 0))


def test_entries_above_a_threshold(problem: tuple[np.ndarray, np.ndarray]) -> None:
    whole = oracle.feature_affinity(problem[0])
    sparse = deepspec.affinity(problem[0], color_weight=0, sparsify=("threshold", 0.4))
    assert_canonical(sparse)
    expected = np.where(whole > 0.4, whole, 0)
    certain = abs(whole - 0.4) > 1e-6
    np.testing.assert_allclose(sparse.toarray()[certain], expected[certain], atol=1e-6)


def test_random_share_of_the_entries(problem: tuple[np.ndarray, np.ndarray]) -> None:
    whole = deepspec.affinity(problem[0], color_weight=0).toarray()
    share = 1 / 16
    mean = np.zeros_like(whole)
    for seed in range(200):
        sparse = deepspec.affinity(problem[0], color_weight=0, sparsify=("sample", share), seed=seed)
        assert_canonical(sparse)
        assert abs(sparse - sparse.T).max() == 0
        kept = sparse.toarray()
        chosen = kept > 0
        # §4.4 keeps a share of the entries as they are; the binomial count stays within 6 deviations.
        np.testing.assert_array_equal(kept[chosen], whole[chosen])
        pairs = np.count_nonzero(np.triu(whole))
        deviation = math.sqrt(pairs * share * (1 - share))
        assert abs(np.count_nonzero(np.triu(kept)) - share * pairs) < 6 * deviation
        mean += chosen / 200
    assert mean.max() < 0.25, "no entry is kept every time"
    again = deepspec.affinity(problem[0], color_weight=0, sparsify=("sample", share), seed=3)
    same = deepspec.affinity(problem[0], color_weight=0, sparsify=("sample", share), seed=3, threads=3)
    other = deepspec.affinity(problem[0], color_weight=0, sparsify=("sample", share), seed=4)
    assert abs(again - same).nnz == 0
    assert abs(again - other).nnz > 0


@pytest.mark.parametrize("sparsify", [("strongest", 5), ("threshold", 0.6), ("sample", 0.1)])
def test_only_the_feature_part_is_thinned(
    problem: tuple[np.ndarray, np.ndarray], sparsify: tuple[str, float]
) -> None:
    features, image = problem
    fused = deepspec.affinity(features, image, color_weight=10.0, sparsify=sparsify)
    parts = deepspec.affinity(features, color_weight=0, sparsify=sparsify) + 10 * deepspec.color_affinity(
        image
    )
    np.testing.assert_allclose(fused.toarray(), parts.toarray(), rtol=1e-6)
    pairs = deepspec.laplacian_eigenpairs(fused, k=4)
    checks.assert_agrees(pairs, fused.toarray())


@pytest.mark.parametrize("sparsify", [None, ("strongest", 9), ("threshold", 0.3)])
def test_threads_leave_no_trace(problem: tuple[np.ndarray, np.ndarray], sparsify: Any) -> None:
    one = deepspec.affinity(*problem, sparsify=sparsify, threads=1)
    many = deepspec.affinity(*problem, sparsify=sparsify, threads=4)
    np.testing.assert_array_equal(one.data, many.data)
    np.testing.assert_array_equal(one.indices, many.indices)


def test_laplacian(problem: tuple[np.ndarray, np.ndarray]) -> None:
    affinity = deepspec.affinity(*problem)
    dense = affinity.toarray().astype(float)
    degrees = dense.sum(1)
    expected = np.eye(len(dense)) - dense / np.sqrt(np.outer(degrees, degrees))
    for form in (affinity, dense):
        for kind, matrix in (("normalized", expected), ("unnormalized", np.diag(degrees) - dense)):
            laplacian = deepspec.laplacian(form, kind)
            assert_canonical(laplacian)
            np.testing.assert_allclose(laplacian.toarray(), matrix, atol=1e-6 * abs(matrix).max())
    values = np.linalg.eigvalsh(deepspec.laplacian(affinity).toarray())[:5]
    np.testing.assert_allclose(deepspec.eigenpairs(*problem, k=5).values, values, atol=1e-5)


@pytest.mark.parametrize("kind", ["normalized", "unnormalized"])
def test_laplacian_of_a_vertex_without_neighbours(kind: str) -> None:
    affinity = np.zeros((4, 4))
    affinity[:3, :3] = 1
    np.testing.assert_allclose(deepspec.laplacian(affinity, kind).toarray()[3], [0, 0, 0, 1])


@pytest.mark.parametrize(
    ("sparsify", "message"),
    [
        (("strongest", 0), r"0"),
        (("strongest", 2.5), r"2\.5"),
        (("threshold", -0.1), r"-0\.1"),
        (("sample", 0), r"0"),
        (("sample", 1.5), r"1\.5"),
        (("best", 3), r"best"),
        ("strongest", r"strongest"),
    ],
)
def test_bad_sparsify_is_named(sparsify: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"sparsify.*{message}"):
        deepspec.affinity(np.ones((4, 5, 3)), color_weight=0, sparsify=sparsify)


@pytest.mark.parametrize(
    ("affinity", "kind", "message"),
    [
        (np.ones((3, 4)), "normalized", r"\(3, 4\)"),
        (np.ones((3, 3)), "signed", "signed"),
        (-np.ones((3, 3)), "normalized", "negative"),
        (np.triu(np.ones((3, 3))), "normalized", "symmetric"),
    ],
)
def test_bad_laplacian_input_is_named(affinity: np.ndarray, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deepspec.laplacian(affinity, kind)

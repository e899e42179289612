from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepspec.clustering import CLUSTERINGS, cluster_vectors, kmeans

SIZES = (40, 25, 10)


def blobs(spread: float = 0.02, channels: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Directions around three axes, shuffled, and whose they are; the largest blob is 0."""
    rng = np.random.default_rng(3)
    owners = rng.permutation(np.repeat(np.arange(3), SIZES))
    vectors = np.eye(channels)[owners] + rng.normal(scale=spread, size=(sum(SIZES), channels))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), owners


@pytest.mark.parametrize("algorithm", CLUSTERINGS)
def test_clusters_are_numbered_by_size(algorithm: str) -> None:
    vectors, owners = blobs()
    found = cluster_vectors(vectors, 3, algorithm=algorithm, n_restarts=3)
    np.testing.assert_array_equal(found.labels, owners)
    assert found.labels.dtype == np.int32
    expected = np.linalg.norm(vectors - found.centers[owners], axis=1)
    np.testing.assert_allclose(found.distances, expected, atol=1e-5)
    assert found.inertia == pytest.approx(np.square(expected).sum(), rel=1e-4)
    means = np.stack([vectors[owners == label].mean(axis=0) for label in range(3)])
    np.testing.assert_allclose(found.centers, means, atol=0.01)


@pytest.mark.parametrize("algorithm", CLUSTERINGS)
@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_the_seed_decides(algorithm: str, seed: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    first, second = (cluster_vectors(vectors, 12, algorithm=algorithm, seed=seed) for _ in range(2))
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.centers, second.centers)


def test_seeds_differ() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    found = {cluster_vectors(vectors, 12, seed=seed).inertia for seed in range(4)}
    assert len(found) > 1


def test_of_several_starts_the_best_is_kept() -> None:
    vectors = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
    inertias = [cluster_vectors(vectors, 12, n_restarts=n).inertia for n in (2, 4, 8)]
    assert inertias == sorted(inertias, reverse=True)
    assert inertias[-1] < np.mean([cluster_vectors(vectors, 12, seed=seed).inertia for seed in range(8)])


def test_what_is_not_fitted_goes_to_the_nearest() -> None:
    vectors, owners = blobs()
    order = np.argsort(owners == 2, kind="stable")  # the smallest blob last
    found = cluster_vectors(vectors[order], 2, n_fit=SIZES[0] + SIZES[1])
    alone = cluster_vectors(vectors[order][: SIZES[0] + SIZES[1]], 2)
    np.testing.assert_allclose(found.centers, alone.centers)
    assert found.inertia == pytest.approx(alone.inertia)
    distances = np.linalg.norm(vectors[order][:, None] - found.centers, axis=2)
    np.testing.assert_array_equal(found.labels, distances.argmin(axis=1))


def test_principal_components_keep_what_differs() -> None:
    vectors, owners = blobs()
    found = cluster_vectors(vectors, 3, n_components=2, n_restarts=3)
    np.testing.assert_array_equal(found.labels, owners)
    assert found.centers.shape == (3, 2)


def test_a_memory_map_is_clustered_as_an_array_is(tmp_path: Path) -> None:
    vectors, _ = blobs()
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    for algorithm in CLUSTERINGS:
        found, expected = (cluster_vectors(v, 4, algorithm=algorithm) for v in (mapped, vectors))
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_array_equal(found.centers, expected.centers)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_clusters": 76}, "n_classes must be from 1 to the number of segments to cluster, 75, got 76"),
        ({"n_clusters": 0}, "n_classes must be from 1 to"),
        ({"n_clusters": 5, "n_fit": 4}, "segments to cluster, 4, got 5"),
        ({"algorithm": "ward"}, "clustering must be one of 'minibatch', 'spherical', 'faiss', got 'ward'"),
        ({"n_components": 9}, "n_components must be from 1 to 8, for 75 vectors of 8 channels, got 9"),
        ({"n_restarts": 0}, "n_restarts must be a whole number of at least 1, got 0"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], message: str) -> None:
    vectors, _ = blobs()
    with pytest.raises(ValueError, match=message):
        cluster_vectors(vectors, **{"n_clusters": 3, **options})


@given(st.integers(1, 6), st.integers(0, 3))
def test_every_cluster_of_an_image_occurs(n_clusters: int, seed: int) -> None:
    points = np.random.default_rng(seed).normal(size=(20, 2))
    points[10:] = points[:10]
    found = kmeans(points, n_clusters, seed)
    assert set(found) == set(range(n_clusters))
    np.testing.assert_array_equal(found[10:], found[:10])


def test_equal_points_are_one_cluster() -> None:
    assert set(kmeans(np.ones((8, 2)), 5, 0)) == {0}

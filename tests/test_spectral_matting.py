from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from squeezenet import SqueezeNet

import deepspec
from deepspec import images
from deepspec.clustering import kmeans
from deepspec.datasets import load_dataset
from deepspec.spectral_matting import penalty, sparse_components

Float64 = NDArray[np.float64]


def basis_of(points: Any) -> Float64:
    """A constant and the points' axes, each with a variance of 1."""
    centered = np.asarray(points, float) - np.mean(points, axis=0)
    u, values, _ = np.linalg.svd(centered, full_matrices=False)
    kept = u[:, values > 1e-6 * values.max()]
    return np.concatenate([np.ones((len(kept), 1)), kept * np.sqrt(len(kept))], axis=1)


def members_of(points: Float64, n_layers: int) -> Float64:
    labels = kmeans(points, n_layers, 0)
    return np.eye(labels.max() + 1)[labels]


def projections(basis: Float64, members: Float64) -> Float64:
    return np.asarray(basis @ np.linalg.lstsq(basis, members, rcond=None)[0])


def assert_components(found: Float64, basis: Float64, members: Float64) -> None:
    """They sum to 1, have no greater penalty than the start, and keep half of their clusters."""
    alphas = basis @ found
    np.testing.assert_allclose(alphas.sum(axis=1), 1, atol=1e-9)
    assert penalty(alphas) <= penalty(projections(basis, members)) + 1e-12
    assert np.all(alphas.mean(axis=0) >= 0.5 * members.mean(axis=0) - 1e-9)


# Golden values


@pytest.mark.parametrize(
    ("alphas", "expected"),
    [
        ([[0, 1]], 1),
        ([[1], [1]], 1),
        ([[0.5, 0.5]], 2**0.2),
        ([[-1, 2]], 1 + 2**0.8),
        ([[0, 1, -1]], (3 + 2**0.8) / 3),
    ],
)
def test_penalties(alphas: Any, expected: float) -> None:
    assert penalty(np.asarray(alphas, float)) == pytest.approx(expected)


def test_proportions_of_two_layers() -> None:
    """A line with pixels at its ends and within: the ends become 0 and 1, though clusters split at the middle."""
    line = np.repeat([0, 0.2, 0.4, 0.7, 1], (20, 2, 1, 3, 15))
    basis = basis_of(line[:, None])
    members = np.stack([line < 0.5, line > 0.5], axis=1).astype(float)
    alphas = basis @ sparse_components(basis, members)
    np.testing.assert_allclose(alphas, np.stack([1 - line, line], axis=1), atol=0.001)
    assert np.abs(projections(basis, members)[:, 1] - line).max() > 0.02


@pytest.mark.parametrize("seed", range(3))
def test_clusters_in_the_span_stay(seed: int) -> None:
    """Indicators have the least penalty there is: whichever basis they are written in, they are found."""
    rng = np.random.default_rng(seed)
    members = np.eye(4)[rng.permutation(np.repeat(range(4), (40, 20, 9, 1)))]
    basis = basis_of(members @ rng.normal(size=(4, 3)))
    np.testing.assert_allclose(basis @ sparse_components(basis, members), members, atol=1e-4)


# Oracles


@pytest.mark.parametrize("seed", range(3))
def test_a_general_minimiser_finds_no_less_nearby(seed: int) -> None:
    """Around the layers of three clouds with noise: Nelder–Mead over all coefficients that sum to 1."""
    rng = np.random.default_rng(seed)
    owners = np.repeat([0, 1, 2], (60, 40, 30))
    clouds = np.array([[0, 0], [1, 0], [0, 1]])[owners]
    shares = rng.dirichlet(np.ones(3), 6)
    points = np.concatenate([clouds, shares[:, 1:]]) + rng.normal(scale=0.003, size=(136, 2))
    basis, members = basis_of(points), members_of(points, 3)
    found = sparse_components(basis, members)

    def penalty_of(coefficients: Float64) -> float:
        free = coefficients.reshape(3, 2)
        last = np.eye(3)[0] - free.sum(axis=1)
        return penalty(basis @ np.concatenate([free, last[:, None]], axis=1))

    start = found[:, :2].ravel()
    nearby = minimize(penalty_of, start, method="Nelder-Mead", options={"maxiter": 2000, "xatol": 1e-5})
    at_start = penalty(projections(basis, members))
    assert penalty(basis @ found) - nearby.fun < 0.1 * (at_start - nearby.fun)


# Properties


@settings(max_examples=40)
@given(
    n=st.integers(2, 200),
    dimensions=st.integers(1, 8),
    wanted=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    levels=st.integers(2, 1000),
)
def test_penalty_never_rises(n: int, dimensions: int, wanted: int, seed: int, levels: int) -> None:
    points = np.random.default_rng(seed).integers(0, levels, (n, dimensions)).astype(float)
    if np.ptp(points, axis=0).max() == 0:
        points[0] += 1
    basis, members = basis_of(points), members_of(points, wanted)
    assert_components(sparse_components(basis, members), basis, members)


def test_penalty_falls_on_noise() -> None:
    points = np.random.default_rng(0).normal(size=(300, 6))
    basis, members = basis_of(points), members_of(points, 4)
    alphas = basis @ sparse_components(basis, members)
    assert penalty(alphas) < penalty(projections(basis, members)) - 0.005


# Real eigenvectors


def test_penalty_falls_on_photographs(test_data: Path) -> None:
    network = SqueezeNet(test_data / "squeezenet" / "squeezenet_v1.0.npz", 160)
    for example in load_dataset("ecssd", test_data)[::50]:
        d = deepspec.decompose(images.load(example.image), network, k=12, color_weight=3.0)
        entries = d.pairs.vectors[1:].reshape(11, -1).T.astype(np.float64)
        basis, members = basis_of(entries), members_of(entries[:, :3], 4)
        found = sparse_components(basis, members)
        assert_components(found, basis, members)
        start = penalty(projections(basis, members))
        assert penalty(basis @ found) - 1 < 0.8 * (start - 1)

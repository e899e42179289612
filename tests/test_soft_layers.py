from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from squeezenet import SqueezeNet

import deepspec
from deepspec import images
from deepspec.datasets import load_dataset
from deepspec.soft_layers import LAYERINGS, front_layers, soft_layers
from deepspec.spectral import Eigenpairs

Floats = NDArray[np.floating[Any]]


def pairs_of(*vectors: Any) -> Eigenpairs:
    """Eigenpairs with y₁, y₂, … as given, (H, W) each, after a constant."""
    arrays = [np.asarray(vector, np.float32) for vector in vectors]
    stack = np.stack([np.ones_like(arrays[0]), *arrays])
    k = len(stack)
    return Eigenpairs(np.arange(k) / k, stack, stack[0], np.zeros(k), 0)


def mixtures(seed: int = 0, pure: int = 40, mixed: int = 4) -> Floats:
    """Alphas of three layers, (3, n), each sum over pixels the same: all in one layer, and shares of all three."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(3), mixed)
    shares = np.concatenate([shares[:, order] for order in itertools.permutations(range(3))])
    return np.concatenate([np.repeat(np.eye(3), pure, axis=0), shares]).T


def of_block_graph(alphas: Floats) -> Eigenpairs:
    """Of the graph A Aᵀ, (H, W) = (12, n / 12): where all of A's columns have the same sum, A spans its eigenvectors."""
    w = alphas.T @ alphas
    degrees = w.sum(axis=1)
    root = 1 / np.sqrt(degrees)
    values, vectors = np.linalg.eigh(np.eye(len(w)) - root[:, None] * w * root)
    shape = (len(alphas), 12, -1)
    y = (root[:, None] * vectors[:, : len(alphas)]).T.reshape(shape).astype(np.float32)
    y[0] = np.abs(y[0]).mean()
    return Eigenpairs(values[: len(alphas)], y, degrees.reshape(12, -1), np.zeros(len(alphas)), 0)


def noisy_blobs(
    seed: int, k: int = 5, size: tuple[int, int] = (10, 18)
) -> tuple[Eigenpairs, NDArray[np.intp]]:
    """Three clouds of 90, 54 and 36 pixels, far apart in y₁ and y₂, and whose each pixel is."""
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat([0, 1, 2], (90, 54, 36)))
    turns = rng.random() + np.arange(3) / 3
    centers = np.zeros((3, k - 1))
    centers[:, :2] = np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], axis=1)
    points = centers[owners] + rng.normal(scale=0.08, size=(len(owners), k - 1))
    return pairs_of(*points.T.reshape(k - 1, *size)), owners.reshape(size)


def assert_layers(layers: Floats, shape: tuple[int, ...]) -> None:
    assert layers.shape == shape
    assert layers.dtype == np.float32
    assert layers.min() >= 0  # fails on NaN too
    assert layers.max() <= 1
    np.testing.assert_allclose(layers.sum(axis=0, dtype=np.float64), 1, atol=1e-6)
    assert np.all(np.diff(layers.sum(axis=(1, 2), dtype=np.float64)) <= 0)


# Golden values


def test_shares_of_clusters() -> None:
    """Centres −1 and 1 and a variance of 1/4: the right one's share at x is 1 / (1 + exp(−8x))."""
    y1 = np.array([[-1.5, -0.5, -1.5], [-0.5, 0.5, 1.5]])
    layers = soft_layers(pairs_of(y1), 2, method="kmeans")
    right = 1 / (1 + np.exp(-8 * y1))
    np.testing.assert_allclose(layers, [1 - right, right], atol=1e-6)


@pytest.mark.parametrize("scale", [1e-4, 1, 1e4])
def test_sparse_layers_are_in_proportion(scale: float) -> None:
    """y₁ is −1 in one layer and 1 in the other, so that a quarter and a half of the other are −1/2 and 0."""
    y1 = np.array([[-1, -1, -1, -1, -0.5], [-1, -1, 1, 1, 0], [1, 1, 1, -1, -0.5]])
    layers = soft_layers(pairs_of(scale * y1), 2, method="sparse")
    np.testing.assert_allclose(layers, [(1 - y1) / 2, (1 + y1) / 2], atol=0.001)


@pytest.mark.parametrize("seed", range(3))
def test_mixtures_are_recovered(seed: int) -> None:
    alphas = mixtures(seed)
    layers = soft_layers(of_block_graph(alphas), 3, method="sparse").reshape(3, -1)
    errors = [np.abs(layers[list(order)] - alphas).max() for order in itertools.permutations(range(3))]
    assert min(errors) < 0.001


@pytest.mark.parametrize("method", LAYERINGS)
def test_clouds_become_layers(method: str) -> None:
    for seed in range(3):
        pairs, owners = noisy_blobs(seed)
        layers = soft_layers(pairs, 3, method=method)
        assert_layers(layers, (3, 10, 18))
        np.testing.assert_array_equal(layers.argmax(axis=0), owners)
        assert layers.max(axis=0).mean() > 0.9


# Properties


@pytest.mark.parametrize("method", LAYERINGS)
@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    k=st.integers(1, 6),
    wanted=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
    levels=st.integers(1, 50),
)
def test_layers_of_anything(
    method: str, size: tuple[int, int], k: int, wanted: int, seed: int, levels: int
) -> None:
    """Vectors that are constant, equal, or that take a few values, too."""
    n_layers = min(wanted, size[0] * size[1])
    vectors = np.random.default_rng(seed).integers(0, levels, (k - 1, *size))
    pairs = pairs_of(np.ones(size), *vectors) if k > 1 else pairs_of(np.ones(size))
    layers = soft_layers(pairs, n_layers, method=method, seed=seed)
    assert_layers(layers, (n_layers, *size))
    np.testing.assert_array_equal(layers, soft_layers(pairs, n_layers, method=method, seed=seed))
    front = front_layers(layers)
    assert 1 <= len(front) < max(2, n_layers)
    assert all(layers[i].any() for i in front)


@pytest.mark.parametrize("method", LAYERINGS)
@settings(max_examples=10)
@given(seed=st.integers(0, 1000), signs=st.lists(st.sampled_from([-1, 1]), min_size=4, max_size=4))
def test_neither_signs_nor_the_order_of_pixels_matter(method: str, seed: int, signs: list[int]) -> None:
    pairs, _ = noisy_blobs(seed)
    layers = soft_layers(pairs, 3, method=method)
    flipped = pairs_of(*(sign * vector for sign, vector in zip(signs, pairs.vectors[1:], strict=True)))
    np.testing.assert_allclose(soft_layers(flipped, 3, method=method), layers, atol=1e-4)
    order = np.random.default_rng(seed).permutation(180)
    moved = pairs_of(*pairs.vectors[1:].reshape(4, 180)[:, order].reshape(4, 10, 18))
    expected = layers.reshape(3, 180)[:, order].reshape(3, 10, 18)
    np.testing.assert_allclose(soft_layers(moved, 3, method=method), expected, atol=1e-4)


@pytest.mark.parametrize("method", LAYERINGS)
def test_pixels_not_looked_at_follow(method: str) -> None:
    """Two halves of 300 × 400 pixels, more than a sample; the same layers as of every fifth pixel."""
    rng = np.random.default_rng(1)
    y1 = np.where(np.arange(400) < 150, -1, 1) + rng.normal(scale=0.3, size=(300, 400))
    y2 = rng.normal(scale=0.3, size=(300, 400))
    layers = soft_layers(pairs_of(y1, y2), 2, method=method)
    assert_layers(layers, (2, 300, 400))
    clear = np.abs(y1) > 0.1
    np.testing.assert_array_equal(layers[0][clear] > 0.5, y1[clear] > 0)
    few = soft_layers(pairs_of(y1[::5, ::5], y2[::5, ::5]), 2, method=method)
    np.testing.assert_allclose(few, layers[:, ::5, ::5], atol=0.1)
    other = soft_layers(pairs_of(y1, y2), 2, method=method, seed=1)
    assert not np.array_equal(other, layers)
    np.testing.assert_allclose(other, layers, atol=0.1)


# Degenerate images


@pytest.mark.parametrize("method", LAYERINGS)
def test_degenerate_images(method: str) -> None:
    one_color = pairs_of(np.zeros((5, 6)), np.zeros((5, 6)))
    np.testing.assert_array_equal(soft_layers(one_color, 1, method=method), np.ones((1, 5, 6)))
    layers = soft_layers(one_color, 4, method=method)
    np.testing.assert_array_equal(layers, [np.ones((5, 6))] + 3 * [np.zeros((5, 6))])
    assert front_layers(layers) == (0,)
    small = soft_layers(pairs_of([[1, 1], [1, -1]]), 4, method=method)
    np.testing.assert_allclose(
        small, [[[1, 1], [1, 0]], [[0, 0], [0, 1]], np.zeros((2, 2)), np.zeros((2, 2))], atol=1e-6
    )
    line = np.where(np.arange(5000) < 3000, -1, 1)[None]
    np.testing.assert_allclose(soft_layers(pairs_of(line), 2, method=method), [line < 0, line > 0], atol=1e-6)


@pytest.mark.parametrize("method", LAYERINGS)
def test_more_layers_than_eigenvectors(method: str) -> None:
    y1 = np.repeat([-3, -1, 1, 3, 5], (10, 8, 6, 4, 2)).reshape(5, 6)
    layers = soft_layers(pairs_of(y1), 5, method=method)
    assert_layers(layers, (5, 5, 6))
    if method == "kmeans":
        np.testing.assert_allclose(layers, y1 == np.array([-3, -1, 1, 3, 5]).reshape(5, 1, 1), atol=1e-6)


# In front


def test_layers_that_touch_the_border_least_are_in_front() -> None:
    """Of 16 × 16 pixels 60 are on the border: a square inside, a strip across and the rest."""
    square, strip = np.zeros((16, 16), np.float32), np.zeros((16, 16), np.float32)
    square[3:9, 3:9] = 1
    strip[11:13] = 1  # 4 of its 32 pixels: (4 / 60) / (32 / 256) = 0.53
    layers = np.stack([1 - square - strip, strip, square])
    assert front_layers(layers) == (1, 2)
    assert front_layers(layers, most_border=0.54) == (1, 2)
    assert front_layers(layers, most_border=0.53) == (2,)
    assert front_layers(layers, most_border=0) == (2,)
    assert front_layers(layers, most_border=9) == (1, 2)
    assert front_layers(layers[:1]) == (0,)
    assert front_layers(np.concatenate([layers, 0 * layers])) == (1, 2)


@pytest.mark.parametrize(
    ("layers", "most_border", "message"),
    [
        (np.ones((3, 4)), 1, r"\(n, H, W\) floating point, got \(3, 4\)"),
        (np.ones((1, 3, 4), int), 1, "got .* int64"),
        (np.ones((0, 3, 4)), 1, r"got \(0, 3, 4\)"),
        (np.zeros((2, 3, 4)), 1, "not all 0"),
        (np.full((2, 3, 4), np.nan), 1, "means of nan"),
        (np.full((2, 3, 4), 1.5), 1, "means of 1.5"),
        (np.ones((1, 3, 4)), -1, "most_border must be at least 0, got -1"),
        (np.ones((1, 3, 4)), np.nan, "most_border .* got nan"),
    ],
)
def test_bad_layers_are_named(layers: Any, most_border: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        front_layers(layers, most_border=most_border)


# Arguments


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"method": "median"}, "method must be one of 'kmeans', 'sparse', got 'median'"),
        ({"n_layers": 0}, "n_layers must be a whole number from 1 to 12, got 0"),
        ({"n_layers": 13}, "from 1 to 12, got 13"),
        ({"n_layers": 2.0}, "got 2.0"),
        ({"seed": -1}, "seed must be .* got -1"),
        ({"pairs": pairs_of(np.full((3, 4), np.nan))}, "finite, found NaN or infinity in y_1"),
        ({"pairs": pairs_of(np.arange(12))}, r"vectors must be \(k, H, W\), .* got \(2, 12\)"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, Any], message: str) -> None:
    arguments = {"pairs": pairs_of(np.arange(12).reshape(3, 4)), "n_layers": 2, **changed}
    with pytest.raises(ValueError, match=message):
        soft_layers(**arguments)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r"deepspec\[cluster\]"):
        soft_layers(pairs_of(np.arange(12).reshape(3, 4)), 2)


# Real photographs


@pytest.mark.parametrize("method", LAYERINGS)
def test_front_of_photographs(test_data: Path, method: str) -> None:
    """By how much more of the object than of its ground is in front, at a decomposition's resolution."""
    network = SqueezeNet(test_data / "squeezenet" / "squeezenet_v1.0.npz", 240)
    leads = []
    for example in load_dataset("ecssd", test_data)[::20]:
        d = deepspec.decompose(images.load(example.image), network, k=5, color_weight=3.0)
        layers = soft_layers(d.pairs, 5, method=method)
        assert_layers(layers, (5, *d.pairs.degrees.shape))
        assert layers.any(axis=(1, 2)).all()
        alpha = layers[list(front_layers(layers))].sum(axis=0)
        mask = images.resize(example.mask()[0].astype(np.uint8)[..., None].repeat(3, 2) * 255, alpha.shape)
        inside = mask[..., 0] > 127
        leads.append(alpha[inside].mean() - alpha[~inside].mean())
    assert np.mean(leads) > 0.3

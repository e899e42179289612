"""LOST and TokenCut step by step, once more and in their authors' order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracle
import pytest
import scipy.linalg
from builders import decomposition, two_colors
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from squeezenet import SqueezeNet

import deepspec
from deepspec import baselines
from deepspec.baselines import METHODS


def thresholded(rows: np.ndarray, threshold: float, epsilon: float) -> np.ndarray:
    cosines = oracle.normalized_rows(rows) @ oracle.normalized_rows(rows).T
    return np.where(cosines > threshold, 1.0, 0.0) + epsilon


@pytest.mark.parametrize("shape", [(6, 7), (13, 12), (25, 24)])
@pytest.mark.parametrize(("threshold", "epsilon"), [(0.2, 1e-5), (0.0, 1e-3), (0.5, 1e-5)])
def test_thresholded_graph_is_a_dense_one(shape: tuple[int, int], threshold: float, epsilon: float) -> None:
    features = np.random.default_rng(0).normal(size=(*shape, 5)).astype(np.float32)
    pairs = deepspec.eigenpairs(features, affinity="threshold", threshold=threshold, epsilon=epsilon, k=4)
    W = thresholded(features.reshape(-1, 5), threshold, epsilon)
    D = np.diag(W.sum(axis=1))
    expected = scipy.linalg.eigh(D - W, D, subset_by_index=[0, 3], eigvals_only=True)
    np.testing.assert_allclose(pairs.values, expected.clip(0), atol=1e-5)
    np.testing.assert_allclose(pairs.degrees.ravel(), W.sum(axis=1), rtol=1e-5)
    for value, vector in zip(pairs.values, pairs.vectors.reshape(4, -1).astype(float), strict=True):
        residual = (D - W) @ vector - value * D @ vector
        assert np.linalg.norm(residual / np.sqrt(np.diag(D))) < 2e-5


def test_thresholded_graph_joins_colour_and_pieces() -> None:
    features = np.zeros((8, 10, 4))
    features[:, :5, 0] = 1
    features[:, 5:, 1] = 1  # two pieces, joined by ε alone
    pairs = deepspec.eigenpairs(features, affinity="threshold", k=3)
    assert np.ptp(np.sign(pairs.vectors[1][:, :5])) == np.ptp(np.sign(pairs.vectors[1][:, 5:])) == 0
    assert pairs.values[1] == pytest.approx(2e-5, rel=0.05)  # 80 ε / (40 (1 + 2 ε))
    image = np.random.default_rng(1).integers(0, 256, (8, 10, 3)).astype(np.uint8)
    both = deepspec.eigenpairs(features, image, affinity="threshold", color_weight=0.5, k=3)
    W = thresholded(features.reshape(-1, 4), 0.2, 1e-5) + 0.5 * deepspec.color_affinity(image).toarray()
    D = np.diag(W.sum(axis=1))
    expected = scipy.linalg.eigh(D - W, D, subset_by_index=[0, 2], eigvals_only=True)
    np.testing.assert_allclose(both.values, expected.clip(0), atol=1e-5)


@pytest.mark.parametrize("threads", [2, 3])
def test_thresholded_graph_is_the_same_for_any_number_of_threads(threads: int) -> None:
    features = np.random.default_rng(0).normal(size=(30, 31, 20)).astype(np.float32)
    one = deepspec.eigenpairs(features, affinity="threshold", threads=1)
    many = deepspec.eigenpairs(features, affinity="threshold", threads=threads)
    np.testing.assert_array_equal(one.vectors, many.vectors)


def test_thresholded_graph_is_the_same_for_both_precisions() -> None:
    features = np.random.default_rng(0).normal(size=(30, 31, 100)).astype(np.float32)
    both = [
        deepspec.eigenpairs(features, affinity="threshold", threshold=0.01, precision=precision, tol=1e-5)
        for precision in ("standard", "fast")
    ]
    np.testing.assert_array_equal(both[0].degrees, both[1].degrees)
    np.testing.assert_array_equal(both[0].vectors, both[1].vectors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"affinity": "cosine"}, "affinity must be one of 'relu', 'threshold', got 'cosine'"),
        ({"threshold": -0.1}, "threshold must be a number from 0 to 1, got -0.1"),
        ({"epsilon": 2}, "epsilon must be a number from 0 to 1, got 2"),
    ],
)
def test_bad_parameters(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deepspec.eigenpairs(np.ones((3, 4, 2)), **options)


# TokenCut


def flood(mask: np.ndarray, seed: tuple[int, int]) -> np.ndarray:
    """The 4-connected part that holds the seed."""
    part, reached = np.zeros_like(mask), [seed]
    while reached:
        y, x = reached.pop()
        if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and not part[y, x]:
            part[y, x] = True
            reached += [(y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)]
    return part


def tokencut_by_steps(features: np.ndarray) -> np.ndarray:
    height, width, channels = features.shape
    rows = features.reshape(-1, channels).astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    W = np.where(rows @ rows.T > 0.2, 1.0, 1e-5)
    D = np.diag(W.sum(axis=1))
    vector = scipy.linalg.eigh(D - W, D, subset_by_index=[1, 2])[1][:, 0]
    split = vector > vector.mean()
    seed = int(np.argmax(np.abs(vector)))
    if not split[seed]:
        split = ~split
    return flood(split.reshape(height, width), (seed // width, seed % width))


def lost_by_steps(features: np.ndarray, n_similar: int = 100) -> np.ndarray:
    height, width, channels = features.shape
    rows = features.reshape(-1, channels).astype(np.float64)
    A = rows @ rows.T
    degrees = [sum(1 for value in row if value > 0) for row in A]
    order = sorted(range(len(A)), key=lambda i: (degrees[i], i))
    seed = order[0]
    total = np.zeros(len(A))
    for patch in order[:n_similar]:
        if A[seed, patch] > 0:
            total += A[patch]
    return flood((total > 0).reshape(height, width), (seed // width, seed % width))


@pytest.mark.parametrize("name", ["0011.jpg", "0222.jpg"])
def test_two_images_step_by_step(test_data: Path, name: str) -> None:
    network = SqueezeNet(test_data / "squeezenet" / "squeezenet_v1.0.npz")
    image = np.asarray(Image.open(test_data / "ECSSD" / "images" / name).convert("RGB"))
    features = network(image)
    for method, by_steps in (
        (METHODS["tokencut"], tokencut_by_steps),
        (METHODS["lost"], lost_by_steps),
    ):
        d = deepspec.decompose(image, features, k=2, **method.graph)
        assert d.pairs.vectors.shape == (2, *features.array.shape[:2])
        expected = by_steps(features.array)
        mask = deepspec.segment_object(d, refine=None, **method.answer)
        height, width = features.cell
        centers = (
            ((np.arange(n) + 0.5) * side).astype(int)
            for n, side in zip(expected.shape, features.cell, strict=True)
        )
        cells = mask[np.ix_(*centers)]
        np.testing.assert_array_equal(cells, expected)
        box = deepspec.localize(d, **method.answer)
        rows, columns = np.nonzero(expected)
        assert abs(box.ymin - rows.min() * height) <= 1
        assert abs(box.xmin - columns.min() * width) <= 1
        assert abs(box.ymax - min(image.shape[0], (rows.max() + 1) * height)) <= 1
        assert abs(box.xmax - min(image.shape[1], (columns.max() + 1) * width)) <= 1


@given(arrays(np.float32, (4, 5, 3), elements=st.floats(-1, 1, width=16)), st.integers(1, 25))
def test_lost_by_steps(features: np.ndarray, n_similar: int) -> None:
    mask = baselines.lost_object(features, n_similar)
    expected = lost_by_steps(features, n_similar)
    if expected.any():
        np.testing.assert_array_equal(mask, expected)
    else:
        assert mask.sum() == 1  # the seed, a zero feature


def test_the_seed_is_the_largest_entry_and_its_part_is_in_front() -> None:
    y = np.array([[0.1, 0.1, -0.9, -0.8], [0.1, 0.1, 0.1, -0.7], [-0.6, 0.1, 0.1, 0.1]])
    expected = np.array([[0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]], bool)  # not the part below left
    for d in (decomposition(y), decomposition(-y)):
        mask = deepspec.segment_object(d, partition="mean", foreground="seed", refine=None)
        np.testing.assert_array_equal(mask[4::8, 4::8], expected)
        box = deepspec.localize(d, partition="mean", foreground="seed")
        assert (box.xmin, box.ymin, box.xmax, box.ymax) == (16, 0, 32, 16)


# DINO-[CLS]


def test_attention_object_by_hand() -> None:
    """Of a sum of 0.34, 0.04 and 0.05 are within the 40 % that are left out; 0.06 stands apart."""
    head = np.array([[0.10, 0.09, 0.00, 0.04], [0.00, 0.05, 0.00, 0.06], [0.00, 0.00, 0.00, 0.00]])
    attention = np.stack([np.zeros_like(head), head, head / 2], axis=2)
    expected = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    for which in (1, 2):
        found = baselines.attention_object(attention, head=which)
        np.testing.assert_array_equal(found, expected)
    everything = baselines.attention_object(attention, head=1, mass=1.0)
    expected[1, 1] = True  # the larger part of what has any weight
    np.testing.assert_array_equal(everything, expected)
    for mass in (0.01, 1e-300):
        assert baselines.attention_object(attention, head=1, mass=mass).sum() == 1
    assert baselines.attention_object(attention, head=0).sum() == 1  # no weight at all


def test_attention_flows_to_a_box() -> None:
    attention = np.zeros((6, 8, 6), np.float32)
    attention[2:4, 3:6, 4] = 0.1
    image = np.zeros((96, 128, 3), np.uint8)
    method = METHODS["dino-cls"]
    d = deepspec.decompose(image, deepspec.Features(attention, (16, 16)), k=2, **method.graph)
    box = deepspec.localize(d, **method.answer)
    assert (box.xmin, box.ymin, box.xmax, box.ymax) == (48, 32, 96, 64)


# Affinity and singular vectors


def test_leading_vectors_are_numpys() -> None:
    features = np.random.default_rng(3).normal(size=(7, 9, 6)).astype(np.float32)
    image = np.random.default_rng(4).integers(0, 256, (7, 9, 3), np.uint8)
    rows = oracle.normalized_rows(features.reshape(-1, 6))
    W = np.maximum(rows @ rows.T, 0) + 2 * deepspec.color_affinity(image).toarray()
    d = deepspec.decompose(
        image, deepspec.Features(features, (1, 1)), k=4, color_weight=2, grid="patch", vectors="affinity"
    )
    values, vectors = np.linalg.eigh(W)
    np.testing.assert_allclose(d.pairs.values[1:], 1 - values[:-4:-1] / values[-1], atol=1e-5)
    for found, expected in zip(d.pairs.vectors[1:], vectors.T[:-4:-1], strict=True):
        assert abs(found.ravel() @ expected) == pytest.approx(1, abs=1e-4)
    d = deepspec.decompose(image, deepspec.Features(features, (1, 1)), k=4, **METHODS["svd"].graph)
    left, sizes, _ = np.linalg.svd(rows, full_matrices=False)
    np.testing.assert_allclose(d.pairs.values[1:], 1 - (sizes[:3] / sizes[0]) ** 2, atol=1e-5)
    for found, expected in zip(d.pairs.vectors[1:], left.T[:3], strict=True):
        assert abs(found.ravel() @ expected) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_each_method_runs_from_image_to_mask(name: str) -> None:
    method = METHODS[name]
    image = two_colors(91, 101, np.s_[24:64, 40:80])
    features: object = "classical"
    if name == "dino-cls":
        weights = np.random.default_rng(0).random((11, 12, 6)).astype(np.float32)
        features = deepspec.Features(weights / weights.sum(axis=(0, 1)), (8, 8))
    d = deepspec.decompose(image, features, k=2, **method.graph)
    assert d.settings["vectors"] == method.graph.get("vectors", "laplacian")
    mask = deepspec.segment_object(d, refine=None, **method.answer)
    assert mask.shape == (91, 101)
    box = deepspec.localize(d, **method.answer)
    assert 0 <= box.xmin < box.xmax <= 101
    if name in ("deep-spectral", "tokencut"):
        assert mask[24:64, 40:80].mean() > 0.9
        assert mask[:16].mean() < 0.1


def test_bad_features_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(h, w, C\), got \(3, 4\)"):
        baselines.lost_object(np.ones((3, 4)))
    with pytest.raises(ValueError, match="n_similar must be at least 1, got 0"):
        baselines.lost_object(np.ones((3, 4, 2)), 0)
    with pytest.raises(ValueError, match="weights, such as of facet='attention', got other features"):
        baselines.attention_object(np.ones((3, 4, 2)))
    with pytest.raises(ValueError, match="head must be one of the 2 from 0 on, got 4"):
        baselines.attention_object(np.full((3, 4, 2), 0.01))
    with pytest.raises(ValueError, match="mass must be above 0 and at most 1, got 0"):
        baselines.attention_object(np.full((3, 4, 2), 0.01), 0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"vectors": "pca"},
            "vectors must be one of 'laplacian', 'affinity', 'svd', 'lost', 'attention', got",
        ),
        ({"vectors": "lost"}, "vectors='lost' needs color_weight=0, got 10"),
        ({"vectors": "svd", "color_weight": 0, "grid": 4}, "vectors='svd' needs grid='patch', got 4"),
        ({"vectors": "affinity", "affinity": "threshold"}, "vectors='affinity' needs affinity='relu', got"),
        ({"vectors": "affinity", "k": 1}, "k must be from 2 to 99 for these vectors, got 1"),
        ({"affinity": "cosine"}, "affinity must be one of"),
        ({"threshold": 7.0}, "threshold must be a number from 0 to 1, got 7"),
    ],
)
def test_settings_that_do_not_go_together_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deepspec.decompose(two_colors(75, 93, np.s_[20:50, 30:70]), "classical", **options)

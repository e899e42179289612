"""The eigensolver against the oracle on random problems, and the rules of the core."""

from __future__ import annotations

import itertools
import math
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import checks
import numpy as np
import oracle
import pytest
import scipy.linalg
import scipy.sparse

import deepspec

# seed: (grid, channels, features, λ, color, k, other arguments); the grid's cells are n.
RANDOM_PROBLEMS: dict[int, tuple[Any, ...]] = {
    0: ((1, 2), 3, "noise", 10, "knn", 2, {}),
    1: ((3, 1), 5, "relu", 1, "knn", 3, {}),
    2: ((2, 3), 8, "relu", 0, "knn", 4, {}),
    3: ((4, 4), 16, "smooth", 10, "knn", 16, {}),
    4: ((5, 7), 12, "smooth", math.inf, "knn", 5, {}),
    5: ((9, 6), 32, "clusters", 1, "knn_hsv", 7, {}),
    6: ((10, 10), 64, "noise", 10, "random_walk", 5, {}),
    7: ((8, 16), 48, "smooth", 10, "knn", 5, {"coarse": (4, 8)}),
    8: ((12, 11), 24, "clusters", 0, "knn", 1, {}),
    9: ((13, 13), 96, "relu", 10, "knn", 5, {"laplacian": "unnormalized"}),
    10: ((15, 14), 384, "smooth", 10, "knn", 15, {}),
    11: ((16, 16), 384, "noise", 0, "knn", 5, {}),
    12: ((16, 17), 33, "clusters", 10, "knn_hsv", 5, {"coarse": (5, 9)}),
    13: ((17, 17), 64, "smooth", math.inf, "knn_hsv", 5, {}),
    14: ((18, 20), 64, "smooth", math.inf, "random_walk", 4, {}),
    15: ((20, 20), 128, "relu", 1, "random_walk", 5, {"coarse": (10, 10)}),
    16: ((21, 22), 100, "smooth", 10, "knn", 5, {"normalize_features": False}),
    17: ((22, 24), 17, "clusters", 0, "knn", 8, {"coarse": (11, 12)}),
    18: ((1, 600), 20, "smooth", 10, "knn", 5, {}),
    19: ((25, 25), 256, "smooth", 1, "knn", 5, {}),
    20: ((26, 26), 384, "clusters", 10, "knn", 5, {"image_shape": (83, 91)}),
    21: ((28, 26), 64, "relu", 0, "knn", 5, {"laplacian": "unnormalized"}),
    22: ((28, 28), 768, "smooth", 10, "knn", 20, {}),
    23: ((30, 28), 64, "smooth", math.inf, "knn", 15, {}),
    24: ((32, 28), 192, "clusters", 10, "random_walk", 5, {}),
    25: ((30, 32), 384, "smooth", 10, "knn", 5, {"coarse": (15, 16), "normalize_features": False}),
    26: ((32, 32), 384, "smooth", 10, "knn", 5, {}),
    27: ((33, 33), 128, "clusters", 1, "knn_hsv", 10, {}),
    28: ((34, 34), 64, "smooth", math.inf, "knn", 5, {"laplacian": "unnormalized"}),
    29: ((54, 55), 384, "smooth", 10, "knn", 5, {"coarse": (27, 27)}),
    30: ((30, 31), 65, "aligned", 10, "knn", 5, {}),
    31: ((33, 35), 150, "aligned", 0, "knn", 5, {"laplacian": "unnormalized"}),
    32: ((30, 34), 90, "aligned", 1, "random_walk", 15, {"coarse": (15, 17), "normalize_features": False}),
    33: ((29, 31), 40, "aligned", 10, "knn_hsv", 5, {"coarse": (20, 19)}),
    34: ((27, 30), 33, "relu", 10, "knn", 8, {"coarse": (9, 10)}),
}


@pytest.mark.parametrize("seed", RANDOM_PROBLEMS)
def test_random_problem_agrees_with_the_oracle(seed: int) -> None:
    grid, channels, kind, color_weight, color, k, extra = RANDOM_PROBLEMS[seed]
    rng = np.random.default_rng(seed)
    options: dict[str, Any] = {"color_weight": color_weight, "color": color}
    if "normalize_features" in extra:
        options["normalize_features"] = extra["normalize_features"]
    features = checks.random_features(rng, extra.get("coarse", grid), channels, kind)
    if "image_shape" in extra:
        image = (255 * checks.random_image(rng, extra["image_shape"])).astype(np.uint8)
    else:
        image = checks.random_image(rng, grid)
    if "coarse" in extra:
        options["grid"] = grid
    laplacian = extra.get("laplacian", "normalized")

    affinity = checks.fused_affinity(features, image, **options)
    spectrum = oracle.eigenpairs(affinity, laplacian)

    for solver in checks.SOLVERS:
        pairs = deepspec.eigenpairs(features, image, k=k, laplacian=laplacian, solver=solver, **options)
        assert pairs.vectors.shape == (k, *grid)
        assert pairs.degrees.shape == grid
        assert pairs.n_products >= 0
        checks.assert_agrees(pairs, affinity, laplacian, spectrum)


@pytest.mark.parametrize("laplacian", ["normalized", "unnormalized"])
@pytest.mark.parametrize("n", [2, 7, 64, 500])
@pytest.mark.parametrize("density", [0.05, 0.3, 1.0])
def test_any_affinity_agrees_with_the_oracle(n: int, density: float, laplacian: str) -> None:
    rng = np.random.default_rng(n)
    affinity = rng.uniform(size=(n, n)) * (rng.uniform(size=(n, n)) < density)
    affinity += affinity.T + np.diag(rng.uniform(0.1, 1, n))
    ring = np.arange(n)
    affinity[ring, (ring + 1) % n] = affinity[(ring + 1) % n, ring] = 1
    k = min(6, n)
    spectrum = oracle.eigenpairs(affinity, laplacian)
    forms = [
        affinity,
        affinity.astype(np.float32),
        np.asfortranarray(affinity),
        scipy.sparse.csr_array(affinity),
        scipy.sparse.coo_matrix(affinity),
    ]
    for form, solver in itertools.product(forms, checks.SOLVERS):
        pairs = deepspec.laplacian_eigenpairs(form, k, laplacian=laplacian, solver=solver)
        assert pairs.vectors.shape == (k, n)
        checks.assert_agrees(pairs, affinity, laplacian, spectrum)


def edges(n: int, pairs: Any) -> scipy.sparse.csr_array:
    rows, columns = np.array(list(pairs)).T
    graph = scipy.sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=(n, n))
    return scipy.sparse.csr_array(graph + graph.T)


@pytest.mark.parametrize(
    ("graph", "spectrum"),
    [
        (edges(400, ((i, i + 1) for i in range(399))), 1 - np.cos(np.pi * np.arange(400) / 399)),
        (edges(301, ((i, (i + 1) % 301) for i in range(301))), 1 - np.cos(2 * np.pi * np.arange(301) / 301)),
        (edges(200, ((0, i) for i in range(1, 200))), np.array([0, *[1] * 198, 2])),
        (edges(90, ((i, j) for i in range(30) for j in range(30, 90))), np.array([0, *[1] * 88, 2])),
        (edges(50, ((i, j) for i in range(50) for j in range(i))), np.array([0, *[50 / 49] * 49])),
    ],
    ids=["path", "ring", "star", "bipartite", "complete"],
)
def test_known_spectra(graph: scipy.sparse.csr_array, spectrum: np.ndarray) -> None:
    dense = graph.toarray()
    expected = oracle.eigenpairs(dense)
    np.testing.assert_allclose(expected[0], np.sort(spectrum), atol=1e-12)
    for k, form, solver in itertools.product((6, len(spectrum)), (graph, dense), checks.SOLVERS):
        pairs = deepspec.laplacian_eigenpairs(form, k, solver=solver)
        checks.assert_agrees(pairs, dense, spectrum=expected)


@pytest.mark.parametrize("color", ["knn", "knn_hsv", "random_walk"])
@pytest.mark.parametrize("laplacian", ["normalized", "unnormalized"])
@pytest.mark.parametrize("solver", checks.SOLVERS)
def test_image_of_flat_bars(color: str, laplacian: str, solver: str) -> None:
    """Three colours without a shade between them: pieces without an edge, and many ties."""
    image = np.zeros((20, 28, 3), np.uint8)
    image[:, ::4], image[::5] = 255, 128
    options: dict[str, Any] = {"color_weight": math.inf, "color": color}
    pairs = deepspec.eigenpairs(None, image, k=20, laplacian=laplacian, solver=solver, **options)
    checks.assert_agrees(pairs, checks.fused_affinity(None, image, **options), laplacian)


# Disconnected graphs


def block_affinity(sizes: list[int], seed: int = 0, identical: bool = False) -> np.ndarray:
    """Dense random blocks without an edge between them, the vertices shuffled."""
    rng = np.random.default_rng(seed)
    blocks = []
    for size in sizes:
        block = np.random.default_rng(1 if identical else rng).uniform(0.2, 1, (size, size))
        blocks.append(block + block.T)
    affinity: np.ndarray = scipy.linalg.block_diag(*blocks)
    order = rng.permutation(len(affinity))
    return affinity[order][:, order]


@pytest.mark.parametrize("laplacian", ["normalized", "unnormalized"])
@pytest.mark.parametrize(
    ("sizes", "identical", "k"),
    [
        ([30, 50], False, 5),
        ([40, 40], True, 6),
        ([25, 25, 25], True, 9),
        ([1, 1, 2, 3, 60], False, 8),
        ([2] * 20, True, 5),
        ([1] * 12, True, 12),
        ([3] * 7 + [1] * 4, False, 4),
        ([200, 1], False, 3),
    ],
)
@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("solver", checks.SOLVERS)
def test_disconnected_graph_has_a_zero_for_each_component(
    sizes: list[int], identical: bool, k: int, laplacian: str, sparse: bool, solver: str
) -> None:
    affinity = block_affinity(sizes, identical=identical)
    form = scipy.sparse.csr_array(affinity) if sparse else affinity
    pairs = deepspec.laplacian_eigenpairs(form, k, laplacian=laplacian, solver=solver)
    zeros = min(k, len(sizes))
    assert np.count_nonzero(abs(pairs.values) < 1e-7) == zeros
    labels = oracle.components(affinity)
    np.testing.assert_allclose(pairs.vectors[0], pairs.vectors[0, 0], rtol=1e-5)
    for vector in pairs.vectors[:zeros]:
        for component in range(len(sizes)):
            assert np.ptp(vector[labels == component]) <= 1e-5 * abs(vector).max(), "constant on a component"
    checks.assert_agrees(pairs, affinity, laplacian)


@pytest.mark.parametrize("rows", [12, 50])
def test_disconnected_features(rows: int) -> None:
    rng = np.random.default_rng(3)
    features = np.zeros((rows, 15, 30), np.float32)
    features[:, :7, :10] = rng.uniform(0.1, 1, (rows, 7, 10))
    features[:5, 7:, 10:20] = rng.uniform(0.1, 1, (5, 8, 10))
    features[5:, 7:, 20:] = rng.uniform(0.1, 1, (rows - 5, 8, 10))
    pairs = deepspec.eigenpairs(features, color_weight=0, k=6)
    assert np.count_nonzero(abs(pairs.values) < 1e-7) == 3
    checks.assert_agrees(pairs, oracle.feature_affinity(features))


def test_two_identical_halves_of_features() -> None:
    rng = np.random.default_rng(4)
    half = rng.uniform(0.1, 1, (10, 6, 8))
    nothing = np.zeros_like(half)
    features = np.concatenate([np.dstack([half, nothing]), np.dstack([nothing, half])], axis=1)
    pairs = deepspec.eigenpairs(features, color_weight=0, k=8)
    checks.assert_agrees(pairs, oracle.feature_affinity(features))
    np.testing.assert_allclose(pairs.values[0::2], pairs.values[1::2], atol=1e-6)


def test_vertices_without_neighbours_have_eigenvalue_one() -> None:
    rng = np.random.default_rng(5)
    features = rng.uniform(0.1, 1, (6, 6, 9)).astype(np.float32)
    features[2, 3] = features[4, 1] = features[5, 5] = 0
    pairs = deepspec.eigenpairs(features, color_weight=0, k=36)
    affinity = oracle.feature_affinity(features)
    checks.assert_agrees(pairs, affinity)
    assert np.count_nonzero(abs(pairs.values - 1) < 1e-5) >= 3
    assert pairs.degrees[2, 3] == pairs.degrees[4, 1] == pairs.degrees[5, 5] == 1
    isolated = affinity.sum(1) == 0
    assert (pairs.vectors[0].ravel()[isolated] == 0).all()
    assert np.ptp(pairs.vectors[0].ravel()[~isolated]) <= 1e-6


def test_isolated_vertices_of_an_unnormalized_laplacian() -> None:
    affinity = np.zeros((9, 9))
    affinity[:5, :5] = block_affinity([5])
    pairs = deepspec.laplacian_eigenpairs(affinity, 9, laplacian="unnormalized")
    checks.assert_agrees(pairs, affinity, "unnormalized")


# Degenerate inputs


@pytest.mark.parametrize("color", ["knn", "knn_hsv", "random_walk"])
@pytest.mark.parametrize("color_weight", [10, math.inf])
@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("solver", checks.SOLVERS)
def test_constant_image(color: str, color_weight: float, value: int, solver: str) -> None:
    rng = np.random.default_rng(6)
    image = np.full((12, 9, 3), value, np.uint8)
    features = checks.random_features(rng, (12, 9), 16, "smooth")
    options: dict[str, Any] = {"color": color, "color_weight": color_weight}
    pairs = deepspec.eigenpairs(features, image, k=5, solver=solver, **options)
    checks.assert_agrees(pairs, checks.fused_affinity(features, image, **options))


@pytest.mark.parametrize("solver", checks.SOLVERS)
def test_identical_features_without_color_have_eigenvalues_zero_and_one(solver: str) -> None:
    features = np.tile(np.array([1, 2, 3], np.float32), (7, 8, 1))
    pairs = deepspec.eigenpairs(features, color_weight=0, k=6, solver=solver)
    np.testing.assert_allclose(pairs.values, [0, 1, 1, 1, 1, 1], atol=1e-6)
    checks.assert_agrees(pairs, oracle.feature_affinity(features))


@pytest.mark.parametrize("solver", checks.SOLVERS)
def test_few_distinct_features(solver: str) -> None:
    """Krylov spaces end early: 3 distinct rows span 3 dimensions, and 9 pairs are asked for."""
    rng = np.random.default_rng(7)
    features = rng.uniform(0.1, 1, (3, 6))[rng.integers(0, 3, (10, 11))]
    pairs = deepspec.eigenpairs(features, color_weight=0, k=9, solver=solver)
    checks.assert_agrees(pairs, oracle.feature_affinity(features))


def test_zero_features_leave_the_color() -> None:
    image = checks.random_image(np.random.default_rng(8), (9, 9))
    pairs = deepspec.eigenpairs(np.zeros((9, 9, 4)), image, color_weight=2.0)
    alone = deepspec.eigenpairs(None, image, color_weight=math.inf)
    np.testing.assert_allclose(pairs.values, alone.values, atol=1e-6)
    np.testing.assert_allclose(pairs.degrees, 2 * alone.degrees, rtol=1e-6)


def test_one_vertex() -> None:
    pairs = deepspec.eigenpairs(np.ones((1, 1, 3)), np.zeros((1, 1, 3), np.uint8), k=1)
    assert pairs.values.tolist() == [0]
    assert pairs.degrees.tolist() == [[pytest.approx(1 + 10 * 4)]]
    assert pairs.vectors.tolist() == [[[pytest.approx(1 / math.sqrt(41))]]]
    assert deepspec.laplacian_eigenpairs(np.ones((1, 1)), 1).vectors.tolist() == [[1]]


@pytest.mark.parametrize("shape", [(1, 2), (2, 2), (3, 5), (10, 12)])
@pytest.mark.parametrize("color_weight", [0, 10, math.inf])
def test_all_pairs(shape: tuple[int, int], color_weight: float) -> None:
    rng = np.random.default_rng(9)
    features = checks.random_features(rng, shape, 7, "smooth")
    image = checks.random_image(rng, shape)
    n = shape[0] * shape[1]
    pairs = deepspec.eigenpairs(features, image, color_weight=color_weight, k=n)
    affinity = checks.fused_affinity(features, image, color_weight=color_weight)
    checks.assert_agrees(pairs, affinity)
    np.testing.assert_allclose(
        pairs.values.sum(), n - (np.diag(affinity) / oracle.degrees(affinity)).sum(), rtol=1e-5
    )


def test_no_image_means_no_color() -> None:
    features = checks.random_features(np.random.default_rng(10), (8, 9), 5, "smooth")
    image = checks.random_image(np.random.default_rng(10), (8, 9))
    alone = deepspec.eigenpairs(features, color_weight=0)
    for pairs in (deepspec.eigenpairs(features, image, color_weight=0), deepspec.eigenpairs(features)):
        np.testing.assert_array_equal(pairs.vectors, alone.vectors)


# Types, layouts and scales


@pytest.fixture
def problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    features = checks.random_features(rng, (14, 18), 40, "smooth").astype(np.float16).astype(np.float32)
    return features, checks.random_image(rng, (14, 18))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floating_dtypes(problem: tuple[np.ndarray, np.ndarray], dtype: Any) -> None:
    features, image = problem
    expected = deepspec.eigenpairs(features, image)
    pairs = deepspec.eigenpairs(features.astype(dtype), image)
    np.testing.assert_allclose(pairs.values, expected.values, atol=1e-6)
    np.testing.assert_allclose(pairs.vectors, expected.vectors, atol=1e-4)


def test_memory_layouts_change_no_bit(problem: tuple[np.ndarray, np.ndarray]) -> None:
    features, image = problem
    expected = deepspec.eigenpairs(features, image)
    spaced = np.zeros((14, 36, 80), np.float32)
    spaced[:, ::2, ::2] = features
    read_only = features.copy()
    read_only.setflags(write=False)
    layouts = [
        np.asfortranarray(features),
        spaced[:, ::2, ::2],
        features[::-1].copy()[::-1],
        np.moveaxis(np.ascontiguousarray(np.moveaxis(features, -1, 0)), 0, -1),
        read_only,
    ]
    for layout in layouts:
        pairs = deepspec.eigenpairs(layout, np.asfortranarray(image)[::1])
        np.testing.assert_array_equal(pairs.vectors, expected.vectors)
        np.testing.assert_array_equal(pairs.values, expected.values)


def test_the_input_is_left_alone(problem: tuple[np.ndarray, np.ndarray]) -> None:
    features, image = (array.copy() for array in problem)
    deepspec.eigenpairs(features, image)
    np.testing.assert_array_equal(features, problem[0])
    np.testing.assert_array_equal(image, problem[1])


@pytest.mark.parametrize("normalize_features", [True, False])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.float32, 1e-30), (np.float32, 1e30), (np.float64, 1e-300), (np.float64, 1e300)],
)
def test_the_scale_of_the_features_does_not_matter(
    problem: tuple[np.ndarray, np.ndarray], dtype: Any, scale: float, normalize_features: bool
) -> None:
    features, image = problem
    options: dict[str, Any] = {"normalize_features": normalize_features, "k": 4}
    expected = deepspec.eigenpairs(features, image, **options)
    pairs = deepspec.eigenpairs(features.astype(dtype) * dtype(scale), image, **options)
    np.testing.assert_allclose(pairs.values, expected.values, atol=1e-6)


@pytest.mark.parametrize("longest", [1, 30, 300])
def test_a_long_feature_does_not_drown_the_others(longest: float) -> None:
    """Unnormalised, all entries of W but its own are small beside it; n is large enough for 16-bit storage."""
    rng = np.random.default_rng(1)
    halves = np.arange(50)[None, :, None] < 25
    features = np.where(halves == (np.arange(8) < 4), 1.0, 0.0) + 0.3 * abs(rng.normal(size=(46, 50, 8)))
    features[0, 0] *= longest
    rows = features.reshape(-1, 8)
    affinity = np.maximum(rows @ rows.T, 0) / (rows**2).sum(1).max()
    degrees = affinity.sum(1)
    pairs = deepspec.eigenpairs(features, k=4, normalize_features=False)
    for value, y in zip(pairs.values, pairs.vectors.reshape(4, -1).astype(np.float64), strict=True):
        error = (degrees * y - affinity @ y - value * degrees * y) / np.sqrt(degrees)
        assert np.linalg.norm(error) <= 1e-5 * np.linalg.norm(np.sqrt(degrees) * y)


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_the_scale_of_an_affinity_does_not_matter(scale: float) -> None:
    affinity = block_affinity([60])
    expected = deepspec.laplacian_eigenpairs(affinity, 4)
    if scale * affinity.sum(1).min() < 1e-12:
        with pytest.raises(ValueError, match=r"degree|zero|1e-12"):
            deepspec.laplacian_eigenpairs(scale * affinity, 4)
        return
    pairs = deepspec.laplacian_eigenpairs(scale * affinity, 4)
    np.testing.assert_allclose(pairs.values, expected.values, atol=1e-6)
    np.testing.assert_allclose(pairs.degrees, scale * expected.degrees, rtol=1e-5)


@pytest.mark.parametrize("threads", [2, 4, 7])
@pytest.mark.parametrize("kind", ["smooth", "aligned"])
@pytest.mark.parametrize("shape", [(9, 10), (40, 41)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"color_weight": 0},
        {"color_weight": math.inf, "color": "knn_hsv"},
        {"color": "random_walk", "laplacian": "unnormalized"},
        {"grid": (31, 45)},
        {"solver": "spectra"},
        {"solver": "native"},
    ],
)
def test_threads_leave_no_trace(
    threads: int, kind: str, shape: tuple[int, int], options: dict[str, Any]
) -> None:
    rng = np.random.default_rng(12)
    features = checks.random_features(rng, shape, 40, kind)
    image = (255 * checks.random_image(rng, (60, 70))).astype(np.uint8)
    one = deepspec.eigenpairs(features, image, threads=1, **options)
    many = deepspec.eigenpairs(features, image, threads=threads, **options)
    for field in ("values", "vectors", "degrees", "residuals"):
        np.testing.assert_array_equal(getattr(many, field), getattr(one, field))
    assert many.n_products == one.n_products


# Precision and memory


@pytest.mark.parametrize("color_weight", [0, 10])
@pytest.mark.parametrize("shape", [(7, 9), (25, 24)])
@pytest.mark.parametrize("kind", ["smooth", "aligned"])
def test_fast_precision(kind: str, shape: tuple[int, int], color_weight: float) -> None:
    rng = np.random.default_rng(3)
    features = checks.random_features(rng, shape, 65, kind)  # an odd number of channels
    image = checks.random_image(rng, shape)
    affinity = checks.fused_affinity(features, image, color_weight=color_weight)
    options = {"color_weight": color_weight, "precision": "fast"}
    pairs = deepspec.eigenpairs(features, image, **options)
    checks.assert_agrees(pairs, affinity, residual=1e-3)
    for threads in (1, 3):
        again = deepspec.eigenpairs(features, image, threads=threads, **options)
        np.testing.assert_array_equal(again.vectors, pairs.vectors)


FAST = """
import sys
import numpy as np
import deepspec
features = np.random.default_rng(4).normal(size=(9, 8, 30))
options = {"tol": 1e-5, "threads": 2}
same = [deepspec.eigenpairs(features, precision=name, **options).vectors for name in ("standard", "fast")]
sys.exit(not np.array_equal(*same))
"""


def test_fast_precision_without_bfloat16_is_the_standard_one() -> None:
    environment = {**os.environ, "DEEPSPEC_ISA": "portable"}
    assert subprocess.run([sys.executable, "-c", FAST], env=environment, check=False).returncode == 0


@pytest.mark.parametrize("coarse", [(20, 30), (10, 15)])
def test_entries_worked_out_in_every_product_give_the_same_pairs(coarse: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    features = checks.random_features(rng, coarse, 40, "smooth")
    image = checks.random_image(rng, (20, 30))
    affinity = checks.fused_affinity(features, image, grid=(20, 30))
    pairs = deepspec.eigenpairs(features, image, grid=(20, 30))
    # Packed, W_feat takes 0.5 MB of 1.7.
    frugal = deepspec.eigenpairs(features, image, grid=(20, 30), max_memory=1.4e6)
    checks.assert_agrees(frugal, affinity)
    assert frugal.n_products <= pairs.n_products + 5


def test_too_little_memory_is_named() -> None:
    with pytest.raises(MemoryError, match=r"600 cells needs \d+ bytes of memory, max_memory is 100000"):
        deepspec.eigenpairs(np.ones((20, 30, 8)), max_memory=1e5)


# Errors

FEATURES = np.ones((4, 5, 3), np.float32)
IMAGE = np.zeros((4, 5, 3), np.uint8)


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    result = array.astype(float)
    result[-1, -1, -1] = value
    return result


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((np.ones((3, 4)), IMAGE), {}, r"features.*\(h, w, C\).*\(3, 4\)"),
        ((np.ones((3, 4, 5, 6)), IMAGE), {}, r"features.*\(3, 4, 5, 6\)"),
        ((np.ones((0, 4, 3)), IMAGE), {}, r"features.*\(0, 4, 3\)"),
        ((np.ones((4, 5, 0)), IMAGE), {}, r"features.*\(4, 5, 0\)"),
        ((with_value(FEATURES, math.nan), IMAGE), {}, r"features.*(finite|NaN)"),
        ((with_value(FEATURES, math.inf), IMAGE), {}, r"features.*(finite|infinit)"),
        ((FEATURES.astype(complex), IMAGE), {}, r"features.*complex"),
        ((FEATURES, np.zeros((4, 5), np.uint8)), {}, r"image.*\(4, 5\)"),
        ((FEATURES, np.zeros((4, 5, 4), np.uint8)), {}, r"image.*\(4, 5, 4\)"),
        ((FEATURES, np.zeros((0, 5, 3), np.uint8)), {}, r"image.*\(0, 5, 3\)"),
        ((FEATURES, np.zeros((4, 5, 3), np.int64)), {}, r"image.*int64"),
        ((FEATURES, with_value(IMAGE, math.nan)), {}, r"image.*(finite|NaN|\[0, 1\])"),
        ((FEATURES, with_value(IMAGE, 1.5)), {}, r"image.*\[0, 1\]"),
        ((FEATURES, with_value(IMAGE, -0.5)), {}, r"image.*\[0, 1\]"),
        ((FEATURES, None), {"color_weight": math.inf}, r"color_weight.*image"),
        ((None, IMAGE), {}, r"features.*color_weight"),
        ((FEATURES, IMAGE), {"color_weight": -1}, r"color_weight.*-1"),
        ((FEATURES, IMAGE), {"color_weight": math.nan}, r"color_weight.*nan"),
        ((FEATURES, IMAGE), {"k": 0}, r"k.*0"),
        ((FEATURES, IMAGE), {"k": 21}, r"k.*20.*21|k.*21.*20"),
        ((FEATURES, IMAGE), {"k": 2.5}, r"k.*2\.5"),
        ((FEATURES, IMAGE), {"grid": (0, 5)}, r"grid.*\(0, 5\)"),
        ((FEATURES, IMAGE), {"grid": (5,)}, r"grid.*\(5,\)"),
        ((FEATURES, IMAGE), {"color": "rgb"}, r"color.*knn.*rgb|color.*rgb.*knn"),
        ((FEATURES, IMAGE), {"laplacian": "signed"}, r"laplacian.*normalized.*signed|laplacian.*signed"),
        ((FEATURES, IMAGE), {"solver": "magic"}, r"solver.*magic"),
        ((FEATURES, IMAGE), {"precision": "huge"}, r"precision.*huge"),
        ((FEATURES, IMAGE), {"max_memory": 0}, r"max_memory.*0"),
        ((FEATURES, IMAGE), {"max_memory": "8 GB"}, r"max_memory.*8 GB"),
        ((FEATURES, IMAGE), {"tol": 0}, r"tol.*0"),
        ((FEATURES, IMAGE), {"tol": math.nan}, r"tol.*nan"),
        ((FEATURES, IMAGE), {"threads": 0}, r"threads.*0"),
        ((FEATURES, IMAGE), {"threads": -3}, r"threads.*-3"),
        ((np.zeros((4, 5, 3)), None), {"color_weight": 0}, r"zero|0"),
    ],
)
def test_bad_input_is_named(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL | re.IGNORECASE)):
        deepspec.eigenpairs(*arguments, **options)


def asymmetric() -> np.ndarray:
    affinity = np.ones((5, 5))
    affinity[1, 3] = 2
    return affinity


def altered(value: float) -> np.ndarray:
    affinity = np.ones((5, 5))
    affinity[1, 3] = affinity[3, 1] = value
    return affinity


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(
    ("affinity", "k", "message"),
    [
        (asymmetric(), 2, "symmetric"),
        (altered(-1), 2, "negative"),
        (altered(math.nan), 2, "finite|NaN"),
        (altered(math.inf), 2, "finite|infinit"),
        (np.ones((4, 5)), 2, r"\(4, 5\)"),
        (np.zeros((4, 4)), 2, "zero|0"),
        (np.ones((4, 4)), 5, "k.*4.*5|k.*5.*4"),
        (np.ones((4, 4)), 0, "k.*0"),
        (np.ones((0, 0)), 1, r"\(0, 0\)"),
    ],
)
def test_bad_affinity_is_named(affinity: np.ndarray, k: int, message: str, sparse: bool) -> None:
    form = scipy.sparse.csr_array(affinity) if sparse else affinity
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL | re.IGNORECASE)):
        deepspec.laplacian_eigenpairs(form, k)


def test_what_has_not_converged_is_an_error_that_carries_what_there_is() -> None:
    rng = np.random.default_rng(13)
    features = checks.random_features(rng, (20, 20), 64, "noise")
    with pytest.raises(deepspec.ConvergenceError, match="tol") as caught:
        deepspec.eigenpairs(features, color_weight=0, k=5, tol=1e-30)
    pairs = caught.value.pairs
    assert isinstance(caught.value, RuntimeError)
    assert isinstance(pairs, deepspec.Eigenpairs)
    assert pairs.vectors.shape == (len(pairs.values), 20, 20)
    # The constant pair is exact: without it, nothing converges to this.
    assert len(pairs.values) < 5 or pairs.residuals.max() > 1e-30


# Long calls


@pytest.mark.parametrize("call", ["eigenpairs", "affinity"])
def test_memory_is_estimated_before_it_is_taken(call: str) -> None:
    started = time.perf_counter()
    with pytest.raises(MemoryError, match=r"\d.*[GTP]i?B"):
        getattr(deepspec, call)(np.ones((3, 3, 2), np.float32), color_weight=0, grid=(3000, 3000))
    assert time.perf_counter() - started < 5


def long_call() -> None:
    """Some tens of seconds of native work."""
    rng = np.random.default_rng(14)
    features = rng.normal(size=(80, 80, 64)).astype(np.float32)
    deepspec.eigenpairs(features, color_weight=0, k=600, tol=1e-9, threads=1)


INTERRUPTED = """
import sys
sys.path.insert(0, sys.argv[1])
import test_spectral
print("started", flush=True)
try:
    test_spectral.long_call()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one child process on Windows")
def test_ctrl_c_ends_a_long_call() -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "started\n"
            time.sleep(1.5)
            assert child.poll() is None, "the call was too short to be interrupted"
            child.send_signal(signal.SIGINT)
            sent = time.perf_counter()
            assert child.stdout.readline() == "interrupted\n"
            assert time.perf_counter() - sent < 5
            assert child.wait(timeout=20) == 0
        finally:
            child.kill()


def test_other_python_threads_run_during_a_call() -> None:
    rng = np.random.default_rng(15)
    features = rng.normal(size=(50, 50, 384)).astype(np.float32)
    longest, steps = 0.0, 0
    with ThreadPoolExecutor(1) as pool:
        last = started = time.perf_counter()
        call = pool.submit(deepspec.eigenpairs, features, color_weight=0, k=60)
        while not call.done():
            time.sleep(0.001)
            now = time.perf_counter()
            longest, last, steps = max(longest, now - last), now, steps + 1
        call.result()
    total = last - started
    assert steps > 10
    assert longest < max(0.1, total / 2), f"this thread stood still for {longest:.2f} s of {total:.2f} s"

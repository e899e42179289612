"""The eigenpairs of all pixels against the oracle on small images, and what plans promise."""

from __future__ import annotations

import math
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import checks
import measures
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from squeezenet import SqueezeNet

import deepspec
from deepspec import ConvergenceError, Eigenpairs, Features, images
from deepspec.full_resolution import Plan, pixel_eigenpairs, plan

FINER = {"patch": 1, "patch4": 4}
TIGHT = 1e-5  # a tolerance at which the oracle tells more than at the usual 1e-3


def image_of(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    picture = checks.random_image(np.random.default_rng(seed), size)
    return np.asarray((255 * picture).astype(np.uint8))


def features_of(grid: tuple[int, int], cell: tuple[float, float], channels: int = 12) -> Features:
    return Features(checks.random_features(np.random.default_rng(1), grid, channels, "smooth"), cell)


def graph_of(
    image: np.ndarray, features: Features | None, color_weight: float, affinity: str = "patch"
) -> np.ndarray:
    """W (n, n) by the oracle."""
    size = image.shape[0], image.shape[1]
    colors = None if color_weight == 0 else checks.color_affinity(image, "knn")
    lifted = None
    if features is not None and not math.isinf(color_weight):
        lifted = oracle.lifted_affinity(features.array, features.cell, size, FINER[affinity]) / 256
    return oracle.fused_affinity(lifted, colors, color_weight)


def assert_agrees(
    image: np.ndarray, features: Features | None, color_weight: float, *ks: int, affinity: str = "patch"
) -> Eigenpairs:
    """The pairs of the last of several k, each of which agrees."""
    graph = graph_of(image, features, color_weight, affinity)
    spectrum = oracle.eigenpairs(graph)
    for k in ks:
        pairs = pixel_eigenpairs(
            image, features, affinity=affinity, color_weight=color_weight, k=k, tol=TIGHT
        )
        assert pairs.vectors.shape == (k, *image.shape[:2])
        assert pairs.degrees.shape == image.shape[:2]
        checks.assert_agrees(pairs, graph, spectrum=spectrum, residual=TIGHT)
    return pairs


# Against the oracle

# Cells that cover the image evenly, that leave a strip at the right and bottom, of many pixels and of less than one.
GRIDS: dict[str, tuple[tuple[int, int], tuple[float, float]]] = {
    "even": ((4, 5), (4.5, 4.2)),
    "strip": ((3, 5), (5.25, 3.6)),
    "whole": ((2, 3), (9, 7)),
    "fine": ((30, 35), (0.6, 0.59)),
}


@pytest.mark.parametrize("color_weight", [0, 0.01, 10, math.inf])
@pytest.mark.parametrize("affinity", ["patch", "patch4"])
@pytest.mark.parametrize("grid", GRIDS)
def test_small_image_agrees_with_the_oracle(grid: str, affinity: str, color_weight: float) -> None:
    if grid == "fine" and affinity == "patch4":
        pytest.skip("16 800 cells are too many for a dense oracle")
    assert_agrees(image_of((18, 21)), features_of(*GRIDS[grid]), color_weight, 1, 2, 5, 17, affinity=affinity)


@pytest.mark.parametrize("affinity", ["patch", "patch4"])
@pytest.mark.parametrize("color_weight", [0, 0.1, math.inf])
def test_all_pairs_of_a_tiny_image(affinity: str, color_weight: float) -> None:
    assert_agrees(image_of((4, 5)), features_of((2, 2), (2, 2.5)), color_weight, 20, affinity=affinity)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_types_and_layouts_of_features_do_not_matter(dtype: Any) -> None:
    image = image_of((18, 21))
    half = features_of((4, 5), (4.5, 4.2)).array.astype(np.float16)
    expected = pixel_eigenpairs(image, half.astype(np.float32), color_weight=0.01, tol=TIGHT)
    for array in (half.astype(dtype), np.asfortranarray(half.astype(dtype))):
        found = pixel_eigenpairs(np.asfortranarray(image), array, color_weight=0.01, tol=TIGHT)
        np.testing.assert_allclose(found.values, expected.values, atol=1e-5)
        np.testing.assert_allclose(found.vectors, expected.vectors, atol=2e-3 * abs(expected.vectors).max())


def test_bare_arrays_cover_the_image_evenly() -> None:
    image, features = image_of((18, 21)), features_of((4, 5), (4.5, 4.2))
    bare = pixel_eigenpairs(image, features.array, color_weight=0.01)
    np.testing.assert_array_equal(bare.vectors, pixel_eigenpairs(image, features, color_weight=0.01).vectors)


def test_infinite_weight_does_not_look_at_features() -> None:
    image = image_of((18, 21))
    alone = pixel_eigenpairs(image, color_weight=math.inf)
    for affinity in ("patch", "sampled"):
        beside = pixel_eigenpairs(image, np.full((2, 2, 3), np.nan), color_weight=math.inf, affinity=affinity)
        np.testing.assert_array_equal(beside.vectors, alone.vectors)


def test_what_is_promised_of_the_vectors() -> None:
    pairs = pixel_eigenpairs(image_of((31, 40)), features_of((4, 5), (7.5, 8)), color_weight=0.01)
    y = pairs.vectors.reshape(5, -1).astype(float)
    np.testing.assert_allclose((y * pairs.degrees.ravel()) @ y.T, np.eye(5), atol=1e-4)
    assert pairs.values[0] == pairs.residuals[0] == 0
    assert y[0].min() > 0
    assert np.ptp(y[0]) == 0
    for vector in pairs.vectors[1:]:
        np.testing.assert_array_equal(vector, oracle.signed(vector))


# Degenerate images


@pytest.mark.parametrize("color_weight", [0, 10, math.inf])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (1, 200), (200, 1)])
def test_few_pixels(size: tuple[int, int], color_weight: float) -> None:
    grid = min(size[0], 6), min(size[1], 6)
    features = features_of(grid, (size[0] / grid[0], size[1] / grid[1]))
    assert_agrees(image_of(size), features, color_weight, min(5, size[0] * size[1]))


@pytest.mark.parametrize("size", [(1, 5000), (5000, 1)])
def test_long_rows_and_columns(size: tuple[int, int]) -> None:
    """Too many pixels for all of the oracle's eigenvectors, not for its residuals."""
    image = image_of(size)
    grid = (1, 25) if size[0] == 1 else (25, 1)
    features = features_of(grid, (size[0] / grid[0], size[1] / grid[1]))
    pairs = pixel_eigenpairs(image, features, color_weight=1)
    rows = oracle.lift(5000, 25, 200)
    affinity = oracle.feature_affinity(features.array)
    colors = deepspec.color_affinity(image)

    def product(y: np.ndarray) -> np.ndarray:
        return np.asarray(rows @ (affinity @ (rows.T @ y)) / 256 + colors @ y)

    degrees = product(np.ones(5000))
    np.testing.assert_allclose(pairs.degrees.ravel(), degrees, rtol=1e-5)
    for value, vector, residual in zip(pairs.values, pairs.vectors, pairs.residuals, strict=True):
        y = vector.ravel().astype(float)
        error = (degrees * y - product(y) - value * degrees * y) / np.sqrt(degrees)
        assert np.linalg.norm(error) <= 1e-3
        assert np.linalg.norm(error) == pytest.approx(residual, abs=2e-5)


@pytest.mark.parametrize("color_weight", [0.01, 10, math.inf])
def test_one_color(color_weight: float) -> None:
    image = np.full((15, 18, 3), 90, np.uint8)
    assert_agrees(image, features_of((4, 4), (3.75, 4.5)), color_weight, 5)


@pytest.mark.parametrize("color_weight", [0, 0.01, 10])
def test_one_cell_joins_all_pixels_alike(color_weight: float) -> None:
    pairs = assert_agrees(image_of((15, 18)), features_of((1, 1), (15, 18)), color_weight, 5)
    if color_weight == 0:
        np.testing.assert_allclose(pairs.values, [0, 1, 1, 1, 1], atol=1e-6)


def test_zero_features_leave_the_colors() -> None:
    image, nothing = image_of((15, 18)), Features(np.zeros((3, 3, 4), np.float32), (5, 6))
    pairs = assert_agrees(image, nothing, 10, 5)
    alone = pixel_eigenpairs(image, color_weight=math.inf, tol=TIGHT)
    np.testing.assert_allclose(pairs.values, alone.values, atol=1e-5)
    np.testing.assert_allclose(pairs.degrees, 10 * alone.degrees, rtol=1e-6)
    with pytest.raises(ValueError, match="no edge: every entry of W is zero"):
        pixel_eigenpairs(image, nothing, color_weight=0)


def test_a_zero_feature_cuts_pixels_off() -> None:
    array = features_of((4, 5), (4, 4)).array.copy()
    array[2:, 3:] = 0
    pairs = assert_agrees(image_of((16, 20)), Features(array, (4, 4)), 0, 6)
    assert (pairs.degrees[14:, 18:] == 1).all()
    assert (pairs.vectors[0, 14:, 18:] == 0).all()


def test_two_halves_without_an_edge_between_them() -> None:
    image = np.random.default_rng(2).integers(0, 20, (16, 30, 3)).astype(np.uint8)
    image[:, 18:] += 230
    pairs = assert_agrees(image, None, math.inf, 5)
    assert pairs.values[1] == pytest.approx(0, abs=1e-7)
    assert pairs.values[2] > 1e-3
    left, right = pairs.vectors[1, :, :18], pairs.vectors[1, :, 18:]
    assert max(np.ptp(left), np.ptp(right)) <= 1e-5 * abs(pairs.vectors[1]).max()
    assert left.max() < 0 < right.min(), "negative entries are the majority"


# The sample


def sampled(image: np.ndarray, features: Features, seed: int = 0, k: int = 1) -> Eigenpairs:
    return pixel_eigenpairs(image, features, affinity="sampled", color_weight=0, k=k, seed=seed)


@pytest.fixture(scope="module")
def positive() -> tuple[np.ndarray, Features, np.ndarray]:
    """An image, features, and relu(F Fᵀ) of all pixels, of which no entry is 0."""
    array = np.random.default_rng(3).uniform(0.1, 1, (3, 4, 6)).astype(np.float32)
    rows = oracle.normalized_rows(array).reshape(12, 6)
    f = np.kron(oracle.lift(15, 3, 5), oracle.lift(20, 4, 5)) @ rows
    return image_of((15, 20)), Features(array, (5, 5)), f @ f.T


def test_a_sample_keeps_entries_as_they_are(positive: tuple[np.ndarray, Features, np.ndarray]) -> None:
    """W again from all of its eigenpairs: D − W = Σ μ D y yᵀ D."""
    image, features, gram = positive
    pairs = sampled(image, features, k=300)
    d = pairs.degrees.ravel().astype(float)
    y = d * pairs.vectors.reshape(300, -1).astype(float)
    drawn = np.diag(d) - y.T @ (pairs.values[:, None] * y)
    np.testing.assert_allclose(drawn, drawn.T, atol=1e-4)
    kept = drawn > 0.01
    np.testing.assert_allclose(drawn, np.where(kept, gram, 0), atol=1e-4)
    # Of each stretch of 256 in a row of the upper half there is one at most.
    upper = np.triu(kept)
    assert upper[:, :256].sum(axis=1).max() == upper[:, 256:].sum(axis=1).max() == 1
    expected = 300 * 301 / 2 / 256
    assert abs(upper.sum() - expected) < 5 * math.sqrt(expected)


def test_the_sample_is_a_fair_share(positive: tuple[np.ndarray, Features, np.ndarray]) -> None:
    image, features, gram = positive
    n_seeds = 300
    sums = np.zeros(300)
    for seed in range(n_seeds):
        degrees = sampled(image, features, seed).degrees.ravel().astype(float)
        # That of a pixel without an entry is 1, and no entry is as large but one of the diagonal.
        sums += np.where(degrees == 1, 0, degrees)
    share = gram.sum(axis=1) / 256
    error = np.sqrt((gram**2).sum(axis=1) / 256 / n_seeds)
    assert (abs(sums / n_seeds - share) < 5 * error).all()
    assert sums.sum() / n_seeds == pytest.approx(share.sum(), rel=0.02)


def test_the_seed_draws_the_sample(positive: tuple[np.ndarray, Features, np.ndarray]) -> None:
    image, features, _ = positive
    first, again, other = (sampled(image, features, seed, k=3) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert abs(first.degrees - other.degrees).max() > 0.1
    assert other.residuals.max() <= 1e-3
    # The other forms have nothing to draw.
    same = [pixel_eigenpairs(image, features, seed=seed).vectors for seed in (5, 6)]
    np.testing.assert_array_equal(*same)


# What changes nothing


@pytest.mark.parametrize("affinity", ["patch", "patch4", "sampled"])
@pytest.mark.parametrize("color_weight", [0, 10])
def test_threads_leave_no_trace(affinity: str, color_weight: float) -> None:
    image, features = image_of((61, 80)), features_of((6, 8), (10, 9.7))
    options: dict[str, Any] = {"affinity": affinity, "color_weight": color_weight, "k": 4}
    one = pixel_eigenpairs(image, features, threads=1, **options)
    for threads in (2, 3):
        many = pixel_eigenpairs(image, features, threads=threads, **options)
        for field in ("values", "vectors", "degrees", "residuals"):
            np.testing.assert_array_equal(getattr(many, field), getattr(one, field))


def assert_same_space(found: Eigenpairs, expected: Eigenpairs) -> None:
    """As many of the first vectors as a gap parts from the rest span the same."""
    np.testing.assert_allclose(found.values, expected.values, atol=2e-5)
    gaps = np.flatnonzero(np.diff(expected.values) > 0.02)
    if len(gaps):
        size, weight = gaps[-1] + 1, expected.degrees.ravel().astype(float)
        assert oracle.angle(found.vectors[:size], expected.vectors[:size], weight) < 0.01


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(2, 12), st.integers(2, 12)),
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    color_weight=st.sampled_from([0.001, 0.1, 10.0]),
    scale=st.floats(1e-20, 1e20),
)
@settings(max_examples=15)
def test_neither_mirrors_nor_scales_matter(
    seed: int, size: tuple[int, int], grid: tuple[int, int], color_weight: float, scale: float
) -> None:
    rng = np.random.default_rng(seed)
    # Colours that are far from any tie, which the order of pixels would decide.
    image = rng.permutation(size[0] * size[1] * 3).reshape(*size, 3) * 255 // (size[0] * size[1] * 3)
    image = image.astype(np.uint8)
    array = rng.normal(size=(*grid, 7)).astype(np.float32)
    options: dict[str, Any] = {"color_weight": color_weight, "k": min(4, size[0] * size[1]), "tol": TIGHT}
    expected = pixel_eigenpairs(image, array, **options)
    scaled = pixel_eigenpairs(image, array * np.float32(scale), **options)
    assert_same_space(scaled, expected)
    _, tied = oracle.color_knn(image)
    if not tied.any():
        mirrored = pixel_eigenpairs(image[:, ::-1], array[:, ::-1], **options)
        turned = Eigenpairs(
            mirrored.values,
            mirrored.vectors[..., ::-1],
            mirrored.degrees[..., ::-1],
            mirrored.residuals,
            mirrored.n_products,
        )
        np.testing.assert_allclose(turned.degrees, expected.degrees, rtol=1e-5)
        assert_same_space(turned, expected)


def test_the_input_is_left_alone() -> None:
    image, features = image_of((18, 21)), features_of((4, 5), (4.5, 4.2))
    before = image.copy(), features.array.copy()
    image.setflags(write=False)
    features.array.setflags(write=False)
    pixel_eigenpairs(image, features)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(features.array, before[1])


# Errors

IMAGE = image_of((12, 14))
ARRAY = np.ones((3, 4, 5), np.float32)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((IMAGE[..., 0], ARRAY), {}, r"image must be \(H, W, 3\) uint8, got \(12, 14\) uint8"),
        ((IMAGE / 255, ARRAY), {}, r"image must be .* got \(12, 14, 3\) float64"),
        ((IMAGE[:0], ARRAY), {}, r"image must be .* got \(0, 14, 3\)"),
        ((np.zeros((4, 4, 4), np.uint8), ARRAY), {}, r"image must be .* got \(4, 4, 4\)"),
        ((IMAGE, ARRAY[0]), {}, r"features must be \(h, w, C\) .* got shape \(4, 5\)"),
        ((IMAGE, ARRAY[:0]), {}, r"features must be .* got shape \(0, 4, 5\)"),
        ((IMAGE, ARRAY.astype(int)), {}, "features must be floating, got int64"),
        ((IMAGE, np.where(ARRAY > 0, np.nan, 0)), {}, "features must be finite, got 60 NaN"),
        ((IMAGE, None), {}, r"features may be None only with color_weight=math.inf, got .*=10"),
        ((IMAGE, Features(ARRAY, (5, 3))), {}, "12 x 14 pixels, but 3 x 4 cells of 5 x 3 cover 15 x 12"),
        (
            (IMAGE, ARRAY),
            {"affinity": "relu"},
            "affinity must be one of 'patch', 'patch4', 'sampled'.*'relu'",
        ),
        ((IMAGE, ARRAY), {"color_weight": -1}, "color_weight must be a number from 0 to inf, got -1"),
        ((IMAGE, ARRAY), {"color_weight": math.nan}, "color_weight must be .* got nan"),
        ((IMAGE, ARRAY), {"color_weight": "10"}, "color_weight must be .* got '10'"),
        ((IMAGE, ARRAY), {"k": 0}, "k must be a whole number from 1 to 168, got 0"),
        ((IMAGE, ARRAY), {"k": 169}, "k must be a whole number from 1 to 168, got 169"),
        ((IMAGE, ARRAY), {"k": 2.0}, r"k must be .* got 2\.0"),
        ((IMAGE, ARRAY), {"tol": 0}, "tol must be a number between 0 and 1, got 0"),
        ((IMAGE, ARRAY), {"tol": 1}, "tol must be .* got 1"),
        ((IMAGE, ARRAY), {"seed": -1}, "seed must be .* got -1"),
        ((IMAGE, ARRAY), {"seed": 2**64}, f"seed must be .* got {2**64}"),
        ((IMAGE, ARRAY), {"max_memory": 0}, "max_memory must be a number of bytes above 0, got 0"),
        ((IMAGE, ARRAY), {"max_memory": "4 GB"}, "max_memory must be .* got '4 GB'"),
        ((IMAGE, ARRAY), {"threads": 0}, "threads must be .* got 0"),
    ],
)
def test_bad_input_is_named(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.compile(message, re.DOTALL)):
        pixel_eigenpairs(*arguments, **options)


def test_cells_may_end_a_little_beyond_the_image() -> None:
    """Those of a smaller copy do."""
    assert_agrees(IMAGE, Features(ARRAY, (4, 3.9)), 0.01, 5)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (((0, 14), ARRAY), {}, "a side of the image must be a whole number of at least 1, got 0"),
        (((12, 14), ARRAY[0]), {}, r"features must be \(h, w, C\)"),
        (((12, 14), Features(ARRAY, (5, 3))), {}, "cover 15 x 12"),
        (((12, 14), ARRAY), {"affinity": "relu"}, "affinity must be .* got 'relu'"),
        (((12, 14), ARRAY), {"k": 169}, "k must be a whole number from 1 to 168, got 169"),
        (((12, 14), ARRAY), {"max_memory": -1}, "max_memory must be .* got -1"),
        (((12, 14), ARRAY), {"threads": 0}, "threads must be .* got 0"),
    ],
)
def test_plans_refuse_what_cannot_be_done(
    arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plan(*arguments, **options)


def test_what_has_not_converged_is_an_error_that_carries_what_there_is() -> None:
    with pytest.raises(ConvergenceError, match=r"found \d of 5 eigenpairs .* wanted tol=1.0e-30") as caught:
        pixel_eigenpairs(image_of((20, 24)), color_weight=math.inf, tol=1e-30)
    assert caught.value.pairs.vectors.shape == (len(caught.value.pairs.values), 20, 24)


# Plans


def test_a_plan_says_what_is_solved() -> None:
    whole = plan((700, 500), ARRAY)
    assert whole == Plan((700, 500), (700, 500), None, whole.bytes)
    assert whole.line == f"500 x 700 pixels: about {whole.bytes / 1e6:.0f} MB of memory"
    assert plan((700, 500), ARRAY, max_memory=whole.bytes + 1) == whole
    less = plan((700, 500), ARRAY, max_memory=0.6 * whole.bytes)
    assert less.bytes <= 0.6 * whole.bytes
    height, width = less.working
    assert (0.4 * 700, 0.4 * 500) < (height, width) < (700, 500)
    assert height / width == pytest.approx(1.4, rel=0.01)
    assert less.tile is not None
    assert less.line == (
        f"500 x 700 pixels: about {less.bytes / 1e6:.0f} MB of memory, solved at {width} x {height} "
        f"and polished in tiles of {less.tile} pixels"
    )


def test_more_memory_means_larger_copies() -> None:
    plans = [plan((4000, 6000), None, max_memory=budget) for budget in (2.5e9, 3e9, 4e9, 6e9)]
    sizes = [found.working[0] * found.working[1] for found in plans]
    assert sizes == sorted(sizes)
    assert all(found.bytes <= budget for found, budget in zip(plans, (2.5e9, 3e9, 4e9, 6e9), strict=True))
    many = plan((700, 500), None, k=50)
    assert many.bytes > 3 * plan((700, 500), None).bytes


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    with pytest.raises(
        MemoryError, match=r"1000 x 1000 pixels need \d+ MB of memory, (\d+) MB from a"
    ) as caught:
        pixel_eigenpairs(np.zeros((1000, 1000, 3), np.uint8), ARRAY, max_memory=3e7)
    assert str(caught.value).endswith(
        "; there are 30 MB; fewer than 5, or those of a smaller image, take less"
    )
    said = re.search(r"(\d+) MB from a smaller copy", str(caught.value))
    assert said is not None
    least = 1e6 * int(said[1])
    assert plan((1000, 1000), ARRAY, max_memory=least).bytes <= least
    with pytest.raises(MemoryError):
        plan((1000, 1000), ARRAY, max_memory=least - 1e6)


def test_samples_and_small_images_have_no_smaller_copy() -> None:
    with pytest.raises(MemoryError, match="there are 30 MB; affinity='patch' can do with less"):
        plan((1000, 1000), ARRAY, affinity="sampled", max_memory=3e7)
    assert plan((1000, 1000), None, affinity="sampled", max_memory=3e8).tile is not None
    with pytest.raises(MemoryError, match=r"60 x 60 pixels need \d+ MB of memory; there are 0 MB"):
        plan((60, 60), None, max_memory=1e4)
    with pytest.raises(MemoryError, match="MB of memory; there are"):
        plan((100, 100), None, k=9500, max_memory=1e9)


# Memory and time

PROBLEM: list[tuple[np.ndarray, Features | None]] = []


def large_problem(size: tuple[int, int], alone: bool) -> tuple[np.ndarray, Features | None]:
    """Smooth colours with noise, and features like a network's unless colours are alone."""
    rng = np.random.default_rng(4)
    coarse = Image.fromarray(rng.integers(40, 216, (7, 9, 3)).astype(np.uint8))
    image = np.array(coarse.resize(size[::-1], Image.Resampling.BICUBIC))
    for row in image:
        row[:] = np.clip(row + rng.normal(scale=4, size=row.shape), 0, 255)
    cells = 40, 60
    array = checks.random_features(rng, cells, 64, "smooth")
    return image, None if alone else Features(array, (size[0] / cells[0], size[1] / cells[1]))


def make_large(size: tuple[int, int], alone: bool) -> None:
    PROBLEM[:] = [large_problem(size, alone)]
    pixel_eigenpairs(IMAGE, ARRAY, threads=2)


def solve_large(options: dict[str, Any]) -> None:
    image, features = PROBLEM[0]
    pairs = pixel_eigenpairs(image, features, **options)
    assert np.isfinite(pairs.vectors).all()


def assert_takes_what_is_planned(size: tuple[int, int], options: dict[str, Any], alone: bool = False) -> None:
    options = {"threads": 2, **options}
    planned = plan(size, large_problem(size, alone)[1], **options)
    assert (planned.tile is None) == ("max_memory" not in options)
    assert planned.bytes <= options.get("max_memory", math.inf)
    if alone:
        options["color_weight"] = math.inf
    peak = measures.peak_memory(partial(make_large, size, alone), partial(solve_large, options))
    if peak is None:
        pytest.skip("the system does not tell the peak of a process's memory")
    assert peak <= planned.bytes
    assert peak >= 0.5 * planned.bytes, "a plan that asks for twice as much refuses what would fit"
    if size == (1000, 1000):
        assert peak <= 1000 * size[0] * size[1]


@pytest.mark.parametrize(("size", "options"), [((250, 260), {}), ((340, 350), {"max_memory": 9e7})])
def test_a_call_takes_what_is_planned(size: tuple[int, int], options: dict[str, Any]) -> None:
    assert_takes_what_is_planned(size, options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "options", "alone"),
    [
        ((300, 310), {"k": 30}, False),
        ((700, 714), {}, False),
        ((700, 714), {}, True),
        ((700, 714), {"affinity": "patch4"}, False),
        ((1000, 1000), {}, False),
        ((1400, 1428), {"max_memory": 6e8}, False),
        ((1400, 1428), {"max_memory": 2.5e8}, True),
        ((260, 8000), {"max_memory": 3e8}, False),
        ((200, 200), {"affinity": "sampled", "k": 20}, False),
    ],
)
def test_a_large_call_takes_what_is_planned(
    size: tuple[int, int], options: dict[str, Any], alone: bool
) -> None:
    assert_takes_what_is_planned(size, options, alone)


@pytest.mark.slow
def test_a_photograph_of_24_megapixels_fits_into_4_gigabytes() -> None:
    assert_takes_what_is_planned((4000, 6000), {"max_memory": 4e9})


def test_a_refined_photograph_is_near_the_direct_one(test_data: Path) -> None:
    photo = images.shrink(images.load(test_data / "photos" / "coffee.png"), 400)
    features = SqueezeNet(test_data / "squeezenet" / "squeezenet_v1.0.npz")(photo)
    size = photo.shape[0], photo.shape[1]
    budget = 0.9 * plan(size, features).bytes
    assert plan(size, features, max_memory=budget).tile is not None
    direct = pixel_eigenpairs(photo, features)
    refined = pixel_eigenpairs(photo, features, max_memory=budget)
    weight = direct.degrees.ravel().astype(float)
    one, other = (pairs.vectors[1].ravel().astype(float) for pairs in (direct, refined))
    cosine = (one * weight) @ other / math.sqrt((one * weight) @ one * ((other * weight) @ other))
    assert cosine >= 0.98
    np.testing.assert_allclose(refined.values, direct.values, atol=2e-3)
    assert refined.residuals[1:].min() > 1e-3
    assert refined.residuals.max() < 1e-2


# Progress


@pytest.mark.parametrize("share", [None, 0.85])
def test_progress_is_told_and_can_cancel(share: float | None) -> None:
    size = (150, 170) if share is None else (330, 350)
    image, features = large_problem(size, False)
    max_memory = None if share is None else share * plan(size, features).bytes
    solve = partial(pixel_eigenpairs, image, features, k=3, tol=0.02, max_memory=max_memory)
    told: list[tuple[str, float]] = []
    solve(progress=lambda *stage: told.append(stage))
    stages = ["graph", "eigenvectors", *([] if share is None else ["polish"])]
    assert list(dict.fromkeys(stage for stage, _ in told)) == stages
    assert all(0 <= done <= 1 for _, done in told)
    for stage in stages[1:]:
        shares = [done for name, done in told if name == stage]
        assert len(shares) > 1
        assert shares[-1] > 0.9

    class Cancelled(Exception):
        pass

    for last in stages:

        def cancel(stage: str, done: float, last: str = last) -> None:
            if stage == last:
                raise Cancelled(stage)

        with pytest.raises(Cancelled, match=last):
            solve(progress=cancel)


INTERRUPTED = """
import sys
sys.path += sys.argv[1:]
import test_full_resolution as tests
image, features = tests.large_problem((2000, 2000), False)
print("started", flush=True)
try:
    tests.pixel_eigenpairs(image, features, threads=2, progress=lambda stage, share: print(stage, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT cannot be sent to one child process on Windows")
@pytest.mark.parametrize("stage", ["graph", pytest.param("eigenvectors", marks=pytest.mark.slow)])
def test_ctrl_c_ends_a_long_call(stage: str) -> None:
    command = [
        sys.executable,
        "-c",
        INTERRUPTED,
        *(str(Path(module.__file__ or "").parent) for module in (oracle, measures)),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            while child.stdout.readline() != f"{stage}\n":
                assert child.poll() is None
            time.sleep(0.5)
            child.send_signal(signal.SIGINT)
            sent = time.perf_counter()
            lines = child.stdout.read().split()
            assert time.perf_counter() - sent < 5
            assert lines[-1] == "interrupted"
            assert child.wait(timeout=20) == 0
        finally:
            child.kill()

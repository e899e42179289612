"""What becomes of a smaller copy's eigenvectors at the full size."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import checks
import numpy as np
import oracle
import pytest
import scipy.sparse
from squeezenet import SqueezeNet

import deepspec
from deepspec import Eigenpairs, Features, images
from deepspec.coarse_to_fine import TILES, refine, refinement_bytes
from deepspec.full_resolution import pixel_eigenpairs
from deepspec.pixel_problem import SHARE, PixelProblem

HALO = 24
Told = list[tuple[str, float]]


def problem_of(
    image: np.ndarray, features: Features | None, color_weight: float = 10.0, k: int = 5
) -> PixelProblem:
    return PixelProblem(image, features, "patch", SHARE, color_weight, k, 0)


def refined(problem: PixelProblem, tile: int, share: float = 0.5, told: Told | None = None) -> Eigenpairs:
    """From a copy of so many rows and columns; the copy's own graph is the public call's but for what features weigh."""
    size = tuple(max(1, round(share * side)) for side in problem.size)
    small = problem.resized((size[0], size[1]))
    weight = problem.color_weight * problem.feature_weight / small.feature_weight
    rough = pixel_eigenpairs(
        small.image,
        small.features,
        color_weight=math.inf if small.features is None else weight,
        k=problem.k,
    )
    stages: Told = [] if told is None else told
    return refine(problem, rough, tile, 2, lambda *stage: stages.append(stage))


def tile_graph(image: np.ndarray, tile: int) -> scipy.sparse.csr_array:
    """The colours' graph of each tile with what surrounds it; of the tile's rows alone."""
    height, width = image.shape[:2]
    numbers = np.arange(height * width).reshape(height, width)
    graph = scipy.sparse.lil_array((height * width,) * 2)

    def spans(side: int) -> list[tuple[int, int]]:
        n = math.ceil(side / tile)
        return [(side * i // n, side * (i + 1) // n) for i in range(n)]

    for top, bottom in spans(height):
        for left, right in spans(width):
            outer = np.s_[max(0, top - HALO) : bottom + HALO, max(0, left - HALO) : right + HALO]
            colors = deepspec.color_affinity(image[outer]).tocoo()
            pixels = numbers[outer].ravel()
            rows, columns = np.divmod(pixels[colors.row], width)
            own = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
            graph[pixels[colors.row[own]], pixels[colors.col[own]]] = colors.data[own]
    return graph.tocsr()


def product_of(problem: PixelProblem, tile: int) -> Callable[[np.ndarray], np.ndarray]:
    """y → W y by the oracle."""
    colors = problem.color_weight * tile_graph(problem.image, tile)
    features = problem.features
    if features is None:
        return lambda y: np.asarray(colors @ y)
    affinity = problem.feature_weight * oracle.feature_affinity(features.array)
    grid = features.array.shape[:2]
    rows, columns = (oracle.lift(*axis) for axis in zip(problem.size, grid, features.cell, strict=True))

    def product(y: np.ndarray) -> np.ndarray:
        cells = affinity @ (rows.T @ y.reshape(problem.size) @ columns).ravel()
        return np.asarray((rows @ cells.reshape(grid) @ columns.T).ravel() + colors @ y)

    return product


def true_residuals(pairs: Eigenpairs, product: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Of the vectors as they are returned, whose degrees and orthonormality are asserted."""
    d = product(np.ones(pairs.degrees.size))
    np.testing.assert_allclose(pairs.degrees.ravel(), d, rtol=1e-5)
    y = pairs.vectors.reshape(len(pairs.values), -1).astype(float)
    np.testing.assert_allclose((y * d) @ y.T, np.eye(len(y)), atol=1e-4)
    errors = [
        (d * v - product(v) - value * d * v) / np.sqrt(d) for value, v in zip(pairs.values, y, strict=True)
    ]
    return np.linalg.norm(errors, axis=1)


@pytest.fixture(scope="module")
def photograph(test_data: Path) -> tuple[np.ndarray, Features]:
    image = images.shrink(images.load(test_data / "photos" / "coffee.png"), 256)
    return image, SqueezeNet(test_data / "squeezenet" / "squeezenet_v1.0.npz", 320)(image)


@pytest.fixture
def small() -> PixelProblem:
    rng = np.random.default_rng(0)
    image = (255 * checks.random_image(rng, (60, 75))).astype(np.uint8)
    features = Features(checks.random_features(rng, (5, 6), 8, "smooth"), (11.5, 12.5))
    return problem_of(image, features, color_weight=1)


@pytest.mark.parametrize("tile", [128, 512])
def test_first_eigenvectors_of_a_photograph(photograph: tuple[np.ndarray, Features], tile: int) -> None:
    image, features = photograph
    direct, found = pixel_eigenpairs(image, features), refined(problem_of(image, features), tile)
    weight = direct.degrees.ravel().astype(float)
    for j, least in ((1, 0.98), (2, 0.95)):
        one, other = (pairs.vectors[j].ravel().astype(float) for pairs in (direct, found))
        cosine = abs((one * weight) @ other) / math.sqrt((one * weight) @ one * ((other * weight) @ other))
        assert cosine >= least
    np.testing.assert_allclose(found.values, direct.values, atol=2e-3)
    # Better than the copy's vectors enlarged, whose edges are blurred.
    assert found.residuals.max() < 0.015


def test_one_tile_tells_the_residuals_of_the_whole_graph(photograph: tuple[np.ndarray, Features]) -> None:
    problem = problem_of(*photograph)
    pairs = refined(problem, 512)
    assert pairs.residuals[0] == pairs.values[0] == 0
    assert pairs.residuals[1:].min() > 1e-3
    np.testing.assert_allclose(true_residuals(pairs, product_of(problem, 512)), pairs.residuals, atol=1e-5)


def test_residuals_of_tiles_are_nearly_those_of_their_graph(photograph: tuple[np.ndarray, Features]) -> None:
    """Nearly: what surrounds a tile was smoothed as its surroundings, not as the tile next to it."""
    problem = problem_of(*photograph)
    pairs = refined(problem, 128)
    true = true_residuals(pairs, product_of(problem, 128))
    np.testing.assert_allclose(true, pairs.residuals, rtol=0.1, atol=1e-7)


def test_tiles_leave_no_seams(photograph: tuple[np.ndarray, Features]) -> None:
    image, features = photograph
    pairs = refined(problem_of(image, features), 64)
    # Jumps between columns beside those next to them.
    width = image.shape[1]
    n = math.ceil(width / 64)
    borders = [width * i // n - 1 for i in range(1, n)]
    for vector in pairs.vectors[1:4]:
        jumps = abs(np.diff(vector, axis=1)).mean(axis=0)
        near = [jumps[max(0, b - 8) : b + 9] for b in borders]
        ratios = [jumps[b] / np.median(around) for b, around in zip(borders, near, strict=True)]
        assert np.median(ratios) < 1.5
        assert max(ratios) < 3


@pytest.mark.parametrize("color_weight", [0, 1e-3, 10])
@pytest.mark.parametrize("tile", [32, 128])
def test_any_weight_gives_orthonormal_vectors(small: PixelProblem, color_weight: float, tile: int) -> None:
    problem = problem_of(small.image, small.features, color_weight)
    pairs = refined(problem, tile)
    product = product_of(problem, tile)
    residuals = true_residuals(pairs, product)
    if tile == 128:
        np.testing.assert_allclose(residuals, pairs.residuals, atol=1e-5)
    assert (np.diff(pairs.values) >= 0).all()
    assert np.ptp(pairs.vectors[0]) == 0 < pairs.vectors[0, 0, 0]
    for vector in pairs.vectors[1:]:
        np.testing.assert_array_equal(vector, oracle.signed(vector))


def test_colors_alone(small: PixelProblem) -> None:
    problem = problem_of(small.image, None, 1)
    pairs = refined(problem, 128, 0.8)
    true = true_residuals(pairs, product_of(problem, 128))
    np.testing.assert_allclose(true, pairs.residuals, atol=1e-5)
    assert pairs.residuals.max() < 0.1


def test_large_eigenvalues_do_not_blow_up(small: PixelProblem) -> None:
    """More vectors than cells: of the last, the colours' small part is all there is."""
    problem = problem_of(small.image, small.features, 1e-4, k=36)
    pairs = refined(problem, 32)
    assert np.isfinite(pairs.vectors).all()
    assert pairs.values[-1] > 0.9
    assert pairs.residuals.max() < 0.2


def test_pixels_without_an_edge(small: PixelProblem) -> None:
    assert small.features is not None
    array = small.features.array.copy()
    array[3:, 4:] = 0
    problem = problem_of(small.image, Features(array, small.features.cell), 0)
    pairs = refined(problem, 32)
    isolated = np.zeros((60, 75), bool)
    isolated[40:, 56:] = True
    assert (pairs.degrees[isolated] == 1).all()
    assert (pairs.vectors[:, isolated] == 0).all()
    d = product_of(problem, 32)(np.ones(60 * 75)).reshape(60, 75)
    np.testing.assert_allclose(pairs.degrees[~isolated], d[~isolated], rtol=1e-5)
    y = pairs.vectors.reshape(5, -1).astype(float)
    np.testing.assert_allclose((y * pairs.degrees.ravel()) @ y.T, np.eye(5), atol=1e-4)


@pytest.mark.parametrize("size", [(1, 400), (400, 1), (3, 90)])
@pytest.mark.parametrize("k", [1, 2, 4])
def test_narrow_images(size: tuple[int, int], k: int) -> None:
    image = (255 * checks.random_image(np.random.default_rng(3), size)).astype(np.uint8)
    problem = problem_of(image, Features(np.ones((1, 1, 3), np.float32), size), k=k)
    for tile in (64, 512):
        pairs = refined(problem, tile)
        assert pairs.vectors.shape == (k, *size)
        residuals = true_residuals(pairs, product_of(problem, tile))
        if tile == 512:
            np.testing.assert_allclose(residuals, pairs.residuals, atol=1e-5)


def test_threads_leave_no_trace(small: PixelProblem) -> None:
    rough = pixel_eigenpairs(small.resized((30, 38)).image, color_weight=math.inf)
    one, *others = (refine(small, rough, 32, threads, lambda *stage: None) for threads in (1, 2, 3))
    for other in others:
        for field in ("values", "vectors", "degrees", "residuals"):
            np.testing.assert_array_equal(getattr(other, field), getattr(one, field))


def test_tiles_are_told_and_can_cancel(small: PixelProblem) -> None:
    told: Told = []
    refined(small, 32, told=told)
    assert told == [("polish", i / 6) for i in range(7)]

    def cancel(stage: str, share: float) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    rough = pixel_eigenpairs(small.resized((30, 38)).image, color_weight=math.inf)
    with pytest.raises(KeyboardInterrupt):
        refine(small, rough, 32, 1, cancel)


def test_smaller_tiles_take_less(small: PixelProblem) -> None:
    image = np.broadcast_to(np.uint8(0), (3000, 4000, 3))
    problem = problem_of(image, small.features)
    taken = [refinement_bytes(problem, tile, 1) for tile in TILES]
    assert list(TILES) == sorted(TILES, reverse=True)
    assert taken == sorted(taken, reverse=True)
    assert len(set(taken)) == len(taken)
    assert 3000 * 4000 * 12 * 5 < taken[-1] < taken[0] < 4e9


def test_a_copy_of_the_same_size_changes_nothing(small: PixelProblem) -> None:
    """What it begins with is what it ends with, where one tile is all there is."""
    assert small.resized(small.size).feature_weight == small.feature_weight
    direct = pixel_eigenpairs(small.image, small.features, color_weight=1, tol=1e-5)
    pairs = refine(small, direct, 128, 2, lambda *stage: None)
    np.testing.assert_allclose(pairs.values, direct.values, atol=1e-4)
    assert pairs.residuals.max() < 2e-3
    weight = direct.degrees.ravel().astype(float)
    assert oracle.angle(pairs.vectors[:2], direct.vectors[:2], weight) < 0.02

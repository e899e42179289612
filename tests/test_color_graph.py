"""The colour affinities against the oracle and against PyMatting."""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import checks
import numpy as np
import oracle
import pytest
import scipy.sparse
from PIL import Image

import deepspec

METHODS = ["knn", "knn_hsv", "random_walk"]
PHOTOS = ["astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg"]


def photo(test_data: Path, name: str, grid: tuple[int, int]) -> np.ndarray:
    image = Image.open(test_data / "photos" / name).convert("RGB")
    return np.asarray(image.resize((grid[1], grid[0]), Image.Resampling.BILINEAR))


def pymatting_knn(image: np.ndarray) -> scipy.sparse.csr_array:
    """The two-scale graph of `deepspec.color_affinity` from PyMatting's own neighbour search."""
    pymatting = pytest.importorskip("pymatting")
    n = image.shape[0] * image.shape[1]
    pairs = []
    for k, weight in oracle.KNN_SEARCHES:
        points = oracle.knn_points(image, weight).astype(np.float32)
        _, indices = pymatting.knn(points, points, k=k)
        pairs.append(np.stack([np.repeat(np.arange(n), k), indices.ravel()]))
    found = np.concatenate([*pairs, *(pair[::-1] for pair in pairs)], axis=1)
    return scipy.sparse.csr_array((np.ones(found.shape[1]), tuple(found)), shape=(n, n))


# Numba and PyMatting may warn of what they do to each other.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("name", "grid"), [*((name, (45, 60)) for name in PHOTOS), ("chelsea.png", (72, 96))]
)
def test_knn_equals_pymatting_on_photographs(test_data: Path, name: str, grid: tuple[int, int]) -> None:
    image = photo(test_data, name, grid)
    ours, theirs = deepspec.color_affinity(image), pymatting_knn(image)
    ambiguous = np.any(
        [oracle.neighbours(oracle.knn_points(image, weight), k)[1] for k, weight in oracle.KNN_SEARCHES],
        axis=0,
    )
    assert np.mean(~ambiguous) > 0.5, "the comparison must be of something"
    rows, columns = (ours != theirs).nonzero()
    assert (ambiguous[rows] | ambiguous[columns]).all()
    assert len(rows) < 0.01 * theirs.nnz, "what ties leave open is little"
    assert ours.sum() == theirs.sum()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", PHOTOS)
def test_random_walk_equals_pymatting_on_photographs(test_data: Path, name: str) -> None:
    rw_laplacian = pytest.importorskip("pymatting.laplacian.rw_laplacian")
    image = photo(test_data, name, (72, 96))
    values, rows, columns = rw_laplacian._rw_laplacian(image / 255, 0.033, 1)
    theirs = scipy.sparse.csr_array((values, (rows, columns)))  # adds what occurs twice
    theirs.eliminate_zeros()  # of weights that underflow
    ours = deepspec.color_affinity(image, "random_walk")
    np.testing.assert_array_equal(ours.indptr, theirs.indptr)
    np.testing.assert_array_equal(ours.indices, theirs.indices)
    np.testing.assert_allclose(ours.data, theirs.data, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", PHOTOS)
def test_photographs_agree_with_the_oracle(test_data: Path, name: str, method: str) -> None:
    image = photo(test_data, name, (30, 41))
    checks.assert_same_graph(deepspec.color_affinity(image, method).toarray(), image, method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 9), (40, 1), (2, 2), (3, 4), (5, 4), (13, 29)])
def test_random_images_agree_with_the_oracle(shape: tuple[int, int], method: str) -> None:
    image = checks.random_image(np.random.default_rng(1), shape)
    checks.assert_same_graph(deepspec.color_affinity(image, method).toarray(), image, method)


def test_ties_are_broken_by_index() -> None:
    """On a constant image of 17 × 17 pixels all distances are exact, and most of them tied."""
    image = np.full((17, 17, 3), 90, np.uint8)
    expected, _ = oracle.color_knn_hsv(image)
    np.testing.assert_allclose(deepspec.color_affinity(image, "knn_hsv").toarray(), expected, rtol=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_neighbours_are_nearest_however_ties_fall(levels: int) -> None:
    rng = np.random.default_rng(levels)
    image = (rng.integers(0, levels, (16, 21, 3)) * (255 // max(1, levels - 1))).astype(np.uint8)
    graph = deepspec.color_affinity(image).toarray()
    n = len(graph)
    required, allowed = np.zeros((n, n)), np.zeros((n, n))
    for k, weight in oracle.KNN_SEARCHES:
        points = oracle.knn_points(image, weight)
        squared = ((points[:, None] - points) ** 2).sum(-1)
        last = np.sort(squared, axis=1)[:, k - 1, None]
        required += squared < last - 1e-12
        allowed += squared <= last + 1e-12
    assert (graph >= required + required.T).all()
    assert (graph <= allowed + allowed.T).all()
    assert graph.sum() == 2 * n * sum(k for k, _ in oracle.KNN_SEARCHES)


def test_random_walk_counts_clamped_neighbours_again() -> None:
    graph = deepspec.color_affinity(np.zeros((3, 3, 3), np.uint8), "random_walk").toarray()
    assert graph[0].tolist() == [4, 2, 0, 2, 1, 0, 0, 0, 0]
    assert graph[4].tolist() == [1] * 9
    assert graph.sum(1).tolist() == [9] * 9


def test_knn_counts_both_directions() -> None:
    """Fewer pixels than neighbours: both searches find all pixels from either side."""
    np.testing.assert_array_equal(deepspec.color_affinity(np.zeros((2, 3, 3), np.uint8)).toarray(), 4)


def test_uint8_and_float_images_are_the_same_image() -> None:
    image = np.random.default_rng(2).integers(0, 256, (12, 13, 3), dtype=np.uint8)
    for method in METHODS:
        ours, floats = (deepspec.color_affinity(i, method).toarray() for i in (image, image / 255))
        np.testing.assert_allclose(ours, floats, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_result_is_canonical_csr(method: str) -> None:
    image = checks.random_image(np.random.default_rng(3), (14, 15))
    graph = deepspec.color_affinity(image, method)
    assert isinstance(graph, scipy.sparse.csr_array)
    assert graph.shape == (210, 210)
    assert graph.data.min() > 0
    assert (abs(graph - graph.T)).nnz == 0
    for row in range(210):
        columns = graph.indices[graph.indptr[row] : graph.indptr[row + 1]]
        assert (np.diff(columns) > 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threads", [2, 4, 7])
def test_threads_leave_no_trace(method: str, threads: int) -> None:
    image = np.random.default_rng(4).integers(0, 32, (37, 41, 3), dtype=np.uint8)
    one = deepspec.color_affinity(image, method, threads=1)
    many = deepspec.color_affinity(image, method, threads=threads)
    for field in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(one, field), getattr(many, field))


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        (np.zeros((4, 5), np.uint8), {}, r"image.*\(4, 5\)"),
        (np.zeros((4, 5, 1), np.uint8), {}, r"image.*\(4, 5, 1\)"),
        (np.zeros((4, 0, 3), np.uint8), {}, r"image.*\(4, 0, 3\)"),
        (np.full((4, 5, 3), np.nan), {}, r"image"),
        (np.full((4, 5, 3), 2.0), {}, r"image.*\[0, 1\]"),
        (np.zeros((4, 5, 3), np.int32), {}, r"image.*int32"),
        (np.zeros((4, 5, 3), np.uint8), {"method": "nearest"}, r"nearest"),
        (np.zeros((4, 5, 3), np.uint8), {"threads": 0}, r"threads.*0"),
    ],
)
def test_bad_input_is_named(image: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deepspec.color_affinity(image, **options)


def test_the_oracle_converts_to_hsv_as_the_standard_library_does() -> None:
    image = np.random.default_rng(5).integers(0, 256, (1, 50, 3), dtype=np.uint8)
    image[0, :3] = [[0, 0, 0], [200, 200, 200], [255, 0, 255]]
    for point, rgb in zip(oracle.hsv_points(image), image[0] / 255, strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
        expected = [np.cos(2 * np.pi * hue), np.sin(2 * np.pi * hue), saturation, value]
        np.testing.assert_allclose(point[:4], expected, atol=1e-12)

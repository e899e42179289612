from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import two_colors
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from deepspec import _core, images
from deepspec.classical import Classical
from deepspec.decomposition import decompose
from deepspec.features import border_cells, extract
from deepspec.regions import segment_object


def cosines(array: np.ndarray) -> np.ndarray:
    flat = array.reshape(-1, array.shape[2]).astype(np.float64)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    return flat @ flat.T


def test_classical_has_cells_of_8_pixels_and_unit_vectors() -> None:
    image = two_colors(75, 93, np.s_[20:50, 30:70])
    found = extract(image, "classical")
    assert found.cell == (8, 8)
    assert found.array.shape[:2] == (9, 11)
    assert found.array.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found.array, axis=2), 1, atol=1e-5)
    np.testing.assert_array_equal(found.array, extract(image, "classical").array)


def test_classical_cosines_tell_the_two_colors_apart() -> None:
    inner = np.s_[24:56, 24:56]
    similar = cosines(extract(two_colors(80, 80, inner), "classical").array)
    side = np.zeros((10, 10), bool)
    side[3:7, 3:7] = True
    middle, outside = np.zeros_like(side), np.ones_like(side)
    middle[4:6, 4:6] = True
    outside[2:8, 2:8] = False
    middle, outside = middle.ravel(), outside.ravel()
    assert similar[np.ix_(middle, middle)].min() > 0.9
    assert similar[np.ix_(outside, outside)].min() > 0.7
    assert similar[np.ix_(middle, outside)].max() < 0.3


@settings(max_examples=30)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 100))
def test_classical_cosines_follow_flips_and_transposition(rows: int, columns: int, seed: int) -> None:
    # Up to 8 x 8 cells each is a landmark of its own and the kernel is exact.
    image = np.random.default_rng(seed).integers(0, 256, (8 * rows, 8 * columns, 3), np.uint8)
    cells = np.arange(rows * columns).reshape(rows, columns)
    similar = cosines(extract(image, "classical").array)
    for turned, order in (
        (image[::-1], cells[::-1]),
        (image[:, ::-1], cells[:, ::-1]),
        (image.transpose(1, 0, 2), cells.T),
    ):
        order = order.ravel()
        np.testing.assert_allclose(
            cosines(extract(turned, "classical").array), similar[np.ix_(order, order)], atol=2e-3
        )


@pytest.mark.parametrize("value", [0, 128, 255])
def test_classical_of_a_constant_image_has_equal_cells(value: int) -> None:
    found = extract(np.full((64, 72, 3), value, np.uint8), "classical").array
    np.testing.assert_allclose(cosines(found), 1, atol=1e-5)


def test_classical_of_a_gray_image_ignores_its_missing_hue() -> None:
    gray = np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8)
    lab_noise = extract(np.repeat(gray, 3, axis=2), "classical").array
    shifted = extract(images.load(gray), "classical").array
    np.testing.assert_array_equal(lab_noise, shifted)
    assert np.isfinite(lab_noise).all()


def test_classical_of_noise_is_nearly_that_of_no_noise() -> None:
    noise = np.random.default_rng(0).integers(127, 130, (120, 160, 3), np.uint8)
    similar = cosines(extract(noise, "classical").array)
    assert np.median(similar) > 0.9
    assert np.quantile(similar, 0.05) > 0.8


def test_the_center_prior_can_be_left_out_and_is_in_the_settings() -> None:
    """Of two equal discs, one in the middle and one beside it, the prior prefers the middle one."""
    y, x = np.mgrid[:160, :240]
    discs = [np.hypot(y - 80, x - column) < 32 for column in (120, 48)]
    image = np.where((discs[0] | discs[1])[..., None], np.uint8([200, 60, 40]), np.uint8([90, 110, 130]))
    similarities = []
    for center_prior in (True, False):
        features = Classical(center_prior=center_prior)(image)
        assert features.settings == {"features": "classical", "center_prior": center_prior}
        cells = cosines(features.array).reshape(20, 30, 20, 30)
        similarities.append(cells[10, 15, 10, 6])
    assert similarities[0] < similarities[1] - 0.1
    assert extract(image, "classical").settings == {"features": "classical", "center_prior": True}


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (2, 2, 3), (9, 6, 2), (12, 13, 3)])
def test_border_distances_equal_scipys(shape: tuple[int, int, int]) -> None:
    """The geodesic one by Dijkstra's algorithm; the barrier by growing the region below a level from the border."""
    grid = np.random.default_rng(2).integers(0, 6, shape).astype(np.float32)
    geodesic, barrier = _core.border_distances(grid)
    rows, columns, channels = shape
    border = border_cells(rows, columns)
    cells = np.arange(rows * columns).reshape(rows, columns)
    start = np.concatenate([cells[:, :-1].ravel(), cells[:-1].ravel()])
    end = np.concatenate([cells[:, 1:].ravel(), cells[1:].ravel()])
    flat = grid.reshape(-1, channels)
    tiny = 1e-9  # scipy takes 0 for no edge
    weights = np.linalg.norm(flat[start] - flat[end], axis=1).astype(np.float64) + tiny
    graph = sparse.csr_array((weights, (start, end)), shape=(rows * columns,) * 2)
    expected = csgraph.dijkstra(graph, directed=False, indices=np.flatnonzero(border), min_only=True)
    np.testing.assert_allclose(geodesic.ravel(), expected, atol=1e-5)
    total = np.zeros((rows, columns))
    for sign in (1, -1):
        for values in np.moveaxis(sign * grid, 2, 0):
            highest = np.full((rows, columns), np.inf)
            for level in np.unique(values)[::-1]:
                reached = ndimage.binary_propagation(border & (values <= level), mask=values <= level)
                highest[reached] = level
            total += highest - values
    np.testing.assert_allclose(barrier, total, atol=1e-5)


def test_classical_refuses_less_than_a_cell() -> None:
    assert extract(np.zeros((8, 15, 3), np.uint8), "classical").array.shape[:2] == (1, 1)
    with pytest.raises(ValueError, match="at least 8 x 8 pixels for classical features, got 7 x 100"):
        extract(np.zeros((7, 100, 3), np.uint8), "classical")


def test_classical_masks_beat_a_centred_ellipse_on_photographs(test_data: Path) -> None:
    """Every eighth image of ECSSD's part: an ellipse at the centre scores 0.39 on all."""
    scores = []
    for path in sorted((test_data / "ECSSD" / "images").glob("*.jpg"))[::8]:
        with Image.open(test_data / "ECSSD" / "ground_truth_mask" / f"{path.stem}.png") as file:
            truth = np.asarray(file.convert("L")) > 127
        mask = segment_object(decompose(path, "classical", k=2), foreground="border")
        scores.append((mask & truth).sum() / (mask | truth).sum())
    assert len(scores) == 25
    assert np.mean(scores) >= 0.5


def stripes(
    angle: float, color: tuple[int, int, int], size: tuple[int, int] = (60, 72), seed: int = 0
) -> np.ndarray:
    """Stripes of a colour and a darker one, 12 pixels wide in all, with noise; at 0° they stand upright."""
    y, x = np.mgrid[: size[0], : size[1]]
    angle = np.deg2rad(angle)
    share = 0.75 + 0.25 * np.cos(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / 12)
    image = share[..., None] * color + np.random.default_rng(seed).normal(scale=10, size=(*size, 3))
    return image.clip(0, 255).astype(np.uint8)


RED, BLUE = (220, 80, 60), (60, 90, 220)


def test_embedding_is_a_unit_vector_of_each_image_alone() -> None:
    images = [stripes(0, RED), stripes(90, BLUE, (8, 8)), stripes(45, RED, (31, 100))]
    found = Classical().embed(images)
    assert found.dtype == np.float32
    assert found.shape == (3, 69)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(Classical().embed(images[::-1]), found[::-1])
    np.testing.assert_array_equal(Classical().embed([images[1].copy()]), found[1:2])


def test_embedding_tells_colors_and_orientations_apart_but_not_noise_size_or_place() -> None:
    one, again, turned, other, gray = Classical().embed(
        [
            stripes(0, RED),
            stripes(0, RED, (80, 100), seed=1)[:, 5:],
            stripes(90, RED),
            stripes(0, BLUE),
            stripes(0, (128, 128, 128)),
        ]
    )
    assert one @ again > 0.98
    assert one @ turned < 0.85
    assert one @ other < 0.8
    assert one @ gray < 0.85
    assert turned @ other < 0.65


def test_embedding_of_upright_stripes_survives_a_flip_and_that_of_oblique_ones_does_not() -> None:
    for angle, least, most in ((0, 0.98, 1), (90, 0.98, 1), (45, 0, 0.9)):
        image = stripes(angle, RED)
        a, b = Classical().embed([image, image[:, ::-1]])
        assert least < a @ b <= most + 1e-5


def test_embedding_counts_the_middle_more_than_the_rim() -> None:
    framed = stripes(0, BLUE, (90, 90))
    framed[25:65, 25:65] = stripes(90, RED, (40, 40))
    inside, around, whole = Classical().embed([stripes(90, RED), stripes(0, BLUE), framed])
    (evenly,) = Classical().embed([framed], masks=[np.ones((90, 90), bool)])
    assert whole @ inside > evenly @ inside + 0.05
    assert whole @ around < evenly @ around - 0.05
    mask = np.zeros((90, 90), bool)
    mask[25:65, 25:65] = True
    by_mask, by_weights, beside = Classical().embed([framed] * 3, masks=[mask, mask * 0.5, ~mask])
    np.testing.assert_array_equal(by_mask, by_weights)
    assert by_mask @ inside > 0.98
    assert beside @ around > 0.98
    assert by_mask @ around < 0.7


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((7, 100, 3), np.uint8), "at least 8 x 8 pixels for classical features, got 7 x 100"),
        (np.zeros((9, 9), np.uint8), r"\(H, W, 3\) uint8, got uint8 of shape \(9, 9\)"),
        (np.zeros((9, 9, 3)), r"\(H, W, 3\) uint8, got float64"),
    ],
)
def test_embedding_refuses_images(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Classical().embed([stripes(0, RED), image])
    with pytest.raises(ValueError, match="at least one image, got none"):
        Classical().embed([])

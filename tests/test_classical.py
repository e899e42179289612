from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import two_colors
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepspec import images
from deepspec.decomposition import decompose
from deepspec.features import extract
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
    np.testing.assert_allclose(np.linalg.norm(found.array, axis=2), 1, atol=0.05)
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
@given(st.integers(1, 10), st.integers(1, 10), st.integers(0, 100))
def test_classical_cosines_follow_flips_and_transposition(rows: int, columns: int, seed: int) -> None:
    # Up to 10 x 10 cells each is a landmark of its own and the kernel is exact.
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
    assert np.mean(scores) >= 0.45

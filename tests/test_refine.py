from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from builders import decomposition, two_colors
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import deepspec
from deepspec.refine import REFINEMENTS, dense_crf, refine_labels, unary_from_labels


def noisy(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def random_unary(n_labels: int, image: np.ndarray, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 3, (n_labels, *image.shape[:2])).astype(np.float32)


# The mean field


@pytest.mark.parametrize("n_labels", [2, 3, 9, 21, 24, 33])
@pytest.mark.parametrize("steps", [0, 1, 4])
def test_crf_is_the_mean_field_on_the_lattice(n_labels: int, steps: int) -> None:
    image = noisy(7, 9) // 3
    unary = random_unary(n_labels, image)
    found = dense_crf(
        image,
        unary,
        bilateral_weight=4,
        bilateral_xy=5.3,
        bilateral_rgb=31.7,
        gaussian_weight=2,
        gaussian_xy=1.9,
        n_iterations=steps,
    )
    expected = oracle.dense_crf(image, unary, [(4, 5.3, 31.7), (2, 1.9, None)], steps)
    np.testing.assert_allclose(found, expected, atol=2e-5)


@given(st.sampled_from([(1, 1), (1, 70), (33, 2), (20, 31)]), st.integers(1, 5), st.integers(0, 9))
def test_crf_gives_probabilities_the_same_for_any_number_of_threads(
    shape: tuple[int, int], n_labels: int, seed: int
) -> None:
    image = noisy(*shape, seed)
    unary = random_unary(n_labels, image, seed)
    found = dense_crf(image, unary, threads=1)
    assert found.dtype == np.float32
    assert found.shape == unary.shape
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(found, dense_crf(image, unary, threads=3))


@given(st.permutations(range(4)), st.floats(-9, 9))
def test_labels_have_no_order_and_unaries_no_zero(order: list[int], shift: float) -> None:
    image = noisy(12, 15)
    unary = random_unary(4, image)
    found = dense_crf(image, unary)
    np.testing.assert_allclose(dense_crf(image, unary[order] + np.float32(shift)), found[order], atol=1e-3)


def test_any_layout_of_memory_will_do() -> None:
    image, unary = noisy(12, 15), random_unary(3, noisy(12, 15))
    found = dense_crf(image, unary)
    np.testing.assert_array_equal(found, dense_crf(np.asfortranarray(image), unary.astype(np.float64)))
    np.testing.assert_array_equal(found, dense_crf(np.stack([image] * 2)[0], np.asfortranarray(unary)))


def test_one_colour_leaves_position_alone() -> None:
    image = np.full((40, 50, 3), 90, np.uint8)
    labels = np.zeros((40, 50), int)
    labels[10:30, 15:35] = 1
    labels[2, 2] = 1
    found = dense_crf(image, unary_from_labels(labels, 2, 0.7), bilateral_weight=0)
    assert found[1, 20, 25] > 0.95
    assert found[1, 2, 2] < 0.2  # a pixel alone among others, of 0.7 before


def test_an_impossible_label_stays_impossible() -> None:
    image, unary = noisy(12, 15), random_unary(3, noisy(12, 15))
    unary[1] = np.inf
    unary[0, :, :5] = np.inf
    found = dense_crf(image, unary)
    assert found[1].max() < 1e-30
    assert found[0, :, :5].max() < 1e-30
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    two = dense_crf(image, unary[[0, 2]])
    np.testing.assert_allclose(two, found[[0, 2]], atol=1e-4)


NAN = np.full((2, 4, 5), np.nan, np.float32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image": np.zeros((4, 5, 4), np.uint8)}, r"\(H, W, 3\) uint8, got \(4, 5, 4\)"),
        ({"image": np.zeros((4, 5, 3))}, "uint8, got .* float64"),
        ({"image": np.zeros((0, 5, 3), np.uint8)}, r"got \(0, 5, 3\)"),
        ({"unary": np.zeros((2, 5, 4), np.float32)}, r"\(n_labels, 4, 5\) .* got \(2, 5, 4\)"),
        ({"unary": np.zeros((0, 4, 5), np.float32)}, r"got \(0, 4, 5\)"),
        ({"unary": np.zeros((4, 5), np.float32)}, r"got \(4, 5\)"),
        ({"unary": np.zeros((2, 4, 5), int)}, "floating point, got int64"),
        ({"unary": NAN}, "got NaN"),
        ({"unary": NAN * 0 - np.inf}, "NaN, -inf"),
        ({"unary": np.full((2, 4, 5), np.inf)}, "inf for all"),
        ({"bilateral_weight": -1}, "bilateral_weight must be finite and at least 0, got -1"),
        ({"gaussian_weight": np.nan}, "gaussian_weight must be .* got nan"),
        ({"bilateral_rgb": 0}, "bilateral_rgb must be finite and above 0, got 0"),
        ({"gaussian_xy": np.inf}, "gaussian_xy must be .* got inf"),
        ({"bilateral_rgb": 1e-4}, "standard deviations are too small"),
        ({"n_iterations": 2.5}, "n_iterations must be a whole number .* got 2.5"),
        ({"n_iterations": -1}, "got -1"),
        ({"threads": 0}, "threads must be .* got 0"),
    ],
)
def test_bad_arguments_are_named(changed: dict[str, Any], message: str) -> None:
    arguments = {
        "image": np.zeros((4, 5, 3), np.uint8),
        "unary": np.zeros((2, 4, 5), np.float32),
        **changed,
    }
    with pytest.raises(ValueError, match=message):
        dense_crf(**arguments)


@pytest.mark.parametrize("n_labels", [2, 21])
@pytest.mark.parametrize("confidence", [0.7, 0.99])
def test_crf_agrees_with_pydensecrf(test_data: Path, n_labels: int, confidence: float) -> None:
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    for path in sorted((test_data / "ECSSD" / "images").glob("*.jpg"))[::50]:
        image = np.array(Image.open(path).convert("RGB"))
        height, width = image.shape[:2]
        rng = np.random.default_rng(0)
        blocks = rng.integers(0, n_labels, (height // 40 + 1, width // 40 + 1))
        labels = np.kron(blocks, np.ones((40, 40), int))[:height, :width]
        unary = unary_from_labels(labels, n_labels, confidence)
        crf = densecrf.DenseCRF2D(width, height, n_labels)
        crf.setUnaryEnergy(unary.reshape(n_labels, -1))
        crf.addPairwiseGaussian(sxy=3, compat=3)
        crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
        expected = np.array(crf.inference(5)).reshape(unary.shape)
        found = dense_crf(image, unary)
        assert np.mean(found.argmax(axis=0) == expected.argmax(axis=0)) >= 0.998
        assert np.abs(found - expected).mean() <= 2e-3


@pytest.mark.slow
def test_crf_of_48_megapixels() -> None:
    y, x = np.mgrid[:6000, :8000]
    image = np.stack([x * 255 // 8000, y * 255 // 6000, (x // 500 + y // 500) % 2 * 200], axis=2).astype(
        np.uint8
    )
    labels = (np.hypot(x - 4000, y - 3000) < 2000).astype(np.int8)
    found = dense_crf(image, unary_from_labels(labels, 2))
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-5)
    assert found[1, 3000, 4000] > 0.9
    assert found[0, 100, 100] > 0.9


# Unaries


def test_unaries_of_labels() -> None:
    unary = unary_from_labels([[0, 1], [2, -1]], 3, confidence=0.8)
    probabilities = [[[0.8, 0.1], [0.1, 1 / 3]], [[0.1, 0.8], [0.1, 1 / 3]], [[0.1, 0.1], [0.8, 1 / 3]]]
    assert unary.dtype == np.float32
    np.testing.assert_allclose(np.exp(-unary), probabilities, rtol=1e-6)
    mask = np.array([[True, False]])
    np.testing.assert_allclose(
        np.exp(-unary_from_labels(mask, 2)), [[[0.01, 0.99]], [[0.99, 0.01]]], rtol=1e-5
    )
    np.testing.assert_array_equal(unary_from_labels([[0, -1]], 1), np.zeros((1, 1, 2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], 2), r"\(H, W\) integers or bool, got \(2,\)"),
        (([[0.5]], 2), "got .* float64"),
        (([[2]], 2), "from -1 to 1, got 2 to 2"),
        (([[-2]], 2), "got -2"),
        (([[0]], 0), "n_labels must be a whole number of at least 1, got 0"),
        (([[0]], 2, 1.0), "confidence must be between 0 and 1, got 1.0"),
    ],
)
def test_bad_labels_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unary_from_labels(*arguments)


# Outlines


@pytest.mark.parametrize("method", REFINEMENTS)
def test_labels_follow_the_image(method: str) -> None:
    image = two_colors(96, 112, np.s_[30:66, 37:75])
    truth = np.zeros((96, 112), int)
    truth[30:66, 37:75] = 1
    coarse = np.zeros_like(truth)
    coarse[24:64, 40:80] = 1  # whole cells of 8 pixels
    refined = refine_labels(image, coarse, method)
    assert refined.dtype == np.int32
    assert np.mean(refined != truth) < (0.005 if method != "guided" else 0.5 * np.mean(coarse != truth))
    three = refine_labels(image, np.where(coarse == 1, 2, coarse), method)
    assert set(np.unique(three)) == {0, 2}
    assert np.mean((three == 2) != truth) < 0.01 + np.mean(refined != truth)


@pytest.mark.parametrize("method", REFINEMENTS)
def test_one_label_stays_one(method: str) -> None:
    np.testing.assert_array_equal(refine_labels(noisy(9, 8), np.zeros((9, 8), int), method), 0)


@pytest.mark.parametrize(
    ("method", "module", "extra"),
    [("pydensecrf", "pydensecrf.densecrf", "crf"), ("guided", "cv2.ximgproc", "guided")],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, method: str, module: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"deepspec\[{extra}\]"):
        refine_labels(noisy(9, 8), np.eye(9, 8, dtype=int), method)


def test_object_is_refined_unless_told_otherwise() -> None:
    image = two_colors(91, 101, np.s_[27:66, 37:83])
    d = deepspec.decompose(image, "classical")
    truth = np.zeros((91, 101), bool)
    truth[27:66, 37:83] = True
    found = deepspec.find_object(d)
    np.testing.assert_array_equal(found.coarse, deepspec.segment_object(d, refine=None))
    np.testing.assert_array_equal(found.mask, deepspec.segment_object(d))
    assert not found.lost
    assert np.mean(found.mask != truth) < 0.01 < np.mean(found.coarse != truth)
    labels = deepspec.segment_regions(d, n_segments=2, refine="crf")
    assert np.mean((labels == 1) != truth) < 0.01


def test_a_lost_object_is_reported() -> None:
    y1 = np.full((9, 11), -1.0)
    y1[4, 5] = 1
    d = decomposition(y1)  # one cell of a black image: nothing holds it
    found = deepspec.find_object(d)
    assert found.lost
    assert found.kept < 0.25
    assert found.coarse.sum() == 64
    with pytest.warns(
        deepspec.ObjectLostWarning, match=r"refine='crf' kept \d+% of the object's coarse mask"
    ):
        deepspec.segment_object(d)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        deepspec.segment_object(d, refine=None)

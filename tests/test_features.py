from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from deepspec.classical import Classical
from deepspec.features import Features, embed_all, extract

IMAGE = np.zeros((35, 43, 3), np.uint8)


@pytest.mark.parametrize(
    ("array", "cell", "message"),
    [
        (np.zeros((3, 4)), (8, 8), r"must be \(h, w, C\) without an empty axis, got shape \(3, 4\)"),
        (np.zeros((3, 0, 4)), (8, 8), r"got shape \(3, 0, 4\)"),
        (np.zeros((3, 4, 2), int), (8, 8), "floating, got int64"),
        (np.full((1, 2, 2), np.nan), (8, 8), "finite, got 4 NaN"),
        (np.zeros((3, 4, 2)), (0, 8), r"two positive numbers of pixels .*got \(0, 8\)"),
        (np.zeros((3, 4, 2)), (8, np.inf), "inf"),
        (np.zeros((3, 4, 2)), (8,), r"got \(8,\)"),
    ],
)
def test_features_refuse(array: np.ndarray, cell: tuple[float, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Features(array, cell)


def test_bare_arrays_and_callables_cover_the_image_evenly() -> None:
    array = np.ones((5, 4, 2), np.float32)
    for source in (array, lambda image: array):
        found = extract(IMAGE, source)
        assert found.array is array
        assert found.cell == (7, 43 / 4)


def test_callable_sees_the_image_and_may_say_what_it_covers() -> None:
    seen = []

    def backbone(image: np.ndarray) -> Features:
        seen.append(image)
        return Features(np.ones((4, 5, 3)), (8, 8))

    assert extract(IMAGE, backbone).cell == (8, 8)
    assert seen[0] is IMAGE
    assert extract(IMAGE, Features(np.ones((4, 5, 3)), (8, 8))).cell == (8, 8)


def test_features_beyond_the_image_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"within the image's 35 x 43 pixels, but 5 x 5 cells of 8 x 8 cover 40 x 40"
    ):
        extract(IMAGE, Features(np.ones((5, 5, 3)), (8, 8)))
    with pytest.raises(ValueError, match=r"got shape \(3, 4\)"):
        extract(IMAGE, lambda image: np.ones((3, 4)))


class Embedder:
    """A source that embeds pictures itself, and keeps what it was given."""

    def __init__(self, found: Any = ((1.0, 2.0),)) -> None:
        self.found = found
        self.given: Sequence[np.ndarray] = ()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        raise AssertionError("its cells are not wanted")

    def embed(self, images: Sequence[np.ndarray]) -> Any:
        self.given = images
        return self.found


def test_embeddings_are_the_sources_own_where_it_has_them() -> None:
    for masks in (None, [np.ones((35, 43), bool)]):
        source = Embedder()
        found = embed_all([IMAGE], source, masks)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [[1, 2]])
        assert source.given[0] is IMAGE


def test_classical_embeddings_are_weighed_by_masks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    mask = np.zeros((40, 30), bool)
    mask[5:12] = True
    whole, part = Classical().embed([image]), Classical().embed([image], masks=[mask])
    assert np.abs(whole - part).max() > 0.01
    for source in ("classical", Classical()):
        np.testing.assert_array_equal(embed_all([image], source), whole)
        np.testing.assert_array_equal(embed_all([image], source, [mask]), part)


def test_other_embeddings_are_means_over_the_cells() -> None:
    array = np.array([[[1, 10], [2, 20]], [[3, 30], [4, 50]]], np.float32)
    image = np.zeros((17, 18, 3), np.uint8)

    def source(image: np.ndarray) -> Features:
        return Features(array, (8, 8))

    np.testing.assert_allclose(embed_all([image, image], source), [[2.5, 27.5]] * 2)
    # 3 pixels in the first cell; in the last one that on its corner and the strips beyond it.
    mask = np.zeros((17, 18))
    mask[0, :3] = 0.5
    mask[15, 15] = mask[16, 17] = 1
    mask[7, 17] = 0.5
    np.testing.assert_allclose(
        embed_all([image], source, [mask]),
        [[(1.5 * 1 + 0.5 * 2 + 2 * 4) / 4, (1.5 * 10 + 0.5 * 20 + 2 * 50) / 4]],
        rtol=1e-6,
    )
    # A bare array covers the picture evenly: cells of 8.5 x 9 pixels.
    only = np.zeros((17, 18), bool)
    only[9, 8] = True
    np.testing.assert_allclose(embed_all([image], lambda image: array, [only]), [[3, 30]])


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([], "a mask for each of 1 pictures, got 0"),
        ([np.ones((43, 35))], r"mask must be \(35, 43\) bool or floating.* got float64 of shape \(43, 35\)"),
        ([np.ones((35, 43), int)], "bool or floating, as its picture is, got int64"),
        ([np.zeros((35, 43), bool)], "not 0 everywhere, got values from False to False"),
        ([np.full((35, 43), -1.0)], "got values from -1.0 to -1.0"),
        ([np.full((35, 43), np.nan)], "finite"),
    ],
)
def test_embedding_refuses_masks(masks: list[np.ndarray], message: str) -> None:
    for source in ("classical", lambda image: np.ones((2, 2, 3)), Embedder()):
        with pytest.raises(ValueError, match=message):
            embed_all([IMAGE], source, masks)


def test_embedding_refuses_sources_and_what_they_give() -> None:
    with pytest.raises(ValueError, match="a name or a callable to embed with, got ndarray"):
        embed_all([IMAGE], np.ones((2, 2, 3)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one picture, got none"):
        embed_all([], "classical")
    for found, message in (
        ([[1.0], [2.0]], r"1 vectors of one length, got 2 of shapes \[\(1,\)\]"),
        (np.ones((1, 2, 2)), r"got 1 of shapes \[\(2, 2\)\]"),
        ([[1.0, np.nan]], "finite, got 1 that are not"),
    ):
        with pytest.raises(ValueError, match=message):
            embed_all([IMAGE], Embedder(found))
    with pytest.raises(ValueError, match=r"2 vectors of one length, got 2 of shapes \[\(35,\), \(36,\)\]"):
        embed_all([IMAGE, np.zeros((36, 43, 3), np.uint8)], lambda image: np.ones((2, 2, len(image))))

from __future__ import annotations

import numpy as np
import pytest

from deepspec.features import Features, extract

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

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import two_colors
from PIL import Image

import deepspec
from deepspec import Features, matte

INNER = np.s_[12:36, 16:44]
IMAGE = two_colors(48, 56, INNER)


def cells(image: np.ndarray) -> Features:
    """Mean colours of cells of 4 pixels, none of them along the same direction."""
    rows, columns = (side // 4 for side in image.shape[:2])
    means = image[: 4 * rows, : 4 * columns].reshape(rows, 4, columns, 4, 3).mean(axis=(1, 3))
    return Features(means / 127.5 - 1, (4, 4), {"features": "mean colours"})


def test_layers_sum_to_one_and_the_object_is_in_front() -> None:
    found = matte(IMAGE, cells, n_layers=2)
    assert found.alphas.shape == (2, 48, 56)
    assert found.alphas.dtype == np.float32
    assert found.alphas.min() >= 0
    np.testing.assert_allclose(found.alphas.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(found.image, IMAGE)
    truth = np.zeros((48, 56))
    truth[INNER] = 1
    assert np.abs(found.alpha - truth).mean() < 0.1
    assert len(found.front) == 1
    # In white there is nothing blue left beside the object.
    white = found.composite("white")
    assert white[:6].mean() > 245
    assert np.abs(white[INNER].astype(int) - IMAGE[INNER]).mean() < 16


def test_settings_say_how_layers_were_made() -> None:
    found = matte(IMAGE, cells, n_layers=3, foreground=(2, 0), seed=4)
    assert found.front == (0, 2)
    assert found.settings == {
        "features": "mean colours",
        "n_layers": 3,
        "n_eigenvectors": 3,
        "color_weight": 10.0,
        "affinity": "patch",
        "layering": "kmeans",
        "max_size": 1024,
        "tol": 0.001,
        "seed": 4,
        "foreground": [0, 2],
        "deepspec": deepspec.__version__,
    }
    assert matte(IMAGE, cells, n_layers=3).settings["foreground"] == "border"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"n_layers": 1}, 2),
        ({"n_layers": 2, "layering": "sparse"}, 8),
        ({"n_layers": 2, "n_eigenvectors": 3}, 3),
        ({"trimap": np.repeat(np.uint8([0, 128, 255]), [8, 32, 16])[None].repeat(48, 0)}, 50),
    ],
)
def test_how_many_eigenvectors_there_are(options: dict[str, Any], expected: int) -> None:
    assert matte(IMAGE, color_weight=math.inf, **options).settings["n_eigenvectors"] == expected
    # No more than there are pixels.
    if "trimap" in options:
        small = matte(IMAGE[:2, :3], trimap=np.uint8([[0, 0, 0], [9, 9, 255]]))
        assert small.settings["n_eigenvectors"] == 6


def test_colors_alone_need_no_features() -> None:
    def none(image: np.ndarray) -> Features:
        raise AssertionError("features were asked for")

    found = matte(IMAGE, none, n_layers=2, color_weight=math.inf)
    np.testing.assert_allclose(found.alphas.sum(axis=0), 1, atol=1e-5)
    assert found.settings["features"] == "none"
    assert found.settings["color_weight"] == "inf"
    assert not {"affinity", "max_size"} & set(found.settings)


def test_large_images_are_reduced_for_the_features_alone() -> None:
    seen = []

    def looking(image: np.ndarray) -> Features:
        seen.append(image.shape)
        return cells(image)

    found = matte(IMAGE, looking, n_layers=2, max_size=28)
    assert seen == [(24, 28, 3)]
    assert found.alphas.shape == (2, 48, 56)
    matte(IMAGE, looking, n_layers=2, max_size=None)
    assert seen[1] == (48, 56, 3)
    # The cells are those of the whole image all the same.
    whole = Features(cells(seen_small := np.asarray(Image.fromarray(IMAGE).resize((28, 24)))).array, (8, 8))
    assert seen_small.shape == (24, 28, 3)
    ready = matte(IMAGE, whole, n_layers=2)
    truth = np.zeros((48, 56))
    truth[INNER] = 1
    for layers in (found, ready):
        assert np.abs(layers.alpha - truth).mean() < 0.1


@pytest.mark.parametrize("kind", ["trimap", "scribbles"])
def test_what_is_known_decides(kind: str) -> None:
    """The left half of the object is said to be behind."""
    said = np.full((48, 56), 128, np.uint8)
    said[:4] = said[-4:] = said[:, :4] = said[:, -4:] = 0
    said[18:30, 22:38] = 255
    known = (
        said if kind == "trimap" else np.dstack([said] * 3 + [np.where(said == 128, 0, 255).astype(np.uint8)])
    )
    found = matte(IMAGE, cells, **{kind: known})
    assert found.alphas.shape == (2, 48, 56)
    assert found.front == (0,)
    np.testing.assert_array_equal(found.alpha, found.alphas[0])
    np.testing.assert_allclose(found.alphas.sum(axis=0), 1, atol=1e-6)
    assert (found.alpha[said == 255] > 0.95).all()
    assert (found.alpha[said == 0] < 0.05).all()
    truth = np.zeros((48, 56))
    truth[INNER] = 1
    assert np.abs(found.alpha - truth).mean() < 0.1
    assert found.settings["guide"] == kind
    assert "n_layers" not in found.settings
    # Colours alone, unless they are weighed against features.
    assert (found.settings["features"], found.settings["color_weight"]) == ("none", "inf")
    assert found.settings["tol"] == 0.01
    weighed = matte(IMAGE, cells, **{kind: known}, color_weight=10)
    assert (weighed.settings["features"], weighed.settings["color_weight"]) == ("mean colours", 10.0)
    assert np.abs(weighed.alpha - truth).mean() < 0.1


def test_any_image_will_do(tmp_path: Path) -> None:
    gray_alpha = np.dstack([IMAGE[..., 0], np.full((48, 56), 200, np.uint8)])
    Image.fromarray(gray_alpha).save(tmp_path / "a.png")
    found = matte(tmp_path / "a.png", "classical", n_layers=2)
    assert found.image.shape == (48, 56, 3)
    for size in ((1, 400), (3, 3)):
        picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        found = matte(picture, n_layers=2, color_weight=math.inf)
        np.testing.assert_allclose(found.alphas.sum(axis=0), 1, atol=1e-5)
        assert np.abs(found.composite(found.background).astype(int) - picture).max() <= 1


def test_what_does_not_fit_is_found_on_a_smaller_copy() -> None:
    image = two_colors(300, 320, np.s_[80:200, 90:250])
    told: list[str] = []
    found = matte(
        image,
        n_layers=2,
        color_weight=math.inf,
        max_memory=6.6e7,
        progress=lambda stage, share: told.append(stage),
    )
    height, width = found.settings["solved_at"]
    assert 64 <= height < 300
    assert 64 <= width < 320
    stages = [stage for stage in dict.fromkeys(told) if stage != "eigenvectors"]
    assert stages == ["graph", "polish", "layers"]
    truth = np.zeros((300, 320))
    truth[80:200, 90:250] = 1
    assert np.abs(found.alpha - truth).mean() < 0.02
    assert "solved_at" not in matte(image, n_layers=2, color_weight=math.inf).settings
    for max_memory in (1e3, 1e7):
        with pytest.raises(MemoryError, match=r"of 320 x 300 pixels need .* MB of memory"):
            matte(image, n_layers=2, color_weight=math.inf, max_memory=max_memory)


def test_progress_is_told_and_can_cancel() -> None:
    told: list[tuple[str, float]] = []
    matte(IMAGE, cells, n_layers=2, progress=lambda stage, share: told.append((stage, share)))
    stages = list(dict.fromkeys(stage for stage, _ in told))
    assert stages[0] == "features"
    assert stages[-1] == "layers"
    assert all(0 <= share <= 1 for _, share in told)

    def cancel(stage: str, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        matte(IMAGE, cells, progress=cancel)


def test_bad_calls_are_refused_before_the_image_is_read() -> None:
    for options, message in (
        ({"n_layers": 0}, "n_layers must be a whole number of at least 1, got 0"),
        ({"n_eigenvectors": 1}, "n_eigenvectors must be a whole number of at least 2, got 1"),
        ({"color_weight": -1}, "color_weight must be a number from 0 to inf, got -1"),
        ({"color_weight": math.nan}, "color_weight must be a number from 0 to inf, got nan"),
        ({"affinity": "relu"}, "affinity must be one of 'patch', 'patch4', 'sampled', got 'relu'"),
        ({"layering": "hard"}, r"layering must be one of .*, got 'hard'"),
        ({"foreground": "front"}, "must be one of 'border', got 'front'"),
        ({"foreground": 5}, "foreground, counted from 0, must be a whole number from 0 to 4, got 5"),
        ({"foreground": []}, "foreground must name at least one layer, got none"),
        ({"foreground": [1], "trimap": "t.png"}, "foreground must not be given with trimap"),
        ({"trimap": "t.png", "scribbles": "s.png"}, "trimap and scribbles exclude each other"),
        ({"max_size": 0}, "max_size, where not None, must be a whole number of at least 1, got 0"),
        ({"max_memory": 0}, "max_memory must be a number of bytes above 0, got 0"),
        ({"max_memory": "4G"}, "max_memory must be a number of bytes above 0, got '4G'"),
        ({"tol": 0}, "tol must be a number between 0 and 1, got 0"),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            matte("missing.png", "classical", **options)


def test_images_that_are_too_small_are_told() -> None:
    tiny = IMAGE[:2, :2]
    with pytest.raises(ValueError, match="n_layers must be at most the image's 4 pixels, got 5"):
        matte(tiny, "classical")
    with pytest.raises(ValueError, match="n_eigenvectors must be at most the image's 4 pixels, got 5"):
        matte(tiny, "classical", n_layers=2, n_eigenvectors=5)
    with pytest.raises(ValueError, match="image must be at least 8 x 8 pixels"):
        matte(IMAGE[:5], "classical", n_layers=2)
    with pytest.raises(ValueError, match="trimap must"):
        matte(IMAGE, cells, trimap=np.zeros((3, 3), np.uint8))

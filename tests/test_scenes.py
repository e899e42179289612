from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scenes import N_CLASSES, N_SCENES, NOISE, SIZE, scene, write_scenes
from scipy import ndimage

Scenes = list[tuple[np.ndarray, np.ndarray]]


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return [scene(number) for number in range(N_SCENES)]


def objects(labels: np.ndarray) -> list[np.ndarray]:
    parts, n = ndimage.label(labels > 0)
    return [parts == part for part in range(1, n + 1)]


def test_scenes_are_the_same_each_time_and_all_different(scenes: Scenes) -> None:
    for number in (0, 7, 199):
        for found, expected in zip(scene(number), scenes[number], strict=True):
            np.testing.assert_array_equal(found, expected)
    assert len({image.tobytes() for image, _ in scenes}) == N_SCENES == 200


def test_scenes_hold_one_to_three_objects_of_five_classes_apart_from_the_border(scenes: Scenes) -> None:
    counts: Counter[int] = Counter()
    classes: Counter[int] = Counter()
    for image, labels in scenes:
        assert image.shape == (*SIZE, 3)
        assert labels.shape == SIZE
        assert image.dtype == labels.dtype == np.uint8
        assert not np.concatenate([labels[:16].ravel(), labels[-16:].ravel()]).any()
        assert not np.concatenate([labels[:, :16].ravel(), labels[:, -16:].ravel()]).any()
        found = objects(labels)
        counts[len(found)] += 1
        for mask in found:
            (label,) = np.unique(labels[mask])
            classes[int(label)] += 1
            height, width = (np.ptp(index) + 1 for index in np.nonzero(mask))
            assert 55 <= height <= 85
            assert abs(height - width) <= 1
            # A disc fills π/4 of its box.
            assert min(abs(mask.sum() / (height * width) - share) for share in (np.pi / 4, 1)) < 0.02
    assert sorted(counts) == [1, 2, 3]
    assert min(counts.values()) >= 50
    assert sorted(classes) == list(range(1, N_CLASSES + 1))
    assert min(classes.values()) >= 60


def test_noise_lies_over_ground_and_objects(scenes: Scenes) -> None:
    """Immerkær's estimate (CVIU 1996): this difference of differences leaves little of what is smooth."""
    kernel = np.outer([1, -2, 1], [1, -2, 1])
    for image, labels in scenes[:20]:
        left = ndimage.convolve(image[..., 1].astype(float), kernel) / 6
        ground = ndimage.binary_erosion(labels == 0, iterations=2)
        assert left[ground].std() == pytest.approx(NOISE, rel=0.05)
        # Texture adds to it, but for the broad bands; what is clipped at 255 loses some.
        inside = ndimage.binary_erosion(labels > 0, iterations=2)
        assert left[inside].std() > 0.9 * NOISE
    assert NOISE >= 9


def test_no_two_classes_nor_the_ground_share_their_mean_color(scenes: Scenes) -> None:
    colors: list[list[np.ndarray]] = [[] for _ in range(N_CLASSES + 1)]
    for image, labels in scenes:
        for label in np.unique(labels):
            colors[label].append(image[labels == label].mean(axis=0))
    means = np.array([np.mean(color, axis=0) for color in colors])
    apart = np.linalg.norm(means[:, None] - means, axis=2)[np.triu_indices(N_CLASSES + 1, 1)]
    assert apart.min() > 50
    # A class is not one colour: it is lit and tinted differently each time.
    assert min(np.std(color, axis=0).max() for color in colors[1:]) > 8


def test_written_scenes_are_read_back(tmp_path: Path) -> None:
    write_scenes(tmp_path, 3)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")) == [
        f"{kind}/{number:03}.png" for kind in ("images", "labels") for number in range(3)
    ]
    for number in range(3):
        for kind, expected in zip(("images", "labels"), scene(number), strict=True):
            with Image.open(tmp_path / kind / f"{number:03}.png") as file:
                np.testing.assert_array_equal(np.asarray(file), expected)

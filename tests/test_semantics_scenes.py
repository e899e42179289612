"""The whole way on scenes whose classes are known, with the built-in features; and how much memory it takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scenes
from PIL import Image

from deepspec.datasets import load_dataset
from deepspec.semantic_evaluation import LabelScore, evaluate_labels
from deepspec.semantics import segment_dataset

N_CLASSES = scenes.N_CLASSES
SETTINGS = {
    "k": 4,
    "color_weight": 4.0,
    "n_segments": 4,
    "pool": "segment",
    "n_classes": N_CLASSES,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All scenes, and their label maps in `out`."""
    top = tmp_path_factory.mktemp("scenes")
    scenes.write_scenes(top)
    found = segment_dataset(top / "images", top / "out", "classical", **SETTINGS)
    assert found.failed == {}
    return top


def score(folder: Path, changed: Callable[[int, np.ndarray], np.ndarray] | None = None) -> LabelScore:
    """Of the label maps as they are, or changed by a function of the scene's number and its map."""
    maps = folder / "out"
    if changed is not None:
        maps = folder / "changed"
        (maps / "labels").mkdir(parents=True, exist_ok=True)
        for path in sorted((folder / "out" / "labels").iterdir()):
            labels = changed(int(path.stem), np.asarray(Image.open(path)))
            Image.fromarray(labels).save(maps / "labels" / path.name, compress_level=1)
    return evaluate_labels(load_dataset("folder", folder), maps, n_clusters=N_CLASSES)


def is_right(found: LabelScore) -> bool:
    """8-pixel cells cannot reach more than 0.91."""
    least = min(iou for iou in found.class_iou.values() if iou is not None)
    return found.mean_iou >= 0.84 and least >= 0.8


def test_the_classes_of_scenes_are_found(folder: Path) -> None:
    found = score(folder)
    assert found.matching == "hungarian"
    assert is_right(found), found


@pytest.mark.parametrize("offset", [(8, 0), (-8, 0), (0, 8), (0, -8)])
def test_a_shift_by_one_cell_is_noticed(folder: Path, offset: tuple[int, int]) -> None:
    assert not is_right(score(folder, lambda number, labels: np.roll(labels, offset, axis=(0, 1))))


@pytest.mark.parametrize("pair", [(1, 2), (3, 5)])
def test_two_ids_swapped_in_half_of_the_scenes_are_noticed(folder: Path, pair: tuple[int, int]) -> None:
    ids = np.arange(N_CLASSES + 1, dtype=np.uint8)
    ids[list(pair)] = pair[::-1]
    assert not is_right(score(folder, lambda number, labels: ids[labels] if number % 2 else labels))
    # In all scenes it is another numbering of the same classes.
    assert is_right(score(folder, lambda number, labels: ids[labels]))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    """By the size of the segments' vectors, and 64 MB for what allocators keep."""
    scenes.write_scenes(tmp_path, 300)
    peaks = {}
    for n_images in (50, 300):
        program = _MEASURED.format(folder=str(tmp_path), n_images=n_images, settings=SETTINGS)
        printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        peaks[n_images] = int(printed.stdout)
    vectors = sum(
        path.stat().st_size for path in (tmp_path / "300" / ".stages").glob("vectors-*/vectors.f32")
    )
    assert 0 < vectors < 1e6
    assert peaks[300] - peaks[50] < vectors + 64e6, peaks


_MEASURED = """
import resource
from pathlib import Path
from deepspec.semantics import segment_dataset

folder = Path({folder!r})
images = sorted((folder / "images").iterdir())[:{n_images}]
segment_dataset(images, folder / "{n_images}", "classical", **{settings!r})
print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

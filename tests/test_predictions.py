from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("torchvision")

from PIL import Image
from segmentation_data import train_small, write_scenes

import deepspec
from deepspec import training
from deepspec.dataset_run import Segmentation


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and `run`, a network that learned from their label maps for two steps."""
    top = tmp_path_factory.mktemp("scenes")
    write_scenes(top)
    train_small(top, steps=2, batch_size=2)
    return top


def predict(scenes: Path, output: Path, panoptic: bool = False) -> Segmentation:
    return deepspec.predict_dataset(
        scenes / "images", output, scenes / "run", device="cpu", panoptic=panoptic, threads=1
    )


def test_label_maps_are_what_the_network_predicts(scenes: Path, tmp_path: Path) -> None:
    found = predict(scenes, tmp_path / "out", panoptic=True)
    assert (found.n_clusters, found.n_images, found.failed, found.done) == (2, 6, {}, {"labels": 6})
    network = training.load(scenes / "run", device="cpu")
    for path in (scenes / "images").rglob("*.png"):
        name = path.relative_to(scenes / "images")
        labels = np.asarray(Image.open(tmp_path / "out" / "labels" / name))
        np.testing.assert_array_equal(labels, network.predict(np.asarray(Image.open(path))))
        picture = np.asarray(Image.open(tmp_path / "out" / "panoptic" / name))
        np.testing.assert_array_equal(picture[..., 0], labels)
    assert predict(scenes, tmp_path / "out", panoptic=True).done == {}


def test_nothing_stays_of_the_classes_that_were_found_there(scenes: Path, tmp_path: Path) -> None:
    options = {"color_weight": 4, "k": 3, "n_segments": 3, "pool": "segment", "n_classes": 2}
    out = tmp_path / "out"
    deepspec.segment_dataset(scenes / "images", out, "classical", panoptic=True, **options)
    assert (out / "grid" / "1.png").exists()
    predict(scenes, out)
    left = [path for name in ("grid", "panoptic", "classes") for path in (out / name).rglob("*.*")]
    assert left == []
    assert not (out / "panoptic.json").exists()


def test_true_labels_are_not_overwritten(scenes: Path) -> None:
    before = (scenes / "labels" / "1.png").read_bytes()
    with pytest.raises(ValueError, match="labels holds files of no run of semantic: choose another folder"):
        predict(scenes, scenes)
    assert (scenes / "labels" / "1.png").read_bytes() == before

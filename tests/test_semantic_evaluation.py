from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike

from deepspec import images
from deepspec.datasets import Dataset, load_dataset
from deepspec.semantic_evaluation import SemanticEvaluation, Spread, evaluate_labels

CLASSES = ("background", "cat", "dog")
TRUTHS = {"a": [[0, 0, 1], [0, 255, 1]], "b": [[2, 2, 0], [2, 0, 0]]}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    """Two images of 2 x 3 pixels: 6 of background, 2 of cat, 3 of dog, 1 of void."""
    return write_dataset(tmp_path / "data", CLASSES)


def write_dataset(folder: Path, classes: tuple[str, ...] = ()) -> Dataset:
    for name, truth in TRUTHS.items():
        write_labels(folder / "images" / f"{name}.png", np.zeros_like(truth))
        write_labels(folder / "labels" / f"{name}.png", truth)
    if classes:
        (folder / "classes.txt").write_text("\n".join(classes))
    return load_dataset("folder", folder)


def write_labels(path: Path, labels: ArrayLike) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        images.write_labels(np.asarray(labels), file)


def test_clusters_are_matched_one_to_one_over_all_images(dataset: Dataset, tmp_path: Path) -> None:
    write_labels(tmp_path / "out" / "labels" / "a.png", [[1, 1, 0], [1, 2, 0]])
    write_labels(tmp_path / "out" / "labels" / "b.png", [[2, 2, 1], [1, 1, 2]])
    for folder in (tmp_path / "out", tmp_path / "out" / "labels"):
        score = evaluate_labels(dataset, folder)
        assert score.clusters == {"background": [1], "cat": [0], "dog": [2]}
        # Background: 5 pixels of 6 found, and 1 of dog; dog: 2 of 3 found, and 1 of background; void does not count.
        assert score.class_iou == {"background": 5 / 7, "cat": 1, "dog": 2 / 4}
        assert score.mean_iou == pytest.approx((5 / 7 + 1 + 1 / 2) / 3)
        assert score.accuracy == pytest.approx(9 / 11)
        assert (score.matching, score.n_clusters, score.n_images) == ("hungarian", 3, 2)


def test_more_clusters_than_classes_are_joined(dataset: Dataset, tmp_path: Path) -> None:
    write_labels(tmp_path / "out" / "a.png", [[0, 3, 1], [3, 3, 1]])
    write_labels(tmp_path / "out" / "b.png", [[2, 2, 0], [2, 0, 0]])
    score = evaluate_labels(dataset, tmp_path / "out", n_clusters=4)
    assert score.clusters == {"background": [0, 3], "cat": [1], "dog": [2]}
    assert (score.mean_iou, score.accuracy, score.matching, score.n_clusters) == (1, 1, "majority", 5)
    # One to one, cluster 3 is left over. To class 0, as it happens to be right.
    assert (
        evaluate_labels(dataset, tmp_path / "out", n_clusters=4, how="hungarian").clusters == score.clusters
    )
    # By what occurs there are four.
    assert evaluate_labels(dataset, tmp_path / "out").n_clusters == 4


def test_clusters_without_a_background_are_matched_one_to_one(dataset: Dataset, tmp_path: Path) -> None:
    write_labels(tmp_path / "out" / "a.png", [[3, 3, 1], [3, 1, 1]])
    write_labels(tmp_path / "out" / "b.png", [[2, 2, 3], [2, 3, 3]])
    score = evaluate_labels(dataset, tmp_path / "out", n_clusters=3)
    assert score.clusters == {"background": [3], "cat": [1], "dog": [2]}
    assert (score.matching, score.n_clusters, score.mean_iou) == ("hungarian", 3, 1)
    # Void does not make a cluster of 0, and a missing label map does not either.
    write_labels(tmp_path / "out" / "a.png", [[3, 3, 1], [3, 0, 1]])
    assert evaluate_labels(dataset, tmp_path / "out", n_clusters=3) == score
    (tmp_path / "out" / "b.png").unlink()
    score = evaluate_labels(dataset, tmp_path / "out", n_clusters=3)
    assert (score.matching, score.n_clusters) == ("hungarian", 3)


def test_missing_label_maps_are_background_and_listed(dataset: Dataset, tmp_path: Path) -> None:
    write_labels(tmp_path / "out" / "a.png", [[0, 0, 1], [0, 0, 1]])
    score = evaluate_labels(dataset, tmp_path / "out", n_clusters=2)
    assert [Path(name).name for name in score.missing] == ["b.png"]
    assert score.class_iou == {"background": 6 / 9, "cat": 1, "dog": 0}
    assert score.clusters == {"background": [0], "cat": [1], "dog": []}
    assert score.accuracy == pytest.approx(8 / 11)


def test_classes_without_names_are_those_that_occur(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    for name, truth in TRUTHS.items():
        write_labels(tmp_path / "out" / f"{name}.png", np.array([2, 0, 1])[np.array(truth) % 253 % 3])
    score = evaluate_labels(dataset, tmp_path / "out")
    assert score.class_iou == {"0": 1, "1": 1, "2": 1}
    assert score.clusters == {"0": [2], "1": [0], "2": [1]}
    # A class without a pixel has no score, and takes no part in the mean.
    score = evaluate_labels(dataset[1:], tmp_path / "out")
    assert score.class_iou == {"0": 1, "1": None, "2": 1}
    assert score.mean_iou == 1


def test_runs_have_a_mean_and_a_deviation(dataset: Dataset, tmp_path: Path) -> None:
    write_labels(tmp_path / "one" / "a.png", [[0, 0, 1], [0, 0, 1]])
    write_labels(tmp_path / "one" / "b.png", TRUTHS["b"])
    write_labels(tmp_path / "two" / "a.png", [[0, 0, 1], [0, 0, 1]])
    runs = {
        f"seed {i}": evaluate_labels(dataset[:2], tmp_path / name) for i, name in enumerate(("one", "two"))
    }
    found = SemanticEvaluation(dataset.name, runs, {"settings": {"k": 5}})
    mean = (1 + (6 / 9 + 1) / 3) / 2
    assert found.mean_iou.mean == pytest.approx(mean)
    assert found.mean_iou.deviation == pytest.approx(
        (1 - mean) * 2**0.5
    )  # of two: half their difference, by √2
    assert found.class_iou["dog"] == Spread(0.5, pytest.approx(0.5**0.5))
    assert [Path(name).name for name in found.missing] == ["b.png"]
    lines = found.to_markdown().splitlines()
    assert "| folder | images | clusters | matching | mIoU | accuracy |" in lines
    assert "| seed 0 | 2 | 3 | hungarian | 1.000 | 1.000 |" in lines
    assert "| mean ± deviation |  |  |  | 0.778 ± 0.314 | 0.864 ± 0.193 |" in lines
    assert any("(n − 1)" in line for line in lines)
    assert "| dog | 0.500 ± 0.707 | 2 | – |" in lines
    assert '- settings: {"k": 5}' in lines
    found.save(tmp_path)
    assert (tmp_path / "evaluation-semantic.md").read_text().splitlines() == lines
    content = json.loads((tmp_path / "evaluation-semantic.json").read_text())
    assert content["scores"]["mIoU"]["mean"] == pytest.approx(mean)
    assert content["runs"]["seed 1"]["clusters"] == {"background": [0], "cat": [1], "dog": []}
    assert content["settings"] == {"k": 5}


def test_a_single_run_has_no_deviation(dataset: Dataset, tmp_path: Path) -> None:
    write_labels(tmp_path / "out" / "b.png", TRUTHS["b"])
    found = SemanticEvaluation(dataset.name, {"label maps": evaluate_labels(dataset[1:], tmp_path / "out")})
    assert found.mean_iou == Spread(1, None)
    assert "±" not in found.to_markdown()
    assert "| cat | – | – |" in found.to_markdown()
    found.save(tmp_path)
    assert json.loads((tmp_path / "evaluation-semantic.json").read_text())["classes"]["cat"] is None


def test_errors_are_named(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no label maps in .*nothing"):
        evaluate_labels(dataset, tmp_path / "nothing")
    write_labels(tmp_path / "x" / "a.png", [[0, 4]])
    with pytest.raises(
        ValueError, match=r"x/a\.png, of .*a\.png: labels and truth must have one shape, got \(1, 2\)"
    ):
        evaluate_labels(dataset, tmp_path / "x")
    write_labels(tmp_path / "x" / "a.png", [[0, 0, 3], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"x/a\.png, of .*: labels must be from 0 to 2, got 0 to 3"):
        evaluate_labels(dataset, tmp_path / "x", n_clusters=2)
    with pytest.raises(ValueError, match=r"how must be one of 'auto'.* got 'best'"):
        evaluate_labels(dataset, tmp_path / "x", how="best")
    for n_clusters in (256, 2.0):
        with pytest.raises(
            ValueError, match=f"n_clusters must be a whole number from 0 to 255, got {n_clusters}"
        ):
            evaluate_labels(dataset, tmp_path / "x", n_clusters=n_clusters)
    (tmp_path / "x" / "a.png").write_bytes((tmp_path / "x" / "a.png").read_bytes()[:60])
    with pytest.raises(OSError, match=r"x/a\.png"):
        evaluate_labels(dataset, tmp_path / "x")
    write_labels(tmp_path / "x" / "sub" / "a.png", [[0]])
    with pytest.raises(ValueError, match="are label maps of one name"):
        evaluate_labels(dataset, tmp_path / "x")
    (tmp_path / "data" / "classes.txt").write_text("background\ncat")
    with pytest.raises(ValueError, match=r"truth must be from 0 to 1, got 0 to 2"):
        evaluate_labels(load_dataset("folder", tmp_path / "data"), tmp_path / "data")
    write_labels(tmp_path / "data" / "labels" / "b.png", np.full((2, 3), 255))
    with pytest.raises(ValueError, match="folder: no pixel of its 1 images has a known class"):
        evaluate_labels(load_dataset("folder", tmp_path / "data")[1:], tmp_path / "data")

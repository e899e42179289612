from __future__ import annotations

import json
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import mean_colors, two_colors
from numpy.typing import NDArray
from PIL import Image

from deepspec import images
from deepspec.cli import main
from deepspec.datasets import load_dataset
from deepspec.features import Features
from deepspec.segmenters import build
from deepspec.semantic_evaluation import evaluate_labels
from deepspec.semantic_protocol import evaluate_semantic

# A segment is its square and nothing around it.
OPTIONS: dict[str, Any] = {
    "features": mean_colors,
    "k": 2,
    "n_segments": 2,
    "erode": 0,
    "dilate": 0,
    "threads": 1,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_squares(tmp_path / "data", 4)


def write_squares(root: Path, n_images: int) -> Path:
    """A folder of images with a square each, class 1 where it is orange on blue and class 2 where blue on orange."""
    for number in range(n_images):
        top, left = 24 + 8 * (number // 2), 32 - 8 * (number // 2)
        inside = np.s_[top : top + 32, left : left + 32]
        colors, labels = two_colors(88, 96, inside), np.zeros((88, 96), np.uint8)
        if number % 2:
            colors = np.ascontiguousarray(colors[..., ::-1])
        labels[inside] = 1 + number % 2
        for folder in ("images", "labels"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors).save(root / "images" / f"{number}.png")
        with (root / "labels" / f"{number}.png").open("wb") as file:
            images.write_labels(labels, file)
    (root / "classes.txt").write_text("background\norange\nblue\n")
    return root


def test_seeds_are_scored_one_by_one(root: Path, tmp_path: Path) -> None:
    dataset = load_dataset("folder", root)
    stages: Counter[str] = Counter()

    def count(results: Any, stage: str, total: int) -> Any:
        stages[stage] += total
        return results

    found = evaluate_semantic(dataset, tmp_path / "out", seeds=[3, 5], n_classes=2, progress=count, **OPTIONS)
    assert list(found.runs) == ["seed 3", "seed 5"]
    assert found.runs["seed 5"].n_clusters == 3
    assert found.runs["seed 5"].matching == "hungarian"
    assert found.mean_iou.mean > 0.95
    assert stages["eigenvectors"] == 4  # once for both
    assert stages["labels"] == 8
    assert found.facts["settings"]["clusters"]["seed"] == [3, 5]
    assert found.failed == {}
    # What is left is the last run's.
    assert evaluate_labels(dataset, tmp_path / "out", n_clusters=2) == found.runs["seed 5"]


def test_classes_may_be_found_in_other_images_than_those_scored(root: Path, tmp_path: Path) -> None:
    dataset = load_dataset("folder", root)
    found = evaluate_semantic(
        dataset[2:], tmp_path / "out", fit_on=dataset[:2], seeds=[0], n_classes=2, **OPTIONS
    )
    assert found.n_images == 2
    assert found.missing == ()
    assert sorted(path.name for path in (tmp_path / "out" / "labels").iterdir()) == [
        f"{i}.png" for i in range(4)
    ]
    assert found.mean_iou.mean > 0.95
    # In images of one class no other can be found.
    found = evaluate_semantic(
        dataset[:2], tmp_path / "out", fit_on=dataset[:1], seeds=[0], n_classes=1, **OPTIONS
    )
    assert found.runs["seed 0"].class_iou["blue"] == 0


def test_a_label_map_of_an_earlier_run_does_not_count(root: Path, tmp_path: Path) -> None:
    def failing(image: NDArray[np.uint8]) -> Features:
        if image.shape == (88, 96, 3) and image[0, 0, 2] < image[0, 0, 0]:  # no crop
            raise ValueError("orange at the border")
        return mean_colors(image)

    failing.settings = mean_colors.settings | {"fails": True}
    dataset = load_dataset("folder", root)
    run = partial(evaluate_semantic, dataset, tmp_path / "out", seeds=[0])
    assert run(n_classes=2, **OPTIONS).missing == ()
    found = run(n_classes=1, **{**OPTIONS, "features": failing})
    assert [Path(name).name for name in found.missing] == ["1.png", "3.png"]
    assert [(Path(path).name, reason) for path, reason in found.failed.items()] == [
        ("1.png", "orange at the border"),
        ("3.png", "orange at the border"),
    ]
    assert found.runs["seed 0"].class_iou["blue"] == 0


def test_plain_clustering_has_no_background(root: Path, tmp_path: Path) -> None:
    dataset = load_dataset("folder", root)
    found = evaluate_semantic(
        dataset, tmp_path / "out", seeds=[0], n_classes=2, method="cluster-patch", **OPTIONS
    )
    (run,) = found.runs.values()
    assert (run.n_clusters, run.matching) == (3, "hungarian")
    assert sorted(label for labels in run.clusters.values() for label in labels) == [1, 2, 3]


def test_a_network_is_trained_for_what_determines_it(root: Path, tmp_path: Path) -> None:
    for module in ("torch", "timm", "torchvision", "matplotlib"):
        pytest.importorskip(module)
    import torch

    weights = tmp_path / "weights.pth"
    torch.save(build("fcn", "test_vit", 3).encoder.backbone.state_dict(), weights)
    small = {"architecture": "fcn", "backbone": "test_vit", "batch_size": 4, "crop": 32, "steps": 1}
    dataset = load_dataset("folder", root)

    def networks(**options: Any) -> set[str]:
        """Those there are after a run."""
        found = evaluate_semantic(
            dataset, tmp_path / "out", seeds=[0], n_classes=2, training={**small, **options}, **OPTIONS
        )
        assert (found.n_images, found.missing, found.failed) == (4, (), {})
        return {path.name for path in (tmp_path / "out" / "self-training").iterdir()}

    first = networks(weights=weights, device="cpu")
    assert len(first) == 1
    # How it is trained, and where, is not what is trained.
    device = "cpu" if torch.cuda.is_available() else None  # there float16 is trained with
    others = {"device": device, "workers": 2, "checkpoint_every": np.int64(1), "follow": lambda record: None}
    assert networks(weights=str(weights), **others) == first
    second = networks(weights=weights, device="cpu", steps=np.int64(2))
    assert len(second) == 2
    # An image that was changed is another one.
    pixels = images.load(root / "images" / "0.png")
    pixels[:40, :40] = pixels[0, 0]
    Image.fromarray(pixels).save(root / "images" / "0.png")
    third = networks(weights=weights, device="cpu")
    assert len(third) == 3
    # And so are other weights of the same name.
    torch.save(build("fcn", "test_vit", 3).encoder.backbone.state_dict(), weights)
    assert len(networks(weights=weights, device="cpu")) == 4


def test_what_cannot_be_scored_is_told_before_work(root: Path, tmp_path: Path) -> None:
    dataset = load_dataset("folder", root)
    for seeds in ([], [1, 1]):
        with pytest.raises(ValueError, match=r"seeds must be different whole numbers, at least one, got \["):
            evaluate_semantic(dataset, tmp_path / "out", seeds=seeds, **OPTIONS)
    for options, message in (
        ({"seeds": [0, -1]}, "seeds must be a whole number from 0 to 4294967295, got -1"),
        ({"seeds": [2**32]}, "seeds must be a whole number from 0 to 4294967295, got 4294967296"),
        ({"seeds": [True]}, "seeds must be a whole number from 0 to 4294967295, got True"),
        ({"how": "best"}, "how must be one of 'auto', 'hungarian', 'majority', got 'best'"),
        ({"until": "segments"}, "until='segments' leaves no label maps to score"),
        ({"fit_on": dataset[:0]}, "folder: there is no image"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_semantic(dataset, tmp_path / "out", **{**OPTIONS, **options})
    with pytest.raises(ValueError, match="folder: there is no image"):
        evaluate_semantic(dataset[:0], tmp_path / "out", **OPTIONS)
    with pytest.raises(FileNotFoundError, match=r"absent\.pth"):
        evaluate_semantic(dataset, tmp_path / "out", training={"weights": tmp_path / "absent.pth"}, **OPTIONS)
    (root / "labels").rename(root / "masks")
    with pytest.raises(ValueError, match="the dataset has no class labels"):
        evaluate_semantic(load_dataset("folder", root), tmp_path / "out", **OPTIONS)
    assert not (tmp_path / "out").exists()


def test_command_finds_classes_and_scores_them(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["evaluate", "semantic", "--dataset", "folder", "--root", str(root), "-o", str(tmp_path / "out")]
    call += ["--features", "classical", "--k", "4", "--n-segments", "3", "--dilate", "0", "--threads", "1"]
    assert main([*call, "--seeds", "0", "1", "--n-classes", "2"]) == 0
    printed = capsys.readouterr().out
    assert "| folder | images | clusters | matching | mIoU | accuracy |" in printed
    assert "| seed 0 | 4 | 3 | hungarian | " in printed
    assert " ± " in printed
    assert "| orange | " in printed
    report = json.loads((tmp_path / "out" / "evaluation-semantic.json").read_text())
    assert 0 < report["scores"]["mIoU"]["mean"] <= 1
    assert report["settings"]["clusters"]["n_clusters"] == 2
    assert set(report["seconds"]) >= {"eigenpairs", "segments", "labels"}
    # More clusters than classes are joined; the stages before are kept.
    assert main([*call, "--seeds", "0", "--n-classes", "4"]) == 0
    assert "| seed 0 | 4 | 5 | majority | " in capsys.readouterr().out
    assert (
        "eigenvectors"
        not in json.loads((tmp_path / "out" / "evaluation-semantic.json").read_text())["seconds"]
    )


def test_command_scores_label_maps_made_elsewhere(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["evaluate", "semantic", "--dataset", "folder", "--root", str(root), "-o", str(tmp_path / "out")]
    maps = tmp_path / "maps"
    shutil.copytree(root / "labels", maps)
    assert main([*call, "--predictions", str(maps)]) == 0
    assert "| label maps | 4 | 3 | hungarian | 1.000 | 1.000 |" in capsys.readouterr().out
    (maps / "0.png").unlink()
    assert main([*call, "--predictions", str(maps), "--matching", "majority"]) == 1
    captured = capsys.readouterr()
    assert "| label maps | 4 | 3 | majority | " in captured.out
    assert "1 of 4 images have no prediction, such as" in captured.err


def test_command_tells_what_cannot_work(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["evaluate", "semantic", "--dataset", "folder", "--root", str(root), "-o", str(tmp_path / "out")]
    assert main([*call, "--fit-split", "seg-trainaug", "--features", "classical"]) == 2
    assert "split must be one of none for folder" in capsys.readouterr().err
    assert main([*call, "--k", "1", "--features", "classical"]) == 2
    assert "k must be at least 2 for segments, got 1" in capsys.readouterr().err
    assert main([*call, "--predictions", str(tmp_path / "nowhere")]) == 2
    assert "no label maps in" in capsys.readouterr().err

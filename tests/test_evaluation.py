from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepspec.baselines import METHODS
from deepspec.cli import main
from deepspec.datasets import load_dataset
from deepspec.evaluation import evaluate


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images with masks: the upper half, the left half, nothing."""
    return write_examples(tmp_path, [np.s_[:20], np.s_[:, :24], np.s_[:0]])


def write_examples(tmp_path: Path, insides: list[Any], size: tuple[int, int] = (40, 48)) -> Path:
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    for number, inside in enumerate(insides):
        truth = np.zeros(size, bool)
        truth[inside] = True
        colors = np.where(truth[..., None], (230, 130, 30), (40, 60, 150)) + rng.normal(
            scale=3, size=(*size, 3)
        )
        Image.fromarray(colors.clip(0, 255).astype(np.uint8)).save(
            tmp_path / "data" / "images" / f"{number}.png"
        )
        Image.fromarray(truth).save(tmp_path / "data" / "masks" / f"{number}.png")
    return tmp_path


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def test_masks_are_scored_image_by_image(folder: Path) -> None:
    dataset = load_dataset("folder", folder / "data")
    whole, quarter = np.ones((40, 48), bool), np.zeros((40, 48), bool)
    quarter[:20, :24] = True
    write_mask(folder / "found" / "masks" / "0.png", whole)  # IoU 1/2, accuracy 1/2
    write_mask(folder / "found" / "masks" / "1.png", quarter)  # 1/2, 3/4
    found = evaluate("segmentation", dataset, folder / "found")  # and an empty mask, as is true: 1, 1
    values = {score.name: score.value for score in found.scores}
    assert values["IoU"] == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert values["accuracy"] == pytest.approx((0.5 + 0.75 + 1) / 3)
    # Mean precision (1/2 + 1 + 1) / 3 and recall (1 + 1/2 + 1) / 3.
    mean = 2.5 / 3
    assert values["F-max"] == pytest.approx(1.3 * mean * mean / (0.3 * mean + mean))
    assert found.n_images == 3
    assert [Path(name).name for name in found.missing] == ["2.png"]
    np.testing.assert_allclose(found.scores[0].interval, (0.5, 1), atol=1e-9)


def test_the_best_box_of_an_image_counts(folder: Path) -> None:
    data = folder / "data"
    boxes = {
        "images": [{"id": 7, "file_name": "x/0.png"}, {"id": 9, "file_name": "1.png"}],
        "annotations": [
            {"image_id": 7, "bbox": [0, 0, 4, 4], "score": 0.3},
            {"image_id": 7, "bbox": [0, 0, 48, 20], "score": 0.4},
            {"image_id": 9, "bbox": [0, 0, 11, 40]},
        ],
    }
    (folder / "boxes.json").write_text(json.dumps(boxes))
    truth = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(3)],
        "annotations": [{"image_id": 0, "bbox": [0, 0, 48, 20]}, {"image_id": 1, "bbox": [0, 0, 24, 40]}],
    }
    (data / "annotations.json").write_text(json.dumps(truth))
    dataset = load_dataset("folder", data)
    for predictions in (folder, folder / "boxes.json"):
        found = evaluate("localization", dataset, predictions)
        assert found.scores[0].name == "CorLoc"
        assert found.scores[0].value == pytest.approx(1 / 3)
        assert [Path(name).name for name in found.missing] == ["2.png"]


def test_command_finds_scores_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_examples(tmp_path, [np.s_[24:64, 40:80], np.s_[21:59, 20:63], np.s_[:0]], (91, 101))
    arguments = ["evaluate", "segmentation", "--dataset", "folder", "--root", str(folder / "data"), "-o"]
    out = folder / "out"
    options = ["--features", "classical", "--foreground", "border", "--limit", "2"]
    assert main([*arguments, str(out), *options]) == 0
    printed = capsys.readouterr().out
    assert "| folder | 2 | " in printed
    report = json.loads((out / "evaluation-segmentation.json").read_text())
    assert report["images"] == 2
    assert report["scores"]["IoU"]["value"] > 0.9
    assert report["settings"]["refine"] == "crf"
    assert set(report["seconds"]) >= {"decode", "eigenpairs", "answer"}
    assert (out / "evaluation-segmentation.md").read_text().startswith("| dataset |")
    assert main([*arguments, str(out), *options]) == 0
    assert "(2 of them before)" in capsys.readouterr().out
    # Scored alone, as if made elsewhere; the third has none.
    assert main([*arguments, str(folder / "again"), "--predictions", str(out)]) == 1
    captured = capsys.readouterr()
    assert "| folder | 3 | " in captured.out
    assert "1 of 3 images have no prediction" in captured.err


def test_a_method_gives_the_defaults_of_the_other_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_examples(tmp_path, [np.s_[24:64, 40:80]], (91, 101))
    arguments = ["evaluate", "segmentation", "--dataset", "folder", "--root", str(folder / "data")]
    arguments += ["--features", "classical", "--method", "tokencut"]
    settings = []
    for name, more in (("a", []), ("b", ["--threshold", "0.3", "--foreground", "border"])):
        assert main([*arguments, "-o", str(folder / name), *more]) == 0
        report = json.loads((folder / name / "evaluation-segmentation.json").read_text())
        assert report["method"] == "tokencut"
        assert report["scores"]["IoU"]["value"] > 0.9
        settings.append(report["settings"])
    for name, value in {**METHODS["tokencut"].graph, **METHODS["tokencut"].answer}.items():
        assert settings[0][name] == value
    assert (settings[1]["threshold"], settings[1]["foreground"]) == (0.3, "border")
    assert (settings[1]["affinity"], settings[1]["partition"]) == ("threshold", "mean")
    capsys.readouterr()
    refused = [*arguments, "-o", str(folder / "c"), "--vectors", "svd", "--color-weight", "2"]
    assert main(refused) == 2
    assert capsys.readouterr().err == "deepspec: error: vectors='svd' needs color_weight=0, got 2.0\n"
    assert not (folder / "c").exists()


def test_an_interrupt_while_scoring_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_examples(tmp_path, [np.s_[24:64, 40:80]], (91, 101))

    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("deepspec.cli.evaluate", interrupted)
    arguments = ["evaluate", "segmentation", "--dataset", "folder", "--root", str(folder / "data")]
    assert main([*arguments, "-o", str(folder / "out"), "--features", "classical"]) == 130
    assert "interrupted while scoring" in capsys.readouterr().err


def test_errors_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load_dataset("folder", folder / "data")
    with pytest.raises(ValueError, match="measure must be one of"):
        evaluate("speed", dataset, folder)
    with pytest.raises(FileNotFoundError, match="no masks in"):
        evaluate("segmentation", dataset, folder / "data" / "images" / "nothing")
    (folder / "boxes.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(ValueError, match="no boxes"):
        evaluate("localization", dataset, folder)
    (folder / "boxes.json").write_text('{"images": 3}')
    with pytest.raises(OSError, match=r"boxes\.json does not hold boxes in COCO's format"):
        evaluate("localization", dataset, folder)
    write_mask(folder / "found" / "0.png", np.ones((3, 4), bool))
    with pytest.raises(ValueError, match=r"0\.png is 4 x 3 pixels, but the true mask of .*0\.png is 48 x 40"):
        evaluate("segmentation", dataset, folder / "found")
    arguments = [
        "evaluate",
        "segmentation",
        "--dataset",
        "ecssd",
        "--root",
        str(folder),
        "-o",
        str(folder / "o"),
    ]
    assert main(arguments) == 2
    assert "ground_truth_mask is missing" in capsys.readouterr().err
    assert not (folder / "o").exists()

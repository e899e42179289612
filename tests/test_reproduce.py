from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import two_colors
from PIL import Image

from deepspec import images, pipeline
from deepspec.cli import main
from deepspec.dataset_run import Segmentation
from deepspec.reproduce import reproduce
from deepspec.tables import TABLES

XML = """<annotation><object><bndbox>
<xmin>41</xmin><ymin>25</ymin><xmax>80</xmax><ymax>64</ymax></bndbox></object></annotation>"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two images of VOC, with a box each that the built-in features find."""
    top = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (top / name).mkdir(parents=True)
    for stem in ("a", "b"):
        Image.fromarray(two_colors(91, 101, np.s_[24:64, 40:80])).save(
            top / "JPEGImages" / f"{stem}.jpg", quality=95
        )
        (top / "Annotations" / f"{stem}.xml").write_text(XML)
    (top / "ImageSets" / "Main" / "trainval.txt").write_text("a\nb\n")
    return tmp_path / "data"


def test_the_tables_hold_the_published_numbers() -> None:
    assert [row.published for row in TABLES["table6"]] == [61.6, 33.1, 49.9, 37.3]
    assert [row.published for row in TABLES["table8"]] == [61.6, 61.4, 50.5, 28.2]
    assert [row.backbone["layers"] for row in TABLES["table8"]] == [-1, -2, -5, -9]
    infinite = [row for row in TABLES["table7"] if np.isinf(row.settings["color_weight"])]
    assert [(row.features, row.published) for row in infinite] == [("dino_vitb16", 24.2)]
    assert {row.measure for row in TABLES["table3"]} == {"segmentation"}
    assert [row.published for row in TABLES["table9"]] == [41.8, 40.7, 38.8, 31.2, 33.6, 26.6]
    assert [(row.published, row.deviation) for row in TABLES["table4"]] == [
        (5.3, None),
        (12.1, None),
        (30.8, 2.7),
        (37.2, 3.8),
    ]
    assert [(row.settings["k"], row.self_training, row.published) for row in TABLES["table10"]] == [
        *((4, False, 29.7), (6, False, 33.3), (11, False, 31.4), (16, False, 31.8)),
        *((4, True, 32.7), (6, True, 36.3), (11, True, 37.5), (16, True, 36.0)),
    ]
    assert [(row.settings["n_classes"], row.published) for row in TABLES["table11"]] == [
        (20, 33.3),
        (30, 38.5),
        (40, 42.8),
    ]
    assert sum(map(len, TABLES.values())) == 12 + 14 + 4 + 4 + 4 + 17 + 4 + 6 + 8 + 3


def test_rows_run_as_far_as_there_is_data(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["reproduce", "table1", "--data", str(data), "-o", str(out), "--features", "classical"]
    assert main(arguments) == 1  # two datasets are missing
    lines = capsys.readouterr().out.splitlines()
    assert "| best: classical | voc2012 | 66.4 | 100 (100 to 100) | 2 |" in lines
    assert any("voc2007 | 62.7 | did not run: voc2007: " in line and "is missing" in line for line in lines)
    found = json.loads((out / "table1.json").read_text())
    assert [row["score"] is None for row in found[:3]] == [True, False, True]
    labels = [row["label"] for row in found if row["dataset"] == "voc2012"]
    assert labels == [
        "best: classical",
        "LOST: classical",
        "DINO-[CLS]: classical",
        "TokenCut, by its own paper: classical",
    ]
    assert "did not run: classical features have no facet" in next(
        row["reason"]
        for row in found
        if row["label"].startswith("DINO-[CLS]") and row["dataset"] == "voc2012"
    )
    assert (out / "table1.md").read_text().splitlines()[1].startswith("| --- |")


def test_an_interrupted_table_goes_on(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def stop(run: pipeline.Run) -> None:
        next(run)
        run.close()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce("table7", data, out, features="classical", follow=stop, limit=2)
    kept = []

    def count(run: pipeline.Run) -> None:
        list(run)
        kept.append(run.counts["kept"])

    outcomes = reproduce("table7", data, out, features="classical", follow=count, limit=2)
    assert kept[0] in (1, 2)  # several images are solved at a time
    assert kept[1:] == [0] * 16
    assert all(outcome.n_images == 2 for outcome in outcomes)
    again = reproduce("table7", data, out, features="classical", limit=2)
    assert again == outcomes


def test_a_row_whose_images_all_fail_says_so(data: Path, tmp_path: Path) -> None:
    for path in data.rglob("*.jpg"):
        path.write_text("no image")
    outcome = reproduce("table1", data, tmp_path / "out", features="classical")[1]
    assert "no image could be taken apart" in outcome.reason
    with pytest.raises(ValueError, match="table must be one of 'table1'"):
        reproduce("table99", data, tmp_path)


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Three images of VOC with labels of a class each."""
    top = tmp_path / "data" / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (top / name).mkdir(parents=True)
    for number, stem in enumerate("abc"):
        inside = np.s_[24 : 64 - 8 * number, 40:80]
        labels = np.zeros((91, 101), np.uint8)
        labels[inside] = 1 + number
        Image.fromarray(two_colors(91, 101, inside)).save(top / "JPEGImages" / f"{stem}.jpg", quality=95)
        with (top / "SegmentationClass" / f"{stem}.png").open("wb") as file:
            images.write_labels(labels, file)
    (top / "ImageSets" / "Segmentation" / "trainval.txt").write_text("a\nb\nc\n")
    return tmp_path / "data"


def test_rows_of_classes_tell_their_splits(
    classes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    arguments = ["reproduce", "table11", "--data", str(classes), "-o", str(out), "--features", "classical"]
    assert main([*arguments, "--threads", "1"]) == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert "ours (± deviation of 4 seeds)" in head
    for line, n_classes, published in zip(lines[:3], (20, 30, 40), (33.3, 38.5, 42.8), strict=True):
        found = re.fullmatch(
            rf"\| K = {n_classes}: classical \| voc2012 seg-trainval, classes found in seg-trainval "
            rf"\| {published} \| (\S+) ± (\S+) \| 3 \|",
            line,
        )
        assert found is not None, line
        assert 10 < float(found[1]) <= 100
    content = json.loads((out / "table11.json").read_text())
    assert all(row["deviation"] >= 0 and row["score"]["value"] <= 1 for row in content)
    # Where the paper's lists are there, they are used.
    monkeypatch.setitem(TABLES, "table11", TABLES["table11"][::2])
    lists = classes / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "val.txt").write_text("b\n")
    (lists / "trainaug.txt").write_text("c\nb\na\n")
    outcome = reproduce("table11", classes, out, features="classical")[0]
    assert (outcome.splits, outcome.n_images) == ("seg-val, classes found in seg-trainaug", 1)
    # That classes could not be found in all images is told.
    broken = classes / "VOCdevkit" / "VOC2012" / "JPEGImages" / "a.jpg"
    whole = broken.read_bytes()
    broken.write_text("no image")
    assert (
        "; 1 images failed, such as "
        in reproduce("table11", classes, out, features="classical")[0].cells()[3]
    )
    broken.write_bytes(whole)
    # The first two images have fewer segments than K = 40.
    *_, last = reproduce("table11", classes, out, features="classical", limit=2)
    assert "did not run: n_classes must be from 1 to the number of segments to cluster" in last.reason
    for name in ("val", "trainval", "trainaug"):
        (lists / f"{name}.txt").unlink()
    outcome = reproduce("table11", classes, out, features="classical")[0]
    assert "val.txt is missing" in outcome.reason


def test_baselines_and_networks_are_rows_of_table_4(
    classes: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained = []

    def train(label_maps: Path, images: list[Path], output: Path, **options: Any) -> None:
        trained.append(([path.stem for path in images], options))
        shutil.copytree(label_maps, output / "predictions" / "labels")

    def predict(inputs: list[Path], output: Path, checkpoint: Path, **options: Any) -> Segmentation:
        return Segmentation(output, 0, {}, len(inputs))

    monkeypatch.setattr("deepspec.semantic_protocol.train", train)
    monkeypatch.setattr("deepspec.semantic_protocol.predict_dataset", predict)
    arguments = ["reproduce", "table4", "--data", str(classes), "-o", str(tmp_path / "out"), "--threads", "1"]
    # The baselines compare cells across images, which classical ones cannot.
    assert main([*arguments, "--features", "classical", "--steps", "2", "--training-weights", "none"]) == 1
    assert trained == [(["a", "b", "c"], {"seed": seed, "steps": 2, "weights": "none"}) for seed in range(4)]
    assert (
        "| with self-training: classical | voc2012 seg-trainval, classes found in seg-trainval | 37.2 ± 3.8 | "
        in (capsys.readouterr().out)
    )
    rows = json.loads((tmp_path / "out" / "table4.json").read_text())
    assert [row["images"] for row in rows] == [0, 0, 3, 3]
    for row, method in zip(rows, ("cluster-patch", "cluster-seg"), strict=False):
        assert row["reason"].startswith(f"did not run: method='{method}' needs features that can be compared")
    # A network that answers as it was taught.
    assert (rows[3]["score"], rows[3]["deviation"]) == (rows[2]["score"], rows[2]["deviation"])


def test_a_network_that_cannot_be_trained_is_told(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TABLES, "table4", TABLES["table4"][3:])

    def train(*arguments: object, **options: object) -> None:
        raise ImportError("training needs torch: pip install 'deepspec[models]'")

    monkeypatch.setattr("deepspec.semantic_protocol.train", train)
    (outcome,) = reproduce("table4", classes, tmp_path / "out", features="classical", threads=1)
    assert outcome.reason == "did not run: training needs torch: pip install 'deepspec[models]'"

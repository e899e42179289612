from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from builders import two_colors
from PIL import Image

from deepspec import pipeline
from deepspec.cli import main
from deepspec.reproduce import TABLES, reproduce

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
    assert sum(map(len, TABLES.values())) == 12 + 14 + 4 + 4 + 17 + 4 + 6


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

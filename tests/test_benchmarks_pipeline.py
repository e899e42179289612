"""The pipeline's benchmark runs, its stages add up, and its published side finds what deepspec finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracle
import pipeline
import pytest
from builders import two_colors
from PIL import Image

# Numba and PyMatting may warn of what they do to each other.
pytestmark = pytest.mark.filterwarnings("default")


def test_both_find_the_object_and_tell_their_stages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pymatting")
    (tmp_path / "photos").mkdir()
    for number in range(3):
        inner = (slice(24, 72), slice(16 * number + 16, 16 * number + 64))
        Image.fromarray(two_colors(104, 136, inner)).save(tmp_path / "photos" / f"{number}.png")
    results = tmp_path / "results.json"
    pipeline.main(["--data", str(tmp_path / "photos"), "--limit", "2", "--json", str(results)])
    printed = capsys.readouterr().out
    assert "2 images" in printed
    assert "above 0.9 on 100%" in printed
    report = json.loads(results.read_text())
    assert report["settings"] == {
        "features": "classical",
        "grid": "auto",
        "color_weight": 10.0,
        "k": 2,
        "threads": report["environment"]["cores"],
    }
    assert [image["image"] for image in report["images"]] == ["0.png", "1.png"]
    for image in report["images"]:
        assert image["iou"] > 0.9
        for method in pipeline.METHODS:
            seconds = image[method]
            total = seconds.pop("total")
            assert set(seconds) == set(pipeline.STAGES)
            assert 0 < sum(seconds.values()) <= total


def test_a_folder_that_fails_is_said(tmp_path: Path) -> None:
    pytest.importorskip("pymatting")
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    with pytest.raises((SystemExit, ValueError), match="at least 8"):
        pipeline.main(["--data", str(tmp_path)])


def test_eigenvectors_are_the_oracles() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 3))
    affinity = np.maximum(points @ points.T, 0)
    vectors = pipeline.eigenvectors(affinity, 4)
    expected = oracle.eigenpairs(affinity)[1][:4]
    assert oracle.angle(vectors, expected, oracle.degrees(affinity)) < 1e-4
    share = (vectors[1:] > 0).mean(axis=1)
    assert (share <= 0.5).all()


def test_an_image_that_the_published_pipeline_fails_on_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pymatting")
    for number in range(3):
        Image.fromarray(two_colors(72, 64 + 8 * number, (slice(16, 48), slice(16, 48)))).save(
            tmp_path / f"{number}.png"
        )
    find = pipeline.eigenvectors

    def fail_on_second(affinity: np.ndarray, k: int) -> np.ndarray:
        if len(affinity) == 9 * 9:
            raise pipeline.SingularError("D - W is singular")
        return find(affinity, k)

    monkeypatch.setattr(pipeline, "eigenvectors", fail_on_second)
    pipeline.main(["--data", str(tmp_path), "--json", str(tmp_path / "results.json")])
    printed = capsys.readouterr().out
    assert "2 images:" in printed
    assert "fails on them: 1 images" in printed
    images = json.loads((tmp_path / "results.json").read_text())["images"]
    assert [image["image"] for image in images if "failed" in image] == ["1.png"]
    assert len(images) == 3


def test_a_singular_matrix_is_told_from_other_errors() -> None:
    pairs = np.kron(np.eye(3), [[0, 1], [1, 0]])
    with pytest.raises(pipeline.SingularError, match="6 cells"):
        pipeline.eigenvectors(pairs, 2)


def test_upsampling_is_bilinear() -> None:
    pytest.importorskip("torch")
    keys = np.random.default_rng(0).normal(size=(3, 5, 4))
    expected = (oracle.upsampling((3, 5), (6, 10)) @ keys.reshape(15, 4)).reshape(6, 10, 4)
    np.testing.assert_allclose(pipeline.upsampled(keys, (6, 10)), expected, atol=1e-12)


def test_overlap_of_boxes() -> None:
    box = pipeline.Box(0, 0, 4, 2)
    assert pipeline.iou(box, box) == 1
    assert pipeline.iou(box, pipeline.Box(2, 0, 4, 2)) == 0.5
    assert pipeline.iou(box, pipeline.Box(4, 0, 6, 2)) == 0

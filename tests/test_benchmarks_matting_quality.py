"""The benchmark of matting runs, gives both sides the same pixels and measures what it says."""

from __future__ import annotations

import json
from pathlib import Path

import matting_quality
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from deepspec.spectral import Eigenpairs
from deepspec.trimaps import Known

# Numba and PyMatting may warn of what they do to each other.
pytestmark = pytest.mark.filterwarnings("default")

SIZE = (40, 48)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """An orange square with a soft outline on blue, its trimap five pixels wide to either side, and the truth."""
    square, trimap = np.zeros(SIZE), np.zeros(SIZE, np.uint8)
    square[8:32, 8:32] = 1
    truth = gaussian_filter(square, 1.5)
    trimap[3:37, 3:37] = 128
    trimap[13:27, 13:27] = 255
    noise = np.random.default_rng(0).normal(scale=4, size=(*SIZE, 3))
    image = truth[..., None] * (230, 130, 30) + (1 - truth[..., None]) * (40, 60, 150) + noise
    for name, array in (("image", image), ("trimap", trimap), ("alpha", truth * 255)):
        Image.fromarray(array.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{name}.png")
    return [f"--{name}={tmp_path / name}.png" for name in ("image", "trimap", "alpha")]


def test_both_sides_are_measured(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pymatting")
    results = tmp_path / "results.json"
    matting_quality.main(
        [
            *files,
            "--features",
            "colors",
            "classical",
            "--k",
            "2",
            "8",
            "--color-weight",
            "10",
            "100",
            "--json",
            str(results),
        ]
    )
    printed = capsys.readouterr().out
    assert "48 x 40 pixels, 960 of them unknown" in printed
    report = json.loads(results.read_text())
    rows = {(row["known"], row["method"], row["color_weight"], row["k"]): row for row in report["rows"]}
    assert (
        len(rows) == len(report["rows"]) == printed.count("\n| trimap") + printed.count("\n| strokes") == 16
    )
    for known in ("trimap", "strokes"):
        for method in matting_quality.PEERS:
            assert rows[known, method, None, None]["best_mse"] is None
            assert 0 <= rows[known, method, None, None]["mse"] < 0.25
        for k in (2, 8):
            row = rows[known, "deepspec, colors", "inf", k]
            assert row["mse"] >= row["best_mse"] - 1e-9
    assert rows["trimap", "deepspec, colors", "inf", 8]["mse"] < 0.02
    assert report["settings"]["size"] == list(SIZE)


def test_a_smaller_copy_keeps_what_is_known(files: list[str]) -> None:
    options = matting_quality._parse([*files, "--max-size", "24", "--features", "colors"])
    scene = matting_quality.load_scene(options)
    assert scene.image.shape == (20, 24, 3)
    known = scene.known["trimap"]
    assert known.mask.shape == scene.truth.shape == (20, 24)
    # Not where a pixel covers unknown ones, and never against the truth.
    assert 0 < np.count_nonzero(known.mask) < known.mask.size
    assert (known.alpha[known.mask] == scene.truth[known.mask].round()).all()
    assert (scene.truth[scene.unknown] > 0.5).any()
    assert (scene.truth[scene.unknown] < 0.5).any()


def test_strokes_lie_halfway_within_what_is_known() -> None:
    mask = np.ones((1, 41), bool)
    mask[0, 20] = False
    known = Known(mask, (np.arange(41)[None] > 20).astype(np.float32))
    strokes = matting_quality.strokes_of(known)
    # The distance to the unknown pixel, up to 20: bands at 10, 11 and 12.
    assert np.flatnonzero(strokes.mask).tolist() == [8, 9, 10, 30, 31, 32]
    assert strokes.alpha[strokes.mask].tolist() == [0, 0, 0, 1, 1, 1]


def test_the_best_in_the_span_is_the_truth_where_it_is_in_it() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((6, 7)).astype(np.float32)
    unknown = rng.random((6, 7)) > 0.3
    scene = matting_quality.Scene(np.zeros((6, 7, 3), np.uint8), truth, {}, unknown)

    def best(vector: np.ndarray) -> float:
        vectors = np.stack([np.ones((6, 7)), vector]).astype(np.float32)
        return matting_quality.best_mse(
            Eigenpairs(np.zeros(2), vectors, np.ones((6, 7), np.float32), np.zeros(2), 0), scene
        )

    assert best(3 * truth - 1) == pytest.approx(0, abs=1e-9)
    assert best(np.ones((6, 7))) == pytest.approx(truth[unknown].var(), rel=1e-4)

"""The commands under benchmarks/ run and print what they promise."""

from __future__ import annotations

import json
from pathlib import Path

import dinov2
import ecssd
import eigenpairs
import numpy as np
import pytest
from PIL import Image


# Numba and PyMatting may warn of what they do to each other.
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("real", [True, False])
def test_eigenpairs(
    real: bool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("pymatting")
    if real:
        request.getfixturevalue("test_data")
    else:
        monkeypatch.delenv("DEEPSPEC_TEST_DATA", raising=False)
    report = tmp_path / "report.json"
    eigenpairs.main(["--sizes", "1024", "--runs", "2", "--threads", "1", "--json", str(report)])
    rows = json.loads(report.read_text())["rows"]
    assert [row["method"] for row in rows] == ["deepspec", "tuned", "published"]
    table = capsys.readouterr().out
    for row in rows:
        assert f"| 1024 | {row['method']} |" in table
        assert row["milliseconds"] > 0
        assert row["low"] <= row["speedup"] <= row["high"]
        assert row["residual"] < 1e-4
        # The methods' colour graphs differ where neighbours tie, and so do their results.
        assert row["value_difference"] < 1e-3
        assert row["angle"] < 0.1


def test_ecssd(test_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = test_data / "squeezenet" / "squeezenet_v1.0.npz"
    data = test_data / "ECSSD"
    ecssd.main(["--data", str(data), "--weights", str(weights), "--limit", "2", "--color-weight", "0", "4"])
    printed = capsys.readouterr().out
    for line in ("2 images", "| λ = 0 ", "| λ = 4 ", "| ellipse ", "| whole ", "s an image"):
        assert line in printed
    ecssd.main(["--data", str(data), "--limit", "2", "--features", "whole"])
    assert "whole: mean IoU 0." in capsys.readouterr().out


def test_dinov2_is_drawn(test_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "dinov2.png"
    dinov2.main(["--data", str(test_data / "dinov2_features"), "-o", str(picture), "--color-weight", "10"])
    assert str(picture) in capsys.readouterr().out
    with Image.open(picture) as image:
        assert np.asarray(image).std() > 10

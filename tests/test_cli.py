from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import two_colors
from PIL import Image

import deepspec
from deepspec.cli import main
from deepspec.decomposition import Decomposition, decompose
from deepspec.images import palette
from deepspec.regions import localize, segment_object, segment_regions


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one in a folder below, and a text file that is none of them."""
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    Image.fromarray(two_colors(75, 93, np.s_[20:50, 30:70])).save(root / "a.png")
    Image.fromarray(two_colors(64, 64, np.s_[8:30, 8:40])).save(root / "sub" / "b.b.PNG")
    (root / "notes.txt").write_text("no image")
    return root


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_eigenvectors_mirror_the_inputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    assert main(["eigenvectors", str(folder), "-o", str(out), "--k", "3", "--color-weight", "inf"]) == 0
    assert files_below(out) == {"eigenvectors/a.npz", "eigenvectors/sub/b.b.npz", "run.json"}
    found = Decomposition.load(out / "eigenvectors" / "a.npz")
    expected = decompose(folder / "a.png", "classical", k=3, color_weight=float("inf"))
    np.testing.assert_array_equal(found.pairs.vectors, expected.pairs.vectors)
    assert found.settings == expected.settings
    printed = capsys.readouterr()
    assert "[2/2]" in printed.out
    assert (
        printed.out.splitlines()[-1]
        == f"2 of 2 images done with classical features; results in {out / 'eigenvectors'}"
    )
    assert printed.err == ""


def test_run_is_recorded(folder: Path) -> None:
    out = folder.parent / "out"
    arguments = [
        "regions",
        str(folder),
        "-o",
        str(out),
        "--seed",
        "3",
        "--color-weight",
        "inf",
        "--n-segments",
        "4",
    ]
    assert main(arguments) == 0
    run = json.loads((out / "run.json").read_text())
    assert run["command"] == "regions"
    assert run["settings"] == {
        "features": "classical",
        "k": 5,
        "color_weight": "inf",
        "grid": "auto",
        "n_segments": 4,
        "background": "border",
        "seed": 3,
        "threads": None,
        "plots": False,
    }
    assert run["versions"]["deepspec"] == deepspec.__version__
    assert run["versions"]["numpy"] == np.__version__
    assert run["inputs"] == [str(folder / "a.png"), str(folder / "sub" / "b.b.PNG")]
    assert run["failed"] == {}


@pytest.mark.parametrize("foreground", ["smaller", "border"])
def test_boxes_are_coco(folder: Path, foreground: str) -> None:
    out = folder.parent / "out"
    assert main(["localize", str(folder), "-o", str(out), "--foreground", foreground]) == 0
    coco = json.loads((out / "boxes.json").read_text())
    assert coco["images"] == [
        {"id": 1, "file_name": "a.png", "width": 93, "height": 75},
        {"id": 2, "file_name": "sub/b.b.PNG", "width": 64, "height": 64},
    ]
    assert coco["categories"] == [{"id": 1, "name": "object"}]
    box = localize(decompose(folder / "a.png", "classical"), foreground=foreground)
    first = coco["annotations"][0]
    assert first["bbox"] == [box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin]
    assert first["area"] == first["bbox"][2] * first["bbox"][3]
    assert first["score"] == pytest.approx(box.score, abs=1e-6)
    assert [
        (entry["id"], entry["image_id"], entry["category_id"], entry["iscrowd"])
        for entry in coco["annotations"]
    ] == [
        (1, 1, 1, 0),
        (2, 2, 1, 0),
    ]


def test_masks_are_0_and_255(folder: Path) -> None:
    out = folder.parent / "out"
    assert main(["segment", str(folder / "a.png"), str(folder / "sub"), "-o", str(out), "--grid", "4"]) == 0
    assert files_below(out) == {"masks/a.png", "masks/b.b.png", "run.json"}
    with Image.open(out / "masks" / "a.png") as mask:
        assert mask.mode == "L"
        expected = segment_object(decompose(folder / "a.png", "classical", grid=4))
        np.testing.assert_array_equal(np.asarray(mask), expected * np.uint8(255))


@pytest.mark.parametrize("n_segments", ["3", "auto"])
def test_labels_have_vocs_palette(folder: Path, n_segments: str) -> None:
    out = folder.parent / "out"
    options = ["--n-segments", n_segments, "--background", "size", "--seed", "1"]
    assert main(["regions", str(folder / "a.png"), "-o", str(out), *options]) == 0
    with Image.open(out / "labels" / "a.png") as labels:
        assert labels.mode == "P"
        expected = segment_regions(
            decompose(folder / "a.png", "classical"),
            n_segments="auto" if n_segments == "auto" else 3,
            background="size",
            seed=1,
        )
        np.testing.assert_array_equal(np.asarray(labels), expected)
        np.testing.assert_array_equal(np.asarray(labels.convert("RGB")), palette()[expected])


@pytest.mark.parametrize("command", ["eigenvectors", "localize", "segment", "regions"])
def test_plots_are_drawn_beside(folder: Path, command: str) -> None:
    out = folder.parent / "out"
    assert main([command, str(folder), "-o", str(out), "--plots"]) == 0
    assert {"plots/a.png", "plots/sub/b.b.png"} <= files_below(out)


def test_failures_are_reported_and_the_rest_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    Image.new("RGB", (5, 5)).save(folder / "tiny.png")
    out = folder.parent / "out"
    missing = folder.parent / "missing.png"
    assert main(["segment", str(folder), str(missing), "-o", str(out)]) == 1
    assert files_below(out) == {"masks/a.png", "masks/sub/b.b.png", "run.json"}
    failed = json.loads((out / "run.json").read_text())["failed"]
    assert set(failed) == {str(folder / "broken.jpg"), str(folder / "tiny.png"), str(missing)}
    printed = capsys.readouterr()
    assert f"deepspec: {missing}: No such file or directory\n" in printed.err
    assert f"deepspec: {folder / 'tiny.png'}: image must be at least 8 x 8 pixels" in printed.err
    assert "3 of 5 images failed" in printed.err.splitlines()[-1]
    assert "2 of 5 images done" in printed.out
    assert "Traceback" not in printed.err


def test_results_within_the_input_folder_are_no_inputs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert main(["segment", str(folder), "-o", str(folder), "--plots"]) == 0
        assert "2 of 2 images done" in capsys.readouterr().out


def failure(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a call that cannot work prints; it exits with 2."""
    try:
        status = main(arguments)
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()[-1]


def test_inputs_that_would_write_the_same_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(folder / "a.png", folder / "sub" / "a.jpg")
    out = folder.parent / "out"
    message = failure(["segment", str(folder), str(folder / "sub" / "a.jpg"), "-o", str(out)], capsys)
    assert (
        message
        == f"deepspec: error: {folder / 'a.png'} and {folder / 'sub' / 'a.jpg'} would write the same results"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--k", "1"], "--k must be at least 2 here, got 1"),
        (["--k", "0"], "must be a whole number of at least 1, got '0'"),
        (["--color-weight", "-1"], "must be a number of at least 0, or inf, got '-1'"),
        (["--color-weight", "nan"], "got 'nan'"),
        (["--grid", "0.5"], "must be auto or patch or a whole number of at least 1, got '0.5'"),
        (["--features", "vit"], "invalid choice: 'vit'"),
        (["--n-segments", "257"], "must be auto or a whole number from 1 to 256, got '257'"),
        (["--k", "2", "--n-segments", "auto"], "--k must be at least 3 here, got 2"),
        (["--foreground", "border"], "unrecognized arguments"),
    ],
)
def test_calls_that_cannot_work(
    arguments: list[str], message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "out"
    assert message in failure(["regions", str(folder), "-o", str(out), *arguments], capsys)
    assert not out.exists()


def test_folders_that_do_not_serve(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    assert "no images in" in failure(["segment", str(folder / "empty"), "-o", "out"], capsys)
    taken = folder / "notes.txt"
    assert str(taken) in failure(["segment", str(folder), "-o", str(taken)], capsys)


@pytest.mark.parametrize(("module", "extra"), [("sklearn", "cluster"), ("matplotlib", "plots")])
def test_missing_extras_are_named_before_work(
    module: str, extra: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    message = failure(["regions", str(folder), "-o", str(folder / "out"), "--plots"], capsys)
    assert f"pip install 'deepspec[{extra}]'" in message


def test_info_names_what_is_there(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPSPEC_NUM_THREADS", "3")
    assert main(["info"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if "  " in line)
    assert lines["deepspec"] == deepspec.__version__
    assert lines["threads"] == "3 (DEEPSPEC_NUM_THREADS)"
    monkeypatch.setenv("DEEPSPEC_NUM_THREADS", "many")
    assert "DEEPSPEC_NUM_THREADS" in failure(["info"], capsys)


def test_version_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"deepspec {deepspec.__version__}\n"
    assert "COMMAND" in failure([], capsys)


def test_commands_load_neither_matplotlib_nor_scikit_learn_unasked(folder: Path) -> None:
    code = """
import sys
from deepspec.cli import main
assert main(["segment", sys.argv[1], "-o", sys.argv[2]]) == 0
assert not {"matplotlib", "sklearn", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(folder), str(folder.parent / "out")], check=True)

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import two_colors
from PIL import Image

import deepspec
from deepspec import cli
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


def main(arguments: list[str]) -> int:
    """The command line with the features that need no weights."""
    return cli.main(
        [*arguments[:1], *(["--features", "classical"] if len(arguments) > 1 else []), *arguments[1:]]
    )


def files_below(folder: Path) -> set[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if path.parts[0] != ".records"}


def test_eigenvectors_mirror_the_inputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    assert main(["eigenvectors", str(folder), "-o", str(out), "--k", "3", "--color-weight", "inf"]) == 0
    assert files_below(out) == {"eigenvectors/a.npz", "eigenvectors/sub/b.b.npz", "run.json"}
    found = Decomposition.load(out / "eigenvectors" / "a.npz")
    expected = decompose(folder / "a.png", "classical", k=3, color_weight=float("inf"))
    np.testing.assert_array_equal(found.pairs.vectors, expected.pairs.vectors)
    assert found.settings == expected.settings
    printed = capsys.readouterr()
    assert printed.out == f"2 of 2 images done with classical features; results in {out / 'eigenvectors'}\n"
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
    run = json.loads((out / "run.json").read_text())["regions"]
    assert run["settings"] == {
        "features": "classical",
        "center_prior": True,
        "vectors": "laplacian",
        "affinity": "relu",
        "max_size": 1024,
        "k": 5,
        "color_weight": "inf",
        "grid": "auto",
        "n_segments": 4,
        "background": "border",
        "refine": "none",
        "seed": 3,
    }
    assert run["complete"]
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
    box = localize(decompose(folder / "a.png", "classical", k=2), foreground=foreground)
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
    assert files_below(out) == {"masks/a.png", "masks/b.b.png", "masks.json", "run.json"}
    with Image.open(out / "masks" / "a.png") as mask:
        assert mask.mode == "L"
        expected = segment_object(decompose(folder / "a.png", "classical", k=2, grid=4))
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
    assert {f"plots/{command}/a.png", f"plots/{command}/sub/b.b.png"} <= files_below(out)


def test_failures_are_reported_and_the_rest_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    Image.new("RGB", (5, 5)).save(folder / "tiny.png")
    out = folder.parent / "out"
    missing = folder.parent / "missing.png"
    assert main(["segment", str(folder), str(missing), "-o", str(out)]) == 1
    assert files_below(out) == {"masks/a.png", "masks/sub/b.b.png", "masks.json", "run.json"}
    failed = json.loads((out / "run.json").read_text())["segment"]["failed"]
    assert set(failed) == {str(folder / "broken.jpg"), str(folder / "tiny.png"), str(missing)}
    printed = capsys.readouterr()
    assert "2 of 5 images done" in printed.out
    lines = printed.err.splitlines()
    assert lines[0] == "deepspec: 3 of 5 images failed:"
    assert set(lines[1:]) == {f"  {path}: {reason}" for path, reason in failed.items()}
    assert f"  {missing}: No such file or directory" in lines
    assert failed[str(folder / "tiny.png")].startswith("image must be at least 8 x 8 pixels")


def test_many_failures_are_told_in_part(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(25):
        (folder / f"broken{number}.jpg").write_bytes(b"")
    assert main(["segment", str(folder), "-o", str(folder.parent / "out")]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 22
    assert lines[-1] == "  and 5 more, all in run.json"


def test_verbose_tells_every_image_and_the_time_of_every_stage(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "broken.jpg").write_bytes(b"")
    out = folder.parent / "out"
    arguments = ["localize", str(folder), "-o", str(out), "--verbose", "--jobs", "0"]
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert f"{folder / 'a.png'}: box " in printed.out
    assert f"{folder / 'broken.jpg'}: failed: " in printed.err
    table = [line.split() for line in printed.out.splitlines()[-5:]]
    assert [row[0] for row in table] == ["decode", "features", "eigenpairs", "answer", "write"]
    assert sum(float(row[3].rstrip("%")) for row in table) == pytest.approx(100, abs=0.5)
    main(arguments)
    assert f"{folder / 'a.png'}: kept, box " in capsys.readouterr().out


def test_the_page_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    assert main(["segment", str(folder), "-o", str(out), "--page"]) == 0
    assert f"page of pictures: {out / 'segment.html'}" in capsys.readouterr().out
    page = (out / "segment.html").read_text()
    assert "sub/b.b.PNG" in page


def test_other_settings_are_refused_unless_overwritten(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "out"
    assert main(["localize", str(folder), "-o", str(out)]) == 0
    capsys.readouterr()
    message = failure(["localize", str(folder), "-o", str(out), "--k", "3", "--grid", "patch"], capsys)
    assert message == (
        f"deepspec: error: {out} holds results of localize with k = 2, not 3, grid = auto, not patch: "
        "choose another folder, or overwrite them"
    )
    assert main(["localize", str(folder), "-o", str(out), "--k", "3", "--overwrite"]) == 0


def test_a_second_run_keeps_what_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    assert main(["segment", str(folder / "a.png"), "-o", str(out)]) == 0
    assert main(["segment", str(folder), "-o", str(out)]) == 0
    assert "2 of 2 images done (1 of them before)" in capsys.readouterr().out


def test_networks_take_options_of_their_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failure(["localize", str(folder), "-o", "out", "--facet", "key", "--layers=-1,-2"], capsys)
    assert message == "deepspec: error: classical features have no facet, layers"


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
        (["--k", "1"], "k must be at least 2 for regions, got 1"),
        (["--k", "0"], "must be a whole number of at least 1, got '0'"),
        (["--color-weight", "-1"], "must be a number of at least 0, or inf, got '-1'"),
        (["--color-weight", "nan"], "got 'nan'"),
        (["--grid", "0.5"], "must be auto or patch or a whole number of at least 1, got '0.5'"),
        (["--jobs", "-1"], "must be a whole number of at least 0, got '-1'"),
        (["--max-size", "0"], "must be none or a whole number of at least 1, got '0'"),
        (["--weights", "w.pth"], "classical features have no weights"),
        (["--n-segments", "257"], "must be auto or a whole number from 1 to 256, got '257'"),
        (["--k", "2", "--n-segments", "auto"], "k must be at least 3 for regions, got 2"),
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


@pytest.mark.parametrize("forced", ["", "portable"])
def test_info_names_the_instruction_set(forced: str) -> None:
    code = "from deepspec import _core, cli; print(_core.build_info()['bfloat16']); cli.main(['info'])"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "DEEPSPEC_ISA": forced},
        capture_output=True,
        text=True,
        check=True,
    )
    bfloat16, *lines = result.stdout.splitlines()
    (line,) = (line for line in lines if line.startswith("instruction set "))
    assert re.fullmatch(forced or "amx|avx512|avx2|neon|portable", line.split()[2].rstrip(","))
    assert line.endswith(", with bfloat16 products" if bfloat16 == "True" else ", no bfloat16 products")
    assert bfloat16 == "False" or "avx512" in line or "amx" in line


def test_version_and_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"deepspec {deepspec.__version__}\n"
    assert "COMMAND" in failure([], capsys)


def test_commands_load_neither_matplotlib_nor_scikit_learn_unasked(folder: Path) -> None:
    code = """
import sys
from deepspec.cli import main
assert main(["segment", sys.argv[1], "-o", sys.argv[2], "--features", "classical"]) == 0
assert not {"matplotlib", "sklearn", "torch"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(folder), str(folder.parent / "out")], check=True)

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scenes
from PIL import Image

from deepspec import training
from deepspec.cli import main

N_SCENES = 8
SETTINGS = [
    "--features",
    "classical",
    "--k",
    "4",
    "--color-weight",
    "4",
    "--n-segments",
    "4",
    "--pool",
    "segment",
    "--n-classes",
    "5",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few scenes, and `out`, which the command made of them."""
    top = tmp_path_factory.mktemp("scenes")
    scenes.write_scenes(top, N_SCENES)
    (top / "classes.txt").write_text("ground\nupright\nlying\nchecks\ndots\nbands\n")
    assert main(["semantic", str(top / "images"), "-o", str(top / "out"), *SETTINGS]) == 0
    return top


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_command_tells_the_classes_and_what_was_done(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["semantic", str(folder / "images"), "-o", str(folder / "out"), *SETTINGS]) == 0
    printed = capsys.readouterr().out
    assert "|   0 | background |" in printed
    assert "8 of 8 images, done: nothing: all was there; to look at: " in printed
    assert printed.rstrip().endswith("index.html")
    names = ["--names", str(folder)]
    assert main(["semantic", str(folder / "images"), "-o", str(folder / "out"), *SETTINGS, *names]) == 0
    assert "| upright" in capsys.readouterr().out
    run = json.loads((folder / "out" / "run.json").read_text())["semantic"]
    assert set(run["classes"].values()) >= {"background", "upright", "dots"}


def test_bad_calls_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = str(folder / "images"), str(tmp_path / "out")
    for arguments, message in (
        (["--pool", "segment", "--k", "1"], "k must be at least 2 for segments, got 1"),
        (
            ["--until", "patches"],
            "until must be one of 'eigenvectors', 'segments', 'crops', 'clusters', got 'patches'",
        ),
        (["--names", str(tmp_path / "absent.csv")], "No such file"),
        (["--checkpoint", str(tmp_path)], "is not the folder of a training: it has no settings.json"),
        (
            ["--checkpoint", str(tmp_path), "--until", "segments"],
            "--until is of finding classes, got --until segments with --checkpoint",
        ),
        (["--address", "head:1"], "address is of engine='ray'"),
    ):
        assert main(["semantic", images, "-o", out, "--features", "classical", *arguments]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit, match="2"):
        main(["semantic", images, "-o", out, "--features", "classical", "--until", "page"])
    assert "argument --until: invalid choice: 'page'" in capsys.readouterr().err


def test_errors_after_work_began_are_another_exit_status(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = min((folder / "images").iterdir())
    call = ["semantic", str(image), "-o", str(tmp_path / "out"), *SETTINGS, "--n-classes", "200"]
    assert main(call) == 1
    error = capsys.readouterr().err
    assert "deepspec: error: " in error
    assert "200" in error
    assert any((tmp_path / "out").rglob("*.npz"))

    def killed(*arguments: object, **options: object) -> None:
        raise MemoryError("a job was killed three times")

    monkeypatch.setattr("deepspec.semantics.segment_dataset", killed)
    assert main(call) == 1
    assert capsys.readouterr().err == (
        "deepspec: error: a job was killed three times; what is done is kept, and the same command goes on from there\n"
    )


def test_images_that_fail_are_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "images").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert main(["semantic", str(tmp_path), "-o", str(tmp_path / "out"), *SETTINGS]) == 1
    captured = capsys.readouterr()
    assert "8 of 9 images" in captured.out
    assert "deepspec: 1 of 9 images failed:" in captured.err
    assert "broken.png: " in captured.err


def test_a_trained_network_labels_images(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--architecture fcn --backbone resnet18 --weights none --steps 2 --batch-size 4 --crop 64"
    maps, images, run = (
        str(path) for path in (folder / "out" / "labels", folder / "images", tmp_path / "run")
    )
    assert main(["train", maps, images, "-o", run, "--device", "cpu", *options.split()]) == 0
    arguments = ["semantic", images, "-o", str(tmp_path / "out"), "--checkpoint", run, "--device", "cpu"]
    assert main(arguments) == 0
    assert "8 of 8 images, done: labels of 8" in capsys.readouterr().out
    network = training.load(run, device="cpu")
    for path in sorted((folder / "images").iterdir())[:3]:
        expected = network.predict(read(path))
        np.testing.assert_array_equal(read(tmp_path / "out" / "labels" / path.name), expected)
    assert (tmp_path / "out" / "index.html").exists()
    assert main(arguments) == 0
    assert "done: nothing" in capsys.readouterr().out
    # Another network's label maps are others.
    assert (
        main(
            [
                "train",
                maps,
                images,
                "-o",
                run,
                "--overwrite",
                "--seed",
                "1",
                "--device",
                "cpu",
                *options.split(),
            ]
        )
        == 0
    )
    assert main(arguments) == 0
    assert "done: labels of 8" in capsys.readouterr().out

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import two_colors
from PIL import Image

from deepspec import Layers, cli, matte, matting_run
from deepspec.compositing import blend
from deepspec.matting_arguments import n_bytes

INNER = np.s_[8:26, 8:32]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two photographs, one in a folder below."""
    root = tmp_path / "in"
    (root / "sub").mkdir(parents=True)
    Image.fromarray(two_colors(36, 44, INNER)).save(root / "a.png")
    Image.fromarray(two_colors(40, 32, np.s_[10:30, 8:24])).save(root / "sub" / "b.b.PNG")
    return root


def main(folder: Path, *arguments: str | Path, only: str = "") -> int:
    """`deepspec matte` of a folder, or one file in it, into one called "out" beside it, with two layers."""
    given = ["-o", str(folder.parent / "out"), "--features", "classical", "--layers", "2"]
    return cli.main(["matte", str(folder / only), *given, *map(str, arguments)])


def files_below(folder: Path) -> set[str]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in files if path.parts[0] != ".records"}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


LAYERS = ("layer_1.png", "layer_2.png", "layers.json")
FOREGROUND = ("foreground.png", "alpha.png")


def test_mattes_mirror_the_inputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    assert main(folder) == 0
    expected = {f"mattes/{name}/{file}" for name in ("a", "sub/b.b") for file in (*LAYERS, *FOREGROUND)}
    assert files_below(out) == {*expected, "run.json"}
    layers = matte(folder / "a.png", "classical", n_layers=2)
    found = Layers.load(out / "mattes" / "a")
    np.testing.assert_array_equal(found.alphas, layers.rounded(8).alphas)
    np.testing.assert_array_equal(found.image, layers.image)
    assert (found.front, found.settings) == (layers.front, layers.settings)
    printed = capsys.readouterr()
    assert printed.out == f"2 of 2 images done with classical features; results in {out / 'mattes'}\n"
    assert printed.err == ""
    run = json.loads((out / "run.json").read_text())["matte"]
    assert run["complete"]
    assert run["settings"]["n_layers"] == 2
    assert run["settings"]["bits"] == 8
    assert run["versions"]["pymatting"]


def test_a_background_is_put_behind(folder: Path) -> None:
    out = folder.parent / "out" / "mattes"
    behind = np.random.default_rng(0).integers(0, 256, (80, 60, 3), dtype=np.uint8)
    Image.fromarray(behind).save(folder.parent / "beach.png")
    assert main(folder, "--background", folder.parent / "beach.png") == 0
    layers = Layers.load(out / "sub" / "b.b")
    np.testing.assert_array_equal(read(out / "sub" / "b.b" / "composite.png"), layers.composite(behind))
    before = times(out / "a")
    assert main(folder, "--background", "#0000ff") == 0
    composite = read(out / "a" / "composite.png")
    layers = Layers.load(out / "a")
    np.testing.assert_array_equal(composite, layers.composite((0, 0, 255)))
    pixels = read(out / "a" / "foreground.png").astype(np.float32) / 255
    blue = np.broadcast_to(np.float32([0, 0, 1]), composite.shape)
    assert np.abs(blend(pixels[..., :3], blue, pixels[..., 3]).astype(int) - composite).max() <= 2
    after = times(out / "a")
    assert all(after[name] == before[name] for name in LAYERS if name.endswith("png"))
    # Nobody asks for a composite, and this one is still right.
    assert main(folder) == 0
    assert times(out / "a") == after


def test_another_foreground_is_made_of_the_layers_that_are_there(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = folder.parent / "out" / "mattes"
    assert main(folder, "--bits", "16") == 0
    found = Layers.load(out / "a")
    (other,) = {0, 1} - set(found.front)

    def no_eigenpairs(*arguments: object, **options: object) -> None:
        raise AssertionError("taken apart again")

    monkeypatch.setattr("deepspec.matting.pixel_eigenpairs", no_eigenpairs)
    assert main(folder, "--bits", "16", "--foreground", str(other + 1), "--verbose") == 0
    assert f"{folder / 'a.png'}: 2 layers, foreground " in capsys.readouterr().out
    again = Layers.load(out / "a")
    assert again.front == (other,)
    assert again.settings["foreground"] == [other]
    np.testing.assert_array_equal(again.alphas, found.alphas)
    np.testing.assert_allclose(read(out / "a" / "alpha.png") / 65535, found.alphas[other], atol=0.51 / 65535)
    assert main(folder, "--bits", "16") == 0
    assert Layers.load(out / "a").front == found.front


def test_only_what_is_missing_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    assert main(folder, "--background", "white") == 0
    whole = {path: path.read_bytes() for path in (out / "mattes").rglob("*.*") if path.is_file()}
    before = times(out / "mattes" / "a")
    assert main(folder, "--background", "white") == 0
    assert "2 of 2 images done (2 of them before)" in capsys.readouterr().out
    assert times(out / "mattes" / "a") == before
    for lost in ("composite.png", "alpha.png", "layer_2.png"):
        (out / "mattes" / "a" / lost).unlink()
        assert main(folder, "--background", "white") == 0
        assert "2 of 2 images done (1 of them before)" in capsys.readouterr().out
        assert {path: path.read_bytes() for path in whole} == whole
    Image.fromarray(two_colors(36, 40, INNER)).save(folder / "a.png")
    assert main(folder, "--background", "white") == 0
    assert read(out / "mattes" / "a" / "alpha.png").shape == (36, 40)


def test_other_settings_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    assert main(folder) == 0
    before = times(out / "mattes" / "a")
    capsys.readouterr()
    assert main(folder, "--seed", "1") == 2
    assert capsys.readouterr().err == (
        f"deepspec: error: {out} holds results of matte with seed = 0, not 1: choose another folder, or overwrite them\n"
    )
    assert main(folder, "--bits", "16") == 2
    assert "bits = 8, not 16" in capsys.readouterr().err
    assert times(out / "mattes" / "a") == before
    assert main(folder, "--layers", "3", "--overwrite") == 0
    assert len(Layers.load(out / "mattes" / "a").alphas) == 3
    assert main(folder, "--overwrite") == 0
    assert not (out / "mattes" / "a" / "layer_3.png").exists()


def test_what_a_killed_run_left_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder.parent / "out" / "mattes"

    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("deepspec.matte_layers.Layers.save_foreground", interrupt)
        assert main(folder) == 130
    assert capsys.readouterr().err == (
        "deepspec: interrupted after 0 of 2 images done; "
        "what is done is kept, and the same command goes on from there\n"
    )
    assert set(times(out / "a")) == set(LAYERS)
    layers = times(out / "a")["layer_1.png"]
    (out / "a" / ".deepspec-1-1.tmp").write_bytes(b"half a file")
    assert main(folder) == 0
    assert set(times(out / "a")) == {*LAYERS, *FOREGROUND}
    assert times(out / "a")["layer_1.png"] == layers


def test_ctrl_c_ends_it_amid_an_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = matting_run.Matting.eigenpairs

    def interrupt(self: object, pixels: np.ndarray, *arguments: object, **options: object) -> object:
        if pixels.shape[0] == 40:
            raise KeyboardInterrupt
        return real(self, pixels, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(matting_run.Matting, "eigenpairs", interrupt)
    assert main(folder) == 130
    assert "interrupted after 1 of 2 images done" in capsys.readouterr().err
    assert (folder.parent / "out" / "mattes" / "a" / "alpha.png").exists()


@pytest.mark.parametrize("kind", ["trimap", "scribbles"])
def test_trimaps_go_with_their_images(folder: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, guides = folder.parent / "out", folder.parent / "guides"
    guides.mkdir()
    said = np.full((36, 44), 128, np.uint8)
    said[:3], said[14:20, 14:26] = 0, 255
    Image.fromarray(said).save(guides / "a.tiff")
    assert main(folder, f"--{kind}", guides) == 1
    printed = capsys.readouterr()
    assert "1 of 2 images done" in printed.out
    assert f"{folder / 'sub' / 'b.b.PNG'}: no {kind} of this name in {guides}" in printed.err
    found = Layers.load(out / "mattes" / "a")
    assert found.front == (0,)
    assert (found.alpha[said == 255] > 0.9).all()
    assert (found.alpha[said == 0] < 0.1).all()
    # The same for a single file; another trimap is another matte.
    arguments = [f"--{kind}", guides / "a.tiff"]
    assert main(folder, *arguments, only="a.png") == 0
    assert "(1 of them before)" in capsys.readouterr().out
    said[-3:] = 255
    Image.fromarray(said).save(guides / "a.tiff")
    assert main(folder, *arguments, only="a.png") == 0
    assert (Layers.load(out / "mattes" / "a").alpha[-3:] > 0.9).all()


def test_failures_are_reported_and_the_rest_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    Image.new("RGB", (5, 5)).save(folder / "tiny.png")
    out = folder.parent / "out"
    assert main(folder) == 1
    failed = json.loads((out / "run.json").read_text())["matte"]["failed"]
    assert set(failed) == {str(folder / "broken.jpg"), str(folder / "tiny.png")}
    assert failed[str(folder / "tiny.png")].startswith("image must be at least 8 x 8 pixels")
    printed = capsys.readouterr()
    assert "2 of 4 images done" in printed.out
    lines = printed.err.splitlines()
    assert lines[0] == "deepspec: 2 of 4 images failed:"
    assert set(lines[1:]) == {f"  {path}: {reason}" for path, reason in failed.items()}
    assert not (out / "mattes" / "tiny").exists()


def test_images_that_need_too_much_memory_fail_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(two_colors(300, 320, np.s_[80:200, 90:250])).save(folder / "large.png")
    assert main(folder, "--max-memory", "40M", "--threads", "1") == 1
    printed = capsys.readouterr()
    assert "2 of 3 images done" in printed.out
    assert "large.png: the eigenvectors of 320 x 300 pixels need" in printed.err
    # From a smaller copy they can be had, which is said.
    assert main(folder, "--max-memory", "70M") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{folder / 'large.png'}: 320 x 300 pixels: about ")
    assert "and polished in tiles of 128 pixels\n3 of 3 images done (2 of them before)" in printed.out


def test_layers_that_somebody_changed_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = folder.parent / "out" / "mattes" / "a"
    assert main(folder, only="a.png") == 0
    Image.new("RGBA", (44, 36)).save(changed / "layer_1.png")
    assert main(folder, "--background", "white", only="a.png") == 1
    assert f"once {changed} is deleted, the layers are made anew" in capsys.readouterr().err


def test_bad_calls_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = folder.parent / "missing.png"
    empty = folder.parent / "empty"
    empty.mkdir()
    for arguments, message in (
        (["--foreground", "1,3"], "--foreground must name layers from 1 to 2, got 3"),
        (["--background", str(missing)], "missing.png: no such image file, and no colour such as white"),
        (["--background", str(folder / "sub")], "Is a directory"),
        (["--trimap", str(missing)], "trimap " + str(missing) + ": no such file or folder"),
        (["--trimap", str(folder / "a.png")], "trimap must be a folder for 2 images"),
        (
            ["--scribbles", str(empty)],
            f"{empty} holds no scribbles for any of 2 images: a file must be called as its image is, such as {empty / 'a.png'}",
        ),
        (["--foreground", "1", "--trimap", str(folder)], "foreground must not be given with trimap"),
        (["--tol", "2"], "tol must be a number between 0 and 1, got 2.0"),
    ):
        assert main(folder, *arguments) == 2
        assert message in capsys.readouterr().err
        assert not (folder.parent / "out").exists()
    for arguments, message in (
        (["--foreground", "0"], "must be border, or numbers of layers from 1 on such as 1,3, got '0'"),
        (["--n-layers", "3"], "unrecognized arguments: --n-layers 3"),
        (["--bits", "12"], "argument --bits: invalid choice"),
        (["--max-memory", "4X"], "must be a size such as 800M or 4G, got '4X'"),
        (["--trimap", "a", "--scribbles", "b"], "not allowed with argument --trimap"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(folder, *arguments)
        assert message in capsys.readouterr().err


def test_two_images_that_would_write_one_file_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a").mkdir()
    Image.fromarray(two_colors(16, 16, np.s_[4:8, 4:8])).save(folder / "a" / "alpha.png.png")
    assert main(folder) == 2
    message = f"{folder / 'a.png'} and {folder / 'a' / 'alpha.png.png'} would write the same results"
    assert message in capsys.readouterr().err
    assert not (folder.parent / "out").exists()


def test_the_results_are_no_inputs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["matte", str(folder), "-o", str(folder), "--color-weight", "inf", "--layers", "2"]
    for before in ("", " (2 of them before)"):
        assert cli.main(given) == 0
        assert capsys.readouterr().out == (
            f"2 of 2 images done{before} with colours alone; results in {folder / 'mattes'}\n"
        )


def test_missing_extras_are_told_before_any_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pymatting", None)
    assert main(folder) == 2
    assert "pip install 'deepspec[matting]'" in capsys.readouterr().err
    assert not (folder.parent / "out").exists()


def test_what_an_image_needs_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(folder, "--verbose") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{folder / 'a.png'}: 44 x 36 pixels")
    assert lines[1].startswith(f"{folder / 'a.png'}: 2 layers, foreground ")
    assert [line.split()[0] for line in lines[-5:]] == ["decode", "features", "eigenpairs", "answer", "write"]


def test_the_page_shows_every_image(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder.parent / "out"
    assert main(folder) == 0
    (folder / "broken.jpg").write_bytes(b"")
    assert main(folder, "--page", "--background", "tan") == 1
    assert f"page of pictures: {out / 'matte.html'}\n" in capsys.readouterr().out
    page = (out / "matte.html").read_text()
    for text in (
        "sub/b.b.PNG",
        "mattes/a/foreground.png",
        "composite",
        "layer 2",
        "over #d2b48c",
        "broken.jpg",
    ):
        assert text in page
    assert "eigenvectors of the image" not in page
    page_before = (out / "matte.html").read_bytes()
    assert main(folder, "--page", "--background", "tan") == 1
    assert "2 of 3 images done (2 of them before)" in capsys.readouterr().out
    assert (out / "matte.html").read_bytes() == page_before
    assert main(folder, "--page", "--overwrite") == 1
    assert "composite" not in (out / "matte.html").read_text()


def test_sizes_are_of_powers_of_1024() -> None:
    assert [n_bytes(text) for text in ("800", "1.5k", "2M", "4G", "4GiB", "1TB")] == [
        *(800, 1536, 2 * 1024**2, 4 * 1024**3, 4 * 1024**3, 1024**4),
    ]

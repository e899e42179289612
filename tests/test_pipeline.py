from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepspec import pipeline
from deepspec.decomposition import decompose
from deepspec.features import Features
from deepspec.images import load
from deepspec.outputs import OutputError
from deepspec.regions import localize

TASKS = ("eigenvectors", "localize", "segment", "regions")


def noisy_square(seed: int, height: int = 64, width: int = 72) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 40, (height, width, 3)) + np.array(rng.integers(0, 200, 3))
    top, left = rng.integers(8, (height - 24, width - 24))
    image[top : top + 24, left : left + 24] = rng.integers(0, 256, 3)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images in nested folders, with blanks and letters beyond ASCII in their names."""
    names = ["a.png", "b c.jpg", "sub/ö/d.png", "sub/ö/e.webp", "日本/f.tif"]
    for number, name in enumerate(names):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noisy_square(number, 64 + 8 * (number % 2)).save(path)
    return tmp_path / "in"


def run(folder: Path, out: Path, task: str = "localize", **options: Any) -> list[pipeline.Result]:
    return list(pipeline.run(folder, out, task, options.pop("features", "classical"), **options))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_results_come_in_order_and_say_what_was_found(folder: Path, tmp_path: Path) -> None:
    results = pipeline.run(folder, tmp_path / "out", "localize", "classical", k=2)
    assert len(results) == 5
    found = list(results)
    assert [result.name for result in found] == [
        "a.png", "b c.jpg", "sub/ö/d.png", "sub/ö/e.webp", "日本/f.tif",
    ]  # fmt: skip
    box = localize(decompose(folder / "a.png", "classical", k=2))
    first = found[0]
    assert (first.path, first.status, first.score, first.files) == (folder / "a.png", "done", box.score, ())
    assert first.line == f"box {box.xmin} {box.ymin} {box.xmax} {box.ymax}"
    assert set(first.seconds) == set(pipeline.STAGES)
    assert results.counts == {"done": 5}
    assert results.seconds["decode"] == pytest.approx(sum(result.seconds["decode"] for result in found))
    assert results.answers == tmp_path / "out" / "boxes.json"


@pytest.mark.parametrize("task", TASKS)
def test_any_number_of_jobs_writes_the_same_bytes(task: str, folder: Path, tmp_path: Path) -> None:
    outputs = []
    for jobs in (0, 1, 2):
        out = tmp_path / str(jobs)
        results = run(folder, out, task, jobs=jobs, page=True)
        assert [result.status for result in results] == ["done"] * 5
        outputs.append(contents(out))
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_second_run_does_what_is_missing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out, "segment")
    clean = contents(out)
    kept = run(folder, out, "segment")
    assert {result.status for result in kept} == {"kept"}
    assert kept[0].line.startswith("object ")
    assert kept[0].files == (out / "masks" / "a.png",)
    (out / "masks" / "b c.png").unlink()
    (out / ".records" / "segment" / "sub" / "ö" / "d.json").unlink()
    (out / ".records" / "segment" / "a.json").write_bytes(b"")
    again = run(folder, out, "segment")
    assert sorted(result.name for result in again if result.status == "done") == [
        "a.png",
        "b c.jpg",
        "sub/ö/d.png",
    ]
    assert contents(out) == clean


def test_a_changed_image_is_done_again_and_a_broken_one_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out, "segment")
    noisy_square(77).save(folder / "a.png")
    (folder / "b c.jpg").write_bytes(b"no longer an image")
    again = {result.name: result.status for result in run(folder, out, "segment")}
    assert again == {"a.png": "done", "b c.jpg": "failed", "sub/ö/d.png": "kept", "sub/ö/e.webp": "kept", "日本/f.tif": "kept"}  # fmt: skip
    assert not (out / "masks" / "b c.png").exists()
    assert [image["file_name"] for image in json.loads((out / "masks.json").read_text())["images"]] == [
        "a.png", "sub/ö/d.png", "sub/ö/e.webp", "日本/f.tif",
    ]  # fmt: skip
    run(folder, tmp_path / "fresh", "segment")
    assert contents(out) == contents(tmp_path / "fresh")


def test_pages_and_plots_can_be_asked_for_later(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out)
    run(folder, out, page=True, plots=True)
    run(folder, tmp_path / "at once", page=True, plots=True)
    assert contents(out) == contents(tmp_path / "at once")
    assert {result.status for result in run(folder, out, page=True)} == {"kept"}


def test_tasks_share_a_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for task in TASKS:
        run(folder, out, task)
    runs = json.loads((out / "run.json").read_text())
    assert set(runs) == set(TASKS)
    for task in TASKS:
        assert {result.status for result in run(folder, out, task)} == {"kept"}


def test_other_settings_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(folder, out, "regions", n_segments=4)
    before = contents(out)
    with pytest.raises(ValueError, match=r"results of regions with n_segments = 4, not 5, seed = 0, not 1"):
        pipeline.run(folder, out, "regions", "classical", n_segments=5, seed=1)
    with pytest.raises(ValueError, match="features = classical, not backbone"):
        pipeline.run(folder, out, "regions", Backbone(), n_segments=4)
    assert contents(out) == before
    (folder / "a.png").unlink()
    (out / ".records" / "regions" / "b c.json").write_bytes(b"")
    run(folder, out, "regions", n_segments=5, seed=1, overwrite=True)
    run(folder, tmp_path / "fresh", "regions", n_segments=5, seed=1)
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_network_by_name_takes_its_options(folder: Path, tmp_path: Path) -> None:
    torch, timm = pytest.importorskip("torch"), pytest.importorskip("timm")
    weights = tmp_path / "weights.pth"
    network = timm.create_model("test_vit", num_classes=0)
    torch.save(network.state_dict(), weights)
    options = {"weights": weights, "layers": [-2, -1], "facet": "query"}
    results = run(folder, tmp_path / "out", features="test_vit", backbone=options, grid="patch")
    assert {result.status for result in results} == {"done"}
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["localize"]["settings"]
    assert settings["features"] == "test_vit"
    assert settings["facet"] == "query"
    assert len(settings["layers"]) == 2
    assert settings["weights"]["file"] == "weights.pth"
    again = run(folder, tmp_path / "out", features="test_vit", backbone=options, grid="patch", batch_size=1)
    assert {result.status for result in again} == {"kept"}
    with pytest.raises(ValueError, match="facet = query, not key"):
        pipeline.run(
            folder, tmp_path / "out", features="test_vit", backbone=options | {"facet": "key"}, grid="patch"
        )


def test_what_does_not_determine_the_results_may_change(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "out", threads=1)
    assert {result.status for result in run(folder, tmp_path / "out", jobs=0, threads=2)} == {"kept"}


def test_numbers_of_numpy_are_numbers(folder: Path, tmp_path: Path) -> None:
    numpys = {"seed": np.int64(1), "n_segments": np.uint8(3), "k": np.int64(4), "max_size": np.int32(50)}
    run(folder, tmp_path / "numpy", "regions", color_weight=np.float32(2), **numpys)
    plain = {name: int(value) for name, value in numpys.items()}
    run(folder, tmp_path / "plain", "regions", color_weight=2.0, **plain)
    assert contents(tmp_path / "numpy") == contents(tmp_path / "plain")


@pytest.mark.parametrize(
    ("task", "theirs"),
    [
        ("eigenvectors", "eigenvectors/a.npz"),
        ("localize", "boxes.json"),
        ("segment", "masks/a.png"),
        ("segment", "masks.json"),
        ("regions", "labels/a.png"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_not_ours_is_never_overwritten(
    task: str, theirs: str, overwrite: bool, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "out" / theirs
    file.parent.mkdir(parents=True)
    file.write_bytes(b"the truth")
    with pytest.raises(
        ValueError, match=rf"out.\w+(\.json)? was not written by {task}: choose another folder"
    ):
        run(folder, tmp_path / "out", task, overwrite=overwrite)
    assert contents(tmp_path / "out") == {theirs: b"the truth"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "paint"}, "task must be one of 'eigenvectors', 'localize', 'segment', 'regions', got 'paint'"),
        ({"n_segments": 3}, "localize takes foreground, partition, min_score, got n_segments=3"),
        ({"foreground": "left"}, "foreground must be one of 'smaller', .* got 'left'"),
        ({"task": "regions", "n_segments": 300}, "from 1 to 256, got 300"),
        ({"task": "regions", "n_segments": "auto", "k": 2}, "k must be at least 3 for regions, got 2"),
        ({"task": "regions", "seed": -1}, "seed must be a whole number from 0 to 4294967295, got -1"),
        ({"task": "regions", "n_segments": True}, "from 1 to 256, got True"),
        ({"task": "regions", "background": "top"}, "background must be one of"),
        ({"k": 1}, "k must be at least 2 for localize, got 1"),
        ({"k": 2.5}, "k must be a whole number of at least 1, got 2.5"),
        ({"grid": "fine"}, "grid must be 'auto', 'patch' or"),
        ({"max_size": 0}, "max_size must be None or a whole number of pixels, at least 1, got 0"),
        ({"color_weight": float("nan")}, "color_weight must be a number from 0 to inf, got nan"),
        ({"jobs": -1}, "jobs must be a whole number of at least 0, got -1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"threads": 0}, "threads must be a whole number from 1 to 4096, got 0"),
        ({"features": np.zeros((2, 2, 3))}, "features must be a name or a callable for many images, got ndarray"),
        ({"backbone": {"weights": "w.pth"}}, "classical features have no weights"),
    ],
)  # fmt: skip
def test_calls_that_cannot_work_write_nothing(
    options: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = {"task": "localize", "features": "classical", **options}
    with pytest.raises(ValueError, match=message):
        pipeline.run(folder, out, **arguments)
    assert not out.exists()


class Backbone:
    """Takes images of one size together, as networks do, and cannot take what is narrower than 40 pixels."""

    def __init__(self) -> None:
        self.settings = {"features": "backbone", "layers": [3]}
        self.batch_size = 2
        self.device = SimpleNamespace(type="elsewhere")
        self.batches: list[list[tuple[int, ...]]] = []

    def __call__(self, image: np.ndarray) -> Features:
        return self.extract([image])[0]

    def extract(self, pictures: list[np.ndarray]) -> list[Features]:
        self.batches.append([picture.shape for picture in pictures])
        if min(picture.shape[1] for picture in pictures) < 40:
            raise ValueError("image must be at least 40 pixels wide for backbone")
        return [
            Features(picture[4::8, 4::8] / np.float32(255), (8, 8), self.settings) for picture in pictures
        ]


@pytest.mark.parametrize("jobs", [0, 1, 2])
def test_images_of_one_size_go_through_a_network_together(jobs: int, folder: Path, tmp_path: Path) -> None:
    for number in range(3):
        noisy_square(number, 80, 80).save(folder / f"large{number}.png")
    Image.new("RGB", (32, 80)).save(folder / "narrow.png")
    backbone = Backbone()
    results = run(folder, tmp_path / "out", features=backbone, jobs=jobs)
    statuses = {result.name: result.status for result in results}
    assert len(statuses) == 9
    assert {name for name, status in statuses.items() if status == "failed"} == {"narrow.png"}
    assert all(len(set(batch)) == 1 and len(batch) <= 2 for batch in backbone.batches)
    assert sum(len(batch) == 2 for batch in backbone.batches) >= 2
    single = run(folder, tmp_path / "single", features=backbone, jobs=jobs, batch_size=1)
    assert {result.name: result.line for result in single} == {result.name: result.line for result in results}
    assert contents(tmp_path / "single") == contents(tmp_path / "out")
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["localize"]["settings"]
    assert settings["features"] == "backbone"
    assert settings["layers"] == [3]


def test_an_image_that_spoils_its_batch_spoils_no_other(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        noisy_square(number).save(tmp_path / "in" / f"{number}.png")
    spoilt = load(tmp_path / "in" / "1.png")

    class Fragile(Backbone):
        def extract(self, pictures: list[np.ndarray]) -> list[Features]:
            if any(np.array_equal(picture, spoilt) for picture in pictures):
                raise MemoryError("too much for the device")
            return super().extract(pictures)

    results = run(tmp_path / "in", tmp_path / "out", features=Fragile(), batch_size=4)
    assert [result.line for result in results if result.status == "failed"] == ["too much for the device"]
    assert sorted(result.name for result in results if result.status == "done") == ["0.png", "2.png", "3.png"]


# pycocotools is older than numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_boxes_and_masks_are_read_by_pycocotools(folder: Path, tmp_path: Path) -> None:
    coco_module = pytest.importorskip("pycocotools.coco")
    out = tmp_path / "out"
    run(folder, out, "localize")
    run(folder, out, "segment")
    boxes, masks = coco_module.COCO(str(out / "boxes.json")), coco_module.COCO(str(out / "masks.json"))
    assert sorted(boxes.imgs) == sorted(masks.imgs) == [1, 2, 3, 4, 5]
    for number, image in masks.imgs.items():
        (annotation,) = masks.loadAnns(masks.getAnnIds(imgIds=number))
        png = out / "masks" / Path(image["file_name"]).with_suffix(".png")
        with Image.open(png) as mask:
            np.testing.assert_array_equal(masks.annToMask(annotation) * 255, np.asarray(mask))
        (box,) = boxes.loadAnns(boxes.getAnnIds(imgIds=number))
        assert 0 < box["score"] <= 1
        assert box["area"] == box["bbox"][2] * box["bbox"][3]


def broken_files(folder: Path) -> dict[str, str]:
    """Twelve files that are no images, each in its own way, and a word of the reason."""
    noisy_square(0).save(folder / "whole.jpg")
    whole = (folder / "whole.jpg").read_bytes()
    (folder / "whole.jpg").unlink()
    noisy_square(0).save(folder / "whole.png")
    png = (folder / "whole.png").read_bytes()
    (folder / "whole.png").unlink()
    files = {
        "empty.jpg": b"",
        "text.png": b"not an image",
        "page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "paper.tif": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
        "truncated.jpg": whole[: len(whole) // 2],
        "header only.jpg": whole[:20],
        "deep/truncated ß.png": png[: len(png) // 2],
        "deep/signature.png": png[:8],
        "deep/wrong checksum.png": png[:60] + bytes([png[60] ^ 255]) + png[61:],
        "zeros.bmp": bytes(1000),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    Image.new("RGB", (5, 5)).save(folder / "tiny.png")
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    return {**dict.fromkeys(files, "image"), "tiny.png": "at least 8 x 8", "dangling.jpg": "No such file"}


def test_three_hundred_files_of_which_twelve_are_broken(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    good = [f"{'nested/' * (number % 3)}größe {number}.png" for number in range(288)]
    for number, name in enumerate(good):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noisy_square(number, 40, 48).save(folder / name)
    broken = broken_files(folder)
    results = run(folder, out, "segment", k=2)
    assert len(results) == 300
    assert {result.name for result in results if result.status == "done"} == set(good)
    failed = {result.name: result.line for result in results if result.status == "failed"}
    assert set(failed) == set(broken)
    for name, reason in failed.items():
        assert broken[name].lower() in reason.lower(), f"{name}: {reason}"
        assert "\n" not in reason
    masks = {path.relative_to(out / "masks").as_posix() for path in (out / "masks").rglob("*.png")}
    assert masks == set(good)
    assert len(json.loads((out / "masks.json").read_text())["images"]) == 288


COMMAND = (sys.executable, "-m", "deepspec.cli", "segment", "--features", "classical", "--k", "2", "--page")


def started(folder: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, str(folder), "-o", str(out), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def finished(folder: Path, out: Path, *options: str) -> int:
    process = started(folder, out, *options)
    process.communicate()
    return process.returncode


def wait_for(out: Path, records: int) -> None:
    until = time.monotonic() + 60
    while len(list((out / ".records").rglob("*.json"))) < records and time.monotonic() < until:
        time.sleep(0.005)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for number in range(40):
        path = tmp_path / "in" / f"{number % 4}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noisy_square(number, 120, 160).save(path)
    (tmp_path / "in" / "broken.jpg").write_bytes(b"")
    return tmp_path / "in"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_killed_at_any_moment_a_second_run_leaves_the_same_bytes(
    jobs: str, many: Path, tmp_path: Path
) -> None:
    clean, out = tmp_path / "clean", tmp_path / "out"
    assert finished(many, clean) == 1
    rng = random.Random(int(jobs))
    for kill in range(10):
        process = started(many, out, "--jobs", jobs)
        if kill < 9:
            # Beyond what the runs before it did, so that it is killed at work.
            wait_for(out, len(list((out / ".records").rglob("*.json"))) + 2 * rng.randrange(4))
        time.sleep(0.03 * rng.random())
        process.kill()
        process.communicate()
    process = started(many, out, "--jobs", jobs)
    printed, _ = process.communicate()
    assert process.returncode == 1
    assert "40 of 41 images done (" in printed
    assert contents(out) == contents(clean)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("jobs", ["0", "1", "2"])
def test_ctrl_c_leaves_a_folder_to_go_on_with(jobs: str, many: Path, tmp_path: Path) -> None:
    clean, out = tmp_path / "clean", tmp_path / "out"
    assert finished(many, clean) == 1
    process = started(many, out, "--jobs", jobs)
    wait_for(out, 8)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=30)
    assert process.returncode == 130
    assert message.startswith("deepspec: interrupted after ")
    assert "the same command goes on from there" in message
    assert not list(out.rglob("*.tmp"))
    assert 0 < len(list((out / "masks").rglob("*.png"))) < 40
    assert finished(many, out) == 1
    assert contents(out) == contents(clean)


def test_jobs_end_with_a_killed_parent(many: Path, tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    process = started(many, tmp_path / "out", "--jobs", "2")
    wait_for(tmp_path / "out", 4)
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_stopping_early_is_going_on_later(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    results = pipeline.run(folder, out, "segment", "classical")
    next(results)
    results.close()
    assert not (out / "masks.json").exists()
    run(folder, out, "segment")
    run(folder, tmp_path / "fresh", "segment")
    assert contents(out) == contents(tmp_path / "fresh")


def test_two_runs_at_a_time_do_not_share_a_task_of_a_folder(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = pipeline.run(folder, out, "localize", "classical")
    next(first)
    with pytest.raises(OutputError, match="another run is writing its results here"):
        run(folder, out, "segment")
    assert len(list(first)) == 4
    run(folder, out, "segment")


def mounted(folder: Path, size: str) -> bool:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        return subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    if not mounted(disk, "128k"):
        pytest.skip("a small file system can be mounted by the administrator of Linux only")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_full_disk_is_told_and_leaves_whole_files(jobs: str, many: Path, small_disk: Path) -> None:
    out = small_disk / "out"
    process = started(many, out, "--jobs", jobs)
    _, message = process.communicate()
    assert process.returncode == 1
    assert "cannot be written: No space left on device; what is done is kept" in message
    assert "Traceback" not in message
    assert not list(out.rglob("*.tmp"))
    for path in out.rglob("*.json"):
        json.loads(path.read_text())
    for path in out.rglob("*.png"):
        load(path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_file_that_cannot_be_written_ends_the_run(many: Path, tmp_path: Path) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000));"
        "from deepspec.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    out = tmp_path / "out"
    command = [sys.executable, "-c", code, "segment", str(many), "-o", str(out), "--features", "classical"]
    ended = subprocess.run([*command, "--page"], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "cannot be written: File too large" in ended.stderr
    assert not list(out.rglob("*.tmp"))


@pytest.mark.skipif(sys.platform != "linux", reason="file names of bytes")
def test_file_names_need_not_be_text(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    noisy_square(0).save(folder / "a.png")
    (folder / "a.png").rename(folder / os.fsdecode(b"\xff\xfe.png"))
    process = started(folder, tmp_path / "out", "--verbose")
    printed, message = process.communicate()
    assert (process.returncode, message) == (0, "")
    assert "\\udcff\\udcfe.png: object " in printed
    (image,) = json.loads((tmp_path / "out" / "masks.json").read_text())["images"]
    assert os.fsencode(image["file_name"]) == b"\xff\xfe.png"
    assert finished(folder, tmp_path / "out") == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="memory as POSIX counts it")
@pytest.mark.parametrize("jobs", ["0", "1"])
def test_memory_does_not_grow_with_the_number_of_images(jobs: str, tmp_path: Path) -> None:
    code = (
        "import resource, sys; from deepspec.cli import main; main(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (50, 300):
        folder = tmp_path / f"in{count}"
        folder.mkdir()
        for number in range(count):
            noisy_square(number, 240, 320).save(folder / f"{number}.png")
        command = [sys.executable, "-c", code, "segment", str(folder), "-o", str(tmp_path / f"out{count}")]
        command += ["--features", "classical", "--page", "--jobs", jobs]
        ended = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(ended.stdout.split()[-1]) / (1 if sys.platform == "darwin" else 1024))
    assert abs(peaks[1] - peaks[0]) <= 64, f"{peaks} MiB"

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("torchvision")
pytest.importorskip("matplotlib")

from PIL import Image
from segmentation_data import SMALL, train_small, write_scenes

from deepspec import checkpoints, cli, images, training
from deepspec.segmenters import build
from deepspec.training import PRESETS, DivergedError, TrainingError, load
from deepspec.training_loop import add_gradients, passes


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    write_scenes(tmp_path, ignored=True)
    return tmp_path


def run(scenes: Path, name: str = "run", **options: Any) -> Any:
    return train_small(scenes, name, **{"steps": 3, **options})


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in record.items() if name != "images_per_second"} for record in records
    ]


def assert_same(first: Any, second: Any) -> None:
    """Two nests of tensors and values, to the last bit."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list):
        for left, right in zip(first, second, strict=True):
            assert_same(left, right)
    else:
        assert first == second


def state(folder: Path) -> dict[str, Any]:
    """All of a checkpoint but what was measured by the clock."""
    content = checkpoints.read(folder / "checkpoint.pt")
    del content["last"]["images_per_second"]
    return content


def test_a_network_learns_its_labels(scenes: Path) -> None:
    options = {"steps": 80, "crop": 64, "lr": 3e-3, "frozen_layers": 0}
    found = run(scenes, **options, truth=scenes / "truth", evaluate_every=40)
    losses = [record["loss"] for record in log(found.folder)]
    assert len(losses) == 80
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    assert found.loss == losses[-1]
    assert (found.steps, found.n_images, found.n_classes, found.n_truths) == (80, 6, 3, 6)
    assert found.unlabelled == ()
    scores = {record["step"]: record["miou"] for record in log(found.folder) if "miou" in record}
    assert list(scores) == [40, 80]
    assert found.miou == scores[80] > 0.6
    assert found.pseudo_labels_miou == 1.0
    segmenter = load(found.folder, device="cpu")
    right = []
    for name in ("1.png", "2.png", "sub/0.png"):
        labels = segmenter.predict(images.load(scenes / "images" / name))
        right.append(np.mean(labels == images.read_labels(scenes / "labels" / name)))
    assert np.mean(right) > 0.8
    with Image.open(found.folder / "curve.png") as curve:
        assert curve.format == "PNG"
        # The axis of mIoU, the network's and the labels', is drawn in colour.
        assert (np.ptp(np.asarray(curve.convert("RGB")).astype(int), axis=2) > 100).any()


def test_deeplab_on_a_resnet_trains_in_mixed_precision(scenes: Path) -> None:
    found = run(
        scenes,
        architecture="deeplabv3plus",
        backbone="resnet18",
        dtype="bfloat16",
        micro_batch=2,
        steps=2,
        checkpoint_every=10,
    )
    before = build("deeplabv3plus", "resnet18", 3).state_dict()
    content = checkpoints.read(found.folder / "checkpoint.pt")
    assert content["step"] == 2
    assert all(value.dtype == before[key].dtype for key, value in content["network"].items())
    assert load(found.folder, device="cpu").predict(np.zeros((50, 70, 3), np.uint8)).shape == (50, 70)


def test_half_precision_is_scaled_and_its_scale_kept(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(scenes, "single", steps=2)
    # On the CPU it is slow, and so refused; what it takes is the same.
    monkeypatch.setattr(training, "pick_dtype", lambda *_: "float16")
    found = run(scenes, steps=2)
    single = [record["loss"] for record in log(scenes / "single")]
    assert [record["loss"] for record in log(found.folder)] == pytest.approx(single, rel=0.02)
    assert checkpoints.read(found.folder / "checkpoint.pt")["scaler"]["scale"] == 65536


KILLED = """
import json, os, signal, sys
import torch
from deepspec.training import train

torch.set_num_threads(1)
paths, options = json.loads(sys.argv[1])

def kill(record):
    if record["step"] == 37:
        os.kill(os.getpid(), signal.SIGKILL)

train(*paths, **options, follow=kill)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on Windows")
def test_a_killed_training_ends_with_the_same_bits(scenes: Path) -> None:
    options = SMALL | {
        "architecture": "deeplabv3",  # whose dropout draws as well
        "steps": 45,
        "ema": 0.9,
        "schedule": "linear",
        "checkpoint_every": 10,
        "micro_batch": 2,
    }
    paths = [str(scenes / name) for name in ("labels", "images", "killed")]
    killed = subprocess.run([sys.executable, "-c", KILLED, json.dumps([paths, options])], check=False)
    assert killed.returncode == -signal.SIGKILL
    folder = scenes / "killed"
    assert checkpoints.read(folder / "checkpoint.pt")["step"] == 30
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 38, "lo')
    steps = []
    run(scenes, "killed", **options, follow=lambda record: steps.append(record["step"]))
    assert steps == list(range(31, 46))
    run(scenes, "whole", **options)
    assert_same(state(folder), state(scenes / "whole"))
    assert without_times(log(folder)) == without_times(log(scenes / "whole"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_step_and_writes_a_checkpoint(number: signal.Signals, scenes: Path) -> None:
    handler = signal.getsignal(number)

    def press(record: dict[str, Any]) -> None:
        if record["step"] == 2:
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        run(scenes, steps=6, follow=press)
    assert signal.getsignal(number) is handler
    assert checkpoints.read(scenes / "run" / "checkpoint.pt")["step"] == 3
    run(scenes, steps=6)
    run(scenes, "whole", steps=6)
    assert_same(state(scenes / "run"), state(scenes / "whole"))


def test_a_finished_training_is_kept(scenes: Path) -> None:
    first = run(scenes)
    before = (scenes / "run" / "checkpoint.pt").stat().st_mtime_ns
    calls: list[Any] = []
    assert run(scenes, follow=calls.append) == first
    assert calls == []
    assert (scenes / "run" / "checkpoint.pt").stat().st_mtime_ns == before
    # The truth may come later.
    assert 0 < run(scenes, truth=scenes / "truth").miou <= 1


def test_other_settings_are_refused_unless_overwritten(scenes: Path) -> None:
    run(scenes)
    with pytest.raises(
        ValueError, match=r"run holds a training with lr = 0.001, not 0.1, seed = 0, not 5: choose"
    ):
        run(scenes, lr=0.1, seed=5)
    # What changes nothing may change.
    run(scenes, checkpoint_every=2, log_every=2, workers=2)
    label_map = scenes / "labels" / "1.png"
    labels = images.read_labels(label_map)
    labels[0, 0] = 1
    Image.fromarray(labels).save(label_map)
    with pytest.raises(ValueError, match=r"run holds a training with data = \w+, not \w+: choose"):
        run(scenes)
    assert run(scenes, steps=1, overwrite=True).steps == 1
    assert [record["step"] for record in log(scenes / "run")] == [1]
    (scenes / "run" / "settings.json").unlink()
    with pytest.raises(ValueError, match="holds a checkpoint without settings"):
        run(scenes, steps=1)


def test_presets_are_the_papers_and_can_be_replaced(scenes: Path) -> None:
    paper, supplement = PRESETS["paper"], PRESETS["supplement"]
    assert (paper.optimizer, paper.lr, paper.steps, paper.schedule, paper.frozen_layers) == (
        "adamw",
        0.005,
        3000,
        "constant",
        2,
    )
    assert (supplement.optimizer, supplement.lr, supplement.steps, supplement.schedule) == (
        "adam",
        1e-4,
        2000,
        "linear",
    )
    assert {(preset.batch_size, preset.crop) for preset in PRESETS.values()} == {(144, 224)}
    found = run(scenes, preset="supplement", lr=None, steps=4)
    assert [record["lr"] for record in log(found.folder)] == pytest.approx([1e-4, 0.75e-4, 0.5e-4, 0.25e-4])
    settings = json.loads((found.folder / "settings.json").read_text())["settings"]
    assert settings["optimizer"] == "adam"
    assert settings["frozen_layers"] == 0
    assert settings["steps"] == 4


def test_frozen_layers_keep_their_weights(scenes: Path) -> None:
    found = run(scenes, frozen_layers="all")
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        before = build("fcn", "test_vit", 3).state_dict()
    after = checkpoints.read(found.folder / "checkpoint.pt")["network"]
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    assert changed
    assert all(key.startswith("head.") for key in changed)


def test_the_average_is_what_is_loaded(scenes: Path) -> None:
    found = run(scenes, ema=0.5)
    content = checkpoints.read(found.folder / "checkpoint.pt")
    # w ← (w + new) / 2 after each step; the first one begins it.
    name = "head.0.weight"
    averaged = content["ema"][f"module.{name}"]
    assert not torch.equal(averaged, content["network"][name])
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    network = build("fcn", "test_vit", 3).eval()
    network.load_state_dict(
        {key.removeprefix("module."): value for key, value in content["ema"].items() if key != "n_averaged"}
    )
    with torch.no_grad():
        expected = network(torch.from_numpy(image)[None])[0].argmax(dim=0)
    np.testing.assert_array_equal(load(found.folder, device="cpu").predict(image), expected.numpy())


def test_nothing_of_the_callers_generators_is_used(scenes: Path) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    run(scenes)
    load(scenes / "run", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    run(scenes, "again")
    assert_same(state(scenes / "run"), state(scenes / "again"))
    run(scenes, "other", seed=1)
    assert log(scenes / "other")[0]["loss"] != log(scenes / "run")[0]["loss"]


class Convolution(torch.nn.Module):
    """Logits of three classes, without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = torch.nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.convolution(pixels.movedim(3, 1) / 255)


@pytest.mark.parametrize("micro_batch", [None, 1, 2, 3, 4])
def test_the_gradient_does_not_depend_on_the_passes(micro_batch: int | None) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    labels = rng.integers(0, 3, (5, 8, 8), dtype=np.uint8)
    labels[0], labels[1, :7], labels[4, 3] = 255, 255, 255
    network = Convolution()
    n_valid = np.count_nonzero(labels != 255)
    loss = add_gradients(network, pixels, labels, n_valid, micro_batch=micro_batch)
    expected = Convolution()
    logits = expected(torch.from_numpy(pixels))
    mean = torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels).long(), ignore_index=255)
    mean.backward()
    assert loss == pytest.approx(mean.item(), rel=1e-6)
    for found, wanted in zip(network.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, atol=1e-7, rtol=1e-5)


def test_nothing_known_is_no_gradient() -> None:
    network = Convolution()
    labels = np.full((2, 4, 4), 255, np.uint8)
    assert add_gradients(network, np.zeros((2, 4, 4, 3), np.uint8), labels, 0) == 0
    assert all(not parameter.grad.any() for parameter in network.parameters())


def test_passes_are_few_and_nearly_equal() -> None:
    assert [len(part) for part in passes(range(10), 4)] == [3, 3, 4]
    assert passes(range(4), None) == [range(4)]
    assert passes(range(0), 2) == []
    assert passes(range(5, 9), 2) == [range(2), range(2, 4)]


RANK = """
import json, os, sys
import torch
from deepspec import training
from test_training import without_dropout

torch.set_num_threads(1)
networks = without_dropout(training)
paths, options = json.loads(sys.argv[1])
training.train(*paths, **options)
torch.save(networks[0].state_dict(), f"{paths[2]}-rank{os.environ['RANK']}.pt")
"""


def without_dropout(module: Any) -> list[torch.nn.Module]:
    """What the module `training` builds from now on, for each process draws of its own."""
    networks, original = [], module.build

    def replacement(*arguments: Any, **options: Any) -> torch.nn.Module:
        networks.append(original(*arguments, **options))
        for part in networks[-1].modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = 0.0
        return networks[-1]

    module.build = replacement
    return networks


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs libuv there")
def test_processes_share_a_batch_and_agree(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = scenes / "rank.py"
    script.write_text(RANK)
    paths = [str(scenes / folder) for folder in ("labels", "images", "shared")]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [sys.executable, *torchrun, str(script), json.dumps([paths, SMALL | {"steps": 4}])],
        check=True,
        timeout=240,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
    )
    ranks = [checkpoints.read(scenes / f"shared-rank{rank}.pt") for rank in range(2)]
    for name, _ in build("fcn", "test_vit", 3).named_parameters():
        assert torch.equal(ranks[0][name], ranks[1][name])
    assert_same(dict(ranks[0]), dict(checkpoints.read(scenes / "shared" / "checkpoint.pt")["network"]))
    # One process that lets the same images through together takes the same steps.
    monkeypatch.setattr(training, "build", training.build)
    without_dropout(training)
    run(scenes, "alone", steps=4, micro_batch=2)
    shared, alone = ([record["loss"] for record in log(scenes / name)] for name in ("shared", "alone"))
    assert shared == pytest.approx(alone, rel=1e-4)
    assert len(set(shared)) == 4


def test_an_absurd_learning_rate_stops_the_training(scenes: Path) -> None:
    with pytest.raises(
        DivergedError, match=r"the loss is (nan|inf) in step 2 of 9, the checkpoint of step 1 is kept"
    ) as stop:
        run(scenes, lr=1e30, steps=9, checkpoint_every=1)
    assert stop.value.step == 2
    assert isinstance(stop.value, TrainingError)
    content = checkpoints.read(scenes / "run" / "checkpoint.pt")
    assert content["step"] == 1
    assert all(torch.isfinite(value).all() for value in content["network"].values())
    assert [record["step"] for record in log(scenes / "run")] == [1]


def test_weights_that_are_not_finite_are_not_saved(scenes: Path) -> None:
    # Training does not read a running mean, prediction would.
    poisoned = build("fcn", "resnet18", 3).encoder.backbone.state_dict()
    poisoned["layer4.1.bn2.running_mean"][0] = torch.nan
    torch.save(poisoned, scenes / "poisoned.pth")
    options = {"backbone": "resnet18", "weights": scenes / "poisoned.pth", "checkpoint_every": 2}
    with pytest.raises(
        DivergedError, match="a weight is not finite in step 2 of 3, there is no checkpoint yet"
    ):
        run(scenes, **options)
    assert not (scenes / "run" / "checkpoint.pt").exists()


def test_poisoned_weights_stop_the_training(scenes: Path) -> None:
    poisoned = build("fcn", "test_vit", 3).encoder.backbone.state_dict()
    poisoned["norm.weight"][0] = torch.nan
    torch.save(poisoned, scenes / "poisoned.pth")
    with pytest.raises(DivergedError, match="the loss is nan in step 1 of 3, there is no checkpoint yet"):
        run(scenes, weights=scenes / "poisoned.pth")
    # Nothing is there that other settings could not go on from.
    assert run(scenes).steps == 3


def test_an_image_that_cannot_be_read_stops_the_training(scenes: Path) -> None:
    broken = scenes / "images" / "1.bmp"
    Image.open(scenes / "images" / "1.png").save(broken)
    (scenes / "images" / "1.png").unlink()
    broken.write_bytes(broken.read_bytes()[:2000])
    with pytest.raises(TrainingError, match=r"1\.bmp: cannot be read as an image"):
        run(scenes)


def test_the_log_has_a_line_every_so_often(scenes: Path) -> None:
    run(scenes, steps=7, log_every=3, truth=scenes / "truth", evaluate_every=4, evaluate_images=2)
    assert [record["step"] for record in log(scenes / "run")] == [3, 4, 6, 7]
    assert [record["step"] for record in log(scenes / "run") if "miou" in record] == [4, 7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "fast"}, "preset must be one of 'paper', 'supplement', got 'fast'"),
        ({"optimizer": "sgd"}, "optimizer must be one of 'adam', 'adamw', got 'sgd'"),
        ({"schedule": "cosine"}, "schedule must be one of"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295, got 4294967296"),
        ({"batch_size": 1}, "batch_size must be a whole number of at least 2, got 1"),
        ({"lr": float("nan")}, "lr must be finite and above 0, at most 1e30, got nan"),
        ({"weight_decay": -1}, "weight_decay must be finite and at least 0, got -1"),
        ({"ema": 1.0}, "ema must be finite and at least 0 and below 1, got 1.0"),
        ({"scales": (2, 1)}, "scales must be above 0 and in order, got 2 and 1"),
        ({"micro_batch": 1}, "micro_batch must be a whole number of at least 2, got 1"),
        (
            {"batch_size": 3, "micro_batch": 2},
            "batch norm needs at least 2 images in each pass, which batch_size = 3 with micro_batch = 2 and 1 process",
        ),
        ({"crop": 40}, "crop must be a multiple of test_vit's patch size 16, got 40"),
        ({"dtype": "float16"}, "dtype must be float32 or bfloat16 on cpu, got 'float16'"),
        ({"device": "tpu"}, "device must be one of"),
        ({"checkpoint_every": 0}, "checkpoint_every must be a whole number of at least 1, got 0"),
        ({"evaluate_every": 2}, "truth_list, evaluate_every and evaluate_images need truth"),
        ({"architecture": "deeplabv3plus"}, "architecture must be deeplabv3 or fcn for test_vit"),
    ],
)
def test_calls_that_cannot_work(options: dict[str, Any], message: str, scenes: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        run(scenes, **options)
    assert not (scenes / "run").exists()


@pytest.mark.parametrize(("module", "extra"), [("matplotlib.figure", "plots"), ("torch", "models")])
def test_missing_extras_are_named_before_work(
    module: str, extra: str, scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=re.escape(f"pip install 'deepspec[{extra}]'")):
        run(scenes)
    assert not (scenes / "run").exists()


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"checkpoint\.pt"):
        load(tmp_path)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: not written by deepspec's training"):
        load(tmp_path)


def arguments(scenes: Path, *others: str) -> list[str]:
    small = ["--architecture", "fcn", "--backbone", "test_vit", "--weights", "none", "--device", "cpu"]
    size = ["--batch-size", "4", "--crop", "32", "--workers", "1"]
    places = [str(scenes / "labels"), str(scenes / "images"), "-o", str(scenes / "run")]
    return ["train", *places, *small, *size, "--steps", "3", *others]


def test_the_command_trains(scenes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (scenes / "labels" / "5.png").unlink()
    assert (
        cli.main(
            arguments(scenes, "--lr", "0.001", "--truth", str(scenes / "truth"), "--frozen-layers", "all")
        )
        == 0
    )
    printed = capsys.readouterr()
    first, second = printed.out.splitlines()
    expected = rf"3 steps on 5 images with 3 labels, loss \d.*; checkpoint and log in {scenes / 'run'}"
    assert re.fullmatch(expected, first)
    assert re.fullmatch(r"mIoU \d+\.\d%, of the pseudo-labels \d+\.\d%, on 6 images", second)
    assert printed.err == "deepspec: 1 of 6 images have no label map and were left out, such as 5.png\n"
    settings = json.loads((scenes / "run" / "settings.json").read_text())["settings"]
    assert settings["lr"] == 0.001
    assert settings["optimizer"] == "adamw"
    assert settings["frozen_layers"] == "all"


def test_the_command_says_how_it_ended(
    scenes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(arguments(scenes, "--crop", "33")) == 2
    assert "crop must be a multiple of test_vit's patch size 16, got 33" in capsys.readouterr().err
    assert not (scenes / "run").exists()
    assert cli.main(arguments(scenes, "--lr", "1e30", "--checkpoint-every", "1")) == 1
    assert re.search(
        r"deepspec: error: the loss is \w+ in step 2 of 3, the checkpoint", capsys.readouterr().err
    )
    assert cli.main(arguments(scenes, "--lr", "1e-3")) == 2
    assert "holds a training with lr = 1e+30, not 0.001" in capsys.readouterr().err

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("deepspec.training_loop.add_gradients", interrupted)
    assert cli.main(arguments(scenes, "--overwrite")) == 130
    assert capsys.readouterr().err.endswith(
        "deepspec: interrupted; what is done is kept, and the same command goes on from there\n"
    )


def test_importing_loads_no_torch() -> None:
    code = "import sys, deepspec.training; assert not {'torch', 'matplotlib', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))

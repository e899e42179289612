"""Networks on a GPU. Skipped where there is none."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
pytest.importorskip("torchvision")
pytest.importorskip("matplotlib")

from segmentation_data import train_small, write_scenes

from deepspec import checkpoints, images
from deepspec.backbones import load_backbone
from deepspec.decomposition import decompose
from deepspec.regions import localize
from deepspec.training import load

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.mark.parametrize(("dtype", "most"), [(None, 5e-3), ("bfloat16", 5e-2), ("float32", 1e-5)])
def test_features_are_those_of_the_cpu(dtype: str | None, most: float, test_data: Path) -> None:
    weights = test_data / "squeezenet" / "squeezenet_v1.0.npz"
    photographs = [images.load(path) for path in sorted((test_data / "photos").glob("*.*g"))[:3]]
    assert len(photographs) == 3
    card, cpu = (
        load_backbone("squeezenet1_0", weights, None, dtype),
        load_backbone("squeezenet1_0", weights, "cpu"),
    )
    assert card.device.type == "cuda"
    assert dtype is not None or card.dtype == torch.float16
    for found, expected in zip(card.extract(photographs), cpu.extract(photographs), strict=True):
        assert found.array.dtype == np.float32
        error = np.linalg.norm(found.array - expected.array) / np.linalg.norm(expected.array)
        assert 0 < error < most


def test_an_image_is_decomposed_by_features_of_the_card(test_data: Path) -> None:
    weights = test_data / "squeezenet" / "squeezenet_v1.0.npz"
    image = images.load(test_data / "photos" / "chelsea.png")
    found, expected = (
        decompose(image, features=load_backbone("squeezenet1_0", weights, device))
        for device in ("cuda", "cpu")
    )
    np.testing.assert_allclose(found.pairs.values, expected.pairs.values, atol=1e-3)
    box, expected_box = localize(found), localize(expected)
    for side in ("xmin", "ymin", "xmax", "ymax"):
        assert getattr(box, side) == pytest.approx(getattr(expected_box, side), abs=16)  # a cell


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_network_learns_its_labels_and_goes_on_after_an_interrupt(dtype: str, tmp_path: Path) -> None:
    write_scenes(tmp_path, ignored=True)

    def press(record: dict[str, object]) -> None:
        if record["step"] == 30:
            signal.raise_signal(signal.SIGINT)

    options = {"crop": 64, "lr": 3e-3, "frozen_layers": 0, "steps": 80, "checkpoint_every": 10}
    run = partial(train_small, tmp_path, device="cuda", dtype=dtype, **options)
    with pytest.raises(KeyboardInterrupt):
        run(follow=press)
    assert checkpoints.read(tmp_path / "run" / "checkpoint.pt")["step"] == 31
    run()
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in lines]
    assert len(losses) == 80
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    card, cpu = load(tmp_path / "run"), load(tmp_path / "run", device="cpu")
    for name in ("1.png", "2.png"):
        image = images.load(tmp_path / "images" / name)
        found = card.predict(image)
        assert (found == cpu.predict(image)).mean() > 0.99
        assert (found == images.read_labels(tmp_path / "labels" / name)).mean() > 0.8

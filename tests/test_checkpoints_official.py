"""The networks of the paper's Tables 2 and 9, random weights in the official layouts: against other forward passes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")
torchvision = pytest.importorskip("torchvision")

from official_networks import Checkpoint, convnext, normalized, xcit
from vit_oracle import ViT
from vit_oracle import checkpoint as vit_checkpoint

from deepspec import checkpoints
from deepspec.backbones import load_backbone
from deepspec.networks import recipe
from deepspec.reproduce import TABLES

IMAGE = np.random.default_rng(3).integers(0, 256, (64, 96, 3), dtype=np.uint8)
CONVNEXT = "convnext_tiny.fb_in1k"
State = dict[str, torch.Tensor]
Maps = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Official:
    """What is published of a network, and what it makes of `IMAGE`.

    `state` are the encoder's tensors by their official names, `content` is what the file holds, `maps` are
    the oracle's (h, w, C), of which `features` is the default and `embedding` (C,) the global one.
    """

    state: State
    content: Any
    maps: Maps
    features: str
    embedding: str


def prefixed(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": tensor for key, tensor in state.items()}


def bare(state: State) -> Any:
    return state


def moco(size: str) -> Official:
    """The base and the momentum encoder, each with a head, in DistributedDataParallel; a predictor; the optimizer."""
    state = vit_checkpoint(size, 16, (14, 14))
    head = {f"head.{layer}.weight": torch.zeros(8, 8) for layer in (0, 3, 6)}
    for layer in (1, 4, 7):
        kinds = (
            ("weight", "bias", "running_mean", "running_var")
            if layer < 7
            else ("running_mean", "running_var")
        )
        head |= {f"head.{layer}.{kind}": torch.ones(8) for kind in kinds}
        head[f"head.{layer}.num_batches_tracked"] = torch.tensor(9)
    momentum = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in state.items()} | head
    predictor = {
        "0.weight": torch.zeros(8, 8),
        "1.running_var": torch.ones(8),
        "4.running_mean": torch.zeros(8),
    }
    content = {
        "epoch": 300,
        "arch": f"vit_{'small' if size == 's' else 'base'}",
        "state_dict": prefixed("module.base_encoder.", state | head)
        | prefixed("module.momentum_encoder.", momentum)
        | prefixed("module.predictor.", predictor),
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4}]},
        "scaler": {"scale": 65536.0, "_growth_tracker": 12},
    }
    return Official(state, content, ViT(state, 12)(torch.from_numpy(IMAGE)), "11.key", "cls")


def full_dino(state: State, teacher: str = "module.") -> Any:
    """A training's file: networks with batch norm have a teacher in DistributedDataParallel, too."""
    other = {key: torch.zeros(()).expand(tensor.shape) for key, tensor in state.items()}
    head = {"head.mlp.0.weight": torch.zeros(8, 8), "head.last_layer.weight_g": torch.ones(8, 1)}
    return {
        "student": prefixed("module.", prefixed("backbone.", other) | head),
        "teacher": prefixed(teacher, prefixed("backbone.", state) | head),
        "optimizer": {
            "state": {0: {"exp_avg": torch.zeros(2), "step": 5}},
            "param_groups": [
                {"lr": np.float64(1e-6), "weight_decay": np.float64(0.4), "betas": (0.9, 0.999)}
            ],
        },
        "epoch": 300,
        "args": argparse.Namespace(arch="resnet50", lr=0.3, global_crops_scale=(0.14, 1.0), use_fp16=True),
        "dino_loss": {"center": torch.zeros(1, 8)},
        "fp16_scaler": {"scale": 65536.0},
    }


def dino_vit() -> Official:
    state = vit_checkpoint("s", 16, (14, 14))
    maps = ViT(state, 6)(torch.from_numpy(IMAGE))
    return Official(state, full_dino(state, teacher=""), maps, "11.key", "cls")


def dino_resnet(wrap: Callable[[State], Any]) -> Official:
    """torchvision's ResNet-50, whose classifier DINO replaces by the identity."""
    network = torchvision.models.resnet50()
    network.fc = torch.nn.Identity()
    generator = torch.Generator().manual_seed(1)
    state = network.state_dict()
    for key, tensor in state.items():
        if tensor.ndim == 1:
            tensor += 0.1 * torch.rand(tensor.shape, generator=generator)
        elif tensor.ndim == 0:
            tensor += 7
        assert key.startswith(("conv1.", "bn1.", "layer"))
    maps: Maps = {}
    for name in ("layer2.3.conv3", "layer3", "layer4", "layer4.2"):
        module = network.get_submodule(name)
        module.register_forward_hook(
            lambda _, __, output, name=name: maps.update({name: output[0].permute(1, 2, 0).clone()})
        )
    with torch.inference_mode():
        maps["pooled"] = network.eval()(normalized(torch.from_numpy(IMAGE)))[0]
    return Official(state, wrap(state), maps, "layer4", "pooled")


def dino_xcit(patch: int, wrap: Callable[[State], Any]) -> Official:
    state = Checkpoint()
    maps = xcit(state, torch.from_numpy(IMAGE), patch)
    return Official(state, wrap(dict(state)), maps, "11.key", "cls")


def fb_convnext() -> Official:
    state = Checkpoint()
    maps = convnext(state, torch.from_numpy(IMAGE))
    classifier = {"head.weight": torch.zeros(1000, 768), "head.bias": torch.zeros(1000)}
    return Official(state, {"model": state | classifier}, maps, "stages.3.2", "pooled")


OFFICIAL: dict[str, tuple[str, Callable[[], Official]]] = {
    "moco-s": ("mocov3_vits16", lambda: moco("s")),
    "moco-b": ("mocov3_vitb16", lambda: moco("b")),
    "vit-full": ("dino_vits16", dino_vit),
    "resnet": ("dino_resnet50", lambda: dino_resnet(bare)),
    "resnet-full": ("dino_resnet50", lambda: dino_resnet(full_dino)),
    "xcit-p16": ("dino_xcit_small_12_p16", lambda: dino_xcit(16, bare)),
    "xcit-p8": ("dino_xcit_small_12_p8", lambda: dino_xcit(8, bare)),
    "xcit-full": ("dino_xcit_small_12_p16", lambda: dino_xcit(16, full_dino)),
    "convnext": (CONVNEXT, fb_convnext),
}


def close(found: np.ndarray, expected: torch.Tensor) -> bool:
    reference = expected.numpy()
    return found.shape == reference.shape and np.abs(found - reference).max() < 1e-4 * np.abs(reference).max()


def numbers(tensors: Iterable[torch.Tensor]) -> np.ndarray:
    """All of them in ascending order."""
    return np.sort(np.concatenate([tensor.numpy().ravel().astype(np.float32) for tensor in tensors]))


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case == "moco-b")) for case in OFFICIAL]
)
def test_the_official_layout_gives_the_official_networks_features(case: str, tmp_path: Path) -> None:
    name, make = OFFICIAL[case]
    official = make()
    file = tmp_path / "official.pth.tar"
    torch.save(official.content, file)
    backbone = load_backbone(name, file, "cpu")
    assert close(backbone(IMAGE).array, official.maps[official.features])
    assert close(backbone.embed([IMAGE])[0], official.maps[official.embedding])
    # All numbers of the file's encoder are the network's, and no others.
    network = recipe(name).build()
    checkpoints.load(network, file, recipe(name))
    np.testing.assert_array_equal(numbers(network.state_dict().values()), numbers(official.state.values()))


@pytest.mark.parametrize("case", ["moco-s", "resnet", "xcit-p16", "convnext"])
def test_each_key_of_an_official_layout_is_needed_and_no_other_taken(case: str, tmp_path: Path) -> None:
    name, make = OFFICIAL[case]
    state = dict(make().state)
    network = recipe(name).build()
    file = tmp_path / "changed.pth"
    for key in (next(iter(state)), list(state)[len(state) // 2], next(reversed(state))):
        if not key.endswith("num_batches_tracked"):
            torch.save({own: tensor for own, tensor in state.items() if own != key}, file)
            with pytest.raises(ValueError, match=rf"changed.pth does not fit {name}: .*missing"):
                checkpoints.load(network, file, recipe(name))
    torch.save(state | {"blocks.99.other": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=r"1 unexpected \(blocks.99.other\)$"):
        checkpoints.load(network, file, recipe(name))


@pytest.mark.parametrize(
    ("layers", "key"),
    [
        ("layer2.3.conv3", "layer2.3.conv3"),
        ("layer3", "layer3"),
        (-2, "layer3"),
        ("layer4.2", "layer4.2"),
    ],
)
def test_layers_of_dinos_resnet_go_by_name(layers: int | str, key: str, tmp_path: Path) -> None:
    official = dino_resnet(bare)
    torch.save(official.content, tmp_path / "official.pth")
    backbone = load_backbone("dino_resnet50", tmp_path / "official.pth", "cpu", layers=layers)
    assert close(backbone(IMAGE).array, official.maps[key])


@pytest.mark.parametrize(
    ("row", "stride", "key"),
    [
        ("ConvNeXt conv2", 16, "stages.2.8.dwconv"),
        ("ConvNeXt conv3", 32, "stages.3.2.dwconv"),
        ("ConvNeXt block 2", 16, "stages.2.8"),
        ("ConvNeXt block 3", 32, "stages.3.2"),
        ("XCiT DINO", 16, "11.key"),
        ("ResNet-50 DINO", 32, "layer4.2"),
    ],
)
def test_rows_of_table_9_take_what_the_table_names(row: str, stride: int, key: str, tmp_path: Path) -> None:
    asked = next(entry for entry in TABLES["table9"] if entry.label == row)
    official = next(make for name, make in OFFICIAL.values() if name == asked.features)()
    torch.save(official.content, tmp_path / "official.pth")
    backbone = load_backbone(asked.features, tmp_path / "official.pth", "cpu", **asked.backbone)
    assert backbone.stride == (stride, stride)
    assert close(backbone(IMAGE).array, official.maps[key])


def test_squeezenets_real_weights_go_the_same_way(test_data: Path) -> None:
    from squeezenet import SqueezeNet

    weights = test_data / "squeezenet" / "squeezenet_v1.0.npz"
    network = recipe("squeezenet1_0").build()
    checkpoints.load(network, weights, recipe("squeezenet1_0"))
    official = checkpoints.read(weights)
    np.testing.assert_array_equal(numbers(network.state_dict().values()), numbers(official.values()))
    # By name: what fire9 concatenates, after the activation.
    expansions = [f"features.12.{name}_activation" for name in ("expand1x1", "expand3x3")]
    expected = torch.from_numpy(SqueezeNet(weights).fire9(IMAGE))
    for layers in ("features.12", expansions, -1):
        assert close(load_backbone("squeezenet1_0", weights, "cpu", layers=layers)(IMAGE).array, expected)

"""Checkpoint files: layouts, prefixes and heads, and what does not fit."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from safetensors.torch import save_file
from saved_networks import State, random_state, random_weights
from vit_oracle import checkpoint

from deepspec.backbones import load_backbone
from deepspec.checkpoints import read

IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def keys(name: str, path: Path, **options: Any) -> bytes:
    return load_backbone(name, path, "cpu", **options)(IMAGE).array.tobytes()


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, Path]:
    """A small transformer's weights and the file that holds them alone."""
    state = random_state("test_vit")
    path = tmp_path_factory.mktemp("plain") / "plain.pth"
    torch.save(state, path)
    return state, path


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def test_files_of_all_kinds_hold_the_same_weights(vit: tuple[State, Path], tmp_path: Path) -> None:
    state, path = vit
    expected = keys("test_vit", path)
    save_file(state, tmp_path / "weights.safetensors")
    np.savez(tmp_path / "weights.npz", **{key: tensor.numpy() for key, tensor in state.items()})
    torch.save(state, tmp_path / "weights.pt", _use_new_zipfile_serialization=False)
    for kind in ("safetensors", "npz", "pt"):
        assert keys("test_vit", tmp_path / f"weights.{kind}") == expected


def test_training_checkpoints_are_stripped_to_the_encoder(vit: tuple[State, Path], tmp_path: Path) -> None:
    state, path = vit
    other = {key: tensor + 1 for key, tensor in state.items()}
    head = {"head.mlp.0.weight": torch.zeros(8, 64), "head.last_layer.weight_v": torch.zeros(8, 8)}
    contents = {
        "dino": {
            "student": prefixed(prefixed(other, "backbone.") | head, "module."),
            "teacher": prefixed(state, "backbone.") | head,
            "optimizer": {
                "state": {0: {"step": 3, "exp_avg": torch.zeros(2)}},
                "param_groups": [{"lr": np.float64(0.1)}],
            },
            "epoch": 100,
            "args": argparse.Namespace(arch="vit_small", lr=0.0005),
        },
        "student": {"student": prefixed(prefixed(state, "backbone.") | head, "module.")},
        "moco": {
            "epoch": 300,
            "arch": "vit_small",
            "state_dict": prefixed(state | {"head.0.weight": torch.zeros(8, 64)}, "module.base_encoder.")
            | prefixed(other, "module.momentum_encoder.")
            | {"module.predictor.0.weight": torch.zeros(8, 8)},
        },
        "classifier": {"model": state | {"head.weight": torch.zeros(10, 64), "head.bias": torch.zeros(10)}},
    }
    for name, content in contents.items():
        file = tmp_path / f"{name}.pth.tar"
        torch.save(content, file)
        assert keys("test_vit", file) == keys("test_vit", path), name


@pytest.mark.parametrize("package", ["numpy.core", "numpy._core"])
def test_numbers_of_any_numpy_are_read(package: str, vit: tuple[State, Path], tmp_path: Path) -> None:
    state, path = vit
    file = tmp_path / "training.pth"
    content = {"model": state, "lr": np.float64(0.25)}
    torch.save(content, file, _use_new_zipfile_serialization=False)
    names = (b"numpy._core.multiarray", b"numpy.core.multiarray")
    own = next(name for name in names if name in file.read_bytes())
    file.write_bytes(file.read_bytes().replace(own, f"{package}.multiarray".encode()))
    assert read(file)["lr"] == 0.25
    assert keys("test_vit", file) == keys("test_vit", path)


def dinov2(state: State) -> State:
    """timm's names → DINOv2's."""
    position = torch.randn(1, 1, 384)
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    state["cls_token"] = state["cls_token"] - position
    state["register_tokens"] = state.pop("reg_token")
    return state | {"mask_token": torch.zeros(1, 384)}


def dinov3(state: State) -> State:
    official = {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.ones(16)}
    for key, tensor in state.items():
        if key.endswith("v_bias"):
            continue
        if key.endswith("q_bias"):
            value = state[key.replace("q_bias", "v_bias")]
            ignored = torch.full_like(value, 7)
            official[key.replace("q_bias", "qkv.bias")] = torch.cat([tensor, ignored, value])
            official[key.replace("q_bias", "qkv.bias_mask")] = torch.ones(3 * len(value))
            continue
        for own, theirs in {
            "gamma_1": "ls1.gamma",
            "gamma_2": "ls2.gamma",
            "reg_token": "storage_tokens",
        }.items():
            key = key.replace(own, theirs)
        official[key] = tensor
    return official


def xcit(state: State) -> State:
    official: State = {}
    for key, tensor in state.items():
        if ".attn.q." in key:
            thirds = [state[key.replace(".q.", f".{letter}.")] for letter in "qkv"]
            official[key.replace(".q.", ".qkv.")] = torch.cat(thirds)
        elif ".attn.k." not in key and ".attn.v." not in key:
            official[key.replace("pos_embed.", "pos_embeder.")] = tensor
    return official


def convnext(state: State) -> State:
    official = {}
    for key, tensor in state.items():
        key = key.replace("stem.", "downsample_layers.0.").replace(".blocks", "").replace("conv_dw", "dwconv")
        key = key.replace("mlp.fc", "pwconv").replace("head.norm", "norm")
        if ".downsample." in key:
            key = "downsample_layers." + key.removeprefix("stages.").replace(".downsample", "")
        official[key] = tensor
    return official


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("dinov2_vits14_reg", dinov2),
        ("vit_small_patch16_dinov3_qkvb", dinov3),
        ("dinov3_vits16", dinov3),
        ("xcit_nano_12_p16_224", xcit),
        ("test_convnext", convnext),
    ],
)
def test_official_layouts_are_renamed(name: str, official: Any, tmp_path: Path) -> None:
    state = random_state(name)
    torch.save(state, tmp_path / "timm.pth")
    renamed = official(dict(state))
    assert renamed.keys() != state.keys()
    torch.save(renamed, tmp_path / "official.pth")
    one, two = (load_backbone(name, tmp_path / f"{layout}.pth", "cpu") for layout in ("timm", "official"))
    np.testing.assert_allclose(one(IMAGE).array, two(IMAGE).array, atol=1e-4)
    np.testing.assert_allclose(one.embed([IMAGE]), two.embed([IMAGE]), atol=1e-4)


def test_biases_that_would_be_dropped_are_an_error(tmp_path: Path) -> None:
    torch.save(dinov3(random_state("vit_small_patch16_dinov3_qkvb")), tmp_path / "biased.pth")
    with pytest.raises(
        ValueError, match=r"biased.pth does not fit dinov3_vits16: blocks.0.attn.qkv.bias is not zero"
    ):
        load_backbone("dinov3_vits16", tmp_path / "biased.pth")


def test_a_resnet_of_torchvision_or_dino_fits_timms(tmp_path: Path) -> None:
    state = random_state("dino_resnet50")
    plain = tmp_path / "plain.pth"
    torch.save(state, plain)
    head = {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}
    uncounted = {key: tensor for key, tensor in state.items() if "num_batches" not in key}
    torch.save({"state_dict": prefixed(uncounted | head, "module.")}, tmp_path / "wrapped.pth")
    assert keys("resnet50", tmp_path / "wrapped.pth") == keys("dino_resnet50", plain)


def test_the_first_keys_that_differ_are_named(tmp_path: Path) -> None:
    state = checkpoint("s", 16, (14, 14))
    path = tmp_path / "plain.pth"
    torch.save(state, path)
    other_grid = r"plain.pth does not fit dino_vits8: 2 of another shape \(pos_embed \(1, 197, 384\), expected \(1, 785"
    with pytest.raises(ValueError, match=other_grid):
        load_backbone("dino_vits8", path)
    with pytest.raises(
        ValueError, match=r"patch_embed.proj.weight \(384, 3, 16, 16\), expected \(768, 3, 16, 16\)"
    ):
        load_backbone("dino_vitb16", path)
    changed = {key: tensor for key, tensor in state.items() if "blocks.3" not in key} | {
        "extra": torch.zeros(1)
    }
    torch.save(changed, path)
    with pytest.raises(
        ValueError, match=r"12 missing \(blocks.3.norm1.weight, .* and 9 more\); 1 unexpected \(extra\)"
    ):
        load_backbone("dino_vits16", path)
    with pytest.raises(ValueError, match=r"does not fit dinov3_vits16: .* missing .*; .* unexpected"):
        load_backbone("dinov3_vits16", random_weights("test_resnet", tmp_path))


@pytest.mark.parametrize("name", ["dinov2_vits14", "dinov2_vits14_reg"])
def test_a_checkpoint_for_another_grid_is_not_resampled(name: str, tmp_path: Path) -> None:
    state = random_state(name)
    state["mask_token"] = torch.zeros(1, 384)  # So that timm's conversion, which resamples, is called.
    state["pos_embed"] = state["pos_embed"][:, :257]
    torch.save(state, tmp_path / "small.pth")
    with pytest.raises(ValueError, match=r"of another shape \(pos_embed \(1, 257, 384\), expected"):
        load_backbone(name, tmp_path / "small.pth")


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("run",))


def test_files_that_are_no_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "garbage.pth": b"not a checkpoint at all",
        "garbage.safetensors": b"\0" * 64,
        "garbage.npz": b"PK\3\4 broken",
        "pickled.pth": pickle.dumps({"a": Evil()}),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OSError, match=name):
            load_backbone("dino_vits16", tmp_path / name)
    torch.save({"weights": torch.zeros(2), "evil": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(OSError, match=r"evil.pth holds Python objects besides tensors, which are not loaded"):
        load_backbone("dino_vits16", tmp_path / "evil.pth")
    np.savez(tmp_path / "objects.npz", a=np.array([Evil()], dtype=object))
    with pytest.raises(OSError, match=r"objects.npz cannot be read"):
        load_backbone("dino_vits16", tmp_path / "objects.npz")
    assert "run" not in capsys.readouterr().out
    with pytest.raises(OSError, match=r"missing.pth"):
        load_backbone("dino_vits16", tmp_path / "missing.pth")
    (tmp_path / "folder.pth").mkdir()
    with pytest.raises(OSError, match=r"folder.pth"):
        load_backbone("dino_vits16", tmp_path / "folder.pth")
    with pytest.raises(ValueError, match=r"weights must be a .pth, .* file, got .*weights.onnx"):
        load_backbone("dino_vits16", tmp_path / "weights.onnx")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"empty.pth holds no weights"):
        load_backbone("dino_vits16", tmp_path / "empty.pth")


def test_squeezenet_of_torchvision_loads_with_its_own_convention(tmp_path: Path, test_data: Path) -> None:
    caffe = load_backbone("squeezenet1_0", test_data / "squeezenet" / "squeezenet_v1.0.npz", "cpu")
    own = load_backbone("squeezenet1_0", random_weights("squeezenet1_0", tmp_path), "cpu")
    assert caffe.settings["weights"] == {"file": "squeezenet_v1.0.npz", "sha256": "aeee983c1db58900"}
    state = torch.load(tmp_path / "random.pth")
    del state["features.3.squeeze.bias"], state["classifier.1.weight"]
    torch.save(state, tmp_path / "partial.pth")
    with pytest.raises(ValueError, match=r"1 missing \(features.3.squeeze.bias\)$"):
        load_backbone("squeezenet1_0", tmp_path / "partial.pth")
    assert own(IMAGE).array.shape == caffe(IMAGE).array.shape == (4, 6, 512)

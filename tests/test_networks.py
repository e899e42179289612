"""Names of networks, and what is said when a library is missing or broken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("timm")

from deepspec.layers import choose
from deepspec.networks import names, recipe

STRIDES = {"8": 8, "14": 14, "16": 16}


@pytest.mark.parametrize("name", names())
def test_every_short_name_is_a_network_with_keys_or_stages(name: str) -> None:
    how = recipe(name)
    (layer,) = choose(how.outline(), None, -1, how)
    if "convnext" in name or "resnet" in name:
        assert (layer.facet, layer.stride, layer.layout) == ("output", (32, 32), "NCHW")
    else:
        patch = next(
            size
            for size in (16, 14, 8)
            if str(size) in name.removeprefix("dino").split("vit")[-1].split("_p")[-1]
        )
        assert (layer.facet, layer.stride, layer.layout) == ("key", (patch, patch), "NLC")
    assert how.normalization() == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_moco_has_twelve_heads() -> None:
    assert recipe("mocov3_vits16").build().blocks[0].attn.num_heads == 12
    assert recipe("dino_vits16").build().blocks[0].attn.num_heads == 6


def test_timm_comes_before_torchvision() -> None:
    assert recipe("resnet50").library == "timm"
    assert recipe("squeezenet1_0").library == "torchvision"
    assert recipe("vit_small_patch16_224.dino").architecture == "vit_small_patch16_224.dino"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("dino_vits61", "dino_vits16"),
        ("convnext_tyni", "convnext_tiny"),
        ("squezenet1_0", "squeezenet1_0"),
        ("", "dino"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"no backbone is called '{name}'; .*{near}"):
        recipe(name)


def test_a_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"backbones need timm \(.*\): pip install 'deepspec\[models\]'"):
        recipe("resnet50")


def test_builds_that_do_not_fit_are_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision")
    with pytest.raises(ImportError, match="pip install torch torchvision timm"):
        recipe("squeezenet1_0")

"""What is taken of a network: the attention of [CLS], against attention by hand and timm's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("timm")

from saved_networks import random_weights

from deepspec.backbones import load_backbone
from deepspec.layers import choose, run
from deepspec.networks import Recipe, recipe


def drawn(how: Recipe) -> Any:
    """The network with none of its vectors left constant, and far from uniform attention."""
    torch.manual_seed(0)
    network = how.build()
    for key, parameter in network.named_parameters():
        if parameter.ndim <= 1:
            parameter.data += 0.1 * torch.randn(parameter.shape)
        elif "attn" in key:
            parameter.data *= 4
    return network


def taken(network: Any, how: Recipe, layer: int, images: torch.Tensor) -> torch.Tensor:
    """(N, h, w, heads)"""
    chosen = choose(how.outline(), "attention", layer, how)
    with torch.inference_mode():
        (tokens,) = run(network, chosen, images, how.name)
    return chosen[0].grid(tokens, *(side // chosen[0].stride[0] for side in images.shape[2:]))


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "heads"), [("dino_vits16", 6), ("mocov3_vits16", 12), ("dinov2_vits14_reg", 6)]
)
def test_attention_is_the_softmax_of_the_class_tokens_query_with_all_keys(name: str, heads: int) -> None:
    how = recipe(name)
    network = drawn(how)
    projected = {}
    network.blocks[-1].attn.qkv.register_forward_hook(
        lambda _, __, output: projected.update(qkv=output.double().numpy())
    )
    side = network.patch_embed.patch_size[0]
    images = torch.randn(2, 3, 4 * side, 7 * side)
    found = taken(network, how, -1, images).numpy()
    with torch.inference_mode():
        network.forward_features(images)
    prefix = network.num_prefix_tokens
    query, key, _ = projected["qkv"].reshape(2, prefix + 28, 3, heads, -1).transpose(2, 0, 3, 1, 4)
    weights = softmax(np.einsum("nhc,nhlc->nhl", query[:, :, 0], key) / np.sqrt(query.shape[-1]))
    expected = weights[:, :, prefix:].reshape(2, heads, 4, 7).transpose(0, 2, 3, 1)
    assert found.shape == (2, 4, 7, heads)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    # What is missing to 1 goes to the tokens before the patches.
    np.testing.assert_allclose(
        1 - found.sum(axis=(1, 2)), weights[:, :, :prefix].sum(axis=2), rtol=1e-3, atol=1e-5
    )
    assert np.median(np.ptp(found, axis=(1, 2))) > 0.05  # far from uniform


GROUPED = {"embed_dim": 96, "depth": 3, "num_heads": 6, "num_kv_heads": 3, "num_reg_tokens": 2}


@pytest.mark.parametrize(
    "how",
    [
        recipe("dino_vits16"),
        recipe("dinov3_vits16"),  # rotary positions, registers
        recipe("vit_small_patch16_dinov3_qkvb"),
        recipe("eva02_tiny_patch14_224"),  # three projections
        Recipe("normed", "timm", "vit_tiny_patch16_224", {"qk_norm": True}),
        # Norms of heads, rotary positions by halves, fewer heads of keys.
        Recipe("grouped", "timm", "vit_base_patch16_sapiens2", GROUPED),
    ],
    ids=lambda how: how.name,
)
@pytest.mark.parametrize("layer", [1, -1])
def test_attention_is_timms_own(how: Recipe, layer: int) -> None:
    network = drawn(how)
    images = torch.randn(1, 3, 3 * network.patch_embed.patch_size[0], 5 * network.patch_embed.patch_size[0])
    found = taken(network, how, layer, images)
    attention = network.blocks[layer].attn
    attention.fused_attn = False
    weights = {}
    attention.attn_drop.register_forward_hook(lambda _, __, output: weights.update(all=output))
    with torch.inference_mode():
        network.forward_features(images)
    of_class = weights["all"][:, :, 0, network.num_prefix_tokens :]
    expected = of_class.reshape(1, attention.num_heads, 3, 5).permute(0, 2, 3, 1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_a_backbone_gives_attention_as_features(tmp_path: Path) -> None:
    weights = random_weights("dino_vits16", tmp_path)
    backbone = load_backbone("dino_vits16", weights, "cpu", facet="attention", layers=(3, -1))
    features = backbone(np.random.default_rng(0).integers(0, 256, (70, 100, 3), dtype=np.uint8))
    assert features.array.shape == (4, 6, 12)  # six heads of each block
    assert features.array.dtype == np.float32
    assert features.cell == (16, 16)
    assert features.settings["facet"] == "attention"
    assert (features.array > 0).all()
    assert (features.array.sum(axis=(0, 1)) < 1).all()  # [CLS] has the rest


@pytest.mark.parametrize(
    ("name", "layers", "message"),
    [
        ("resnet50", -1, "facet='attention' needs attention, and layer layer4 of resnet50 has none"),
        ("squeezenet1_0", -1, "needs attention"),
        ("convnext_tiny", "stages.2", "needs attention"),
        (
            "dino_xcit_small_12_p16",
            -1,
            r"needs the softmax of scaled dot products of tokens, and layer blocks.11.attn .* is of another kind \(XCA\)",
        ),
        ("cait_xxs24_224", -1, r"of another kind \(TalkingHeadAttn\)"),
        (
            "vit_base_patch16_siglip_224",
            -1,
            r"needs a \[CLS\] token, which vit_base_patch16_siglip_224 has not",
        ),
        ("swin_t", "features.1.0.attn", r"needs a \[CLS\] token, which swin_t has not"),
    ],
)
def test_where_no_class_token_attends_there_is_no_such_facet(
    name: str, layers: int | str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_backbone(name, facet="attention", layers=layers)

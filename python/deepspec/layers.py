"""Which tensor of a network is a feature, and how it lies on the image's grid."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from deepspec.networks import Recipe, timm, torch_module

if TYPE_CHECKING:
    import torch

LayerChoice: TypeAlias = "int | str | Sequence[int | str]"
FACETS = ("key", "query", "value", "output", "attention")


@dataclass(frozen=True)
class Layer:
    """A tensor of a network.

    Attributes
    ----------
    module : dotted name in the network
    facet : "key", "query", "value" or "attention" of an attention module, or "output" of any
    stride : (height, width) in image pixels, of a cell
    layout : "NLC" (tokens; others than patches come first), "NCHW" or "NHWC"
    """

    module: str
    facet: str
    stride: tuple[int, int] = (0, 0)
    layout: str = ""

    def grid(self, output: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """The output as (N, rows, columns, C) float32; ValueError if it is smaller than that."""
        extra = output.shape[1] - rows * columns
        if self.layout == "NLC" and extra >= 0:
            return output[:, extra:].reshape(len(output), rows, columns, -1).float()
        maps = output.movedim(1, 3) if self.layout == "NCHW" else output
        if maps.ndim == 4 and maps.shape[1] >= rows and maps.shape[2] >= columns:
            return maps[:, :rows, :columns].float()
        shape = tuple(output.shape)
        raise ValueError(f"layer {self.module} gave {shape}, which is no grid of {rows} x {columns} cells")


def choose(
    network: torch.nn.Module, facet: str | None, layers: LayerChoice, how: Recipe
) -> tuple[Layer, ...]:
    """The layers asked for, each found to lie on a grid of whole pixels.

    Nothing is computed: `network` lies on the "meta" device, and the shapes of its tensors for images of two
    sizes tell the layout and the stride.

    Parameters
    ----------
    network : module on the "meta" device
    facet, layers : as in `deepspec.load_backbone`
    how : Recipe
        Of the network.

    Raises
    ------
    ValueError
        A layer or facet is not there, the network runs without it, or it puts out no grid of whole pixels.
    """
    blocks = attention_blocks(network)
    numbered = blocks or _stages(network)
    asked = [layers] if isinstance(layers, (int, str)) else list(layers)
    if not asked:
        raise ValueError("layers must name at least one layer, got none")
    if facet is None:
        facet = "key" if blocks and not any(isinstance(layer, str) for layer in asked) else "output"
    if facet not in FACETS:
        raise ValueError(f"facet must be one of {', '.join(map(repr, FACETS))}, got {facet!r}")
    chosen = [Layer(_module(network, layer, facet, numbered, how.name), facet) for layer in asked]
    return _on_grid(network, chosen, how)


def attention_blocks(network: torch.nn.Module) -> list[str]:
    """The attention modules of a transformer that keeps one sequence of tokens; none for other networks."""
    blocks = dict(getattr(network, "blocks", torch_module().nn.Module()).named_children())
    attentions = [getattr(block, "attn", None) for block in blocks.values()]
    reductions = {stage["reduction"] for stage in _feature_info(network)}
    if not blocks or len(reductions) != 1 or not all(map(_has_projection, attentions)):
        return []
    return [f"blocks.{name}.attn" for name in blocks]


def run(
    network: torch.nn.Module, layers: Sequence[Layer], batch: torch.Tensor, name: str
) -> list[torch.Tensor]:
    """The outputs of the layers for a batch; the network stops where the last is there."""
    outputs: dict[int, torch.Tensor] = {}

    def keep(index: int, output: torch.Tensor) -> None:
        outputs.setdefault(index, output)
        if len(outputs) == len(layers):
            raise _AllThereError

    with ExitStack() as hooks, suppress(_AllThereError):
        for index, layer in enumerate(layers):
            hooks.callback(
                _hook(network.get_submodule(layer.module), layer, partial(keep, index), name).remove
            )
        getattr(network, "forward_features", network)(batch)
    for index, layer in enumerate(layers):
        if index not in outputs:
            raise ValueError(f"{name} ran without calling its layer {layer.module}: no features came out")
    return [outputs[index] for index in range(len(layers))]


class _AllThereError(Exception):
    """Ends a forward pass."""


def _hook(module: torch.nn.Module, layer: Layer, keep: Callable[[torch.Tensor], None], name: str) -> Any:
    if layer.facet == "output":

        def after(_: Any, __: Any, output: Any) -> None:
            if not isinstance(output, torch_module().Tensor):
                raise ValueError(  # noqa: TRY004  the project's one error for bad input
                    f"layer {layer.module} of {name} puts out no tensor but {type(output).__name__}"
                )
            keep(output.clone())  # What comes next may work in place.

        return module.register_forward_hook(after)

    def before(attention: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
        if layer.facet == "attention":
            keep(_class_attention(attention, inputs[0], options.get("rope")))
        else:
            keep(_project(attention, inputs[0], layer.facet))

    return module.register_forward_pre_hook(before, with_kwargs=True)


def _class_attention(attention: Any, tokens: torch.Tensor, rope: torch.Tensor | None) -> torch.Tensor:
    """The attention weights of the first token to all of tokens (N, L, D), (N, L, heads): softmax(q₀ Kᵀ / √d)."""
    query, key = _project(attention, tokens[:, :1], "query"), _project(attention, tokens, "key")
    width = query.shape[2] // attention.num_heads
    query, key = (
        norm(projected.reshape(*projected.shape[:2], -1, width).transpose(1, 2))
        for norm, projected in ((attention.q_norm, query), (attention.k_norm, key))
    )
    if rope is not None:  # Rotates patches alone: not the query, which comes before them.
        prefix, patches = key.tensor_split([attention.num_prefix_tokens], dim=2)
        half = getattr(attention, "rotate_half", False)
        patches = timm().layers.apply_rot_embed_cat(patches, rope, half=half)
        key = torch_module().cat([prefix, patches.type_as(prefix)], dim=2)
    # Grouped-query attention has fewer heads of keys.
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores: torch.Tensor = attention.scale * (query.float() @ key.float().transpose(2, 3))
    return scores.softmax(dim=3).squeeze(2).transpose(1, 2)


def _project(attention: Any, tokens: torch.Tensor, facet: str) -> torch.Tensor:
    """Keys, queries or values of tokens (N, L, D): the projection itself, before norms and rotary positions.

    It is applied here and not hooked: attentions with separate biases use the weight of `qkv` without calling it.
    """
    letter = facet[0]
    if getattr(attention, "qkv", None) is None:
        projected: torch.Tensor = getattr(attention, f"{letter}_proj")(tokens)
        return projected
    width = attention.qkv.out_features // 3
    rows = slice("qkv".index(letter) * width, ("qkv".index(letter) + 1) * width)
    bias = (
        getattr(attention, f"{letter}_bias", None) if attention.qkv.bias is None else attention.qkv.bias[rows]
    )
    return torch_module().nn.functional.linear(tokens, attention.qkv.weight[rows], bias)


def _has_projection(attention: Any) -> bool:
    linear = torch_module().nn.Linear
    return isinstance(getattr(attention, "qkv", None), linear) or all(
        isinstance(getattr(attention, f"{letter}_proj", None), linear) for letter in "qkv"
    )


def _module(network: torch.nn.Module, layer: int | str, facet: str, numbered: list[str], name: str) -> str:
    """The dotted name of a layer that has the facet."""
    if isinstance(layer, str):
        module = layer
    elif isinstance(layer, int) and -len(numbered) <= layer < len(numbered):
        module = numbered[layer]
    else:
        raise ValueError(f"layers of {name} go from {-len(numbered)} to {len(numbered) - 1}, got {layer!r}")
    modules = dict(network.named_modules())
    if not module or module not in modules:
        near = difflib.get_close_matches(module, list(modules), n=3, cutoff=0.5) or numbered[-3:]
        raise ValueError(f"{name} has no layer {module!r}; there are {', '.join(near)}")
    if facet == "output":
        return module
    for attention in (module, f"{module}.attn"):
        if _has_projection(modules.get(attention)):
            if facet == "attention":
                _check_class_attention(network, modules[attention], attention, name)
            return attention
    raise ValueError(
        f"facet={facet!r} needs attention, and layer {module} of {name} has none: facet='output' works"
    )


def _check_class_attention(network: Any, attention: torch.nn.Module, module: str, name: str) -> None:
    if getattr(network, "cls_token", None) is None:
        raise ValueError(f"facet='attention' needs a [CLS] token, which {name} has not")
    models = timm().models
    # Others have more in the softmax, or none over tokens: position biases, talking heads, cross-covariance.
    known = (models.vision_transformer.Attention, models.eva.EvaAttention, models.eva.AttentionRope)
    if type(attention) not in known:
        raise ValueError(
            f"facet='attention' needs the softmax of scaled dot products of tokens, and layer {module} of {name} "
            f"is of another kind ({type(attention).__name__})"
        )


def _stages(network: torch.nn.Module) -> list[str]:
    """The last module at each resolution."""
    if info := _feature_info(network):
        return [str(stage["module"]) for stage in info]
    # Torchvision keeps no such list: the shapes tell.
    body: Any
    prefix, body = ("features.", network.features) if hasattr(network, "features") else ("", network)
    heights: dict[str, int] = {}

    def record(name: str, _: Any, __: Any, output: Any) -> None:
        if getattr(output, "ndim", 0) == 4 and min(output.shape[2:]) > 1:
            heights[name] = output.shape[2]

    parts = dict(body.named_children())
    for name, part in body.named_children():
        if isinstance(part, torch_module().nn.ModuleList):
            parts |= {f"{name}.{index}": module for index, module in part.named_children()}
    with ExitStack() as hooks, torch_module().inference_mode():
        for name, part in parts.items():
            hooks.callback(part.register_forward_hook(partial(record, f"{prefix}{name}")).remove)
        network(torch_module().empty(1, 3, 224, 224, device="meta"))
    return list({height: name for name, height in heights.items()}.values())


def _feature_info(network: torch.nn.Module) -> list[dict[str, Any]]:
    """What timm tells about a network's stages."""
    info = getattr(network, "feature_info", [])
    return list(getattr(info, "info", info))


def _on_grid(network: torch.nn.Module, layers: list[Layer], how: Recipe) -> tuple[Layer, ...]:
    """The layers with their strides and layouts."""
    reductions = {int(stage["reduction"]) for stage in _feature_info(network)}
    # Tokens do not tell their grid's shape: it is known where all layers have the same.
    reduction = next(iter(reductions)) if len(reductions) == 1 else None
    unit = math.lcm(reduction or 32, 32)
    side = unit * math.ceil(224 / unit)
    sizes = ((side, 2 * side), (2 * side, 3 * side))
    torch = torch_module()
    try:
        with torch.inference_mode():
            shapes = [
                [
                    output.shape
                    for output in run(network, layers, torch.empty(1, 3, *size, device="meta"), how.name)
                ]
                for size in sizes
            ]
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"{how.name} cannot be a backbone, its images are of one size only: {error}"
        ) from error
    prefixes = {0, int(getattr(network, "num_prefix_tokens", 0))}
    found = []
    for layer, small, large in zip(layers, *shapes, strict=True):
        laid_out = (
            _of_tokens(layer, (small, large), sizes, reduction, prefixes)
            if reduction and len(small) == 3
            else _of_maps(layer, (small, large), sizes, how)
        )
        if laid_out is None:
            raise ValueError(
                f"the {layer.facet} of layer {layer.module} of {how.name} does not lie on a grid of whole pixels: "
                f"its shape is {tuple(small)} for {sizes[0][0]} x {sizes[0][1]} pixels, {tuple(large)} for "
                f"{sizes[1][0]} x {sizes[1][1]}"
            )
        found.append(laid_out)
    if how.centre_offsets and len({layer.stride for layer in found}) > 1:
        raise ValueError(f"layers of {how.name} must share a stride: each needs an alignment of its own")
    return tuple(found)


Sizes: TypeAlias = "tuple[tuple[int, int], tuple[int, int]]"
Shapes: TypeAlias = "tuple[Sequence[int], Sequence[int]]"


def _of_tokens(
    layer: Layer, shapes: Shapes, sizes: Sizes, reduction: int, prefixes: set[int]
) -> Layer | None:
    extra = [
        shape[1] - height // reduction * (width // reduction)
        for shape, (height, width) in zip(shapes, sizes, strict=True)
    ]
    if extra[0] != extra[1] or extra[0] not in prefixes:
        return None
    return replace(layer, stride=(reduction, reduction), layout="NLC")


def _of_maps(layer: Layer, shapes: Shapes, sizes: Sizes, how: Recipe) -> Layer | None:
    small, large = shapes
    changed = tuple(axis for axis in range(len(small)) if small[axis] != large[axis])
    if len(small) != 4 or changed not in ((2, 3), (1, 2)):
        return None
    strides = []
    for axis, before, after in zip(changed, *sizes, strict=True):
        stride, rest = divmod(after - before, large[axis] - small[axis])
        if rest or (stride * small[axis] != before and stride not in how.centre_offsets):
            return None
        strides.append(stride)
    return replace(layer, stride=(strides[0], strides[1]), layout="NCHW" if changed == (2, 3) else "NHWC")

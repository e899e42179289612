"""Convolutional and cross-covariance networks in plain PyTorch, by the names of their official checkpoints.

They are the oracle of key mappings. Each is a forward pass that asks a `Checkpoint` for its tensors by the official
names; a tensor is drawn where it is first asked for, so that the layout is exactly what the forward pass uses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from vit_oracle import MEAN, STD

Maps = dict[str, torch.Tensor]


class Checkpoint(dict[str, torch.Tensor]):
    """Random weights by name."""

    def __init__(self, seed: int = 0) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def draw(self, key: str, *shape: int, mean: float = 0, std: float = 0.1) -> torch.Tensor:
        if key not in self:
            self[key] = mean + std * torch.randn(*shape, generator=self.generator)
        return self[key]

    def convolution(
        self,
        key: str,
        x: torch.Tensor,
        channels: int,
        size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> torch.Tensor:
        inner = x.shape[1] // groups
        weight = self.draw(f"{key}.weight", channels, inner, size, size, std=(inner * size**2) ** -0.5)
        added = self.draw(f"{key}.bias", channels) if bias else None
        return F.conv2d(x, weight, added, stride, padding, groups=groups)

    def linear(self, key: str, x: torch.Tensor, channels: int) -> torch.Tensor:
        weight = self.draw(f"{key}.weight", channels, x.shape[-1], std=x.shape[-1] ** -0.5)
        return F.linear(x, weight, self.draw(f"{key}.bias", channels))

    def layer_norm(self, key: str, x: torch.Tensor) -> torch.Tensor:
        """Over the last axis."""
        channels = x.shape[-1]
        weight, bias = self.draw(f"{key}.weight", channels, mean=1), self.draw(f"{key}.bias", channels)
        return F.layer_norm(x, (channels,), weight, bias, eps=1e-6)

    def batch_norm(self, key: str, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        weight, bias = self.draw(f"{key}.weight", channels, mean=1), self.draw(f"{key}.bias", channels)
        mean = self.draw(f"{key}.running_mean", channels)
        self.draw(f"{key}.running_var", channels, mean=1, std=0.05)
        self.setdefault(f"{key}.num_batches_tracked", torch.tensor(7))
        return F.batch_norm(x, mean, self[f"{key}.running_var"], weight, bias)

    def scaled(self, key: str, x: torch.Tensor) -> torch.Tensor:
        """LayerScale over the last axis."""
        return self.draw(key, x.shape[-1], mean=0.5) * x


def normalized(pixels: torch.Tensor) -> torch.Tensor:
    """(H, W, 3) uint8 → (1, 3, H, W)."""
    return ((pixels / 255 - MEAN) / STD).permute(2, 0, 1)[None]


def convnext(
    w: Checkpoint,
    pixels: torch.Tensor,
    widths: Sequence[int] = (96, 192, 384, 768),
    depths: Sequence[int] = (3, 3, 9, 3),
) -> Maps:
    """ConvNeXt's maps (h, w, C) by the official names of its modules, stages counted from 0; `"pooled"` (C,)."""
    found = {}
    x = w.convolution("downsample_layers.0.0", normalized(pixels), widths[0], 4, stride=4)
    x = channels_first(w.layer_norm("downsample_layers.0.1", channels_last(x)))
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if stage:
            key = f"downsample_layers.{stage}"
            normed = channels_first(w.layer_norm(f"{key}.0", channels_last(x)))
            x = w.convolution(f"{key}.1", normed, width, 2, stride=2)
        for block in range(depth):
            key = f"stages.{stage}.{block}"
            mixed = w.convolution(f"{key}.dwconv", x, width, 7, padding=3, groups=width)
            found[f"{key}.dwconv"] = channels_last(mixed)[0]
            hidden = w.linear(f"{key}.pwconv1", w.layer_norm(f"{key}.norm", channels_last(mixed)), 4 * width)
            change = w.scaled(f"{key}.gamma", w.linear(f"{key}.pwconv2", F.gelu(hidden), width))
            x = x + channels_first(change)
            found[key] = channels_last(x)[0]
    found["pooled"] = w.layer_norm("norm", x.mean(dim=(2, 3)))[0]
    return found


def xcit(
    w: Checkpoint, pixels: torch.Tensor, patch: int, width: int = 384, depth: int = 12, heads: int = 8
) -> Maps:
    """XCiT's keys (h, w, C) as `"{block}.key"`, and the final `"cls"` (C,)."""
    found = {}
    x = normalized(pixels)
    halvings = int(math.log2(patch))
    for index in range(halvings):
        key = f"patch_embed.proj.{2 * index}"  # An activation lies between.
        channels = width >> (halvings - 1 - index)
        x = w.convolution(f"{key}.0", F.gelu(x) if index else x, channels, 3, stride=2, padding=1, bias=False)
        x = w.batch_norm(f"{key}.1", x)
    rows, columns = x.shape[2:]
    x = x + w.convolution("pos_embeder.token_projection", fourier(rows, columns), width, 1)
    x = x.flatten(2).transpose(1, 2)
    for block in range(depth):
        key = f"blocks.{block}"
        qkv = w.linear(f"{key}.attn.qkv", w.layer_norm(f"{key}.norm1", x), 3 * width)
        query, keys, value = qkv.chunk(3, dim=2)
        found[f"{block}.key"] = keys[0].reshape(rows, columns, width)
        temperature = w.draw(f"{key}.attn.temperature", heads, 1, 1, mean=1)
        mixed = []
        for head, parts in enumerate(
            zip(*(t.chunk(heads, dim=2) for t in (query, keys, value)), strict=True)
        ):
            q, k = (F.normalize(part, dim=1) for part in parts[:2])  # each channel over the tokens
            weights = F.softmax(temperature[head] * (q.transpose(1, 2) @ k), dim=2)
            mixed.append(parts[2] @ weights.transpose(1, 2))
        x = x + w.scaled(f"{key}.gamma1", w.linear(f"{key}.attn.proj", torch.cat(mixed, dim=2), width))
        maps = w.layer_norm(f"{key}.norm3", x).transpose(1, 2).reshape(1, width, rows, columns)
        maps = w.convolution(f"{key}.local_mp.conv1", maps, width, 3, padding=1, groups=width)
        maps = w.batch_norm(f"{key}.local_mp.bn", F.gelu(maps))
        maps = w.convolution(f"{key}.local_mp.conv2", maps, width, 3, padding=1, groups=width)
        x = x + w.scaled(f"{key}.gamma3", maps.flatten(2).transpose(1, 2))
        x = x + w.scaled(f"{key}.gamma2", mlp(w, f"{key}.mlp", w.layer_norm(f"{key}.norm2", x)))
    x = torch.cat([w.draw("cls_token", 1, 1, width), x], dim=1)
    for block in range(2):
        key = f"cls_attn_blocks.{block}"
        normed = w.layer_norm(f"{key}.norm1", x)
        query, keys, value = w.linear(f"{key}.attn.qkv", normed, 3 * width).chunk(3, dim=2)
        mixed = []
        for q, k, v in zip(*(t.chunk(heads, dim=2) for t in (query[:, :1], keys, value)), strict=True):
            mixed.append(F.softmax(q @ k.transpose(1, 2) / q.shape[2] ** 0.5, dim=2) @ v)
        cls = w.linear(f"{key}.attn.proj", torch.cat(mixed, dim=2), width)
        x = x + w.scaled(f"{key}.gamma1", torch.cat([cls, normed[:, 1:]], dim=1))
        x = w.layer_norm(f"{key}.norm2", x)
        x = x + torch.cat([w.scaled(f"{key}.gamma2", mlp(w, f"{key}.mlp", x[:, :1])), x[:, 1:]], dim=1)
    found["cls"] = w.layer_norm("norm", x)[0, 0]
    return found


def mlp(w: Checkpoint, key: str, x: torch.Tensor) -> torch.Tensor:
    return w.linear(f"{key}.fc2", F.gelu(w.linear(f"{key}.fc1", x, 4 * x.shape[-1])), x.shape[-1])


def fourier(rows: int, columns: int, size: int = 32) -> torch.Tensor:
    """Sines and cosines of a patch's place, (1, 2 size, rows, columns): the rows' first."""
    periods = 10000 ** (torch.arange(size) // 2 * 2 / size)
    places = []
    for count in (rows, columns):
        angles = 2 * math.pi * torch.arange(1, count + 1)[:, None] / (count + 1e-6) / periods
        angles[:, 0::2], angles[:, 1::2] = angles[:, 0::2].sin(), angles[:, 1::2].cos()
        places.append(angles)
    down = places[0][:, None].expand(rows, columns, size)
    across = places[1][None].expand(rows, columns, size)
    return channels_first(torch.cat([down, across], dim=2)[None])


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1)


def channels_first(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 3, 1, 2)

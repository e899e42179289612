"""A vision transformer in plain PyTorch, as DINO's paper and checkpoints define it: the backbones' oracle."""

from __future__ import annotations

import torch
import torch.nn.functional as F

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
SIZES = {"s": (384, 6), "b": (768, 12)}  # width, heads
State = dict[str, torch.Tensor]


def checkpoint(size: str, patch: int, grid: tuple[int, int], seed: int = 0) -> State:
    """Random weights under the names of the official backbone checkpoints."""
    width, _ = SIZES[size]
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float) -> torch.Tensor:
        return std * torch.randn(*shape, generator=generator)

    state = {
        "cls_token": normal(1, 1, width, std=0.5),
        "pos_embed": normal(1, 1 + grid[0] * grid[1], width, std=0.5),
        "patch_embed.proj.weight": normal(width, 3, patch, patch, std=0.05),
        "patch_embed.proj.bias": normal(width, std=0.1),
    }
    norms = ["norm", *(f"blocks.{block}.norm{n}" for block in range(12) for n in (1, 2))]
    for norm in norms:
        state[f"{norm}.weight"] = 1 + normal(width, std=0.1)
        state[f"{norm}.bias"] = normal(width, std=0.1)
    linear = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
    for block in range(12):
        for name, (rows, columns) in linear.items():
            state[f"blocks.{block}.{name}.weight"] = normal(rows * width, columns * width, std=0.04)
            state[f"blocks.{block}.{name}.bias"] = normal(rows * width, std=0.1)
    return state


class ViT:
    """The forward pass of a checkpoint, image by image."""

    def __init__(self, state: State, heads: int) -> None:
        self.state = state
        self.heads = heads
        self.patch = state["patch_embed.proj.weight"].shape[-1]

    def __call__(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Of an image (H, W, 3) uint8: `"{block}.{facet}"` (h, w, C) for all blocks, and the final `"cls"` (C,)."""
        rows, columns = (side // self.patch for side in pixels.shape[:2])
        pixels = pixels[: rows * self.patch, : columns * self.patch]
        images = ((pixels / 255 - MEAN) / STD).permute(2, 0, 1)[None]
        weight, bias = (self.state[f"patch_embed.proj.{kind}"] for kind in ("weight", "bias"))
        patches = F.conv2d(images, weight, bias, stride=self.patch).flatten(2).transpose(1, 2)
        x = torch.cat([self.state["cls_token"], patches], dim=1) + self.positions(rows, columns)
        found = {}
        for block in range(12):
            normed = self.norm(x, f"blocks.{block}.norm1")
            query, key, value = self.linear(normed, f"blocks.{block}.attn.qkv").chunk(3, dim=-1)
            heads = zip(self.split(query), self.split(key), self.split(value), strict=True)
            mixed = torch.cat([self.head(*parts) for parts in heads], dim=-1)
            output = self.linear(mixed, f"blocks.{block}.attn.proj")
            for facet, tokens in {"query": query, "key": key, "value": value, "output": output}.items():
                found[f"{block}.{facet}"] = tokens[0, 1:].reshape(rows, columns, -1)
            x = x + output
            hidden = F.gelu(self.linear(self.norm(x, f"blocks.{block}.norm2"), f"blocks.{block}.mlp.fc1"))
            x = x + self.linear(hidden, f"blocks.{block}.mlp.fc2")
        found["cls"] = self.norm(x, "norm")[0, 0]
        return found

    def positions(self, rows: int, columns: int) -> torch.Tensor:
        trained = self.state["pos_embed"]
        side = round((trained.shape[1] - 1) ** 0.5)
        if rows == columns == side:
            return trained
        image = trained[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        factors = ((rows + 0.1) / side, (columns + 0.1) / side)
        image = F.interpolate(image, scale_factor=factors, mode="bicubic", align_corners=False)
        assert image.shape[2:] == (rows, columns)
        return torch.cat([trained[:, :1], image.flatten(2).transpose(1, 2)], dim=1)

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(
            x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps=1e-6
        )

    def linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def split(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tokens.chunk(self.heads, dim=-1)

    def head(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        scores = query @ key.transpose(1, 2) / query.shape[-1] ** 0.5
        return F.softmax(scores, dim=-1) @ value

"""Checkpoint files of networks with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from deepspec.networks import recipe

State = dict[str, torch.Tensor]


def random_state(name: str, seed: int = 0) -> State:
    """What a network's constructor draws, with none of its vectors left constant."""
    torch.manual_seed(seed)
    state: State = recipe(name).build().state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point() and tensor.ndim <= 1 and "running_var" not in key:
            tensor += 0.1 * torch.randn(tensor.shape)
    return state


def random_weights(name: str, folder: Path, seed: int = 0) -> Path:
    path = folder / "random.pth"
    torch.save(random_state(name, seed), path)
    return path

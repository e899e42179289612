"""Checkpoint files: read, stripped to the encoder, renamed, and put into a network."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from deepspec.networks import Recipe, torch_module

if TYPE_CHECKING:
    import torch

State: TypeAlias = "dict[str, torch.Tensor]"
Normalization: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]


def load(network: torch.nn.Module, path: str | os.PathLike[str], recipe: Recipe) -> Normalization:
    """Put the weights of a checkpoint file into a network.

    Training checkpoints are stripped to the encoder: the teacher of teacher and student, the base encoder of
    MoCo, without the prefixes of wrappers; heads that the network has not are left out. Official layouts that
    timm names otherwise are renamed. Nothing is resized.

    Parameters
    ----------
    network : module, changed
    path : `.pth`, `.pt`, `.tar`, `.bin`, `.safetensors` or `.npz`
        No pickled Python objects are loaded from any of them.
    recipe : Recipe
        Of the network.

    Returns
    -------
    mean, std
        Of the images that these weights were trained with, RGB in [0, 1].

    Raises
    ------
    OSError
        The file cannot be read, or holds Python objects besides tensors.
    ValueError
        Its kind is unknown, or its weights do not fit the network; the message has the first keys that differ.
    """
    state = _encoder(read(path), Path(path))
    mean, std = recipe.normalization()
    if "fire2/conv1x1_1.weight" in state and recipe.architecture == "squeezenet1_0":
        state = _from_caffe_squeezenet(state)
        mean, std = _CAFFE_MEAN, (1 / 255,) * 3
    state = _without_heads(state, network)
    _refuse_unplaced_biases(state, network, recipe, Path(path))
    _fit(network, _renamed(state, network), recipe, Path(path))
    return mean, std


def read(path: str | os.PathLike[str]) -> Any:
    """What a checkpoint file holds: a nest of dictionaries of tensors. Errors as `load` says."""
    path = Path(path)
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise ValueError(f"weights must be a {', '.join(_READERS)} file, got {path}")
    try:
        return reader(path)
    except pickle.UnpicklingError as error:
        reason = " ".join(str(error).partition("WeightsUnpickler error: ")[2].split()).partition(". ")[0]
        if not reason or reason.startswith("Unsupported operand"):
            raise OSError(f"{path} cannot be read as a checkpoint: it is no file of torch.save") from error
        raise OSError(
            f"{path} holds Python objects besides tensors, which are not loaded because they can run any code "
            f"({reason.removesuffix('.')}); save the state dict alone"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and str(path) in str(error):
            raise
        # Each format has errors of its own for broken files.
        raise OSError(f"{path} cannot be read as a checkpoint: {error}") from error


def digest(path: str | os.PathLike[str]) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256."""
    sha256 = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            sha256.update(block)
    return sha256.hexdigest()[:16]


def _read_torch(path: Path) -> Any:
    torch = torch_module()
    # DINO's full checkpoints keep the training's arguments, a plain bag of values, and numbers of numpy.
    numbers = [np.dtype, type(np.dtype(np.float64)), *map(_number, ("numpy.core", "numpy._core"))]
    with torch.serialization.safe_globals([argparse.Namespace, *numbers]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _number(package: str) -> Callable[[np.dtype[Any], bytes], Any]:
    """What makes a number of numpy from its bytes, under the name that a pickle calls it by."""

    def scalar(dtype: np.dtype[Any], content: bytes) -> Any:
        return np.frombuffer(content, dtype)[0]

    scalar.__module__, scalar.__qualname__ = f"{package}.multiarray", "scalar"
    return scalar


def _read_safetensors(path: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(path)


def _read_npz(path: Path) -> Any:
    # Opened here: numpy leaves a broken archive open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return {key: torch_module().from_numpy(archive[key]) for key in archive.files}


_READERS: dict[str, Callable[[Path], Any]] = {
    **dict.fromkeys((".pth", ".pt", ".tar", ".bin"), _read_torch),
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
}
_NESTS = ("teacher", "student", "state_dict", "model")
_WRAPPERS = ("module.", "base_encoder.", "momentum_encoder.", "backbone.")
_HEADS = ("head.", "heads.", "fc.", "classifier.", "last_layer.")


def _encoder(content: Any, path: Path) -> State:
    """The encoder's tensors in a checkpoint, without the prefixes of what it was wrapped in."""
    while nest := next((name for name in _NESTS if isinstance(_get(content, name), dict)), None):
        content = content[nest]
    tensor = torch_module().Tensor
    items = content.items() if isinstance(content, dict) else ()
    state = {str(key): value for key, value in items if isinstance(value, tensor)}
    if not state:
        raise ValueError(f"{path} holds no weights: expected a dictionary of tensors by name")
    while wrapper := next(
        (prefix for prefix in _WRAPPERS if any(key.startswith(prefix) for key in state)), None
    ):
        state = {key.removeprefix(wrapper): value for key, value in state.items() if key.startswith(wrapper)}
    return state


def _get(content: Any, name: str) -> Any:
    return content.get(name) if isinstance(content, dict) else None


def _without_heads(state: State, network: torch.nn.Module) -> State:
    own = network.state_dict()
    return {key: value for key, value in state.items() if key in own or not key.startswith(_HEADS)}


def _renamed(state: State, network: torch.nn.Module) -> State:
    """The official layout of a checkpoint in timm's names, by the conversion timm keeps with the architecture."""
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None or state.keys() == network.state_dict().keys():
        return state
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            renamed: State = convert(dict(state), network)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return state  # Another architecture's: the comparison says what differs.
    for key in ("patch_embed.proj.weight", "pos_embed"):
        if key in state and key in renamed and not _is_part(renamed[key], state[key]):
            renamed[key] = state[key]  # It was resized to another patch or grid.
    return renamed


def _is_part(part: torch.Tensor, whole: torch.Tensor) -> bool:
    """Whether the last entries along the second axis are the same."""
    return bool(torch_module().equal(part, whole[:, max(0, whole.shape[1] - part.shape[1]) :]))


def _fit(network: torch.nn.Module, state: State, recipe: Recipe, path: Path) -> None:
    own = network.state_dict()
    # Torchvision's heads are there and not used; old checkpoints count no batches.
    unused = _HEADS if recipe.library == "torchvision" else ()
    missing = [
        key
        for key in own
        if key not in state and not key.startswith(unused) and not key.endswith("num_batches_tracked")
    ]
    unexpected = [key for key in state if key not in own]
    reshaped = [
        f"{key} {tuple(state[key].shape)}, expected {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        _first(missing, "missing"),
        _first(unexpected, "unexpected"),
        _first(reshaped, "of another shape"),
    ]
    if any(problems):
        raise ValueError(f"{path} does not fit {recipe.name}: {'; '.join(filter(None, problems))}")
    network.load_state_dict(state, strict=False)


def _refuse_unplaced_biases(state: State, network: torch.nn.Module, recipe: Recipe, path: Path) -> None:
    """Timm has DINOv3 without the biases of queries and values, as they are zero, and would drop others."""
    if any(key.endswith(("qkv.bias", "q_bias", "q_proj.bias")) for key in network.state_dict()):
        return
    for key, value in state.items():
        if key.endswith("attn.qkv.bias") and any(bool(part.any()) for part in value.chunk(3)[::2]):
            raise ValueError(
                f"{path} does not fit {recipe.name}: {key} is not zero and has no place there "
                "(timm's networks with _qkvb in their names have one)"
            )


def _first(keys: list[str], what: str, count: int = 3) -> str:
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return f"{len(keys)} {what} ({', '.join(keys[:count])}{more})" if keys else ""


_CAFFE_MEAN = (123 / 255, 117 / 255, 104 / 255)
# Torchvision's index of each layer; the pools and activations between them have no weights.
_CAFFE_LAYERS = {"conv1": "features.0", "conv_final": "classifier.1"} | {
    f"fire{fire}/{caffe}": f"features.{index}.{own}"
    for fire, index in zip(range(2, 10), (3, 4, 5, 7, 8, 9, 10, 12), strict=True)
    for caffe, own in {"conv1x1_1": "squeeze", "conv1x1_2": "expand1x1", "conv3x3_2": "expand3x3"}.items()
}


def _from_caffe_squeezenet(state: State) -> State:
    """SqueezeNet's weights in torchvision's names; the first layer's channels from BGR to RGB."""
    renamed = {}
    for key, value in state.items():
        layer, _, kind = key.rpartition(".")
        renamed[f"{_CAFFE_LAYERS.get(layer, layer)}.{kind}"] = value
    if "features.0.weight" in renamed:
        renamed["features.0.weight"] = renamed["features.0.weight"].flip(1)
    return renamed

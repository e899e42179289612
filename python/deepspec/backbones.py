"""Neural networks as features: `load_backbone` once, then any number of images."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepspec import checkpoints
from deepspec.downloads import published
from deepspec.features import Features, Image8
from deepspec.layers import Layer, LayerChoice, choose, run
from deepspec.networks import Recipe, has_absolute_positions, names, recipe, torch_module, use_dino_positions

if TYPE_CHECKING:
    import torch

__all__ = ["Backbone", "load_backbone", "names"]

Compute: TypeAlias = "Callable[[torch.Tensor, int, int], torch.Tensor]"


def load_backbone(
    name: str = "dino_vits16",
    weights: str | os.PathLike[str] | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    *,
    facet: str | None = None,
    layers: LayerChoice = -1,
    pos_embed: str | None = None,
    center: bool = False,
) -> Backbone:
    """Load a network once, to use it for many images.

    Parameters
    ----------
    name : str
        A short name (`deepspec.backbones.names()`: DINO, DINOv2, DINOv3, MoCo-v3), else timm's name of a network,
        else torchvision's.
    weights : path, optional
        A checkpoint file of the network: `.pth`, `.pt`, `.tar`, `.bin`, `.safetensors` or `.npz`, official or a
        training's, from which the encoder is taken. None: the published weights, downloaded once.
    device : str or torch.device, optional
        "cuda", "cuda:1", "mps", "cpu". None: the first of these that is there.
    dtype : str or torch.dtype, optional
        "float32", "float16" or "bfloat16", what the network computes in. None: float16 on CUDA, else float32,
        which is meant: no convolution is rounded to TF32.
    facet : {"key", "query", "value", "output", "attention"}, optional
        What is taken of an attention block: one of its projections, before norms of heads and rotary positions,
        or its output after the last projection (Table 6 of the paper); "attention" is a channel a head, the
        weight that the [CLS] token's query gives to the patch, softmax over all tokens. Of anything else there is
        "output", what it puts out. None: "key" for numbered layers of a transformer, else "output".
    layers : int, str, or a sequence of them
        A number counts a vision transformer's attention blocks, or the stages of another network, negative ones
        from the end. A string is the dotted name of a module. Several are concatenated (hyper-columns, §3.2); a
        coarser grid is interpolated bilinearly to the finest.
    pos_embed : {"dino", "timm"}, optional
        How an absolute position embedding is brought to the image's grid: bicubically as DINO's code does
        (by (h + 0.1) / h₀, not antialiased), or as timm does (antialiased). None: what the network's authors do.
    center : bool
        Take each channel's mean over the image's cells away. Features that are never negative, such as those after a
        relu, are all alike without.

    Returns
    -------
    Backbone

    Raises
    ------
    ImportError
        torch, torchvision or timm is missing: `pip install 'deepspec[models]'`.
    OSError
        The weights cannot be read or downloaded; without a connection this is known in 2 seconds.
    ValueError
        An argument is none of the above, the device is not there, or the checkpoint does not fit the network.
    """
    on = pick_device(device)
    kind = _pick_dtype(dtype, on)
    how = recipe(name)
    outline = how.outline()
    chosen = choose(outline, facet, layers, how)
    positions = _pick_positions(pos_embed, outline, how)
    if weights is None:
        origin: Any
        network, origin = published(how)
        normalization = how.normalization()
    else:
        network = how.build()
        normalization = checkpoints.load(network, weights, how)
        origin = {"file": Path(weights).name, "sha256": checkpoints.digest(weights)}
    if positions == "dino":
        use_dino_positions(network, name)
    settings = {
        "features": name,
        "architecture": f"{how.library}/{how.architecture}",
        "weights": origin,
        "facet": chosen[0].facet,
        "layers": [layer.module for layer in chosen],
        "pos_embed": positions,
        "center": bool(center),
        "dtype": str(kind).removeprefix("torch."),
    }
    # Channels last, as images come: convolutions on the CPU take two thirds of the time.
    network = network.to(on, kind).to(memory_format=torch_module().channels_last)
    return Backbone(network.requires_grad_(False), how, chosen, normalization, settings, center)


class Backbone:
    """A network that turns images into features; made by `load_backbone`.

    It may be used from several threads, which take turns.

    Attributes
    ----------
    name : str
    settings : dict
        What determines the features, as plain JSON values.
    device : torch.device
    dtype : torch.dtype
        What the network computes in.
    stride : (height, width)
        In image pixels, of a cell: the patch size, or the network's reduction.
    batch_size : int
        Images of one size that go through the network together: 1 on the CPU, where features so have the
        same bits whatever else is computed, and 16 elsewhere.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        how: Recipe,
        layers: Sequence[Layer],
        normalization: checkpoints.Normalization,
        settings: dict[str, Any],
        center: bool = False,
    ) -> None:
        parameter = next(network.parameters())
        self.name = how.name
        self.settings = settings
        self.device = parameter.device
        self.dtype = parameter.dtype
        self.batch_size = 1 if self.device.type == "cpu" else 16
        strides = [layer.stride for layer in layers]
        self.stride = (min(height for height, _ in strides), min(width for _, width in strides))
        # Sides are cropped to a multiple of the coarsest layer's stride, so that all cells are whole.
        self._unit = (max(height for height, _ in strides), max(width for _, width in strides))
        self._offset = how.centre_offsets.get(self._unit[0])
        self._center = center
        self._network = network
        self._layers = layers
        torch = torch_module()
        mean, std = (torch.tensor(values, device=self.device).view(3, 1, 1) for values in normalization)
        self._scale, self._shift = 1 / (255 * std), mean / std
        # Hooks belong to the network, so that one forward pass runs at a time.
        self._turn = threading.Lock()

    @property
    def unit(self) -> tuple[int, int]:
        """(height, width) in pixels: the least an image can have, and what its sides are cropped to a multiple of."""
        return self._unit

    def __call__(self, image: Image8) -> Features:
        """Features of an image.

        Parameters
        ----------
        image : (H, W, 3) uint8, at least one stride high and wide

        Returns
        -------
        Features
            (h, w, C) float32 on cells of `stride` pixels; a strip at the right and bottom that does not fill the
            coarsest layer's stride stays uncovered.

        Raises
        ------
        MemoryError
            The device's memory does not suffice.
        ValueError
            The image has another shape or type or is too small, or half precision overflowed.
        """
        return self.extract([image])[0]

    def extract(self, images: Sequence[Image8]) -> list[Features]:
        """Features of images of any sizes, in their order, as if each were computed alone.

        Those of one size go through the network together, `batch_size` at a time. Parameters, results and
        errors are those of a call for a single image.
        """
        found: list[Features | None] = [None] * len(images)
        cell = (float(self.stride[0]), float(self.stride[1]))
        for picked, batch in self._batches(images):
            for index, array in zip(picked, self._computed(self._grids, batch), strict=True):
                if self._center:
                    array -= array.mean(axis=(0, 1))
                found[index] = Features(array, cell, dict(self.settings))
        return [features for features in found if features is not None]

    def embed(self, images: Sequence[Image8]) -> NDArray[np.float32]:
        """One vector for each image or crop.

        Returns
        -------
        (N, C) float32
            The [CLS] token after the last norm; for networks without one their pooled features, or the mean of
            the last layer's cells.
        """
        found: dict[int, NDArray[np.float32]] = {}
        for picked, batch in self._batches(images):
            found.update(zip(picked, self._computed(self._embeddings, batch), strict=True))
        if not found:
            raise ValueError("images must hold at least one image, got none")
        return np.stack([found[index] for index in range(len(images))])

    def _batches(self, images: Sequence[Image8]) -> Iterator[tuple[list[int], NDArray[np.uint8]]]:
        """Indices and pixels (N, h, w, 3) of images of one size."""
        cropped = [self._cropped(image) for image in images]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(cropped):
            by_size.setdefault(image.shape, []).append(index)
        for same in by_size.values():
            for start in range(0, len(same), self.batch_size):
                picked = same[start : start + self.batch_size]
                yield picked, np.stack([cropped[index] for index in picked])

    def _cropped(self, image: Image8) -> Image8:
        image = np.asarray(image)
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"image must be (H, W, 3) uint8, got {image.dtype} of shape {image.shape}")
        rows, columns = (side // unit for side, unit in zip(image.shape, self._unit, strict=False))
        if not (rows and columns):
            raise ValueError(
                f"image must be at least {self._unit[0]} x {self._unit[1]} pixels for {self.name}, "
                f"got {image.shape[0]} x {image.shape[1]}"
            )
        if self._offset is not None:
            return image  # Without padding the network looks beyond the last whole cell.
        return image[: rows * self._unit[0], : columns * self._unit[1]]

    def _computed(self, compute: Compute, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What `compute` makes of the batch's tensor, and the errors of the device put into words."""
        torch = torch_module()
        height, width = batch.shape[1:3]
        try:
            with self._turn, torch.inference_mode(), self._whole_floats():
                result: NDArray[np.float32] = compute(self._tensor(batch), height, width).cpu().numpy()
        except RuntimeError as error:
            if not isinstance(error, torch.OutOfMemoryError) and not _NO_MEMORY.search(str(error)):
                raise
            raise MemoryError(
                f"{self.device} has too little memory for {self.name} on {len(batch)} image(s) of "
                f"{height} x {width} pixels: take smaller images or a smaller batch_size"
            ) from error
        if self.dtype != torch.float32 and not np.isfinite(result).all():
            kind = self.settings["dtype"]
            raise ValueError(f"features of {self.name} overflow in {kind}: load it with dtype='float32'")
        return result

    def _whole_floats(self) -> AbstractContextManager[None]:
        """For float32 on CUDA: PyTorch otherwise lets convolutions round to TF32, 10 bits as in float16."""
        torch = torch_module()
        if (self.device.type, self.dtype) != ("cuda", torch.float32):
            return nullcontext()
        cudnn = torch.backends.cudnn
        given = {name: getattr(cudnn, name) for name in ("enabled", "benchmark", "deterministic")}
        return cudnn.flags(**given, allow_tf32=False)

    def _tensor(self, batch: NDArray[np.uint8]) -> torch.Tensor:
        """Normalised (N, 3, h, w) images on the device."""
        pixels = torch_module().from_numpy(batch).to(self.device).movedim(3, 1)
        images: torch.Tensor = (pixels * self._scale - self._shift).to(self.dtype)
        if self._offset is None:
            return images
        # Reflected so that the receptive field of cell (i, j) is centred on it.
        before = self._offset
        below, right = (
            max(0, side // unit * unit + before + 1 - side)
            for side, unit in zip(batch.shape[1:3], self._unit, strict=True)
        )
        pad = torch_module().nn.functional.pad
        padded: torch.Tensor = pad(images, (before, right, before, below), mode="reflect")
        return padded

    def _grids(self, images: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """(N, h, w, C), the layers side by side."""
        torch = torch_module()
        outputs = run(self._network, self._layers, images, self.name)
        grids = [
            layer.grid(
                output,
                height // self._unit[0] * self._unit[0] // layer.stride[0],
                width // self._unit[1] * self._unit[1] // layer.stride[1],
            )
            for layer, output in zip(self._layers, outputs, strict=True)
        ]
        finest = (max(grid.shape[1] for grid in grids), max(grid.shape[2] for grid in grids))
        return torch.cat([_resized(grid, finest) for grid in grids], dim=3)

    def _embeddings(self, images: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """(N, C)"""
        network: Any = self._network
        if not hasattr(network, "forward_features"):
            return self._grids(images, height, width).mean(dim=(1, 2))
        result = network.forward_features(images)
        normed = not isinstance(getattr(network, "norm", None), (torch_module().nn.Identity, type(None)))
        if getattr(network, "cls_token", None) is not None and normed:
            embedding: torch.Tensor = result[:, 0]
        else:
            embedding = network.forward_head(result, pre_logits=True)
        return embedding.float()


# The CPU's allocator and MPS have no error class of their own.
_NO_MEMORY = re.compile("not enough memory|out of memory|can't allocate memory")
_DTYPES = ("float32", "float16", "bfloat16")


def _resized(grid: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A grid (N, h, w, C) brought bilinearly to another size."""
    if grid.shape[1:3] == size:
        return grid
    resized: torch.Tensor = torch_module().nn.functional.interpolate(
        grid.movedim(3, 1), size=size, mode="bilinear", align_corners=False
    )
    return resized.movedim(1, 3)


def pick_device(device: str | torch.device | None) -> torch.device:
    """The device of a name, or the best there is. ValueError where it is not there."""
    torch = torch_module()
    there = [
        *(f"cuda:{index}" for index in range(torch.cuda.device_count())),
        *(["mps"] if torch.backends.mps.is_available() else []),
        "cpu",
    ]
    if device is None:
        return torch.device(there[0])
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError):
        picked = None
    if picked is None or not any(name in there for name in (str(picked), f"{picked}:0")):
        raise ValueError(f"device must be one of {', '.join(there)}, got {device!r}")
    return picked


def _pick_dtype(dtype: str | torch.dtype | None, device: torch.device) -> torch.dtype:
    torch = torch_module()
    if dtype is None:
        return torch.float16 if device.type == "cuda" else torch.float32
    name = str(dtype).removeprefix("torch.")
    if name not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    return getattr(torch, name)


def _pick_positions(pos_embed: str | None, network: torch.nn.Module, how: Recipe) -> str | None:
    """How the network's absolute position embedding is interpolated; None without one."""
    if pos_embed not in (None, "dino", "timm"):
        raise ValueError(f"pos_embed must be 'dino' or 'timm', got {pos_embed!r}")
    if has_absolute_positions(network):
        return pos_embed or how.pos_embed
    if pos_embed is not None:
        raise ValueError(
            f"pos_embed={pos_embed!r} needs an absolute position embedding, which {how.name} has not"
        )
    return None

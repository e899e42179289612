"""The soft layers of a photograph, what is made of them, and the files that hold them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepspec._blocks import blocks
from deepspec._files import replacing, write_json
from deepspec.checks import check_whole
from deepspec.compositing import (
    Color,
    as_color,
    backdrop,
    blend,
    estimate_colors,
    in_color,
    to_levels,
)
from deepspec.images import ImageSource
from deepspec.rgba import read_rgba, write_rgba

Float32 = NDArray[np.float32]

BITS = (8, 16)
_ABOUT = "layers.json"


@dataclass(frozen=True, eq=False)
class Layers:
    """A photograph as soft layers, which sum to one at every pixel (section 4.4).

    Attributes
    ----------
    image : (H, W, 3) uint8
        The photograph.
    alphas : (n, H, W) float32
        In [0, 1]: how much of each pixel is each layer's; 1 in all.
    front : tuple of int
        Which of them, counted from 0, make up the foreground.
    settings : dict
        What `matte` was asked for, as plain JSON values.

    Raises
    ------
    ValueError
        The parts do not belong together.
    """

    image: NDArray[np.uint8]
    alphas: Float32
    front: tuple[int, ...]
    settings: dict[str, Any]

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.image.ndim != 3 or self.image.shape[2] != 3:
            raise ValueError(f"image must be (H, W, 3) uint8, got {self.image.shape} {self.image.dtype}")
        alphas = self.alphas
        if alphas.ndim != 3 or alphas.shape[1:] != self.image.shape[:2] or alphas.dtype != np.float32:
            raise ValueError(
                f"alphas must be (n, {self.image.shape[0]}, {self.image.shape[1]}) float32 as the image is, "
                f"got {alphas.shape} {alphas.dtype}"
            )
        # NaN is not within the limits either.
        total = alphas.sum(axis=0)
        if not (alphas.min() >= 0 and alphas.max() <= 1 and 1 - 1e-4 < total.min() <= total.max() < 1 + 1e-4):
            raise ValueError("alphas must be from 0 to 1 and sum to 1 at every pixel")
        object.__setattr__(self, "front", self._numbers("front", self.front))

    @cached_property
    def alpha(self) -> Float32:
        """(H, W) in [0, 1]: how much of each pixel is the foreground's."""
        alpha = self._share(self.front)
        alpha.flags.writeable = False  # the cache hands out this very array
        return alpha

    @property
    def foreground(self) -> NDArray[np.uint8]:
        """(H, W, 3): the foreground's own colours, without what shines through; extra `matting`."""
        return to_levels(self._colors[0])

    @property
    def background(self) -> NDArray[np.uint8]:
        """(H, W, 3): the colours of what lies behind; extra `matting`."""
        return to_levels(self._colors[1])

    @cached_property
    def _colors(self) -> tuple[Float32, Float32]:
        return estimate_colors(self.image, self.alpha)

    def with_front(self, layers: int | Sequence[int]) -> Layers:
        """The same layers with another choice of those that make up the foreground, counted from 0."""
        front = self._numbers("front", layers)
        return replace(self, front=front, settings={**self.settings, "foreground": list(front)})

    def composite(self, background: ImageSource | Color) -> NDArray[np.uint8]:
        """The foreground over something else, (H, W, 3).

        Parameters
        ----------
        background : color or image
            (r, g, b) or text that `PIL.ImageColor` knows, such as `"white"` and `"#ff8800"`; otherwise anything
            that `images.load` reads, scaled to cover the photograph and cut to its size about the centre.

        Raises
        ------
        ImportError
            PyMatting is not installed.
        OSError, ValueError
            The background is neither a colour nor an image.
        """
        behind = backdrop(background, self.alpha.shape)
        return blend(self._colors[0], behind, self.alpha)

    def recolor(self, layers: int | Sequence[int], color: Color) -> NDArray[np.uint8]:
        """The photograph with some layers in the hue of a colour, their lightness kept, (H, W, 3).

        Parameters
        ----------
        layers : int or several
            Counted from 0. The others stay as they are.
        color : (r, g, b) or str
            As `PIL.ImageColor` knows it.

        Raises
        ------
        ValueError
            There is no such layer or colour.
        """
        chosen = self._numbers("layers", layers)
        rgb = as_color(color)
        if rgb is None:
            raise ValueError(
                f"color must be (r, g, b) or a colour such as 'orange' or '#ff8800', got {color!r}"
            )
        return blend(in_color(self.image, rgb), self.image, self._share(chosen))

    def rounded(self, bits: int) -> Layers:
        """The layers as files of 8 or 16 bits hold them: they still sum to one."""
        return replace(
            self, alphas=np.asarray(_levels(self.alphas, bits) / np.float32(2**bits - 1), np.float32)
        )

    def save(self, folder: str | os.PathLike[str], *, bits: int = 8) -> None:
        """Write everything to a folder: `save_layers` and `save_foreground`.

        Raises
        ------
        ImportError
            PyMatting, which estimates the foreground's colours, is not installed. Nothing is written then.
        OSError
            A file cannot be written.
        ValueError
            `bits` is neither 8 nor 16.
        """
        check_bits(bits)
        _ = self._colors
        self.save_layers(folder, bits=bits)
        self.save_foreground(folder, bits=bits)

    def save_layers(self, folder: str | os.PathLike[str], *, bits: int = 8) -> tuple[Path, ...]:
        """Write `layer_1.png`, `layer_2.png`, …: the photograph's colours, with each layer as alpha channel.

        Their alphas sum to 255 or 65535 exactly, so that the files, each multiplied by its alpha, add up to the
        photograph. `layers.json`, written last, holds `front` and `settings`.

        Returns
        -------
        The files.
        """
        levels = _levels(self.alphas, check_bits(bits))
        paths = tuple(Path(folder) / name for name in layer_files(len(levels)))
        for path, alpha in zip(paths, levels, strict=True):
            _write(path, self.image, alpha)
        return (*paths, self._save_about(folder))

    def save_foreground(self, folder: str | os.PathLike[str], *, bits: int = 8) -> tuple[Path, ...]:
        """Write `foreground.png`, the foreground's own colours with its alpha, `alpha.png`, that in gray, and `layers.json`.

        Returns
        -------
        The files.
        """
        (alpha,) = _levels(self.alpha[None], check_bits(bits))
        paths = tuple(Path(folder) / name for name in FOREGROUND_FILES)
        _write(paths[0], to_levels(self._colors[0], bits), alpha)
        with replacing(paths[1]) as file:
            Image.fromarray(alpha).save(file, format="png")
        return (*paths, self._save_about(folder))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Layers:
        """Read what `save` or `save_layers` wrote.

        Raises
        ------
        OSError
            A file is missing or damaged.
        ValueError
            The files do not belong together.
        """
        path = Path(folder) / _ABOUT
        try:
            about = json.loads(path.read_bytes())
            front, settings, n_layers = tuple(about["front"]), dict(about["settings"]), int(about["layers"])
        except (ValueError, TypeError, LookupError) as error:
            raise ValueError(f"{path}: not written by deepspec: {error}") from error
        pictures = [read_rgba(Path(folder) / name) for name in layer_files(n_layers)]
        if len({(picture.shape, picture.dtype) for picture in pictures}) != 1:
            raise ValueError(f"{folder}: the layers must be of one size and depth")
        most = np.iinfo(pictures[0].dtype).max
        alphas = np.stack([picture[..., 3] / np.float32(most) for picture in pictures])
        image = (pictures[0][..., :3] // (most // 255)).astype(np.uint8)
        return cls(image, alphas, front, settings)

    def _share(self, layers: Sequence[int]) -> Float32:
        """(H, W): of several layers in all."""
        share = np.zeros(self.alphas.shape[1:], np.float32)
        for layer in layers:
            share += self.alphas[layer]
        return share.clip(0, 1, out=share)

    def _save_about(self, folder: str | os.PathLike[str]) -> Path:
        path = Path(folder) / _ABOUT
        about = {"layers": len(self.alphas), "front": list(self.front), "settings": self.settings}
        write_json(about, path)
        return path

    def _numbers(self, name: str, layers: int | Sequence[int]) -> tuple[int, ...]:
        given = [layers] if isinstance(layers, (int, np.integer)) else list(layers)
        numbers = [
            check_whole(f"{name}, counted from 0,", number, 0, len(self.alphas) - 1) for number in given
        ]
        return tuple(sorted(set(numbers)))


FOREGROUND_FILES = ("foreground.png", "alpha.png")
COMPOSITE_FILE = "composite.png"


def check_bits(bits: int) -> int:
    """8 or 16, or a ValueError."""
    if bits not in BITS:
        raise ValueError(f"bits must be 8 or 16, got {bits!r}")
    return bits


def layer_files(n_layers: int) -> tuple[str, ...]:
    """Of the layers, in their order."""
    return tuple(f"layer_{number}.png" for number in range(1, n_layers + 1))


def is_file_of_layers(name: str) -> bool:
    """Whether a folder of layers may hold a file of this name."""
    return name in (*FOREGROUND_FILES, COMPOSITE_FILE, _ABOUT) or bool(re.fullmatch(r"layer_\d+\.png", name))


def _levels(alphas: Float32, bits: int) -> NDArray[Any]:
    """Whole numbers up to 2^bits − 1 that sum to it where the alphas sum to 1: what rounds are the sums so far."""
    most = 2 ** check_bits(bits) - 1
    levels = np.empty(alphas.shape, np.uint8 if bits == 8 else np.uint16)
    for rows in blocks(alphas.shape[1], len(alphas) * alphas.shape[2]):
        totals = np.cumsum(alphas[:, rows], axis=0, dtype=np.float64)
        levels[:, rows] = np.diff(np.rint(most * np.minimum(totals, 1)), axis=0, prepend=0)
    return levels


def _write(path: Path, colors: NDArray[Any], alpha: NDArray[Any]) -> None:
    """Colours, 8-bit or as deep as the alpha, with an alpha channel."""
    pixels = np.empty((*alpha.shape, 4), alpha.dtype)
    pixels[..., :3] = colors
    if colors.dtype != alpha.dtype:
        pixels[..., :3] *= alpha.dtype.type(257)
    pixels[..., 3] = alpha
    with replacing(path) as file:
        write_rgba(pixels, file)

"""Photographs at full resolution with the features of their patches: what `matting.py` decomposes.

squeezenet  the test data's astronaut, square, and SqueezeNet's fire9 of it: 30 × 30 patches at every size
dinov2      the picture that comes with DINOv2 ViT-S/14's tokens, and these: 37 × 37 patches (a drawing, flat in parts)
centered    the same tokens less their mean: those as they are hardly ever have a negative product, which makes relu idle
surrogate   scikit-image's coffee and surrogate features of it (`problems.py`); no data needed

Sizes below a photograph's own (512, 518, 400 pixels) are Lanczos-resampled. So are sizes above; to them a grain is
added (Gaussian, of a standard deviation of 2 levels of 255), without which an enlarged photograph has smoother
neighbours than one taken at that size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import dinov2
import numpy as np
from PIL import Image
from pixel_graphs import PixelProblem
from problems import Array, coffee_photo, data_folder, surrogate_features
from squeezenet import SqueezeNet

from deepspec import Features

GRAIN = 2.0  # levels
PATCH = 14  # pixels, of DINOv2
#: Photographs of the test data that the agreement is measured on, square or cropped to a square.
SQUEEZENET_PHOTOS = (
    "photos/astronaut.png",
    "photos/chelsea.png",
    "photos/coffee.png",
    "ECSSD/images/0182.jpg",
    "ECSSD/images/0502.jpg",
    "ECSSD/images/0802.jpg",
)
#: Windows (top, left, side) of DINOv2's 37 × 37 tokens, taken with the pixels below them.
DINOV2_WINDOWS = ((0, 0, 37), (0, 0, 19), (0, 18, 19), (18, 0, 19), (18, 18, 19), (9, 9, 19))


def make(kind: str, side: int) -> PixelProblem:
    """A problem of one of the kinds `KINDS`, its image brought to side × side pixels."""
    return problem_of(*KINDS[kind](), side)


def several(kind: str, side: int) -> Iterator[tuple[str, PixelProblem]]:
    """Names and problems to measure the agreement on."""
    if kind == "squeezenet":
        for name in SQUEEZENET_PHOTOS:
            yield Path(name).stem, problem_of(*squeezenet_features(name), side)
    elif kind in ("dinov2", "centered"):
        pixels, tokens = KINDS[kind]()
        for top, left, length in DINOV2_WINDOWS:
            window = np.s_[top : top + length, left : left + length]
            below = np.s_[PATCH * top : PATCH * (top + length), PATCH * left : PATCH * (left + length)]
            yield f"window {top},{left},{length}", problem_of(pixels[below], tokens[window], side)
    else:
        yield kind, make(kind, side)


def problem_of(photo: Array, features: Array, side: int) -> PixelProblem:
    """A square photograph resized, with features that cover all of it."""
    cell = side / features.shape[0], side / features.shape[1]
    return PixelProblem(resized(photo, side), Features(np.ascontiguousarray(features), cell))


def tiny() -> PixelProblem:
    """Something to warm up on: random colours on 24 × 24 pixels, random features on 4 × 4 patches."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    return PixelProblem(image, Features(generator.normal(size=(4, 4, 8)).astype(np.float32), (6, 6)))


def resized(photo: Array, side: int) -> Array:
    if photo.shape[:2] == (side, side):
        return photo
    pixels = np.asarray(Image.fromarray(photo).resize((side, side), Image.Resampling.LANCZOS))
    if side <= min(photo.shape[:2]):
        return pixels
    grain = np.random.default_rng(0).normal(scale=GRAIN, size=pixels.shape).astype(np.float32)
    return np.clip(np.rint(pixels + grain), 0, 255).astype(np.uint8)


def astronaut() -> tuple[Array, Array]:
    return squeezenet_features(SQUEEZENET_PHOTOS[0])


@cache
def squeezenet_features(name: str) -> tuple[Array, Array]:
    """A photograph of the test data, cropped to a square in its middle, and fire9 of it."""
    network = SqueezeNet(data_folder() / "squeezenet" / "squeezenet_v1.0.npz")
    photo = middle_square(np.asarray(Image.open(data_folder() / name).convert("RGB")))
    return photo, network(photo).array


def dinov2_features() -> tuple[Array, Array]:
    return dinov2.load(data_folder() / "dinov2_features")


def centered_features() -> tuple[Array, Array]:
    pixels, tokens = dinov2_features()
    return pixels, tokens - tokens.mean(axis=(0, 1))


def surrogate() -> tuple[Array, Array]:
    return middle_square(coffee_photo()), surrogate_features((30, 30), 64).astype(np.float32)


def middle_square(photo: Array) -> Array:
    side = min(photo.shape[:2])
    top, left = (photo.shape[0] - side) // 2, (photo.shape[1] - side) // 2
    return photo[top : top + side, left : left + side]


KINDS: dict[str, Callable[[], tuple[Array, Array]]] = {
    "squeezenet": astronaut,
    "dinov2": dinov2_features,
    "centered": centered_features,
    "surrogate": surrogate,
}

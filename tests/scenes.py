"""Two hundred made-up scenes of five textures, with the class of every pixel."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

N_SCENES = 200
N_CLASSES = 5
SIZE = (192, 256)
NOISE = 10.0  # steps of 8-bit colour, standard deviation
_SEED = 20220618
_GAP = 16  # pixels at least between two objects, and between them and the border

# Of each class, the two colours between which its pattern changes.
_COLORS = np.array(
    [
        [(205, 70, 55), (245, 190, 170)],
        [(40, 80, 185), (110, 190, 235)],
        [(40, 130, 60), (170, 200, 80)],
        [(105, 40, 130), (225, 150, 220)],
        [(225, 190, 70), (190, 130, 40)],
    ],
    float,
)

Floats = NDArray[np.float64]


def scene(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A scene's image, (192, 256, 3), and labels, (192, 256): 0 the ground, 1 to 5 the classes; the same each time.

    One to three discs and squares, 56 to 84 pixels across, that touch neither one another nor the border, on a
    blotchy ground of its own colour, and Gaussian noise over all of it. Nothing is aligned with the cells.
    """
    rng = np.random.default_rng((_SEED, number))
    picture = _ground(rng)
    labels = np.zeros(SIZE, np.uint8)
    for shape in _shapes(rng):
        label = int(rng.integers(1, N_CLASSES + 1))
        picture[shape] = _texture(label, rng)[shape]
        labels[shape] = label
    picture += rng.normal(scale=NOISE, size=picture.shape)
    return picture.round().clip(0, 255).astype(np.uint8), labels


def write_scenes(folder: Path, n_scenes: int = N_SCENES) -> None:
    """`images/000.png`, … and `labels/000.png`, … in a folder."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(n_scenes):
        for name, array in zip(("images", "labels"), scene(number), strict=True):
            Image.fromarray(array).save(folder / name / f"{number:03}.png", compress_level=1)


def _ground(rng: np.random.Generator) -> Floats:
    """A dull colour with broad blotches and a grain."""
    color = rng.uniform(95, 150) + rng.uniform(-14, 14, 3)
    coarse = rng.normal(size=(SIZE[0] // 32, SIZE[1] // 32))
    blotches = ndimage.zoom(coarse, 32, order=3, mode="nearest", grid_mode=True)
    grain = ndimage.gaussian_filter(rng.normal(size=SIZE), 1.5)
    height = 9 * blotches / blotches.std() + 7 * grain / grain.std()
    return np.asarray(color + height[..., None] * rng.uniform(0.8, 1.2, 3))


def _shapes(rng: np.random.Generator) -> list[NDArray[np.bool_]]:
    """Masks of one to three discs and squares."""
    n_shapes = int(rng.integers(1, 4))
    while True:
        radii = rng.uniform(28, 42, n_shapes)
        centers = np.stack([rng.uniform(_GAP + radii, side - _GAP - radii) for side in SIZE], axis=1)
        pairs = itertools.combinations(range(n_shapes), 2)
        # As if all were squares, which are apart where they are along one axis.
        if all(abs(centers[i] - centers[j]).max() >= radii[i] + radii[j] + _GAP for i, j in pairs):
            break
    squares = rng.integers(2, size=n_shapes) == 1
    return [_shape(*shape) for shape in zip(centers, radii, squares, strict=True)]


def _shape(center: Floats, radius: float, square: bool) -> NDArray[np.bool_]:
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    down, across = abs(y + 0.5 - center[0]), abs(x + 0.5 - center[1])
    return np.asarray((np.maximum(down, across) if square else np.hypot(down, across)) < radius)


def _texture(label: int, rng: np.random.Generator) -> Floats:
    """A whole image in a class's pattern: placed, scaled, lit and tinted a little differently each time."""
    scale, shift = rng.uniform(0.9, 1.1), rng.uniform(0, 60, 2)
    y, x = np.ogrid[: SIZE[0], : SIZE[1]]
    y, x = y / scale + shift[0], x / scale + shift[1]
    upright, lying = np.cos(2 * np.pi * x / 12), np.cos(2 * np.pi * y / 12)
    level = {
        1: upright + 0 * y,
        2: lying + 0 * x,
        3: 2 * upright * lying,  # checks
        4: 2 * (upright + lying - 1),  # dots
        5: 0.6 * np.cos(2 * np.pi * (x + y) / 30),  # broad faint bands
    }[label]
    share = (0.5 + 0.5 * np.clip(1.5 * level, -1, 1))[..., None]
    one, other = _COLORS[label - 1]
    return np.asarray((one + share * (other - one)) * rng.uniform(0.85, 1.15) + rng.uniform(-10, 10, 3))

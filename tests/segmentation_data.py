"""A small folder of images with label maps and ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from builders import two_colors
from PIL import Image

from deepspec import images, training

#: A vision transformer of 0.3 million parameters.
SMALL: dict[str, Any] = {
    "architecture": "fcn",
    "backbone": "test_vit",
    "weights": "none",
    "batch_size": 4,
    "crop": 32,
    "lr": 1e-3,
    "device": "cpu",
    "workers": 1,
}


def train_small(root: Path, name: str = "run", **options: Any) -> training.Training:
    """A training of `SMALL`, or what is given in its place, on `root`'s scenes."""
    return training.train(root / "labels", root / "images", root / name, **{**SMALL, **options})


def write_scenes(root: Path, count: int = 6, *, ignored: bool = False) -> None:
    """Below `root`, `images/`, `labels/` and `truth/`: rectangles on blue, 64 × 64 pixels; every third one in a folder.

    The label maps call an orange rectangle 1 and a green one 2, the truth calls them 2 and 1. With `ignored`, label
    maps are 255 in a strip at the top, of another height in each.
    """
    rng = np.random.default_rng(1)
    for number in range(count):
        top, left, height, width = (int(value) for value in rng.integers(12, 32, 4))
        inner = np.s_[top : top + height, left : left + width]
        image = two_colors(64, 64, inner)
        labels, truth = np.zeros((2, 64, 64), np.uint8)
        labels[inner], truth[inner] = 1, 2
        if number % 2:
            labels[inner], truth[inner] = 2, 1
            image[inner] = image[inner][..., [1, 0, 2]]
        if ignored:
            labels[: 2 * (number + 1)] = 255
        name = f"sub/{number}.png" if number % 3 == 0 else f"{number}.png"
        for folder in ("images", "labels", "truth"):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / "images" / name)
        with (root / "labels" / name).open("wb") as file:
            images.write_labels(labels, file)
        Image.fromarray(truth).save(root / "truth" / name)

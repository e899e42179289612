"""A dataset of coloured rectangles, and features that see nothing but colour: what tests of whole datasets run on."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

COLORS = ((220, 60, 40), (60, 190, 80), (50, 80, 220))
CELL = 8


def write_dataset(folder: Path, n_images: int = 6, size: tuple[int, int] = (72, 96)) -> Path:
    """`images/*.png` with two rectangles on gray, of different classes 1 … 3, and `labels/*.png`."""
    rng = np.random.default_rng(1)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(n_images):
        labels = np.zeros(size, np.uint8)
        labels[16:48, 16:40] = 1 + number % 3
        labels[24:56, 56:80] = 1 + (number + 1 + number // 3 % 2) % 3
        colors = np.array([(120, 120, 125), *COLORS])[labels] + rng.normal(scale=4, size=(*size, 3))
        Image.fromarray(colors.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{number}.png")
        Image.fromarray(labels).save(folder / "labels" / f"{number}.png")
    (folder / "classes.txt").write_text("ground\nred\ngreen\nblue\n")
    return folder / "images"


@dataclass(frozen=True)
class MeanColors:
    """The mean colour of 8-pixel cells, less gray; of a crop, the strongest cell's."""

    settings_name: str = "mean-colors"

    @property
    def settings(self) -> dict[str, Any]:
        return {"features": self.settings_name}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        rows, columns = image.shape[0] // CELL, image.shape[1] // CELL
        cells = image[: rows * CELL, : columns * CELL].reshape(rows, CELL, columns, CELL, 3)
        means = cells.mean(axis=(1, 3)) - 122
        # Beside the colour a constant, or gray cells would have nothing in common.
        return np.concatenate([means, np.full((rows, columns, 1), 40.0)], axis=2).astype(np.float32)

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        cells = [self(image)[..., :3].reshape(-1, 3) for image in images]
        return np.stack([means[np.argmax(np.linalg.norm(means, axis=1))] for means in cells])


@dataclass(frozen=True)
class DyingOnce(MeanColors):
    """The same, but the first process to embed anything is killed."""

    marker: str = ""

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        try:
            with Path(self.marker).open("x"):
                pass
        except FileExistsError:
            return super().embed(images)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed")


@dataclass(frozen=True)
class Dying(MeanColors):
    """Whatever process embeds anything is killed."""

    def embed(self, images: Sequence[np.ndarray]) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("killed")

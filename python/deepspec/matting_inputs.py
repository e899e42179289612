"""What comes to a run of matting besides the photographs: trimaps or scribbles, and a background."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from deepspec import images
from deepspec.compositing import as_color
from deepspec.images import ImageSource
from deepspec.inputs import EXTENSIONS, Input, fingerprint

PathLike: TypeAlias = "str | os.PathLike[str]"


@dataclass(frozen=True)
class Guides:
    """The trimaps or scribbles of the images."""

    name: str
    path: Path

    @classmethod
    def of(cls, **paths: PathLike | None) -> Guides | None:
        given = {name: Path(path) for name, path in paths.items() if path is not None}
        if len(given) == 2:
            raise ValueError("trimap and scribbles exclude each other, got both")
        return next((cls(name, path) for name, path in given.items()), None)

    def check(self, items: Sequence[Input]) -> None:
        """ValueError or OSError where none of the images has one."""
        if self.path.is_dir():
            if not any(self.find(item) for item in items):
                raise ValueError(
                    f"{self.path} holds no {self.name} for any of {len(items)} images: a file must be called as its "
                    f"image is, such as {items[0].below(self.path, '.png')}"
                )
        elif not self.path.exists():
            raise FileNotFoundError(f"{self.name} {self.path}: no such file or folder")
        elif len(items) > 1:
            raise ValueError(
                f"{self.name} must be a folder for {len(items)} images, with a file for each, got the file {self.path}"
            )

    def find(self, item: Input) -> Path | None:
        if not self.path.is_dir():
            return self.path
        beside = item.below(self.path, "")
        names = [beside.with_name(beside.name + end) for end in (".png", *sorted(EXTENSIONS))]
        return next((path for path in names if path.exists()), None)


@dataclass(frozen=True)
class Background:
    """What is put behind, read before any work is done, and what tells whether it is still the same."""

    name: str
    source: ImageSource | tuple[int, int, int]
    identity: Any

    @classmethod
    def of(cls, background: PathLike | tuple[int, int, int]) -> Background:
        if (color := as_color(background)) is not None:
            return cls("#{:02x}{:02x}{:02x}".format(*color), color, list(color))
        path = Path(background)  # type: ignore[arg-type]
        if not path.exists():
            raise FileNotFoundError(
                f"background {path}: no such image file, and no colour such as white or #ff8800"
            )
        before = fingerprint(path)
        return cls(path.name, images.load(path), before)

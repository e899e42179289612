"""Files and folders → the images in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

EXTENSIONS = frozenset(
    [
        ".avif",
        ".bmp",
        ".gif",
        ".heic",
        ".heif",
        ".jp2",
        ".jpeg",
        ".jpg",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    ]
)


@dataclass(frozen=True)
class Input:
    """An image file, and its path within the folder that was given."""

    path: Path
    relative: Path

    @property
    def name(self) -> str:
        return self.relative.as_posix()

    def below(self, folder: Path, suffix: str) -> Path:
        """The file of results in `folder` that mirrors this input's path."""
        return folder / self.relative.with_suffix(suffix)


def find_images(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], without: Sequence[Path] = ()
) -> list[Input]:
    """The files named, and the images (by extension, hidden ones left out) in the folders named, sorted.

    Parameters
    ----------
    sources : path or several
    without : sequence of Path
        Folders that are not searched.

    Raises
    ------
    OSError
        A folder cannot be read.
    ValueError
        A folder holds no image, or two files differ in their extension or folder only and would write the same
        results.
    """
    if isinstance(sources, (str, os.PathLike)):
        sources = [sources]
    inputs: dict[Path, Input] = {}
    for source in map(Path, sources):
        for item in _in_folder(source, without) if source.is_dir() else [Input(source, Path(source.name))]:
            other = inputs.setdefault(item.relative.with_suffix(""), item)
            if other.path != item.path:
                raise ValueError(f"{other.path} and {item.path} would write the same results")
    if not inputs:
        raise ValueError("no images given")
    return list(inputs.values())


def listed_stems(path: str | os.PathLike[str]) -> list[str]:
    """Names of images without folder and extension, from a file that has one a line, such as VOC's lists of a split.

    Raises
    ------
    OSError
        It cannot be read.
    """
    return [Path(line.strip()).stem for line in Path(path).read_text().splitlines() if line.strip()]


def fingerprint(path: Path) -> dict[str, int] | None:
    """What tells whether a file is still the same, as make and rsync see it; None where it cannot be seen."""
    try:
        status = path.stat()
    except OSError:
        return None
    return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _in_folder(folder: Path, without: Sequence[Path]) -> list[Input]:
    closed = {path.resolve() for path in without}
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        here = Path(parent)
        folders[:] = [name for name in folders if name[0] != "." and (here / name).resolve() not in closed]
        found += [here / name for name in files if name[0] != "." and Path(name).suffix.lower() in EXTENSIONS]
    if not found:
        raise ValueError(f"no images in {folder}: looked for {' '.join(sorted(EXTENSIONS))}")
    return [Input(path, path.relative_to(folder)) for path in sorted(found)]


def _raise(error: OSError) -> None:
    raise error

"""Stages of every image's way through a dataset: each leaves a file an image, named after what it depends on."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from deepspec._files import replacing
from deepspec.decompositions import IMAGE_ERRORS, Result, failed, timed
from deepspec.inputs import Input, fingerprint
from deepspec.outputs import OutputError, writing_to

Arrays = dict[str, NDArray[Any]]


class Stage(ABC):
    """What is done to each image, from what the stage before it found.

    Its results are in a folder named after its settings and those of all stages before. So a stage whose settings
    change begins anew, with what depends on it, and what was there for other settings is found again.

    Parameters
    ----------
    root : Path
        Of the folders of all stages.
    settings : mapping
        Its own, as plain JSON values.
    before : Stage or None
    threads : int
        To use.

    Attributes
    ----------
    key : str
        Of everything that its results depend on besides the image.
    folder : Path
    settings : dict
        By stage, of this one and all before.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1  # another for other results from the same settings
    batch_size: ClassVar[int] = 16
    uses_network: ClassVar[bool] = False

    def __init__(
        self, root: Path, settings: Mapping[str, Any], before: Stage | None = None, threads: int = 1
    ) -> None:
        self.before = before
        self.threads = threads
        self.settings: dict[str, Any] = {**(before.settings if before else {}), self.name: dict(settings)}
        self._versions: dict[str, int] = {**(before._versions if before else {}), self.name: self.version}
        self.key = digest([self.settings, self._versions])
        self.folder = root / f"{self.name}-{self.key}"

    @abstractmethod
    def __call__(self, items: Sequence[Input]) -> list[Result]:
        """Do some images and write their files; what is wrong with one of them is its result.

        Raises
        ------
        OutputError
            A file cannot be written.
        """

    @property
    def previous(self) -> Stage:
        """The stage before this one, which has one."""
        assert self.before is not None
        return self.before

    def path(self, item: Input) -> Path:
        return item.below(self.folder, ".npz")

    def is_done(self, item: Input) -> bool:
        """Whether the file is there, and the image what it was."""
        try:
            return bool(self.source(item) == fingerprint(item.path))
        except (OSError, ValueError):
            return False

    def source(self, item: Input) -> Any:
        """The fingerprint of the image that the file was made from."""
        return json.loads(str(self.load(item, "source")["source"]))

    def load(self, item: Input, *names: str) -> Arrays:
        """Arrays of the file, all but the fingerprint where none is named.

        Raises
        ------
        OSError
            It is missing.
        ValueError
            It is damaged.
        """
        found = read_arrays(self.path(item), *names)
        if not names:
            del found["source"]
        return found

    def save(self, item: Input, source: Any, arrays: Arrays) -> None:
        path = self.path(item)
        with writing_to(path), replacing(path) as file:
            content: dict[str, Any] = {**arrays, "source": np.array(json.dumps(source))}
            np.savez(file, **content)


class ImageStage(Stage):
    """A stage that does one image after the other."""

    def __call__(self, items: Sequence[Input]) -> list[Result]:
        return [self._done(item) for item in items]

    @abstractmethod
    def compute(self, item: Input) -> Arrays:
        """What is found in an image."""

    def _done(self, item: Input) -> Result:
        seconds: dict[str, float] = {}
        try:
            # What was computed before belongs to the image as it was then.
            source = fingerprint(item.path) if self.before is None else self.before.source(item)
            with timed(seconds, self.name):
                arrays = self.compute(item)
            self.save(item, source, arrays)
        except OutputError:
            raise
        except IMAGE_ERRORS as error:
            return failed(item, error, seconds)
        return Result(item.path, item.name, "done", "", files=(self.path(item),), seconds=seconds)


def read_arrays(path: Path, *names: str) -> Arrays:
    """Arrays of an `.npz` file, all where none is named.

    Raises
    ------
    OSError
        It is missing.
    ValueError
        It is damaged; the message names it.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names or arrays.files}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: not written by deepspec, or incomplete: {error}") from error


def digest(settings: Any) -> str:
    """Twelve hexadecimal digits of plain JSON values."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

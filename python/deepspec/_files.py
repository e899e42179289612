"""Writing files so that a killed run leaves whole files only."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import IO, Any

import numpy as np

_numbers = count()
_LEFTOVERS = ".deepspec-*.tmp"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file beside `path` for writing, and rename it to `path` once it is complete.

    Missing folders are made. When the body raises, `path` is left as it was and nothing stays beside it.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not named after the file: its name may be as long as names can be.
    beside = path.with_name(f".deepspec-{os.getpid()}-{next(_numbers)}.tmp")
    try:
        with beside.open("wb") as file:
            yield file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(value: Any, path: Path, *, indent: int | None = 1) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False, default=_plain) + "\n"
    with replacing(path) as file:
        # A file name that is not UTF-8 holds lone surrogates; JSON escapes them as Python does.
        file.write(text.encode(errors="backslashreplace"))


def _plain(value: Any) -> Any:
    """numpy's numbers, of which settings may be, as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is no JSON value")


def remove_leftovers(folder: Path, below: Iterable[str]) -> None:
    """Delete what `replacing` left in a folder, and at any depth below the folders named, when its process was killed."""
    for path in (
        *folder.glob(_LEFTOVERS),
        *(path for name in below for path in (folder / name).rglob(_LEFTOVERS)),
    ):
        path.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a file that one process can hold at a time, and that is free again however the process ends.

    Raises
    ------
    BlockingIOError
        Another process holds it.
    OSError
        The file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        if sys.platform == "win32":
            import msvcrt

            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError as error:
                raise BlockingIOError(*error.args) from error
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield

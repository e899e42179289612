"""The folder that a training writes: its settings, its checkpoint, its log and its curve."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from deepspec import checkpoints, plots
from deepspec._files import locked, remove_leftovers, replacing, write_json
from deepspec.outputs import differences, versions, writing_to

Record: TypeAlias = "dict[str, Any]"


class TrainingFolder:
    """Where a training's results go, and what is there of them already.

    Parameters
    ----------
    folder : Path
    settings : dict
        What determines the curve, as plain JSON values.

    Attributes
    ----------
    records : list of dict
        The lines of `log.jsonl`, step by step.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        self.settings = dict(settings)
        self.checkpoint = folder / "checkpoint.pt"
        self.records: list[Record] = []
        self._log = folder / "log.jsonl"

    def check_settings(self) -> None:
        """ValueError where the folder holds a checkpoint of other settings."""
        if not self.checkpoint.exists():
            return
        earlier = read_settings(self.folder)
        if earlier is None:
            raise ValueError(
                f"{self.folder} holds a checkpoint without settings: choose another folder, or overwrite it"
            )
        if changes := differences(earlier, self.settings):
            raise ValueError(
                f"{self.folder} holds a training with {changes}: choose another folder, or overwrite it"
            )

    @contextmanager
    def opened(self, *, overwrite: bool) -> Iterator[None]:
        """Keep other runs out, and clear away what a killed one left; with `overwrite`, the earlier training."""
        with ExitStack() as stack:
            with writing_to(self.folder):
                stack.enter_context(locked(self.folder / ".lock"))
                remove_leftovers(self.folder, ())
                if overwrite:
                    for name in ("checkpoint.pt", "log.jsonl", "curve.png", "settings.json"):
                        (self.folder / name).unlink(missing_ok=True)
                about = {"settings": self.settings, "versions": versions()}
                write_json(about, self.folder / "settings.json")
            yield

    def read(self) -> dict[str, Any] | None:
        """The checkpoint, None where there is none yet."""
        return checkpoints.read(self.checkpoint) if self.checkpoint.exists() else None

    def go_on_from(self, step: int) -> None:
        """Drop the lines of the log that come after a step."""
        lines = self._log.read_text().splitlines() if step and self._log.exists() else []
        self.records = [record for record in map(_record, lines) if record and record["step"] <= step]
        with writing_to(self.folder), replacing(self._log) as file:
            file.write("".join(f"{json.dumps(record)}\n" for record in self.records).encode())

    def add(self, record: Record) -> None:
        """Add a line to the log."""
        self.records.append(record)
        with writing_to(self.folder), self._log.open("a") as file:
            file.write(f"{json.dumps(record)}\n")

    def save(self, content: Mapping[str, Any]) -> None:
        """Write the checkpoint, and draw the curve as far as it goes."""
        import torch

        with writing_to(self.folder):
            with replacing(self.checkpoint) as file:
                torch.save({"settings": self.settings, **content}, file)
            plots.save_training_curve(self.records, self.folder / "curve.png")


def read_settings(folder: Path) -> dict[str, Any] | None:
    """What `settings.json` says of a training; None where there is none.

    Raises
    ------
    ValueError
        Its file is not one of a training's.
    """
    path = folder / "settings.json"
    try:
        settings: dict[str, Any] = json.loads(path.read_bytes())["settings"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not written by deepspec: {error}") from error
    return settings


def _record(line: str) -> Record | None:
    """None for a line that a killed process left half written."""
    try:
        record: Record = json.loads(line)
    except ValueError:
        return None
    return record

"""The folder that a run writes: results that mirror the inputs, a record of each, and one of the run."""

from __future__ import annotations

import json
import platform
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from deepspec import _core, coco, pages
from deepspec._files import locked, remove_leftovers, replacing, write_json
from deepspec.decomposition import Decomposition
from deepspec.inputs import Input, fingerprint
from deepspec.tasks import TASKS, Answer

RECORDS = ".records"
FOLDERS = ("eigenvectors", "masks", "labels", "mattes", "plots", RECORDS)
#: Held by whatever command writes a folder.
LOCK = Path(RECORDS, "lock")
#: What `semantics` keeps, and by which its folders are known.
STAGES = ".stages"


class OutputError(OSError):
    """The results cannot be written. What is written is whole, and the same call goes on from there."""


class ResultFolder(ABC):
    """A folder that a command fills image by image, and what is there of its results already.

    Attributes
    ----------
    folder : Path
    answers : Path
        The folder or file of the answers.
    settings : dict
        What determines the results, as plain JSON values.
    """

    def __init__(self, folder: Path, command: str, answers: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.answers = answers
        self.settings = settings
        self._command = command
        # One small file for each image, written last: with it the image counts as done.
        self._records = folder / RECORDS / command

    def check(self, *, overwrite: bool) -> None:
        """ValueError where its place holds what the command did not write, or, unless they go, results of other settings."""
        earlier = read_runs(self.folder).get(self._command)
        if earlier is None:
            for place in self.places():
                if is_filled(place):
                    raise ValueError(f"{place} was not written by {self._command}: choose another folder")
        if earlier is None or overwrite:
            return
        if changes := differences(earlier.get("settings", self.settings), self.settings):
            raise ValueError(
                f"{self.folder} holds results of {self._command} with {changes}: "
                "choose another folder, or overwrite them"
            )

    def places(self) -> tuple[Path, ...]:
        """The folders and files that hold all answers."""
        return (self.answers,)

    @contextmanager
    def opened(self, inputs: Sequence[Input], *, overwrite: bool) -> Iterator[None]:
        """Keep other runs out, and clear away what a killed one left; with `overwrite`, all results of the command."""
        with ExitStack() as stack:
            with writing_to(self.folder):
                stack.enter_context(locked(self.folder / LOCK))
                remove_leftovers(self.folder, FOLDERS)
                if overwrite:
                    self._remove_all()
                write_run(self.folder, self._command, inputs, {}, complete=False, settings=self.settings)
            yield

    @abstractmethod
    def record(self, item: Input) -> dict[str, Any] | None:
        """What was found in an image: `line`, `score` and more. None where it is to be done (again)."""

    @abstractmethod
    def files(self, item: Input) -> tuple[Path, ...]:
        """What holds the answer of an image."""

    @abstractmethod
    def remove(self, item: Input) -> None:
        """Delete what is there of an image that is about to be done."""

    def finish(self, inputs: Sequence[Input], failed: dict[str, str]) -> None:
        """Write what is about all images: `run.json`."""
        with writing_to(self.folder):
            write_run(self.folder, self._command, inputs, failed, complete=True, settings=self.settings)

    def _record_path(self, item: Input) -> Path:
        return item.below(self._records, ".json")

    def _write_record(self, item: Input, files: Iterable[Path], **found: Any) -> None:
        write_json({**found, "files": self._names(files)}, self._record_path(item), indent=None)

    def _names(self, files: Iterable[Path]) -> list[str]:
        return [path.relative_to(self.folder).as_posix() for path in files]

    def _remove_all(self) -> None:
        for path in self._records.rglob("*.json"):
            for name in (read_record(path) or {"files": []})["files"]:
                (self.folder / name).unlink(missing_ok=True)
            path.unlink()


class Outputs(ResultFolder):
    """Where the results of one task go, and what is there of them already.

    Parameters
    ----------
    folder : Path
    task : str
    settings : dict
        What determines the results, as plain JSON values.
    page, plots : bool
        Whether an entry of the page, and a drawing, belong to the results of each image.

    Raises
    ------
    ValueError
        The answers would get between the label maps of `deepspec semantic`.
    """

    def __init__(self, folder: Path, task: str, settings: dict[str, Any], *, page: bool, plots: bool) -> None:
        super().__init__(folder, task, folder / TASKS[task].files, settings)
        if self.answers.name == "labels" and (folder / STAGES).exists():
            raise ValueError(f"{folder} holds label maps of semantic: choose another folder")
        self._page = page
        self._plots = plots

    def places(self) -> tuple[Path, ...]:
        """The folder of files, and the COCO file."""
        dataset = TASKS[self._command].dataset
        return (self.answers,) if dataset is None else (self.answers, self.folder / dataset)

    def record(self, item: Input) -> dict[str, Any] | None:
        """What was found in an image: `line`, `score`, `coco`. None where it is to be done (again)."""
        record = read_record(self._record_path(item))
        if record is None or record["source"] != fingerprint(item.path):
            return None
        return record if all(path.exists() for path in self._files(item).values()) else None

    def files(self, item: Input) -> tuple[Path, ...]:
        """What holds the answer of an image besides the COCO file."""
        files = self._files(item)
        return tuple(files[name] for name in ("answer", "plot") if name in files)

    def write(self, item: Input, source: Mapping[str, int], d: Decomposition, answer: Answer) -> None:
        """Write everything of one image; `source` is its file's `fingerprint` before it was read.

        Raises
        ------
        OutputError
        """
        files = self._files(item)
        with writing_to(self.folder):
            for name, path in files.items():
                self._write_part(name, path, item, d, answer)
            self._write_record(
                item,
                files.values(),
                source=source,
                line=answer.line,
                score=answer.score,
                **({} if answer.kept is None else {"kept": answer.kept}),
                coco=coco.record(item.name, d.image.shape[:2], answer.annotations),
            )

    def remove(self, item: Input) -> None:
        """Delete what is there of an image that is about to be done."""
        with writing_to(self.folder):
            for path in (self._record_path(item), *self._files(item).values()):
                path.unlink(missing_ok=True)

    def finish(self, inputs: Sequence[Input], failed: dict[str, str]) -> None:
        """Write what is about all images: the COCO file, the page and `run.json`."""
        with writing_to(self.folder):
            done = [item for item in inputs if str(item.path) not in failed]
            dataset = TASKS[self._command].dataset
            if dataset is not None:
                with replacing(self.folder / dataset) as file:
                    coco.write_dataset(
                        file, lambda: (read_json(self._record_path(item))["coco"] for item in done)
                    )
            if self._page:
                pages.write_pages(
                    (pages.Entry.from_json(read_json(self._files(item)["page"])) for item in done),
                    self.folder / f"{self._command}.html",
                    n_entries=len(done),
                    title=f"deepspec {self._command}",
                    facts={name: setting_text(value) for name, value in self.settings.items()},
                    failures={
                        item.name: failed[str(item.path)] for item in inputs if str(item.path) in failed
                    },
                )
        super().finish(inputs, failed)

    def _files(self, item: Input) -> dict[str, Path]:
        files = {}
        if TASKS[self._command].write is not None:
            files["answer"] = item.below(self.answers, TASKS[self._command].suffix)
        if self._plots:
            files["plot"] = item.below(self.folder / "plots" / self._command, ".png")
        if self._page:
            files["page"] = item.below(self.folder / RECORDS / "pages" / self._command, ".json")
        return files

    def _write_part(self, name: str, path: Path, item: Input, d: Decomposition, answer: Answer) -> None:
        drawn: dict[str, Any] = {"box": answer.box, "mask": answer.mask, "labels": answer.labels}
        if name == "plot":
            from deepspec.plots import Row, save_page

            # Its file has the image's name, which not every font can show.
            save_page([Row("", d, **drawn)], path)
        elif name == "page":
            files = self.files(item)
            link = files[0].relative_to(self.folder).as_posix() if files else None
            entry = pages.Entry(item.name, pages.panels(d, **drawn), answer.score, answer.line, link)
            write_json(entry.to_json(), path, indent=None)
        else:
            write = TASKS[self._command].write
            assert write is not None
            write(path, d, answer)


def is_filled(path: Path) -> bool:
    """Whether there is a file, or a folder with files in it."""
    return path.is_file() or any(below.is_file() for below in path.rglob("*"))


def read_runs(folder: Path) -> dict[str, Any]:
    """What `run.json` says, by command: they share the folder, and each has its own entry."""
    return read_json(folder / "run.json") or {}


def write_run(
    folder: Path,
    command: str,
    inputs: Sequence[Input],
    failed: Mapping[str, str],
    *,
    complete: bool,
    **more: Any,
) -> None:
    """Write a command's entry of `run.json`; the others' stay."""
    run = {
        **more,
        "versions": versions(),
        "inputs": [str(item.path) for item in inputs],
        "complete": complete,
        "failed": dict(sorted(failed.items())),
    }
    write_json({**read_runs(folder), command: run}, folder / "run.json")


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What settings were and are no more, as "k = 2, not 3, …"; empty where nothing differs."""
    return ", ".join(
        f"{name} = {setting_text(earlier.get(name))}, not {setting_text(now.get(name))}"
        for name in {**earlier, **now}
        if earlier.get(name) != now.get(name)
    )


def versions() -> dict[str, str]:
    """Of Python, this package and what it computes with, where installed."""
    installed = {name: next(iter(metadata.distributions(name=name)), None) for name in _USED}
    found = {name: distribution.version for name, distribution in installed.items() if distribution}
    return {"python": platform.python_version(), "deepspec": _core.__version__, **found}


_USED = (
    "numpy",
    "scipy",
    "pillow",
    "scikit-learn",
    "faiss-cpu",
    "ray",
    "torch",
    "torchvision",
    "timm",
    "pydensecrf2",
    "pymatting",
    "opencv-contrib-python-headless",
)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Tell what cannot be written from what cannot be read."""
    try:
        yield
    except BlockingIOError as error:
        raise OutputError(f"{folder}: another run is writing its results here") from error
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{error.filename or folder}: cannot be written: {reason}") from error


def read_record(path: Path) -> dict[str, Any] | None:
    """None where it is missing, or empty as a machine that lost its power may leave it."""
    try:
        record: dict[str, Any] | None = read_json(path)
    except ValueError:
        return None
    return record


def read_json(path: Path) -> Any:
    """None where there is no such file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path}: not written by deepspec: {error}") from error


def setting_text(value: Any) -> str:
    """A setting for the screen or a page."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

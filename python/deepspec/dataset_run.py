"""A dataset on its way to label maps: the images there are, what runs the stages, and what became of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepspec._files import remove_leftovers
from deepspec.checks import check_choice, check_whole
from deepspec.class_names import Names
from deepspec.class_statistics import ClassStatistics, statistics_table
from deepspec.dataset_clusters import DatasetClusters
from deepspec.decompositions import Result, timed
from deepspec.engines import ENGINES, Engine, LocalEngine, RayEngine
from deepspec.graph import check_threads
from deepspec.images import read_labels
from deepspec.inputs import Input, find_images
from deepspec.label_maps import PICTURES, LabelMaps
from deepspec.outputs import STAGES, writing_to
from deepspec.semantic_outputs import Summary, claimed, typical_segments, write_outputs
from deepspec.stages import Stage

FOLDERS = (STAGES, *PICTURES, "classes", "self-training")

Progress = Callable[[Iterable[Result], str, int], Iterable[Result]]


@dataclass(frozen=True)
class Segmentation:
    """What became of a dataset.

    Attributes
    ----------
    folder : Path
        Of the run. The label maps are in `labels/`, with the images' relative paths.
    n_clusters : int
        Ids are 1 … n_clusters; 0 is the background.
    settings : dict
        What determines the result, as plain JSON values, by stage.
    n_images : int
        Of the inputs.
    classes : tuple of ClassStatistics
        The background first; empty where the run stopped before there were label maps.
    failed : dict
        Reasons by path: images that have no label map.
    done : Counter
        By stage, how many images it was done for; what an earlier run had done is not counted.
    seconds : Counter
        By stage, added up over the images.
    """

    folder: Path
    n_clusters: int
    settings: dict[str, Any]
    n_images: int
    classes: tuple[ClassStatistics, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)

    def to_text(self) -> str:
        """For the screen: the classes, and what was done."""
        table = f"{statistics_table(self.classes)}\n" if self.classes else ""
        done = ", ".join(f"{stage} of {n}" for stage, n in self.done.items()) or "nothing: all was there"
        page = f"; to look at: {self.folder / 'index.html'}" if self.classes else ""
        n = self.n_images - len(self.failed)
        return f"{table}{n} of {self.n_images} images, done: {done}{page}"


class DatasetRun:
    """A dataset on its way: which images there still are, what runs the stages, and what became of it."""

    def __init__(
        self,
        output: str | os.PathLike[str],
        engine: str,
        address: str | None,
        jobs: int,
        threads: int | None,
        backbone: Mapping[str, Any] | None,
        progress: Progress | None,
    ) -> None:
        check_choice("engine", engine, ENGINES)
        jobs = check_whole("jobs", jobs, 1)
        if address is not None and engine != "ray":
            raise ValueError(f"address is of engine='ray', got {address!r} with engine={engine!r}")
        available = check_threads(threads)
        self._engine: Engine = LocalEngine(jobs)
        self.threads = available if threads is not None else max(1, available // jobs)
        if engine == "ray":
            # Other machines may have fewer cores than this one.
            self.threads = 1 if threads is None else available
            self._engine = RayEngine(jobs, address, _gpus_on_ray(backbone or {}))
        # Other processes, on Ray of other machines, have another folder to start from.
        self.output = Path(output).absolute()
        self.root = self.output / STAGES
        self.items: list[Input] = []
        self.n_fit = 0
        self._inputs: list[Input] = []
        self._progress = progress or (lambda results, stage, total: results)
        self._classes: list[ClassStatistics] = []
        self._failed: dict[str, str] = {}
        self._done: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()

    def find(
        self,
        inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        fit_on: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None,
    ) -> None:
        """Find the images; those the clusters are fitted to come first."""
        found = find_images(inputs, without=[self.output / name for name in FOLDERS])
        self.items, self.n_fit = found, len(found)
        if fit_on is not None:
            paths = [fit_on] if isinstance(fit_on, (str, os.PathLike)) else fit_on
            wanted = {item.path.absolute() for item in find_images(paths)}
            first = [item for item in found if item.path.absolute() in wanted]
            if len(first) < len(wanted):
                missing = wanted - {item.path.absolute() for item in found}
                raise ValueError(f"fit_on must be among the inputs, got {min(missing)}")
            rest = [item for item in found if item.path.absolute() not in wanted]
            self.items, self.n_fit = first + rest, len(first)
        self._inputs = found

    def check(self, stage: Stage) -> None:
        """ValueError where a stage cannot be handed to what would run it."""
        self._engine.check(stage)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep other runs out of the folder, and clear away what a killed one left."""
        with ExitStack() as stack:
            with writing_to(self.output):
                stack.enter_context(claimed(self.output, self._inputs))
                remove_leftovers(self.output, FOLDERS)
            yield

    def each(self, stage: Stage) -> None:
        """Do a stage for the images it is missing for; go on with those that did not fail."""
        missing = [item for item in self.items if not stage.is_done(item)]
        results = self._engine.run(stage, missing, stage.batch_size) if missing else ()
        for result in self._progress(results, stage.name, len(missing)):
            self._seconds.update(result.seconds)
            if result.status == "failed":
                self._failed[str(result.path)] = result.line
            else:
                self._done[stage.name] += 1
        left = [self._ok(item) for item in self.items]
        self.n_fit = sum(left[: self.n_fit])
        self.items = [item for item, ok in zip(self.items, left, strict=True) if ok]
        if not self.items:
            path, reason = next(iter(self._failed.items()))
            raise ValueError(f"no image could be done, such as {path}: {reason}")

    def cluster(self, clusters: DatasetClusters) -> None:
        if not clusters.is_done():
            seconds: dict[str, float] = {}
            with timed(seconds, clusters.name):
                clusters.compute()
            self._seconds.update(seconds)
            self._done[clusters.name] += 1

    def finish(
        self,
        maps: LabelMaps,
        n_clusters: int,
        labelled: Names | None,
        clusters: DatasetClusters | None = None,
        segments: Stage | None = None,
    ) -> None:
        """Write what is about all images."""
        for item in self._inputs:
            if not self._ok(item):
                maps.remove(item)
        names: dict[int, str] = {}
        if labelled is not None:
            names = labelled.name(self.items, lambda item: read_labels(maps.label_path(item)), n_clusters)
        sheets = {}
        if clusters is not None and segments is not None:
            sheets = typical_segments(clusters.path, segments, self.items)
        # In the order of the inputs, whatever the clusters were fitted to.
        done = {item.name for item in self.items}
        items = [item for item in self._inputs if item.name in done]
        self._classes = write_outputs(
            Summary(self.output, items, maps, names, n_clusters, self._inputs, self._failed), sheets
        )

    def result(self, n_clusters: int, settings: dict[str, Any]) -> Segmentation:
        return Segmentation(
            self.output,
            n_clusters,
            settings,
            len(self._inputs),
            tuple(self._classes),
            self._failed,
            self._done,
            self._seconds,
        )

    def _ok(self, item: Input) -> bool:
        return str(item.path) not in self._failed


def _gpus_on_ray(backbone: Mapping[str, Any]) -> float:
    """Of each actor: one where the device is cuda, whichever Ray gives it."""
    device = str(backbone.get("device") or "cpu")
    if device.startswith("cuda:"):
        raise ValueError(f"device must be 'cuda' on Ray, which gives each job a card, got {device!r}")
    return float(device == "cuda")

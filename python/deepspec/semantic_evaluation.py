"""Label maps of a whole dataset against its true classes: the protocol of Tables 4, 10 and 11."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from deepspec._files import replacing, write_json
from deepspec.checks import check_choice, check_whole
from deepspec.datasets import VOID, Dataset, Example
from deepspec.evaluation import markdown_table
from deepspec.images import read_labels
from deepspec.metrics import ConfusionMatrix

#: How clusters are matched to classes.
MATCHINGS = ("auto", "hungarian", "majority")


@dataclass(frozen=True)
class LabelScore:
    """How the label maps of one run agree with the true classes, the known pixels of all images pooled.

    Attributes
    ----------
    mean_iou : float
        Over the classes that have pixels, in [0, 1].
    accuracy : float
        Share of the pixels, in [0, 1].
    class_iou : dict
        By name of class; None for classes without a pixel.
    clusters : dict
        By name of class, the labels matched to it; labels without a pixel are left out.
    matching : {"hungarian", "majority"}
    n_clusters : int
        The background included, where it occurs.
    n_images : int
    missing : tuple of str
        Images without a label map, which count as background.
    """

    mean_iou: float
    accuracy: float
    class_iou: dict[str, float | None]
    clusters: dict[str, list[int]]
    matching: str
    n_clusters: int
    n_images: int
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Spread:
    """A mean over runs, and the standard deviation of the sample (n − 1); None of a single run."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """
        >>> print(Spread.of([0.2, 0.4]))
        0.300 ± 0.141
        """
        return cls(statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if self.deviation is None else f" ± {self.deviation:.3f}")


@dataclass(frozen=True)
class SemanticEvaluation:
    """The scores of one or more runs on a dataset.

    Attributes
    ----------
    dataset : str
    runs : dict
        `LabelScore` by the run's name, such as "seed 0".
    facts : mapping
        Settings, and seconds by stage, where they are known.
    failed : dict
        Reasons by path: images, scored or not, that no label map could be made of.
    """

    dataset: str
    runs: dict[str, LabelScore]
    facts: Mapping[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def mean_iou(self) -> Spread:
        return Spread.of([run.mean_iou for run in self.runs.values()])

    @property
    def accuracy(self) -> Spread:
        return Spread.of([run.accuracy for run in self.runs.values()])

    @property
    def class_iou(self) -> dict[str, Spread | None]:
        """By name of class; None for classes without a pixel."""
        scores: dict[str, list[float]] = {}
        for run in self.runs.values():
            for name, iou in run.class_iou.items():
                scores.setdefault(name, []).extend([] if iou is None else [iou])
        return {name: Spread.of(values) if values else None for name, values in scores.items()}

    @property
    def n_images(self) -> int:
        return next(iter(self.runs.values())).n_images

    @property
    def missing(self) -> tuple[str, ...]:
        """Images without a label map in any of the runs."""
        return tuple(dict.fromkeys(image for run in self.runs.values() for image in run.missing))

    def to_markdown(self) -> str:
        head = [self.dataset, "images", "clusters", "matching", "mIoU", "accuracy"]
        rows = [
            [
                name,
                str(run.n_images),
                str(run.n_clusters),
                run.matching,
                f"{run.mean_iou:.3f}",
                f"{run.accuracy:.3f}",
            ]
            for name, run in self.runs.items()
        ]
        if len(self.runs) > 1:
            rows.append(["mean ± deviation", "", "", "", str(self.mean_iou), str(self.accuracy)])
        table = markdown_table(head, rows)
        if len(self.runs) > 1:
            table += f"\nMean of {len(self.runs)} runs ± standard deviation of the sample (n − 1).\n"
        classes = [
            [
                name,
                "–" if iou is None else str(iou),
                *(_listed(run.clusters[name]) for run in self.runs.values()),
            ]
            for name, iou in self.class_iou.items()
        ]
        table += "\n" + markdown_table(
            ["class", "IoU", *(f"clusters of {name}" for name in self.runs)], classes
        )
        return (
            table + "\n" + "".join(f"- {name}: {json.dumps(value)}\n" for name, value in self.facts.items())
        )

    def save(self, folder: Path) -> None:
        """Write `evaluation-semantic.json` and `.md`."""
        content = {
            "measure": "semantic",
            "dataset": self.dataset,
            "images": self.n_images,
            "scores": {"mIoU": vars(self.mean_iou), "accuracy": vars(self.accuracy)},
            "classes": {name: iou and vars(iou) for name, iou in self.class_iou.items()},
            "runs": {name: vars(run) for name, run in self.runs.items()},
            "missing": list(self.missing),
            "failed": self.failed,
            **self.facts,
        }
        write_json(content, folder / "evaluation-semantic.json")
        with replacing(folder / "evaluation-semantic.md") as file:
            file.write(self.to_markdown().encode())


def _listed(labels: Iterable[int]) -> str:
    return ", ".join(map(str, labels)) or "–"


def evaluate_labels(
    dataset: Dataset,
    predictions: Path,
    *,
    n_clusters: int | None = None,
    how: str = "auto",
    progress: Callable[[Sequence[Example]], Any] = iter,
) -> LabelScore:
    """Match clusters to the true classes of a dataset's images, and score the label maps.

    Parameters
    ----------
    dataset : Dataset
        Its classes are those it has names of; without names, 0 to the largest that occurs.
    predictions : Path
        A folder with `labels/`, or that folder, of PNGs of the images' names whose indices of a palette, or gray
        values, are the labels. As `deepspec semantic` writes them, or anyone.
    n_clusters : int, optional
        Labels are 0, the background, to `n_clusters`. Default: those that occur.
    how : {"auto", "hungarian", "majority"}
        Hungarian: one to one with the largest sum of IoU. Majority: each cluster to the class it has the largest IoU
        with. Auto: majority where there are more clusters than classes, else Hungarian. The background is a cluster and
        a class like the others; where it is in no label map, as plain clustering has none, it is no cluster.
    progress : callable, optional
        Wraps the examples, such as tqdm.

    Raises
    ------
    OSError
        The predictions are missing or damaged, or the truth is.
    ValueError
        A label map has another size than the truth, a label is out of range, or the dataset has no class labels.
    """
    check_choice("how", how, MATCHINGS)
    if n_clusters is not None:
        n_clusters = check_whole("n_clusters", n_clusters, 0, 255)
    names = dataset.class_names
    files = _label_maps(predictions)
    missing = [example for example in dataset if example.image.stem not in files]
    labelled = (
        (f"{path}, of {example.image}", read_labels(path), example.labels())
        for example in progress(dataset)
        if (path := files.get(example.image.stem)) is not None
    )
    n_labels = 256 if n_clusters is None else n_clusters + 1
    matrix = ConfusionMatrix.of(labelled, len(names) if names else VOID, n_labels)
    occurring = matrix.counts.sum(axis=0) > 0
    n_found = int(occurring.sum() if n_clusters is None else n_clusters + occurring[0])
    for example in missing:
        matrix.add(np.zeros_like(truth := example.labels()), truth)
    present = np.flatnonzero(matrix.counts.sum(axis=1))
    if not present.size:
        raise ValueError(f"{dataset.name}: no pixel of its {len(dataset)} images has a known class")
    if names is None:
        names = tuple(map(str, range(present[-1] + 1)))
        matrix.counts = matrix.counts[: len(names)]
    if how == "auto":
        how = "majority" if n_found > len(names) else "hungarian"
    score = _score(matrix, names, how, n_found, len(dataset))
    return replace(score, missing=tuple(str(example.image) for example in missing))


def _label_maps(predictions: Path) -> dict[str, Path]:
    """By the stem of the image's name."""
    folder = predictions / "labels" if (predictions / "labels").is_dir() else predictions
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.png")):
        if files.setdefault(path.stem, path) != path:
            raise ValueError(f"{files[path.stem]} and {path} are label maps of one name")
    if not files:
        raise FileNotFoundError(f"no label maps in {folder}: expected are PNG files of the images' names")
    return files


def _score(
    matrix: ConfusionMatrix, names: Sequence[str], how: str, n_clusters: int, n_images: int
) -> LabelScore:
    matches = matrix.match(how)
    occurring = matrix.counts.sum(axis=0) > 0
    ious = matrix.class_iou(how)
    return LabelScore(
        mean_iou=matrix.mean_iou(how),
        accuracy=matrix.accuracy(how),
        class_iou={
            name: None if np.isnan(iou) else float(iou) for name, iou in zip(names, ious, strict=True)
        },
        clusters={name: np.flatnonzero(occurring & (matches == i)).tolist() for i, name in enumerate(names)},
        matching=how,
        n_clusters=n_clusters,
        n_images=n_images,
    )

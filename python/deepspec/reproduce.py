"""The paper's tables of boxes, masks and classes, row by row: the published number beside ours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from deepspec import pipeline
from deepspec._files import replacing, write_json
from deepspec.baselines import METHODS
from deepspec.checks import check_choice
from deepspec.dataset_run import Progress
from deepspec.datasets import Dataset, load_dataset
from deepspec.evaluation import MEASURES, Score, evaluate, markdown_table
from deepspec.semantic_protocol import SEEDS, evaluate_semantic
from deepspec.tables import TABLES, Row


@dataclass(frozen=True)
class Outcome:
    """What became of a row: its score and number of images, or why there is none.

    Attributes
    ----------
    row : Row
    score : Score or None
    n_images : int
    reason : str
        Why there is no score, or not of all images.
    deviation : float or None
        Of the sample (n − 1) over the seeds, of a row of classes.
    splits : str
        Which images of the dataset, of a row of classes.
    """

    row: Row
    score: Score | None = None
    n_images: int = 0
    reason: str = ""
    deviation: float | None = None
    splits: str = ""

    def cells(self) -> list[str]:
        row = self.row
        published = f"{row.published:g}" + ("" if row.deviation is None else f" ± {row.deviation:g}")
        where = f"{row.dataset} {self.splits}".strip()
        return [row.label, where, published, self._ours(), str(self.n_images or "–")]

    def _ours(self) -> str:
        if self.score is None:
            return self.reason
        percent = 1 if self.row.measure == "segmentation" else 100
        if self.deviation is not None:
            ours = f"{percent * self.score.value:.1f} ± {percent * self.deviation:.1f}"
            return f"{ours}; {self.reason}" if self.reason else ours
        low, high = self.score.interval or (self.score.value, self.score.value)
        return f"{percent * self.score.value:.3g} ({percent * low:.3g} to {percent * high:.3g})"


def reproduce(
    table: str,
    data: Path,
    output: Path,
    *,
    limit: int | None = None,
    features: str | None = None,
    backbone: Mapping[str, Any] | None = None,
    follow: Callable[[pipeline.Run], None] | None = None,
    progress: Progress | None = None,
    training: Mapping[str, Any] | None = None,
    **settings: Any,
) -> list[Outcome]:
    """Run the rows of a table of the paper and write `<table>.md` and `<table>.json`.

    Each row has a folder of its own in `output`, where it goes on from what is there; rows of classes have one together,
    for many share their eigenvectors. A row that cannot run, for want of its dataset or its weights, says why, and the
    next one follows.

    Classes are found in VOC's `trainaug`, and scored in its `val`, as the paper has it. Where a dataset does not have the
    lists of these, scored is its `trainval`, and what is scored is also what classes are found in: the row tells.

    Parameters
    ----------
    table : {"table1", "table2", "table3", "table4", "table6", …, "table11"}
    data : Path
        The folder that holds the datasets.
    output : Path
    limit : int, optional
        The first images of each dataset alone.
    features, backbone : optional
        Other features for every row, for a trial where the weights are missing.
    follow : callable, optional
        Consumes each run.
    progress : callable, optional
        Wraps what `segment_dataset` does.
    training : mapping, optional
        For self-training, what `training.train` takes: such as fewer steps for a trial.
    **settings
        For every row that does not have its own, as `pipeline.run` takes them: `jobs`, `threads`, `batch_size`,
        `foreground`.

    Raises
    ------
    ValueError
        The table is unknown.
    """
    check_choice("table", table, TABLES)
    outcomes = []
    for number, row in enumerate(TABLES[table]):
        if features is not None:
            row = replace(row, label=f"{row.label}: {features}", features=features, backbone={})
        row = replace(row, backbone={**row.backbone, **(backbone or {})})
        if row.measure == "semantic":
            run = partial(_classes, progress=progress, training=training)
            folder = output / "classes"
        else:
            run = partial(_objects, follow=follow)
            folder = output / table / f"{number:02}"
        try:
            outcomes.append(run(row, data, folder, limit, settings))
        except (ImportError, MemoryError, OSError, RuntimeError, ValueError) as error:
            # RuntimeError: a training that diverges.
            outcomes.append(Outcome(row, reason=f"did not run: {' '.join(str(error).split())}"))
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / f"{table}.md") as file:
        file.write(to_markdown(outcomes).encode())
    content = [
        {
            "label": o.row.label,
            "dataset": o.row.dataset,
            "splits": o.splits,
            "published": o.row.published,
            "published_deviation": o.row.deviation,
            "deviation": o.deviation,
            "score": None if o.score is None else {"value": o.score.value, "interval": o.score.interval},
            "images": o.n_images,
            "reason": o.reason,
        }
        for o in outcomes
    ]
    write_json(content, output / f"{table}.json")
    return outcomes


def _objects(
    row: Row,
    data: Path,
    folder: Path,
    limit: int | None,
    settings: Mapping[str, Any],
    follow: Callable[[pipeline.Run], None] | None,
) -> Outcome:
    method = METHODS[row.method]
    dataset = load_dataset(row.dataset, data)[:limit]
    run = pipeline.run(
        [example.image for example in dataset],
        folder,
        MEASURES[row.measure],
        row.features,
        backbone={**method.backbone, **row.backbone},
        **{**settings, **method.graph, **method.answer, **row.settings},
    )
    (follow or deque)(run)
    if run.failed and run.counts["failed"] == len(run):
        path, reason = next(iter(run.failed.items()))
        raise ValueError(f"no image could be taken apart, such as {path}: {reason}")
    found = evaluate(row.measure, dataset, folder)
    return Outcome(row, found.scores[0], found.n_images)


def _classes(
    row: Row,
    data: Path,
    folder: Path,
    limit: int | None,
    settings: Mapping[str, Any],
    progress: Progress | None,
    training: Mapping[str, Any] | None,
) -> Outcome:
    scored, split = _first_split(row.dataset, data, ("seg-val", "seg-trainval"))
    try:
        fitted, fit_split = _first_split(row.dataset, data, ("seg-trainaug",))
    except FileNotFoundError:
        fitted, fit_split = scored, split
    found = evaluate_semantic(
        scored[:limit],
        folder,
        row.features,
        fit_on=fitted[:limit],
        training=(training or {}) if row.self_training else None,
        progress=progress,
        method=row.method,
        backbone=row.backbone,
        **{**{name: settings[name] for name in ("jobs", "threads") if name in settings}, **row.settings},
    )
    mean = found.mean_iou
    return Outcome(
        row,
        Score("mIoU", mean.mean, None),
        found.n_images,
        _told(found.failed),
        deviation=mean.deviation,
        splits=f"{split}, classes found in {fit_split}",
    )


def _told(failed: Mapping[str, str]) -> str:
    if not failed:
        return ""
    path, reason = next(iter(failed.items()))
    return f"{len(failed)} images failed, such as {path}: {' '.join(reason.split())}"


def _first_split(name: str, data: Path, splits: Sequence[str]) -> tuple[Dataset, str]:
    """The first split whose list is there. Where none is, the error names the first."""
    first, *others = splits
    try:
        return load_dataset(name, data, split=first), first
    except FileNotFoundError:
        if not others:
            raise
        with suppress(FileNotFoundError):
            return _first_split(name, data, others)
        raise


def to_markdown(outcomes: list[Outcome]) -> str:
    semantic = any(outcome.row.measure == "semantic" for outcome in outcomes)
    ours = f"ours (± deviation of {len(SEEDS)} seeds)" if semantic else "ours (95 % interval)"
    head = ["row", "dataset", "published", ours, "images"]
    return markdown_table(head, [outcome.cells() for outcome in outcomes], n_words=2)

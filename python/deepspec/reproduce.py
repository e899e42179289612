"""The paper's tables of boxes and masks, row by row: the published number beside ours."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from deepspec import pipeline
from deepspec._files import replacing, write_json
from deepspec.baselines import METHODS
from deepspec.datasets import load_dataset
from deepspec.evaluation import MEASURES, Score, evaluate, markdown_table
from deepspec.graph import check_choice

@dataclass(frozen=True)
class Outcome:
    """What became of a row: its score and number of images, or why there is none."""

    row: Row
    score: Score | None = None
    n_images: int = 0
    reason: str = ""

    def cells(self) -> list[str]:
        percent = 100 if self.row.measure == "localization" else 1
        ours = self.reason
        if self.score is not None:
            low, high = self.score.interval or (self.score.value, self.score.value)
            ours = f"{percent * self.score.value:.3g} ({percent * low:.3g} to {percent * high:.3g})"
        return [self.row.label, self.row.dataset, f"{self.row.published:g}", ours, str(self.n_images or "–")]


def reproduce(
    table: str,
    data: Path,
    output: Path,
    *,
    limit: int | None = None,
    features: str | None = None,
    backbone: Mapping[str, Any] | None = None,
    follow: Callable[[pipeline.Run], None] | None = None,
    **settings: Any,
) -> list[Outcome]:
    """Run the rows of a table of the paper and write `<table>.md` and `<table>.json`.

    Each row has a folder of its own in `output`, where it goes on from what is there. A row that cannot run,
    for want of its dataset or its weights, says why, and the next one follows.

    Parameters
    ----------
    table : {"table1", "table2", "table3", "table6", "table7", "table8", "table9"}
    data : Path
        The folder that holds the datasets.
    output : Path
    limit : int, optional
        The first images of each dataset alone.
    features, backbone : optional
        Other features for every row, for a trial where the weights are missing.
    follow : callable, optional
        Consumes each run.
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
        outcomes.append(_outcome(row, data, output / table / f"{number:02}", limit, follow, settings))
    output.mkdir(parents=True, exist_ok=True)
    with replacing(output / f"{table}.md") as file:
        file.write(to_markdown(outcomes).encode())
    content = [
        {
            "label": o.row.label,
            "dataset": o.row.dataset,
            "published": o.row.published,
            "score": None if o.score is None else {"value": o.score.value, "interval": o.score.interval},
            "images": o.n_images,
            "reason": o.reason,
        }
        for o in outcomes
    ]
    write_json(content, output / f"{table}.json")
    return outcomes


def _outcome(
    row: Row,
    data: Path,
    folder: Path,
    limit: int | None,
    follow: Callable[[pipeline.Run], None] | None,
    settings: Mapping[str, Any],
) -> Outcome:
    method = METHODS[row.method]
    try:
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
    except (ImportError, OSError, ValueError) as error:
        return Outcome(row, reason=f"did not run: {' '.join(str(error).split())}")
    return Outcome(row, found.scores[0], found.n_images)


def to_markdown(outcomes: list[Outcome]) -> str:
    head = ["row", "dataset", "published", "ours (95 % interval)", "images"]
    return markdown_table(head, [outcome.cells() for outcome in outcomes], n_words=2)

"""The commands `deepspec semantic` and `deepspec evaluate semantic`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from deepspec import predictions, semantics
from deepspec.argument_groups import BACKBONE, read_dataset
from deepspec.dataset_run import Progress
from deepspec.datasets import Dataset, load_dataset
from deepspec.decompositions import Result
from deepspec.outputs import OutputError
from deepspec.semantic_evaluation import SemanticEvaluation, evaluate_labels
from deepspec.semantic_protocol import evaluate_semantic
from deepspec.terminal import (
    GO_ON,
    printable,
    report_failures,
    report_scores,
    scoring_progress,
    stage_progress,
)


def find_classes(options: argparse.Namespace) -> int:
    """Find classes, or label images by a network, and say what was done."""
    if options.checkpoint is not None and options.until is not None:
        raise ValueError(f"--until is of finding classes, got --until {options.until} with --checkpoint")
    return _exit_status(partial(_find_classes, options))


def _find_classes(options: argparse.Namespace, progress: Progress) -> int:
    given = vars(options)
    running = {name: given[name] for name in ("engine", "address", "jobs", "threads", "names", "panoptic")}
    if options.checkpoint is not None:
        found = predictions.predict_dataset(
            options.inputs,
            options.output,
            options.checkpoint,
            device=options.device,
            progress=progress,
            **running,
        )
    else:
        found = semantics.segment_dataset(
            options.inputs,
            options.output,
            options.features,
            **_semantic_options(options),
            seed=options.seed,
            until=options.until,
            progress=progress,
            **running,
        )
    print(printable(found.to_text()))
    report_failures(found.failed, found.n_images)
    return 1 if found.failed else 0


def evaluate_classes(options: argparse.Namespace) -> int:
    """Find classes once with each seed, or take label maps, and score them."""
    dataset = read_dataset(options)
    if options.predictions is not None:
        score = evaluate_labels(dataset, options.predictions, how=options.matching, progress=scoring_progress)
        return report_scores(SemanticEvaluation(dataset.name, {"label maps": score}), options)
    return _exit_status(partial(_evaluate_classes, options, dataset))


def _evaluate_classes(options: argparse.Namespace, dataset: Dataset, progress: Progress) -> int:
    given = vars(options)
    fit_on = None
    if options.fit_split is not None:
        fit_on = load_dataset(options.dataset, options.root, split=options.fit_split)[: options.limit]
    found = evaluate_semantic(
        dataset,
        options.output,
        options.features,
        fit_on=fit_on,
        seeds=options.seeds,
        how=options.matching,
        facts={"split": options.split, "classes found in": options.fit_split or "the images scored"},
        progress=progress,
        scoring=scoring_progress,
        **_semantic_options(options),
        **{name: given[name] for name in ("engine", "address", "jobs", "threads")},
    )
    report_failures(found.failed, len({example.image for example in (*dataset, *(fit_on or ()))}))
    return report_scores(found, options) or int(bool(found.failed))


def _exit_status(work: Callable[[Progress], int]) -> int:
    """Of work that takes a progress; what is wrong with the call, before the first stage, is raised."""
    begun: set[str] = set()

    def progress(results: Iterable[Result], stage: str, total: int) -> Iterable[Result]:
        begun.add(stage)
        return stage_progress(results, stage, total)

    try:
        return work(progress)
    except (OutputError, MemoryError) as error:
        print(f"deepspec: error: {printable(error)}; {GO_ON}", file=sys.stderr)
    except (ImportError, OSError, ValueError) as error:
        if not begun:
            raise
        print(f"deepspec: error: {printable(error)}", file=sys.stderr)
    return 1


def _semantic_options(options: argparse.Namespace) -> dict[str, Any]:
    """What `segment_dataset` takes, of what determines the classes."""
    given = vars(options)
    return {
        "backbone": {name: given[name] for name in BACKBONE if given[name] is not None},
        "max_size": None if options.max_size == "none" else options.max_size,
        **{name: given[name] for name in _SEMANTIC},
    }


_SEMANTIC = (
    *("k", "color_weight", "grid", "n_segments", "background", "segment_seed", "erode", "dilate", "pool"),
    *("method", "n_classes", "clustering", "n_components", "n_restarts", "refine"),
)

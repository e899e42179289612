"""What can be asked of many images, and the files that the answers are written to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec import coco, images
from deepspec._files import replacing
from deepspec.checks import check_choice, check_whole
from deepspec.decomposition import Decomposition
from deepspec.refine import REFINEMENTS
from deepspec.regions import (
    BACKGROUNDS,
    FOREGROUNDS,
    PARTITIONS,
    Box,
    find_object,
    localize,
    objectness,
    segment_regions,
)


@dataclass(frozen=True, eq=False)
class Answer:
    """What a task found in one image.

    Attributes
    ----------
    line : str
        For the screen.
    score : float or None
        How clearly the image falls apart, in [0, 1]; None for k = 1.
    annotations : tuple
        COCO's, see `coco.record`.
    box, mask, labels
        What was asked for; the others are None.
    kept : float or None
        Of a mask, the share of the coarse one that refinement kept.
    """

    line: str
    score: float | None
    annotations: tuple[coco.Json | None, ...] = ()
    box: Box | None = None
    mask: NDArray[np.bool_] | None = None
    labels: NDArray[np.int32] | None = None
    kept: float | None = None


@dataclass(frozen=True)
class Task:
    """One question, asked of every image.

    Attributes
    ----------
    help : str
    answer : callable
        Of a decomposition, the number of threads to use, and the task's own options.
    options : mapping
        Names and defaults of these options.
    files : str
        Where the answers are: a folder of one file for each image, or one COCO file for all.
    suffix, write
        Of the file for each image; None where the COCO file says everything.
    dataset : str or None
        The COCO file.
    k, min_k : int
        Eigenpairs it takes unless told otherwise, and at least.
    extra, module
        The extra of the package that it needs, and the module that shows whether it is installed.
    """

    help: str
    answer: Callable[..., Answer]
    files: str
    suffix: str = ""
    write: Callable[[Path, Decomposition, Answer], None] | None = None
    dataset: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    k: int = 5
    min_k: int = 2
    extra: str | None = None
    module: str | None = None


def check_options(task: str, k: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a task, those not given at their defaults.

    Raises
    ------
    ValueError
        An option is unknown or out of range, or k is too small.
    """
    known = TASKS[task].options
    for name, value in options.items():
        if name not in known:
            raise ValueError(f"{task} takes {', '.join(known) or 'no options'}, got {name}={value!r}")
    chosen = {**known, **options}
    for name, value in chosen.items():
        _CHECKS[name](value)
    min_k = 3 if chosen.get("n_segments") == "auto" else TASKS[task].min_k
    if k < min_k:
        raise ValueError(f"k must be at least {min_k} for {task}, got {k}")
    return chosen


def _eigenvectors(d: Decomposition, threads: int) -> Answer:
    values = ", ".join(f"{value:.4g}" for value in d.pairs.values)
    return Answer(f"eigenvalues {values}", objectness(d) if len(d.pairs.values) > 1 else None)


def _localize(d: Decomposition, threads: int, *, foreground: str, partition: str, min_score: float) -> Answer:
    box = localize(d, foreground=foreground, partition=partition)
    if box.score < min_score:
        return Answer("no object", box.score)
    line = f"box {box.xmin} {box.ymin} {box.xmax} {box.ymax}"
    return Answer(line, box.score, (coco.box_annotation(box),), box=box)


def _segment(
    d: Decomposition, threads: int, *, foreground: str, partition: str, refine: str, min_score: float
) -> Answer:
    score = objectness(d)
    if score < min_score:
        return Answer("no object", score, mask=np.zeros(d.image.shape[:2], bool))
    found = find_object(
        d, foreground=foreground, partition=partition, refine=_method(refine), threads=threads
    )
    line = f"object {found.mask.mean():.0%} of the image"
    if found.lost:
        line += f", refinement kept {found.kept:.0%} of the coarse mask"
    return Answer(line, score, (coco.mask_annotation(found.mask, score),), mask=found.mask, kept=found.kept)


def _regions(
    d: Decomposition, threads: int, *, n_segments: int | str, background: str, refine: str, seed: int
) -> Answer:
    labels = segment_regions(
        d, n_segments=n_segments, background=background, refine=_method(refine), seed=seed, threads=threads
    )
    line = f"{len(np.unique(labels))} segments, background {np.mean(labels == 0):.0%} of the image"
    return Answer(line, objectness(d), labels=labels)


def _method(refine: str) -> str | None:
    return None if refine == "none" else refine


def _save_decomposition(path: Path, d: Decomposition, answer: Answer) -> None:
    d.save(path)


def _save_mask(path: Path, d: Decomposition, answer: Answer) -> None:
    assert answer.mask is not None
    with replacing(path) as file:
        images.write_mask(answer.mask, file)


def _save_labels(path: Path, d: Decomposition, answer: Answer) -> None:
    assert answer.labels is not None
    with replacing(path) as file:
        images.write_labels(answer.labels, file)


def _check_n_segments(value: Any) -> None:
    # A PNG with a palette holds 256 labels.
    if value != "auto":
        check_whole("n_segments, where not 'auto',", value, 1, 256)


def _check_min_score(value: Any) -> None:
    if not (isinstance(value, (int, float)) and 0 <= value <= 1):
        raise ValueError(f"min_score must be a number from 0 to 1, got {value!r}")


_CHECKS: dict[str, Callable[[Any], object]] = {
    "foreground": lambda value: check_choice("foreground", value, FOREGROUNDS),
    "partition": lambda value: check_choice("partition", value, PARTITIONS),
    "n_segments": _check_n_segments,
    "background": lambda value: check_choice("background", value, BACKGROUNDS),
    "refine": lambda value: check_choice("refine", value, (*REFINEMENTS, "none")),
    "seed": lambda value: check_whole("seed", value, 0, 2**32 - 1),
    "min_score": _check_min_score,
}

TASKS: dict[str, Task] = {
    "eigenvectors": Task(
        "decompositions as DIR/eigenvectors/….npz",
        _eigenvectors,
        "eigenvectors",
        ".npz",
        _save_decomposition,
        min_k=1,
    ),
    "localize": Task(
        "a box for each image in DIR/boxes.json (COCO)",
        _localize,
        "boxes.json",
        dataset="boxes.json",
        options={"foreground": "smaller", "partition": "sign", "min_score": 0.0},
        k=2,
    ),
    "segment": Task(
        "object masks, 0 and 255, as DIR/masks/….png, and all in DIR/masks.json (COCO)",
        _segment,
        "masks",
        ".png",
        _save_mask,
        dataset="masks.json",
        options={"foreground": "smaller", "partition": "sign", "refine": "crf", "min_score": 0.0},
        k=2,
    ),
    "regions": Task(
        "segments as DIR/labels/….png (VOC palette)",
        _regions,
        "labels",
        ".png",
        _save_labels,
        options={"n_segments": 15, "background": "border", "refine": "none", "seed": 0},
        extra="cluster",
        module="sklearn",
    ),
}

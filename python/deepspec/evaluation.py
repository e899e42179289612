"""Boxes and masks of a dataset's images against what is true of them: the protocols of Tables 1 to 3 and 6 to 9."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec._files import replacing, write_json
from deepspec.checks import check_choice
from deepspec.datasets import Dataset, Example, TrueBox, read_mask
from deepspec.metrics import FMeasure, bootstrap_interval, is_hit, mask_accuracy, mask_iou

#: What is measured, and the task that answers it.
MEASURES = {"localization": "localize", "segmentation": "segment"}


@dataclass(frozen=True)
class Score:
    """A mean over images with its 95 % bootstrap interval; None where there is none."""

    name: str
    value: float
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.interval[0]:.3f} to {self.interval[1]:.3f})"


@dataclass(frozen=True)
class Evaluation:
    """The scores of a dataset.

    Attributes
    ----------
    measure, dataset : str
    scores : tuple of Score
        Localization: CorLoc, the share of images whose box has an IoU of at least 0.5 with a true one. Segmentation: the
        mean IoU and accuracy of images, and F-max. An image without a prediction counts as a miss, or as an
        empty mask.
    n_images : int
    missing : tuple of str
        Images without a prediction.
    facts : mapping
        Settings, and seconds by stage, where they are known.
    """

    measure: str
    dataset: str
    scores: tuple[Score, ...]
    n_images: int
    missing: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_markdown(self) -> str:
        names = ["dataset", "images", *(score.name for score in self.scores)]
        cells = [self.dataset, str(self.n_images), *map(str, self.scores)]
        table = markdown_table(names, [cells])
        facts = "\n".join(f"- {name}: {json.dumps(value)}" for name, value in self.facts.items())
        return f"{table}\n95 % bootstrap intervals over images.\n\n{facts}\n"

    def save(self, folder: Path) -> None:
        """Write `evaluation-<measure>.json` and `.md`."""
        content = {
            "measure": self.measure,
            "dataset": self.dataset,
            "images": self.n_images,
            "scores": {s.name: {"value": s.value, "interval": s.interval} for s in self.scores},
            "missing": list(self.missing),
            **self.facts,
        }
        write_json(content, folder / f"evaluation-{self.measure}.json")
        with replacing(folder / f"evaluation-{self.measure}.md") as file:
            file.write(self.to_markdown().encode())


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], n_words: int = 1) -> str:
    """A table whose columns after the first `n_words` hold numbers."""
    rule = ["---" if i < n_words else "---:" for i in range(len(head))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rows))


def evaluate(
    measure: str,
    dataset: Dataset,
    predictions: Path,
    *,
    facts: Mapping[str, Any] | None = None,
    progress: Callable[[Sequence[Example]], Any] = iter,
) -> Evaluation:
    """Compare predictions with what is true of a dataset's images.

    Parameters
    ----------
    measure : {"localization", "segmentation"}
    dataset : Dataset
    predictions : Path
        Localization: a folder with `boxes.json`, or that file, in COCO's format; of an image's boxes the one with the
        highest score counts. Segmentation: a folder with `masks/`, or that folder, of PNGs of the images' names; above
        one half is foreground. As `deepspec localize` and `deepspec segment` write them, or anyone.
    facts : mapping, optional
        To be reported.
    progress : callable, optional
        Wraps the examples, such as tqdm.

    Raises
    ------
    OSError
        The predictions are missing or damaged, or the truth is.
    ValueError
        The measure is unknown, a mask has another size than the image's truth, or the dataset lacks what is measured.
    """
    check_choice("measure", measure, MEASURES)
    score = _localization if measure == "localization" else _segmentation
    scores, missing = score(progress(dataset), predictions)
    return Evaluation(measure, dataset.name, scores, len(dataset), tuple(missing), facts or {})


def _localization(examples: Any, predictions: Path) -> tuple[tuple[Score, ...], list[str]]:
    boxes = _read_boxes(predictions / "boxes.json" if predictions.is_dir() else predictions)
    hits, missing = [], []
    for example in examples:
        box = boxes.get(example.image.stem)
        if box is None:
            missing.append(str(example.image))
        hits.append(float(is_hit(box, example.boxes())))
    return (_mean("CorLoc", hits),), missing


def _read_boxes(path: Path) -> dict[str, TrueBox]:
    """The best box of each image, by the stem of its file's name."""
    try:
        content: Any = json.loads(path.read_text())
        stems = {image["id"]: Path(image["file_name"]).stem for image in content["images"]}
        best: dict[str, tuple[float, TrueBox]] = {}
        for annotation in content["annotations"]:
            x, y, width, height = annotation["bbox"]
            stem, score = stems[annotation["image_id"]], float(annotation.get("score", 1.0))
            if stem not in best or score > best[stem][0]:
                best[stem] = (score, TrueBox(x, y, x + width, y + height))
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"{path} does not hold boxes in COCO's format: {error!r}") from error
    return {stem: box for stem, (_, box) in best.items()}


def _segmentation(examples: Any, predictions: Path) -> tuple[tuple[Score, ...], list[str]]:
    folder = predictions / "masks" if (predictions / "masks").is_dir() else predictions
    files = {path.stem: path for path in sorted(folder.rglob("*.png"))}
    if not files:
        raise FileNotFoundError(f"no masks in {folder}: expected are PNG files of the images' names")
    ious, accuracies, missing = [], [], []
    f_measure = FMeasure()
    for example in examples:
        truth, valid = example.mask()
        path = files.get(example.image.stem)
        if path is None:
            missing.append(str(example.image))
            mask = np.zeros_like(truth)
        else:
            mask = read_mask(path)
        if mask.shape != truth.shape:
            raise ValueError(
                f"{path} is {_size(mask)}, but the true mask of {example.image} is {_size(truth)}"
            )
        if example.center_square:
            mask, truth, valid = (_central_square(array) for array in (mask, truth, valid))
        ious.append(mask_iou(mask, truth, valid))
        accuracies.append(mask_accuracy(mask, truth, valid))
        f_measure.add(mask & valid, truth & valid)
    scores = (_mean("IoU", ious), _mean("accuracy", accuracies), Score("F-max", f_measure.value(), None))
    return scores, missing


def _size(array: NDArray[Any]) -> str:
    return f"{array.shape[1]} x {array.shape[0]} pixels"


def _central_square(array: NDArray[np.bool_]) -> NDArray[np.bool_]:
    side = min(array.shape)
    top, left = ((length - side) // 2 for length in array.shape)
    return array[top : top + side, left : left + side]


def _mean(name: str, values: Sequence[float]) -> Score:
    return Score(name, float(np.mean(values)), bootstrap_interval(values))

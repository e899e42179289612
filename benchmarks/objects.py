"""Masks and boxes on ECSSD and VOC 2012, by features, graph, foreground rule and refinement: the table of docs/results.md.

    python benchmarks/objects.py --data DIR [--weights squeezenet_v1.0.npz] [--limit N]

The folder holds `ECSSD` and `VOCdevkit/VOC2012`, whole or in part; without it the test data at DEEPSPEC_TEST_DATA are
taken. Mean IoU of ECSSD's images by even and odd ids (choices are made on the even ones), IoU of any class of VOC's
segmentation list, and CorLoc of its detection list.

classical            the built-in features, λ = 10
squeezenet           SqueezeNet v1.0's fire9, mean-centred, at short side 480, λ = 4 (`squeezenet.py`)
squeezenet tokencut  the same in TokenCut's graph, τ = 0.2, λ = 0, on the features' own grid, split at the mean
... middle           both split halfway between the extremes of the eigenvector
whole, box, ellipse  no look at the image: all of it, and a centred box and ellipse of 70 % of its sides
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ecssd import centred_ellipse
from numpy.typing import NDArray
from report import markdown
from squeezenet import SqueezeNet
from tqdm import tqdm

import deepspec
from deepspec import images
from deepspec.datasets import Dataset, Example, load_dataset
from deepspec.metrics import average_precision, is_hit, mask_iou
from deepspec.refine import refine_labels

Mask = NDArray[np.bool_]
Scores = dict[tuple[str, str, str], dict[str, list[float]]]  # (features, rule, refinement): column: by image
SIDE = 0.7  # of the centred box
COLUMNS = ("ECSSD even", "ECSSD odd", "VOC IoU", "VOC CorLoc")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    network = SqueezeNet(options.weights) if options.weights else None
    scores: Scores = defaultdict(lambda: defaultdict(list))
    confidences: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for part, name, split, columns in (
        ("ecssd", "ecssd", None, ("ECSSD even", "ECSSD odd")),
        ("iou", "voc2012", "seg-trainval", ("VOC IoU",)),
        ("corloc", "voc2012", "trainval", ("VOC CorLoc",)),
    ):
        if part not in options.columns:
            continue
        dataset: Dataset = load_dataset(name, options.data, split=split)
        for example in tqdm(dataset[: options.limit], desc=columns[0], disable=None):
            column = columns[int(example.image.stem) % 2] if name == "ecssd" else columns[0]
            boxes = split == "trainval"
            for key, score, confidence in answers(example, network, boxes=boxes):
                scores[key][column].append(score)
                if boxes:
                    confidences[key].append(confidence)
    lines = []
    for (features, rule, refinement), row in scores.items():
        cells = [f"{np.mean(row[column]):.3f}" if row[column] else "–" for column in COLUMNS[:3]]
        hits = np.array(row[COLUMNS[3]])
        last = ["–", "–"]
        if len(hits) > 1:
            ranked = average_precision(confidences[features, rule, refinement][1::2], hits[1::2] > 0)
            last = [f"{100 * hits.mean():.1f}", f"{ranked:.3f} ({hits[1::2].mean():.3f})"]
        lines.append([features, rule, refinement, *cells, *last])
    print(markdown(["features", "foreground", "refined", *COLUMNS, "AP (constant)"], lines))
    print("\n" + ", ".join(f"{c}: {max(len(row[c]) for row in scores.values())} images" for c in COLUMNS))


def answers(
    example: Example, network: SqueezeNet | None, *, boxes: bool
) -> Iterator[tuple[tuple[str, str, str], float, float]]:
    """Score every way on one image: CorLoc's hits, with the boxes' scores, or IoU without and with the CRF."""
    image = images.load(example.image)
    truth: Any = example.boxes() if boxes else example.mask()
    for features, d, partition in decompositions(image, network):
        for rule in ("smaller", "border"):
            if boxes:
                box = deepspec.localize(d, foreground=rule, partition=partition)
                yield (features, rule, "none"), float(is_hit(box, truth)), box.score
                continue
            found = deepspec.find_object(d, foreground=rule, partition=partition)
            yield (features, rule, "none"), mask_iou(found.coarse, *truth), 0.0
            yield (features, rule, "crf"), mask_iou(found.mask, *truth), 0.0
    for name, mask in floors(image.shape[:2]).items():
        if boxes:
            yield (name, "", "none"), float(is_hit(box_around(mask), truth)), 0.0
        else:
            yield (name, "", "none"), mask_iou(mask, *truth), 0.0
            yield (name, "", "crf"), mask_iou(refine_labels(image, mask, "crf") == 1, *truth), 0.0


def decompositions(
    image: NDArray[np.uint8], network: SqueezeNet | None
) -> Iterator[tuple[str, deepspec.Decomposition, str]]:
    """Name, decomposition, and where it is split."""
    d = deepspec.decompose(image, "classical", k=2)
    yield "classical", d, "sign"
    yield "classical, middle", d, "middle"
    if network is not None:
        features = network(image)
        d = deepspec.decompose(image, features, k=2, color_weight=4.0)
        yield "squeezenet", d, "sign"
        yield "squeezenet, middle", d, "middle"
        graph = {"affinity": "threshold", "color_weight": 0.0, "grid": "patch"}
        d = deepspec.decompose(image, features, k=2, **graph)
        yield "squeezenet tokencut", d, "mean"
        yield "squeezenet tokencut, middle", d, "middle"


def floors(shape: tuple[int, ...]) -> dict[str, Mask]:
    box = np.zeros(shape, bool)
    (top, bottom), (left, right) = (
        (round(side * (1 - SIDE) / 2), round(side * (1 + SIDE) / 2)) for side in shape
    )
    box[top:bottom, left:right] = True
    return {"whole": np.ones(shape, bool), "box": box, "ellipse": centred_ellipse(shape)}


def box_around(mask: Mask) -> deepspec.Box:
    rows, columns = np.nonzero(mask)
    return deepspec.Box(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 1.0)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    test_data = os.environ.get("DEEPSPEC_TEST_DATA")
    known = Path(test_data) if test_data else None
    parser.add_argument("--data", type=Path, required=known is None, default=known, metavar="DIR")
    parser.add_argument(
        "--weights", type=Path, default=known and known / "squeezenet" / "squeezenet_v1.0.npz", metavar="FILE"
    )
    parts = ("ecssd", "iou", "corloc")
    parser.add_argument("--columns", choices=parts, nargs="+", default=parts, help="which of them")
    parser.add_argument("--limit", type=int, metavar="N", help="the first images of each alone")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

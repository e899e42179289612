"""Masks and boxes on ECSSD and VOC 2012, by features, graph, foreground rule and refinement: the table of docs/results.md.

    python benchmarks/objects.py --data DIR [--weights squeezenet_v1.0.npz] [--random] [--limit N] [--jobs N]

The folder holds `ECSSD` and `VOCdevkit/VOC2012`, whole or in part; without it the test data at DEEPSPEC_TEST_DATA are
taken. Mean IoU of ECSSD's images by even and odd ids (choices are made on the even ones) and of those whose object does not
cover the image's centre; of VOC's segmentation list IoU of any class, and CorLoc of the same images' boxes.

classical              the built-in features, λ = 10
classical, uncentred   the same without their Gaussian in the image's centre
squeezenet             SqueezeNet v1.0's fire9, mean-centred, at short side 480, λ = 4 (`squeezenet.py`)
squeezenet, TokenCut   the same in TokenCut's graph, τ = 0.2, λ = 0, on the features' own grid, split at the mean
... middle             both split halfway between the extremes of the eigenvector
random ViT-S/16        DINO's architecture with weights drawn from seed 0 (`--random`, needs the extra `models`), λ = 10
whole, box, ellipse    no look at the image: all of it, and a centred box and ellipse of 70 % of its sides
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from arguments import positive
from numpy.typing import NDArray
from report import markdown
from squeezenet import SqueezeNet
from tqdm import tqdm

import deepspec
from deepspec import images
from deepspec.baselines import METHODS
from deepspec.classical import Classical
from deepspec.datasets import Dataset, Example, load_dataset
from deepspec.metrics import average_precision, is_hit, mask_iou
from deepspec.refine import refine_labels

Mask = NDArray[np.bool_]
Way = tuple[str, str, str]  # features, foreground rule, refinement
Answer = tuple[Way, str, float, float]  # column, value there, score of the box
SIDE = 0.7  # of the centred box and ellipse
COLUMNS = ("ECSSD even", "ECSSD odd", "off centre", "VOC IoU", "VOC CorLoc")


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    sources: dict[str, Any] = {
        "classical": Classical(),
        "classical, uncentred": Classical(center_prior=False),
    }
    if options.weights:
        sources["squeezenet"] = SqueezeNet(options.weights)
    if options.random:
        sources["random ViT-S/16"] = random_transformer()
    scores: dict[Way, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    confidences: dict[Way, list[float]] = defaultdict(list)
    for name, split in (("ecssd", None), ("voc2012", "seg-trainval")):
        dataset: Dataset = load_dataset(name, options.data, split=split)[: options.limit]
        with ThreadPoolExecutor(options.jobs) as pool:
            found = pool.map(partial(answers, sources=sources, voc=name == "voc2012"), dataset)
            for of_image in tqdm(found, total=len(dataset), desc=name, disable=None):
                for way, column, value, confidence in of_image:
                    scores[way][column].append(value)
                    if column == "VOC CorLoc":
                        confidences[way].append(confidence)
    print(
        markdown(["features", "foreground", "refined", *COLUMNS, "AP (constant)"], lines(scores, confidences))
    )
    print("\n" + ", ".join(f"{c}: {max(len(row[c]) for row in scores.values())} images" for c in COLUMNS))


def lines(scores: dict[Way, dict[str, list[float]]], confidences: dict[Way, list[float]]) -> list[list[str]]:
    table = []
    for way, row in scores.items():
        cells = [f"{np.mean(row[column]):.3f}" if row[column] else "–" for column in COLUMNS[:4]]
        hits = np.array(row["VOC CorLoc"])
        last = ["–", "–"]
        if len(hits) > 1:
            ranked = average_precision(confidences[way][1::2], hits[1::2] > 0)
            last = [f"{100 * hits.mean():.1f}", f"{ranked:.3f} ({hits[1::2].mean():.3f})"]
        table.append([*way, *cells, *last])
    return table


def answers(example: Example, sources: dict[str, Any], *, voc: bool) -> list[Answer]:
    """Every way's answers on one image, by the columns they count in."""
    image, (truth, valid) = images.load(example.image), example.mask()
    true_boxes = example.boxes() if voc else []
    columns = ["VOC IoU"] if voc else [COLUMNS[int(example.image.stem) % 2]]
    if not voc and not truth[truth.shape[0] // 2, truth.shape[1] // 2]:
        columns.append("off centre")
    found: list[Answer] = []

    def add(features: str, rule: str, box: deepspec.Box, coarse: Mask, refined: Mask) -> None:
        for refinement, mask in (("none", coarse), ("crf", refined)):
            iou = mask_iou(mask, truth, valid)
            found.extend(((features, rule, refinement), column, iou, 0.0) for column in columns)
        if voc:
            hit = float(is_hit(box, true_boxes))
            found.append(((features, rule, "none"), "VOC CorLoc", hit, box.score))

    for features, d, partition in decompositions(image, sources):
        for rule in ("smaller", "border"):
            box = deepspec.localize(d, foreground=rule, partition=partition)
            masks = deepspec.find_object(d, foreground=rule, partition=partition, threads=1)
            add(features, rule, box, masks.coarse, masks.mask)
    for name, mask in floors(image.shape[:2]).items():
        add(name, "", box_around(mask), mask, refine_labels(image, mask, "crf", threads=1) == 1)
    return found


def decompositions(
    image: NDArray[np.uint8], sources: dict[str, Any]
) -> Iterator[tuple[str, deepspec.Decomposition, str]]:
    """Name, decomposition, and where it is split."""
    for name, source in sources.items():
        features = source(image)
        weight = 4.0 if name == "squeezenet" else 10.0
        d = deepspec.decompose(image, features, k=2, color_weight=weight, threads=1)
        yield name, d, "sign"
        if name == "squeezenet":
            yield f"{name}, middle", d, "middle"
            d = deepspec.decompose(image, features, k=2, threads=1, **METHODS["tokencut"].graph)
            yield f"{name}, TokenCut", d, "mean"
            yield f"{name}, TokenCut, middle", d, "middle"


def random_transformer() -> deepspec.Backbone:
    """DINO's ViT-S/16 with the weights that timm draws."""
    import timm
    import torch

    torch.manual_seed(0)
    network = timm.create_model("vit_small_patch16_224.dino", pretrained=False, num_classes=0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.pth"
        torch.save(network.state_dict(), path)
        return deepspec.load_backbone("dino_vits16", weights=path)


def floors(shape: tuple[int, ...]) -> dict[str, Mask]:
    box = np.zeros(shape, bool)
    (top, bottom), (left, right) = (
        (round(side * (1 - SIDE) / 2), round(side * (1 + SIDE) / 2)) for side in shape
    )
    box[top:bottom, left:right] = True
    return {"whole": np.ones(shape, bool), "box": box, "ellipse": centred_ellipse(shape)}


def centred_ellipse(shape: tuple[int, ...]) -> Mask:
    y, x = (np.arange(side)[:, None] * 2 + 1 - side for side in shape)
    mask: Mask = (y / shape[0]) ** 2 + (x.T / shape[1]) ** 2 < SIDE**2
    return mask


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
    parser.add_argument("--random", action="store_true", help="a random ViT-S/16, too")
    parser.add_argument("--limit", type=positive, metavar="N", help="the first images of each alone")
    parser.add_argument("--jobs", type=positive, default=os.cpu_count(), metavar="N", help="images at a time")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

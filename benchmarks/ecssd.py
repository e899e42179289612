"""Mean IoU of `deepspec.segment_object` on images with masks, beside what needs no look at the image.

    python benchmarks/ecssd.py --data ECSSD [--weights squeezenet_v1.0.npz] [--color-weight 3 4 5]

The folder holds `images/*.jpg` and `ground_truth_mask/*.png` (ECSSD's layout). Without arguments the test data
at DEEPSPEC_TEST_DATA are taken.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from squeezenet import SqueezeNet

import deepspec
from deepspec.metrics import mask_iou as iou

Mask = NDArray[np.bool_]
FOREGROUNDS = ("smaller", "border")
# An ellipse of this share of the image's sides, at its centre, is what a photographer's habit alone is worth.
ELLIPSE = 0.7


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    examples = find_examples(options.data)[: options.limit]
    features = options.features
    if features == "squeezenet":
        if options.weights is None:
            raise SystemExit("--features squeezenet needs --weights")
        features = SqueezeNet(options.weights)
    elif features in ("ellipse", "whole"):
        print(
            f"{features}: mean IoU {mean_baseline(examples, BASELINES[features]):.3f}, {len(examples)} images"
        )
        return
    started = time.perf_counter()
    scores = evaluate(_progress(examples), features, options.color_weight)
    seconds = time.perf_counter() - started
    print(f"Mean IoU of segment_object(refine=None), {options.features} features, {len(examples)} images\n")
    print(f"| {'':<16} | {' | '.join(f'{name:>8}' for name in FOREGROUNDS)} |")
    print("|---|---|---|")
    for color_weight, row in scores.items():
        print(f"| λ = {color_weight:<12g} | {' | '.join(f'{row[name]:8.3f}' for name in FOREGROUNDS)} |")
    for name, baseline in BASELINES.items():
        score = f"{mean_baseline(examples, baseline):8.3f}"
        print(f"| {name:<16} | {score} | {score} |")
    print(f"\n{seconds:.1f} s, {seconds / len(examples):.2f} s an image")


def find_examples(folder: Path) -> list[tuple[Path, Path]]:
    """The images of a folder and their masks, by name."""
    images = sorted((folder / "images").glob("*.jpg"))
    if not images:
        raise SystemExit(f"no images/*.jpg in {folder}")
    return [(image, folder / "ground_truth_mask" / f"{image.stem}.png") for image in images]


def evaluate(
    examples: Iterable[tuple[Path, Path]], features: Any, color_weights: Sequence[float]
) -> dict[float, dict[str, float]]:
    """Mean IoU by colour weight and foreground rule; `features` as for `deepspec.decompose`."""
    scores: list[list[list[float]]] = []
    for image_path, mask_path in examples:
        image, truth = read_image(image_path), read_mask(mask_path)
        # The features serve every colour weight.
        found = features(image) if callable(features) else features
        rows = []
        for color_weight in color_weights:
            d = deepspec.decompose(image, found, k=2, color_weight=color_weight)
            masks = (deepspec.segment_object(d, foreground=name, refine=None) for name in FOREGROUNDS)
            rows.append([iou(mask, truth) for mask in masks])
        scores.append(rows)
    means = np.mean(scores, axis=0)
    return {
        weight: dict(zip(FOREGROUNDS, row.tolist(), strict=True))
        for weight, row in zip(color_weights, means, strict=True)
    }


def read_image(path: Path) -> NDArray[np.uint8]:
    return np.asarray(Image.open(path).convert("RGB"))


def read_mask(path: Path) -> Mask:
    return np.asarray(Image.open(path).convert("L")) > 127


def centred_ellipse(shape: tuple[int, ...]) -> Mask:
    y, x = (np.arange(side)[:, None] * 2 + 1 - side for side in shape)
    mask: Mask = (y / shape[0]) ** 2 + (x.T / shape[1]) ** 2 < ELLIPSE**2
    return mask


def whole_image(shape: tuple[int, ...]) -> Mask:
    return np.ones(shape, bool)


BASELINES: dict[str, Callable[[tuple[int, ...]], Mask]] = {"ellipse": centred_ellipse, "whole": whole_image}


def mean_baseline(
    examples: Iterable[tuple[Path, Path]], baseline: Callable[[tuple[int, ...]], Mask]
) -> float:
    truths = (read_mask(path) for _, path in examples)
    return float(np.mean([iou(baseline(truth.shape), truth) for truth in truths]))


def _progress(examples: Sequence[tuple[Path, Path]]) -> Iterable[tuple[Path, Path]]:
    for number, example in enumerate(examples, 1):
        if sys.stderr.isatty():
            print(f"\r{number}/{len(examples)} {example[0].name} ", end="", file=sys.stderr, flush=True)
        yield example
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    test_data = os.environ.get("DEEPSPEC_TEST_DATA")
    known = Path(test_data) if test_data else None
    parser.add_argument(
        "--data", type=Path, required=known is None, default=known and known / "ECSSD", help="folder"
    )
    parser.add_argument(
        "--weights",
        type=Path,
        default=known and known / "squeezenet" / "squeezenet_v1.0.npz",
        help="weights of SqueezeNet v1.0 by Caffe's layer names",
    )
    parser.add_argument(
        "--features", choices=["squeezenet", "classical", "ellipse", "whole"], default="squeezenet"
    )
    parser.add_argument("--color-weight", type=float, nargs="+", default=[4.0], metavar="λ")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    return parser


if __name__ == "__main__":
    main()

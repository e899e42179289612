"""The dense CRF against pydensecrf2: time, as ratios on one thread, and how far the two agree.

    python benchmarks/crf.py IMAGE… [--size 500x375] [--labels 2 21] [--confidence 0.7 0.99] [--runs 5] [--threads 1]

Images, or folders of them, are brought to one size. Two labels: a disc in the middle; more: blocks of 40 pixels, labels at
random. Unaries are −log of the confidence for a pixel's label, the rest is shared by the others; both get the same ones,
and the same kernels and iterations (deepspec's defaults). On each image both take turns for `--runs` rounds; a ratio is
the median over images and rounds, with its 90 % bootstrap interval.
Needs `pip install "deepspec[crf,bench]"`.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from arguments import positive
from measures import environment, in_turns, limit_threads, median_ratio
from numpy.typing import NDArray
from PIL import Image
from report import describe, markdown, show

import deepspec
from deepspec import _core
from deepspec.inputs import find_images
from deepspec.refine import pydensecrf

BLOCK = 40  # pixels


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    width, height = options.size
    photographs = [
        np.asarray(Image.open(item.path).convert("RGB").resize((width, height)))
        for item in find_images(options.images)
    ]
    lines = []
    for n_labels in options.labels:
        for confidence in options.confidence:
            compared = [
                compare(image, n_labels, confidence, options.threads, options.runs) for image in photographs
            ]
            lines.append([str(n_labels), f"{confidence:g}", *summary(compared)])
    print(f"{describe(environment() | {'build': _core.build_info()})}\n")
    print(f"{len(photographs)} images of {width} x {height} pixels, {options.threads} threads:\n")
    header = ["labels", "confidence", "deepspec, ms", "pydensecrf, ms", "÷", "labels equal", "Δ posterior"]
    print(markdown(header, lines))


def compare(
    image: NDArray[np.uint8], n_labels: int, confidence: float, threads: int, runs: int
) -> dict[str, Any]:
    """Seconds of both on one image, by round, and how far they agree."""
    unary = deepspec.unary_from_labels(labels_of(image.shape[:2], n_labels), n_labels, confidence)
    calls = {
        "deepspec": partial(deepspec.dense_crf, image, unary, threads=threads),
        "pydensecrf": partial(pydensecrf, image, unary),
    }
    found = {name: call() for name, call in calls.items()}
    times = in_turns(calls, dict.fromkeys(calls, runs), lambda _: limit_threads(threads))
    a, b = found["deepspec"], found["pydensecrf"]
    return {
        "seconds": {name: list(times[name].values()) for name in calls},
        "equal": float(np.mean(a.argmax(axis=0) == b.argmax(axis=0))),
        "difference": float(np.abs(a - b).mean()),
    }


def labels_of(shape: tuple[int, ...], n_labels: int) -> NDArray[np.int64]:
    height, width = shape
    if n_labels == 2:
        y, x = np.mgrid[:height, :width]
        return (np.hypot(y - height / 2, x - width / 2) < 0.3 * height).astype(np.int64)
    blocks = np.random.default_rng(0).integers(0, n_labels, (height // BLOCK + 1, width // BLOCK + 1))
    return np.kron(blocks, np.ones((BLOCK, BLOCK), np.int64))[:height, :width]


def summary(compared: Sequence[dict[str, Any]]) -> list[str]:
    own, other = (
        np.concatenate([one["seconds"][name] for one in compared]) for name in ("deepspec", "pydensecrf")
    )
    return [
        f"{1e3 * np.median(own):.1f}",
        f"{1e3 * np.median(other):.1f}",
        show(median_ratio(other, own)),
        f"at least {min(one['equal'] for one in compared):.3%}",
        f"at most {max(one['difference'] for one in compared):.1e}",
    ]


def parse_size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return positive(width), positive(height)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--size", type=parse_size, default=(500, 375), metavar="WxH")
    parser.add_argument("--labels", type=positive, nargs="+", default=[2, 21], metavar="N")
    parser.add_argument("--confidence", type=float, nargs="+", default=[0.7, 0.99], metavar="P")
    parser.add_argument("--runs", type=positive, default=5, metavar="N")
    parser.add_argument("--threads", type=positive, default=1, metavar="N")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

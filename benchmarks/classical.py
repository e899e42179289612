"""Milliseconds that the classical features of an image take on one thread.

    python benchmarks/classical.py IMAGE… [--size 400x300] [--runs 10]

Images, or folders of them, are brought to one size; the median and the quartiles are over images and rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from arguments import positive
from crf import parse_size
from measures import environment, limit_threads
from PIL import Image
from report import describe

from deepspec.classical import Classical
from deepspec.inputs import find_images


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    photographs = [
        np.asarray(Image.open(item.path).convert("RGB").resize(options.size))
        for item in find_images(options.images)
    ]
    features = Classical()
    milliseconds = []
    with limit_threads(1):
        features(photographs[0])
        for _ in range(options.runs):
            for image in photographs:
                started = time.perf_counter()
                features(image)
                milliseconds.append(1e3 * (time.perf_counter() - started))
    low, median, high = np.percentile(milliseconds, [25, 50, 75])
    width, height = options.size
    print(f"{describe(environment())}\n")
    print(
        f"{len(photographs)} images of {width} x {height} pixels: {median:.1f} ms ({low:.1f} to {high:.1f})"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--size", type=parse_size, default=(400, 300), metavar="WxH")
    parser.add_argument("--runs", type=positive, default=10, metavar="N")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

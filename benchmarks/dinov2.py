"""Eigenvectors of real DINOv2 features, drawn.

    python benchmarks/dinov2.py [--data FOLDER] [-o dinov2.png]

The folder holds `dino_0.png` and `dino_0_vits14.safetensors`: the normalised patch tokens (1, 37 · 37, 384) that
DINOv2 ViT-S/14 gives for the picture resized to 520 pixels and cropped to the 518 in its centre. The default is
`dinov2_features` of the test data at DEEPSPEC_TEST_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import deepspec

GRID = 37
RESIZED, CROPPED = 520, 518


def main(arguments: Sequence[str] | None = None) -> None:
    from deepspec import plots

    options = _parser().parse_args(arguments)
    image, tokens = load(options.data)
    rows = []
    for color_weight in options.color_weight:
        d = deepspec.decompose(image, tokens, k=options.k, color_weight=color_weight)
        mask = deepspec.segment_object(d, refine=None)
        rows.append(plots.Row(f"λ = {color_weight:g}", d, deepspec.localize(d), mask))
        print(f"λ = {color_weight:g}: eigenvalues {np.array2string(d.pairs.values, precision=4)}")
    plots.save_page(rows, options.output, n_eigenvectors=options.k - 1)
    print(f"wrote {options.output}")


def load(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The pixels (518, 518, 3) the network saw and its tokens (37, 37, 384)."""
    picture = Image.open(folder / "dino_0.png").convert("RGB")
    resized = picture.resize((RESIZED, RESIZED), Image.Resampling.BICUBIC)
    edge = (RESIZED - CROPPED) // 2
    pixels = np.asarray(resized)[edge : edge + CROPPED, edge : edge + CROPPED]
    return pixels, _read_tensor(folder / "dino_0_vits14.safetensors", "output").reshape(GRID, GRID, -1)


def _read_tensor(path: Path, name: str) -> NDArray[np.float32]:
    """One float32 tensor of a safetensors file: a header of JSON after its length, then the bytes."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    entry: dict[str, Any] = json.loads(raw[8:start])[name]
    if entry["dtype"] != "F32":
        raise ValueError(f"{path}: tensor {name!r} must be F32, is {entry['dtype']}")
    first, last = entry["data_offsets"]
    tensor: NDArray[np.float32] = np.frombuffer(raw[start + first : start + last], "<f4")
    return np.reshape(tensor, entry["shape"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    test_data = os.environ.get("DEEPSPEC_TEST_DATA")
    default = Path(test_data) / "dinov2_features" if test_data else None
    parser.add_argument("--data", type=Path, required=default is None, default=default, metavar="FOLDER")
    parser.add_argument("--color-weight", type=float, nargs="+", default=[0.0, 10.0], metavar="λ")
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, default=Path("dinov2.png"))
    return parser


if __name__ == "__main__":
    main()

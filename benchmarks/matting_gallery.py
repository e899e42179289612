"""The README's picture of mattes: photographs, their soft layers, and each on the background of another.

    python benchmarks/matting_gallery.py -o docs/mattes.jpg

Above, the layers of features and colours, those in front on a new background; below, the layers of colours alone
(λ = ∞, as in Figure 6 of the paper). The photographs come with scikit-image (coffee and chelsea, public domain) and
scikit-learn (the flower and the pagoda, CC BY 2.0). Features: SqueezeNet's fire9 from the test data at
DEEPSPEC_TEST_DATA, or those of any name that `matte` takes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from problems import data_folder
from skimage import data
from sklearn.datasets import load_sample_image
from squeezenet import SqueezeNet

import deepspec
from deepspec._files import replacing
from deepspec.pictures import scaled

Photograph = NDArray[np.uint8]

HEIGHT, GAP = 150, 6  # pixels
#: Name, number of layers.
SCENES = (("coffee", 5), ("chelsea", 5), ("flower", 3))
BACKGROUNDS = {"coffee": "flower", "chelsea": "pagoda", "flower": "pagoda"}
PHOTOGRAPHS: dict[str, Callable[[], Photograph]] = {
    "coffee": data.coffee,
    "chelsea": data.chelsea,
    "flower": lambda: load_sample_image("flower.jpg"),
    "pagoda": lambda: load_sample_image("china.jpg"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--features", default="squeezenet", metavar="NAME")
    options = parser.parse_args(arguments)
    features = options.features
    if features == "squeezenet":
        features = SqueezeNet(data_folder() / "squeezenet" / "squeezenet_v1.0.npz")
    strips = [strip for name, n_layers in SCENES for strip in strips_of(name, n_layers, features)]
    with replacing(options.output) as file:
        stacked(strips).save(file, format="jpeg", quality=88)
    print(f"written: {options.output}")


def strips_of(
    name: str, n_layers: int, features: str | Callable[[Photograph], deepspec.Features]
) -> list[list[Photograph]]:
    """Two rows of pictures of one photograph."""
    photograph = np.ascontiguousarray(PHOTOGRAPHS[name]())
    found = deepspec.matte(photograph, features, n_layers=n_layers)
    colors = deepspec.matte(photograph, n_layers=n_layers, color_weight=math.inf)
    background = np.ascontiguousarray(PHOTOGRAPHS[BACKGROUNDS[name]]())
    print(f"{name}: in front {', '.join(str(n + 1) for n in found.front)} of {n_layers}")
    return [
        [photograph, found.composite(background), *map(gray, found.alphas)],
        [blank(photograph), blank(photograph), *map(gray, colors.alphas)],
    ]


def gray(alpha: NDArray[np.float32]) -> Photograph:
    return np.repeat(np.rint(255 * alpha).astype(np.uint8)[..., None], 3, axis=2)


def blank(photograph: Photograph) -> Photograph:
    return np.full_like(photograph, 255)


def stacked(strips: Sequence[Sequence[Photograph]]) -> Image.Image:
    """Rows of pictures on white."""
    rows = [[scaled(picture, HEIGHT)[0] for picture in strip] for strip in strips]
    width = max(sum(picture.width + GAP for picture in row) for row in rows)
    sheet = Image.new("RGB", (width, len(rows) * (HEIGHT + GAP)), "white")
    for line, row in enumerate(rows):
        left = 0
        for picture in row:
            sheet.paste(picture, (left, line * (HEIGHT + GAP)))
            left += picture.width + GAP
    return sheet


if __name__ == "__main__":
    main()

"""The table of docs/backbones.md: every short name run once, with random weights, on an image of 375 × 500 pixels.

python benchmarks/backbones.py [NAME ...]
"""

from __future__ import annotations

import argparse

import numpy as np

from deepspec.backbones import Backbone, names
from deepspec.layers import choose
from deepspec.networks import Recipe, has_absolute_positions, recipe, use_dino_positions

IMAGE = np.random.default_rng(0).integers(0, 256, (375, 500, 3), dtype=np.uint8)


def with_random_weights(how: Recipe) -> Backbone:
    """What `load_backbone` makes of a name on the CPU, but for the weights."""
    layers = choose(how.outline(), None, -1, how)
    network = how.build()
    if how.pos_embed == "dino" and has_absolute_positions(network):
        use_dino_positions(network, how.name)
    return Backbone(network, how, layers, how.normalization(), {"features": how.name, "dtype": "float32"})


def row(name: str) -> str:
    how = recipe(name)
    backbone = with_random_weights(how)
    features = backbone(IMAGE)
    embedding = backbone.embed([IMAGE])
    millions = sum(parameter.numel() for parameter in backbone._network.parameters()) / 1e6
    cells = " × ".join(map(str, features.array.shape))
    return (
        f"| `{name}` | {how.architecture} | {backbone._layers[0].facet} of `{backbone._layers[0].module}` "
        f"| {backbone.stride[0]} | {cells} | {embedding.shape[1]} | {millions:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[name for name in names() if "7b" not in name])
    print("| name | architecture | features | stride | grid and channels | embedding | million weights |")
    print("|---|---|---|---:|---|---:|---:|")
    for name in parser.parse_args().names:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()

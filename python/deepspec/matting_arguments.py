"""The arguments of `deepspec matte`."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from deepspec.argument_groups import (
    add_features,
    add_folder,
    add_page,
    add_threads,
    color_weight,
    positive,
    whole,
)
from deepspec.matte_layers import BITS
from deepspec.pixel_problem import AFFINITIES
from deepspec.soft_layers import LAYERINGS


def add_matte(commands: Any) -> None:
    command = commands.add_parser(
        "matte",
        help="soft layers and a foreground of full size, as DIR/mattes/…/*.png, and composites",
        description="Take photographs apart into soft layers, put some of them together as the foreground, and that over "
        "another background. Another --foreground or --background in the same DIR is made of the layers that are there.",
    )
    command.add_argument(
        "inputs", nargs="+", type=Path, metavar="FILE", help="image files, or folders of them"
    )
    add_folder(command)
    command.add_argument(
        "--bits", type=int, choices=BITS, default=8, help="of the files, a channel (%(default)s)"
    )
    add_page(command)
    _add_foreground(command.add_argument_group("foreground"))
    _add_layers(command.add_argument_group("layers"))
    add_features(
        command.add_argument_group(
            "features", "Left out with a trimap or scribbles, unless --color-weight is given."
        ),
        layers="--network-layers",
        reduced="images: features are taken from",
    )
    group = command.add_argument_group("running")
    group.add_argument(
        "--max-memory",
        type=n_bytes,
        metavar="SIZE",
        help="such as 4G: the eigenvectors of images that need more are found on a smaller copy and polished at full size, "
        "and what needs more all the same fails before it is begun (what the machine has)",
    )
    add_threads(group)


def _add_foreground(group: Any) -> None:
    group.add_argument(
        "--foreground",
        type=_foreground,
        default="border",
        metavar="N[,N…]",
        help="layers that make it up, as their files count, from 1; border: those that have little of the image's "
        "border (%(default)s)",
    )
    group.add_argument(
        "--background",
        metavar="FILE|COLOR",
        help="also write composite.png, the foreground over this image, which is scaled and cut to cover the photograph, "
        "or over a colour such as white or #ff8800",
    )
    guide = group.add_mutually_exclusive_group()
    guide.add_argument(
        "--trimap",
        type=Path,
        metavar="PATH",
        help="what is known: white in front, black behind, gray elsewhere. A file for one image; for several a folder that "
        "has one of the same name for each",
    )
    guide.add_argument(
        "--scribbles",
        type=Path,
        metavar="PATH",
        help="the same as white and black strokes on a transparent ground",
    )


def _add_layers(group: Any) -> None:
    group.add_argument(
        "--layers",
        dest="n_layers",
        type=whole(1),
        default=5,
        metavar="N",
        help="layers; with a trimap or scribbles always foreground and rest (%(default)s)",
    )
    group.add_argument(
        "--eigenvectors",
        dest="n_eigenvectors",
        type=whole(2),
        metavar="N",
        help="that they are made of, the constant one included (as many as layers, four times as many for sparse ones, 50 "
        "with a trimap or scribbles)",
    )
    group.add_argument(
        "--color-weight",
        type=color_weight,
        metavar="X",
        help="weight of the colours beside the features (10, with a trimap or scribbles inf); inf: colours alone",
    )
    group.add_argument(
        "--affinity",
        choices=AFFINITIES,
        default="patch",
        help="of the pixels' features: those of the patches around, those four times finer, or a random sample of all pairs "
        "(%(default)s)",
    )
    group.add_argument(
        "--layering",
        choices=LAYERINGS,
        default="kmeans",
        help="of eigenvectors: shares of clusters, or the combinations that are 0 or 1 at most pixels (%(default)s)",
    )
    group.add_argument(
        "--tol",
        type=positive,
        metavar="X",
        help="of the eigenvectors (0.001, with a trimap or scribbles 0.01)",
    )
    group.add_argument(
        "--seed", type=whole(0, most=2**32 - 1), default=0, metavar="N", help="of the layers (%(default)s)"
    )


def n_bytes(text: str) -> int:
    """Parser of a size such as 800M or 4G, of powers of 1024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"must be a size such as 800M or 4G, got {text!r}")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def _foreground(text: str) -> str | tuple[int, ...]:
    if text == "border":
        return text
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise argparse.ArgumentTypeError(
            f"must be border, or numbers of layers from 1 on such as 1,3, got {text!r}"
        )
    return tuple(int(part) - 1 for part in parts)

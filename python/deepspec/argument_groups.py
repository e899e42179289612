"""Arguments that several commands have, and how their values are read."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deepspec.baselines import VECTORS
from deepspec.datasets import DATASETS, Dataset, load_dataset
from deepspec.graph import AFFINITIES
from deepspec.layers import FACETS
from deepspec.refine import REFINEMENTS
from deepspec.regions import BACKGROUNDS, FOREGROUNDS, PARTITIONS


def add_input_and_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="FILE", help="image files, or folders of them"
    )
    add_output(parser)


def add_output(parser: argparse.ArgumentParser) -> None:
    add_folder(parser)
    add_page(parser)
    parser.add_argument(
        "--plots", action="store_true", help="also draw each result, as DIR/plots/COMMAND/….png"
    )


def add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--page", action="store_true", help="also write a page of pictures, DIR/COMMAND.html")


def add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="DIR",
        help="folder for the results; what it holds of them already is kept",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="begin by deleting this command's earlier results in DIR"
    )


def add_dataset(group: Any) -> None:
    group.add_argument(
        "--dataset", choices=DATASETS, required=True, help="folder: images/ and masks/, or annotations.json"
    )
    group.add_argument(
        "--root", type=Path, required=True, metavar="DIR", help="where it is; nothing is downloaded"
    )
    group.add_argument("--split", metavar="NAME", help="of VOC (trainval, seg-val, …) and CUB (test)")
    group.add_argument(
        "--image-list", type=Path, metavar="FILE", help="names of the images that count, such as COCO-20k's"
    )
    group.add_argument("--limit", type=whole(1), metavar="N", help="the first images alone")
    group.add_argument(
        "--predictions",
        type=Path,
        metavar="PATH",
        help="boxes.json, or a folder of masks or label maps, made elsewhere: they are scored, and nothing else is done",
    )


def add_features(
    group: Any,
    facet: str | None = None,
    *,
    layers: str = "--layers",
    reduced: str = "images are taken apart on",
) -> None:
    """`layers` names the option of the network's layers, and `reduced` says what a copy of larger images is for."""
    group.add_argument(
        "--features",
        default="dino_vits16",
        metavar="NAME",
        help="what to compare cells by (%(default)s): a name that `deepspec info` lists, or any network of timm or "
        "torchvision; classical needs no weights",
    )
    group.add_argument(
        "--weights", metavar="FILE", help="a checkpoint to load; default: the published one, downloaded once"
    )
    group.add_argument(
        "--facet",
        choices=FACETS,
        default=facet,
        help="of an attention block (key); attention: the weights that its [CLS] token gives to the cells, by head",
    )
    group.add_argument(
        layers,
        dest="layers",
        type=_layers,
        metavar="N[,N…]",
        help="blocks or stages, from the end where negative, or names of modules; several are joined (-1). "
        f"Write {layers}=-1,-2 with the sign of equality",
    )
    group.add_argument(
        "--no-center-prior",
        action="store_const",
        const=False,
        dest="center_prior",
        help="classical features without their Gaussian in the image's centre, for images that nobody framed",
    )
    group.add_argument(
        "--pos-embed",
        choices=("dino", "timm"),
        help="whose interpolation of position embeddings (that of the network's authors)",
    )
    group.add_argument(
        "--center",
        action="store_const",
        const=True,
        help="take each channel's mean over the image away, which features after a relu need",
    )
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, mps (the best there is)")
    group.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="precision of the network (float16 on cuda, else float32)",
    )
    group.add_argument(
        "--max-size",
        type=whole(1, "none"),
        default=1024,
        metavar="PIXELS",
        help=f"larger {reduced} a copy whose longer side is this, or none (%(default)s)",
    )


def add_graph(group: Any, defaults: Mapping[str, Any]) -> None:
    add_grid(group, defaults)
    _add_affinity(group, defaults)


def add_grid(group: Any, defaults: Mapping[str, Any]) -> None:
    group.add_argument(
        "--k",
        type=whole(1),
        default=defaults["k"],
        metavar="N",
        help="eigenvectors, the constant one included (%(default)s)",
    )
    group.add_argument(
        "--color-weight",
        type=color_weight,
        default=defaults.get("color_weight", 10.0),
        metavar="X",
        help="weight of the colours beside the features (%(default)s); inf: colours alone",
    )
    group.add_argument(
        "--grid",
        type=whole(1, "auto", "patch"),
        default=defaults.get("grid", "auto"),
        metavar="PIXELS",
        help="size of a cell: auto (8 pixels where it fits), patch (the features' own) or a number (%(default)s)",
    )


def _add_affinity(group: Any, defaults: Mapping[str, Any]) -> None:
    group.add_argument(
        "--affinity",
        choices=AFFINITIES,
        default=defaults.get("affinity", "relu"),
        help="of the features: their cosines, or 1 above a threshold, as TokenCut has it (%(default)s)",
    )
    group.add_argument(
        "--threshold",
        type=share,
        default=defaults.get("threshold", 0.2),
        metavar="X",
        help="of that affinity (%(default)s)",
    )
    group.add_argument(
        "--epsilon",
        type=share,
        default=defaults.get("epsilon", 1e-5),
        metavar="X",
        help="added to that affinity everywhere (%(default)s)",
    )
    group.add_argument(
        "--vectors",
        choices=("laplacian", *VECTORS),
        default=defaults.get("vectors", "laplacian"),
        help="what is split: the Laplacian's eigenvectors, or what other methods take (%(default)s)",
    )


def add_task(group: Any, options: Any) -> None:
    if "foreground" in options:
        group.add_argument(
            "--foreground",
            choices=FOREGROUNDS,
            default=options["foreground"],
            help="the object is the smaller side, or the one that touches the border less, "
            "which suits classical and convolutional features, or the part with the largest entry (%(default)s)",
        )
    if "partition" in options:
        group.add_argument(
            "--partition",
            choices=PARTITIONS,
            default=options["partition"],
            help="where the second eigenvector is split: at 0, at its mean, or halfway between its extremes (%(default)s)",
        )
    if "refine" in options:
        group.add_argument(
            "--refine",
            choices=(*REFINEMENTS, "none"),
            default=options["refine"],
            help="outlines follow the image's by a fully connected CRF, by the package pydensecrf, by OpenCV's guided "
            "filter, or not at all (%(default)s)",
        )
    if "min_score" in options:
        group.add_argument(
            "--min-score",
            type=share,
            default=options["min_score"],
            metavar="X",
            help="from 0 to 1: images whose score is lower have no object (%(default)s)",
        )
    if "n_segments" in options:
        group.add_argument(
            "--n-segments",
            type=whole(1, "auto", most=256),
            default=options["n_segments"],
            metavar="N",
            help="how many, or auto: by the eigengap (%(default)s)",
        )
        group.add_argument(
            "--background",
            choices=BACKGROUNDS,
            default=options["background"],
            help="segment 0 has most of the border, or is the largest (%(default)s)",
        )
        group.add_argument(
            "--seed", type=whole(0), default=options["seed"], metavar="N", help="of k-means (%(default)s)"
        )


def add_running(group: Any) -> None:
    group.add_argument(
        "--jobs",
        type=whole(0),
        default=1,
        metavar="N",
        help="processes that solve and write; 0: everything in turn, for profiles (%(default)s)",
    )
    group.add_argument(
        "--batch-size", type=whole(1), metavar="N", help="images of equal size taken together (1 on the cpu)"
    )
    add_threads(group)


def add_threads(group: Any) -> None:
    group.add_argument(
        "--threads", type=whole(1), metavar="N", help="of each job; default: the cores available, shared out"
    )
    group.add_argument(
        "-v", "--verbose", action="store_true", help="a line for each image, and the time of each stage"
    )


def whole(least: int, *words: str, most: int | None = None) -> Callable[[str], int | str]:
    """Parser of a whole number of at least `least`, or of one of the words."""

    def parse(text: str) -> int | str:
        if text in words:
            return text
        if text.isdecimal() and int(text) >= least and (most is None or int(text) <= most):
            return int(text)
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        expected = " or ".join([*words, f"a whole number {limits}"])
        raise argparse.ArgumentTypeError(f"must be {expected}, got {text!r}")

    return parse


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _layers(text: str) -> tuple[int | str, ...]:
    return tuple(int(part) if part.lstrip("-").isdecimal() else part for part in text.split(","))


def color_weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    # NaN is not at least 0 either.
    if not weight >= 0:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, or inf, got {text!r}")
    return weight


#: What `load_backbone` takes, of the arguments of `add_features`.
BACKBONE = ("weights", "facet", "layers", "pos_embed", "center", "device", "dtype", "center_prior")


def read_dataset(options: argparse.Namespace) -> Dataset:
    """The dataset that the arguments of `add_dataset` name."""
    return load_dataset(options.dataset, options.root, split=options.split, image_list=options.image_list)[
        : options.limit
    ]

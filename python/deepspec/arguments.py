"""The arguments of the `deepspec` command."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deepspec import __version__
from deepspec.baselines import METHODS, VECTORS
from deepspec.clustering import CLUSTERINGS
from deepspec.datasets import DATASETS
from deepspec.engines import ENGINES
from deepspec.evaluation import MEASURES
from deepspec.graph import AFFINITIES
from deepspec.layers import FACETS
from deepspec.refine import REFINEMENTS
from deepspec.regions import BACKGROUNDS, FOREGROUNDS, PARTITIONS
from deepspec.segmenters import ARCHITECTURES
from deepspec.semantic_evaluation import MATCHINGS
from deepspec.semantic_protocol import SEEDS
from deepspec.semantic_stages import POOLS
from deepspec.semantics import METHODS as SEMANTIC_METHODS
from deepspec.tables import TABLES
from deepspec.tasks import TASKS
from deepspec.training import PRESETS
from deepspec.training_loop import DTYPES, OPTIMIZERS, SCHEDULES


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options; a method's settings are their defaults."""
    options = _parser().parse_args(arguments)
    method = METHODS.get(getattr(options, "method", ""))
    if method is None:
        return options
    return _parser({**method.backbone, **method.graph, **method.answer}).parse_args(arguments)


def _parser(method: Mapping[str, Any] = {}) -> argparse.ArgumentParser:
    """`method` replaces defaults where a command takes a method."""
    parser = argparse.ArgumentParser(
        prog="deepspec",
        description="Take images apart by the eigenvectors of a graph of their features and colours.",
    )
    parser.add_argument("--version", action="version", version=f"deepspec {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, task in TASKS.items():
        command = commands.add_parser(name, help=task.help, description=f"Write {task.help}.")
        _add_input_and_output(command)
        _add_features(command.add_argument_group("features"))
        _add_graph(command.add_argument_group("graph"), {"k": task.k})
        if task.options:
            _add_task(command.add_argument_group("answer"), task.options)
        _add_running(command.add_argument_group("running"))
    _add_semantic_command(commands)
    evaluation = commands.add_parser(
        "evaluate",
        help="CorLoc of boxes, or IoU of masks or of classes, on a public dataset or a folder",
        description="Find boxes, masks or classes in a dataset's images, or take those made elsewhere, and score them.",
    )
    measures = evaluation.add_subparsers(dest="measure", required=True, metavar="MEASURE")
    for measure, name in MEASURES.items():
        command = measures.add_parser(measure, help=f"what `deepspec {name}` finds, against the truth")
        _add_dataset(command.add_argument_group("dataset"))
        _add_output(command)
        _add_method(command)
        _add_features(command.add_argument_group("features"), method.get("facet"))
        _add_graph(command.add_argument_group("graph"), {"k": TASKS[name].k, **method})
        _add_task(command.add_argument_group("answer"), {**TASKS[name].options, **method})
        _add_running(command.add_argument_group("running"))
    _add_semantic_evaluation(
        measures.add_parser("semantic", help="classes found without labels, against the truth")
    )
    table = commands.add_parser(
        "reproduce",
        help="a table of the paper, row by row, with the published number beside ours",
        description="Run the rows of a table of the paper as far as data and weights go.",
    )
    table.add_argument("table", choices=TABLES, metavar="TABLE", help=", ".join(TABLES))
    table.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the datasets")
    _add_output(table)
    table.add_argument("--limit", type=_whole(1), metavar="N", help="the first images of each dataset alone")
    table.add_argument("--features", metavar="NAME", help="for every row, where the weights are missing")
    table.add_argument("--weights", metavar="FILE", help="a checkpoint of them")
    table.add_argument("--device", metavar="NAME", help="cpu, cuda, mps (the best there is)")
    table.add_argument(
        "--steps", type=_whole(1), metavar="N", help="of self-training, fewer for a trial (as published)"
    )
    table.add_argument(
        "--training-weights",
        metavar="FILE",
        help="a checkpoint of the network that self-training begins with (the published one), or none",
    )
    _add_task(table, {"foreground": "smaller"})
    _add_running(table)
    training = commands.add_parser(
        "train",
        help="a segmentation network that learns pseudo-labels",
        description="Train a segmentation network on label maps, such as those of `deepspec semantic`, or go on with it. "
        "Started by torchrun, several processes share the work.",
    )
    _add_train(training)
    commands.add_parser("info", help="version, build, instruction set, threads, features, extras")
    return parser


def _add_semantic_evaluation(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("dataset")
    _add_dataset(group)
    group.add_argument(
        "--fit-split",
        metavar="NAME",
        help="the images that classes are found in, such as seg-trainaug (those that are scored)",
    )
    group.add_argument(
        "--matching",
        choices=MATCHINGS,
        default="auto",
        help="of clusters to classes: one to one, or each to the best; auto: the best where there are more clusters "
        "than classes (%(default)s)",
    )
    command.add_argument(
        "-o", "--output", required=True, type=Path, metavar="DIR", help="folder for the results"
    )
    command.add_argument(
        "--seeds",
        type=_whole(0),
        nargs="+",
        default=SEEDS,
        metavar="N",
        help=f"of clustering, one run each ({' '.join(map(str, SEEDS))})",
    )
    add_semantic(command)


def _add_input_and_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="FILE", help="image files, or folders of them"
    )
    _add_output(parser)


def _add_dataset(group: Any) -> None:
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
    group.add_argument("--limit", type=_whole(1), metavar="N", help="the first images alone")
    group.add_argument(
        "--predictions",
        type=Path,
        metavar="PATH",
        help="boxes.json, or a folder of masks or label maps, made elsewhere: they are scored, and nothing else is done",
    )


def _add_method(parser: argparse.ArgumentParser) -> None:
    methods = "; ".join(f"{name}: {method.help}" for name, method in METHODS.items())
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="deep-spectral",
        help=f"whose settings are the defaults of the others (%(default)s). {methods}",
    )


def _add_output(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument("--page", action="store_true", help="also write a page of pictures, DIR/COMMAND.html")
    parser.add_argument(
        "--plots", action="store_true", help="also draw each result, as DIR/plots/COMMAND/….png"
    )


def _add_features(group: Any, facet: str | None = None) -> None:
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
        "--layers",
        type=_layers,
        metavar="N[,N…]",
        help="blocks or stages, from the end where negative, or names of modules; several are joined (-1). "
        "Write --layers=-1,-2 with the sign of equality",
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
        type=_whole(1, "none"),
        default=1024,
        metavar="PIXELS",
        help="larger images are taken apart on a copy whose longer side is this, or none (%(default)s)",
    )


def _add_graph(group: Any, defaults: Mapping[str, Any]) -> None:
    _add_grid(group, defaults)
    _add_affinity(group, defaults)


def _add_grid(group: Any, defaults: Mapping[str, Any]) -> None:
    group.add_argument(
        "--k",
        type=_whole(1),
        default=defaults["k"],
        metavar="N",
        help="eigenvectors, the constant one included (%(default)s)",
    )
    group.add_argument(
        "--color-weight",
        type=_color_weight,
        default=defaults.get("color_weight", 10.0),
        metavar="X",
        help="weight of the colours beside the features (%(default)s); inf: colours alone",
    )
    group.add_argument(
        "--grid",
        type=_whole(1, "auto", "patch"),
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
        type=_share,
        default=defaults.get("threshold", 0.2),
        metavar="X",
        help="of that affinity (%(default)s)",
    )
    group.add_argument(
        "--epsilon",
        type=_share,
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


def _add_task(group: Any, options: Any) -> None:
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
            type=_share,
            default=options["min_score"],
            metavar="X",
            help="from 0 to 1: images whose score is lower have no object (%(default)s)",
        )
    if "n_segments" in options:
        group.add_argument(
            "--n-segments",
            type=_whole(1, "auto", most=256),
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
            "--seed", type=_whole(0), default=options["seed"], metavar="N", help="of k-means (%(default)s)"
        )


def _add_semantic_command(commands: Any) -> None:
    command = commands.add_parser(
        "semantic",
        help="classes without labels: label maps as DIR/labels/….png, and DIR/index.html to look at them",
        description="Find classes in a folder of images, or label it by a network that `deepspec train` made. Another "
        "option in the same DIR redoes what depends on it, and nothing else.",
    )
    command.add_argument(
        "inputs", nargs="+", type=Path, metavar="FILE", help="image files, or folders of them"
    )
    command.add_argument(
        "-o", "--output", required=True, type=Path, metavar="DIR", help="folder for the results"
    )
    add_semantic(command)
    command.add_argument(
        "--seed", type=_whole(0), default=0, metavar="N", help="of the dataset's clusters (%(default)s)"
    )
    command.add_argument(
        "--names",
        type=Path,
        metavar="PATH",
        help="what classes are called: a CSV file of class,name or of image,x,y,name, or a folder with labels/, true label maps, "
        "and classes.txt",
    )
    command.add_argument(
        "--panoptic",
        action="store_true",
        help="also write COCO's panoptic format: DIR/panoptic/, panoptic.json",
    )
    command.add_argument(
        "--checkpoint", type=Path, metavar="RUN", help="label the images by this folder's network instead"
    )
    command.add_argument(
        "--until",
        metavar="STAGE",
        help="stop after eigenvectors, segments, crops or clusters (of the baselines: patches, feature-segments)",
    )


def add_semantic(parser: argparse.ArgumentParser) -> None:
    """What determines the classes of a dataset, but for the seed, and what runs the stages."""
    _add_features(parser.add_argument_group("features"))
    group = parser.add_argument_group("segments")
    _add_grid(group, {"k": 15})
    group.add_argument(
        "--n-segments",
        type=_whole(1, "auto", most=256),
        default=15,
        metavar="N",
        help="of an image, the background included, or auto: by the eigengap (%(default)s)",
    )
    group.add_argument(
        "--background",
        choices=BACKGROUNDS,
        default="border",
        help="the segment that has most of the border, or the largest (%(default)s)",
    )
    group.add_argument(
        "--segment-seed", type=_whole(0), default=0, metavar="N", help="of an image's k-means (%(default)s)"
    )
    for name, default, what in (("erode", 2, "smaller"), ("dilate", 5, "larger, after that")):
        group.add_argument(
            f"--{name}",
            type=_whole(0),
            default=default,
            metavar="CELLS",
            help=f"by how much a segment is made {what}, before the box around it is cropped (%(default)s)",
        )
    group.add_argument(
        "--pool",
        choices=POOLS,
        default="crop",
        help="a segment's vector is that of its crop, or of its own pixels, which suits classical features (%(default)s)",
    )
    group = parser.add_argument_group("classes")
    group.add_argument(
        "--method",
        choices=SEMANTIC_METHODS,
        default="deep-spectral",
        help="clusters of crops around segments of eigenvectors, of all cells of the features' grids, or of segments of the "
        "features (%(default)s)",
    )
    group.add_argument(
        "--n-classes",
        type=_whole(1, most=254),
        default=20,
        metavar="N",
        help="clusters besides the background (%(default)s)",
    )
    group.add_argument(
        "--clustering",
        choices=CLUSTERINGS,
        default="minibatch",
        help="mini-batch k-means, k-means by cosine, or the same by FAISS, for millions of segments (%(default)s)",
    )
    group.add_argument(
        "--n-components",
        type=_whole(1),
        metavar="N",
        help="principal components that are clustered (all channels)",
    )
    group.add_argument(
        "--n-restarts",
        type=_whole(1),
        default=1,
        metavar="N",
        help="starts, of which the one of least inertia is kept (%(default)s)",
    )
    _add_task(group, {"refine": "none"})
    group = parser.add_argument_group("running")
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default="local",
        help="this machine, or a Ray cluster whose machines see the same paths (%(default)s)",
    )
    group.add_argument("--address", metavar="HOST:PORT", help="of the Ray cluster; default: a new one here")
    group.add_argument(
        "--jobs",
        type=_whole(1),
        default=1,
        metavar="N",
        help="processes, each with its own network (%(default)s)",
    )
    _add_threads(group)


def _add_train(parser: argparse.ArgumentParser) -> None:
    """Options of None are the preset's, or those of `training.train`."""
    parser.add_argument(
        "label_maps",
        type=Path,
        metavar="LABELMAPS",
        help="folder of PNGs of the images' relative paths and sizes: 0 is the background, 255 not known",
    )
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGES", help="image files, or folders of them"
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="RUN",
        help="folder for the checkpoint and the log",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="begin by deleting the earlier training in RUN"
    )
    _add_segmenter(parser.add_argument_group("network"))
    _add_optimization(parser.add_argument_group("optimization"))
    _add_truth(parser.add_argument_group("ground truth, for the curve"))
    running = parser.add_argument_group("running")
    running.add_argument("--device", metavar="NAME", help="cpu, cuda, mps (the best there is)")
    running.add_argument(
        "--workers", type=_whole(1), default=4, metavar="N", help="threads that read (%(default)s)"
    )
    running.add_argument(
        "--checkpoint-every",
        type=_whole(1),
        default=200,
        metavar="N",
        help="steps between checkpoints (%(default)s)",
    )
    running.add_argument(
        "--log-every",
        type=_whole(1),
        default=1,
        metavar="N",
        help="steps between lines of the log (%(default)s)",
    )


def _add_segmenter(group: Any) -> None:
    group.add_argument(
        "--architecture",
        choices=ARCHITECTURES,
        default="deeplabv3plus",
        help="the head; a vision transformer has no fine map for deeplabv3plus (%(default)s)",
    )
    group.add_argument(
        "--backbone",
        default="dino_resnet50",
        metavar="NAME",
        help="dino_resnet50, a ResNet of torchvision's, or a vision transformer's name (%(default)s)",
    )
    group.add_argument(
        "--weights",
        metavar="FILE",
        help="a checkpoint of the backbone, or none; default: the published one, downloaded once",
    )
    group.add_argument(
        "--output-stride",
        type=int,
        choices=(8, 16, 32),
        help="pixels of a cell of a ResNet's coarse map (8; 32 of ResNets without bottlenecks)",
    )
    group.add_argument(
        "--frozen-layers",
        type=_whole(0, "all"),
        metavar="N",
        help="layers of the backbone that are not trained, instead of the preset's: a ResNet has its stem and four "
        "stages; or all",
    )


def _add_optimization(group: Any) -> None:
    presets = "; ".join(
        f"{name}: {preset.optimizer}, {preset.lr:g} {preset.schedule}, {preset.steps} steps, "
        f"{preset.frozen_layers} layers frozen"
        for name, preset in PRESETS.items()
    )
    group.add_argument(
        "--preset",
        choices=PRESETS,
        default="paper",
        help=f"the paper and its supplement differ: {presets} (%(default)s)",
    )
    group.add_argument("--optimizer", choices=OPTIMIZERS, help="instead of the preset's")
    group.add_argument("--lr", type=_positive, metavar="X", help="learning rate, instead of the preset's")
    group.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate, likewise")
    group.add_argument("--weight-decay", type=_share, metavar="X", help="likewise (1e-8)")
    group.add_argument("--steps", type=_whole(1), metavar="N", help="likewise")
    group.add_argument("--batch-size", type=_whole(2), metavar="N", help="images of a step (144)")
    group.add_argument(
        "--micro-batch",
        type=_whole(2),
        metavar="N",
        help="images that go through the network at a time (all)",
    )
    group.add_argument("--crop", type=_whole(1), metavar="PIXELS", help="side of the squares cut out (224)")
    group.add_argument(
        "--scales",
        type=_positive,
        nargs=2,
        default=(0.5, 2.0),
        metavar=("LEAST", "MOST"),
        help="of the images before they are cut (0.5 2)",
    )
    group.add_argument(
        "--ema", type=_share, metavar="X", help="decay of an average of the weights (none is kept)"
    )
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        help="mixed precision unless float32 (float16 on cuda, else float32)",
    )
    group.add_argument(
        "--seed", type=_whole(0), default=0, metavar="N", help="of everything drawn at random (%(default)s)"
    )


def _add_truth(group: Any) -> None:
    group.add_argument(
        "--truth",
        type=Path,
        metavar="DIR",
        help="folder of true label maps of the images' relative paths, 255 void: mIoU is measured, and nothing learned",
    )
    group.add_argument(
        "--truth-list",
        type=Path,
        metavar="FILE",
        help="names of the images that count, such as a split of VOC",
    )
    group.add_argument("--evaluate-every", type=_whole(1), metavar="N", help="steps (at the end alone)")
    group.add_argument("--evaluate-images", type=_whole(1), metavar="N", help="the first of them alone")


def _add_running(group: Any) -> None:
    group.add_argument(
        "--jobs",
        type=_whole(0),
        default=1,
        metavar="N",
        help="processes that solve and write; 0: everything in turn, for profiles (%(default)s)",
    )
    group.add_argument(
        "--batch-size", type=_whole(1), metavar="N", help="images of equal size taken together (1 on the cpu)"
    )
    _add_threads(group)


def _add_threads(group: Any) -> None:
    group.add_argument(
        "--threads", type=_whole(1), metavar="N", help="of each job; default: the cores available, shared out"
    )
    group.add_argument(
        "-v", "--verbose", action="store_true", help="a line for each image, and the time of each stage"
    )


def _whole(least: int, *words: str, most: int | None = None) -> Callable[[str], int | str]:
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


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, got {text!r}")
    return value


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def _layers(text: str) -> tuple[int | str, ...]:
    return tuple(int(part) if part.lstrip("-").isdecimal() else part for part in text.split(","))


def _color_weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    # NaN is not at least 0 either.
    if not weight >= 0:
        raise argparse.ArgumentTypeError(f"must be a number of at least 0, or inf, got {text!r}")
    return weight

"""The arguments of `deepspec semantic` and `deepspec evaluate semantic`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deepspec.argument_groups import add_dataset, add_features, add_grid, add_task, add_threads, whole
from deepspec.clustering import CLUSTERINGS
from deepspec.dataset_clusters import DatasetClusters
from deepspec.engines import ENGINES
from deepspec.regions import BACKGROUNDS
from deepspec.semantic_evaluation import MATCHINGS
from deepspec.semantic_protocol import SEEDS
from deepspec.semantic_stages import POOLS, Crops, Eigenvectors, FeatureSegments, Patches, Segments
from deepspec.semantics import METHODS as SEMANTIC_METHODS


def add_semantic_command(commands: Any) -> None:
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
    _add_semantic(command)
    command.add_argument(
        "--seed", type=whole(0), default=0, metavar="N", help="of the dataset's clusters (%(default)s)"
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
        "--checkpoint",
        type=Path,
        metavar="RUN",
        help="label the images by this folder's network instead: of the options of features, segments and classes only "
        "--device has a meaning then",
    )
    command.add_argument(
        "--until",
        choices=[stage.name for stage in _STAGES],
        metavar="STAGE",
        help="stop after eigenvectors, segments, crops or clusters (of the baselines: patches, feature-segments)",
    )


_STAGES = (Eigenvectors, Segments, Crops, DatasetClusters, Patches, FeatureSegments)


def add_semantic_evaluation(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("dataset")
    add_dataset(group)
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
        type=whole(0),
        nargs="+",
        default=SEEDS,
        metavar="N",
        help=f"of clustering, one run each ({' '.join(map(str, SEEDS))})",
    )
    _add_semantic(command)


def _add_semantic(parser: argparse.ArgumentParser) -> None:
    """What determines the classes of a dataset, but for the seed, and what runs the stages."""
    add_features(parser.add_argument_group("features"))
    group = parser.add_argument_group("segments")
    add_grid(group, {"k": 15})
    group.add_argument(
        "--n-segments",
        type=whole(1, "auto", most=256),
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
        "--segment-seed", type=whole(0), default=0, metavar="N", help="of an image's k-means (%(default)s)"
    )
    for name, default, what in (("erode", 2, "smaller"), ("dilate", 5, "larger, after that")):
        group.add_argument(
            f"--{name}",
            type=whole(0),
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
        type=whole(1, most=254),
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
        type=whole(1),
        metavar="N",
        help="principal components that are clustered (all channels)",
    )
    group.add_argument(
        "--n-restarts",
        type=whole(1),
        default=1,
        metavar="N",
        help="starts, of which the one of least inertia is kept (%(default)s)",
    )
    add_task(group, {"refine": "none"})
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
        type=whole(1),
        default=1,
        metavar="N",
        help="processes, each with its own network (%(default)s)",
    )
    add_threads(group)

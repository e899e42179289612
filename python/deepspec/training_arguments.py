"""The arguments of `deepspec train`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deepspec.argument_groups import positive, share, whole
from deepspec.segmenters import ARCHITECTURES
from deepspec.training import PRESETS
from deepspec.training_loop import DTYPES, OPTIMIZERS, SCHEDULES


def add_train(parser: argparse.ArgumentParser) -> None:
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
        "--image-list",
        type=Path,
        metavar="FILE",
        help="names of the images that are trained on, such as VOC's trainaug.txt (all)",
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
        "--workers", type=whole(1), default=4, metavar="N", help="threads that read (%(default)s)"
    )
    running.add_argument(
        "--checkpoint-every",
        type=whole(1),
        default=200,
        metavar="N",
        help="steps between checkpoints (%(default)s)",
    )
    running.add_argument(
        "--log-every",
        type=whole(1),
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
        type=whole(0, "all"),
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
    group.add_argument("--lr", type=positive, metavar="X", help="learning rate, instead of the preset's")
    group.add_argument("--schedule", choices=SCHEDULES, help="of the learning rate, likewise")
    group.add_argument("--weight-decay", type=share, metavar="X", help="likewise (1e-8)")
    group.add_argument("--steps", type=whole(1), metavar="N", help="likewise")
    group.add_argument("--batch-size", type=whole(2), metavar="N", help="images of a step (144)")
    group.add_argument(
        "--micro-batch",
        type=whole(2),
        metavar="N",
        help="images that go through the network at a time (all)",
    )
    group.add_argument("--crop", type=whole(1), metavar="PIXELS", help="side of the squares cut out (224)")
    group.add_argument(
        "--scales",
        type=positive,
        nargs=2,
        default=(0.5, 2.0),
        metavar=("LEAST", "MOST"),
        help="of the images before they are cut (0.5 2)",
    )
    group.add_argument(
        "--ema", type=share, metavar="X", help="decay of an average of the weights (none is kept)"
    )
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        help="mixed precision unless float32 (float16 on cuda, else float32)",
    )
    group.add_argument(
        "--seed", type=whole(0), default=0, metavar="N", help="of everything drawn at random (%(default)s)"
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
    group.add_argument("--evaluate-every", type=whole(1), metavar="N", help="steps (at the end alone)")
    group.add_argument("--evaluate-images", type=whole(1), metavar="N", help="the first of them alone")

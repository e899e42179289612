"""The arguments of the `deepspec` command."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepspec import __version__
from deepspec.argument_groups import (
    add_dataset,
    add_features,
    add_graph,
    add_input_and_output,
    add_output,
    add_running,
    add_task,
    whole,
)
from deepspec.baselines import METHODS
from deepspec.evaluation import MEASURES
from deepspec.matting_arguments import add_matte
from deepspec.semantic_arguments import add_semantic_command, add_semantic_evaluation
from deepspec.tables import TABLES
from deepspec.tasks import TASKS
from deepspec.training_arguments import add_train


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
        add_input_and_output(command)
        add_features(command.add_argument_group("features"))
        add_graph(command.add_argument_group("graph"), {"k": task.k})
        if task.options:
            add_task(command.add_argument_group("answer"), task.options)
        add_running(command.add_argument_group("running"))
    add_matte(commands)
    add_semantic_command(commands)
    evaluation = commands.add_parser(
        "evaluate",
        help="CorLoc of boxes, or IoU of masks or of classes, on a public dataset or a folder",
        description="Find boxes, masks or classes in a dataset's images, or take those made elsewhere, and score them.",
    )
    measures = evaluation.add_subparsers(dest="measure", required=True, metavar="MEASURE")
    for measure, name in MEASURES.items():
        command = measures.add_parser(measure, help=f"what `deepspec {name}` finds, against the truth")
        add_dataset(command.add_argument_group("dataset"))
        add_output(command)
        _add_method(command)
        add_features(command.add_argument_group("features"), method.get("facet"))
        add_graph(command.add_argument_group("graph"), {"k": TASKS[name].k, **method})
        add_task(command.add_argument_group("answer"), {**TASKS[name].options, **method})
        add_running(command.add_argument_group("running"))
    add_semantic_evaluation(
        measures.add_parser("semantic", help="classes found without labels, against the truth")
    )
    table = commands.add_parser(
        "reproduce",
        help="a table of the paper, row by row, with the published number beside ours",
        description="Run the rows of a table of the paper as far as data and weights go.",
    )
    table.add_argument("table", choices=TABLES, metavar="TABLE", help=", ".join(TABLES))
    table.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the datasets")
    add_output(table)
    table.add_argument("--limit", type=whole(1), metavar="N", help="the first images of each dataset alone")
    table.add_argument("--features", metavar="NAME", help="for every row, where the weights are missing")
    table.add_argument("--weights", metavar="FILE", help="a checkpoint of them")
    table.add_argument("--device", metavar="NAME", help="cpu, cuda, mps (the best there is)")
    table.add_argument(
        "--steps", type=whole(1), metavar="N", help="of self-training, fewer for a trial (as published)"
    )
    table.add_argument(
        "--training-weights",
        metavar="FILE",
        help="a checkpoint of the network that self-training begins with (the published one), or none",
    )
    add_task(table, {"foreground": "smaller"})
    add_running(table)
    training = commands.add_parser(
        "train",
        help="a segmentation network that learns pseudo-labels",
        description="Train a segmentation network on label maps, such as those of `deepspec semantic`, or go on with it. "
        "Started by torchrun, several processes share the work.",
    )
    add_train(training)
    commands.add_parser("info", help="version, build, instruction set, threads, features, extras")
    return parser


def _add_method(parser: argparse.ArgumentParser) -> None:
    methods = "; ".join(f"{name}: {method.help}" for name, method in METHODS.items())
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="deep-spectral",
        help=f"whose settings are the defaults of the others (%(default)s). {methods}",
    )

"""The `deepspec` command."""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from deepspec import __version__, _core, backbones, pipeline
from deepspec.datasets import DATASETS, Dataset, load_dataset
from deepspec.evaluation import MEASURES, evaluate
from deepspec.outputs import OutputError, versions
from deepspec.pipeline import STAGES, Result, Run
from deepspec.refine import REFINEMENTS
from deepspec.regions import PARTITIONS
from deepspec.reproduce import TABLES, reproduce, to_markdown
from deepspec.tasks import TASKS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: all went well; 1: some inputs failed, or the results cannot be written; 2: the call cannot work, and
    nothing was done; 130: interrupted.
    """
    options = _parser().parse_args(arguments)
    # OpenMP threads, torch's here, wait for more work by spinning for milliseconds: on the cores that solve meanwhile.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        if options.command == "info":
            return _info()
        if options.command == "reproduce":
            return _reproduce(options)
        if options.command == "evaluate":
            dataset = _dataset(options)
            if options.predictions is not None:
                return _evaluate(options, dataset, {})
            options.inputs = [example.image for example in dataset]
            options.command = MEASURES[options.measure]
        run = _start(options)
    except (ImportError, OSError, ValueError) as error:
        print(f"deepspec: error: {_printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"deepspec: interrupted; {_GO_ON}", file=sys.stderr)
        return 130
    try:
        _follow(run, options.verbose)
    except (OutputError, MemoryError) as error:
        print(f"deepspec: error: {_printable(error)}; {_GO_ON}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"deepspec: interrupted after {_count(run)}; {_GO_ON}", file=sys.stderr)
        return 130
    finally:
        run.close()
    _report(run, options)
    if "measure" in options:
        try:
            _evaluate(options, dataset, {"settings": run.settings, "seconds": _seconds_an_image(run)})
        except (OSError, ValueError) as error:
            print(f"deepspec: error: {_printable(error)}", file=sys.stderr)
            return 1
    return 1 if run.failed else 0


def _dataset(options: argparse.Namespace) -> Dataset:
    dataset = load_dataset(options.dataset, options.root, split=options.split, image_list=options.image_list)
    return dataset if options.limit is None else dataset[: options.limit]


def _evaluate(options: argparse.Namespace, dataset: Dataset, facts: dict[str, Any]) -> int:
    """Score what was found, print the table and write it down."""
    from tqdm import tqdm

    found = evaluate(
        options.measure,
        dataset,
        options.predictions or options.output,
        facts=facts,
        progress=partial(tqdm, desc="scores", unit="image", disable=None, dynamic_ncols=True, leave=False),
    )
    options.output.mkdir(parents=True, exist_ok=True)
    found.save(options.output)
    print(found.to_markdown())
    if found.missing:
        print(
            f"deepspec: {len(found.missing)} of {found.n_images} images have no prediction, "
            f"such as {_printable(found.missing[0])}",
            file=sys.stderr,
        )
    return 1 if found.missing else 0


def _reproduce(options: argparse.Namespace) -> int:
    """Run a table's rows, as far as they go."""

    def follow(run: Run) -> None:
        try:
            _follow(run, options.verbose)
        finally:
            run.close()

    outcomes = reproduce(
        options.table,
        options.data,
        options.output,
        limit=options.limit,
        features=options.features,
        backbone={
            name: value for name in ("weights", "device") if (value := getattr(options, name)) is not None
        },
        follow=follow,
        foreground=options.foreground,
        jobs=options.jobs,
        threads=options.threads,
    )
    print(_printable(to_markdown(outcomes)))
    return 0 if all(outcome.score is not None for outcome in outcomes) else 1


def _seconds_an_image(run: Run) -> dict[str, float]:
    done = max(1, run.counts["done"])
    return {stage: run.seconds[stage] / done for stage in STAGES if run.seconds[stage] > 0}


_GO_ON = "what is done is kept, and the same command goes on from there"


def _start(options: argparse.Namespace) -> Run:
    given = vars(options)
    return pipeline.run(
        options.inputs,
        options.output,
        options.command,
        options.features,
        backbone={name: given[name] for name in _BACKBONE if given[name] is not None},
        max_size=None if options.max_size == "none" else options.max_size,
        **{name: given[name] for name in _SETTINGS},
        **{name: given[name] for name in TASKS[options.command].options},
    )


_BACKBONE = ("weights", "facet", "layers", "pos_embed", "device", "dtype", "center_prior")
_SETTINGS = ("k", "color_weight", "grid", "page", "plots", "overwrite", "jobs", "batch_size", "threads")


def _follow(run: Run, verbose: bool) -> None:
    """Look at the results as they come."""
    from tqdm import tqdm

    # disable=None: no bar where nobody watches.
    with tqdm(total=len(run), unit="image", disable=None, dynamic_ncols=True) as bar:
        for result in run:
            if result.status == "kept" and not bar.disable:
                # Not counted into the rate.
                bar.initial += 1
            bar.update()
            if run.failed:
                bar.set_postfix(failed=len(run.failed), refresh=False)
            if verbose:
                tqdm.write(_line(result), file=sys.stderr if result.status == "failed" else sys.stdout)


def _line(result: Result) -> str:
    state = {"done": "", "kept": "kept, ", "failed": "failed: "}[result.status]
    score = "" if result.score is None else f", score {result.score:.2f}"
    return f"{_printable(result.path)}: {state}{_printable(result.line)}{score}"


def _report(run: Run, options: argparse.Namespace) -> None:
    print(f"{_count(run)} with {options.features} features; results in {_printable(run.answers)}")
    if options.page:
        print(f"page of pictures: {_printable(options.output / (options.command + '.html'))}")
    if options.verbose and run.seconds:
        print(_profile(run))
    if run.failed:
        print(f"deepspec: {len(run.failed)} of {len(run)} images failed:", file=sys.stderr)
        failures = list(run.failed.items())
        for path, reason in failures[:_MOST_FAILURES]:
            print(f"  {_printable(path)}: {_printable(reason)}", file=sys.stderr)
        if len(failures) > _MOST_FAILURES:
            print(f"  and {len(failures) - _MOST_FAILURES} more, all in run.json", file=sys.stderr)


_MOST_FAILURES = 20


def _count(run: Run) -> str:
    kept = f" ({run.counts['kept']} of them before)" if run.counts["kept"] else ""
    return f"{run.counts['done'] + run.counts['kept']} of {len(run)} images done{kept}"


def _profile(run: Run) -> str:
    """Time by stage, an image and in all."""
    total = sum(run.seconds.values())
    images = run.counts["done"] + run.counts["failed"]
    lines = [f"{'stage':<12} {'seconds':>9} {'ms/image':>9} {'share':>6}"]
    for stage in STAGES:
        seconds = run.seconds[stage]
        lines.append(f"{stage:<12} {seconds:9.2f} {1000 * seconds / images:9.1f} {seconds / total:6.1%}")
    return "\n".join(lines)


def _printable(value: Any) -> str:
    """Text for any terminal: a file name need not be valid in its encoding."""
    encoding = sys.stdout.encoding or "utf-8"
    return str(value).encode(encoding, "backslashreplace").decode(encoding)


# What each extra of the package brings, by distribution.
_EXTRAS = {
    "models": "torch",
    "cluster": "scikit-learn",
    "plots": "matplotlib",
    "crf": "pydensecrf2",
    "guided": "opencv-contrib-python-headless",
}


def _info() -> int:
    build = _core.build_info()
    asked = os.environ.get("DEEPSPEC_NUM_THREADS")
    lines = {
        "deepspec": __version__,
        "python": f"{platform.python_version()}, {platform.platform()}",
        "uses": ", ".join(f"{name} {metadata.version(name)}" for name in ("numpy", "scipy", "pillow")),
        "native core": f"{build['compiler']}, {build['build']} build",
        "instruction set": f"{build['instruction_set']}, {'with' if build['bfloat16'] else 'no'} bfloat16 products",
        "threads": f"{_core.default_threads()}" + (" (DEEPSPEC_NUM_THREADS)" if asked else ""),
        "features": ", ".join(("classical", *backbones.names())),
    }
    installed = versions()
    for extra, distribution in _EXTRAS.items():
        lines[f"extra {extra}"] = (
            f"{distribution} {installed[distribution]}"
            if distribution in installed
            else f"no {distribution}: pip install 'deepspec[{extra}]'"
        )
    for name, value in lines.items():
        print(f"{name:<16} {value}")
    return 0


def _parser() -> argparse.ArgumentParser:
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
        _add_graph(command.add_argument_group("graph"), task.k)
        if task.options:
            _add_task(command.add_argument_group("answer"), task.options)
        _add_running(command.add_argument_group("running"))
    evaluation = commands.add_parser(
        "evaluate",
        help="CorLoc of boxes, or IoU of masks, on a public dataset or a folder",
        description="Find boxes or masks in a dataset's images, or take those made elsewhere, and score them.",
    )
    measures = evaluation.add_subparsers(dest="measure", required=True, metavar="MEASURE")
    for measure, name in MEASURES.items():
        command = measures.add_parser(measure, help=f"what `deepspec {name}` finds, against the truth")
        _add_dataset(command.add_argument_group("dataset"))
        _add_output(command)
        _add_features(command.add_argument_group("features"))
        _add_graph(command.add_argument_group("graph"), TASKS[name].k)
        _add_task(command.add_argument_group("answer"), TASKS[name].options)
        _add_running(command.add_argument_group("running"))
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
    _add_task(table, {"foreground": "smaller"})
    _add_running(table)
    commands.add_parser("info", help="version, build, instruction set, threads, features, extras")
    return parser


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
        help="boxes.json, or a folder of masks, made elsewhere: they are scored, and nothing else is done",
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


def _add_features(group: Any) -> None:
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
    group.add_argument("--facet", choices=("key", "query", "value", "output"), help="of the attention (key)")
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
    group.add_argument("--device", metavar="NAME", help="cpu, cuda, mps (the best there is)")
    group.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="precision of the network (float16 on cuda, else float32)",
    )
    group.add_argument(
        "--batch-size", type=_whole(1), metavar="N", help="images of equal size taken together (1 on the cpu)"
    )
    group.add_argument(
        "--max-size",
        type=_whole(1, "none"),
        default=1024,
        metavar="PIXELS",
        help="larger images are taken apart on a copy whose longer side is this, or none (%(default)s)",
    )


def _add_graph(group: Any, k: int) -> None:
    group.add_argument(
        "--k",
        type=_whole(1),
        default=k,
        metavar="N",
        help="eigenvectors, the constant one included (%(default)s)",
    )
    group.add_argument(
        "--color-weight",
        type=_color_weight,
        default=10.0,
        metavar="X",
        help="weight of the colours beside the features (%(default)s); inf: colours alone",
    )
    group.add_argument(
        "--grid",
        type=_whole(1, "auto", "patch"),
        default="auto",
        metavar="PIXELS",
        help="size of a cell: auto (8 pixels where it fits), patch (the features' own) or a number (%(default)s)",
    )


def _add_task(group: Any, options: Any) -> None:
    if "foreground" in options:
        group.add_argument(
            "--foreground",
            choices=("smaller", "border"),
            default=options["foreground"],
            help="the object is the smaller side, or the one that touches the border less, "
            "which suits classical and convolutional features (%(default)s)",
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
            choices=("border", "size"),
            default=options["background"],
            help="segment 0 has most of the border, or is the largest (%(default)s)",
        )
        group.add_argument(
            "--seed", type=_whole(0), default=options["seed"], metavar="N", help="of k-means (%(default)s)"
        )


def _add_running(group: Any) -> None:
    group.add_argument(
        "--jobs",
        type=_whole(0),
        default=1,
        metavar="N",
        help="processes that solve and write; 0: everything in turn, for profiles (%(default)s)",
    )
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


if __name__ == "__main__":
    sys.exit(main())

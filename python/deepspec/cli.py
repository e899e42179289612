"""The `deepspec` command."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from deepspec import __version__, _core, backbones, pipeline
from deepspec.argument_groups import BACKBONE, read_dataset
from deepspec.arguments import parse
from deepspec.datasets import Dataset
from deepspec.evaluation import MEASURES, evaluate
from deepspec.matting_command import matte_photographs
from deepspec.outputs import versions
from deepspec.pipeline import STAGES, Run
from deepspec.reproduce import reproduce, to_markdown
from deepspec.semantic_commands import evaluate_classes, find_classes
from deepspec.tasks import TASKS
from deepspec.terminal import (
    GO_ON,
    finish_run,
    follow_run,
    printable,
    report_run,
    report_scores,
    scoring_progress,
    stage_progress,
)
from deepspec.training_command import train_network


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: all went well; 1: some inputs failed, or an error came after work had begun; 2: the call cannot work, and
    nothing was done; 130: interrupted.
    """
    options = parse(arguments)
    # OpenMP threads, torch's here, wait for more work by spinning for milliseconds: on the cores that solve meanwhile.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        if options.command == "info":
            return _info()
        if options.command == "reproduce":
            return _reproduce(options)
        if options.command == "evaluate" and options.measure == "semantic":
            return evaluate_classes(options)
        if options.command == "semantic":
            return find_classes(options)
        if options.command == "matte":
            return matte_photographs(options)
        if options.command == "train":
            return train_network(options)
        if options.command == "evaluate":
            dataset = read_dataset(options)
            if options.predictions is not None:
                return _evaluate(options, dataset, {})
            options.inputs = [example.image for example in dataset]
            options.command = MEASURES[options.measure]
        run = _start(options)
    except (ImportError, OSError, ValueError) as error:
        print(f"deepspec: error: {printable(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"deepspec: interrupted; {GO_ON}", file=sys.stderr)
        return 130
    if (status := finish_run(run, options.verbose)) is not None:
        return status
    page = options.output / f"{options.command}.html" if options.page else None
    report_run(run, f"{options.features} features", page=page, verbose=options.verbose)
    if "measure" in options:
        try:
            _evaluate(
                options,
                dataset,
                {"method": options.method, "settings": run.settings, "seconds": _seconds_an_image(run)},
            )
        except (OSError, ValueError) as error:
            print(f"deepspec: error: {printable(error)}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"deepspec: interrupted while scoring; {GO_ON}", file=sys.stderr)
            return 130
    return 1 if run.failed else 0


def _evaluate(options: argparse.Namespace, dataset: Dataset, facts: dict[str, Any]) -> int:
    """Score what was found."""
    found = evaluate(
        options.measure,
        dataset,
        options.predictions or options.output,
        facts=facts,
        progress=scoring_progress,
    )
    return report_scores(found, options)


def _reproduce(options: argparse.Namespace) -> int:
    """Run a table's rows, as far as they go."""

    def follow(run: Run) -> None:
        try:
            follow_run(run, options.verbose)
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
        progress=stage_progress,
        training={
            name: value
            for name, value in (
                ("steps", options.steps),
                ("weights", options.training_weights),
                ("device", options.device),
            )
            if value is not None
        },
        foreground=options.foreground,
        jobs=options.jobs,
        threads=options.threads,
    )
    print(printable(to_markdown(outcomes)))
    return 0 if all(outcome.score is not None for outcome in outcomes) else 1


def _seconds_an_image(run: Run) -> dict[str, float]:
    done = max(1, run.counts["done"])
    return {stage: run.seconds[stage] / done for stage in STAGES if run.seconds[stage] > 0}


def _start(options: argparse.Namespace) -> Run:
    given = vars(options)
    return pipeline.run(
        options.inputs,
        options.output,
        options.command,
        options.features,
        backbone={name: given[name] for name in BACKBONE if given[name] is not None},
        max_size=None if options.max_size == "none" else options.max_size,
        **{name: given[name] for name in _SETTINGS},
        **{name: given[name] for name in TASKS[options.command].options},
    )


_GRAPH = ("k", "color_weight", "grid", "vectors", "affinity", "threshold", "epsilon")


_SETTINGS = (*_GRAPH, "page", "plots", "overwrite", "jobs", "batch_size", "threads")


_EXTRAS = {
    "models": "torch",
    "cluster": "scikit-learn",
    "faiss": "faiss-cpu",
    "ray": "ray",
    "plots": "matplotlib",
    "matting": "pymatting",
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


if __name__ == "__main__":
    sys.exit(main())

"""The eigenpairs of all pixels (paper, section 4.4): how fast against SciPy, and how near to those of the dense affinity.

    python benchmarks/matting.py speed                       # minutes: 256² to 2048² pixels
    python benchmarks/matting.py speed --once 512 --json speed.json --plot speed.png     # and the literal way, 512²
    python benchmarks/matting.py agreement --json agreement.json

speed       `deepspec.pixel_eigenpairs` and its peers (`pixel_methods.py`) on photographs (`pixel_problems.py`) of several
            sizes. The methods take turns for `--runs` rounds, in `--slow-runs` of them those above two seconds. Times
            are medians; a ratio is the median of those within the rounds, with its 90 % bootstrap interval. Residuals
            are those on the graph a method decomposes, worked out by numpy in float64; of "sampled", whose sample
            only the core knows, there are none. Peak memory is what a method takes beyond its input in a process of its
            own (Linux only). --once runs every method once at one more size, each in a process of its own that ends
            at --limit. The features are given: no method computes them.
agreement   the forms of the feature term against the exact dense one, on photographs of 128 × 128 pixels
            (`matting_agreement.py`), solved to 1e-5: gaps are about 1e-3, and at such a tolerance a solver may skip a
            pair, which says nothing of the forms. With --oracle by SciPy on graphs that numpy built, not by deepspec.

Needs `pip install "deepspec[bench]"` and the test data; a method whose package is missing is left out and named.
"""

from __future__ import annotations

import os

# Threads that spin while they wait take the cores from the next method: set before numpy loads its BLAS.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matting_agreement
import matting_report
import matting_speed
from arguments import check_files, positive
from matting_agreement import FORMS
from matting_speed import Effort, LeftOut, Row
from measures import available_cores, environment, limit_threads
from pixel_methods import METHODS, Question
from pixel_problems import KINDS
from problems import default_features

from deepspec import _core

SIDES = (256, 512, 1024, 2048)


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyMatting and numba warn of one another
        options.measure(options)


def speed(options: argparse.Namespace) -> None:
    about = environment() | {"build": _core.build_info()}
    questions = [_question(options, threads) for threads in options.threads]
    effort = Effort(options.runs, options.slow_runs, options.memory)
    rows: list[Row] = []
    left_out: list[LeftOut] = []

    def save() -> None:
        content = {"rows": [asdict(row) for row in rows], "left_out": [asdict(entry) for entry in left_out]}
        _save(options, about, content)

    for kind in options.features:
        for side in options.sides:
            measured, missed = matting_speed.in_rounds(
                kind, side, options.methods, questions, effort, _progress
            )
            rows += measured
            left_out += missed
            save()
        for name in options.methods if options.once else ():
            _progress(f"{options.once} × {options.once}, once: {name}")
            result = matting_speed.single_run(kind, options.once, name, questions[-1], options.limit)
            if isinstance(result, Row):
                rows.append(result)
            else:
                left_out.append(result)
            save()
    _progress("")
    print(matting_report.speed(about, rows, left_out))
    if options.plot and rows:
        matting_report.save_figure(rows, options.plot)


def agreement(options: argparse.Namespace) -> None:
    about = environment() | {
        "build": _core.build_info(),
        "pairs by": "SciPy" if options.oracle else "deepspec",
    }
    question = _question(options, max(options.threads))
    found = []
    with limit_threads(question.threads):
        for one in matting_agreement.compare_all(
            options.features, options.side, options.forms, question, options.oracle, _progress
        ):
            found.append(one)
            _save(options, about, {"agreements": [asdict(each) for each in found]})
    _progress("")
    print(matting_report.agreement(about, found))


def _question(options: argparse.Namespace, threads: int) -> Question:
    return Question(options.k, options.tol, options.color_weight, threads)


def _save(options: argparse.Namespace, about: dict[str, Any], content: dict[str, Any]) -> None:
    settings = {"k": options.k, "tol": options.tol, "color_weight": options.color_weight}
    if options.json:
        report = {"environment": about, "settings": settings, **content}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--features", nargs="+", choices=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    shared.add_argument("--k", type=positive, default=5)
    shared.add_argument("--tol", type=float, help="default: 1e-3 for the speed, 1e-5 for the agreement")
    shared.add_argument("--color-weight", type=float, default=10.0, metavar="λ")
    shared.add_argument("--threads", type=positive, nargs="+", default=sorted({1, available_cores()}))
    shared.add_argument("--json", type=Path, metavar="FILE")

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("speed", parents=[shared], help="time and memory")
    command.set_defaults(measure=speed)
    command.add_argument("--sides", type=positive, nargs="*", default=list(SIDES), metavar="PIXELS")
    command.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), metavar="NAME")
    command.add_argument("--runs", type=positive, default=Effort.runs, help="rounds")
    command.add_argument("--slow-runs", type=positive, default=Effort.slow_runs, help="of a method above 2 s")
    command.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    command.add_argument("--once", type=positive, metavar="PIXELS", help="run all methods once at this size")
    command.add_argument("--limit", type=float, default=3600.0, help="seconds a single run may take")
    command.add_argument("--plot", type=Path, metavar="FILE")

    command = commands.add_parser("agreement", parents=[shared], help="with the exact affinity")
    command.set_defaults(measure=agreement, plot=None)
    command.add_argument("--side", type=positive, default=128, metavar="PIXELS")
    command.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS), metavar="FORM")
    command.add_argument(
        "--oracle", action="store_true", help="pairs by SciPy of numpy's graphs, not deepspec's"
    )

    options = parser.parse_args(arguments)
    if options.tol is None:
        options.tol = 1e-3 if options.measure is speed else 1e-5
    if options.features is None:
        real = ["squeezenet", "dinov2"]
        options.features = ["surrogate"] if default_features() == "surrogate" else real
    check_files(parser, options)
    return options


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""deepspec's eigensolver against everything a user could pick instead, in one process, as ratios.

    python benchmarks/eigenpairs.py                                 # minutes: n = 1024, 2852, 4096, four methods
    python benchmarks/eigenpairs.py --methods all --sizes 1024 4096
    python benchmarks/eigenpairs.py --full --json results.json --plot results.png     # hours
    python benchmarks/report.py results.json                        # the tables again, or some of them

Each method starts from features and image and ends with eigenvalues and eigenvectors; `methods.py` says what they are,
`problems.py` where the features come from. On each problem the methods take turns for `--runs` rounds; one that
takes longer than two seconds runs in `--slow-runs` of them. Times are medians; a ratio is the median of the ratios
within the rounds, with its 90 % bootstrap interval.

Errors are those to exact pairs of the graph a method decomposes, in float64 and unquantised (`graphs.py`): LAPACK's up
to n = 4096, above ARPACK's to 1e-12. The angle is that between the spaces of the first five vectors, beside what
residual and gap allow, max(1e-3, 2 · residual / gap). Where a method returns no eigenvalues, those of its vectors are
taken (Rayleigh quotients). Where neighbours tie, PyMatting takes others than deepspec: the last
column says how many entries of the graph that changes. Peak memory is what a method takes beyond its input in a
process of its own (Linux only).

--channels, --k, --color-weight and --source take several values: the first of each belongs to every problem, and each
further one is combined with the first of the others. Sizes are numbers of cells or grids, such as 24x36.
Needs `pip install "deepspec[bench]"`; a method whose package is missing is left out and named.
"""

from __future__ import annotations

import os

# Threads that spin while they wait take the cores from the next method: set before numpy loads its BLAS.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import argparse
import sys
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import problems
import report
from arguments import check_files, parse_grid, positive
from graphs import ExactGraphs, exact_gram
from measures import available_cores, environment, in_turns, limit_threads, peak_memory
from methods import METHODS, Pairs
from problems import FEATURES, GRIDS, SOURCES, Problem
from results import LeftOut, Results, Row, Setting

from deepspec import _core

QUICK = {
    "sizes": [GRIDS[n] for n in (1024, 2852, 4096)],
    "methods": ["deepspec", "deepspec-fast", "published", "tuned"],
    "channels": [384],
    "k": [5],
    "color_weight": [10.0],
    "source": ["own", "half"],
}
FULL = {
    "sizes": list(GRIDS.values()),
    "methods": list(METHODS),
    "channels": [384, 768],
    "k": [5, 15],
    "color_weight": [10.0, 0.0],
    "source": ["own", "half"],
}
SLOW = 2.0  # seconds
TILE = 96  # rows the core pads the features to a multiple of


class Case(NamedTuple):
    """What takes its turn on a problem."""

    method: str
    threads: int


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    results = Results(environment() | {"build": _core.build_info()})
    with warnings.catch_warnings():
        # PyMatting and numba warn of one another; ARPACK and LOBPCG of a precision that the residuals show.
        warnings.simplefilter("ignore")
        for setting in plan(options):
            run(setting, options, results)
            if options.json:
                results.save(options.json)
    _progress("")
    print(report.render(results))
    if options.plot and results.rows:
        from figures import save_figure

        save_figure(results, options.plot)


def plan(options: argparse.Namespace) -> list[Setting]:
    """The problems: the first of all options at every size, and each other one with the first of the rest."""
    choices = (options.channels, options.k, options.color_weight, options.source)
    first = tuple(values[0] for values in choices)
    combinations = [first]
    for position, values in enumerate(choices):
        combinations += [(*first[:position], value, *first[position + 1 :]) for value in values[1:]]
    return [
        Setting(grid[0] * grid[1], grid, options.features, source, channels, k, color_weight)
        for channels, k, color_weight, source in combinations
        for grid in options.sizes
    ]


def run(setting: Setting, options: argparse.Namespace, results: Results) -> None:
    """Measure the methods on one problem and add what is found to the results."""
    problem = problems.make(setting.features, setting.grid, setting.channels, setting.source)
    found: dict[Case, Pairs] = {}
    runs: dict[Case, int] = {}
    for name in options.methods:
        if reason := reason_against(name, setting):
            results.left_out.append(LeftOut(setting, name, reason))
            continue
        for threads in options.threads:
            case = Case(name, threads)
            _progress(f"{setting.describe()}: {name}, threads {threads}")
            try:
                found[case], seconds = first_run(case, problem, setting)
            except (RuntimeError, np.linalg.LinAlgError, MemoryError) as error:  # the others go on
                results.left_out.append(LeftOut(setting, name, f"{type(error).__name__}: {error}"))
                continue
            runs[case] = options.runs if seconds < SLOW else min(options.slow_runs, options.runs)

    _progress(f"{setting.describe()}: {options.runs} rounds")
    calls = {case: partial(solve, case, problem, setting) for case in found}
    times = in_turns(calls, runs, lambda case: limit_threads(case.threads))

    _progress(f"{setting.describe()}: exact pairs")
    graphs = ExactGraphs(problem, exact_gram(problem), setting.k, setting.color_weight)
    most_threads = max(options.threads)
    for case, pairs in found.items():
        _progress(f"{setting.describe()}: memory of {case.method}")
        measured = options.memory and case.threads == most_threads
        row = Row(
            setting,
            case.method,
            case.threads,
            rounds=list(times[case]),
            seconds=list(times[case].values()),
            errors=graphs[METHODS[case.method].graph].errors(pairs, METHODS[case.method].vectors),
            graph_difference=graphs.difference(METHODS[case.method].graph),
            memory=memory(case, problem, setting) if measured else None,
            memory_bound=memory_bound(problem, graphs) if case.method.startswith("deepspec") else None,
        )
        results.rows.append(row)


def reason_against(name: str, setting: Setting) -> str:
    """Why a method is left out on a problem; empty if it is not."""
    method = METHODS[name]
    if method.largest is not None and setting.n > method.largest:
        return f"above n = {method.largest}: {method.limit}"
    return method.missing()


def first_run(case: Case, problem: Problem, setting: Setting) -> tuple[Pairs, float]:
    """The pairs, and the seconds they took once everything was loaded and compiled."""
    solve_limited(case, problems.tiny(), setting)
    started = time.perf_counter()
    return solve_limited(case, problem, setting), time.perf_counter() - started


def memory(case: Case, problem: Problem, setting: Setting) -> int | None:
    """Bytes at the peak, beyond the input."""
    tiny, full = (partial(solve_limited, case, this, setting) for this in (problems.tiny(), problem))
    return peak_memory(tiny, full)


def solve_limited(case: Case, problem: Problem, setting: Setting) -> Pairs:
    with limit_threads(case.threads):
        return solve(case, problem, setting)


def solve(case: Case, problem: Problem, setting: Setting) -> Pairs:
    return METHODS[case.method].solve(problem, setting.k, setting.color_weight, case.threads)


def memory_bound(problem: Problem, graphs: ExactGraphs) -> int:
    """Bytes deepspec allows itself: 1.4 n², the colour graph, a copy of the features padded to whole tiles, 8 MB."""
    colors = graphs["deepspec"].colors
    graph: int = colors.nnz * (4 + 8) + 8 * (problem.n + 1)
    height, width, channels = problem.features.shape
    padded_rows = -(-height * width // TILE) * TILE
    return int(1.4 * problem.n**2) + graph + 4 * padded_rows * channels + 8_000_000


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = available_cores()
    parser.add_argument("--sizes", type=parse_grid, nargs="+", metavar="N", help="cells, or HxW")
    parser.add_argument("--methods", nargs="+", choices=[*METHODS, "all"], metavar="NAME")
    parser.add_argument("--features", choices=list(FEATURES), default=problems.default_features())
    parser.add_argument("--channels", type=positive, nargs="+", metavar="C")
    parser.add_argument("--k", type=positive, nargs="+")
    parser.add_argument("--color-weight", type=float, nargs="+", metavar="λ")
    parser.add_argument("--source", nargs="+", choices=SOURCES, help="grid of the features, of the graph's")
    parser.add_argument("--threads", type=positive, nargs="+", default=sorted({1, cores}))
    parser.add_argument("--runs", type=positive, default=15, help="rounds")
    parser.add_argument(
        "--slow-runs", type=positive, default=5, help="rounds of a method that takes over 2 s"
    )
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--full", action="store_true", help="all sizes, methods and problems")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    for name, value in (FULL if options.full else QUICK).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if "all" in options.methods:
        options.methods = list(METHODS)
    if too_small := [f"{h}x{w}" for h, w in options.sizes if h * w <= max(options.k)]:
        parser.error(f"k = {max(options.k)} pairs need more cells than there are in {', '.join(too_small)}")
    if odd := [f"{h}x{w}" for h, w in options.sizes if "half" in options.source and (h % 2 or w % 2)]:
        parser.error(f"features of half the grid need even sides, not {', '.join(odd)}")
    check_files(parser, options)
    return options


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

"""The nearest neighbours of the colour graph: deepspec against PyMatting, SciPy and scikit-learn, as ratios.

    python benchmarks/neighbors.py [--grids 64x64 512x512] [--threads 1] [--runs 15] [--json FILE]

All find the 20 nearest of each pixel in (r, g, b, 2x, 2y) and the 10 nearest in (r, g, b, x/10, y/10), exactly: deepspec
from the image with `color_affinity(image, "knn")`, PyMatting with `knn` in float32, SciPy with `cKDTree` and
scikit-learn with `NearestNeighbors(algorithm="kd_tree")` in float64.

graph   the whole work, from the image to the symmetric graph in CSR; the peers' by SciPy
search  the peers' two searches alone, which deepspec's time for the whole graph is set against

The methods take turns; a ratio is the median of those within the rounds, with its 90 % bootstrap interval. The last column
says how many entries of a peer's graph are not deepspec's: neighbours at equal distances, or at distances that
float32 cannot tell apart. Needs `pip install "deepspec[bench]"`.
"""

from __future__ import annotations

import os

# Threads that spin while they wait take the cores from the next method: set before numpy loads its BLAS.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import argparse
import json
import statistics
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import problems
import scipy.sparse
from affinities import graph_of, knn_points, pymatting_search
from arguments import parse_grid, positive
from measures import environment, in_turns, limit_threads, median_ratio
from problems import Array, Grid
from report import describe, markdown, show

import deepspec
from deepspec import _core

Search = Callable[[Array, int, int], Array]  # points (n, 5), k, threads → indices (n, k)


@dataclass(frozen=True)
class Row:
    """One method on one grid."""

    n: int
    threads: int
    method: str
    work: str  # "graph" or "search"
    seconds: list[float]  # by round
    graph_difference: float  # share of the entries that are not deepspec's


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyMatting and numba warn of one another
        for grid in options.grids:
            for threads in options.threads:
                rows += compare(problems.photograph(options.features, grid), threads, options.runs)
    about = environment() | {"build": _core.build_info(), "photograph": options.features}
    print(f"{describe(about)}\n\n{table(rows)}")
    if options.json:
        report = {"environment": about, "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def compare(image: Array, threads: int, runs: int) -> list[Row]:
    """Let all methods find the neighbours of an image in turns."""
    calls: dict[tuple[str, str], Callable[[], Any]] = {
        ("deepspec", "graph"): partial(deepspec.color_affinity, image, threads=threads)
    }
    for name, search in SEARCHES.items():
        calls[name, "search"] = partial(neighbors, search, image, threads)
        calls[name, "graph"] = partial(graph, search, image, threads)
    with limit_threads(threads):
        graphs = {name: call() for (name, work), call in calls.items() if work == "graph"}  # compiles, too
    times = in_turns(calls, dict.fromkeys(calls, runs), lambda _: limit_threads(threads))
    own = graphs["deepspec"]
    return [
        Row(
            n=own.shape[0],
            threads=threads,
            method=name,
            work=work,
            seconds=list(times[name, work].values()),
            graph_difference=(graphs[name] != own).nnz / own.nnz,
        )
        for name, work in calls
    ]


def neighbors(search: Search, image: Array, threads: int) -> list[Array]:
    return [search(points, k, threads) for k, points in knn_points(image)]


def graph(search: Search, image: Array, threads: int) -> scipy.sparse.csr_array:
    return graph_of(neighbors(search, image, threads))


def pymatting(points: Array, k: int, threads: int) -> Array:
    return pymatting_search(points, k)


def ckdtree(points: Array, k: int, threads: int) -> Array:
    from scipy.spatial import cKDTree

    found: Array = cKDTree(points).query(points, k=k, workers=threads)[1]
    return found


def scikit_learn(points: Array, k: int, threads: int) -> Array:
    from sklearn.neighbors import NearestNeighbors

    model = NearestNeighbors(n_neighbors=k, algorithm="kd_tree", n_jobs=threads).fit(points)
    found: Array = model.kneighbors(points, return_distance=False)
    return found


SEARCHES: dict[str, Search] = {"pymatting": pymatting, "scipy": ckdtree, "scikit-learn": scikit_learn}


def table(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        own = next(
            other
            for other in rows
            if (other.n, other.threads, other.method) == (row.n, row.threads, "deepspec")
        )
        lines.append(
            [
                str(row.n),
                str(row.threads),
                row.method,
                row.work,
                f"{1e3 * statistics.median(row.seconds):.1f}",
                show(median_ratio(row.seconds, own.seconds)) if row is not own else "–",
                f"{row.graph_difference:.1%}",
            ]
        )
    return markdown(["n", "threads", "method", "work", "ms", "÷ deepspec", "other edges"], lines)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    grids: list[Grid] = [(64, 64), (512, 512)]
    parser.add_argument("--grids", type=parse_grid, nargs="+", default=grids, metavar="HxW")
    parser.add_argument("--threads", type=positive, nargs="+", default=[1])
    parser.add_argument("--runs", type=positive, default=15, help="rounds")
    parser.add_argument("--features", choices=list(problems.PHOTOS), default=problems.default_features())
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

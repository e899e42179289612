"""TokenCut's eigenvectors: deepspec's graph of bits against the published dense route, as ratios in one process.

    python benchmarks/tokencut.py [--grids 30x30 60x60] [--threads 2] [--runs 5]

Both start from features (DINOv2's of the test data, or surrogates) of the grid. published: cosines, W of 1 above τ = 0.2 and
ε = 1e-5 elsewhere, SciPy's dense `eigh(D - W, D, subset_by_index=[1, 2])`; deepspec: `eigenpairs(affinity="threshold",
k=2)`. The methods take turns; a ratio is the median within the rounds, with its 90 % bootstrap interval. The cosine is that
of both second eigenvectors, sign apart.
"""

from __future__ import annotations

import os

# Threads that spin while they wait take the cores from the next method: set before numpy loads its BLAS.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np
import problems
import scipy.linalg
from arguments import parse_grid, positive
from measures import environment, in_turns, limit_threads, median_ratio
from problems import Array
from report import describe, markdown, show

import deepspec
from deepspec import _core

TAU, EPSILON = 0.2, 1e-5


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    lines = []
    for grid in options.grids:
        features = problems.make(problems.default_features(), grid).features
        features = features - features.mean(axis=(0, 1))  # as spread as a network's keys: else all are alike
        calls = {
            "deepspec": partial(
                deepspec.eigenpairs, features, affinity="threshold", k=2, threads=options.threads
            ),
            "published": partial(published, features),
        }
        with limit_threads(options.threads):
            ours, theirs = calls["deepspec"]().vectors[1].ravel(), calls["published"]()[:, 0]
        times = in_turns(calls, dict.fromkeys(calls, options.runs), lambda _: limit_threads(options.threads))
        seconds = {name: np.array(list(times[name].values())) for name in calls}
        cosine = abs(ours @ theirs) / np.linalg.norm(ours) / np.linalg.norm(theirs)
        lines.append(
            [
                str(grid[0] * grid[1]),
                *(f"{1e3 * np.median(seconds[name]):.1f}" for name in calls),
                show(median_ratio(seconds["published"], seconds["deepspec"])),
                f"{cosine:.6f}",
            ]
        )
    print(f"{describe(environment() | {'build': _core.build_info()})}\n")
    print(f"{options.threads} threads, {problems.default_features()} features:\n")
    print(markdown(["n", "deepspec, ms", "published, ms", "÷", "cosine"], lines))


def published(features: Array) -> Array:
    rows = features.reshape(-1, features.shape[2])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    W = np.where(rows @ rows.T > TAU, 1.0, EPSILON)
    D = np.diag(W.sum(axis=1))
    vectors: Array = scipy.linalg.eigh(D - W, D, subset_by_index=[1, 2])[1]
    return vectors


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--grids", type=parse_grid, nargs="+", default=[(30, 30), (60, 60)], metavar="HxW")
    parser.add_argument("--threads", type=positive, default=2, metavar="N")
    parser.add_argument("--runs", type=positive, default=5, metavar="N")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

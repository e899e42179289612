"""The eigensolver against the ways it is done with SciPy, in one process, as ratios.

    python benchmarks/eigenpairs.py [--sizes 1024 2852 4096] [--runs 9] [--threads 2] [--json FILE]

published   dense D − W of float32 `F @ F.T` and PyMatting's KNN made dense,
            `scipy.sparse.linalg.eigsh(D - W, k, sigma=0, which="LM", M=D)`
tuned       `eigsh(which="LA")` on D^-½ W D^-½ as a LinearOperator (dense float32 and CSR), PyMatting's KNN
deepspec    `deepspec.eigenpairs`

Each starts from the features and the image and ends with eigenvalues and eigenvectors. The methods take turns, so that
what else the machine does falls on all of them; a ratio is the median over the rounds, its interval the
bootstrap's 95 %. Where neighbours tie, PyMatting takes others than deepspec: the last column says how many entries of the
graph that changes, and the columns before it how far the results are apart for it. Needs `pymatting`.
"""

from __future__ import annotations

import os

# Threads that spin while they wait take the cores from the next method: set before numpy loads its BLAS.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import dinov2
import numpy as np
import scipy
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from threadpoolctl import threadpool_limits

import deepspec
from deepspec import _core

Array: TypeAlias = NDArray[Any]
Pairs: TypeAlias = tuple[Array, Array]

GRIDS = {1024: (32, 32), 2852: (46, 62), 4096: (64, 64)}
KNN_SEARCHES = ((20, 2.0), (10, 0.1))  # (k, weight of the position) of the "knn" colour graph
CHANNELS = 384


@dataclass(frozen=True)
class Row:
    """One method at one size."""

    n: int
    method: str
    milliseconds: float  # median
    speedup: float  # times as fast as this method deepspec is, median of the rounds' ratios
    low: float
    high: float
    value_difference: float  # largest, from deepspec's eigenvalues
    angle: float  # radians, the largest between the spaces of the first k vectors
    residual: float  # largest of ‖D^-½((D−W)y − μDy)‖ / ‖D^½y‖, in float64 with the method's own colour graph
    graph_difference: float  # share of the colour graph's entries that are not deepspec's: broken ties


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    warnings.filterwarnings("ignore", category=UserWarning, module="numba|pymatting")
    rows = []
    with threadpool_limits(options.threads):
        for n in options.sizes:
            problem = make_problem(GRIDS[n])
            rows += compare(*problem, options.k, options.color_weight, options.runs, options.threads)
    print_table(rows, options)
    if options.json:
        report = {"settings": _settings(options), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


def compare(
    features: Array, image: Array, k: int, color_weight: float, runs: int, threads: int | None
) -> list[Row]:
    """Run the methods in turns and compare times and results."""
    methods: dict[str, Callable[[], Pairs]] = {
        "deepspec": lambda: ours(features, image, k, color_weight, threads),
        "tuned": lambda: tuned(features, image, k, color_weight),
        "published": lambda: published(features, image, k, color_weight),
    }
    results = {name: method() for name, method in methods.items()}  # warm-up
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(runs):
        for name, method in methods.items():
            started = time.perf_counter()
            method()
            seconds[name].append(time.perf_counter() - started)

    n = image.shape[0] * image.shape[1]
    gram = np.asarray(exact_gram(features), np.float64)
    our_graph, their_graph = deepspec.color_affinity(image), pymatting_knn(image)
    values, vectors = results["deepspec"]
    rows = []
    for name in methods:
        graph = our_graph if name == "deepspec" else their_graph
        affinity = gram + color_weight * graph.toarray()
        ratios = np.array(seconds[name]) / np.array(seconds["deepspec"])
        low, high = bootstrap(ratios)
        rows.append(
            Row(
                n=n,
                method=name,
                milliseconds=1e3 * float(np.median(seconds[name])),
                speedup=float(np.median(ratios)),
                low=low,
                high=high,
                value_difference=float(abs(results[name][0] - values).max()),
                angle=angle(results[name][1], vectors, affinity.sum(1)),
                residual=largest_residual(affinity, *results[name]),
                graph_difference=(graph != our_graph).nnz / our_graph.nnz,
            )
        )
    return rows


# The methods: features (h, w, C) float32 and image (h, w, 3) uint8 → values (k,), vectors (k, n)


def ours(features: Array, image: Array, k: int, color_weight: float, threads: int | None) -> Pairs:
    pairs = deepspec.eigenpairs(features, image, k=k, color_weight=color_weight, threads=threads)
    return pairs.values, pairs.vectors.reshape(k, -1)


def published(features: Array, image: Array, k: int, color_weight: float) -> Pairs:
    affinity = gram(features) + np.float32(color_weight) * pymatting_knn(image).toarray().astype(np.float32)
    degrees = affinity.sum(1)
    degrees[degrees < 1e-12] = 1
    diagonal = np.diag(degrees)
    values, vectors = scipy.sparse.linalg.eigsh(diagonal - affinity, k=k, sigma=0, which="LM", M=diagonal)
    order = np.argsort(values)
    return values[order], vectors.T[order]


def tuned(features: Array, image: Array, k: int, color_weight: float) -> Pairs:
    feature_part = gram(features)
    color_part = np.float32(color_weight) * pymatting_knn(image).astype(np.float32)
    degrees = feature_part.sum(1) + color_part.sum(1)
    degrees[degrees < 1e-12] = 1
    scale = 1 / np.sqrt(degrees)

    def multiply(x: Array) -> Array:
        scaled = scale * x.ravel()
        product: Array = scale * (feature_part @ scaled + color_part @ scaled)
        return product

    n = len(degrees)
    operator = scipy.sparse.linalg.LinearOperator((n, n), matvec=multiply, dtype=np.float32)
    start = np.sqrt(degrees)  # near the leading vector, and the same in every run
    start = start + start.mean() * np.random.default_rng(0).normal(size=n).astype(np.float32)
    values, vectors = scipy.sparse.linalg.eigsh(operator, k=k, which="LA", tol=1e-5, v0=start)
    order = np.argsort(-values)
    return 1 - values[order], scale * vectors.T[order]


def gram(features: Array) -> Array:
    """relu(F Fᵀ) / max in float32."""
    rows = features.reshape(-1, features.shape[-1])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    product: Array = rows @ rows.T
    np.maximum(product, 0, out=product)
    product /= product.max()
    return product


def exact_gram(features: Array) -> Array:
    return gram(features.astype(np.float64))


def pymatting_knn(image: Array) -> scipy.sparse.csr_array:
    """The "knn" colour graph by PyMatting's neighbour search."""
    from pymatting import knn

    height, width = image.shape[:2]
    n = height * width
    y, x = np.meshgrid(np.linspace(0, 1, height), np.linspace(0, 1, width), indexing="ij")
    position = np.stack([x, y], axis=-1).reshape(n, 2)
    rows, columns = [], []
    for k, weight in KNN_SEARCHES:
        points = np.hstack([image.reshape(n, 3) / 255, weight * position]).astype(np.float32)
        rows.append(np.repeat(np.arange(n), k))
        columns.append(knn(points, points, k=k)[1].ravel())
    found = np.concatenate(rows + columns), np.concatenate(columns + rows)
    return scipy.sparse.csr_array((np.ones(len(found[0])), found), shape=(n, n))


# The problem


def make_problem(grid: tuple[int, int]) -> tuple[Array, Array]:
    """Features (h, w, 384) of a photograph and the photograph on the grid.

    DINOv2's where the test data are (its 37 × 37 grid, interpolated), else random projections of local
    colour and texture, whose spectrum falls off as a network's does.
    """
    test_data = os.environ.get("DEEPSPEC_TEST_DATA")
    if test_data:
        photo, features = dinov2.load(Path(test_data) / "dinov2_features")
        zoom = (grid[0] / features.shape[0], grid[1] / features.shape[1], 1)
        features = ndimage.zoom(features, zoom, order=1, grid_mode=True, mode="nearest")
        # Interpolation makes neighbours more alike than a network of that grid would.
        noise = np.random.default_rng(0).normal(size=features.shape)
        features = features + 0.2 * features.std() * noise
    else:
        from skimage import data

        photo = data.coffee()
        features = surrogate(photo, grid)
    size = (grid[1], grid[0])
    image = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(features, np.float32), image


def surrogate(photo: Array, grid: tuple[int, int]) -> Array:
    """(h, w, 384): cosine features of smoothed colour and gradient energy at four scales."""
    cell = 8
    size = (grid[1] * cell, grid[0] * cell)
    pixels = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC), np.float32) / 255
    gray = pixels.mean(-1)
    maps = []
    for sigma in (2.0, 4.0, 8.0, 16.0):
        maps += [ndimage.gaussian_filter(pixels[..., c], sigma) for c in range(3)]
        for axis in (0, 1):
            edge = abs(ndimage.gaussian_filter1d(gray, sigma / 2, axis=axis, order=1))
            maps.append(ndimage.gaussian_filter(edge, sigma))
    cells = np.stack(maps, axis=-1).reshape(grid[0], cell, grid[1], cell, -1).mean(axis=(1, 3))
    cells = (cells - cells.mean((0, 1))) / (cells.std((0, 1)) + 1e-6)
    rng = np.random.default_rng(0)
    projection = rng.normal(size=(cells.shape[-1], CHANNELS)) / np.sqrt(cells.shape[-1])
    result: Array = np.cos(cells @ projection + rng.uniform(0, 2 * np.pi, CHANNELS))
    return result + 0.1 * rng.normal(size=result.shape)


# Measures


def bootstrap(ratios: Array) -> tuple[float, float]:
    """95 % interval of the median."""
    samples = np.random.default_rng(0).choice(ratios, size=(2000, len(ratios)))
    low, high = np.percentile(np.median(samples, axis=1), [2.5, 97.5])
    return float(low), float(high)


def angle(vectors: Array, others: Array, degrees: Array) -> float:
    root = np.sqrt(degrees)[:, None]
    return float(scipy.linalg.subspace_angles(root * vectors.T, root * others.T).max())


def largest_residual(affinity: Array, values: Array, vectors: Array) -> float:
    degrees = affinity.sum(1)
    y = vectors.astype(np.float64)
    error = (1 - values[:, None]) * degrees * y - y @ affinity
    norms = np.linalg.norm(error / np.sqrt(degrees), axis=1) / np.linalg.norm(np.sqrt(degrees) * y, axis=1)
    return float(norms.max())


def print_table(rows: Sequence[Row], options: argparse.Namespace) -> None:
    for key, value in _settings(options).items():
        print(f"{key}: {value}")
    print()
    print(
        "| n | method | median ms | deepspec is faster × (95 %) | Δ values | angle, rad | residual | graph differs |"
    )
    print("|---:|---|---:|---:|---:|---:|---:|---:|")
    for row in rows:
        speedup = f"{row.speedup:.1f} ({row.low:.1f}–{row.high:.1f})" if row.method != "deepspec" else "1"
        print(
            f"| {row.n} | {row.method} | {row.milliseconds:.1f} | {speedup} "
            f"| {row.value_difference:.1e} | {row.angle:.1e} | {row.residual:.1e} | {row.graph_difference:.1%} |"
        )


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "k": options.k,
        "color_weight": options.color_weight,
        "channels": CHANNELS,
        "runs": options.runs,
        "threads": options.threads or os.cpu_count(),
        "features": "dinov2" if os.environ.get("DEEPSPEC_TEST_DATA") else "surrogate",
        "deepspec": deepspec.__version__,
        "build": _core.build_info(),
        "scipy": scipy.__version__,
        "numpy": np.__version__,
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=list(GRIDS), choices=list(GRIDS))
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, help="for every method; default: all cores")
    parser.add_argument("--k", type=int, default=5)
    parser.add_argument("--color-weight", type=float, default=10.0, metavar="λ")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    main()

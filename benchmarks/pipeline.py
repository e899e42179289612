"""`deepspec localize` on a folder beside the published pipeline, stage by stage, image by image in turns.

    python benchmarks/pipeline.py --data ECSSD/images [--features squeezenet1_0 --weights squeezenet_v1.0.npz] [--json FILE]

The published pipeline is three programs that pass everything on through files: features of each image; eigenvectors,
from dense D − W (float32 `F @ F.T`, PyMatting's neighbours made dense) by `scipy.sparse.linalg.eigsh(sigma=0)`; the box of
the largest connected part. Here it is one process and takes the same features, grid, λ and k.

decode      file → pixels; the published pipeline does it again for the colours
features    pixels → features, by the same backbone
graph       features and pixels → the affinity, upsampling and neighbours included. Of deepspec: a call with k = 1, for which
            there is nothing to search
eigenpairs  the rest of deepspec's call; eigsh
box         eigenvector → box
files       what is written, and read again

Needs `pymatting`; upsampling features also needs `torch`.
"""

from __future__ import annotations

import os

# Threads that spin while they wait take the cores from the next method: set before numpy loads its BLAS.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import argparse
import json
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse.linalg
from affinities import pymatting_knn
from measures import available_cores, environment, limit_threads, median_ratio
from methods import shift_inverted
from PIL import Image
from problems import Array, Grid
from scipy import ndimage

import deepspec
from deepspec.features import Features, extract, named
from deepspec.inputs import find_images

STAGES = ("decode", "features", "graph", "eigenpairs", "box", "files")
METHODS = ("deepspec", "published")


class SingularError(RuntimeError):
    """The published pipeline has met the singular matrix that it factorises."""


class Box(NamedTuple):
    xmin: int
    ymin: int
    xmax: int
    ymax: int


@dataclass
class Clock:
    """Seconds by stage, and of everything."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    warnings.filterwarnings("ignore", category=UserWarning, module="numba|pymatting")
    paths = [item.path for item in find_images([options.data])][: options.limit]
    source = named(options.features, **({"weights": options.weights} if options.weights else {}))
    threads = options.threads or available_cores()
    with limit_threads(threads), tempfile.TemporaryDirectory() as folder:
        measured = compare(paths, source, options, threads, Path(folder))
    print_table(measured)
    if options.json:
        settings = {
            "features": options.features,
            "grid": options.grid,
            "color_weight": options.color_weight,
            "k": options.k,
            "threads": threads,
        }
        report = {"environment": environment(), "settings": settings, "images": measured}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def compare(
    paths: Sequence[Path], source: Any, options: argparse.Namespace, threads: int, folder: Path
) -> list[dict[str, Any]]:
    """For each image its name, and of each method the seconds by stage, with their `total`, and the box."""
    graph = {"k": options.k, "color_weight": options.color_weight, "grid": options.grid}
    published = Published(folder / "published", source, **graph)
    results = deepspec.pipeline.run(
        paths, folder / "deepspec", "localize", source, jobs=0, threads=threads, max_size=None, **graph
    )

    def ours(path: Path) -> tuple[dict[str, float], Box]:
        clock = Clock()
        with clock("total"):
            result = next(results)
        if result.path != path or result.status != "done":
            raise SystemExit(f"{result.path}: {result.line}")
        for own, stage in (("answer", "box"), ("write", "files")):
            clock.seconds[stage] = result.seconds.pop(own)
        clock.seconds.update(result.seconds)
        return clock.seconds, Box(*map(int, result.line.split()[1:]))

    def theirs(path: Path) -> Any:
        try:
            return published.localize(path)
        except SingularError as error:
            return error

    def graph_alone(path: Path) -> float:
        image = read_image(path)
        features = extract(image, source)
        clock = Clock()
        with clock("graph"):
            deepspec.decompose(image, features, threads=threads, **{**graph, "k": 1})
        return clock.seconds["graph"]

    # What is compiled, or loaded, at the first use.
    theirs(paths[0])
    deepspec.localize(deepspec.decompose(paths[0], source, threads=threads, **{**graph, "k": 2}))
    measured: list[dict[str, Any]] = []
    calls = {"deepspec": ours, "published": theirs}
    for number, path in enumerate(paths):
        found = {name: calls[name](path) for name in (METHODS if number % 2 else METHODS[::-1])}
        if isinstance(found["published"], SingularError):
            measured.append({"image": path.name, "failed": str(found["published"])})
            continue
        seconds = found["deepspec"][0]
        seconds["graph"] = graph_alone(path)
        seconds["eigenpairs"] -= seconds["graph"]
        measured.append(
            {
                "image": path.name,
                "iou": iou(found["deepspec"][1], found["published"][1]),
                **{name: {stage: found[name][0][stage] for stage in (*STAGES, "total")} for name in METHODS},
            }
        )
    return measured


@dataclass(frozen=True)
class Published:
    """The published pipeline, one image at a time."""

    folder: Path
    source: Any
    k: int
    color_weight: float
    grid: str

    def localize(self, path: Path) -> tuple[dict[str, float], Box]:
        self.folder.mkdir(exist_ok=True)
        clock = Clock()
        with clock("total"):
            self._write_features(path, clock)
            self._write_eigenvectors(path, clock)
            box = self._box(clock)
        return clock.seconds, box

    def _write_features(self, path: Path, clock: Clock) -> None:
        with clock("decode"):
            image = read_image(path)
        with clock("features"):
            features = extract(image, self.source)
        with clock("files"):
            np.savez(self.folder / "features.npz", array=features.array, cell=features.cell)

    def _write_eigenvectors(self, path: Path, clock: Clock) -> None:
        with clock("files"), np.load(self.folder / "features.npz") as file:
            features = Features(file["array"], tuple(file["cell"]))
        with clock("decode"):
            image = read_image(path)
        with clock("graph"):
            affinity, grid, cell = self._affinity(features, image)
        with clock("eigenpairs"):
            vectors = eigenvectors(affinity, self.k)
        with clock("files"):
            np.savez(self.folder / "eigenvectors.npz", vectors=vectors.reshape(-1, *grid), cell=cell)

    def _affinity(self, features: Features, image: Array) -> tuple[Array, Grid, tuple[float, float]]:
        """W, dense float32; its grid, and the image pixels of a cell."""
        rows, columns = features.array.shape[:2]
        finer = 2 if self.grid == "auto" and features.cell == (16, 16) else 1
        grid, cell = (
            (finer * rows, finer * columns),
            (features.cell[0] / finer, features.cell[1] / finer),
        )
        keys = features.array / np.maximum(np.linalg.norm(features.array, axis=2, keepdims=True), 1e-12)
        if finer > 1:
            keys = upsampled(keys, grid)
        flat = keys.reshape(-1, keys.shape[-1]).astype(np.float32)
        affinity = np.maximum(flat @ flat.T, 0)
        affinity /= affinity.max()
        if self.color_weight:
            whole = Image.fromarray(image[: round(grid[0] * cell[0]), : round(grid[1] * cell[1])])
            small = np.asarray(whole.resize((grid[1], grid[0]), Image.Resampling.BILINEAR))
            affinity += np.float32(self.color_weight) * pymatting_knn(small).toarray().astype(np.float32)
        return affinity, grid, cell

    def _box(self, clock: Clock) -> Box:
        with clock("files"), np.load(self.folder / "eigenvectors.npz") as file:
            vector, cell = file["vectors"][1], file["cell"]
        with clock("box"):
            front = vector > 0
            parts, _ = ndimage.label(front if front.any() else ~front, np.ones((3, 3)))
            largest = np.argmax(np.bincount(parts.ravel())[1:])
            rows, columns = ndimage.find_objects(parts)[largest]
            ymin, ymax = (round(side * cell[0]) for side in (rows.start, rows.stop))
            xmin, xmax = (round(side * cell[1]) for side in (columns.start, columns.stop))
        return Box(xmin, ymin, xmax, ymax)


def eigenvectors(affinity: Array, k: int) -> Array:
    """(k, n) float32: y with (D − W) y = μ D y, ascending; negative entries are the majority."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vectors = shift_inverted(affinity, k).vectors.astype(np.float32)
    except (ValueError, scipy.sparse.linalg.ArpackError) as error:
        raise SingularError(f"D - W of {len(affinity)} cells is singular: {error}") from error
    share = (vectors > 0).mean(axis=1, keepdims=True)
    result: Array = np.where((share > 0.5) & (share < 1), -vectors, vectors)
    return result


def upsampled(keys: Array, grid: Grid) -> Array:
    import torch

    channels_first = torch.from_numpy(keys).movedim(2, 0)[None]
    finer = torch.nn.functional.interpolate(channels_first, grid, mode="bilinear", align_corners=False)
    result: Array = finer[0].movedim(0, 2).numpy()
    return result


def read_image(path: Path) -> Array:
    return np.asarray(Image.open(path).convert("RGB"))


def iou(one: Box, other: Box) -> float:
    width = min(one.xmax, other.xmax) - max(one.xmin, other.xmin)
    height = min(one.ymax, other.ymax) - max(one.ymin, other.ymin)
    shared = max(0, width) * max(0, height)
    areas = [(box.xmax - box.xmin) * (box.ymax - box.ymin) for box in (one, other)]
    return shared / (sum(areas) - shared)


def print_table(measured: Sequence[dict[str, Any]]) -> None:
    """Means, which add up over the stages; for the whole the median of the images' ratios too."""
    failed = [image for image in measured if "failed" in image]
    measured = [image for image in measured if "failed" not in image]
    print("| stage | deepspec, ms | published, ms | × |")
    print("|---|---:|---:|---:|")
    for stage in (*STAGES, "total"):
        own, published = (np.mean([image[name][stage] for image in measured]) for name in METHODS)
        print(f"| {stage} | {1e3 * own:.2f} | {1e3 * published:.2f} | {published / own:.2f} |")
    own, published = ([image[name]["total"] for image in measured] for name in METHODS)
    ratio = median_ratio(published, own)
    print(
        f"\n{len(measured)} images: the median image takes {ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f}) times as long"
    )
    ious = np.array([image["iou"] for image in measured])
    print(f"IoU of the boxes: {ious.mean():.3f}, above 0.9 on {(ious > 0.9).mean():.0%}")
    if failed:
        print(f"Left out, since the published pipeline fails on them: {len(failed)} images")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--features", default="classical", metavar="NAME")
    parser.add_argument("--weights", metavar="FILE")
    parser.add_argument("--grid", choices=("auto", "patch"), default="auto")
    parser.add_argument("--limit", type=int, metavar="N", help="images; default: all")
    parser.add_argument("--threads", type=int, help="for everything; default: all cores")
    parser.add_argument("--k", type=int, default=2)
    parser.add_argument("--color-weight", type=float, default=10.0, metavar="λ")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    main()

"""Opacity in the span of eigenvectors beside PyMatting's closed-form and KNN matting, given the same pixels.

    python benchmarks/matting_quality.py [--features colors classical squeezenet] [--color-weight 10 1000]
        [--k 10 25 50 100] [--known trimap strokes] [--max-size PIXELS] [--tol 1e-3] [--json FILE]
        [--image FILE --trimap FILE --alpha FILE] [--weights squeezenet_v1.0.npz]

The four errors of `deepspec.matting_metrics` on the trimap's unknown region; SAD, gradient and connectivity by thousands, MSE
also as a multiple of KNN matting's. "At best" is the MSE of the opacity in the span that is nearest to the truth there,
clipped: what least squares in the span cannot go below.

colors   λ = ∞, the features left out; the others by each λ that is asked for
trimap   what it says
strokes  of it only bands of three pixels, halfway into the foreground and the background, are given

The default is the lemur of the test data at DEEPSPEC_TEST_DATA. Its true opacity was made by closed-form matting from the
same trimap, so that PyMatting's closed form has next to no error there, and says nothing about how good it is.
Needs `pymatting`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from arguments import positive
from measures import environment
from numpy.typing import NDArray
from PIL import Image
from report import markdown
from scipy.ndimage import distance_transform_edt
from squeezenet import SqueezeNet

from deepspec import images, matting_metrics
from deepspec.decomposition import plain_weight
from deepspec.features import Features, extract
from deepspec.full_resolution import pixel_eigenpairs
from deepspec.spectral import Eigenpairs
from deepspec.trimaps import Known, known_from_scribbles, known_from_trimap, solve_alpha

FEATURES = ("colors", "classical", "squeezenet")
PEERS = {"PyMatting KNN": "estimate_alpha_knn", "PyMatting closed form": "estimate_alpha_cf"}
STROKE = 3  # pixels

Array = NDArray[Any]


@dataclass(frozen=True)
class Scene:
    image: NDArray[np.uint8]
    truth: NDArray[np.float32]
    known: dict[str, Known]  # by the name of what is given
    unknown: NDArray[np.bool_]  # where errors count


@dataclass(frozen=True)
class Row:
    known: str
    method: str
    color_weight: float | str | None
    k: int | None
    sad: float
    mse: float
    gradient: float
    connectivity: float
    best_mse: float | None


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    scene = load_scene(options)
    rows = [*of_peers(scene), *of_spans(scene, options)]
    height, width = scene.truth.shape
    print(f"{width} x {height} pixels, {np.count_nonzero(scene.unknown)} of them unknown\n")
    print(table(rows))
    if options.json:
        settings = {
            name: getattr(options, name) for name in ("features", "color_weight", "k", "tol", "max_size")
        }
        report = {
            "environment": environment(),
            "settings": settings | {"image": options.image.name, "size": [height, width]},
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def load_scene(options: argparse.Namespace) -> Scene:
    image = images.load(options.image)
    size = image.shape[:2]
    trimap = known_from_trimap(options.trimap, size)
    truth = images.load(options.alpha)[..., 0].astype(np.float32) / 255
    image = images.shrink(image, options.max_size)
    if image.shape[:2] != size:
        trimap, truth = _resized(trimap, image.shape[:2]), _resampled(truth, image.shape[:2])
    known = {"trimap": trimap, "strokes": strokes_of(trimap)}
    return Scene(image, truth, {name: known[name] for name in options.known}, ~trimap.mask)


def strokes_of(trimap: Known) -> Known:
    said = np.zeros(trimap.mask.shape, np.int8)
    for value in (0, 1):
        depth = distance_transform_edt(trimap.mask & (trimap.alpha == value))
        halfway = depth.max() / 2
        said[(depth >= halfway) & (depth < halfway + STROKE)] = 2 * value - 1
    return known_from_scribbles(said, said.shape)


def of_peers(scene: Scene) -> Iterator[Row]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyMatting and numba warn of one another
        import pymatting

        for name, known in scene.known.items():
            trimap = np.where(known.mask, known.alpha, 0.5).astype(np.float64)
            for method, function in PEERS.items():
                alpha = getattr(pymatting, function)(scene.image / 255, trimap)
                yield measured(scene, alpha.clip(0, 1), Row(name, method, None, None, *[math.nan] * 4, None))


def of_spans(scene: Scene, options: argparse.Namespace) -> Iterator[Row]:
    for source in options.features:
        features = features_of(scene.image, source, options)
        for weight in [math.inf] if source == "colors" else options.color_weight:
            pairs = pixel_eigenpairs(
                scene.image, features, color_weight=weight, k=max(options.k), tol=options.tol
            )
            for k in options.k:
                first = leading(pairs, k)
                best = best_mse(first, scene)
                for name, known in scene.known.items():
                    row = Row(name, f"deepspec, {source}", plain_weight(weight), k, *[math.nan] * 4, best)
                    yield measured(scene, solve_alpha(first, known), row)


def features_of(image: NDArray[np.uint8], source: str, options: argparse.Namespace) -> Features | None:
    if source == "colors":
        return None
    return extract(image, SqueezeNet(options.weights) if source == "squeezenet" else source)


def leading(pairs: Eigenpairs, k: int) -> Eigenpairs:
    return replace(pairs, values=pairs.values[:k], vectors=pairs.vectors[:k], residuals=pairs.residuals[:k])


def best_mse(pairs: Eigenpairs, scene: Scene) -> float:
    """The MSE of the least squares fit to the truth itself."""
    inside = pairs.vectors[:, scene.unknown].T.astype(np.float64)
    truth = scene.truth[scene.unknown]
    nearest = inside @ np.linalg.lstsq(inside, truth, rcond=None)[0]
    return float(np.square(nearest.clip(0, 1) - truth).mean())


def measured(scene: Scene, alpha: Array, row: Row) -> Row:
    given = alpha, scene.truth, scene.unknown
    return replace(
        row,
        sad=matting_metrics.sum_of_absolute_differences(*given),
        mse=matting_metrics.mean_squared_error(*given),
        gradient=matting_metrics.gradient_error(*given),
        connectivity=matting_metrics.connectivity_error(*given),
    )


def table(rows: Sequence[Row]) -> str:
    knn = {row.known: row.mse for row in rows if row.method == "PyMatting KNN"}
    head = ["given", "method", "λ", "k", "SAD", "MSE", "÷ KNN's", "at best", "gradient", "connectivity"]
    lines = [
        [
            row.known,
            row.method,
            "–" if row.color_weight is None else str(row.color_weight),
            str(row.k or "–"),
            f"{row.sad / 1000:.3f}",
            f"{row.mse:.5f}",
            f"{row.mse / knn[row.known]:.2f}" if knn[row.known] else "–",
            "–" if row.best_mse is None else f"{row.best_mse:.5f}",
            f"{row.gradient / 1000:.3f}",
            f"{row.connectivity / 1000:.3f}",
        ]
        for row in sorted(rows, key=lambda row: list(knn).index(row.known))
    ]
    return markdown(head, lines)


def _resized(trimap: Known, size: tuple[int, int]) -> Known:
    """Known where all pixels that a new one covers are known alike."""
    parts = [
        _resampled((trimap.mask & (trimap.alpha == value)).astype(np.float32), size) == 1 for value in (0, 1)
    ]
    return Known(parts[0] | parts[1], parts[1].astype(np.float32))


def _resampled(array: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    resized = Image.fromarray(array).resize(size[::-1], Image.Resampling.BILINEAR)
    # Pillow's weights sum to 1 but for some 1e-7.
    return np.asarray(resized).round(5).clip(0, 1)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known = os.environ.get("DEEPSPEC_TEST_DATA")
    data = Path(known) if known else None
    lemur = data / "matting" / "lemur" if data else None
    for name, file in (("image", "lemur.png"), ("trimap", "lemur_trimap.png"), ("alpha", "lemur_alpha.png")):
        default = lemur / file if lemur else None
        parser.add_argument(f"--{name}", type=Path, required=default is None, default=default, metavar="FILE")
    weights = data / "squeezenet" / "squeezenet_v1.0.npz" if data else None
    parser.add_argument("--weights", type=Path, default=weights, metavar="FILE")
    parser.add_argument("--features", nargs="+", choices=FEATURES, default=list(FEATURES))
    parser.add_argument("--color-weight", type=float, nargs="+", default=[10.0, 1000.0], metavar="λ")
    parser.add_argument("--k", type=positive, nargs="+", default=[10, 25, 50, 100], metavar="K")
    parser.add_argument("--known", nargs="+", choices=("trimap", "strokes"), default=["trimap", "strokes"])
    parser.add_argument("--max-size", type=positive, metavar="PIXELS")
    parser.add_argument("--tol", type=float, default=1e-3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    if "squeezenet" in options.features and options.weights is None:
        parser.error("--features squeezenet needs --weights")
    return options


if __name__ == "__main__":
    main()

"""The `deepspec` command."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepspec import __version__, _core, features, images
from deepspec._files import replacing
from deepspec.decomposition import Decomposition, decompose
from deepspec.regions import Box, localize, segment_object, segment_regions
from deepspec.spectral import ConvergenceError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    0: all went well; 1: some inputs failed; 2: the call was wrong, and nothing was done.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.command == "info":
            return _info()
        _check(options)
        inputs = _find_inputs(options.inputs, options.output)
        _make_folder(options.output)
        return _run(inputs, options)
    except _UsageError as error:
        print(f"deepspec: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("deepspec: interrupted", file=sys.stderr)
        return 130


class _UsageError(Exception):
    """The call cannot work, whatever the images hold."""


@dataclass(frozen=True)
class _Input:
    """An image file, and its path within the folder that was given."""

    path: Path
    relative: Path

    def output(self, folder: Path, suffix: str) -> Path:
        return folder / self.relative.with_suffix(suffix)


@dataclass(frozen=True, eq=False)
class _Result:
    """What a command made of one image: a line for the screen, how to save it, and what to draw."""

    line: str
    save: Callable[[Path], None] | None = None
    box: Box | None = None
    mask: NDArray[np.bool_] | None = None
    labels: NDArray[np.int32] | None = None


def _eigenvectors(d: Decomposition, options: argparse.Namespace) -> _Result:
    values = ", ".join(f"{value:.4g}" for value in d.pairs.values)
    return _Result(f"eigenvalues {values}", d.save)


def _localize(d: Decomposition, options: argparse.Namespace) -> _Result:
    box = localize(d, foreground=options.foreground)
    return _Result(f"box {box.xmin} {box.ymin} {box.xmax} {box.ymax}, score {box.score:.2f}", box=box)


def _segment(d: Decomposition, options: argparse.Namespace) -> _Result:
    mask = segment_object(d, foreground=options.foreground)
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return _Result(f"object {mask.mean():.0%} of the image", _png_writer(picture), mask=mask)


def _regions(d: Decomposition, options: argparse.Namespace) -> _Result:
    labels = segment_regions(
        d, n_segments=options.n_segments, background=options.background, seed=options.seed
    )
    picture = Image.fromarray(labels.astype(np.uint8))
    picture.putpalette(images.palette().tobytes())
    line = f"{labels.max() + 1} segments, background {np.mean(labels == 0):.0%} of the image"
    return _Result(line, _png_writer(picture), labels=labels)


@dataclass(frozen=True)
class _Command:
    ask: Callable[[Decomposition, argparse.Namespace], _Result]
    help: str
    folder: str  # of the results below the output folder
    suffix: str
    min_k: int
    needs: str = ""


_COMMANDS = {
    "eigenvectors": _Command(
        _eigenvectors, "decompositions as DIR/eigenvectors/….npz", "eigenvectors", ".npz", min_k=1
    ),
    "localize": _Command(
        _localize, "a box for each image in DIR/boxes.json (COCO)", "boxes.json", "", min_k=2
    ),
    "segment": _Command(_segment, "object masks, 0 and 255, as DIR/masks/….png", "masks", ".png", min_k=2),
    "regions": _Command(
        _regions, "segments as DIR/labels/….png (VOC palette)", "labels", ".png", min_k=2, needs="cluster"
    ),
}
# What each extra of the package brings, by distribution.
_EXTRAS = {"cluster": "scikit-learn", "plots": "matplotlib"}
_MODULES = {"cluster": "sklearn", "plots": "matplotlib"}
_EXTENSIONS = frozenset(
    [
        ".avif",
        ".bmp",
        ".gif",
        ".jp2",
        ".jpeg",
        ".jpg",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    ]
)


def _check(options: argparse.Namespace) -> None:
    _default_threads()
    command = _COMMANDS[options.command]
    min_k = 3 if command.needs == "cluster" and options.n_segments == "auto" else command.min_k
    if options.k < min_k:
        raise _UsageError(f"--k must be at least {min_k} here, got {options.k}")
    for extra in filter(None, (command.needs, "plots" if options.plots else "")):
        if util.find_spec(_MODULES[extra]) is None:
            raise _UsageError(f"{_EXTRAS[extra]} is not installed: pip install 'deepspec[{extra}]'")


def _find_inputs(sources: Sequence[Path], output: Path) -> list[_Input]:
    """The image files named and those in the folders named, without our own results."""
    ours = [(output / folder).resolve() for folder in ("eigenvectors", "masks", "labels", "plots")]
    inputs: dict[Path, _Input] = {}
    for source in sources:
        if not source.is_dir():
            found = [_Input(source, Path(source.name))]
        else:
            files = sorted(path for path in source.rglob("*") if path.suffix.lower() in _EXTENSIONS)
            files = [path for path in files if not any(folder in path.resolve().parents for folder in ours)]
            if not files:
                raise _UsageError(f"no images in {source}: looked for {' '.join(sorted(_EXTENSIONS))}")
            found = [_Input(path, path.relative_to(source)) for path in files]
        for item in found:
            other = inputs.setdefault(item.output(output, ""), item)
            if other is not item:
                raise _UsageError(f"{other.path} and {item.path} would write the same results")
    return list(inputs.values())


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _UsageError(f"cannot make the output folder {folder}: {error.strerror}") from error


def _run(inputs: list[_Input], options: argparse.Namespace) -> int:
    coco: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": []}
    failed: dict[str, str] = {}
    for number, item in enumerate(inputs, start=1):
        try:
            d, result = _process(item, options)
        except (OSError, ValueError, MemoryError, ConvergenceError) as error:
            failed[str(item.path)] = _one_line(error, item.path)
            print(f"deepspec: {item.path}: {failed[str(item.path)]}", file=sys.stderr)
            continue
        if result.box is not None:
            _add_to_coco(coco, number, item, d, result.box)
        print(f"[{number}/{len(inputs)}] {item.path}: {result.line}", flush=True)
    where = options.output / _COMMANDS[options.command].folder
    if options.command == "localize":
        _save_json(coco | {"categories": [{"id": 1, "name": "object"}]}, where)
    _save_json(_record(inputs, failed, options), options.output / "run.json")
    done = len(inputs) - len(failed)
    print(f"{done} of {len(inputs)} images done with {options.features} features; results in {where}")
    if failed:
        print(f"deepspec: {len(failed)} of {len(inputs)} images failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _process(item: _Input, options: argparse.Namespace) -> tuple[Decomposition, _Result]:
    d = decompose(
        item.path,
        options.features,
        k=options.k,
        color_weight=options.color_weight,
        grid=options.grid,
        threads=options.threads,
    )
    command = _COMMANDS[options.command]
    result = command.ask(d, options)
    if result.save is not None:
        result.save(item.output(options.output / command.folder, command.suffix))
    if options.plots:
        from deepspec.plots import Row, save_page

        row = Row(item.relative.name, d, result.box, result.mask, result.labels)
        save_page([row], item.output(options.output / "plots", ".png"))
    return d, result


def _add_to_coco(
    coco: dict[str, list[dict[str, Any]]], number: int, item: _Input, d: Decomposition, box: Box
) -> None:
    height, width = d.image.shape[:2]
    coco["images"].append(
        {"id": number, "file_name": item.relative.as_posix(), "width": width, "height": height}
    )
    box_width, box_height = box.xmax - box.xmin, box.ymax - box.ymin
    coco["annotations"].append(
        {
            "id": number,
            "image_id": number,
            "category_id": 1,
            "bbox": [box.xmin, box.ymin, box_width, box_height],
            "area": box_width * box_height,
            "iscrowd": 0,
            "score": round(box.score, 6),
        }
    )


def _record(inputs: list[_Input], failed: dict[str, str], options: argparse.Namespace) -> dict[str, Any]:
    """What a run was: enough to do it again."""
    settings = {
        name: str(value) if isinstance(value, float) and math.isinf(value) else value
        for name, value in vars(options).items()
        if name not in ("command", "inputs", "output")
    }
    return {
        "command": options.command,
        "settings": settings,
        "versions": {
            "deepspec": __version__,
            "python": platform.python_version(),
            **{name: _version(name) for name in _CORE},
        },
        "inputs": [str(item.path) for item in inputs],
        "failed": failed,
    }


def _save_json(value: Any, path: Path) -> None:
    with replacing(path) as file:
        file.write((json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _png_writer(picture: Image.Image) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with replacing(path) as file:
            picture.save(file, format="png")

    return write


def _one_line(error: Exception, path: Path) -> str:
    """The message without the file's name, which is printed before it."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(message.removeprefix(f"{path}: ").split()) or type(error).__name__


_CORE = ("numpy", "scipy", "pillow")


def _version(distribution: str) -> str | None:
    """None where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _info() -> int:
    build = _core.build_info()
    asked = os.environ.get("DEEPSPEC_NUM_THREADS")
    lines = {
        "deepspec": __version__,
        "python": f"{platform.python_version()}, {platform.platform()}",
        "uses": ", ".join(f"{name} {_version(name)}" for name in _CORE),
        "native core": f"{build['compiler']}, {build['build']} build",
        "instruction set": build["instruction_set"],
        "threads": f"{_default_threads()}" + (" (DEEPSPEC_NUM_THREADS)" if asked else ""),
        "features": ", ".join(features.names()),
    }
    for extra, distribution in _EXTRAS.items():
        version = _version(distribution)
        state = (
            f"{distribution} {version}" if version else f"no {distribution}: pip install 'deepspec[{extra}]'"
        )
        lines[f"extra {extra}"] = state
    for name, value in lines.items():
        print(f"{name:<16} {value}")
    return 0


def _default_threads() -> int:
    try:
        return int(_core.default_threads())
    except ValueError as error:
        # DEEPSPEC_NUM_THREADS is not a number.
        raise _UsageError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deepspec",
        description="Take images apart by the eigenvectors of a graph of their features and colours.",
    )
    parser.add_argument("--version", action="version", version=f"deepspec {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in _COMMANDS.items():
        _add_options(commands.add_parser(name, help=command.help, description=f"Write {command.help}."), name)
    commands.add_parser("info", help="version, build, threads, and which extras are installed")
    return parser


def _add_options(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="FILE", help="image files, or folders of them"
    )
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="DIR", help="folder for the results"
    )
    parser.add_argument(
        "--features",
        default="classical",
        choices=features.names(),
        help="what to compare cells by (%(default)s)",
    )
    parser.add_argument(
        "--k",
        type=_whole(1),
        default=5,
        metavar="N",
        help="eigenvectors, the constant one included (%(default)s)",
    )
    parser.add_argument(
        "--color-weight",
        type=_color_weight,
        default=10.0,
        metavar="X",
        help="weight of the colours beside the features (%(default)s); inf: colours alone",
    )
    parser.add_argument(
        "--grid",
        type=_whole(1, "auto", "patch"),
        default="auto",
        metavar="PIXELS",
        help="size of a cell: auto (8 pixels where it fits), patch (the features' own) or a number (%(default)s)",
    )
    if command in ("localize", "segment"):
        parser.add_argument(
            "--foreground",
            choices=("smaller", "border"),
            default="smaller",
            help="the object is the smaller side, or the one that touches the border less, "
            "which suits classical features (%(default)s)",
        )
    if command == "regions":
        parser.add_argument(
            "--n-segments",
            type=_whole(1, "auto", most=256),
            default=15,
            metavar="N",
            help="how many, or auto: by the eigengap (%(default)s)",
        )
        parser.add_argument(
            "--background",
            choices=("border", "size"),
            default="border",
            help="segment 0 has most of the border, or is the largest (%(default)s)",
        )
        parser.add_argument("--seed", type=_whole(0), default=0, metavar="N", help="of k-means (%(default)s)")
    parser.add_argument("--threads", type=_whole(1), metavar="N", help="default: the cores available")
    parser.add_argument("--plots", action="store_true", help="also draw each result, as DIR/plots/….png")


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

"""What the command lines of the benchmarks share."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from problems import GRIDS, Grid


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def parse_grid(text: str) -> Grid:
    """`4096` or `64x64`."""
    if text.isdecimal() and int(text) in GRIDS:
        return GRIDS[int(text)]
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(map(str, GRIDS))} or HxW, got {text!r}")
    return int(height), int(width)


def check_files(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with an error, before hours of work, where the files of --json and --plot could not be written."""
    for path in (options.json, options.plot):
        if path and not path.parent.is_dir():
            parser.error(f"there is no folder for {path}")
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib (pip install deepspec[bench])")

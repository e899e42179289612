"""The command `deepspec matte`."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from deepspec.argument_groups import BACKBONE
from deepspec.inputs import Input
from deepspec.matting_plan import MattingPlan
from deepspec.matting_run import matte_images
from deepspec.pipeline import Run
from deepspec.terminal import finish_run, printable, report_run


def matte_photographs(options: argparse.Namespace) -> int:
    """Take photographs apart and say what was done."""
    from tqdm import tqdm

    if options.foreground != "border" and max(options.foreground) >= options.n_layers:
        raise ValueError(
            f"--foreground must name layers from 1 to {options.n_layers}, got {max(options.foreground) + 1}"
        )
    # disable=None: no bar where nobody watches.
    with tqdm(total=100, disable=None, leave=False, position=1, bar_format=_BAR) as bar:
        run = _start(options, bar)
        status = finish_run(run, options.verbose)
    if status is not None:
        return status
    colors_alone = run.settings["color_weight"] == "inf"
    features = "colours alone" if colors_alone else f"{options.features} features"
    page = options.output / "matte.html" if options.page else None
    report_run(run, features, page=page, verbose=options.verbose)
    return 1 if run.failed else 0


_BAR = "{desc}: {percentage:3.0f}%|{bar}|"


def _start(options: argparse.Namespace, bar: Any) -> Run:
    given = vars(options)

    def announce(item: Input, plan: MattingPlan) -> None:
        if options.verbose or plan.bytes > _LARGE or plan.eigenpairs.tile is not None:
            bar.write(f"{printable(item.path)}: {plan.line}")
            sys.stdout.flush()  # before the work, in a file too

    def progress(item: Input, stage: str, share: float) -> None:
        now = f"{printable(item.name)}, {stage}", round(100 * share)
        if not bar.disable and now != (bar.desc, bar.n):
            bar.desc, bar.n = now
            bar.refresh()

    return matte_images(
        options.inputs,
        options.output,
        options.features,
        backbone={name: given[name] for name in BACKBONE if given[name] is not None},
        max_size=None if options.max_size == "none" else options.max_size,
        announce=announce,
        progress=progress,
        **{name: given[name] for name in _OPTIONS},
    )


_LARGE = 2**30  # bytes
_OPTIONS = (
    *("n_layers", "n_eigenvectors", "color_weight", "affinity", "layering", "tol", "seed"),
    *(
        "foreground",
        "background",
        "trimap",
        "scribbles",
        "bits",
        "page",
        "overwrite",
        "max_memory",
        "threads",
    ),
)

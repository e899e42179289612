"""The command `deepspec train`."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import Any

from deepspec.outputs import OutputError
from deepspec.terminal import GO_ON, printable
from deepspec.training import DivergedError, Training, TrainingError, train


def train_network(options: argparse.Namespace) -> int:
    """Train, or go on with it, and tell what came of it."""
    from tqdm import tqdm

    given = {name: value for name, value in vars(options).items() if name != "command"}
    try:
        # disable=None: no bar where nobody watches.
        with tqdm(unit="step", disable=None, dynamic_ncols=True) as bar:
            done = train(**given, follow=partial(_show, bar, {}))
    except DivergedError as error:
        print(f"deepspec: error: {printable(error)}", file=sys.stderr)
        return 1
    except (TrainingError, OutputError, MemoryError) as error:
        print(f"deepspec: error: {printable(error)}; {GO_ON}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"deepspec: interrupted; {GO_ON}", file=sys.stderr)
        return 130
    if os.environ.get("RANK", "0") == "0":
        _report_training(done)
    return 0


def _show(bar: Any, shown: dict[str, float], record: dict[str, Any]) -> None:
    """Bring the bar to a step of a training; what was measured stays on it until it is measured again."""
    if bar.total is None:
        bar.reset(record["steps"])
        bar.initial = bar.n = record["step"] - 1  # of an earlier run
    shown.update({name: record[name] for name in ("loss", "miou") if name in record})
    if "pseudo_labels_miou" in record:
        shown["of the pseudo-labels"] = record["pseudo_labels_miou"]
    bar.set_postfix(shown, refresh=False)
    bar.update()


def _report_training(done: Training) -> None:
    print(
        f"{done.steps} steps on {done.n_images} images with {done.n_classes} labels, loss {done.loss:.4g}; "
        f"checkpoint and log in {printable(done.folder)}"
    )
    if done.miou is not None:
        of_labels = done.pseudo_labels_miou
        beside = "" if of_labels is None else f", of the pseudo-labels {of_labels:.1%}"
        on = f", on {done.n_truths} images" if done.n_truths else ""
        print(f"mIoU {done.miou:.1%}{beside}{on}")
    if done.unlabelled:
        print(
            f"deepspec: {len(done.unlabelled)} of {done.n_images + len(done.unlabelled)} images have no label map "
            f"and were left out, such as {printable(done.unlabelled[0])}",
            file=sys.stderr,
        )

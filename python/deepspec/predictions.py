"""A dataset of images → label maps, by a network that was trained on those of `semantics`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspec import checkpoints
from deepspec.class_names import read_names
from deepspec.dataset_run import DatasetRun, Progress, Segmentation
from deepspec.inputs import Input
from deepspec.label_maps import Found, LabelMaps
from deepspec.segmenters import Segmenter
from deepspec.training import load
from deepspec.training_folder import read_settings


def predict_dataset(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    *,
    device: str | None = None,
    panoptic: bool = False,
    names: str | os.PathLike[str] | None = None,
    engine: str = "local",
    address: str | None = None,
    jobs: int = 1,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Segmentation:
    """Label images by a network that `training.train` made from the label maps of `segment_dataset`.

    Parameters
    ----------
    checkpoint : path
        The folder of the training run.
    device : str, optional
        "cuda", "cpu", …; None: the best there is.
    inputs, output, panoptic, names, engine, address, jobs, threads, progress
        See `segment_dataset`, whose outputs these are, but for `grid/` and the sheets.

    Returns
    -------
    Segmentation

    Raises
    ------
    ImportError, OSError, ValueError
        As `segment_dataset` does, and where there is no such checkpoint.
    """
    labelled = None if names is None else read_names(names)
    run = DatasetRun(output, engine, address, jobs, threads, {"device": device}, progress)
    run.find(inputs, None)
    maps = PredictedMaps(run.root, Path(checkpoint).absolute(), device, run.output, panoptic, run.threads)
    run.check(maps)
    if labelled is not None:
        labelled.check(run.items, maps.n_classes)
    with run.opened():
        run.each(maps)
        run.finish(maps, maps.n_classes, labelled)
    return run.result(maps.n_classes, maps.settings)


class PredictedMaps(LabelMaps):
    """Of a network that `training` made.

    Raises
    ------
    OSError
        There is no checkpoint.
    ValueError
        There are no settings of a training beside it.
    """

    uses_network = True

    def __init__(
        self, root: Path, run: Path, device: str | None, output: Path, panoptic: bool, threads: int
    ) -> None:
        settings = read_settings(run)
        if settings is None:
            raise ValueError(f"{run} is not the folder of a training: it has no settings.json")
        own = {"checkpoint": checkpoints.digest(run / "checkpoint.pt")}
        super().__init__(root, own, None, output, panoptic, threads)
        self.n_classes = int(settings["n_classes"]) - 1  # besides the background
        self._run = run
        self._device = device

    def label(self, item: Input, image: NDArray[np.uint8]) -> Found:
        labels = _segmenter(self._run, self.key, self._device).predict(image)
        return Found(labels, np.zeros(0, np.int32))


@lru_cache(maxsize=1)
def _segmenter(run: Path, key: str, device: str | None) -> Segmenter:
    """`key` changes with the checkpoint."""
    return load(run, device=device)

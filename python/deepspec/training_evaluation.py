"""How near a network that is being trained, and the pseudo-labels it is trained on, come to the truth."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from deepspec import images
from deepspec.datasets import VOID
from deepspec.inputs import Input, find_images, listed_stems
from deepspec.metrics import ConfusionMatrix
from deepspec.training_data import LabelledImage, Labels, check_sizes, match


class Predictor(Protocol):
    def predict(self, image: NDArray[np.uint8]) -> NDArray[np.int32]: ...


class TruthScore:
    """mIoU on the images that have a ground truth, clusters matched to classes by the Hungarian method.

    Parameters
    ----------
    sources : path or several
        Image files, or folders of them.
    label_maps, truth : path
        Folders of PNGs of the images' relative paths; in the truth 255 does not count.
    names : path, optional
        A file of names, one a line, without folder and extension: the images that count, such as VOC's
        `ImageSets/Segmentation/val.txt`.
    limit : int, optional
        The first of these images alone.
    n_clusters : int
    without : sequence of Path
        Folders that are not searched for images.

    Attributes
    ----------
    n_images : int
    pseudo_labels_miou : float or None
        Of the label maps, over those of the images that have one; a pixel whose label is 255 does not count. None where
        no image has one.

    Raises
    ------
    OSError
        A file or folder cannot be read.
    ValueError
        No image has a truth, or one has another size than its image.
    """

    def __init__(
        self,
        sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        label_maps: str | os.PathLike[str],
        truth: str | os.PathLike[str],
        *,
        names: str | os.PathLike[str] | None = None,
        limit: int | None = None,
        n_clusters: int,
        without: Sequence[Path] = (),
    ) -> None:
        label_maps, truth = Path(label_maps), Path(truth)
        if not truth.is_dir():
            raise NotADirectoryError(f"{truth} is no folder of ground truth")
        found = find_images(sources, without=(*without, truth, label_maps))
        if names is not None:
            stems = set(listed_stems(names))
            found = [item for item in found if item.path.stem in stems]
        self._examples = match(found, truth)[0][:limit]
        if not self._examples:
            among = "" if names is None else f" that {names} names"
            raise ValueError(f"no image{among} has a ground truth in {truth}")
        for example in self._examples:
            check_sizes(example)
        self.n_images = len(self._examples)
        self._n_clusters = n_clusters
        truths = (images.read_labels(example.labels) for example in self._examples)
        largest = max(int(labels[labels != VOID].astype(int).max(initial=-1)) for labels in truths)
        if largest < 0:
            raise ValueError(f"the ground truth in {truth} is {VOID}, which does not count, everywhere")
        self._n_classes = largest + 1
        self.pseudo_labels_miou = self._score_label_maps(found, label_maps)

    def __call__(self, network: Predictor) -> float:
        """The network's mIoU, in [0, 1]."""
        labelled = (
            (str(example.labels), network.predict(image), truth)
            for example in self._examples
            for image, truth in [example.load()]
        )
        return ConfusionMatrix.of(labelled, self._n_classes, self._n_clusters).mean_iou()

    def _score_label_maps(self, found: Sequence[Input], label_maps: Path) -> float | None:
        maps = {example.name: example.labels for example in match(found, label_maps)[0]}
        labelled = [example for example in self._examples if example.name in maps]
        if not labelled:
            return None
        pairs = (_known(LabelledImage(one.name, one.labels, maps[one.name])) for one in labelled)
        return ConfusionMatrix.of(pairs, self._n_classes, self._n_clusters).mean_iou()


def _known(of_truth: LabelledImage) -> tuple[str, Labels, Labels]:
    """A label map and the truth, which does not count where there is no label."""
    check_sizes(of_truth)
    labels, truth = (images.read_labels(path) for path in (of_truth.labels, of_truth.image))
    truth[labels == VOID] = VOID
    return str(of_truth.labels), labels, truth

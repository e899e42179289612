"""What the classes that were found are called: by a person who looked at them, by points in images, or by the truth."""

from __future__ import annotations

import csv
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deepspec.datasets import read_class_names
from deepspec.images import read_labels
from deepspec.inputs import Input
from deepspec.metrics import ConfusionMatrix

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class Names:
    """What `read_names` found.

    Attributes
    ----------
    of_classes : mapping
        Names by id.
    points : mapping
        By image (its path within the folder given, with or without extension): (x, y, name) of pixels.
    truth : Path or None
        A folder with `labels/`, true label maps with the images' relative paths, and `classes.txt`.
    """

    of_classes: Mapping[int, str] = field(default_factory=dict)
    points: Mapping[str, Sequence[tuple[int, int, str]]] = field(default_factory=dict)
    truth: Path | None = None

    def check(self, inputs: Sequence[Input], n_clusters: int) -> None:
        """Tell before any work what `name` could not use.

        Parameters
        ----------
        inputs : sequence of Input
            All images of the run.
        n_clusters : int
            Besides the background.

        Raises
        ------
        ValueError
            A class that has a name, or an image with points, is not there, or no image has a true label map.
        """
        unknown = [label for label in self.of_classes if not 1 <= label <= n_clusters]
        if unknown:
            raise ValueError(f"names are of classes 1 to {n_clusters}, got one of class {unknown[0]}")
        missing = set(self.points).difference(*map(_image_names, inputs))
        if missing:
            raise ValueError(f"names are of images that are not in the run, such as {min(missing)}")
        if self.truth is not None and not any(_true_map(self.truth, item).exists() for item in inputs):
            raise ValueError(
                f"{self.truth / 'labels'} has no label map of an image of the run: expected are PNGs of their names"
            )

    def name(
        self, items: Iterable[Input], read: Callable[[Input], Labels], n_clusters: int
    ) -> dict[int, str]:
        """Names of clusters, those that have one.

        By points, a cluster has the name of most of the points in it, the first of equal ones; by true label maps, that of
        the class it is matched to (Hungarian where there are no more clusters than classes, else the class of largest IoU).

        Parameters
        ----------
        items : iterable of Input
            The images that have a label map; what is said of others does not count.
        read : callable
            The label map of an image.
        n_clusters : int
            Besides the background.

        Raises
        ------
        OSError
            A true label map is damaged.
        ValueError
            A point lies outside its image, or a true label map has another size than its image or a label without a name.
        """
        if self.truth is not None:
            return _of_truth(self.truth, items, read, n_clusters)
        return {**_of_points(self.points, items, read), **self.of_classes}


def read_names(path: str | os.PathLike[str]) -> Names:
    """Names of classes from a CSV file or a folder.

    Parameters
    ----------
    path : path
        A CSV file whose first line is `class,name`, for a person who looked at the classes' sheets; or
        `image,x,y,name`, for some pixels whose class is known, counted from 0 at the top left corner. Or a folder like
        the dataset "folder": with `labels/`, true label maps as PNGs with the images' relative paths (255: not known), and
        `classes.txt`, one name a line from label 0 on.

    Raises
    ------
    OSError
        It cannot be read.
    ValueError
        It is neither, or a class has two names.
    """
    path = Path(path)
    if path.is_dir():
        read_class_names(path / "classes.txt")
        return Names(truth=path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            head, *rows = [[cell.strip() for cell in row] for row in csv.reader(file) if row] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} must be a CSV file in UTF-8: {error}") from error
    if head not in (["class", "name"], ["image", "x", "y", "name"]):
        raise ValueError(f"{path} must begin with class,name or image,x,y,name, got {','.join(head)!r}")
    of_classes: list[tuple[int, str]] = []
    points: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    try:
        if head[0] == "class":
            of_classes = [(int(label), name) for label, name in rows]
        else:
            for image, x, y, name in rows:
                points[image].append((int(x), int(y), name))
    except ValueError as error:
        raise ValueError(f"{path}: each line must be {','.join(head)}: {error}") from error
    for label, count in Counter(label for label, _ in of_classes).items():
        if count > 1:
            raise ValueError(f"{path} must name a class once, got {count} names of class {label}")
    return Names(dict(of_classes), dict(points))


def _of_points(
    points: Mapping[str, Sequence[tuple[int, int, str]]],
    items: Iterable[Input],
    read: Callable[[Input], Labels],
) -> dict[int, str]:
    votes: dict[int, Counter[str]] = defaultdict(Counter)
    for item in items:
        found = [point for image in _image_names(item) for point in points.get(image, ())]
        labels = read(item) if found else np.zeros((0, 0), np.uint8)
        for x, y, name in found:
            if not (0 <= y < labels.shape[0] and 0 <= x < labels.shape[1]):
                raise ValueError(
                    f"{item.name} has {labels.shape[1]} x {labels.shape[0]} pixels, got the point ({x}, {y})"
                )
            votes[int(labels[y, x])][name] += 1
    votes.pop(0, None)
    return {label: names.most_common(1)[0][0] for label, names in sorted(votes.items())}


def _image_names(item: Input) -> dict[str, None]:
    """What a CSV file may call an image."""
    return dict.fromkeys([item.name, item.relative.with_suffix("").as_posix()])


def _of_truth(
    folder: Path, items: Iterable[Input], read: Callable[[Input], Labels], n_clusters: int
) -> dict[int, str]:
    names = read_class_names(folder / "classes.txt")
    labelled = (
        (f"{file}, of {item.path}", read(item), read_labels(file))
        for item in items
        if (file := _true_map(folder, item)).exists()
    )
    matrix = ConfusionMatrix.of(labelled, len(names), n_clusters + 1)
    classes = matrix.match("hungarian" if n_clusters < len(names) else "majority")
    return {label: names[classes[label]] for label in range(1, n_clusters + 1) if classes[label]}


def _true_map(folder: Path, item: Input) -> Path:
    return item.below(folder / "labels", ".png")

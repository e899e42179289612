"""Images with pseudo-labels, in batches that depend on the seed and the step alone."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepspec import images
from deepspec.datasets import VOID
from deepspec.inputs import Input, find_images, listed_stems

Pixels: TypeAlias = NDArray[np.uint8]  # (H, W, 3)
Labels: TypeAlias = NDArray[np.uint8]  # (H, W)
Batch: TypeAlias = "tuple[NDArray[np.uint8], NDArray[np.uint8]]"


@dataclass(frozen=True)
class LabelledImage:
    """An image, and the file of its labels, of the same size."""

    name: str
    image: Path
    labels: Path

    def load(self) -> tuple[Pixels, Labels]:
        return images.load(self.image), images.read_labels(self.labels)


@dataclass(frozen=True)
class TrainingData:
    """What a network is trained on.

    Attributes
    ----------
    examples : tuple of LabelledImage
    unlabelled : tuple of str
        Names of the images that have no label map.
    n_classes : int
        One more than the largest label.
    digest : str
        Of the names and the labels: what tells whether they are still the same.
    """

    examples: tuple[LabelledImage, ...]
    unlabelled: tuple[str, ...]
    n_classes: int
    digest: str


def load_training_data(
    label_maps: str | os.PathLike[str],
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    names: str | os.PathLike[str] | None = None,
    without: Sequence[Path] = (),
    workers: int = 4,
) -> TrainingData:
    """Images with the label maps of the same relative path, `LABEL_MAPS/<path without extension>.png`.

    Parameters
    ----------
    label_maps : path
        A folder of PNGs, 8-bit with a palette or gray: 0 is the background, 255 is not known.
    sources : path or several
        Image files, or folders of them.
    names : path, optional
        A file of names, one a line: the images among these that count, such as VOC's `trainaug.txt`.
    without : sequence of Path
        Folders that are not searched for images.
    workers : int
        Threads that read.

    Raises
    ------
    OSError
        A file or folder cannot be read.
    ValueError
        No image counts or has a label map, one has another size than its image, or there is one label alone.
    """
    folder = Path(label_maps)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder of label maps")
    found = find_images(sources, without=(*without, folder))
    if names is not None:
        stems = set(listed_stems(names))
        found = [item for item in found if item.path.stem in stems]
        if not found:
            raise ValueError(f"{names} names none of the images")
    examples, unlabelled = match(found, folder)
    if not examples:
        raise ValueError(
            f"none of the {len(found)} images has a label map in {folder}; {found[0].name} would need "
            f"{found[0].below(folder, '.png')}"
        )
    with ThreadPoolExecutor(workers) as pool:
        deque(pool.map(check_sizes, examples), maxlen=0)
        digests, maxima = zip(*pool.map(_look_through, examples), strict=True)
    largest = max(maxima)
    if largest == 0:
        raise ValueError(f"the label maps in {folder} hold label 0 alone: there is nothing to learn")
    return TrainingData(
        tuple(examples), tuple(unlabelled), largest + 1, hashlib.sha256(b"".join(digests)).hexdigest()[:16]
    )


def match(found: Iterable[Input], folder: Path) -> tuple[list[LabelledImage], list[str]]:
    """The images that have a file of labels in a folder, and the names of the others."""
    examples, others = [], []
    for item in found:
        labels = item.below(folder, ".png")
        if labels.exists():
            examples.append(LabelledImage(item.name, item.path, labels))
        else:
            others.append(item.name)
    return examples, others


def check_sizes(example: LabelledImage) -> None:
    """ValueError where an image and its labels differ in size; their headers tell."""
    of_image, of_labels = (images.size_of(path) for path in (example.image, example.labels))
    if of_image != of_labels:
        raise ValueError(
            f"labels must have their image's size, got {of_labels[0]} x {of_labels[1]} in {example.labels} and "
            f"{of_image[0]} x {of_image[1]} in {example.image}"
        )


def _look_through(example: LabelledImage) -> tuple[bytes, int]:
    """A digest of an image's name and labels, and the largest of these."""
    labels = images.read_labels(example.labels)
    name = f"{example.name}\0{labels.shape}\0".encode(errors="surrogateescape")
    return hashlib.sha256(name + labels.tobytes()).digest(), int(labels[labels != VOID].max(initial=0))


@dataclass(frozen=True)
class Sampling:
    """Which images a step takes, and how each is cut: a function of the seed, the step and the place in the batch.

    Attributes
    ----------
    batch_size : int
    crop : int
        Side of the square, in pixels.
    scales : (least, most)
        An image is scaled by a factor drawn evenly from this range before it is cut.
    seed : int
    fill : (3,) of 0 … 255
        The colour where a scaled image does not fill the square; its labels there are `VOID`.
    """

    batch_size: int
    crop: int = 224
    scales: tuple[float, float] = (0.5, 2.0)
    seed: int = 0
    fill: tuple[int, int, int] = (124, 116, 104)

    def draw(self, n_images: int, step: int) -> NDArray[np.int64]:
        """The images of a step, counted from 0, by their places in the batch.

        The steps go through all images in a random order, then through all in another one, and so on.
        """
        places = step * self.batch_size + np.arange(self.batch_size)
        epochs, offsets = places // n_images, places % n_images
        drawn = np.empty(self.batch_size, np.int64)
        for epoch in np.unique(epochs):
            order = np.random.default_rng([_ORDER, self.seed, int(epoch)]).permutation(n_images)
            drawn[epochs == epoch] = order[offsets[epochs == epoch]]
        return drawn

    def augment(self, image: Pixels, labels: Labels, step: int, place: int) -> tuple[Pixels, Labels]:
        """A square of an image and its labels, scaled at random, cut at random, every second one mirrored."""
        rng = np.random.default_rng([_AUGMENTATION, self.seed, step, place])
        factor = rng.uniform(*self.scales)
        scaled = [max(1, round(side * factor)) for side in labels.shape]
        seen = [min(self.crop, side) for side in scaled]
        start = [int(rng.integers(whole - part + 1)) for whole, part in zip(scaled, seen, strict=True)]
        # The part of the image that will be seen: the rest need not be resized.
        (top, bottom), (left, right) = (
            (first * side / whole, min(side, (first + part) * side / whole))
            for first, part, side, whole in zip(start, seen, labels.shape, scaled, strict=True)
        )
        square = np.full((self.crop, self.crop, 3), self.fill, np.uint8)
        ids = np.full((self.crop, self.crop), VOID, np.uint8)
        for array, target, filtering in (
            (image, square, Image.Resampling.BILINEAR),
            (labels, ids, Image.Resampling.NEAREST),
        ):
            part = Image.fromarray(array).resize((seen[1], seen[0]), filtering, (left, top, right, bottom))
            target[: seen[0], : seen[1]] = np.asarray(part)
        return (square[:, ::-1], ids[:, ::-1]) if rng.random() < 0.5 else (square, ids)


# Streams of random numbers that have nothing to do with one another.
_ORDER, _AUGMENTATION = 1, 2


def batches(
    examples: Sequence[LabelledImage], sampling: Sampling, steps: range, places: range, *, workers: int = 4
) -> Generator[Batch, None, None]:
    """The batches of these steps, or the part of each at these places, read ahead by threads.

    Yields
    ------
    images : (n, crop, crop, 3) uint8
    labels : (n, crop, crop) uint8

    Raises
    ------
    OSError
        An image cannot be read.
    """

    def read(step: int, place: int, index: int) -> tuple[Pixels, Labels]:
        return sampling.augment(*examples[index].load(), step, place)

    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[list[Future[tuple[Pixels, Labels]]]] = deque()
        try:
            for step in range(steps.start, steps.stop + _AHEAD):
                if step < steps.stop:
                    drawn = sampling.draw(len(examples), step)
                    ahead.append([pool.submit(read, step, place, int(drawn[place])) for place in places])
                if step >= steps.start + _AHEAD:
                    yield _together(ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


_AHEAD = 2  # steps


def _together(futures: Sequence[Future[tuple[Pixels, Labels]]]) -> Batch:
    pixels, labels = zip(*(future.result() for future in futures), strict=True)
    return np.stack(pixels), np.stack(labels)

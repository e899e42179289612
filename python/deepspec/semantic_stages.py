"""The stages of semantic segmentation (section 3.5): eigenvectors, segments, crops, and the label maps at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepspec import images
from deepspec.clustering import directions, kmeans
from deepspec.decomposition import Decomposition
from deepspec.decompositions import IMAGE_ERRORS, Decomposer, Result, timed
from deepspec.features import FeatureSource, embed_all, extract, named
from deepspec.inputs import Input
from deepspec.regions import Box, box_of_cells, number_of_segments, segment_vectors, upsample
from deepspec.stages import Arrays, ImageStage, Stage

Labels = NDArray[np.int32]
Scalar = TypeVar("Scalar", bound=np.generic)
Crop = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # a picture, and which of its pixels are the segment's

#: What of a crop its vector is of.
POOLS = ("crop", "segment")


@dataclass(frozen=True)
class Source:
    """Features by name, loaded where they are first used, or a callable that is there already.

    Attributes
    ----------
    features : str or callable
    options : mapping
        What a name takes besides.
    """

    features: FeatureSource
    options: Mapping[str, Any]

    def load(self) -> Any:
        return named(self.features, **self.options) if isinstance(self.features, str) else self.features


class Eigenvectors(Stage):
    """`vectors` (k − 1, h, w) without the constant one, `values` (k,), and `cell` in the image's pixels."""

    name = "eigenvectors"
    batch_size = 64  # decoded, solved and written beside each other
    uses_network = True

    def __init__(
        self, root: Path, source: Source, settings: Mapping[str, Any], graph: Mapping[str, Any], threads: int
    ) -> None:
        super().__init__(root, settings, threads=threads)
        self._features = source
        self._graph = dict(graph)

    def __call__(self, items: Sequence[Input]) -> list[Result]:
        decomposer = Decomposer(self._features.load(), self._graph, self._conclude, 1, self.threads)
        return list(decomposer.take_apart(items))

    def _conclude(
        self,
        item: Input,
        source: Mapping[str, int],
        d: Decomposition,
        *,
        threads: int,
        seconds: dict[str, float],
    ) -> Result:
        arrays: Arrays = {
            "vectors": d.pairs.vectors[1:],
            "values": d.pairs.values,
            "cell": np.array(d.cell),
        }
        with timed(seconds, "write"):
            self.save(item, source, arrays)
        return Result(item.path, item.name, "done", "", files=(self.path(item),), seconds=seconds)


class Segments(ImageStage):
    """`labels` (h, w), 0 the background, and `cell`: k-means over the eigenvectors' entries."""

    name = "segments"

    def compute(self, item: Input) -> Arrays:
        found = self.previous.load(item)
        own = self.settings[self.name]
        n = number_of_segments(found["values"], found["vectors"][0].size, own["n_segments"])
        labels = segment_vectors(found["vectors"], n, background=own["background"], seed=own["seed"])
        return {"labels": labels, "cell": found["cell"]}


class Crops(ImageStage):
    """`vectors` (n, C), of length 1, of the segments 1 … n, from crops of the image around them."""

    name = "crops"
    uses_network = True

    def __init__(
        self, root: Path, source: Source, settings: Mapping[str, Any], before: Stage, threads: int
    ) -> None:
        super().__init__(root, settings, before, threads)
        self._features = source

    def __call__(self, items: Sequence[Input]) -> list[Result]:
        if getattr(self._features.load(), "batch_size", 1) == 1:
            return super().__call__(items)
        return self._together(items)

    def compute(self, item: Input) -> Arrays:
        return {"vectors": self._embedded(self._crops(item))}

    def _together(self, items: Sequence[Input]) -> list[Result]:
        """The crops of all images go through the network together, those of one size in one batch."""
        try:
            crops = [self._crops(item) for item in items]
            vectors = self._embedded([part for of_image in crops for part in of_image])
        except IMAGE_ERRORS:
            # One by one, so that one image's error is not the others'.
            return super().__call__(items)
        starts = np.cumsum([0, *map(len, crops)])
        for item, start, stop in zip(items, starts[:-1], starts[1:], strict=True):
            self.save(item, self.previous.source(item), {"vectors": vectors[start:stop]})
        return [Result(item.path, item.name, "done", "", files=(self.path(item),)) for item in items]

    def _embedded(self, crops: Sequence[Crop]) -> NDArray[np.float32]:
        if not crops:
            return np.zeros((0, 0), np.float32)
        pictures, masks = zip(*crops, strict=True)
        whole = self.settings[self.name]["pool"] == "crop"
        return directions(embed_all(pictures, self._features.load(), None if whole else masks))

    def _crops(self, item: Input) -> list[Crop]:
        found, own = self.previous.load(item), self.settings[self.name]
        image = images.load(item.path)
        working = images.shrink(image, own["max_size"])
        scale = [now / then for now, then in zip(working.shape, image.shape, strict=True)][:2]
        cell = tuple(side * factor for side, factor in zip(found["cell"], scale, strict=True))
        least = getattr(self._features.load(), "unit", (8, 8))
        crops = []
        for mask in segment_masks(found["labels"]):
            box = box_of_cells(
                grown(mask, own["erode"], own["dilate"]), working.shape[:2], (cell[0], cell[1]), 1.0
            )
            inside = upsample(mask, working.shape[:2], (cell[0], cell[1]))
            crops.append((crop(working, box, least), crop(inside, box, least)))
        return crops


def segment_masks(labels: Labels) -> list[NDArray[np.bool_]]:
    """Of the segments 1, 2, …"""
    return [labels == label for label in range(1, int(labels.max()) + 1)]


def grown(mask: NDArray[np.bool_], erode: int, dilate: int) -> NDArray[np.bool_]:
    """A mask without its thin parts and with what is around it; what would vanish is not eroded.

    Beyond the grid's edge the mask goes on as it is there.
    """
    core = ndimage.binary_erosion(mask, iterations=erode, border_value=1) if erode else mask
    core = core if core.any() else mask
    return np.asarray(ndimage.binary_dilation(core, iterations=dilate) if dilate else core)


def crop(image: NDArray[Scalar], box: Box, least: tuple[int, int]) -> NDArray[Scalar]:
    """The box of an image (H, W, …), made at least (height, width) pixels large where the image is."""
    ranges = []
    for start, stop, side, length in (
        (box.ymin, box.ymax, image.shape[0], least[0]),
        (box.xmin, box.xmax, image.shape[1], least[1]),
    ):
        missing = max(0, length - (stop - start))
        start = max(0, min(start - missing // 2, side - (stop - start) - missing))
        ranges.append(slice(start, min(side, max(stop, start + length))))
    return image[ranges[0], ranges[1]]


class Patches(ImageStage):
    """Every cell of the features' grid a segment (Cluster-Patch): `labels`, `cell`, `vectors` (h·w, C)."""

    name = "patches"
    uses_network = True

    def __init__(self, root: Path, source: Source, settings: Mapping[str, Any], threads: int) -> None:
        super().__init__(root, settings, threads=threads)
        self._features = source

    def compute(self, item: Input) -> Arrays:
        image = images.load(item.path)
        working = images.shrink(image, self.settings[self.name]["max_size"])
        features = extract(working, self._features.load())
        rows, columns, channels = features.array.shape
        cell = [
            side * then / now
            for side, then, now in zip(features.cell, image.shape, working.shape, strict=False)
        ]
        return {
            "labels": np.arange(1, rows * columns + 1, dtype=np.int32).reshape(rows, columns),
            "cell": np.array(cell),
            "vectors": directions(features.array.reshape(-1, channels)),
        }


class FeatureSegments(ImageStage):
    """k-means over an image's own features (Cluster-Seg): `labels` from 1 on, `cell`, their mean `vectors`."""

    name = "feature-segments"

    def compute(self, item: Input) -> Arrays:
        found, own = self.previous.load(item), self.settings[self.name]
        segments = kmeans(found["vectors"], own["n_segments"], own["seed"])
        means = [found["vectors"][segments == label].mean(axis=0) for label in range(segments.max() + 1)]
        labels = (segments + 1).astype(np.int32).reshape(found["labels"].shape)
        return {
            "labels": labels,
            "cell": found["cell"],
            "vectors": directions(np.stack(means)),
        }

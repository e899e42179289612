"""The last stage of semantic segmentation: a label map for each image, and what pages and other tools say of it."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepspec import coco, images
from deepspec._files import replacing, write_json
from deepspec.class_pages import overlay_panels
from deepspec.class_statistics import count_classes
from deepspec.dataset_clusters import DatasetClusters, clusters_of
from deepspec.inputs import Input, fingerprint
from deepspec.outputs import read_record, writing_to
from deepspec.refine import refine_labels
from deepspec.regions import upsample
from deepspec.stages import Arrays, ImageStage, Stage

Labels = NDArray[np.int32]

#: Folders of what is written of each image.
PICTURES = ("labels", "grid", "panoptic")


@dataclass(frozen=True, eq=False)
class Found:
    """The classes of an image.

    Attributes
    ----------
    labels : (H, W) int32
    segments : (n,) int32
        Of its segments, where it has any.
    grid : (h, w) int32 or None
        Of the cells of its grid, where it has one.
    """

    labels: Labels
    segments: Labels
    grid: Labels | None = None


class LabelMaps(ImageStage):
    """`labels/<image>.png` with the image's size, what belongs to it, and a record, which is written last.

    The files have the places that users look for, so that another run's are replaced: the record tells whose they
    are, and which.

    Parameters
    ----------
    root, settings, before, threads
        As of any stage.
    output : Path
        The folder that `labels` is in.
    panoptic : bool
        Whether to write pictures of COCO's panoptic format, too.
    """

    name = "labels"

    def __init__(
        self,
        root: Path,
        settings: Mapping[str, Any],
        before: Stage | None,
        output: Path,
        panoptic: bool,
        threads: int,
    ) -> None:
        super().__init__(root, {**settings, "panoptic": panoptic}, before, threads)
        self.panoptic = panoptic
        self._output = output
        self.folder = root / self.name

    @abstractmethod
    def label(self, item: Input, image: NDArray[np.uint8]) -> Found:
        """The classes of an image's pixels."""

    def compute(self, item: Input) -> Arrays:
        image = images.load(item.path)
        found = self.label(item, image)
        arrays: Arrays = {"image": image, "labels": found.labels, "segments": found.segments}
        if found.grid is not None:
            arrays["grid"] = found.grid
        if self.panoptic:
            arrays["panoptic"] = coco.panoptic_picture(found.labels)
        return arrays

    def remove(self, item: Input) -> None:
        """Delete what an earlier run left of an image."""
        # The record first: it would tell of another run's files.
        with writing_to(self._output):
            for path in (self.path(item), *self._files(item).values()):
                path.unlink(missing_ok=True)

    def label_path(self, item: Input) -> Path:
        return self._files(item)["labels"]

    def path(self, item: Input) -> Path:
        return item.below(self.folder, ".json")

    def is_done(self, item: Input) -> bool:
        record = read_record(self.path(item))
        return (
            record is not None
            and record["key"] == self.key
            and record["source"] == fingerprint(item.path)
            and all((self._output / name).exists() for name in record["files"])
        )

    def record(self, item: Input) -> dict[str, Any]:
        """`panels` for the page, `coco`, and `counts` of the classes."""
        found: dict[str, Any] = json.loads(self.path(item).read_bytes())
        return found

    def save(self, item: Input, source: Any, arrays: Arrays) -> None:
        image, labels = arrays["image"], arrays["labels"]
        self.remove(item)
        files = {name: path for name, path in self._files(item).items() if name in arrays}
        for name, path in files.items():
            with writing_to(path), replacing(path) as file:
                if name == "panoptic":
                    Image.fromarray(arrays[name]).save(file, format="png")
                else:
                    images.write_labels(arrays[name], file)
        record: dict[str, Any] = {
            "key": self.key,
            "source": source,
            "files": [path.relative_to(self._output).as_posix() for path in files.values()],
            "panels": [vars(panel) for panel in overlay_panels(image, labels)],
            "counts": count_classes(labels, arrays["segments"]),
            "coco": coco.record(item.name, labels.shape, coco.stuff_annotations(labels)),
        }
        if self.panoptic:
            file_name = item.relative.with_suffix(".png").as_posix()
            record["panoptic"] = coco.panoptic_annotation(labels, file_name)
        with writing_to(self.path(item)):
            write_json(record, self.path(item), indent=None)

    def _files(self, item: Input) -> dict[str, Path]:
        """All that any run may write of an image, by the folder."""
        return {name: item.below(self._output / name, ".png") for name in PICTURES}


class ClusterMaps(LabelMaps):
    """Of segments and their clusters."""

    def __init__(
        self,
        root: Path,
        refine: str,
        before: Stage,
        clusters: DatasetClusters,
        output: Path,
        panoptic: bool,
        threads: int,
    ) -> None:
        own = {"refine": refine, "clusters": clusters.key}
        super().__init__(root, own, before, output, panoptic, threads)
        self.settings = {**clusters.settings, self.name: self.settings[self.name]}
        self._clusters = clusters.path
        self._refine = refine

    def label(self, item: Input, image: NDArray[np.uint8]) -> Found:
        found = self.previous.load(item, "labels", "cell")
        segments = clusters_of(self._clusters, item)
        grid = np.concatenate([np.zeros(1, np.int32), segments])[found["labels"]]
        labels = upsample(grid, image.shape[:2], tuple(found["cell"]))
        if self._refine != "none":
            # The CRF's work grows with the number of labels: those of the image suffice.
            present, numbered = np.unique(labels, return_inverse=True)
            numbered = numbered.reshape(labels.shape).astype(np.int32)
            labels = present[refine_labels(image, numbered, self._refine, threads=self.threads)]
        return Found(labels, segments, grid)

"""What a run of semantic segmentation writes about all images: the page, sheets of classes, COCO files, statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deepspec import coco, images
from deepspec._files import locked, replacing
from deepspec.class_pages import ClassSummary, LabelledEntry, crop_panel, write_class_pages
from deepspec.class_statistics import ClassStatistics, class_statistics, write_statistics
from deepspec.contact_sheets import write_contact_sheet
from deepspec.dataset_clusters import clusters_in
from deepspec.inputs import Input
from deepspec.label_maps import PICTURES, LabelMaps
from deepspec.outputs import LOCK, RECORDS, STAGES, is_filled, setting_text, write_run, writing_to
from deepspec.pictures import Panel
from deepspec.regions import box_of_cells
from deepspec.semantic_stages import crop
from deepspec.stages import Stage

Sheets = Mapping[int, Sequence[tuple[str, NDArray[np.uint8]]]]
_TYPICAL = 21  # segments on a class's sheet: the rows of the page are full


@dataclass(frozen=True)
class Summary:
    """A run, for those who read its files.

    Attributes
    ----------
    folder : Path
    items : sequence of Input
        The images that have label maps.
    maps : LabelMaps
    names : mapping
        Of some classes, by id.
    n_clusters : int
    inputs : sequence of Input
        All images, and
    failed : mapping
        the reasons, by path, of those that have none.
    """

    folder: Path
    items: Sequence[Input]
    maps: LabelMaps
    names: Mapping[int, str]
    n_clusters: int
    inputs: Sequence[Input]
    failed: Mapping[str, str]

    def records(self) -> Iterator[dict[str, Any]]:
        """Read one at a time."""
        return map(self.maps.record, self.items)


@contextmanager
def claimed(folder: Path, inputs: Sequence[Input]) -> Iterator[None]:
    """Keep other runs out of a folder, unless its label maps are none of ours, and note that one has begun.

    Raises
    ------
    BlockingIOError
        Another run holds it.
    OSError
        It cannot be written.
    ValueError
        It holds label maps of `deepspec regions`, or of nobody we know: they may be a dataset's true ones.
    """
    _check_folder(folder)
    with locked(folder / LOCK):
        # Whatever is written from here on is ours.
        (folder / STAGES).mkdir(exist_ok=True)
        write_run(folder, "semantic", inputs, {}, complete=False)
        yield


def write_outputs(summary: Summary, sheets: Sheets) -> list[ClassStatistics]:
    """Write everything about all images, and return the classes' statistics.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    folder, names = summary.folder, summary.names
    counts = (record["counts"] for record in summary.records())
    statistics = class_statistics(counts, summary.n_clusters, names)
    with writing_to(folder):
        write_statistics(statistics, folder / "classes.json")
        _write_sheets(folder / "classes", sheets, names)
        _write_coco(summary)
        _write_page(summary, statistics, sheets)
        write_run(
            folder,
            "semantic",
            summary.inputs,
            summary.failed,
            complete=True,
            settings=summary.maps.settings,
            classes={str(row.id): row.name for row in statistics},
        )
    return statistics


def typical_segments(
    clusters: Path, segments: Stage, items: Sequence[Input], most: int = _TYPICAL
) -> dict[int, list[tuple[str, NDArray[np.uint8]]]]:
    """Of each cluster the segments nearest to its centre, of an image one at most, the largest first.

    Parameters
    ----------
    clusters : Path
        The file of `DatasetClusters`.
    segments : Stage
        Whose files have `labels` and `cell`.
    items : sequence of Input
        All that are in the file.
    most : int
        Segments of a cluster.

    Returns
    -------
    dict
        By cluster: names of images, and crops.
    """
    places, arrays = clusters_in(clusters)
    by_place = {places[item.name]: item for item in items if item.name in places}
    owners = np.repeat(np.arange(len(arrays["starts"]) - 1), np.diff(arrays["starts"]))
    wanted: dict[int, list[tuple[int, int]]] = {}  # by image: cluster, segment
    for label in range(1, int(arrays["clusters"].max()) + 1):
        members = np.flatnonzero(arrays["clusters"] == label)
        nearest = members[np.argsort(arrays["distances"][members], kind="stable")]
        _, first = np.unique(owners[nearest], return_index=True)
        one_each = [row for row in nearest[np.sort(first)] if owners[row] in by_place]
        for row in one_each[:most]:
            segment = int(row - arrays["starts"][owners[row]]) + 1
            wanted.setdefault(int(owners[row]), []).append((label, segment))
    found: dict[int, list[tuple[float, str, NDArray[np.uint8]]]] = {}
    for place, parts in sorted(wanted.items()):
        item = by_place[place]
        grid = segments.load(item, "labels", "cell")
        image = images.load(item.path)
        for label, segment in parts:
            mask = grid["labels"] == segment
            picture = _around(image, mask, (float(grid["cell"][0]), float(grid["cell"][1])))
            found.setdefault(label, []).append((-float(mask.mean()), item.name, picture))
    return {
        label: [(name, picture) for _, name, picture in sorted(parts, key=lambda part: part[:2])]
        for label, parts in sorted(found.items())
    }


def _check_folder(folder: Path) -> None:
    if any((folder / RECORDS / "regions").rglob("*.json")):
        raise ValueError(f"{folder} holds label maps of regions: choose another folder")
    for name in PICTURES:
        if not (folder / STAGES).exists() and is_filled(folder / name):
            raise ValueError(
                f"{folder / name} holds files of no run of semantic: choose another folder, or move them"
            )


def _around(
    image: NDArray[np.uint8], mask: NDArray[np.bool_], cell: tuple[float, float]
) -> NDArray[np.uint8]:
    """A segment with a cell around it, small: a sheet shows many."""
    box = box_of_cells(np.asarray(ndimage.binary_dilation(mask)), image.shape[:2], cell, 1.0)
    # Not a view, which would keep the whole image.
    return np.array(images.shrink(crop(image, box, (64, 64)), 240))


def _write_sheets(folder: Path, sheets: Sheets, names: Mapping[int, str]) -> None:
    for label, crops in sheets.items():
        write_contact_sheet([picture for _, picture in crops], folder, label, name=names.get(label))
    for path in folder.glob("*.jpg"):
        if path.stem.isdecimal() and int(path.stem) not in sheets:
            path.unlink()


def _write_coco(summary: Summary) -> None:
    titles = {label: summary.names.get(label, f"class {label}") for label in range(1, summary.n_clusters + 1)}
    categories = coco.stuff_categories(titles)

    def records() -> Iterator[dict[str, Any]]:
        return (record["coco"] for record in summary.records())

    def panoptic() -> Iterator[dict[str, Any]]:
        return ({**record["coco"], "annotations": [record["panoptic"]]} for record in summary.records())

    with replacing(summary.folder / "stuff.json") as file:
        coco.write_dataset(file, records, categories)
    path = summary.folder / "panoptic.json"
    if summary.maps.panoptic:
        with replacing(path) as file:
            coco.write_dataset(file, panoptic, categories)
    else:
        path.unlink(missing_ok=True)  # of an earlier run


def _write_page(summary: Summary, statistics: Sequence[ClassStatistics], sheets: Sheets) -> None:
    classes = [
        ClassSummary(
            row.id,
            row.name,
            row.share,
            row.n_images,
            row.n_segments,
            [crop_panel(name, picture) for name, picture in sheets.get(row.id, ())],
        )
        for row in statistics[1:]
    ]
    write_class_pages(
        sorted(classes, key=lambda summary: -summary.share),
        (_entry(summary, item) for item in summary.items),
        summary.folder / "index.html",
        n_entries=len(summary.items),
        title="deepspec semantic",
        facts=_facts(summary.maps.settings),
        failures={
            item.name: summary.failed[str(item.path)]
            for item in summary.inputs
            if str(item.path) in summary.failed
        },
    )


def _facts(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Settings that say something to a reader; of those that several stages have, with the stage's name."""
    pairs = [
        (stage, name, value)
        for stage, own in settings.items()
        for name, value in own.items()
        if value is not None and value is not False and (stage, name) != ("labels", "clusters")
    ]
    times = Counter(name for _, name, _ in pairs)
    return {
        name if times[name] == 1 else f"{stage}: {name}": setting_text(value) for stage, name, value in pairs
    }


def _entry(summary: Summary, item: Input) -> LabelledEntry:
    record = summary.maps.record(item)
    total = sum(count for _, count in record["counts"]["pixels"])
    shares = [(label, count / total) for label, count in record["counts"]["pixels"] if label]
    return LabelledEntry(
        item.name,
        [Panel(**panel) for panel in record["panels"]],
        sorted(shares, key=lambda pair: (-pair[1], pair[0])),
        summary.maps.label_path(item).relative_to(summary.folder).as_posix(),
    )

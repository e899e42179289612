"""Public datasets in their official layouts, and folders of one's own: images and what is true of them, read lazily."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, overload
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepspec.checks import check_choice
from deepspec.images import read_labels
from deepspec.inputs import find_images, listed_stems

Mask = NDArray[np.bool_]
Labels = NDArray[np.uint8]

#: The label of pixels whose class is not known.
VOID = 255


@dataclass(frozen=True)
class TrueBox:
    """A box in pixels, half-open."""

    xmin: float
    ymin: float
    xmax: float
    ymax: float


@dataclass(frozen=True, eq=False)
class Example:
    """An image and what is true of it; files are read when they are asked for.

    Attributes
    ----------
    image : Path
    """

    image: Path
    _boxes: Callable[[], list[TrueBox]] | None = None
    _mask: Callable[[], tuple[Mask, Mask]] | None = None
    _labels: Callable[[], Labels] | None = None
    center_square: bool = False

    def boxes(self) -> list[TrueBox]:
        """The true boxes.

        Raises
        ------
        OSError
            The file is missing or damaged.
        ValueError
            The dataset has no boxes.
        """
        if self._boxes is None:
            raise ValueError(f"{self.image}: the dataset has no boxes")
        return self._boxes()

    def mask(self) -> tuple[Mask, Mask]:
        """The true foreground, and the pixels where the truth is known: (H, W) bool each.

        Where there are class labels and no masks, every class but 0 is foreground.

        Raises
        ------
        OSError
            The file is missing or damaged.
        ValueError
            The dataset has no masks.
        """
        if self._mask is not None:
            return self._mask()
        if self._labels is None:
            raise ValueError(f"{self.image}: the dataset has no masks")
        labels = self._labels()
        return (labels > 0) & (labels != VOID), labels != VOID

    def labels(self) -> Labels:
        """The true classes, (H, W) uint8: 0 is the background, 255 where the class is not known.

        Raises
        ------
        OSError
            The file is missing or damaged.
        ValueError
            The dataset has no class labels.
        """
        if self._labels is None:
            raise ValueError(f"{self.image}: the dataset has no class labels")
        return self._labels()


class Dataset(Sequence[Example]):
    """Examples in a fixed order.

    Attributes
    ----------
    name : str
    root : Path
    class_names : tuple of str, or None
        By label, the background's first; None where they are not known.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        examples: Sequence[Example],
        class_names: tuple[str, ...] | None = None,
    ) -> None:
        self.name = name
        self.root = root
        self.class_names = class_names
        self._examples = tuple(examples)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    def __getitem__(self, index: int | slice) -> Example | Dataset:
        if isinstance(index, slice):
            return Dataset(self.name, self.root, self._examples[index], self.class_names)
        return self._examples[index]

    def __len__(self) -> int:
        return len(self._examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self._examples)


@dataclass(frozen=True)
class _Kind:
    load: Callable[..., list[Example]]
    source: str  # where it is published
    splits: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()  # names its own folder may have below the root
    class_names: Callable[[Path], tuple[str, ...] | None] = lambda top: None


def load_dataset(
    name: str,
    root: str | Path,
    *,
    split: str | None = None,
    image_list: str | Path | None = None,
) -> Dataset:
    """Find a dataset's images and what is true of them. Nothing is downloaded.

    Parameters
    ----------
    name : str
        `"voc2007"` and `"voc2012"`: boxes by the detection lists, class labels, and masks of all classes together,
        by the segmentation lists; `"coco20k"`: boxes; `"cub"`: masks, to be compared within the central square;
        `"duts"` (DUTS-TE), `"omron"`, `"ecssd"`: masks; `"folder"`: `images/` with, of the same names, `masks/` or
        `labels/` (PNG with a palette, or gray: the values of its pixels are the classes, 255 is not known; names of
        classes, one a line from label 0 on, in `classes.txt`), or with `annotations.json` in COCO's format.
    root : path
        The dataset's folder, or the one above it.
    split : str, optional
        VOC: `"trainval"` (default), `"train"`, `"val"` of the detection lists; `"seg-train"`, `"seg-val"`,
        `"seg-trainval"` and `"seg-trainaug"` of the segmentation lists. CUB: `"test"` (default), `"train"`, `"all"`.
    image_list : path, optional
        A file of names, one in each line, that the dataset is cut down to, in its order. COCO-20k is what such a
        list, published with LOST, leaves of train2014.

    Raises
    ------
    OSError
        A file is missing; the message says which, and where the dataset is published.
    ValueError
        The name or split is unknown, the list names images that the dataset does not have, or classes have no names.
    """
    check_choice("dataset", name, DATASETS)
    kind = _KINDS[name]
    if split is not None:
        if split not in kind.splits:
            raise ValueError(
                f"split must be one of {', '.join(kind.splits) or 'none'} for {name}, got {split!r}"
            )
    elif kind.splits:
        split = kind.splits[0]
    top = _top(name, Path(root), kind)
    try:
        examples = kind.load(top, **({} if split is None else {"split": split}))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}: {error.filename or error} is missing; {kind.source}") from error
    if not examples:
        raise FileNotFoundError(f"{name}: no images in {top}; {kind.source}")
    if image_list is not None:
        examples = _cut_down(examples, Path(image_list))
    return Dataset(name, top, examples, kind.class_names(top))


def _top(name: str, root: Path, kind: _Kind) -> Path:
    if not root.is_dir():
        raise FileNotFoundError(f"{name}: {root} is not a folder; {kind.source}")
    for folder in kind.folders:
        if (root / folder).is_dir():
            return root / folder
    return root


def _cut_down(examples: Sequence[Example], image_list: Path) -> list[Example]:
    by_name = {example.image.stem: example for example in examples}
    stems = listed_stems(image_list)
    missing = [stem for stem in stems if stem not in by_name]
    if missing:
        raise ValueError(
            f"{image_list} names {len(missing)} images that the dataset does not have, such as {missing[0]}"
        )
    return [by_name[stem] for stem in stems]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(2, "missing", str(path))
    return path


# PASCAL VOC


def _voc(top: Path, split: str) -> list[Example]:
    folder = "Segmentation" if split.startswith("seg-") else "Main"
    names = (
        _existing(top / "ImageSets" / folder / f"{split.removeprefix('seg-')}.txt").read_text().split("\n")
    )
    # The detection lists of one class have a second column.
    stems = [line.split()[0] for line in names if line.strip()]
    _existing(top / "JPEGImages")
    return [
        Example(
            top / "JPEGImages" / f"{stem}.jpg",
            partial(_voc_boxes, top / "Annotations" / f"{stem}.xml"),
            None,
            partial(_voc_labels, top, stem),
        )
        for stem in stems
    ]


def _voc_boxes(path: Path) -> list[TrueBox]:
    """All objects, difficult and truncated ones too. VOC counts pixels from 1, and includes the last."""
    try:
        root = ElementTree.parse(path).getroot()
        sides = [
            [float(found.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")]
            for found in root.findall("object")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise OSError(f"{path} is not an annotation of VOC: {error}") from error
    return [TrueBox(xmin - 1, ymin - 1, xmax, ymax) for xmin, ymin, xmax, ymax in sides]


def _voc_labels(top: Path, stem: str) -> Labels:
    """SBD's where they were added."""
    folders = [top / name for name in ("SegmentationClassAug", "SegmentationClass")]
    path = next((folder / f"{stem}.png" for folder in folders if (folder / f"{stem}.png").exists()), None)
    return read_labels(_existing(folders[1] / f"{stem}.png") if path is None else path)


_VOC_CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
)


def _voc_class_names(top: Path) -> tuple[str, ...]:
    return tuple(_VOC_CLASSES.split())


# COCO


def _coco20k(top: Path) -> list[Example]:
    names = ("annotations/instances_train2014.json", "instances_train2014.json")
    annotations = next((top / name for name in names if (top / name).exists()), top / names[0])
    images = next((top / name for name in ("train2014", "images/train2014") if (top / name).is_dir()), top)
    return _coco(_existing(annotations), images)


def _coco(annotations: Path, images: Path) -> list[Example]:
    by_image = _coco_boxes(annotations)
    return [Example(images / name, partial(list, boxes)) for name, boxes in by_image.items()]


@cache
def _coco_boxes(path: Path) -> Mapping[str, list[TrueBox]]:
    """Boxes by file name, crowds left out."""
    try:
        content: Any = json.loads(path.read_text())
        boxes: dict[int, list[TrueBox]] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            if not annotation.get("iscrowd", 0):
                x, y, width, height = annotation["bbox"]
                boxes[annotation["image_id"]].append(TrueBox(x, y, x + width, y + height))
        return {image["file_name"]: boxes[image["id"]] for image in content["images"]}
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"{path} is not in COCO's format: {error!r}") from error


# Masks beside images


def _cub(top: Path, split: str) -> list[Example]:
    wanted = {"test": ("0",), "train": ("1",), "all": ("0", "1")}[split]
    files = dict(line.split() for line in _existing(top / "images.txt").read_text().splitlines() if line)
    is_train = dict(
        line.split() for line in _existing(top / "train_test_split.txt").read_text().splitlines() if line
    )
    masks = next(
        (p for p in (top / "segmentations", top.parent / "segmentations") if p.is_dir()),
        top / "segmentations",
    )
    _existing(masks)
    return [
        Example(
            top / "images" / file,
            None,
            partial(_half, (masks / file).with_suffix(".png")),
            center_square=True,
        )
        for number, file in files.items()
        if is_train.get(number) in wanted
    ]


def _beside(top: Path, images: str, masks: str) -> list[Example]:
    _existing(top / masks)
    found = find_images([_existing(top / images)])
    return [
        Example(item.path, None, partial(_half, (top / masks / item.relative).with_suffix(".png")))
        for item in found
    ]


def _folder(top: Path) -> list[Example]:
    images, labels, annotations = top / "images", top / "labels", top / "annotations.json"
    if annotations.exists():
        examples = _coco(annotations, _existing(images))
    elif labels.is_dir() and not (top / "masks").is_dir():
        examples = [Example(item.path) for item in find_images([_existing(images)])]
    else:
        examples = _beside(top, "images", "masks")
    if not labels.is_dir():
        return examples
    files = [(labels / example.image.relative_to(images)).with_suffix(".png") for example in examples]
    return [
        replace(example, _labels=partial(read_labels, file))
        for example, file in zip(examples, files, strict=True)
    ]


def _folder_class_names(top: Path) -> tuple[str, ...] | None:
    file = top / "classes.txt"
    return read_class_names(file) if file.exists() else None


def read_class_names(file: Path) -> tuple[str, ...]:
    """Names of classes, one a line, the first of label 0.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not UTF-8, a line is empty, or there are more names than labels.
    """
    try:
        names = tuple(line.strip() for line in file.read_text("utf-8").rstrip().splitlines())
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} must be UTF-8: {error}") from error
    if not 1 <= len(names) <= VOID or not all(names):
        raise ValueError(f"{file} must have a name in each of 1 to {VOID} lines, the first of label 0")
    return names


def read_mask(path: Path) -> Mask:
    """Foreground, (H, W) bool: where a gray picture is above one half. OSError where it cannot be read."""
    try:
        with Image.open(path) as file:
            return np.asarray(file.convert("L"), np.uint8) > 127
    except (OSError, ValueError, SyntaxError) as error:
        raise OSError(f"{path} cannot be read as a mask: {error}") from error


def _half(path: Path) -> tuple[Mask, Mask]:
    mask = read_mask(path)
    return mask, np.ones_like(mask)


_VOC = "PASCAL VOC is published at http://host.robots.ox.ac.uk/pascal/VOC/"
_VOC_SPLITS = ("trainval", "train", "val", "seg-train", "seg-val", "seg-trainval", "seg-trainaug")
_KINDS = {
    "voc2007": _Kind(_voc, _VOC, _VOC_SPLITS, ("VOCdevkit/VOC2007", "VOC2007"), _voc_class_names),
    "voc2012": _Kind(_voc, _VOC, _VOC_SPLITS, ("VOCdevkit/VOC2012", "VOC2012"), _voc_class_names),
    "coco20k": _Kind(
        _coco20k, "COCO's train2014 is published at https://cocodataset.org", (), ("COCO", "coco")
    ),
    "cub": _Kind(
        _cub,
        "CUB-200-2011 and its segmentations are published at https://www.vision.caltech.edu/datasets/cub_200_2011/",
        ("test", "train", "all"),
        ("CUB_200_2011",),
    ),
    "duts": _Kind(
        partial(_beside, images="DUTS-TE-Image", masks="DUTS-TE-Mask"),
        "DUTS is published at http://saliencydetection.net/duts/",
        (),
        ("DUTS-TE", "DUTS/DUTS-TE"),
    ),
    "omron": _Kind(
        partial(_beside, images="DUT-OMRON-image", masks="pixelwiseGT-new-PNG"),
        "DUT-OMRON is published at http://saliencydetection.net/dut-omron/",
        (),
        ("DUT-OMRON",),
    ),
    "ecssd": _Kind(
        partial(_beside, images="images", masks="ground_truth_mask"),
        "ECSSD is published at https://www.cse.cuhk.edu.hk/leojia/projects/hsaliency/dataset.html",
        (),
        ("ECSSD",),
    ),
    "folder": _Kind(
        _folder,
        "expected are images/ with masks/ or labels/ beside it, or with annotations.json",
        class_names=_folder_class_names,
    ),
}

#: Names that `load_dataset` knows.
DATASETS = tuple(_KINDS)

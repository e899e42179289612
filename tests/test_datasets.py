from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deepspec import images
from deepspec.datasets import TrueBox, load_dataset

VOC_XML = """<annotation>
<object><name>dog</name><difficult>1</difficult><bndbox>
<xmin>2</xmin><ymin>1</ymin><xmax>5</xmax><ymax>4</ymax></bndbox></object>
<object><name>cat</name><truncated>1</truncated><part><name>head</name><bndbox>
<xmin>9</xmin><ymin>9</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part><bndbox>
<xmin>1</xmin><ymin>1</ymin><xmax>1.5</xmax><ymax>2</ymax></bndbox></object>
</annotation>"""


def write_image(path: Path, array: Any = ((0,),)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(array, np.uint8))
    image.save(path)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    top = tmp_path / "VOCdevkit" / "VOC2012"
    for stem in ("b", "a", "c"):
        write_image(top / "JPEGImages" / f"{stem}.jpg")
    write_text(top / "ImageSets" / "Main" / "trainval.txt", "b  1\na -1\n\n")
    write_text(top / "ImageSets" / "Segmentation" / "val.txt", "c\n")
    write_text(top / "Annotations" / "b.xml", VOC_XML)
    write_text(top / "Annotations" / "a.xml", "<annotation></annotation>")
    write_image(top / "SegmentationClass" / "c.png", [[0, 3, 255], [20, 0, 255]])
    return tmp_path


def test_voc_boxes_are_half_open_and_count_every_object(voc: Path) -> None:
    for root in (voc, voc / "VOCdevkit" / "VOC2012"):
        dataset = load_dataset("voc2012", root)
        assert [example.image.name for example in dataset] == ["b.jpg", "a.jpg"]
        assert dataset[0].boxes() == [TrueBox(1, 0, 5, 4), TrueBox(0, 0, 1.5, 2)]
        assert dataset[1].boxes() == []


def test_voc_masks_join_the_classes_and_leave_void_out(voc: Path) -> None:
    (example,) = load_dataset("voc2012", voc, split="seg-val")
    mask, valid = example.mask()
    np.testing.assert_array_equal(mask, [[False, True, False], [True, False, False]])
    np.testing.assert_array_equal(valid, [[True, True, False], [True, True, False]])
    # SBD's come first where they were added.
    write_image(voc / "VOCdevkit" / "VOC2012" / "SegmentationClassAug" / "c.png", [[1]])
    assert example.mask()[0].tolist() == [[True]]


def test_voc_labels_are_the_indices_of_the_palette(voc: Path) -> None:
    top = voc / "VOCdevkit" / "VOC2012"
    dataset = load_dataset("voc2012", voc, split="seg-val")
    write_palette(top / "SegmentationClass" / "c.png", [[0, 3, 255], [20, 0, 255]])
    labels = dataset[0].labels()
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 3, 255], [20, 0, 255]]
    # SBD's come first where they were added.
    write_palette(top / "SegmentationClassAug" / "c.png", [[1]])
    assert dataset[0].labels().tolist() == [[1]]
    assert dataset.class_names is not None
    assert len(dataset.class_names) == 21
    assert [dataset.class_names[i] for i in (0, 1, 15, 20)] == [
        "background",
        "aeroplane",
        "person",
        "tvmonitor",
    ]
    assert dataset[:1].class_names == dataset.class_names


def write_palette(path: Path, labels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        images.write_labels(np.asarray(labels), file)


def coco(images: list[str], annotations: list[tuple[int, list[float], int]]) -> str:
    return json.dumps(
        {
            "images": [{"id": i, "file_name": name} for i, name in enumerate(images)],
            "annotations": [
                {"image_id": image, "bbox": bbox, "iscrowd": crowd} for image, bbox, crowd in annotations
            ],
        }
    )


def test_coco20k_is_a_list_of_train2014_without_crowds(tmp_path: Path) -> None:
    boxes = [(0, [1, 2, 3, 4], 0), (0, [0, 0, 9, 9], 1), (2, [0.5, 0, 1, 1], 0)]
    write_text(
        tmp_path / "annotations" / "instances_train2014.json", coco(["x.jpg", "y.jpg", "z.jpg"], boxes)
    )
    (tmp_path / "train2014").mkdir()
    write_text(tmp_path / "list.txt", "train2014/z.jpg\nx.jpg\n")
    dataset = load_dataset("coco20k", tmp_path, image_list=tmp_path / "list.txt")
    assert [example.image for example in dataset] == [
        tmp_path / "train2014" / name for name in ("z.jpg", "x.jpg")
    ]
    assert dataset[0].boxes() == [TrueBox(0.5, 0, 1.5, 1)]
    assert dataset[1].boxes() == [TrueBox(1, 2, 4, 6)]
    write_text(tmp_path / "list.txt", "x.jpg\nq.jpg\n")
    with pytest.raises(ValueError, match=r"1 images that the dataset does not have, such as q"):
        load_dataset("coco20k", tmp_path, image_list=tmp_path / "list.txt")


def test_cub_has_splits_and_a_central_square(tmp_path: Path) -> None:
    top = tmp_path / "CUB_200_2011"
    write_text(top / "images.txt", "1 001.A/a.jpg\n2 001.A/b.jpg\n")
    write_text(top / "train_test_split.txt", "1 1\n2 0\n")
    write_image(tmp_path / "segmentations" / "001.A" / "b.png", [[0, 127, 128, 255]])
    (example,) = load_dataset("cub", tmp_path)
    assert example.image == top / "images" / "001.A" / "b.jpg"
    assert example.center_square
    assert example.mask()[0].tolist() == [[False, False, True, True]]
    assert [e.image.name for e in load_dataset("cub", tmp_path, split="all")] == ["a.jpg", "b.jpg"]
    assert [e.image.name for e in load_dataset("cub", tmp_path, split="train")] == ["a.jpg"]


@pytest.mark.parametrize(
    ("name", "folder", "images", "masks"),
    [
        ("duts", "DUTS-TE", "DUTS-TE-Image", "DUTS-TE-Mask"),
        ("omron", "DUT-OMRON", "DUT-OMRON-image", "pixelwiseGT-new-PNG"),
        ("ecssd", "ECSSD", "images", "ground_truth_mask"),
        ("folder", "mine", "images", "masks"),
    ],
)
def test_masks_beside_images(tmp_path: Path, name: str, folder: str, images: str, masks: str) -> None:
    for stem in ("2", "1"):
        write_image(tmp_path / folder / images / f"{stem}.jpg")
        write_image(tmp_path / folder / masks / f"{stem}.png", [[255 * (stem == "1")]])
    dataset = load_dataset(name, tmp_path / folder)
    assert [example.image.stem for example in dataset] == ["1", "2"]
    assert [example.mask()[0].item() for example in dataset] == [True, False]
    assert len(dataset[:1]) == 1
    with pytest.raises(ValueError, match="no boxes"):
        dataset[0].boxes()
    if name != "folder":
        assert len(load_dataset(name, tmp_path)) == 2


@pytest.mark.parametrize("beside", ["labels", "masks and labels", "annotations and labels"])
def test_a_folder_may_have_class_labels(tmp_path: Path, beside: str) -> None:
    write_image(tmp_path / "images" / "sub" / "a.jpg")
    write_image(tmp_path / "images" / "b.jpg")
    write_palette(tmp_path / "labels" / "sub" / "a.png", [[0, 2, 255]])
    write_image(tmp_path / "labels" / "b.png", [[1, 0, 0]])  # gray
    if beside.startswith("masks"):
        for name in ("sub/a", "b"):
            write_image(tmp_path / "masks" / f"{name}.png", [[255, 0, 0]])
    elif beside.startswith("annotations"):
        write_text(tmp_path / "annotations.json", coco(["b.jpg", "sub/a.jpg"], []))
    dataset = load_dataset("folder", tmp_path)
    assert [example.image.name for example in dataset] == ["b.jpg", "a.jpg"]
    assert [example.labels().tolist() for example in dataset] == [[[1, 0, 0]], [[0, 2, 255]]]
    # Where there are no masks, they follow from the labels.
    mask, valid = dataset[1].mask()
    if beside.startswith("masks"):
        assert (mask.tolist(), valid.tolist()) == ([[True, False, False]], [[True, True, True]])
    else:
        assert (mask.tolist(), valid.tolist()) == ([[False, True, False]], [[True, True, False]])
    assert dataset.class_names is None
    write_text(tmp_path / "classes.txt", "nothing\npotted plant\nsofa\n")
    assert load_dataset("folder", tmp_path).class_names == ("nothing", "potted plant", "sofa")
    for wrong in ("", "a\n\nb\n", "a\n" * 256):
        write_text(tmp_path / "classes.txt", wrong)
        with pytest.raises(ValueError, match=r"classes\.txt must have a name in each of 1 to 255 lines"):
            load_dataset("folder", tmp_path)


def test_labels_that_are_not_there_or_no_labels_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.jpg")
    write_image(tmp_path / "masks" / "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg: the dataset has no class labels"):
        load_dataset("folder", tmp_path)[0].labels()
    write_image(tmp_path / "labels" / "a.png", np.zeros((2, 2, 3)))
    with pytest.raises(
        ValueError, match=r"labels/a\.png: labels must be 8-bit palette or gray, got an image of mode RGB"
    ):
        load_dataset("folder", tmp_path)[0].labels()


def test_a_folder_may_have_cocos_boxes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write_text(tmp_path / "annotations.json", coco(["a.png"], [(0, [0, 0, 2, 2], 0)]))
    (example,) = load_dataset("folder", tmp_path)
    assert example.boxes() == [TrueBox(0, 0, 2, 2)]
    with pytest.raises(ValueError, match="no masks"):
        example.mask()


@pytest.mark.parametrize(
    ("name", "missing", "published"),
    [
        ("voc2007", "ImageSets/Main/trainval.txt", "robots.ox.ac.uk"),
        ("coco20k", "annotations/instances_train2014.json", "cocodataset.org"),
        ("cub", "images.txt", "vision.caltech.edu"),
        ("duts", "DUTS-TE-Mask", "saliencydetection.net/duts"),
        ("omron", "pixelwiseGT-new-PNG", "dut-omron"),
        ("ecssd", "ground_truth_mask", "ECSSD|hsaliency"),
        ("folder", "masks", "annotations.json"),
    ],
)
def test_what_is_missing_is_named_with_its_source(
    tmp_path: Path, name: str, missing: str, published: str
) -> None:
    with pytest.raises(FileNotFoundError, match=rf"{name}: .*{missing} is missing; .*({published})"):
        load_dataset(name, tmp_path)
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        load_dataset(name, tmp_path / "nowhere")


def test_unknown_names_are_named(voc: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset must be one of .*'ecssd'.* got 'imagenet'"):
        load_dataset("imagenet", voc)
    with pytest.raises(ValueError, match=r"split must be one of trainval, .* for voc2012, got 'test'"):
        load_dataset("voc2012", voc, split="test")
    with pytest.raises(ValueError, match="split must be one of none for ecssd, got 'test'"):
        load_dataset("ecssd", voc, split="test")


def test_damaged_truth_is_named(voc: Path) -> None:
    top = voc / "VOCdevkit" / "VOC2012"
    write_text(top / "Annotations" / "b.xml", "<annotation><object></annotation>")
    write_text(top / "SegmentationClass" / "c.png", "no picture")
    with pytest.raises(OSError, match=r"b\.xml is not an annotation of VOC"):
        load_dataset("voc2012", voc)[0].boxes()
    with pytest.raises(OSError, match=r"c\.png: not a readable image: it looks like text"):
        load_dataset("voc2012", voc, split="seg-val")[0].mask()
    (top / "SegmentationClass" / "c.png").unlink()
    with pytest.raises(FileNotFoundError):
        load_dataset("voc2012", voc, split="seg-val")[0].mask()
    write_text(voc / "annotations.json", "{}")
    (voc / "images").mkdir()
    with pytest.raises(OSError, match=r"annotations\.json is not in COCO's format"):
        load_dataset("folder", voc)

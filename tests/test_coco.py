from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as oracle
from pycocotools.coco import COCO

from deepspec import coco
from deepspec.regions import Box

# Its decoder passes an argument on that numpy 2 renamed.
decodes_with_pycocotools = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Its columns, one after the other: 0 0, 1 1, 1 0.
BY_HAND = np.array([[0, 1, 1], [0, 1, 0]], bool)

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))
# Few changes, so that runs need several characters and become shorter as well as longer.
blocks = st.builds(
    lambda cells, height, width: np.kron(cells, np.ones((height, width), bool)),
    arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=5)),
    st.integers(1, 90),
    st.integers(1, 90),
)


def written(records: Sequence[coco.Json], categories: Sequence[coco.Json] | None = None) -> coco.Json:
    """What is read back of a dataset's file."""
    file = io.BytesIO()
    coco.write_dataset(file, lambda: iter(records), categories)
    joined: coco.Json = json.loads(file.getvalue())
    return joined


def test_a_mask_by_hand() -> None:
    # Runs of 2, 3 and 1; "0" stands for 0.
    assert coco.encode_rle(BY_HAND) == {"size": [2, 3], "counts": "231"}
    # The first pixel is in the mask: a first run of 0; and the last number is 1 − 2 = −1, all 5 bits of it.
    assert coco.encode_rle(~BY_HAND) == {"size": [2, 3], "counts": "023" + chr(48 + 31)}
    for counts in ("231", b"231", [2, 3, 1]):
        np.testing.assert_array_equal(coco.decode_rle({"size": [2, 3], "counts": counts}), BY_HAND)


@pytest.mark.parametrize(
    ("mask", "counts"),
    [
        (np.zeros((1, 1), bool), "1"),
        (np.ones((1, 1), bool), "01"),
        (np.zeros((3, 5), bool), "?"),
        (np.ones((3, 5), bool), "0?"),
        # 16 does not fit into one character: its highest bit would be a sign.
        (np.zeros((4, 4), bool), chr(48 + 0x20 + 16) + "0"),
    ],
)
def test_empty_full_and_one_pixel(mask: np.ndarray, counts: str) -> None:
    rle = coco.encode_rle(mask)
    assert rle == {"size": list(mask.shape), "counts": counts}
    np.testing.assert_array_equal(coco.decode_rle(rle), mask)


@decodes_with_pycocotools
@given(masks | blocks)
def test_run_lengths_are_pycocotools_bit_for_bit(mask: np.ndarray) -> None:
    rle = coco.encode_rle(mask)
    expected = oracle.encode(np.asfortranarray(mask, np.uint8))
    assert rle == {"size": list(expected["size"]), "counts": expected["counts"].decode()}
    np.testing.assert_array_equal(oracle.decode(rle), mask)
    found = coco.decode_rle(rle)
    assert found.dtype == bool
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, mask)
    runs = np.diff(
        np.flatnonzero(np.diff(mask.ravel("F"), prepend=False, append=not mask[-1, -1])), prepend=0
    )
    np.testing.assert_array_equal(coco.decode_rle({"size": list(mask.shape), "counts": runs.tolist()}), mask)


def test_any_memory_layout() -> None:
    mask = np.random.default_rng(0).random((40, 60)) < 0.5
    expected = coco.encode_rle(mask.copy())
    assert coco.encode_rle(np.asfortranarray(mask)) == expected
    assert coco.encode_rle(np.repeat(mask, 2, axis=1)[:, ::2]) == expected


@pytest.mark.parametrize("mask", [np.zeros((2, 3), np.uint8), np.zeros(4, bool), np.zeros((0, 3), bool)])
def test_what_is_no_mask_is_refused(mask: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must be \(H, W\) bool with at least one pixel, got \("):
        coco.encode_rle(mask)
    with pytest.raises(ValueError, match=r"must be \(H, W\) bool"):
        coco.mask_annotation(mask, 0.5)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("23", "add up to 2 x 3 pixels, got the sum 5"),
        ([2, 3, 2], "got the sum 7"),
        ([7, -1], "the smallest -1"),
        ([], "got the sum 0"),
        ("", "compressed run lengths, got ''"),
        ("23\x7f", "compressed run lengths"),
        ("23 ", "compressed run lengths"),
        ("23é", "compressed run lengths"),
        ("23" + "\ud800", "compressed run lengths"),
        ("23Q", "compressed run lengths"),
        ("P" * 10 + "1", "up to 35 bits"),
    ],
)
def test_broken_run_lengths_are_refused(counts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        coco.decode_rle({"size": [2, 3], "counts": counts})


def test_annotations_by_hand() -> None:
    assert coco.box_annotation(Box(2, 3, 12, 8, 0.12345678)) == {
        "category_id": 1,
        "bbox": [2, 3, 10, 5],
        "area": 50,
        "iscrowd": 0,
        "score": 0.123457,
    }
    assert coco.mask_annotation(BY_HAND, np.float32(0.5)) == {
        "segmentation": {"size": [2, 3], "counts": "231"},
        "category_id": 1,
        "bbox": [1, 0, 2, 2],
        "area": 3,
        "iscrowd": 0,
        "score": 0.5,
    }
    assert coco.mask_annotation(~BY_HAND, 1)["bbox"] == [0, 0, 3, 2]
    assert coco.mask_annotation(np.zeros((4, 4), bool), 0.5) is None


def test_records_are_numbered_in_their_order() -> None:
    box = coco.box_annotation(Box(0, 0, 2, 2, 1.0))
    records = [
        coco.record("b/ä.png", (2, 3), [box, box]),
        coco.record("a.png", (20, 30), [coco.mask_annotation(np.zeros((20, 30), bool), 0.5)]),
        coco.record("c.png", (5, 4), [coco.mask_annotation(np.ones((5, 4), bool), 0.5)]),
    ]
    # What a pipeline does: stored one by one, joined later.
    stored = [json.loads(json.dumps(record)) for record in records]
    joined = written(stored)
    assert joined["images"] == [
        {"id": 1, "file_name": "b/ä.png", "width": 3, "height": 2},
        {"id": 2, "file_name": "a.png", "width": 30, "height": 20},
        {"id": 3, "file_name": "c.png", "width": 4, "height": 5},
    ]
    assert [(entry["id"], entry["image_id"]) for entry in joined["annotations"]] == [(1, 1), (2, 1), (3, 3)]
    assert joined["categories"] == [{"id": 1, "name": "object"}]
    assert written([]) == {"images": [], "annotations": [], "categories": joined["categories"]}
    assert records == stored


@decodes_with_pycocotools
def test_pycocotools_reads_the_dataset_and_the_results(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = [(60, 80), (7, 5), (100, 30)]
    blobs = [
        np.kron(rng.random((5, 5)) < 0.4, np.ones((h // 5 + 1, w // 5 + 1), bool))[:h, :w] for h, w in shapes
    ]
    records = [
        coco.record(
            f"{i}.png",
            mask.shape,
            [coco.mask_annotation(mask, 0.5), coco.box_annotation(Box(1, 2, 4, 6, 0.25))],
        )
        for i, mask in enumerate(blobs)
    ]
    joined = written(records)
    path = tmp_path / "dataset.json"
    with path.open("wb") as file:
        coco.write_dataset(file, lambda: records)
    truth = COCO(path)
    assert truth.getImgIds() == [1, 2, 3]
    for image_id, mask in enumerate(blobs, start=1):
        first, second = truth.loadAnns(truth.getAnnIds(imgIds=[image_id]))
        np.testing.assert_array_equal(truth.annToMask(first), mask)
        assert oracle.area(first["segmentation"]) == first["area"]
        assert oracle.toBbox(first["segmentation"]).tolist() == first["bbox"]
        assert second["bbox"] == [1, 2, 3, 4]
    results = truth.loadRes([entry for entry in joined["annotations"] if "segmentation" in entry])
    for entry, mask in zip(results.loadAnns(results.getAnnIds()), blobs, strict=True):
        np.testing.assert_array_equal(results.annToMask(entry), mask)
    boxes = truth.loadRes([entry for entry in joined["annotations"] if "segmentation" not in entry])
    assert [entry["bbox"] for entry in boxes.loadAnns(boxes.getAnnIds())] == [[1, 2, 3, 4]] * 3


LABELS = np.array([[0, 3, 3], [7, 3, 0]])


def test_classes_of_an_image_by_hand() -> None:
    # Down the columns class 3 is 0 0, 1 1, 1 0, as in BY_HAND; class 7 is 0 1, 0 0, 0 0.
    three = {"segmentation": {"size": [2, 3], "counts": "231"}, "category_id": 3, "bbox": [1, 0, 2, 2]}
    seven = {"segmentation": {"size": [2, 3], "counts": "114"}, "category_id": 7, "bbox": [0, 1, 1, 1]}
    expected = [{**three, "area": 3, "iscrowd": 0}, {**seven, "area": 1, "iscrowd": 0}]
    for dtype in (np.uint8, np.int32, np.int64):
        assert coco.stuff_annotations(LABELS.astype(dtype)) == expected
    assert json.loads(json.dumps(expected)) == expected
    with_background = coco.stuff_annotations(LABELS, background=None)
    assert [(found["category_id"], found["area"]) for found in with_background] == [(0, 2), (3, 3), (7, 1)]
    assert with_background[1:] == expected
    assert [found["category_id"] for found in coco.stuff_annotations(LABELS, background=3)] == [0, 7]
    assert coco.stuff_annotations(np.zeros((2, 2), np.uint8)) == []


@decodes_with_pycocotools
@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.integers(0, 4)))
def test_classes_decode_to_exactly_the_labels(labels: np.ndarray) -> None:
    decoded = np.zeros_like(labels)
    for found in coco.stuff_annotations(labels):
        mask = oracle.decode(found["segmentation"]).astype(bool)
        assert not decoded[mask].any()
        decoded[mask] = found["category_id"]
        assert oracle.area(found["segmentation"]) == found["area"]
        assert oracle.toBbox(found["segmentation"]).tolist() == found["bbox"]
    np.testing.assert_array_equal(decoded, labels)


@decodes_with_pycocotools
def test_pycocotools_reads_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = [np.kron(rng.integers(0, 6, (3, 4)), np.ones((7, 5), np.int64)) for _ in range(3)]
    records = [
        coco.record(f"{i}.png", labels.shape, coco.stuff_annotations(labels)) for i, labels in enumerate(maps)
    ]
    categories = coco.stuff_categories({i: f"class {i}" for i in range(1, 6)})
    assert categories[1] == {"id": 2, "name": "class 2", "supercategory": "stuff", "isthing": 0}
    path = tmp_path / "classes.json"
    with path.open("wb") as file:
        coco.write_dataset(file, lambda: records, categories)
    truth = COCO(path)
    assert truth.getCatIds() == [1, 2, 3, 4, 5]
    assert truth.getCatIds(supNms=["stuff"], catNms=["class 4"]) == [4]
    for image_id, labels in enumerate(maps, start=1):
        read = np.zeros_like(labels)
        for found in truth.loadAnns(truth.getAnnIds(imgIds=[image_id])):
            read[truth.annToMask(found) == 1] = found["category_id"]
        np.testing.assert_array_equal(read, labels)
    assert truth.getImgIds(catIds=[3]) == [i for i, labels in enumerate(maps, start=1) if (labels == 3).any()]


def test_panoptic_segments_are_those_of_the_picture(tmp_path: Path) -> None:
    labels = np.array([[0, 3, 3], [70000, 3, 0]])
    assert coco.panoptic_annotation(labels, "a/ä.png") == {
        "file_name": "a/ä.png",
        "segments_info": [
            {"id": 3, "category_id": 3, "bbox": [1, 0, 2, 2], "area": 3, "iscrowd": 0},
            {"id": 70000, "category_id": 70000, "bbox": [0, 1, 1, 1], "area": 1, "iscrowd": 0},
        ],
    }
    picture = coco.panoptic_picture(labels)
    assert picture.dtype == np.uint8
    # 70000 = 112 + 256 · 17 + 65536
    assert picture.tolist() == [[[0, 0, 0], [3, 0, 0], [3, 0, 0]], [[112, 17, 1], [3, 0, 0], [0, 0, 0]]]
    Image.fromarray(picture).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as file:
        read = np.asarray(file.convert("RGB"), np.int64)
    np.testing.assert_array_equal(read @ [1, 256, 65536], labels)
    record = coco.record("a.jpg", labels.shape, [coco.panoptic_annotation(labels, "a.png")])
    joined = written([record], coco.stuff_categories({3: "sky", 70000: "sea"}))
    assert joined["images"] == [{"id": 1, "file_name": "a.jpg", "width": 3, "height": 2}]
    (annotation,) = joined["annotations"]
    assert (annotation["image_id"], annotation["file_name"]) == (1, "a.png")
    assert [category["isthing"] for category in joined["categories"]] == [0, 0]


def test_what_are_no_labels_is_refused() -> None:
    for function in (
        coco.stuff_annotations,
        coco.panoptic_picture,
        lambda labels: coco.panoptic_annotation(labels, "a.png"),
    ):
        for wrong in (np.zeros((2, 3)), np.zeros(4, int), np.zeros((0, 3), int), np.zeros((2, 3), bool)):
            with pytest.raises(ValueError, match=r"labels must be \(H, W\) integers, got \("):
                function(wrong)
        for value in (-1, 2**24):
            with pytest.raises(ValueError, match=f"from 0 to 2\\^24 - 1, got {value} to {value}"):
                function(np.full((2, 3), value))

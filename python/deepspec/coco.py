"""COCO's formats of boxes, instance masks and classes of pixels, as pycocotools and panopticapi read them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepspec.regions import Box

Mask: TypeAlias = NDArray[np.bool_]
Json: TypeAlias = dict[str, Any]


def write_dataset(
    file: IO[bytes],
    records: Callable[[], Iterable[Mapping[str, Any]]],
    categories: Sequence[Mapping[str, Any]] | None = None,
) -> None:
    """Write a COCO dataset: `images` and `annotations`, numbered from 1 in the order given, and `categories`.

    An image at a time: memory does not grow with their number.

    Parameters
    ----------
    file : binary file
        Open for writing.
    records : callable
        Gives the images' `record`s anew whenever it is called.
    categories : sequence of mapping, optional
        `id`, `name` and whatever else belongs to each, see `stuff_categories`. Default: one, "object".
    """

    def write_list(name: str, parts: Iterable[Mapping[str, Any]]) -> None:
        file.write(f'"{name}": ['.encode())
        for number, part in enumerate(parts):
            text = json.dumps(part, ensure_ascii=False, allow_nan=False)
            # A file name that is not UTF-8 holds lone surrogates; JSON escapes them as Python does.
            file.write(((",\n" if number else "\n") + text).encode(errors="backslashreplace"))
        file.write(b"\n]")

    numbers = count(1)
    file.write(b"{")
    write_list("images", (_image(number, parts) for number, parts in enumerate(records(), start=1)))
    file.write(b",\n")
    write_list(
        "annotations",
        (
            {"id": next(numbers), "image_id": number, **annotation}
            for number, parts in enumerate(records(), start=1)
            for annotation in parts["annotations"]
        ),
    )
    file.write(b",\n")
    write_list("categories", [{"id": 1, "name": "object"}] if categories is None else categories)
    file.write(b"}\n")


def _image(number: int, parts: Mapping[str, Any]) -> Json:
    return {"id": number, **{name: parts[name] for name in ("file_name", "width", "height")}}


def record(file_name: str, size: tuple[int, int], annotations: Iterable[Json | None] = ()) -> Json:
    """What `write_dataset` needs of one image, as plain JSON values: no numbers yet, so that it can be stored by itself.

    Parameters
    ----------
    file_name : str
        With forward slashes, relative to the folder of the images.
    size : (height, width)
    annotations : iterable of dict or None
        Of the functions below; None (of an empty mask) is left out.
    """
    height, width = size
    found = [annotation for annotation in annotations if annotation is not None]
    return {"file_name": file_name, "width": int(width), "height": int(height), "annotations": found}


def box_annotation(box: Box) -> Json:
    """A box as (x, y, width, height) with its area and score."""
    width, height = box.xmax - box.xmin, box.ymax - box.ymin
    return _annotation([box.xmin, box.ymin, width, height], width * height, box.score)


def mask_annotation(mask: Mask, score: float) -> Json | None:
    """An (H, W) mask as run lengths with its box, its area in pixels and a score; None where it is empty.

    Raises
    ------
    ValueError
        The mask is not (H, W) bool.
    """
    run_lengths = encode_rle(mask)
    if not mask.any():
        return None
    return {"segmentation": run_lengths, **_annotation(_bounds(mask), int(np.count_nonzero(mask)), score)}


def stuff_annotations(labels: NDArray[np.integer[Any]], *, background: int | None = 0) -> list[Json]:
    """The pixels of each class in an image as one annotation, in the order of their ids, as in COCO-Stuff.

    Parameters
    ----------
    labels : (H, W) int
        The classes' ids.
    background : int or None
        The label to leave out; None: all are classes.

    Returns
    -------
    list of dict
        `segmentation` as run lengths, `category_id`, `bbox`, `area` in pixels and `iscrowd` 0.

    Raises
    ------
    ValueError
        The labels are not (H, W) integers from 0 to 2^24 − 1, or there are none.

    >>> [(found["category_id"], found["area"]) for found in stuff_annotations(np.array([[3, 0], [3, 8]]))]
    [(3, 2), (8, 1)]
    """
    return [{"segmentation": encode_rle(mask), **parts} for mask, parts in _classes(labels, background)]


def panoptic_annotation(labels: NDArray[np.integer[Any]], file_name: str) -> Json:
    """The classes in an image as one annotation of COCO's panoptic format, each class one segment of that id.

    `write_dataset` joins the records of such annotations as it does others.

    Parameters
    ----------
    labels : (H, W) int
        The classes' ids; 0 is the background, which the format has no segment for.
    file_name : str
        Of the image's `panoptic_picture`, relative to the folder of these pictures.

    Raises
    ------
    ValueError
        The labels are not (H, W) integers from 0 to 2^24 − 1, or there are none.
    """
    segments = [{"id": parts["category_id"], **parts} for _, parts in _classes(labels, 0)]
    return {"file_name": file_name, "segments_info": segments}


def panoptic_picture(labels: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    """The (H, W, 3) picture that belongs to `panoptic_annotation`, to be saved as PNG: id = R + 256 G + 65536 B.

    Raises
    ------
    ValueError
        The labels are not (H, W) integers from 0 to 2^24 − 1, or there are none.

    >>> panoptic_picture(np.array([[7, 258]])).tolist()
    [[[7, 0, 0], [2, 1, 0]]]
    """
    _check_labels(labels)
    ids = labels.astype(np.uint32)
    return np.stack([ids >> shift & 0xFF for shift in (0, 8, 16)], axis=-1).astype(np.uint8)


def stuff_categories(names: Mapping[int, str]) -> list[Json]:
    """Categories for `write_dataset`, of classes that are not counted: names by id."""
    return [
        {"id": category_id, "name": name, "supercategory": "stuff", "isthing": 0}
        for category_id, name in names.items()
    ]


def encode_rle(mask: Mask) -> Json:
    """COCO's compressed run lengths of a mask.

    The lengths of the runs down the columns, beginning with background, of which all but the first three are
    given as the difference to the last but one; each as characters of 5 bits, lowest first.

    Parameters
    ----------
    mask : (H, W) bool

    Returns
    -------
    dict
        `size`: [H, W]; `counts`: str of ASCII characters.

    Raises
    ------
    ValueError
        The mask has another type or shape, or no pixels.

    >>> encode_rle(np.array([[False, True, True], [False, True, False]]))
    {'size': [2, 3], 'counts': '231'}
    """
    if mask.ndim != 2 or mask.dtype != np.bool_ or mask.size == 0:
        raise ValueError(f"mask must be (H, W) bool with at least one pixel, got {mask.shape} {mask.dtype}")
    pixels = mask.ravel(order="F")
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    starts = np.concatenate([[0, 0] if pixels[0] else [0], changes])
    counts = np.diff(starts, append=pixels.size)
    return {"size": list(mask.shape), "counts": _compress(counts)}


def decode_rle(rle: Mapping[str, Any]) -> Mask:
    """The mask of COCO's run lengths, compressed or a list of numbers.

    Parameters
    ----------
    rle : mapping
        `size`: [H, W]; `counts`: str, bytes or a sequence of int.

    Returns
    -------
    (H, W) bool

    Raises
    ------
    ValueError
        The run lengths are not well-formed, or do not add up to H·W.
    """
    height, width = rle["size"]
    counts = rle["counts"]
    counts = _decompress(counts) if isinstance(counts, (str, bytes)) else np.asarray(counts, np.int64)
    if (counts < 0).any() or counts.sum() != height * width:
        raise ValueError(
            f"run lengths must be at least 0 and add up to {height} x {width} pixels, "
            f"got the sum {counts.sum()} and the smallest {counts.min(initial=0)}"
        )
    pixels = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def _annotation(bbox: list[int], area: int, score: float) -> Json:
    return {"category_id": 1, "bbox": bbox, "area": area, "iscrowd": 0, "score": round(float(score), 6)}


def _classes(labels: NDArray[np.integer[Any]], background: int | None) -> Iterator[tuple[Mask, Json]]:
    """The mask of each class in an image, and what its annotation says of it."""
    _check_labels(labels)
    for category_id in np.unique(labels).tolist():
        if category_id != background:
            mask = np.asarray(labels == category_id)
            area = int(np.count_nonzero(mask))
            yield mask, {"category_id": category_id, "bbox": _bounds(mask), "area": area, "iscrowd": 0}


def _check_labels(labels: NDArray[np.integer[Any]]) -> None:
    if labels.ndim != 2 or labels.size == 0 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be (H, W) integers, got {labels.shape} {labels.dtype}")
    if not 0 <= labels.min() <= labels.max() < 2**24:
        raise ValueError(f"labels must be from 0 to 2^24 - 1, got {labels.min()} to {labels.max()}")


def _bounds(mask: Mask) -> list[int]:
    """x, y, width and height of what is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]


_FIRST = 48  # the character "0" stands for five zero bits
_MORE = 0x20  # set in all characters of a number but the last
_SIGN = 0x10  # in the last character


def _compress(counts: NDArray[np.int64]) -> str:
    numbers = counts.copy()
    numbers[3:] -= counts[1:-2]
    # As many characters as two's complement needs: n of them hold -2^(5n-1) to 2^(5n-1) - 1.
    magnitudes = np.where(numbers < 0, ~numbers, numbers)
    longest = max(1, -(-(int(magnitudes.max()).bit_length() + 1) // 5))
    places = 5 * np.arange(longest)
    # Is anything left beyond this character? Its own highest bit has to be the sign.
    more = (magnitudes[:, None] >> (places + 4)) != 0
    characters = ((numbers[:, None] >> places) & 0x1F) + np.where(more, _MORE, 0) + _FIRST
    used = np.ones_like(more)
    used[:, 1:] = more[:, :-1]
    return str(characters[used].astype(np.uint8).tobytes(), "ascii")


def _decompress(text: str | bytes) -> NDArray[np.int64]:
    raw = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    characters = np.frombuffer(raw, np.uint8).astype(np.int64) - _FIRST
    last = (characters & _MORE) == 0
    if not (len(raw) and last[-1] and characters.min() >= 0 and characters.max() < 2 * _MORE):
        raise ValueError(f"counts must be compressed run lengths, got {text[:40]!r}")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    places = 5 * (np.arange(len(characters)) - np.repeat(starts, ends + 1 - starts))
    if places.max() > 30:
        raise ValueError(f"counts must be compressed run lengths of up to 35 bits, got {text[:40]!r}")
    numbers = np.add.reduceat((characters & 0x1F) << places, starts)
    numbers -= np.where(characters[ends] & _SIGN, np.int64(32) << places[ends], 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers

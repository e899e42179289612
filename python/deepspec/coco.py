"""COCO's formats of boxes and instance masks, as pycocotools reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepspec.regions import Box

Mask: TypeAlias = NDArray[np.bool_]
Json: TypeAlias = dict[str, Any]


def dataset(records: Iterable[Mapping[str, Any]]) -> Json:
    """Join `record`s into a COCO dataset: images and annotations are numbered from 1 in the order given.

    Returns
    -------
    dict
        `images`, `annotations` and `categories`, as plain JSON values. There is one category, "object".
    """
    joined: Json = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "object"}]}
    for image_id, parts in enumerate(records, start=1):
        image = {name: parts[name] for name in ("file_name", "width", "height")}
        joined["images"].append({"id": image_id, **image})
        for annotation in parts["annotations"]:
            number = len(joined["annotations"]) + 1
            joined["annotations"].append({"id": number, "image_id": image_id, **annotation})
    return joined


def record(file_name: str, size: tuple[int, int], annotations: Iterable[Json | None] = ()) -> Json:
    """What `dataset` needs of one image, as plain JSON values: no numbers yet, so that it can be stored by itself.

    Parameters
    ----------
    file_name : str
        With forward slashes, relative to the folder of the images.
    size : (height, width)
    annotations : iterable of dict or None
        Of `box_annotation` and `mask_annotation`; None (of an empty mask) is left out.
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
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if len(rows) == 0:
        return None
    top, left = int(rows[0]), int(columns[0])
    bbox = [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]
    return {"segmentation": run_lengths, **_annotation(bbox, int(np.count_nonzero(mask)), score)}


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

"""Scores of boxes, masks and labels against ground truth, by the protocols of the paper's tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.typing import NDArray

Float64: TypeAlias = NDArray[np.float64]


class BoxLike(Protocol):
    """Half-open: columns xmin…xmax−1 and rows ymin…ymax−1."""

    @property
    def xmin(self) -> float: ...
    @property
    def ymin(self) -> float: ...
    @property
    def xmax(self) -> float: ...
    @property
    def ymax(self) -> float: ...


# Boxes


def box_iou(a: BoxLike, b: BoxLike) -> float:
    """Intersection over union of two boxes; 0 where both are empty."""
    width = max(0.0, min(a.xmax, b.xmax) - max(a.xmin, b.xmin))
    height = max(0.0, min(a.ymax, b.ymax) - max(a.ymin, b.ymin))
    both = width * height
    union = _area(a) + _area(b) - both
    return both / union if union > 0 else 0.0


def _area(box: BoxLike) -> float:
    return max(0.0, box.xmax - box.xmin) * max(0.0, box.ymax - box.ymin)


def is_hit(box: BoxLike | None, truths: Iterable[BoxLike], threshold: float = 0.5) -> bool:
    """Whether a box overlaps any of the true ones with an IoU of at least the threshold: CorLoc's question.

    An image without a predicted box, or without true ones, is a miss. CorLoc is the mean over the images, in per cent.
    """
    return box is not None and any(box_iou(box, truth) >= threshold for truth in truths)


class ScoredBox(BoxLike, Protocol):
    @property
    def score(self) -> float: ...


def precision_recall(
    found: Iterable[Sequence[ScoredBox]], truths: Iterable[Sequence[BoxLike]], threshold: float = 0.5
) -> tuple[float, float]:
    """The share of the boxes found that are right, and of the true boxes that are found, at an IoU threshold.

    In each image the boxes choose in the order of their scores: of the true ones that are left and that it overlaps with
    an IoU of at least the threshold, each takes the one it overlaps most, and is wrong where there is none. So a second
    box on the same object is wrong.

    Parameters
    ----------
    found, truths : sequences of boxes, image by image
    threshold : float

    Returns
    -------
    precision, recall : float
        In [0, 1]; NaN without boxes found, or without true ones.

    Raises
    ------
    ValueError
        There are not as many images of both.
    """
    n_right = n_found = n_true = 0
    for boxes, true_boxes in zip(found, truths, strict=True):
        left = list(true_boxes)
        n_found += len(boxes)
        n_true += len(left)
        for box in sorted(boxes, key=lambda one: -one.score):
            overlaps = [box_iou(box, truth) for truth in left]
            if overlaps and max(overlaps) >= threshold:
                del left[int(np.argmax(overlaps))]
                n_right += 1
    precision = n_right / n_found if n_found else float("nan")
    return precision, n_right / n_true if n_true else float("nan")


# Masks


def mask_iou(mask: npt.ArrayLike, truth: npt.ArrayLike, valid: npt.ArrayLike | None = None) -> float:
    """Intersection over union of two (H, W) bool masks, over the valid pixels; 1 where both are empty.

    Raises
    ------
    ValueError
        Shapes differ, or arrays are not bool.
    """
    first, second = _masks(mask, truth, valid)
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def mask_accuracy(mask: npt.ArrayLike, truth: npt.ArrayLike, valid: npt.ArrayLike | None = None) -> float:
    """The share of valid pixels on which two (H, W) bool masks agree; 1 where none is valid."""
    first, second = _masks(mask, truth, valid)
    return float(np.mean(first == second)) if first.size else 1.0


def _masks(
    mask: npt.ArrayLike, truth: npt.ArrayLike, valid: npt.ArrayLike | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    arrays = [np.asarray(array) for array in (mask, truth, *([] if valid is None else [valid]))]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or arrays[0].ndim != 2:
        raise ValueError(f"masks must be (H, W) of one shape, got {', '.join(map(str, shapes))}")
    if any(array.dtype != bool for array in arrays):
        raise ValueError(f"masks must be bool, got {', '.join(str(array.dtype) for array in arrays)}")
    if valid is not None:
        return arrays[0][arrays[2]], arrays[1][arrays[2]]
    return arrays[0], arrays[1]


@dataclass
class FMeasure:
    """F-max of saliency maps: precision and recall at each of 255 thresholds, averaged over images, and the largest F_β.

    F_β = (1 + β²) P R / (β² P + R) with β² = 0.3 (Achanta et al., CVPR 2009). Maps are floating point in [0, 1] or
    bool. An image whose mask is empty has recall 1, and where nothing is above a threshold precision is 1.
    """

    beta_squared: float = 0.3
    _precision: Float64 = field(default_factory=lambda: np.zeros(255), repr=False)
    _recall: Float64 = field(default_factory=lambda: np.zeros(255), repr=False)
    n_images: int = 0

    def add(self, saliency: npt.ArrayLike, truth: npt.ArrayLike) -> None:
        """Count an image in: (H, W) saliency and (H, W) bool truth.

        Raises
        ------
        ValueError
            Shapes differ, the truth is not bool, or saliency is outside [0, 1].
        """
        values, mask = np.asarray(saliency, float), np.asarray(truth)
        if values.shape != mask.shape or values.ndim != 2:
            raise ValueError(
                f"saliency and truth must be (H, W) of one shape, got {values.shape} and {mask.shape}"
            )
        if mask.dtype != bool:
            raise ValueError(f"truth must be bool, got {mask.dtype}")
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"saliency must be in [0, 1], got {values.min()} to {values.max()}")
        # Threshold t keeps what is at least (t + 1) / 255.
        levels = np.floor(values * 255 + 1e-9).astype(int)
        found = np.bincount(levels.ravel(), minlength=256)[:0:-1].cumsum()[::-1]
        right = np.bincount(levels[mask], minlength=256)[:0:-1].cumsum()[::-1]
        self._precision += np.where(found > 0, right / np.maximum(found, 1), 1.0)
        self._recall += right / mask.sum() if mask.any() else np.ones(255)
        self.n_images += 1

    def value(self) -> float:
        """The largest F over the thresholds; NaN without images."""
        if self.n_images == 0:
            return float("nan")
        precision, recall = self._precision / self.n_images, self._recall / self.n_images
        below = self.beta_squared * precision + recall
        scores = (1 + self.beta_squared) * precision * recall / np.where(below > 0, below, 1)
        return float(scores.max())


# Rankings


def average_precision(scores: npt.ArrayLike, hits: npt.ArrayLike) -> float:
    """Area under precision over recall of answers ranked by score: (n,) numbers and (n,) bool.

    Answers of equal score enter together, so that their order does not matter; a constant score gives the share of
    hits. NaN without hits.
    """
    ranked, right = np.asarray(scores, float), np.asarray(hits, bool)
    if ranked.shape != right.shape or ranked.ndim != 1:
        raise ValueError(f"scores and hits must be (n,), got {ranked.shape} and {right.shape}")
    if not right.any():
        return float("nan")
    order = np.argsort(-ranked, kind="stable")
    last = np.append(np.flatnonzero(np.diff(ranked[order])), len(ranked) - 1)  # of each score
    found = right[order].cumsum()[last]
    precision = found / (last + 1)
    return float(np.sum(np.diff(found, prepend=0) / right.sum() * precision))


# Labels


class ConfusionMatrix:
    """Pixels by true class and predicted cluster, counted image by image.

    Parameters
    ----------
    n_classes, n_clusters : int
    void : int or None
        The true label that does not count.

    Attributes
    ----------
    counts : (n_classes, n_clusters) int64
    """

    def __init__(self, n_classes: int, n_clusters: int, void: int | None = 255) -> None:
        if n_classes < 1 or n_clusters < 1:
            raise ValueError(f"there must be classes and clusters, got {n_classes} and {n_clusters}")
        self.counts = np.zeros((n_classes, n_clusters), np.int64)
        self._void = void

    @classmethod
    def of(
        cls, images: Iterable[tuple[str, npt.ArrayLike, npt.ArrayLike]], n_classes: int, n_clusters: int
    ) -> ConfusionMatrix:
        """Of many images: a name, labels and truth of each, see `add`; 255 is void.

        Raises
        ------
        ValueError
            As `add` does, and by the image's name.
        """
        matrix = cls(n_classes, n_clusters)
        for name, labels, truth in images:
            try:
                matrix.add(labels, truth)
            except ValueError as error:  # noqa: PERF203  only here the name is known
                raise ValueError(f"{name}: {error}") from error
        return matrix

    def add(self, labels: npt.ArrayLike, truth: npt.ArrayLike) -> None:
        """Count an image in: (H, W) whole numbers each.

        Raises
        ------
        ValueError
            Shapes differ, or a label is out of range; nothing is counted then.
        """
        found, true = np.asarray(labels), np.asarray(truth)
        if found.shape != true.shape:
            raise ValueError(f"labels and truth must have one shape, got {found.shape} and {true.shape}")
        for name, array in (("labels", found), ("truth", true)):
            if array.dtype.kind not in "biu":
                raise ValueError(f"{name} must be whole numbers, got {array.dtype}")
        valid = np.ones(true.shape, bool) if self._void is None else true != self._void
        found, true = found[valid].astype(np.int64), true[valid].astype(np.int64)
        n_classes, n_clusters = self.counts.shape
        for name, array, size in (("labels", found, n_clusters), ("truth", true, n_classes)):
            if array.size and not 0 <= array.min() <= array.max() < size:
                raise ValueError(f"{name} must be from 0 to {size - 1}, got {array.min()} to {array.max()}")
        self.counts += np.bincount(true * n_clusters + found, minlength=self.counts.size).reshape(
            self.counts.shape
        )

    def iou(self) -> Float64:
        """(n_classes, n_clusters): of each class with each cluster; 0 where neither has a pixel."""
        union = self.counts.sum(axis=1, keepdims=True) + self.counts.sum(axis=0) - self.counts
        iou: Float64 = self.counts / np.maximum(union, 1)
        return iou

    def match(self, how: str = "hungarian") -> NDArray[np.int64]:
        """The class of each cluster, (n_clusters,).

        Parameters
        ----------
        how : {"hungarian", "majority"}
            One to one with the largest sum of IoU, clusters left over and those without a pixel to class 0; or each
            cluster to the class it has the largest IoU with.

        Raises
        ------
        ValueError
            `how` is unknown.
        """
        iou = self.iou()
        if how == "majority":
            return np.asarray(iou.argmax(axis=0), np.int64)
        if how != "hungarian":
            raise ValueError(f"how must be 'hungarian' or 'majority', got {how!r}")
        from scipy.optimize import linear_sum_assignment

        classes = np.zeros(iou.shape[1], np.int64)
        # A cluster without a pixel would take a class from one that overlaps with none of those left, for nothing.
        occurring = np.flatnonzero(self.counts.sum(axis=0))
        rows, columns = linear_sum_assignment(iou[:, occurring], maximize=True)
        classes[occurring[columns]] = rows
        return classes

    def matched(self, how: str = "hungarian") -> NDArray[np.int64]:
        """(n_classes, n_classes): pixels by true class and the class that their cluster is matched to."""
        n_classes = len(self.counts)
        matched = np.zeros((n_classes, n_classes), np.int64)
        np.add.at(matched.T, self.match(how), self.counts.T)
        return matched

    def class_iou(self, how: str = "hungarian") -> Float64:
        """(n_classes,): IoU of each class with the clusters matched to it; NaN for classes without a pixel."""
        matched = self.matched(how)
        right = np.diagonal(matched)
        union = matched.sum(axis=1) + matched.sum(axis=0) - right
        present = self.counts.sum(axis=1) > 0
        return np.where(present, right / np.maximum(union, 1), np.nan)

    def mean_iou(self, how: str = "hungarian") -> float:
        """Mean of `class_iou` over the classes that have pixels; NaN where none has."""
        scores = self.class_iou(how)
        return float(np.nanmean(scores)) if not np.isnan(scores).all() else float("nan")

    def accuracy(self, how: str = "hungarian") -> float:
        """The share of pixels whose cluster is matched to their class; NaN without pixels."""
        n_pixels = self.counts.sum()
        return float(np.trace(self.matched(how)) / n_pixels) if n_pixels else float("nan")


# Uncertainty


def bootstrap_interval(
    values: Sequence[float] | Float64,
    statistic: Callable[[Any], float] = np.mean,
    *,
    coverage: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """The interval that holds `coverage` of a statistic over samples drawn with replacement (percentiles).

    Raises
    ------
    ValueError
        There are no values.
    """
    numbers = np.asarray(values, float)
    if numbers.size == 0:
        raise ValueError("an interval needs at least one value, got none")
    rng = np.random.default_rng(seed)
    found = [statistic(numbers[rng.integers(0, len(numbers), len(numbers))]) for _ in range(n_resamples)]
    low, high = np.quantile(found, [(1 - coverage) / 2, (1 + coverage) / 2])
    return float(low), float(high)

"""Values worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepspec.metrics import (
    ConfusionMatrix,
    FMeasure,
    average_precision,
    bootstrap_interval,
    box_iou,
    is_hit,
    mask_accuracy,
    mask_iou,
    precision_recall,
)
from deepspec.regions import Box


def box(*sides: int) -> Box:
    return Box(*sides, score=1.0)


def masks(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 0, 4, 4), (0, 0, 4, 4), 1.0),
        ((0, 0, 4, 4), (0, 0, 4, 2), 0.5),
        ((0, 0, 4, 4), (2, 2, 6, 6), 4 / 28),
        ((0, 0, 4, 4), (4, 0, 8, 4), 0.0),  # half-open: they only touch
        ((0, 0, 1, 1), (0, 0, 1, 1), 1.0),
        ((3, 3, 3, 3), (3, 3, 3, 3), 0.0),
        ((5, 5, 4, 4), (0, 0, 9, 9), 0.0),  # inside out: empty
    ],
)
def test_box_iou(a: tuple[int, ...], b: tuple[int, ...], expected: float) -> None:
    assert box_iou(box(*a), box(*b)) == box_iou(box(*b), box(*a)) == pytest.approx(expected, abs=1e-15)


def test_corloc_counts_an_iou_of_exactly_one_half() -> None:
    whole, half, less = box(0, 0, 4, 4), box(0, 0, 4, 2), box(0, 0, 4, 1)
    assert is_hit(whole, [half])
    assert not is_hit(whole, [less])
    assert is_hit(whole, [less, half])  # any of them
    assert not is_hit(None, [half])
    assert not is_hit(whole, [])
    assert is_hit(whole, [less], threshold=0.25)


def test_precision_and_recall_by_hand() -> None:
    left, right, both = (0, 0, 4, 4), (4, 0, 8, 4), (0, 0, 8, 4)
    first = ([Box(*both, 0.2), Box(*left, 0.9), Box(*left, 0.5)], [box(*left), box(*right)])
    # The best takes the left one; the second comes late; the widest, with an IoU of exactly one half, gets the right one.
    assert precision_recall([first[0]], [first[1]]) == (2 / 3, 1.0)
    assert precision_recall([first[0]], [first[1]], threshold=0.51) == (1 / 3, 0.5)
    # With the highest score the widest takes the first of two that it overlaps alike, and leaves the left box none.
    greedy = [Box(*both, 1.0), Box(*left, 0.9)]
    assert precision_recall([greedy], [first[1]]) == (0.5, 0.5)
    empty = ([], [box(*left)])
    alone = ([Box(*left, 1.0)], [])
    found, truths = zip(first, empty, alone, strict=True)
    assert precision_recall(found, truths) == (2 / 4, 2 / 3)
    precision, recall = precision_recall([[]], [[box(*left)]])
    assert math.isnan(precision)
    assert recall == 0.0
    precision, recall = precision_recall([[Box(*left, 1.0)]], [[]])
    assert precision == 0.0
    assert math.isnan(recall)
    with pytest.raises(ValueError, match="shorter"):
        precision_recall([[], []], [[]])


def test_masks() -> None:
    a, b = masks("##..", "##.."), masks(".##.", ".##.")
    assert mask_iou(a, b) == 2 / 6
    assert mask_accuracy(a, b) == 0.5
    assert mask_iou(a, a) == mask_accuracy(a, a) == 1
    empty = np.zeros_like(a)
    assert mask_iou(empty, empty) == 1
    assert mask_iou(a, empty) == 0
    assert mask_accuracy(a, empty) == 0.5
    valid = masks("##..", "....")  # of a and b here: ## and .#
    assert mask_iou(a, b, valid) == 0.5
    assert mask_accuracy(a, b, valid) == 0.5
    assert mask_iou(a, b, empty) == mask_accuracy(a, b, empty) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((2, 3), bool), np.ones((3, 2), bool)), r"one shape, got \(2, 3\), \(3, 2\)"),
        ((np.ones((2, 3)), np.ones((2, 3), bool)), "must be bool, got float64, bool"),
        ((np.ones(3, bool), np.ones(3, bool)), r"\(H, W\)"),
    ],
)
@pytest.mark.parametrize("metric", [mask_iou, mask_accuracy])
def test_bad_masks_are_named(metric: Any, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metric(*arguments)


def test_f_max_by_hand() -> None:
    # At thresholds up to 0.4 both pixels are found (precision 1/2, recall 1), up to 0.8 the right one alone.
    measure = FMeasure()
    measure.add([[0.8, 0.4]], [[True, False]])
    assert measure.value() == pytest.approx(1.0)
    # The other way round: at best precision 1/2 and recall 1, 1.3 · 0.5 / (0.3 · 0.5 + 1).
    measure = FMeasure()
    measure.add([[0.4, 0.8]], [[True, False]])
    assert measure.value() == pytest.approx(0.65 / 1.15)
    # Both: at the low threshold precision 1/2 and recall 1, at the high one 1/2 and 1/2.
    measure.add([[0.8, 0.4]], [[True, False]])
    assert measure.n_images == 2
    assert measure.value() == pytest.approx(0.65 / 1.15)
    assert math.isnan(FMeasure().value())


@given(arrays(bool, (3, 4)), arrays(bool, (3, 4)))
def test_f_of_a_mask_is_that_of_its_counts(mask: np.ndarray, truth: np.ndarray) -> None:
    measure = FMeasure()
    measure.add(mask, truth)
    right = np.count_nonzero(mask & truth)
    precision = right / mask.sum() if mask.any() else 1.0
    recall = right / truth.sum() if truth.any() else 1.0
    below = 0.3 * precision + recall
    assert measure.value() == pytest.approx(1.3 * precision * recall / below if below else 0.0)


def test_bad_saliency_is_named() -> None:
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 0.0 to 1.5"):
        FMeasure().add([[0.0, 1.5]], [[True, False]])
    with pytest.raises(ValueError, match="truth must be bool, got int64"):
        FMeasure().add([[0.0, 1.0]], [[1, 0]])
    with pytest.raises(ValueError, match="one shape"):
        FMeasure().add([[0.0]], [[True, False]])


def test_average_precision_by_hand() -> None:
    # Hit, miss, hit, miss: (1 + 2/3) / 2.
    assert average_precision([0.9, 0.8, 0.7, 0.1], [True, False, True, False]) == pytest.approx(
        (1 + 2 / 3) / 2
    )
    assert average_precision([1.0, 1.0, 1.0, 1.0], [True, False, False, False]) == 0.25
    assert average_precision([2, 1], [True, True]) == 1
    assert math.isnan(average_precision([0.3], [False]))
    with pytest.raises(ValueError, match=r"\(n,\), got \(2,\) and \(1,\)"):
        average_precision([0.3, 0.2], [True])


def test_confusion_by_hand() -> None:
    matrix = ConfusionMatrix(2, 2)
    matrix.add([[0, 0, 1], [1, 1, 1]], [[1, 1, 0], [0, 255, 1]])
    np.testing.assert_array_equal(matrix.counts, [[0, 2], [2, 1]])
    # Class 0 with cluster 1: 2 of 3; class 1 with cluster 0: 2 of 3.
    np.testing.assert_allclose(matrix.iou(), [[0, 2 / 3], [2 / 3, 1 / 5]])
    np.testing.assert_array_equal(matrix.match(), [1, 0])
    np.testing.assert_array_equal(matrix.matched(), [[2, 0], [1, 2]])
    np.testing.assert_allclose(matrix.class_iou(), [2 / 3, 2 / 3])
    assert matrix.mean_iou() == pytest.approx(2 / 3)
    assert matrix.accuracy() == pytest.approx(4 / 5)
    matrix.add([[0]], [[0]])  # counted on
    assert matrix.counts.sum() == 6


def test_majority_joins_clusters_and_hungarian_does_not() -> None:
    matrix = ConfusionMatrix(2, 3)
    matrix.add([[0, 0, 1, 1, 2, 2, 2]], [[0, 0, 0, 0, 1, 1, 1]])
    np.testing.assert_array_equal(matrix.match("majority"), [0, 0, 1])
    assert matrix.mean_iou("majority") == 1
    # One to one: one of the halves of class 0 is left over, to class 0 as it happens.
    assert sorted(matrix.match("hungarian").tolist()) == [0, 0, 1]
    # Two clusters for three classes: the class that no cluster is left for scores 0, one without pixels does not count.
    matrix = ConfusionMatrix(4, 2)
    matrix.add([[0, 1, 1]], [[0, 1, 2]])
    np.testing.assert_allclose(np.nan_to_num(matrix.class_iou(), nan=-1), [1, 0.5, 0, -1])
    assert matrix.mean_iou() == 0.5


@pytest.mark.parametrize("empty", range(4))
def test_a_cluster_without_pixels_takes_no_class(empty: int) -> None:
    # Cluster a is class 0, b is class 1; c overlaps with these alone, less, and is left for class 2.
    labels, truth = np.array([[0, 0, 0, 0, 1, 1, 1, 1, 2, 2]]), np.array([[0, 0, 0, 0, 1, 1, 1, 1, 0, 1]])
    matrix = ConfusionMatrix(3, 4)
    matrix.add(labels + (labels >= empty), truth)
    matrix.add([[empty]], [[255]])  # of void alone
    assert np.delete(matrix.match(), empty).tolist() == [0, 1, 2]
    # Were c left over, the union of class 0 would be 6.
    np.testing.assert_allclose(matrix.class_iou(), [4 / 5, 4 / 5, np.nan])
    assert matrix.accuracy() == pytest.approx(8 / 10)


@given(
    arrays(np.int64, (5, 6), elements=st.integers(0, 3)),
    arrays(np.int64, (5, 6), elements=st.integers(0, 3)),
    st.permutations(range(4)),
)
def test_names_of_clusters_do_not_matter(labels: np.ndarray, truth: np.ndarray, order: list[int]) -> None:
    scores = []
    for names in (np.arange(4), np.array(order)):
        matrix = ConfusionMatrix(4, 4)
        for row in range(5):  # in pieces
            matrix.add(names[labels[row]], truth[row])
        scores.append(matrix.iou()[matrix.match(), range(4)].sum())
    assert scores[0] == pytest.approx(scores[1])


@pytest.mark.parametrize(
    ("labels", "truth", "message"),
    [
        ([[2]], [[0]], "labels must be from 0 to 1, got 2 to 2"),
        ([[0]], [[2]], "truth must be from 0 to 1, got 2"),
        ([[0.5]], [[0]], "labels must be whole numbers, got float64"),
        ([[0, 1]], [[0]], "one shape"),
    ],
)
def test_bad_labels_are_named(labels: Any, truth: Any, message: str) -> None:
    matrix = ConfusionMatrix(2, 2)
    with pytest.raises(ValueError, match=message):
        matrix.add(labels, truth)
    assert matrix.counts.sum() == 0
    assert math.isnan(matrix.mean_iou())
    assert math.isnan(matrix.accuracy())
    with pytest.raises(ValueError, match="'hungarian' or 'majority', got 'best'"):
        matrix.match("best")


def test_many_images_are_counted_by_name() -> None:
    pairs = [("a", [[0, 1]], [[1, 1]]), ("b", [[2], [0]], [[255], [0]])]
    assert ConfusionMatrix.of(pairs, 2, 3).counts.tolist() == [[1, 0, 0], [1, 1, 0]]
    with pytest.raises(ValueError, match="b: labels must be from 0 to 1, got 0 to 5"):
        ConfusionMatrix.of([pairs[0], ("b", [[5], [0]], [[0], [0]])], 2, 2)


def test_interval_holds_the_mean() -> None:
    low, high = bootstrap_interval([0.0, 1.0] * 50)
    assert 0.38 < low < 0.45
    assert 0.55 < high < 0.62
    assert bootstrap_interval([3.0]) == (3, 3)
    assert bootstrap_interval([0.0, 1.0] * 50) == (low, high)
    with pytest.raises(ValueError, match="got none"):
        bootstrap_interval([])

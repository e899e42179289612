from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from builders import decomposition, two_colors
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from deepspec.decomposition import Decomposition, decompose
from deepspec.regions import localize, objectness, segment_object, segment_regions

FOREGROUNDS = st.sampled_from(["smaller", "border"])
CELLS = st.floats(1, 20)
# One object of 2 x 2 cells and a single cell at the corner.
BLOB = np.full((4, 5), -1.0)
BLOB[1:3, 2:4] = 2
BLOB[3, 0] = 3


@st.composite
def decompositions(draw: st.DrawFn, cells: st.SearchStrategy[float] = CELLS) -> Decomposition:
    grid = draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    entries = st.floats(-1, 1, width=32) | st.sampled_from([-1.0, 0.0, 1.0])
    vectors = draw(arrays(np.float32, (2, *grid), elements=entries))
    cell = draw(st.tuples(cells, cells))
    strip = draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))
    size = tuple(math.ceil(n * step) + rest for n, step, rest in zip(grid, cell, strip, strict=True))
    return decomposition(*vectors, cell=cell, size=size)


def coarse_mask(d: Decomposition, **options: Any) -> np.ndarray:
    return segment_object(d, refine=None, **options)


def box_of(d: Decomposition, foreground: str = "smaller") -> tuple[int, int, int, int]:
    box = localize(d, foreground=foreground)
    assert all(type(side) is int for side in (box.xmin, box.ymin, box.xmax, box.ymax))
    return box.xmin, box.ymin, box.xmax, box.ymax


def test_box_of_the_largest_component_in_pixels() -> None:
    d = decomposition(BLOB, size=(35, 43))
    assert box_of(d) == (16, 8, 32, 24)
    assert localize(d).score == objectness(d)


def test_box_of_the_other_side_where_that_is_smaller() -> None:
    assert box_of(decomposition(-BLOB)) == (16, 8, 32, 24)


def test_box_of_the_positive_side_where_both_are_as_large() -> None:
    half = np.ones((2, 4))
    half[:, 2:] = -1
    assert box_of(decomposition(half)) == (0, 0, 16, 16)
    assert box_of(decomposition(-half)) == (16, 0, 32, 16)


@pytest.mark.parametrize("value", [-1, 0, 1])
@pytest.mark.parametrize("foreground", ["smaller", "border"])
def test_box_of_a_single_side_is_the_whole_grid(value: float, foreground: str) -> None:
    assert box_of(decomposition(np.full((4, 5), value), size=(35, 43)), foreground) == (0, 0, 40, 32)


def test_diagonal_cells_are_one_component() -> None:
    y = np.where(np.eye(4), 1, -1)
    assert box_of(decomposition(y)) == (0, 0, 32, 32)


def test_border_rule_takes_the_side_that_touches_it_less() -> None:
    # 9 of 16 inner cells against a ring of 20 + 7: larger in number where the rest is a frame.
    y = np.full((5, 5), -1.0)
    y[1:4, 1:4] = 1
    y[2, 0] = y[0, 2] = y[1, 0] = y[0, 1] = y[3, 0] = 1
    # 14 cells in front, 5 of them on the border; 11 behind, all on it.
    assert coarse_mask(decomposition(y), foreground="smaller").mean() == 11 / 25
    np.testing.assert_array_equal(coarse_mask(decomposition(y, cell=(1, 1)), foreground="border"), y > 0)
    np.testing.assert_array_equal(coarse_mask(decomposition(-y, cell=(1, 1)), foreground="border"), y > 0)


def test_border_rule_compares_shares_of_each_side() -> None:
    # The strip in front has 3 of the border's 8 cells, but no cell elsewhere.
    y = np.full((3, 3), -1.0)
    y[0] = 1
    np.testing.assert_array_equal(coarse_mask(decomposition(y, cell=(1, 1)), foreground="border"), y < 0)


@given(decompositions(), FOREGROUNDS)
def test_box_lies_in_the_covered_region(d: Decomposition, foreground: str) -> None:
    xmin, ymin, xmax, ymax = box_of(d, foreground)
    height, width = d.covered
    assert 0 <= xmin < xmax <= width
    assert 0 <= ymin < ymax <= height
    assert 0 <= localize(d).score <= 1


@given(decompositions(), FOREGROUNDS)
def test_box_is_that_of_the_largest_part_of_the_mask(d: Decomposition, foreground: str) -> None:
    height, width = d.covered
    mask = coarse_mask(d, foreground=foreground)[:height, :width]
    parts, count = ndimage.label(mask, np.ones((3, 3)))
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(parts)]
    # Cells of unequal numbers of pixels may rank parts otherwise: the box is one of them.
    assert box_of(d, foreground) in (boxes if count else [(0, 0, width, height)])


def test_a_pixel_on_the_edge_of_two_cells_is_in_the_box_when_in_the_mask() -> None:
    # The centre of pixel 5 is 5.5, the edge of cells 4 and 5; 5 · 1.1 and 5.5 // 1.1 round to either side.
    y = np.full((5, 7), -1.0)
    y[4, 4] = 1.0
    d = decomposition(y, cell=(1.0, 1.1), size=(5, 8))
    xmin, ymin, xmax, ymax = box_of(d)
    rows, columns = np.nonzero(coarse_mask(d))
    assert (xmin, ymin, xmax, ymax) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


@given(decompositions(st.integers(1, 8)), FOREGROUNDS)
def test_flipped_vectors_give_flipped_masks(d: Decomposition, foreground: str) -> None:
    height, width = d.covered
    d = replace(d, image=d.image[:height, :width])
    for flip in (np.flipud, np.fliplr):
        pairs = replace(d.pairs, vectors=np.stack([flip(y) for y in d.pairs.vectors]))
        np.testing.assert_array_equal(
            coarse_mask(replace(d, pairs=pairs), foreground=foreground),
            flip(coarse_mask(d, foreground=foreground)),
        )


@given(st.tuples(st.integers(3, 7), st.integers(3, 7)), st.integers(0, 1000), FOREGROUNDS)
def test_sign_of_the_vector_matters_only_in_ties(grid: tuple[int, int], seed: int, foreground: str) -> None:
    y = np.random.default_rng(seed).normal(size=grid)
    border = np.ones(grid, bool)
    border[1:-1, 1:-1] = False
    if foreground == "smaller":
        assume((y > 0).mean() not in (0, 0.5, 1))
    else:
        assume(0 < (y > 0).mean() < 1 and border[y > 0].mean() != border[y < 0].mean())
    np.testing.assert_array_equal(
        coarse_mask(decomposition(y), foreground=foreground),
        coarse_mask(decomposition(-y), foreground=foreground),
    )


def test_mask_is_upsampled_and_its_edge_replicated() -> None:
    y = np.array([[-1, -1, -1], [-1, -1, 1]])
    d = decomposition(y, cell=(2, 3), size=(6, 10))
    expected = np.zeros((6, 10), bool)
    # The strip below and to the right of the cell belongs to it.
    expected[2:, 6:] = True
    np.testing.assert_array_equal(coarse_mask(d), expected)
    assert box_of(d) == (6, 2, 9, 4)


def test_cells_of_broken_sizes_take_the_pixels_whose_centres_they_hold() -> None:
    d = decomposition([[-1, 1, -1]], cell=(2, 2.5), size=(2, 8))
    # Edges at 2.5 and 5: pixel 2 has its centre on the edge and goes right.
    np.testing.assert_array_equal(np.flatnonzero(coarse_mask(d)[0]), [2, 3, 4])
    assert box_of(d) == (2, 0, 5, 2)


@pytest.mark.parametrize(("partition", "n_front"), [("sign", 4), ("mean", 3), ("middle", 1)])
def test_partitions_split_at_their_own_place(partition: str, n_front: int) -> None:
    # Mean 2 / 12, middle 2.
    y = np.array([[5.0, 0.3, 0.2, 0.1], [-1.0, -0.7, -0.6, -0.5], [-0.4, -0.2, -0.1, -0.1]])
    d = decomposition(y, cell=(1, 1))
    assert coarse_mask(d, partition=partition).sum() == n_front
    box = localize(d, partition=partition)
    assert (box.xmin, box.ymin, box.xmax, box.ymax) == (0, 0, n_front, 1)


def test_threshold_cuts_higher() -> None:
    d = decomposition(BLOB, cell=(1, 1))
    np.testing.assert_array_equal(coarse_mask(d, threshold=2.5), BLOB == 3)
    assert not coarse_mask(d, threshold=4).any()


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (localize, {"foreground": "larger"}, "foreground must be one of 'smaller', .* got 'larger'"),
        (segment_object, {"foreground": ""}, "foreground must be"),
        (segment_object, {"refine": "snakes"}, "refine must be one of 'crf', .* None, got 'snakes'"),
        (segment_regions, {"refine": "snakes"}, "refine must be one of 'crf', .* None, got 'snakes'"),
        (segment_regions, {"refine": "crf", "resolution": "grid"}, "needs resolution='image', got 'grid'"),
        (localize, {"partition": "half"}, "partition must be one of 'sign', 'mean', 'middle', got 'half'"),
        (segment_object, {"partition": ""}, "partition must be one of"),
        (segment_object, {"threshold": np.nan}, "threshold must be finite, got nan"),
        (segment_regions, {"resolution": "full"}, "resolution must be 'image' or 'grid', got 'full'"),
        (
            segment_regions,
            {"background": "largest"},
            "background must be one of 'border', 'size', got 'largest'",
        ),
        (segment_regions, {"n_segments": 21}, "between 1 and the number of cells 20, got 21"),
        (segment_regions, {"n_segments": 0}, "got 0"),
        (segment_regions, {"n_segments": 2.5}, "whole number between 1 and .* got 2.5"),
        (segment_regions, {"n_segments": "many"}, "a number or 'auto', got 'many'"),
        (segment_regions, {"n_segments": "auto"}, "k must be at least 3 .* got a decomposition with k = 2"),
    ],
)
def test_bad_parameters(function: Any, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(decomposition(BLOB), **options)


@pytest.mark.parametrize("function", [localize, segment_object, segment_regions, objectness])
def test_the_constant_vector_alone_is_not_enough(function: Any) -> None:
    d = decomposition(BLOB)
    d = replace(d, pairs=replace(d.pairs, vectors=d.pairs.vectors[:1], values=d.pairs.values[:1]))
    with pytest.raises(ValueError, match=r"k must be at least 2 .* k = 1"):
        function(d)


# Four levels: 11 cells of "a", 6 of "b", 2 of "c" and 1 of "d"; "b" holds most of the border.
LEVELS = np.array([list("bbbba"), list("baaab"), list("caaaa"), list("caaad")])


def levels() -> Decomposition:
    return decomposition(
        np.select([level == LEVELS for level in "abcd"], [0.1, -0.2, 0.5, 0.9]), size=(35, 43)
    )


def test_segments_are_ordered_by_size_behind_the_background() -> None:
    by_size = segment_regions(levels(), n_segments=4, resolution="grid", background="size")
    np.testing.assert_array_equal(by_size, np.select([level == LEVELS for level in "abcd"], [0, 1, 2, 3]))
    assert by_size.dtype == np.int32
    by_border = segment_regions(levels(), n_segments=4, resolution="grid", background="border")
    np.testing.assert_array_equal(by_border, np.select([level == LEVELS for level in "abcd"], [1, 0, 2, 3]))


def test_segments_at_the_images_resolution_replicate_the_edge() -> None:
    labels = segment_regions(levels(), n_segments=4)
    grid = segment_regions(levels(), n_segments=4, resolution="grid")
    whole = np.repeat(np.repeat(grid, 8, axis=0), 8, axis=1)
    np.testing.assert_array_equal(labels, np.pad(whole, ((0, 3), (0, 3)), mode="edge"))


def test_number_of_segments_by_the_eigengap() -> None:
    y1 = np.repeat([-1.0, 0, 1], 4).reshape(3, 4)
    y2 = np.repeat([1.0, -2, 1], 4).reshape(3, 4)
    # The gap after y₀ is the largest, but does not count; that after y₂ tells three segments.
    d = decomposition(y1, y2, y1, values=[0, 0.5, 0.55, 0.9])
    assert segment_regions(d, n_segments="auto").max() == 2
    two = replace(d, pairs=replace(d.pairs, values=np.array([0, 0.1, 0.5, 0.6])))
    assert segment_regions(two, n_segments="auto").max() == 1


def test_as_many_segments_as_distinct_entries() -> None:
    constant = decomposition(np.zeros((3, 4)))
    np.testing.assert_array_equal(
        segment_regions(constant, n_segments=5, resolution="grid"), np.zeros((3, 4))
    )
    two = decomposition([[1, 1, 1], [1, 2, 1], [1, 1, 1]])
    np.testing.assert_array_equal(
        segment_regions(two, n_segments=9, resolution="grid"), [[0, 0, 0], [0, 1, 0], [0, 0, 0]]
    )


@settings(max_examples=25)
@given(decompositions(), st.integers(1, 12), st.sampled_from(["border", "size"]), st.integers(0, 3))
def test_segments_are_numbered_without_gaps(
    d: Decomposition, n_segments: int, background: str, seed: int
) -> None:
    n_segments = min(n_segments, d.pairs.degrees.size)
    ask = {"n_segments": n_segments, "background": background, "seed": seed, "resolution": "grid"}
    labels = segment_regions(d, **ask)
    sizes = np.bincount(labels.ravel())
    assert (sizes > 0).all()
    assert len(sizes) <= n_segments
    assert (np.diff(sizes[1:]) <= 0).all()
    if background == "size":
        assert sizes[0] == sizes.max()
    np.testing.assert_array_equal(segment_regions(d, **ask), labels)


def test_segments_without_scikit_learn_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r"deepspec\[cluster\]"):
        segment_regions(levels(), n_segments=4)


def test_confidence_of_known_profiles() -> None:
    def profile(y: np.ndarray) -> float:
        # Between rows of ground, so that no more than the two ends are on the border.
        rows = np.stack([np.full(len(y), -1e-9), y - y.mean(), np.full(len(y), -1e-9)])
        return objectness(
            decomposition(rows, values=(0, 0), degrees=np.array([[1e-9], [1], [1e-9]]) + 0 * rows)
        )

    t = (np.arange(2000) + 0.5) / 2000
    assert profile(np.where(t > 0.7, 1.0, -1.0)) == pytest.approx(1, abs=1e-3)
    assert profile(np.cos(np.pi * t)) == pytest.approx(8 / np.pi**2, abs=1e-3)
    assert profile(t) == pytest.approx(0.75, abs=1e-3)
    assert profile(np.zeros(2000)) == 0


def test_confidence_weighs_cells_by_their_degree() -> None:
    y, degrees = np.array([[-2.0, -1.0, 1.5]]), np.array([[1.0, 2.0, 4.0]])
    # Weighted mean 2/7, side means −4/3 and 3/2: between 3 · (34/21)² + 4 · (17/14)², total 14.4286.
    # Of the border, which all three cells are, two are behind; μ₁ is 1/4.
    expected = (3 * (34 / 21) ** 2 + 4 * (17 / 14) ** 2) / (15 - 4 / 7) * 2 / 3 * 3 / 4
    d = decomposition(y, degrees=degrees, values=(0, 0.25))
    assert objectness(d) == pytest.approx(expected)
    assert objectness(replace(d, settings={"laplacian": "unnormalized"})) == pytest.approx(
        expected / (3 / 4) * (1 - 0.25 / 4)
    )
    assert objectness(decomposition(y, degrees=degrees, values=(0, 1.5))) == 0


def test_confidence_falls_as_an_object_meets_the_border() -> None:
    scores = []
    for rows in (np.s_[2:5], np.s_[:5], np.s_[:8]):
        y = np.full((8, 9), -1.0)
        y[rows, 3:6] = 1
        scores.append(objectness(decomposition(y, values=(0, 0.1))))
    # Of 30 border cells none, 3 and 6 are in front.
    np.testing.assert_allclose(scores, 0.9 * np.array([1, 27 / 30, 24 / 30]), rtol=1e-6)


def test_object_of_two_colors_is_found_from_end_to_end() -> None:
    d = decompose(two_colors(91, 101, np.s_[24:64, 40:80]), "classical")
    mask = np.zeros((91, 101), bool)
    mask[24:64, 40:80] = True
    np.testing.assert_array_equal(segment_object(d), mask)
    np.testing.assert_array_equal(segment_object(d, foreground="border"), mask)
    assert box_of(d) == (40, 24, 80, 64)
    assert localize(d).score > 0.8
    labels = segment_regions(d, n_segments=2)
    np.testing.assert_array_equal(labels == 1, mask)


def test_constant_image_is_defined() -> None:
    d = decompose(np.full((67, 83, 3), 128, np.uint8), "classical")
    xmin, ymin, xmax, ymax = box_of(d)
    assert 0 <= xmin < xmax <= 80
    assert 0 <= ymin < ymax <= 64
    assert segment_object(d).shape == segment_regions(d).shape == (67, 83)

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepspec.class_statistics import (
    ClassStatistics,
    class_statistics,
    count_classes,
    statistics_table,
    write_statistics,
)

# Of 12 pixels, 5 are background; class 3 is in neither image.
FIRST = np.array([[0, 1, 1], [0, 2, 2]])
SECOND = np.array([[2, 2, 0, 0], [2, 0, 0, 0]], np.uint8)[:, :3]
EXPECTED = [
    ClassStatistics(0, "background", 5, 5 / 12, 2, 0),
    ClassStatistics(1, "cat", 2, 2 / 12, 1, 1),
    ClassStatistics(2, None, 5, 5 / 12, 2, 3),
    ClassStatistics(3, None, 0, 0.0, 0, 1),
]


def counts() -> Iterator[dict[str, Any]]:
    # The second image's segment of class 3 lost its pixels.
    for labels, segments in ((FIRST, [1, 2, 2]), (SECOND, np.array([2, 3], np.int32))):
        yield json.loads(json.dumps(count_classes(labels, segments)))


def test_counts_of_images_by_hand() -> None:
    assert count_classes(FIRST, []) == {"pixels": [[0, 2], [1, 2], [2, 2]], "segments": []}
    assert list(counts())[1] == {"pixels": [[0, 3], [2, 3]], "segments": [[2, 1], [3, 1]]}
    assert class_statistics(counts(), 3, {1: "cat"}) == EXPECTED


def test_without_images_all_is_zero() -> None:
    assert class_statistics([], 1) == [
        ClassStatistics(0, "background", 0, 0.0, 0, 0),
        ClassStatistics(1, None, 0, 0.0, 0, 0),
    ]


def test_shares_add_up_to_one() -> None:
    rng = np.random.default_rng(0)
    images = [count_classes(rng.integers(0, 21, (20, 30)), rng.integers(1, 21, 9)) for _ in range(5)]
    found = class_statistics(images, 20)
    assert [row.id for row in found] == list(range(21))
    assert sum(row.n_pixels for row in found) == 5 * 600
    assert sum(row.share for row in found) == pytest.approx(1)
    assert sum(row.n_segments for row in found) == 45
    assert class_statistics(images[::-1], 20) == found


def test_unknown_classes_are_refused() -> None:
    for wrong in ({"pixels": [[4, 1]], "segments": []}, {"pixels": [], "segments": [[4, 1]]}):
        with pytest.raises(ValueError, match="from 0 to n_classes = 3, got 4"):
            class_statistics([wrong], 3)
    with pytest.raises(ValueError, match="got -1"):
        class_statistics([{"pixels": [[-1, 1]], "segments": []}], 3)


def test_table_has_the_largest_class_first_and_the_background_last() -> None:
    rows = [*EXPECTED, ClassStatistics(4, "a|b\nc", 2, 2 / 12, 1234, 5)]
    assert statistics_table(rows).split("\n") == [
        "|  id | class      | pixels | images | segments |",
        "| --: | ---------- | -----: | -----: | -------: |",
        "|   2 |            |  41.7% |      2 |        3 |",
        "|   1 | cat        |  16.7% |      1 |        1 |",
        "|   4 | a\\|b c     |  16.7% |  1,234 |        5 |",
        "|   3 |            |   0.0% |      0 |        1 |",
        "|   0 | background |  41.7% |      2 |        0 |",
    ]


def test_file_is_a_list_of_the_fields(tmp_path: Path) -> None:
    path = tmp_path / "run" / "classes.json"
    write_statistics(EXPECTED, path)
    rows = json.loads(path.read_text())
    assert rows[1] == {
        "id": 1,
        "name": "cat",
        "n_pixels": 2,
        "share": 2 / 12,
        "n_images": 1,
        "n_segments": 1,
    }
    assert [ClassStatistics(**row) for row in rows] == EXPECTED

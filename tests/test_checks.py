from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from deepspec.checks import check_choice, check_whole


@pytest.mark.parametrize("value", [2, 5, np.int64(2), np.uint8(5)])
def test_whole_numbers_become_ints(value: Any) -> None:
    found = check_whole("n", value, 2, 5)
    assert type(found) is int
    assert found == value


@pytest.mark.parametrize("value", [-1, 6, 2.0, True, np.True_, "2", None, np.float64(2)])
def test_all_else_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match=re.escape(f"n must be a whole number from 0 to 5, got {value!r}")):
        check_whole("n", value, 0, 5)


def test_there_need_be_no_upper_limit() -> None:
    assert check_whole("n", 10**30, 0) == 10**30
    with pytest.raises(ValueError, match="n must be a whole number of at least 0, got -1"):
        check_whole("n", -1, 0)


def test_choices_are_words() -> None:
    check_choice("pool", "crop", ("crop", "segment"))
    for value in ("mean", None, ["crop"]):
        with pytest.raises(
            ValueError, match=re.escape(f"pool must be one of 'crop', 'segment', got {value!r}")
        ):
            check_choice("pool", value, {"crop": 0, "segment": 1})  # type: ignore[arg-type]

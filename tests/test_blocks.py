from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deepspec._blocks import blocks


@given(st.integers(1, 5000), st.integers(1, 2**22))
def test_blocks_are_all_rows_in_turn_and_small(n: int, numbers: int) -> None:
    found = blocks(n, numbers)
    assert [row for rows in found for row in range(rows.start, rows.stop)] == list(range(n))
    assert all(rows.stop - rows.start == 1 or (rows.stop - rows.start) * numbers <= 2**21 for rows in found)
    # And as many at a time as may be.
    assert len(found) == 1 or (found[0].stop + 1) * numbers > 2**21

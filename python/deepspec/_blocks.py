"""Arrays in parts, so that what is made on the way stays small beside them."""

from __future__ import annotations


def blocks(n: int, numbers: int) -> list[slice]:
    """Of n rows with so many numbers each: as many rows at a time as make some two million, and at least one."""
    step = max(1, 2**21 // max(1, numbers))
    return [slice(start, min(n, start + step)) for start in range(0, n, step)]

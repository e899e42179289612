"""Checks of arguments, before any work is done."""

from __future__ import annotations

from numbers import Integral
from typing import Any


def check_choice(name: str, value: str, choices: Any) -> None:
    """ValueError where a value is not one of the words there are."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number within limits, numpy's among them, as an int; ValueError for all else, True and False too."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {limits}, got {value!r}")
    return int(value)

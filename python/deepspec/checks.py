"""Checks of arguments, before any work is done."""

from __future__ import annotations

import math
from numbers import Integral, Real
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


def check_color_weight(value: Any) -> float:
    """λ, from 0 to inf; ValueError for all else."""
    if not (isinstance(value, Real) and float(value) >= 0):
        raise ValueError(f"color_weight must be a number from 0 to inf, got {value!r}")
    return float(value)


def check_tol(value: Any) -> float:
    """A residual, between 0 and 1; ValueError for all else."""
    if not (isinstance(value, Real) and 0 < float(value) < 1):
        raise ValueError(f"tol must be a number between 0 and 1, got {value!r}")
    return float(value)


def check_max_memory(value: Any) -> float:
    """Bytes, None for as many as there are; ValueError for all else."""
    if value is None:
        return math.inf
    if not (isinstance(value, Real) and float(value) > 0):
        raise ValueError(f"max_memory must be a number of bytes above 0, got {value!r}")
    return float(value)

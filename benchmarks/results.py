"""What a benchmark of the eigenpairs measured, as it lies in its JSON file."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from graphs import Errors
from measures import Ratio, ratio_over_rounds

OURS = ("deepspec", "deepspec-fast")


@dataclass(frozen=True)
class Setting:
    """What is decomposed."""

    n: int
    grid: tuple[int, int]
    features: str
    source: str  # "own" or "half": the grid of the features, of that of the graph
    channels: int
    k: int
    color_weight: float

    def describe(self) -> str:
        return (
            f"n = {self.n}{' from half the grid' if self.source == 'half' else ''}, {self.describe_family()}"
        )

    def describe_family(self) -> str:
        """What it has in common with its like of other sizes."""
        return f"C = {self.channels}, k = {self.k}, λ = {self.color_weight:g}"


@dataclass(frozen=True)
class Row:
    """One method on one problem with one number of threads."""

    setting: Setting
    method: str
    threads: int
    rounds: list[int]  # in which it ran
    seconds: list[float]
    errors: Errors
    graph_difference: float  # share of the colour graph's entries that are not deepspec's
    memory: int | None  # bytes at the peak; None where not measured
    memory_bound: int | None  # bytes deepspec allows itself

    @property
    def milliseconds(self) -> float:
        return 1e3 * statistics.median(self.seconds)

    def ratio_to(self, other: Row) -> Ratio:
        """How many times as long this takes as the other, over the rounds in which both ran."""
        return ratio_over_rounds(self.rounds, self.seconds, other.rounds, other.seconds)


@dataclass(frozen=True)
class LeftOut:
    """A method that did not run on a problem."""

    setting: Setting
    method: str
    reason: str


@dataclass
class Results:
    environment: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    def find(self, setting: Setting, method: str, threads: int) -> Row | None:
        wanted = (setting, method, threads)
        return next((row for row in self.rows if (row.setting, row.method, row.threads) == wanted), None)

    def families(self) -> list[tuple[str, list[Setting]]]:
        """Problems that differ in size alone, or in the grid of their features."""
        found: dict[str, list[Setting]] = {}
        for row in self.rows:
            settings = found.setdefault(row.setting.describe_family(), [])
            if row.setting not in settings:
                settings.append(row.setting)
        return [
            (name, sorted(settings, key=lambda s: (s.n, s.source == "half")))
            for name, settings in found.items()
        ]

    def thread_counts(self) -> list[int]:
        return sorted({row.threads for row in self.rows})

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        content = json.loads(path.read_text())
        rows = [
            {**row, "setting": _setting(row), "errors": Errors(**row["errors"])} for row in content["rows"]
        ]
        left_out = [{**entry, "setting": _setting(entry)} for entry in content["left_out"]]
        return cls(
            content["environment"], [Row(**row) for row in rows], [LeftOut(**entry) for entry in left_out]
        )


def exponent(rows: Sequence[Row]) -> str:
    """n^…, of the medians, from the smallest size of at least 4096 cells to the largest."""
    sizes = sorted((row.setting.n, row.milliseconds) for row in rows if row.setting.n >= 4096)
    if len(sizes) < 2:
        return ""
    (n, time), (largest, longest) = sizes[0], sizes[-1]
    return f"n^{math.log(longest / time) / math.log(largest / n):.2f} ({n} to {largest})"


def count(number: int, what: str) -> str:
    return f"{number} {what}{'s' if number != 1 else ''}"


def _setting(entry: dict[str, Any]) -> Setting:
    return Setting(**{**entry["setting"], "grid": tuple(entry["setting"]["grid"])})

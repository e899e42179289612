"""The figure of what `eigenpairs.py` measured: time against n, how many times as fast deepspec is, and what threads bring."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from results import OURS, Results, Row, Setting, count, exponent

COLORS = {
    "deepspec": "#c1272d",
    "deepspec-fast": "#f08a24",
    "deepspec-spectra": "#d98cb3",
    "tuned": "#1f5fa8",
    "published": "#23304f",
    "scipy-lobpcg": "#58a3d6",
    "torch-eigh": "#3c7d3f",
    "torch-lobpcg": "#86b86b",
    "scikit-learn": "#8a6d3b",
    "ncut-pytorch": "#8866aa",
}
GROWTH = 1.8  # the exponent drawn for comparison
LABEL_HEIGHT = 11.0  # points between the names of two lines

End: TypeAlias = tuple[float, float, str, str]  # the last point of a line, its name, and its method

STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.color": "#555555",
    "xtick.labelsize": 8,
    "ytick.color": "#555555",
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    "svg.hashsalt": "deepspec",
}


def save_figure(results: Results, path: Path) -> None:
    """Panels of the first family of problems (C, k, λ), as PNG, SVG or PDF by the name's ending: times, ratios and, where
    one thread was measured beside more, what these bring."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullLocator

    family, settings = results.families()[0]
    counts = results.thread_counts()
    most = max(counts)
    panels = [draw_times, draw_ratios]
    if most > 1 and 1 in counts:
        panels.append(draw_threads)
    with plt.rc_context(STYLE):
        figure, drawn = plt.subplots(1, len(panels), figsize=(4.7 * len(panels), 4.8), layout="constrained")
        features = f"{settings[0].features} features"
        figure.suptitle(
            f"The {settings[0].k} smallest eigenpairs: {family}, {features}, {count(most, 'thread')}",
            x=0.01,
            ha="left",
            fontweight="bold",
        )
        sizes = sorted({setting.n for setting in settings})
        for axes in drawn:
            axes.set(xscale="log", xlabel="n")
            axes.xaxis.set_minor_locator(NullLocator())
        for axes in drawn[:2]:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for axes, draw in zip(drawn, panels, strict=True):
            draw(axes, results, settings, most)
            axes.set_xticks(sizes, [str(n) for n in sizes])
        figure.savefig(path, dpi=150)
        plt.close(figure)


def draw_times(axes: Any, results: Results, settings: Sequence[Setting], threads: int) -> None:
    axes.set_title("time, ms")
    ends: list[End] = []
    for method, rows in lines_of(results, settings, threads):
        sizes, milliseconds = [row.setting.n for row in rows], [row.milliseconds for row in rows]
        axes.plot(sizes, milliseconds, "o-", color=COLORS[method], **_weight(method))
        grows = exponent(rows).split(" ")[0] if method in (*OURS, "tuned") else ""
        ends.append((sizes[-1], milliseconds[-1], f"{method}  {_superscript(grows)}", method))
    for method, rows in lines_of(results, settings, threads):
        large = [row for row in rows if row.setting.n >= 4096]
        if method == "deepspec" and len(large) > 1:
            n = np.array([row.setting.n for row in large], float)
            guide = large[0].milliseconds * (n / n[0]) ** GROWTH
            axes.plot(n, guide, ":", color="#999999", linewidth=1.2, zorder=1)
            ends.append((n[-1], guide[-1], _superscript(f"n^{GROWTH}"), ""))
    _label(axes, ends)


def draw_ratios(axes: Any, results: Results, settings: Sequence[Setting], threads: int) -> None:
    axes.set_title("time ÷ deepspec's (hollow: features of half the grid)")
    ends: list[End] = []
    for source in ("own", "half"):
        for method, rows in lines_of(results, settings, threads, source):
            pairs = [(row, results.find(row.setting, "deepspec", threads)) for row in rows]
            points = [(row.setting.n, *row.ratio_to(own)) for row, own in pairs if own]
            if method == "deepspec" or not points:
                continue
            half = source == "half"
            if half and method not in ("published", "tuned"):
                continue
            look = {"fmt": "o--", "markerfacecolor": "white", "linewidth": 1.0} if half else {"fmt": "o-"}
            _draw_intervals(axes, points, color=COLORS[method], **look)
            if not half:
                ends.append((*points[-1][:2], method, method))
    axes.axhline(1, color="#999999", linewidth=1)
    _label(axes, ends)


def draw_threads(axes: Any, results: Results, settings: Sequence[Setting], most: int) -> None:
    axes.set_title(f"one thread ÷ {most} threads")
    ends: list[End] = []
    for method, rows in lines_of(results, settings, most):
        singles = [(row, results.find(row.setting, method, 1)) for row in rows]
        points = [(row.setting.n, *single.ratio_to(row)) for row, single in singles if single]
        if method not in (*OURS, "tuned", "published") or not points:
            continue
        aside = 1 + 0.02 * len(ends)  # so that the intervals do not hide one another
        moved = [(n * aside, middle, low, high) for n, middle, low, high in points]
        _draw_intervals(axes, moved, fmt="o-", color=COLORS[method], **_weight(method))
        ends.append((*moved[-1][:2], method, method))
    axes.axhline(1, color="#999999", linewidth=1)
    _label(axes, ends)


def lines_of(
    results: Results, settings: Sequence[Setting], threads: int, source: str = "own"
) -> list[tuple[str, list[Row]]]:
    """The rows of each method by n, in the order of the colours."""
    lines = []
    for method in COLORS:
        found = [results.find(setting, method, threads) for setting in settings if setting.source == source]
        rows = sorted((row for row in found if row), key=lambda row: row.setting.n)
        if rows:
            lines.append((method, rows))
    return lines


def _draw_intervals(axes: Any, points: Sequence[Sequence[float]], **look: Any) -> None:
    """Points (n, median, low, high)."""
    n, middle, low, high = np.array(points).T
    axes.errorbar(n, middle, yerr=(middle - low, high - middle), capsize=2, elinewidth=1, **look)


def _weight(method: str) -> dict[str, float]:
    return {"linewidth": 2.4, "zorder": 3} if method in OURS else {"zorder": 2}


def _superscript(power: str) -> str:
    return f"$n^{{{power[2:]}}}$" if power else ""


def _label(axes: Any, ends: Sequence[End]) -> None:
    """Names at the right border, at the height of the last points and moved apart where they would overlap."""
    if not ends:
        axes.set_visible(False)
        return
    from matplotlib.transforms import blended_transform_factory

    axes.figure.draw_without_rendering()
    points_per_pixel = 72 / axes.figure.dpi
    heights = {end: axes.transData.transform((end[0], end[1]))[1] * points_per_pixel for end in ends}
    place, previous = blended_transform_factory(axes.transAxes, axes.transData), -np.inf
    for end in sorted(ends, key=lambda end: heights[end]):
        height = max(heights[end], previous + LABEL_HEIGHT)
        previous = height
        axes.annotate(
            end[2],
            (1, end[1]),
            xycoords=place,
            xytext=(6, height - heights[end]),
            textcoords="offset points",
            va="center",
            color=COLORS.get(end[3], "#777777"),
            annotation_clip=False,
        )

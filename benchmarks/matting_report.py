"""Tables in Markdown, and a figure, of what `matting.py` measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from figures import STYLE
from matting_agreement import Agreement
from matting_speed import LeftOut, Row
from pixel_methods import OURS
from report import count, describe, markdown, megabytes, show

BEST = "patch"  # the method the peers' times are divided by
PAPER_CPU_SECONDS = 100 * 60  # "about 1 minute on 100 CPUs" for one image
COLORS = {
    "patch": "#c1272d",
    "patch4": "#f08a24",
    "sampled": "#d98cb3",
    "scipy": "#1f5fa8",
    "scipy-40": "#58a3d6",
    "literal": "#23304f",
    "literal-40": "#8a6d3b",
}


def speed(about: dict[str, Any], rows: Sequence[Row], left_out: Sequence[LeftOut]) -> str:
    parts = [describe(about), *_methods_tables(rows), _growth_table(rows), _left_out_table(left_out)]
    return "\n\n".join(part for part in parts if part)


def agreement(about: dict[str, Any], found: Sequence[Agreement]) -> str:
    head = [
        "kind",
        "photo",
        "form",
        "matched",
        "degrees ÷",
        "cosine of y₁",
        "cosines of the spaces of y₁, y₂, …",
    ]
    head += ["residual", "exact residual", "gap after the last"]
    lines = [
        [
            one.kind,
            one.photo,
            one.form,
            "yes" if one.matched else "no",
            f"{one.degree_ratio:.3f}",
            f"{one.first:.5f}",
            " ".join(f"{cosine:.5f}" for cosine in one.cosines),
            f"{one.residual:.1e}",
            f"{one.exact_residual:.1e}",
            f"{one.exact_values[-1] - one.exact_values[-2]:.1e}",
        ]
        for one in found
    ]
    summary = [
        [
            kind,
            form,
            "yes" if matched else "no",
            f"{min(one.first for one in group):.5f}",
            f"{min(one.cosines[-1] for one in group):.5f}",
            f"{max(one.residual for one in group):.1e}",
        ]
        for (kind, form, matched), group in _grouped(found)
    ]
    worst = ["kind", "form", "matched", "least cosine of y₁", "least cosine", "largest residual"]
    tables = (markdown(worst, summary), markdown(head, lines))
    return "\n\n".join([describe(about), *tables])


def _grouped(found: Sequence[Agreement]) -> Iterator[tuple[tuple[str, str, bool], list[Agreement]]]:
    def key(one: Agreement) -> tuple[str, str, bool]:
        return one.kind, one.form, one.matched

    for value, group in groupby(sorted(found, key=key), key=key):
        yield value, list(group)


def _methods_tables(rows: Sequence[Row]) -> list[str]:
    """Every method on every size: seconds, ratios, and what the paper's 100 CPU-minutes are to that."""
    head = ["pixels", "method", "threads", "runs", "s", f"÷ {BEST}", "paper's CPU time ÷"]
    head += ["residual", "last μ", "peak MB", "bytes a pixel"]
    tables = []
    for kind in dict.fromkeys(row.kind for row in rows):
        lines = [_method_line(row, rows) for row in rows if row.kind == kind]
        tables.append(f"{kind} features:\n\n{markdown(head, lines)}")
    return tables


def _method_line(row: Row, rows: Sequence[Row]) -> list[str]:
    own = find(rows, row.kind, row.side, BEST, row.threads, row.once)
    return [
        f"{row.side}²",
        row.method,
        str(row.threads),
        "once" if row.once else str(len(row.seconds)),
        f"{row.median:.2f}",
        show(row.ratio_to(own)) if own and own is not row else "–",
        f"{PAPER_CPU_SECONDS / (row.median * row.threads):.0f}",
        "" if row.residual is None else f"{row.residual:.1e}",
        f"{row.values[-1]:.5f}",
        megabytes(row.memory),
        "" if row.memory is None else f"{row.memory / row.n:.0f}",
    ]


def _growth_table(rows: Sequence[Row]) -> str:
    """The exponent of the number of pixels in the time, from 512² on, and what more threads bring."""
    lines = []
    for kind, method, threads in dict.fromkeys((row.kind, row.method, row.threads) for row in rows):
        own = sorted(_in_rounds(rows, kind, method, threads), key=lambda row: row.n)
        singles = [(row, find(rows, kind, row.side, method, 1)) for row in own if threads > 1]
        faster = [f"{row.side}²: {show(one.ratio_to(row))}" for row, one in singles if one]
        if grows := exponents([row for row in own if row.side >= 512]):
            lines.append([kind, method, str(threads), grows, ", ".join(faster)])
    head = ["problem", "method", "threads", "time grows as", "as fast as one thread, times"]
    return markdown(head, lines) if lines else ""


def exponents(rows: Sequence[Row]) -> str:
    """n^…, of the medians: between neighbouring sizes, and over all of them."""
    pairs = list(pairwise(rows))
    if len(rows) > 2:
        pairs.append((rows[0], rows[-1]))
    grown = [(a, b, math.log(b.median / a.median) / math.log(b.n / a.n)) for a, b in pairs if a.side < b.side]
    return ", ".join(f"n^{power:.2f} ({a.side}² to {b.side}²)" for a, b, power in grown)


def _left_out_table(left_out: Sequence[LeftOut]) -> str:
    lines = [[entry.method, f"{entry.kind}, {entry.side}²", entry.reason] for entry in left_out]
    return markdown(["left out", "at n", "because"], lines) if lines else ""


def find(
    rows: Sequence[Row], kind: str, side: int, method: str, threads: int, once: bool = False
) -> Row | None:
    wanted = (kind, side, method, threads, once)
    return next(
        (row for row in rows if (row.kind, row.side, row.method, row.threads, row.once) == wanted), None
    )


def _in_rounds(rows: Sequence[Row], kind: str, method: str, threads: int) -> list[Row]:
    wanted = (kind, method, threads, False)
    return [row for row in rows if (row.kind, row.method, row.threads, row.once) == wanted]


def save_figure(rows: Sequence[Row], path: Path) -> None:
    """Time and memory against pixels, of the first kind of problem with the most threads; single runs hollow."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FuncFormatter, NullLocator

    kind, most = rows[0].kind, max(row.threads for row in rows)
    shown = [row for row in rows if row.kind == kind and row.threads == most]
    with plt.rc_context(STYLE):
        figure, (times, memories) = plt.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
        title = f"The eigenpairs of all pixels: {kind} features, {count(most, 'thread')}"
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        times.set_title("time, s (hollow: run once)")
        memories.set_title("peak memory, MB")
        for method in dict.fromkeys(row.method for row in shown):
            own = [row for row in shown if row.method == method]
            _draw(times, method, [(row, row.median) for row in own])
            _draw(memories, method, [(row, row.memory / 1e6) for row in own if row.memory])
        sides = sorted({row.side for row in shown})
        for axes in (times, memories):
            axes.set(xscale="log", yscale="log", xlabel="pixels")
            axes.set_xticks([side**2 for side in sides], [f"{side}²" for side in sides])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        times.legend(frameon=False, fontsize=8)
        figure.savefig(path, dpi=150)
        plt.close(figure)


def _draw(axes: Any, method: str, points: Sequence[tuple[Row, float]]) -> None:
    color, width = COLORS[method], 2.4 if method in OURS else 1.6
    turns = sorted((row.n, value) for row, value in points if not row.once)
    once = [(row.n, value) for row, value in points if row.once]
    label = method
    if turns:
        axes.plot(*zip(*turns, strict=True), "o-", color=color, linewidth=width, label=label)
        label = "_nolegend_"
    if once:
        axes.plot(*zip(*once, strict=True), "o", color=color, markerfacecolor="white", label=label)

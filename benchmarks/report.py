"""Tables, in Markdown, of what `eigenpairs.py --json FILE` measured.

    python benchmarks/report.py results.json [--tables speed methods scaling left-out] [--plot results.png]

speed     one row a size: deepspec's time, and how many times as long the published route and tuned SciPy take
methods   every method on every problem: time, errors, residual, memory
scaling   the growth of the time with n, and what more threads bring
left-out  which methods did not run where, and why
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path

from measures import Ratio
from results import OURS, Results, Row, Setting, count, exponent

MAIN_PEERS = ("published", "tuned")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, metavar="JSON")
    parser.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    parser.add_argument("--plot", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    results = Results.load(options.results)
    print(render(results, options.tables))
    if options.plot:
        from figures import save_figure

        save_figure(results, options.plot)


def render(results: Results, tables: Sequence[str] = ("speed", "methods", "scaling", "left-out")) -> str:
    parts = [describe(results.environment)]
    parts += [table for name in tables if (table := TABLES[name](results))]
    return "\n\n".join(parts)


def describe(environment: dict[str, object]) -> str:
    """Versions and the machine, a line each."""
    lines = []
    for name, value in environment.items():
        shown = (
            ", ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else value
        )
        lines.append(f"{name}: {shown}")
    return "\n".join(lines)


def speed_table(results: Results) -> str:
    """How many times as fast deepspec is as the published route and tuned SciPy, by size."""
    tables = []
    for family, settings in results.families():
        for threads in results.thread_counts():
            ours = [name for name in OURS if any(results.find(s, name, threads) for s in settings)]
            peers = [name for name in MAIN_PEERS if any(results.find(s, name, threads) for s in settings)]
            head = ["n", *(f"{name}, ms" for name in ours)]
            for peer in peers:
                head += [f"{peer}, ms", *(f"÷ {name}" for name in ours)]
            lines = []
            for setting in settings:
                line = [size_of(setting)]
                line += [milliseconds(results.find(setting, name, threads)) for name in ours]
                for peer in peers:
                    row = results.find(setting, peer, threads)
                    line.append(milliseconds(row))
                    line += [ratio(row, results.find(setting, name, threads)) for name in ours]
                lines.append(line)
            tables.append(f"{family}, {count(threads, 'thread')}:\n\n{markdown(head, lines)}")
    return "\n\n".join(tables)


def methods_table(results: Results) -> str:
    """Every method on every problem."""
    ours = [name for name in OURS if any(row.method == name for row in results.rows)]
    head = ["method", "threads", "runs", "ms", *(f"÷ {name}" for name in ours)]
    head += ["Δ values", "angle, rad", "allowed", "residual", "peak MB", "allowed", "other edges"]
    tables = []
    for setting, rows in groupby(results.rows, key=lambda row: row.setting):
        lines = [_method_line(results, row, ours) for row in rows]
        tables.append(f"{setting.describe()}, {setting.features} features:\n\n{markdown(head, lines)}")
    return "\n\n".join(tables)


def _method_line(results: Results, row: Row, ours: Sequence[str]) -> list[str]:
    errors = row.errors
    return [
        row.method,
        str(row.threads),
        str(len(row.seconds)),
        milliseconds(row),
        *(ratio(row, results.find(row.setting, name, row.threads)) for name in ours),
        f"{errors.values:.1e}",
        f"{errors.angle:.1e}",
        f"{errors.angle_bound:.1e}",
        f"{errors.residual:.1e}",
        megabytes(row.memory),
        megabytes(row.memory_bound) if row.memory is not None else "",
        f"{row.graph_difference:.1%}",
    ]


def scaling_table(results: Results) -> str:
    """The exponent of n in the time from 4096 cells on, and how many times as fast more threads are."""
    most, lines = max(results.thread_counts(), default=1), []
    for family, settings in results.families():
        for method in dict.fromkeys(row.method for row in results.rows):
            rows = [row for s in settings if s.source == "own" and (row := results.find(s, method, most))]
            singles = [results.find(row.setting, method, 1) for row in rows] if most > 1 else []
            faster = [
                f"{row.setting.n}: {show(single.ratio_to(row))}"
                for row, single in zip(rows, singles, strict=False)
                if single
            ]
            if exponent(rows) or faster:
                lines.append([family, method, exponent(rows), ", ".join(faster)])
    head = ["problem", "method", "time grows as", f"{count(most, 'thread')} against one, times as fast"]
    return markdown(head, lines) if lines else ""


def left_out_table(results: Results) -> str:
    lines: dict[tuple[str, str], list[str]] = {}
    for entry in results.left_out:
        lines.setdefault((entry.method, entry.reason), []).append(str(entry.setting.n))
    table = [[method, ", ".join(dict.fromkeys(sizes)), why] for (method, why), sizes in lines.items()]
    return markdown(["left out", "at n", "because"], table) if table else ""


TABLES: dict[str, Callable[[Results], str]] = {
    "speed": speed_table,
    "methods": methods_table,
    "scaling": scaling_table,
    "left-out": left_out_table,
}


# What the tables share


def size_of(setting: Setting) -> str:
    height, width = setting.grid
    return f"{setting.n} from {height // 2} × {width // 2}" if setting.source == "half" else str(setting.n)


def milliseconds(row: Row | None) -> str:
    return f"{row.milliseconds:.1f}" if row else "–"


def megabytes(size: int | None) -> str:
    return f"{size / 1e6:.0f}" if size is not None else ""


def ratio(row: Row | None, other: Row | None) -> str:
    return show(row.ratio_to(other)) if row and other and row is not other else "–"


def show(value: Ratio) -> str:
    return f"{value.median:.2f} ({value.low:.2f}–{value.high:.2f})"


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    aligned = ["---" if name in TEXT_COLUMNS else "---:" for name in head]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, aligned, *lines))


TEXT_COLUMNS = ("method", "problem", "left out", "at n", "because")


if __name__ == "__main__":
    main()

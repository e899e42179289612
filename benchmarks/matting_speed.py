"""How long the full-resolution eigenpairs take, and in how much memory: methods in turns on photographs of several sizes."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection

import numpy as np
import pixel_problems
from measures import Ratio, in_turns, limit_threads, peak_memory, peak_memory_here, ratio_over_rounds
from methods import Pairs
from pixel_graphs import PixelProblem
from pixel_methods import METHODS, Question

SLOW = 2.0  # seconds, from which a method takes fewer turns


@dataclass(frozen=True)
class Row:
    """One method on one photograph with one number of threads."""

    kind: str  # of problem
    side: int  # pixels; the image is a square
    method: str
    threads: int
    once: bool  # in a process of its own, not in turns
    rounds: list[int]  # in which it ran
    seconds: list[float]
    residual: (
        float | None
    )  # the largest on the method's own graph in float64; None where only the method knows it
    memory: int | None  # bytes at the peak; None where not measured
    values: list[float]  # μ: one that is skipped leaves no residual, but a larger last value

    @property
    def n(self) -> int:
        return self.side**2

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def ratio_to(self, other: Row) -> Ratio:
        """How many times as long this takes as the other, over the rounds in which both ran."""
        return ratio_over_rounds(self.rounds, self.seconds, other.rounds, other.seconds)


@dataclass(frozen=True)
class LeftOut:
    kind: str
    side: int
    method: str
    reason: str


@dataclass(frozen=True)
class Effort:
    """How often and how closely to measure."""

    runs: int = 7
    slow_runs: int = 3
    memory: bool = True


Progress = Callable[[str], None]
Case = tuple[str, Question]


def in_rounds(
    kind: str,
    side: int,
    methods: Sequence[str],
    questions: Sequence[Question],
    effort: Effort,
    progress: Progress,
) -> tuple[list[Row], list[LeftOut]]:
    """All methods on one photograph, in turns."""
    problem, left_out = pixel_problems.make(kind, side), []
    found: dict[Case, Pairs] = {}
    runs: dict[Case, int] = {}
    for name in methods:
        if reason := reason_against(name, side):
            left_out.append(LeftOut(kind, side, name, reason))
            continue
        for question in questions:
            progress(f"{side} × {side}: {name}, threads {question.threads}")
            solve(name, pixel_problems.tiny(), question)  # loads and compiles
            found[name, question], seconds = timed(name, problem, question)
            runs[name, question] = effort.runs if seconds < SLOW else min(effort.slow_runs, effort.runs)

    progress(f"{side} × {side}: {max(runs.values(), default=0)} rounds")
    calls = {case: partial(METHODS[case[0]].solve, problem, case[1]) for case in found}
    times = in_turns(calls, runs, lambda case: limit_threads(case[1].threads))
    rows = []
    for (name, question), pairs in found.items():
        progress(f"{side} × {side}: residual and memory of {name}")
        tiny, full = (partial(solve, name, this, question) for this in (pixel_problems.tiny(), problem))
        rows.append(
            Row(
                kind,
                side,
                name,
                question.threads,
                once=False,
                rounds=list(times[name, question]),
                seconds=list(times[name, question].values()),
                residual=residual(name, problem, question, pairs),
                memory=peak_memory(tiny, full) if effort.memory else None,
                values=np.asarray(pairs.values).tolist(),
            )
        )
    return rows, left_out


def single_run(kind: str, side: int, name: str, question: Question, limit: float) -> Row | LeftOut:
    """One method once, in a process of its own that is ended at the limit."""
    if reason := METHODS[name].missing():
        return LeftOut(kind, side, name, reason)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_single_run, args=(sender, kind, side, name, question))
    process.start()
    sender.close()
    try:
        if not receiver.poll(limit):
            return LeftOut(kind, side, name, f"took more than {limit:g} s")
        answer: Row | LeftOut = receiver.recv()
        return answer
    except EOFError:
        process.join()
        return LeftOut(kind, side, name, f"its process ended with code {process.exitcode}: out of memory?")
    finally:
        process.kill()
        process.join()


def _single_run(sender: Connection, kind: str, side: int, name: str, question: Question) -> None:
    problem = pixel_problems.make(kind, side)
    done: list[tuple[Pairs, float]] = []
    try:
        memory = peak_memory_here(
            partial(solve, name, pixel_problems.tiny(), question),
            lambda: done.append(timed(name, problem, question)),
        )
        pairs, seconds = done[0]
        left = residual(name, problem, question, pairs)
        values = np.asarray(pairs.values).tolist()
        sender.send(Row(kind, side, name, question.threads, True, [0], [seconds], left, memory, values))
    except (RuntimeError, MemoryError) as error:  # the others go on
        sender.send(LeftOut(kind, side, name, f"{type(error).__name__}: {error}"))


def reason_against(name: str, side: int) -> str:
    """Why a method takes no turns on a size; empty if it does."""
    method = METHODS[name]
    if method.largest is not None and side > method.largest:
        return f"above {method.largest} × {method.largest} pixels it runs only once, with --once"
    return method.missing()


def timed(name: str, problem: PixelProblem, question: Question) -> tuple[Pairs, float]:
    """The pairs, and the seconds they took."""
    started = time.perf_counter()
    return solve(name, problem, question), time.perf_counter() - started


def solve(name: str, problem: PixelProblem, question: Question) -> Pairs:
    with limit_threads(question.threads):
        return METHODS[name].solve(problem, question)


def residual(name: str, problem: PixelProblem, question: Question, pairs: Pairs) -> float | None:
    """The largest residual of a method's pairs on the graph it decomposes."""
    graph = METHODS[name].graph
    if graph is None:
        return None
    return float(np.max(graph(problem, question.color_weight).residuals(pairs.vectors, pairs.values)))

"""How the benchmarks measure: calls in turns, ratios with intervals, memory in a process of its own."""

from __future__ import annotations

import gc
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

Key = TypeVar("Key")
CONFIDENCE = 0.9
PACKAGES = ("numpy", "scipy", "pymatting", "scikit-learn", "torch", "ncut-pytorch")
STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Ratio(NamedTuple):
    """Median, and its bootstrap interval."""

    median: float
    low: float
    high: float


def median_ratio(numerators: ArrayLike, denominators: ArrayLike) -> Ratio:
    """The median of the pairwise ratios of times measured in the same rounds, with its 90 % interval."""
    ratios = np.asarray(numerators, float) / np.asarray(denominators, float)
    samples = np.random.default_rng(0).choice(ratios, size=(2000, len(ratios)))
    tails = [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)]
    low, high = np.percentile(np.median(samples, axis=1), tails)
    return Ratio(float(np.median(ratios)), float(low), float(high))


def ratio_over_rounds(
    rounds: Sequence[int],
    seconds: Sequence[float],
    other_rounds: Sequence[int],
    other_seconds: Sequence[float],
) -> Ratio:
    """How many times as long the first takes as the other, over the rounds in which both ran."""
    own = dict(zip(rounds, seconds, strict=True))
    others = dict(zip(other_rounds, other_seconds, strict=True))
    shared = sorted(own.keys() & others.keys())
    return median_ratio([own[i] for i in shared], [others[i] for i in shared])


def in_turns(
    calls: Mapping[Key, Callable[[], object]],
    runs: Mapping[Key, int],
    within: Callable[[Key], AbstractContextManager[None]],
) -> dict[Key, dict[int, float]]:
    """Seconds of each call by round: all take turns, so that what else the machine does falls on all of them.

    A call with fewer runs than others is given rounds spread evenly over theirs. The context `within(key)` of a call
    is not timed.
    """
    rounds = max(runs.values(), default=0)
    chosen = {key: set(np.linspace(0, rounds - 1, runs[key]).round().astype(int).tolist()) for key in calls}
    seconds: dict[Key, dict[int, float]] = {key: {} for key in calls}
    for number in range(rounds):
        for key, call in calls.items():
            if number in chosen[key]:
                with within(key):
                    seconds[key][number] = duration(call)
    return seconds


def duration(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@contextmanager
def limit_threads(threads: int) -> Iterator[None]:
    """For every library that is loaded: BLAS and OpenMP, torch, numba."""
    with ExitStack() as restore:
        restore.enter_context(threadpool_limits(threads))
        if "torch" in sys.modules:
            torch = sys.modules["torch"]
            restore.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads)
        if "numba" in sys.modules:
            numba = sys.modules["numba"]
            restore.callback(numba.set_num_threads, numba.get_num_threads())
            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        yield


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory(warm_up: Callable[[], object], call: Callable[[], object]) -> int | None:
    """Bytes that `call` takes at its peak beyond what a fresh process holds after `warm_up`.

    Both must be picklable. None where the system does not tell (it is asked the way Linux answers).
    """
    if not _tells_peak():
        return None
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(peak_memory_here, warm_up, call).result()


def peak_memory_here(warm_up: Callable[[], object], call: Callable[[], object]) -> int | None:
    """The same in this process, which should be a fresh one: memory that was freed before counts as held."""
    warm_up()
    if not _tells_peak():
        call()
        return None
    gc.collect()
    CLEAR_PEAK.write_text("5")  # sets the peak to what is held now; getrusage's would stay
    before = _status("VmRSS")
    call()
    return max(0, _status("VmHWM") - before)


def _tells_peak() -> bool:
    return os.access(CLEAR_PEAK, os.W_OK)


def _status(name: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])


def environment() -> dict[str, Any]:
    """What a result depends on beside the code: versions and the machine."""
    return {
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": _processor(),
        "cores": available_cores(),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {platform.system()} {platform.machine()}"
    return f"{platform.processor() or 'unknown processor'}, {platform.system()} {platform.machine()}"

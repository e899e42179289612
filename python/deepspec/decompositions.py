"""Many images → their decompositions: decoding, features and solving beside each other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from deepspec import images
from deepspec._crew import Crew, result
from deepspec.classical import Classical
from deepspec.decomposition import Decomposition, decompose_features
from deepspec.features import Features, extract, extract_all
from deepspec.inputs import Input, fingerprint
from deepspec.outputs import OutputError
from deepspec.spectral import ConvergenceError, Eigenpairs, eigenpairs, eigenpairs_beside

STAGES = ("decode", "features", "eigenpairs", "answer", "write")


@dataclass(frozen=True)
class Result:
    """What became of one image.

    Attributes
    ----------
    path : Path
    name : str
        The path within the folder that was given, with forward slashes.
    status : {"done", "kept", "failed"}
        Kept: an earlier run had done it.
    line : str
        The answer, or the reason of the failure, in a line.
    score : float or None
        `objectness`, in [0, 1].
    files : tuple of Path
        What holds the answer besides the COCO file.
    seconds : dict
        By stage; empty for what was kept.
    """

    path: Path
    name: str
    status: str
    line: str
    score: float | None = None
    files: tuple[Path, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class _Picture:
    """An image on its way."""

    item: Input
    fingerprint: dict[str, int]
    image: NDArray[np.uint8]
    working: NDArray[np.uint8]
    seconds: dict[str, float]
    features: Features | None = None


class Conclusion(Protocol):
    """What is made of an image's decomposition, where it was solved: its answer, written down."""

    def __call__(
        self,
        item: Input,
        source: Mapping[str, int],
        d: Decomposition,
        *,
        threads: int,
        seconds: dict[str, float],
    ) -> Result:
        """`source` is the file's `fingerprint` before it was read; `seconds` are to be added to, by stage."""


@dataclass(frozen=True)
class Decomposer:
    """The way of images from file to answer: decoding, features and solving beside each other.

    Attributes
    ----------
    source : callable
        Of the features.
    graph : dict
        What `decompose_features` takes, but for `solve`.
    conclude : Conclusion
        With several jobs, one that can be pickled.
    jobs : int
        Processes that solve and conclude, spawned. 1: this process. 0: the same, with everything in turn.
    threads : int
        Of each job.
    batch_size : int or None
        Images of one size that a network takes together; None: what its device likes.
    """

    source: Any
    graph: dict[str, Any]
    conclude: Conclusion
    jobs: int
    threads: int
    batch_size: int | None = None

    def take_apart(self, inputs: Sequence[Input]) -> Iterator[Result]:
        """Results in about the order of the inputs; a few images at most are on their way at a time."""
        pending: deque[Future[Result]] = deque()
        decoder = ThreadPoolExecutor(1) if self.jobs else None
        solver, workers, solve = self._solver(len(inputs))
        # The members of a crew work beside each other on the threads there are.
        threads = max(1, self.threads // workers) if isinstance(solver, Crew) else self.threads
        # Classical features are numpy work, which the jobs share out among themselves.
        classical = None if self._network else self.source
        finish = partial(_finish, self.conclude, classical, self.graph, solve, threads)
        try:
            for step in self._with_features(self._decoded(inputs, decoder)):
                if isinstance(step, Result):
                    yield step
                elif solver is None:
                    yield finish(step)
                else:
                    pending.append(solver.submit(finish, step))
                    while len(pending) > workers + 1:
                        yield result(pending.popleft())
            while pending:
                yield result(pending.popleft())
        except BrokenProcessPool as error:
            raise MemoryError(
                f"one of {self.jobs} jobs was killed, most likely for want of memory: try fewer"
            ) from error
        finally:
            for pool in (decoder, solver):
                if pool is not None:
                    pool.shutdown(wait=True, cancel_futures=True)

    def _solver(self, n_images: int) -> tuple[Executor | None, int, Callable[..., Eigenpairs]]:
        """What works beside the caller's thread, how many images at a time, and how it finds eigenpairs.

        Nothing where both would share the same cores.
        """
        device = getattr(getattr(self.source, "device", None), "type", "cpu")
        if self.jobs == 1 and (not self._network or device != "cpu"):
            crew = Crew(self.threads, n_images)
            return crew, crew.size, partial(eigenpairs_beside, crew)
        processes = None
        if self.jobs > 1:
            # Never forked: the OpenMP runtimes of other libraries hang in forked children.
            spawn = multiprocessing.get_context("spawn")
            processes = ProcessPoolExecutor(self.jobs, spawn, start_worker)
        return processes, self.jobs, partial(eigenpairs, threads=self.threads)

    @property
    def _network(self) -> bool:
        return not isinstance(self.source, Classical)

    def _size(self) -> int:
        default: int = getattr(self.source, "batch_size", 1)
        return self.batch_size or default

    def _decoded(self, inputs: Sequence[Input], decoder: Executor | None) -> Iterator[_Picture | Result]:
        decode = partial(_decode, max_size=self.graph["max_size"])
        if decoder is None:
            yield from map(decode, inputs)
            return
        waiting: deque[Future[_Picture | Result]] = deque()
        for item in inputs:
            waiting.append(decoder.submit(decode, item))
            if len(waiting) > 2 * self._size():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _with_features(self, decoded: Iterable[_Picture | Result]) -> Iterator[_Picture | Result]:
        """Images of one size go through the network together; at most twice as many wait for their like."""
        if not self._network:
            yield from decoded
            return
        size = self._size()
        waiting: dict[tuple[int, ...], list[_Picture]] = {}
        for picture in decoded:
            if isinstance(picture, Result):
                yield picture
                continue
            shape = picture.working.shape
            waiting.setdefault(shape, []).append(picture)
            if sum(map(len, waiting.values())) >= 2 * size:
                shape = max(waiting, key=lambda key: len(waiting[key]))
            if len(waiting[shape]) >= size or sum(map(len, waiting.values())) >= 2 * size:
                yield from self._extracted(waiting.pop(shape))
        for batch in waiting.values():
            yield from self._extracted(batch)

    def _extracted(self, batch: list[_Picture]) -> Iterator[_Picture | Result]:
        started = time.perf_counter()
        try:
            found = extract_all([picture.working for picture in batch], self.source)
        except IMAGE_ERRORS as error:
            if len(batch) == 1:
                yield failed(batch[0].item, error, batch[0].seconds)
            else:
                for picture in batch:
                    yield from self._extracted([picture])
            return
        seconds = (time.perf_counter() - started) / len(batch)
        for picture, features in zip(batch, found, strict=True):
            picture.features = features
            picture.seconds["features"] = seconds
            yield picture


def start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it has ended, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


#: What is wrong with an image, not with the run.
IMAGE_ERRORS = (OSError, ValueError, MemoryError, ConvergenceError)


def _decode(item: Input, max_size: int | None) -> _Picture | Result:
    started = time.perf_counter()
    before = fingerprint(item.path)
    try:
        image = images.load(item.path)
        working = images.shrink(image, max_size)
    except IMAGE_ERRORS as error:
        return failed(item, error, {})
    seconds = {"decode": time.perf_counter() - started}
    return _Picture(item, before or {}, image, working, seconds)


def _finish(
    conclude: Conclusion,
    classical: Classical | None,
    graph: dict[str, Any],
    solve: Callable[..., Eigenpairs],
    threads: int,
    picture: _Picture,
) -> Result:
    """Features or image → eigenpairs → answer → files: what a job does."""
    item, seconds = picture.item, picture.seconds
    try:
        if picture.features is None:
            assert classical is not None
            with timed(seconds, "features"):
                picture.features = extract(picture.working, classical)
        with timed(seconds, "eigenpairs"):
            d = decompose_features(picture.image, picture.working, picture.features, **graph, solve=solve)
        return conclude(item, picture.fingerprint, d, threads=threads, seconds=seconds)
    except OutputError:
        raise
    except IMAGE_ERRORS as error:
        return failed(item, error, seconds)


def failed(item: Input, error: Exception, seconds: dict[str, float]) -> Result:
    """The result of an image that went wrong."""
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # The file's name stands beside it already.
    line = " ".join(message.removeprefix(f"{item.path}: ").split()) or type(error).__name__
    return Result(item.path, item.name, "failed", line, seconds=seconds)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Enter how long the block takes."""
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started

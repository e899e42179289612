"""Folders of images through the house: batched, parallel, resumable, every file whole."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepspec import images
from deepspec._crew import Crew, result
from deepspec.classical import Classical
from deepspec.decomposition import check_settings, decompose_features
from deepspec.features import Features, FeatureSource, extract, extract_all, named, settings_of
from deepspec.graph import check_choice, check_threads
from deepspec.inputs import Input, find_images
from deepspec.outputs import FOLDERS, Outputs, fingerprint
from deepspec.spectral import ConvergenceError, Eigenpairs, eigenpairs, eigenpairs_beside
from deepspec.tasks import TASKS, check_options

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


def run(
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    task: str = "localize",
    features: FeatureSource = "dino_vits16",
    *,
    backbone: Mapping[str, Any] | None = None,
    max_size: int | None = 1024,
    k: int | None = None,
    color_weight: float = 10.0,
    grid: str | int = "auto",
    vectors: str = "laplacian",
    affinity: str = "relu",
    threshold: float = 0.2,
    epsilon: float = 1e-5,
    page: bool = False,
    plots: bool = False,
    overwrite: bool = False,
    jobs: int = 1,
    batch_size: int | None = None,
    threads: int | None = None,
    **options: Any,
) -> Run:
    """Ask one question of many images and write the answers down.

    Only what is missing is done: an image whose answer is in `output` already, and whose file has the size and the
    time of modification it had then, is kept. However a run ends, the same call goes on from there, and what it
    leaves is what one run would have left (to the bit with networks on the CPU; on other devices the batch an image
    falls into shows in the last digits).

    While the caller's thread extracts features, the next images are decoded and, where the network is on another
    device or there are several jobs, the previous ones solved and written beside it. Classical features are measured
    where an image is solved. In one process several images are solved at a time, as by `eigenpairs_batch`; a few
    at most wait in between.

    Parameters
    ----------
    inputs : path or several
        Image files, and folders that are searched for them.
    output : path
        Folder. Its files mirror the inputs' paths; `run.json` records settings, versions and failures by task.
    task : {"eigenvectors", "localize", "segment", "regions"}
    features : str or callable
        A name or a loaded backbone, see `features.extract`.
    backbone : mapping, optional
        Where `features` is a name: what `load_backbone` takes besides, such as `weights`.
    k : int or None
        Eigenpairs; None: 2 to localize and segment, which look at the second alone, else 5.
    max_size, color_weight, grid, vectors, affinity, threshold, epsilon
        See `decompose`.
    page : bool
        Also write `<task>.html`, a page of pictures.
    plots : bool
        Also draw each result as `plots/<task>/….png`, which needs matplotlib.
    overwrite : bool
        Begin by deleting this task's earlier results in `output`.
    jobs : int
        Processes that solve and write, spawned (a script needs the guard `if __name__ == "__main__":`). 1: this
        process. 0: the same, with everything in turn, decoding too.
    batch_size : int or None
        Images of equal grid that a backbone takes at a time; None: what its device likes.
    threads : int or None
        Of each job, for its images in all; None: the cores available, divided among the jobs.
    **options
        The task's own: `foreground`, `partition` and `min_score`, below which an image has no object (localize, segment); `n_segments`, `background`, `seed` (regions); `refine`
        (segment, regions), "none" or as in `segment_object`.

    Returns
    -------
    Run
        An iterator of `Result`; the work is done as it is consumed.

    Raises
    ------
    ImportError
        Something that is asked for needs an extra of the package.
    OSError
        The network's weights cannot be had, or, while iterating, `OutputError`.
    ValueError
        A parameter is out of range, there is no image, two images would write the same file, or `output` holds
        results of other settings. Nothing is written then.
    """
    check_choice("task", task, TASKS)
    k = TASKS[task].k if k is None else k
    graph: dict[str, Any] = {
        "max_size": max_size,
        "k": k,
        "color_weight": color_weight,
        "grid": grid,
        "vectors": vectors,
        "affinity": affinity,
        "threshold": threshold,
        "epsilon": epsilon,
    }
    check_settings(**graph)
    options = check_options(task, k, options)
    _check_count("jobs", jobs, 0)
    n_threads = check_threads(threads)
    if batch_size is not None:
        _check_count("batch_size", batch_size, 1)
    _require(TASKS[task].module, TASKS[task].extra)
    _require("matplotlib" if plots else None, "plots")
    output = Path(output)
    found = find_images(inputs, without=[output / name for name in FOLDERS])
    # Only now: a network takes seconds to load. What was loaded last is found by its options, which must be hashable.
    given = {
        name: tuple(value) if isinstance(value, list) else value for name, value in (backbone or {}).items()
    }
    source = named(features, **given) if isinstance(features, str) else features
    if not callable(source):
        raise ValueError(  # noqa: TRY004  the project's one error for bad input
            f"features must be a name or a callable for many images, got {type(source).__name__}"
        )
    settings = {**settings_of(source), **graph, **options}
    if affinity != "threshold":
        del settings["threshold"], settings["epsilon"]
    # As in a decomposition's settings: JSON has no infinity.
    settings["color_weight"] = "inf" if math.isinf(color_weight) else float(color_weight)
    outputs = Outputs(output, task, settings, page=page, plots=plots)
    if not overwrite:
        outputs.check_settings()
    if threads is None and jobs > 1:
        n_threads = max(1, n_threads // jobs)
    classical = source if isinstance(source, Classical) else None
    question = _Question(task, classical, graph, options, outputs)
    stages = _Stages(question, None if classical else source, jobs, n_threads, batch_size)
    return Run(found, stages, outputs, overwrite)


class Run(Iterator[Result]):
    """The results of `run`, as they come: first what was kept, then the others in the order of the inputs.

    Attributes
    ----------
    counts : Counter
        Of results by status.
    failed : dict
        Reasons by path.
    seconds : Counter
        By stage, added up over the images. Stages that ran beside each other slowed each other down; with
        `jobs=0` they do not.
    answers : Path
        The folder or file of the answers.
    settings : dict
        What determines the results, as plain JSON values.
    """

    def __init__(self, inputs: Sequence[Input], stages: _Stages, outputs: Outputs, overwrite: bool) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: dict[str, str] = {}
        self.seconds: Counter[str] = Counter()
        self.answers = outputs.answers
        self.settings = outputs.settings
        self._inputs = inputs
        self._stages = stages
        self._outputs = outputs
        self._results = self._work(overwrite)

    def __len__(self) -> int:
        """The number of images."""
        return len(self._inputs)

    def __next__(self) -> Result:
        result = next(self._results)
        self.counts[result.status] += 1
        self.seconds.update(result.seconds)
        if result.status == "failed":
            self.failed[str(result.path)] = result.line
        return result

    def close(self) -> None:
        """Stop here; the same call goes on later."""
        self._results.close()

    def _work(self, overwrite: bool) -> Generator[Result, None, None]:
        with self._outputs.opened(self._inputs, overwrite=overwrite):
            missing = []
            for item in self._inputs:
                record = self._outputs.record(item)
                if record is None:
                    missing.append(item)
                    continue
                files = self._outputs.files(item)
                yield Result(item.path, item.name, "kept", record["line"], record["score"], files)
            for item in missing:
                self._outputs.remove(item)
            if missing:
                yield from self._stages.take_apart(missing)
            self._outputs.finish(self._inputs, self.failed)


@dataclass(frozen=True)
class _Question:
    """What is asked of each image, and where the answer goes."""

    task: str
    classical: Classical | None
    graph: dict[str, Any]
    options: dict[str, Any]
    outputs: Outputs


@dataclass(eq=False)
class _Picture:
    """An image on its way."""

    item: Input
    fingerprint: dict[str, int]
    image: NDArray[np.uint8]
    working: NDArray[np.uint8]
    seconds: dict[str, float]
    features: Features | None = None


@dataclass(frozen=True)
class _Stages:
    """The way of images from file to answer: decoding, features and solving beside each other.

    `source` is None for the classical features: numpy work, which the jobs share out among themselves.
    """

    question: _Question
    source: Any
    jobs: int
    threads: int
    batch_size: int | None

    def take_apart(self, inputs: Sequence[Input]) -> Iterator[Result]:
        """Results in about the order of the inputs; a few images at most are on their way at a time."""
        pending: deque[Future[Result]] = deque()
        decoder = ThreadPoolExecutor(1) if self.jobs else None
        solver, workers, solve = self._solver(len(inputs))
        # The members of a crew work beside each other on the threads there are.
        threads = max(1, self.threads // workers) if isinstance(solver, Crew) else self.threads
        finish = partial(_finish, self.question, solve, threads)
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
        if self.jobs == 1 and (self.source is None or device != "cpu"):
            crew = Crew(self.threads, n_images)
            return crew, crew.size, partial(eigenpairs_beside, crew)
        processes = None
        if self.jobs > 1:
            # Never forked: the OpenMP runtimes of other libraries hang in forked children.
            spawn = multiprocessing.get_context("spawn")
            processes = ProcessPoolExecutor(self.jobs, spawn, _start_worker)
        return processes, self.jobs, partial(eigenpairs, threads=self.threads)

    def _size(self) -> int:
        default: int = getattr(self.source, "batch_size", 1)
        return self.batch_size or default

    def _decoded(self, inputs: Sequence[Input], decoder: Executor | None) -> Iterator[_Picture | Result]:
        decode = partial(_decode, max_size=self.question.graph["max_size"])
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
        if self.source is None:
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
        except _IMAGE_ERRORS as error:
            if len(batch) == 1:
                yield _failed(batch[0].item, error, batch[0].seconds)
            else:
                for picture in batch:
                    yield from self._extracted([picture])
            return
        seconds = (time.perf_counter() - started) / len(batch)
        for picture, features in zip(batch, found, strict=True):
            picture.features = features
            picture.seconds["features"] = seconds
            yield picture


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and end when it has ended, however it did."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


_IMAGE_ERRORS = (OSError, ValueError, MemoryError, ConvergenceError)


def _decode(item: Input, max_size: int | None) -> _Picture | Result:
    started = time.perf_counter()
    before = fingerprint(item.path)
    try:
        image = images.load(item.path)
        working = images.shrink(image, max_size)
    except _IMAGE_ERRORS as error:
        return _failed(item, error, {})
    seconds = {"decode": time.perf_counter() - started}
    return _Picture(item, before or {}, image, working, seconds)


def _finish(question: _Question, solve: Callable[..., Eigenpairs], threads: int, picture: _Picture) -> Result:
    """Features or image → eigenpairs → answer → files: what a job does."""
    item, seconds = picture.item, picture.seconds
    try:
        if picture.features is None:
            assert question.classical is not None
            with _timed(seconds, "features"):
                picture.features = extract(picture.working, question.classical)
        with _timed(seconds, "eigenpairs"):
            d = decompose_features(
                picture.image, picture.working, picture.features, **question.graph, solve=solve
            )
        with _timed(seconds, "answer"):
            answer = TASKS[question.task].answer(d, threads, **question.options)
    except _IMAGE_ERRORS as error:
        return _failed(item, error, seconds)
    with _timed(seconds, "write"):
        question.outputs.write(item, picture.fingerprint, d, answer)
    files = question.outputs.files(item)
    return Result(item.path, item.name, "done", answer.line, answer.score, files, seconds)


def _failed(item: Input, error: Exception, seconds: dict[str, float]) -> Result:
    message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # The file's name stands beside it already.
    line = " ".join(message.removeprefix(f"{item.path}: ").split()) or type(error).__name__
    return Result(item.path, item.name, "failed", line, seconds=seconds)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _require(module: str | None, extra: str | None) -> None:
    if module is not None and util.find_spec(module) is None:
        raise ImportError(f"{module} is not installed: pip install 'deepspec[{extra}]'")

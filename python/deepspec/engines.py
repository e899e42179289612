"""What runs a stage over many images: this process, processes beside it, or a Ray cluster."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from deepspec.decompositions import Result, start_worker
from deepspec.inputs import Input

ENGINES = ("local", "ray")


class Work(Protocol):
    """What is done to some images. It can be pickled, and doing it twice does no harm."""

    threads: int

    def __call__(self, items: Sequence[Input]) -> list[Result]: ...


Batch: TypeAlias = "list[Input]"


class Engine(Protocol):
    """Runs work over many images."""

    def run(self, work: Work, items: Sequence[Input], batch_size: int) -> Iterator[Result]:
        """Results as they come. Batches are the same whatever engine runs them."""


@dataclass(frozen=True)
class LocalEngine:
    """This process, or for more than one job as many spawned ones, each with what the work loads."""

    jobs: int = 1

    def run(self, work: Work, items: Sequence[Input], batch_size: int) -> Iterator[Result]:
        """A process that is killed costs the batches it held, which are done again.

        Raises
        ------
        MemoryError
            A batch was lost with its process three times.
        """
        if self.jobs <= 1:
            for batch in _batches(items, batch_size):
                yield from work(batch)
            return
        todo = deque((batch, 0) for batch in _batches(items, batch_size))
        while todo:
            lost: list[tuple[Batch, int]] = []
            yield from self._until_broken(work, todo, lost)
            for batch, tries in lost:
                if tries == _TRIES:
                    raise MemoryError(
                        f"a job was killed {_TRIES} times on the batch of {batch[0].name}, most likely for want of "
                        f"memory: try fewer than {self.jobs} jobs"
                    )
            todo.extendleft(reversed(lost))

    def _until_broken(
        self, work: Work, todo: deque[tuple[Batch, int]], lost: list[tuple[Batch, int]]
    ) -> Iterator[Result]:
        """Work `todo` off. Where a process dies the pool is of no use any more: what it held goes to `lost`."""
        # Never forked: the OpenMP runtimes of other libraries hang in forked children.
        spawn = multiprocessing.get_context("spawn")
        pending: deque[tuple[Future[list[Result]], Batch, int]] = deque()
        pool = ProcessPoolExecutor(self.jobs, spawn, _start_job, (work.threads,))
        try:
            while todo or pending:
                while todo and len(pending) <= self.jobs:
                    batch, tries = todo.popleft()
                    try:
                        pending.append((pool.submit(work, batch), batch, tries))
                    except BrokenProcessPool:
                        todo.appendleft((batch, tries))
                        break
                if not pending:
                    return
                future, batch, tries = pending.popleft()
                try:
                    results = future.result()
                except BrokenProcessPool:
                    lost.append((batch, tries + 1))
                    lost += [
                        (batch, tries + 1) for future, batch, tries in pending if not _has_result(future)
                    ]
                    finished = [future for future, _, _ in pending if _has_result(future)]
                    for future in finished:
                        yield from future.result()
                    return
                yield from results
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_job(threads: int) -> None:
    # torch takes all cores unless it is told before it is imported.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    start_worker()


_TRIES = 3


def _has_result(future: Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


@dataclass(frozen=True)
class RayEngine:
    """A Ray cluster, whose machines see inputs and output under the same paths.

    Attributes
    ----------
    jobs : int
        Actors, each of `work.threads` CPUs. One that dies is started again, and its batches are done again.
    address : str or None
        Of the cluster; None: `$RAY_ADDRESS`, one that runs on this machine, or a new one.
    gpus : float
        Of each actor.
    """

    jobs: int = 1
    address: str | None = None
    gpus: float = 0

    def run(self, work: Work, items: Sequence[Input], batch_size: int) -> Iterator[Result]:
        """Results as they come.

        Raises
        ------
        ImportError
            Ray is not installed.
        OSError
            There is no cluster at the address.
        """
        data = _ray_data(self.address)
        rows = [
            {"batch": json.dumps([(str(item.path.absolute()), str(item.relative)) for item in batch])}
            for batch in _batches(items, batch_size)
        ]
        # One batch is a row, and a row a block: batches are those of the local engine.
        dataset = data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            _Actor,
            fn_constructor_args=(work,),
            batch_size=1,
            compute=data.ActorPoolStrategy(min_size=1, max_size=max(1, min(self.jobs, len(rows)))),
            num_cpus=work.threads,
            num_gpus=self.gpus or None,
        )
        for row in dataset.iter_rows():
            for values in json.loads(row["results"]):
                yield _result(values)


class _Actor:
    """The work, in a process of Ray."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        found = []
        for names in batch["batch"]:
            items = [Input(Path(path), Path(relative)) for path, relative in json.loads(names)]
            found.append(json.dumps([_values(result) for result in self._work(items)]))
        return {"results": found}


def _values(result: Result) -> dict[str, Any]:
    return {**vars(result), "path": str(result.path), "files": [str(path) for path in result.files]}


def _result(values: dict[str, Any]) -> Result:
    return Result(
        **{**values, "path": Path(values["path"]), "files": tuple(Path(path) for path in values["files"])}
    )


def _ray_data(address: str | None) -> Any:
    """`ray.data`, with a cluster to run on."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("engine='ray' needs Ray: pip install 'deepspec[ray]'") from error
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError) as error:
            raise OSError(f"no Ray cluster at {address}: {error}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    return ray.data


def _batches(items: Sequence[Input], size: int) -> Iterator[Batch]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])

"""What runs a stage over many images: this process, processes beside it, or a Ray cluster."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from deepspec.decompositions import Result, start_worker
from deepspec.inputs import Input

ENGINES = ("local", "ray")


class Work(Protocol):
    """What is done to some images. It can be pickled, and doing it twice does no harm.

    Attributes
    ----------
    threads : int
    uses_network : bool
        Whether a GPU is of use.
    """

    threads: int

    @property
    def uses_network(self) -> bool: ...

    def __call__(self, items: Sequence[Input]) -> list[Result]: ...


Batch: TypeAlias = "list[Input]"


class Engine(Protocol):
    """Runs work over many images."""

    def run(self, work: Work, items: Sequence[Input], batch_size: int) -> Iterator[Result]:
        """Results as they come. Batches are the same whatever engine runs them."""

    def check(self, work: Any) -> None:
        """ValueError where this cannot be handed to what would run it."""


@dataclass(frozen=True)
class LocalEngine:
    """This process, or for more than one job as many spawned ones, each with what the work loads."""

    jobs: int = 1

    def check(self, work: Any) -> None:
        if self.jobs > 1:
            _check_pickles(work, pickle.dumps)

    def run(self, work: Work, items: Sequence[Input], batch_size: int) -> Iterator[Result]:
        """A process that is killed costs the batches under way, which are done again, one at a time.

        Raises
        ------
        MemoryError
            A batch was lost with its process three times.
        """
        if self.jobs <= 1:
            for batch in _batches(items, batch_size):
                yield from work(batch)
            return
        todo = deque(_batches(items, batch_size))
        while todo:
            lost: list[Batch] = []
            yield from _until_broken(work, todo, self.jobs, lost)
            for batch in lost:
                # Alone, so that it is known which batch it is that kills.
                yield from _alone(work, batch)


_TRIES = 3


def _until_broken(work: Work, todo: deque[Batch], jobs: int, lost: list[Batch]) -> Iterator[Result]:
    """Work `todo` off. Where a process dies the pool is of no use any more: what it held goes to `lost`."""
    pending: dict[Future[list[Result]], Batch] = {}
    pool = _pool(work, jobs)
    try:
        while todo or pending:
            while todo and len(pending) <= jobs:
                batch = todo.popleft()
                try:
                    pending[pool.submit(_do, batch)] = batch
                except BrokenProcessPool:
                    todo.appendleft(batch)
                    break
            # A short wait at a time: elsewhere than on Linux a longer one does not see Ctrl-C.
            finished, _ = wait(pending, timeout=0.1, return_when=FIRST_COMPLETED)
            for future in finished:
                batch = pending.pop(future)
                try:
                    yield from future.result()
                except BrokenProcessPool:
                    lost.append(batch)
            if lost and not pending:
                return
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _alone(work: Work, batch: Batch) -> Iterator[Result]:
    for _ in range(_TRIES - 1):
        lost: list[Batch] = []
        yield from _until_broken(work, deque([batch]), 1, lost)
        if not lost:
            return
    raise MemoryError(
        f"a job was killed {_TRIES} times on the {len(batch)} images from {batch[0].name} on, most likely for want of "
        "memory: try fewer jobs, or smaller images"
    )


def _pool(work: Work, jobs: int) -> ProcessPoolExecutor:
    # Never forked: the OpenMP runtimes of other libraries hang in forked children.
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(jobs, spawn, _start_job, (work,))


_work: Work


def _start_job(work: Work) -> None:
    global _work
    # torch takes all cores unless it is told before it is imported.
    os.environ["OMP_NUM_THREADS"] = str(work.threads)
    _work = work
    start_worker()


def _do(batch: Batch) -> list[Result]:
    return _work(batch)


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
        Of each actor whose work uses a network.
    """

    jobs: int = 1
    address: str | None = None
    gpus: float = 0

    def check(self, work: Any) -> None:
        _check_pickles(work, _ray().cloudpickle.dumps)

    def run(self, work: Work, items: Sequence[Input], batch_size: int) -> Iterator[Result]:
        """Results as they come.

        Raises
        ------
        ImportError
            Ray is not installed.
        OSError
            There is no cluster at the address.
        Exception
            Whatever the work raises.
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
            num_gpus=(self.gpus or None) if work.uses_network else None,
        )
        paths = {item.name: item.path for item in items}
        for row in dataset.iter_rows():
            if row["error"]:
                raise pickle.loads(row["error"])
            for values in json.loads(row["results"]):
                found = _result(values)
                # As the caller knows it, which may be relative.
                yield replace(found, path=paths[found.name])


class _Actor:
    """The work, in a process of Ray. Its errors are handed over: Ray would wrap them in one of its own."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        results, errors = [], []
        for names in batch["batch"]:
            items = [Input(Path(path), Path(relative)) for path, relative in json.loads(names)]
            try:
                results.append(json.dumps([_values(result) for result in self._work(items)]))
                errors.append(b"")
            except Exception as error:  # noqa: BLE001  the caller raises it
                results.append("")
                errors.append(pickle.dumps(error))
        return {"results": results, "error": errors}


def _values(result: Result) -> dict[str, Any]:
    return {**vars(result), "path": str(result.path), "files": [str(path) for path in result.files]}


def _result(values: dict[str, Any]) -> Result:
    return Result(
        **{**values, "path": Path(values["path"]), "files": tuple(Path(path) for path in values["files"])}
    )


def _check_pickles(work: Any, dumps: Any) -> None:
    try:
        dumps(work)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        raise ValueError(
            f"features must be a name, or something that other processes can be handed: {error}"
        ) from error


def _ray_data(address: str | None) -> Any:
    """`ray.data`, with a cluster to run on."""
    ray = _ray()
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError) as error:
            raise OSError(f"no Ray cluster at {address}: {error}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    return ray.data


def _ray() -> Any:
    """`ray`, or an ImportError that says how to install it."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("engine='ray' needs Ray: pip install 'deepspec[ray]'") from error
    return ray


def _batches(items: Sequence[Input], size: int) -> Iterator[Batch]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])

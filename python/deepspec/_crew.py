"""Calls beside each other in one process, within a number of threads and the memory there is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar, final

from deepspec import _core

T = TypeVar("T")


@final
class Crew:
    """Runs calls in threads of Python, which share a number of native threads and the memory available.

    A call takes what it needs, `with crew.share(…)`, for the part of it that does. Leaving the crew's own block, by an
    error or Ctrl-C too, drops what has not begun and ends the native calls under way that poll it.

    Parameters
    ----------
    threads : int
        Of all calls together.
    count : int
        How many shares will be taken; the last ones divide all threads among themselves.
    """

    def __init__(self, threads: int, count: int) -> None:
        self.size = max(1, min(threads, count))  # calls at a time
        self._pool = ThreadPoolExecutor(self.size)
        self._closed = False
        self._turn = threading.Lock()
        self._change = threading.Condition()
        self._threads = threads
        self._memory = float(_core.available_memory())
        self._count = count
        self._used_threads = 0
        self._used_memory = 0.0

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, call: Callable[..., T], *args: Any) -> Future[T]:
        return self._pool.submit(call, *args)

    @contextmanager
    def share(self, threads: int, memory: float) -> Iterator[int]:
        """Wait until there are `threads` and `memory` bytes, in turn; the number of threads to use, as many at least.

        What needs more memory than there is goes alone: whether that is enough is for itself to find out.
        """
        # So many that the calls beside each other leave none idle.
        threads = self._threads // (self._threads // min(threads, self._threads))
        with self._turn, self._change:
            self._change.wait_for(lambda: self._closed or self._has_room(threads, memory))
            self.poll()
            free = self._threads - self._used_threads
            threads = max(threads, free // max(1, self._count))
            self._count -= 1
            self._used_threads += threads
            self._used_memory += memory
        try:
            yield threads
        finally:
            with self._change:
                self._used_threads -= threads
                self._used_memory -= memory
                self._change.notify_all()

    def poll(self) -> None:
        """Raise where the crew has been left."""
        if self._closed:
            raise CancelledError

    def _has_room(self, threads: int, memory: float) -> bool:
        if self._used_threads == 0:
            return True
        return self._used_threads + threads <= self._threads and self._used_memory + memory <= self._memory


def result(future: Future[T]) -> T:
    """`future.result()`, but on no system deaf to Ctrl-C meanwhile."""
    while not wait([future], timeout=0.1).done:
        pass
    return future.result()

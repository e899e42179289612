"""Calls beside each other in one process, within a number of threads and the memory there is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from deepspec import _core

T = TypeVar("T")


class Crew(ThreadPoolExecutor):
    """Runs calls in threads of Python, which share a number of native threads and the memory available.

    A call takes what it needs, `with crew.share(…)`, for the part of it that does. Shut down, by leaving its block
    with or without an error, it drops what has not begun and ends the native calls under way that poll it.

    Parameters
    ----------
    threads : int
        Of all calls together.
    count : int
        How many shares will be taken; the last ones divide all threads among themselves.
    """

    def __init__(self, threads: int, count: int) -> None:
        self.size = max(1, min(threads, count))  # calls at a time
        super().__init__(self.size)
        self._closed = False
        self._turn = threading.Lock()
        self._change = threading.Condition()
        self._total = threads
        self._memory = float(_core.available_memory())
        self._count = count
        self._used_threads = 0
        self._used_memory = 0.0

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        with self._change:
            self._closed = True
            self._change.notify_all()
        super().shutdown(wait, cancel_futures=cancel_futures)

    @contextmanager
    def share(self, threads: int, memory: float) -> Iterator[int]:
        """Wait until there are `threads` and `memory` bytes, in turn; the number of threads to use, as many at least.

        What needs more memory than there is goes alone: whether that is enough is for itself to find out.
        """
        # So many that the calls beside each other leave none idle.
        threads = self._total // (self._total // min(threads, self._total))
        with self._turn, self._change:
            self._change.wait_for(lambda: self._closed or self._has_room(threads, memory))
            self.poll()
            free = self._total - self._used_threads
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
        """Raise where the crew has been shut down."""
        if self._closed:
            raise CancelledError

    def _has_room(self, threads: int, memory: float) -> bool:
        if self._used_threads == 0:
            return True
        return self._used_threads + threads <= self._total and self._used_memory + memory <= self._memory


def result(future: Future[T]) -> T:
    """`future.result()`, but on no system deaf to Ctrl-C meanwhile."""
    while not wait([future], timeout=0.1).done:
        pass
    return future.result()

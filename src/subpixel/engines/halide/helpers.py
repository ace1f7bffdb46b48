"""Threads that work beside the caller's, on other processors than the caller's.

Linux wakes a thread where it last ran. If the caller has come there meanwhile, the two may share that one
processor for milliseconds, with another idle, and the helper may not even begin before the caller has done
everything itself. So a caller first sends its helpers away from where it is.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TypeVar

T = TypeVar("T")


class Helpers:
    """A number of threads, which end with the object."""

    def __init__(self, count: int) -> None:
        ids: list[int] = []  # not an attribute of self for the threads: they would keep it alive
        self._count, self._ids, self._process = count, ids, os.getpid()
        self._pool = ThreadPoolExecutor(
            count, "subpixel", initializer=lambda: ids.append(threading.get_native_id())
        )

    def submit(self, work: Callable[[], T], count: int) -> list[Future[T]]:
        """Let so many threads, at most all, call ``work`` once each."""
        count = min(count, self._count)
        if count > 0:
            self._send_away()
        return [self._pool.submit(work) for _ in range(count)]

    def _send_away(self) -> None:
        current = _current()
        if current is None or self._process != os.getpid():  # after a fork the threads are the parent's
            return
        elsewhere = os.sched_getaffinity(0) - {current()}
        if elsewhere:
            for thread in self._ids:
                os.sched_setaffinity(thread, elsewhere)


@cache
def _current() -> Callable[[], int] | None:
    """What tells the processor that the calling thread is on; None where the system does not say."""
    if sys.platform != "linux":
        return None
    function: Callable[[], int] | None = getattr(ctypes.CDLL(None), "sched_getcpu", None)
    return function

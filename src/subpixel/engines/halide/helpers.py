"""Threads that work beside the caller's, on other processors than the caller's.

Linux wakes a thread where it last ran. If the caller has come there meanwhile, the two may share that one
processor for milliseconds, with another idle, and the helper may not even begin before the caller has done
everything itself. So a caller first sends its helpers away from where it is.

A picture may take no longer than a millisecond. So a call goes by way of a queue and locks that the
interpreter has in C: an executor of `concurrent.futures` takes 0.1 ms to begin and end one.
"""

import ctypes
import os
import sys
import threading
import weakref
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue
from time import perf_counter


class Call:
    """Something for a helper to do once, unless the caller withdraws it before.

    Attributes:
        done: when it was done, by `time.perf_counter`.
    """

    def __init__(self, work: Callable[[], object]) -> None:
        """Nobody has begun yet."""
        self._work = work
        self._begun, self._running = threading.Lock(), threading.Lock()
        self._running.acquire()
        self._failure: BaseException | None = None
        self.done = 0.0

    def run(self) -> None:
        """Do it, if it has not been withdrawn."""
        if self._begun.acquire(blocking=False):
            try:
                self._work()
            except BaseException as failure:  # for `result` to raise
                self._failure = failure
            finally:
                self.done = perf_counter()
                self._running.release()

    def withdraw(self) -> bool:
        """Whether nobody has begun, and nobody will."""
        return self._begun.acquire(blocking=False)

    def wait(self, timeout: float = -1) -> None:
        """Return when it is done; `TimeoutError` when it is not after so many seconds."""
        if not self._running.acquire(timeout=timeout):
            raise TimeoutError
        self._running.release()

    def result(self, timeout: float = -1) -> None:
        """The same, and raise what it raised."""
        self.wait(timeout)
        if self._failure is not None:
            raise self._failure


class Helpers:
    """A number of threads, begun when they are first needed, which end with the object."""

    def __init__(self, count: int) -> None:
        self._count, self._process = count, 0
        self._threads: list[threading.Thread] = []
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._beginning = threading.Lock()

    def submit(self, work: Callable[[], object], count: int) -> list[Call]:
        """Let so many threads, at most all, call ``work`` once each."""
        calls = [Call(work) for _ in range(min(count, self._count))]
        if calls:
            if self._process != os.getpid():
                with self._beginning:
                    if self._process != os.getpid():
                        self._begin()
            self._send_away()
            for call in calls:
                self._calls.put(call)
        return calls

    def _begin(self) -> None:
        """Start the threads: once, and once more in a process that was forked, where they are missing."""
        # Threads know the queue alone: they would keep the object alive. As daemons they do not keep the
        # interpreter from ending while they wait; while they work their caller waits.
        self._threads, self._calls = [], SimpleQueue()
        weakref.finalize(self, self._calls.put, None).atexit = False
        for number in range(self._count):
            thread = threading.Thread(
                target=_help, args=(self._calls,), name=f"subpixel_{number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)
        self._process = os.getpid()

    def _send_away(self) -> None:
        current = _current()
        if current is None:
            return
        elsewhere = os.sched_getaffinity(0) - {current()}
        if elsewhere:
            for thread in self._threads:
                if thread.native_id is not None:
                    os.sched_setaffinity(thread.native_id, elsewhere)


def _help(calls: "SimpleQueue[Call | None]") -> None:
    while (call := calls.get()) is not None:
        call.run()
        del call  # what it works on may go, while this thread waits
    calls.put(None)  # for the others


@cache
def _current() -> Callable[[], int] | None:
    """What tells the processor that the calling thread is on; None where the system does not say."""
    if sys.platform != "linux":
        return None
    function: Callable[[], int] | None = getattr(ctypes.CDLL(None), "sched_getcpu", None)
    return function

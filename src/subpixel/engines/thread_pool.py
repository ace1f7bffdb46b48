"""A thread pool that runs prepared calls of compiled functions."""

import contextlib
import os
import weakref
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from subpixel.engines.machine_code import Call


class ThreadPool:
    """A number of worker threads. They start when they are first needed, and end with the object."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._reset()
        _pools.add(self)

    def _reset(self) -> None:
        """Forget all threads: there are none yet, or they belong to the process that was forked."""
        self._executor = ThreadPoolExecutor(max(1, self._count), "subpixel")
        self._callers: list[None] = []  # a list as a counter, because its methods are atomic

    def run(self, calls: Sequence[Call]) -> None:
        """Run one or more calls: the first on this thread, the others on any thread that is free.

        If several threads call this at once, each of them uses one worker less. Raises `EngineError` if a
        call fails, after all calls have ended.
        """
        self._callers.append(None)
        try:
            free = self._count + 1 - len(self._callers)
            self._run(calls[0], deque(calls[1:]), max(0, min(free, len(calls) - 1)))
        finally:
            self._callers.pop()

    def _run(self, first: Call, others: deque[Call], workers: int) -> None:
        def run_others() -> None:
            while True:
                try:
                    call = others.popleft()
                except IndexError:
                    return
                call()

        tasks = []
        with contextlib.suppress(RuntimeError):  # the system allows no more threads
            for _ in range(workers):
                tasks.append(self._executor.submit(run_others))
        try:
            first()
            run_others()
        finally:
            others.clear()  # after a failure, no other call starts
            # Do not wait for a task that has not started: its thread may be busy with another image.
            started = [task for task in tasks if not task.cancel()]
            for task in started:
                task.exception()  # waits; errors are raised below
        for task in started:
            task.result()


_pools: "weakref.WeakSet[ThreadPool]" = weakref.WeakSet()


def _after_fork() -> None:
    for pool in _pools:
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

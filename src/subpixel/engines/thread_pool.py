"""A thread pool that runs prepared calls, with workers on other CPUs than the caller's.

A small image takes a few hundred microseconds. Python needs a large part of that to hand work to a thread and
to wait for it, because both need the interpreter's lock. So on Linux the workers wait in compiled code, and
the caller enters compiled code once per image. Other systems use an executor, which is slower.

Linux wakes a thread on the CPU where it last ran. If the caller is on that CPU, both may share it for
milliseconds while another CPU is idle, and the caller may finish everything before the worker starts. So a
caller first excludes its own CPU from the workers' affinity.
"""

import contextlib
import ctypes
import os
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
from numpy.typing import NDArray

from subpixel.engines import worker_code
from subpixel.engines.machine_code import Call, check


class ThreadPool(ABC):
    """A number of worker threads. They start when they are first needed, and end with the object."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._callers: list[None] = []  # a list as a counter, because its methods are atomic

    def run(self, calls: Sequence[Call]) -> None:
        """Run one or more calls: the first on this thread, the others on any thread that is free.

        If several threads call this at once, each of them uses one worker less. Raises `EngineError` if a
        call fails, after all calls have ended.
        """
        self._callers.append(None)
        try:
            free = self._count + 1 - len(self._callers)
            self._run(calls, max(0, min(free, len(calls) - 1)))
        finally:
            self._callers.pop()

    @abstractmethod
    def _run(self, calls: Sequence[Call], max_workers: int) -> None:
        """Do the same with at most ``max_workers`` workers, fewer if other callers use them."""


def make_thread_pool(count: int) -> ThreadPool:
    """Make the fastest pool of ``count`` workers that this system supports."""
    return CompiledThreadPool(count) if count and sys.platform == "linux" else ExecutorThreadPool(count)


class CompiledThreadPool(ThreadPool):
    """Workers that wait in compiled code: see `worker_code`.

    Lists change only by atomic methods, so only the start of a thread needs a lock.
    """

    def __init__(self, count: int) -> None:
        """Compile the workers' code."""
        super().__init__(count)
        self._code = worker_code.code()
        self._addresses: list[int] = []  # of the slots of all workers that have started
        self._reset()
        weakref.finalize(self, _stop, self._code, self._addresses).atexit = False
        _pools.add(self)

    def _reset(self) -> None:
        """Forget all threads: there are none yet, or they belong to the process that was forked."""
        self._slots = np.zeros((self._count, worker_code.SLOT_WORDS), np.int64)
        self._addresses.clear()
        self._idle: list[int] = []
        self._ids: list[int] = []
        self._callers.clear()
        self._excluded: tuple[int, set[int], int] | None = None
        self._lock = threading.Lock()

    def _run(self, calls: Sequence[Call], max_workers: int) -> None:
        """See `ThreadPool._run`."""
        words = [0, len(calls)]
        for call in calls:
            padding = [0] * (worker_code.CALL_WORDS - 1 - len(call.arguments))
            words += call.address, *call.arguments, *padding
        batch = array("q", words)
        slots = array("q")
        try:
            self._take_idle(slots, max_workers)
            if slots:
                self._exclude_this_cpu()
            self._code.run(batch.buffer_info()[0], slots.buffer_info()[0], len(slots))
        finally:
            self._idle.extend(slots)
        for start in range(worker_code.BATCH_WORDS, len(batch), worker_code.CALL_WORDS):
            check(batch[start + worker_code.RESULT])

    def _take_idle(self, slots: "array[int]", count: int) -> None:
        """Move the slots of ``count`` idle workers to ``slots``, fewer if other callers use them."""
        if len(self._idle) < count and len(self._addresses) < self._count:
            with self._lock:
                for _ in range(min(count - len(self._idle), self._count - len(self._addresses))):
                    self._start()
        while len(slots) < count:
            try:
                slots.append(self._idle.pop())
            except IndexError:
                return

    def _start(self) -> None:
        """Start one more worker. If that fails, its slot has no thread; the caller then does its work."""
        slot = self._slots[len(self._addresses)]
        self._code.prepare(slot.ctypes.data)
        self._addresses.append(slot.ctypes.data)
        self._idle.append(slot.ctypes.data)
        name = f"subpixel-{len(self._addresses)}"
        with contextlib.suppress(RuntimeError):  # the system allows no more threads
            threading.Thread(
                target=_serve, args=(self._code, slot, self._ids), name=name, daemon=True
            ).start()

    def _exclude_this_cpu(self) -> None:
        """Remove this thread's CPU from the workers' affinity."""
        current_cpu = _current_cpu()
        if current_cpu is None:
            return
        cpu, allowed = current_cpu(), os.sched_getaffinity(0)
        if (cpu, allowed, len(self._ids)) == self._excluded:
            return
        self._excluded = cpu, allowed, len(self._ids)
        if others := allowed - {cpu}:
            for thread in self._ids:
                with contextlib.suppress(OSError):  # may be forbidden, and only makes it faster
                    os.sched_setaffinity(thread, others)


_pools: "weakref.WeakSet[CompiledThreadPool]" = weakref.WeakSet()


def _after_fork() -> None:
    for pool in _pools:
        pool._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _serve(code: worker_code.Code, slot: NDArray[np.int64], ids: list[int]) -> None:
    """Run a worker. It keeps its slot alive, but not the pool."""
    ids.append(threading.get_native_id())
    code.serve(slot.ctypes.data)


def _stop(code: worker_code.Code, slots: list[int]) -> None:
    for slot in slots:
        code.stop(slot)


class ExecutorThreadPool(ThreadPool):
    """Workers of a `ThreadPoolExecutor`, for all systems."""

    def __init__(self, count: int) -> None:
        """Make the executor."""
        super().__init__(count)
        self._executor = ThreadPoolExecutor(max(1, count), "subpixel")

    def _run(self, calls: Sequence[Call], max_workers: int) -> None:
        """See `ThreadPool._run`."""
        others = deque(range(1, len(calls)))

        def run_others() -> None:
            while True:
                try:
                    index = others.popleft()
                except IndexError:
                    return
                calls[index]()

        tasks = [self._executor.submit(run_others) for _ in range(max_workers)]
        try:
            calls[0]()
            run_others()
        finally:
            others.clear()  # after a failure, no other call starts
            # Do not wait for a task that has not started: its thread may be busy with another image, or not
            # exist, in a forked process.
            started = [task for task in tasks if not task.cancel()]
            for task in started:
                task.exception()  # waits; errors are raised below
        for task in started:
            task.result()


@cache
def _current_cpu() -> Callable[[], int] | None:
    """Return the function that returns the calling thread's CPU; None if the system has none."""
    if sys.platform != "linux":
        return None
    function: Callable[[], int] | None = getattr(ctypes.CDLL(None), "sched_getcpu", None)
    return function

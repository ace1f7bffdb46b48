"""Threads that work beside the caller's, on other processors than the caller's.

A small picture takes a few hundred microseconds. Python's own way of handing work to a thread, and of
hearing that it is done, would take a good part of that again, since each waits for the interpreter's lock. So
on Linux helpers wait in compiled code, and the caller enters that once for all that a picture takes.
Elsewhere an executor does the same, only slower.

Linux wakes a thread where it last ran. If the caller has come there meanwhile, the two may share that one
processor for milliseconds, with another idle, and the helper may not even begin before the caller has done
everything itself. So a caller first sends its helpers away from where it is.
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
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.halide import crew
from subpixel.engines.machine_code import Call, check


class Span(NamedTuple):
    """When a call was made, and when it was done, in seconds of one clock."""

    began_s: float
    ended_s: float


class Helpers(ABC):
    """A number of threads, which begin when they are first wanted and end with the object."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._callers: list[None] = []  # counted so, for a list's methods are not interrupted

    def make(self, calls: Sequence[Call]) -> list[Span]:
        """Make calls, at least one: the first on this thread, the others wherever there is time for them.

        Who asks from several threads at once has them do what helpers would. Raises `EngineError` where a
        call fails, when all have ended.
        """
        self._callers.append(None)
        try:
            spare = self._count + 1 - len(self._callers)
            return self._make(calls, max(0, min(spare, len(calls) - 1)))
        finally:
            self._callers.pop()

    @abstractmethod
    def _make(self, calls: Sequence[Call], wanted: int) -> list[Span]:
        """The same with so many helpers, or fewer if others have them."""


def helpers(count: int) -> Helpers:
    """So many, in the fastest way that this system has."""
    return Crew(count) if count and sys.platform == "linux" else Pool(count)


class Crew(Helpers):
    """Helpers that wait in compiled code: see `crew`.

    Lists are changed by methods that the interpreter does not interrupt, so that only who begins a thread
    needs a lock.
    """

    def __init__(self, count: int) -> None:
        """Compile the code."""
        super().__init__(count)
        self._code = crew.code()
        self._addresses: list[int] = []  # of places, of all helpers that have begun
        self._begin_anew()
        weakref.finalize(self, _dismiss, self._code, self._addresses).atexit = False
        _crews.add(self)

    def _begin_anew(self) -> None:
        """Have no threads: none was begun, or they are those of the process that this was forked from."""
        self._places = np.zeros((self._count, crew.PLACE_WORDS), np.int64)
        self._addresses.clear()
        self._idle: list[int] = []
        self._ids: list[int] = []
        self._callers.clear()
        self._sent: tuple[int, set[int], int] | None = None
        self._lock = threading.Lock()

    def _make(self, calls: Sequence[Call], wanted: int) -> list[Span]:
        """See `Helpers._make`."""
        words = [0, len(calls)]
        for call in calls:
            words += call.address, *call.words, *[0] * (crew.CALL_WORDS - 1 - len(call.words))
        job = array("q", words)
        places = array("q")
        try:
            self._take(places, wanted)
            if places:
                self._send_away()
            self._code.lead(job.buffer_info()[0], places.buffer_info()[0], len(places))
        finally:
            self._idle.extend(places)
        spans = []
        for start in range(crew.JOB_WORDS, len(job), crew.CALL_WORDS):
            code, began_ns, ended_ns = job[start + crew.RESULT : start + crew.CALL_WORDS]
            check(code)
            spans.append(Span(began_ns * 1e-9, ended_ns * 1e-9))
        return spans

    def _take(self, places: "array[int]", wanted: int) -> None:
        """Add the places of so many helpers, or of fewer if others have them."""
        if len(self._idle) < wanted and len(self._addresses) < self._count:
            with self._lock:
                for _ in range(min(wanted - len(self._idle), self._count - len(self._addresses))):
                    self._begin()
        while len(places) < wanted:
            try:
                places.append(self._idle.pop())
            except IndexError:
                return

    def _begin(self) -> None:
        """Start one more thread. A place without one, where that fails, is harmless: nobody begins there."""
        place = self._places[len(self._addresses)]
        self._code.prepare(place.ctypes.data)
        self._addresses.append(place.ctypes.data)
        self._idle.append(place.ctypes.data)
        name = f"subpixel-{len(self._addresses)}"
        with contextlib.suppress(RuntimeError):  # the system gives no more
            threading.Thread(
                target=_serve, args=(self._code, place, self._ids), name=name, daemon=True
            ).start()

    def _send_away(self) -> None:
        current = _current()
        if current is None:
            return
        here, allowed = current(), os.sched_getaffinity(0)
        if (here, allowed, len(self._ids)) == self._sent:
            return
        self._sent = here, allowed, len(self._ids)
        if elsewhere := allowed - {here}:
            for thread in self._ids:
                with contextlib.suppress(OSError):  # it may not be allowed, and only makes things faster
                    os.sched_setaffinity(thread, elsewhere)


_crews: "weakref.WeakSet[Crew]" = weakref.WeakSet()


def _after_fork() -> None:
    for one in _crews:
        one._begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _serve(code: crew.Code, place: NDArray[np.int64], ids: list[int]) -> None:
    """What a thread of a `Crew` does; it keeps its place alive, and not the crew."""
    ids.append(threading.get_native_id())
    code.serve(place.ctypes.data)


def _dismiss(code: crew.Code, places: list[int]) -> None:
    for place in places:
        code.dismiss(place)


class Pool(Helpers):
    """Helpers of an executor."""

    def __init__(self, count: int) -> None:
        """Make the executor."""
        super().__init__(count)
        self._pool = ThreadPoolExecutor(max(1, count), "subpixel")

    def _make(self, calls: Sequence[Call], wanted: int) -> list[Span]:
        """See `Helpers._make`."""
        spans: dict[int, Span] = {}
        others = deque(range(1, len(calls)))

        def make(index: int) -> None:
            began_s = perf_counter()
            calls[index]()
            spans[index] = Span(began_s, perf_counter())

        def make_others() -> None:
            while True:
                try:
                    index = others.popleft()
                except IndexError:
                    return
                make(index)

        helpers = [self._pool.submit(make_others) for _ in range(wanted)]
        try:
            make(0)
            make_others()
        finally:
            others.clear()  # after a failure nobody begins another one
            # One that has not begun is not needed: its thread may be busy with another picture, or be
            # missing, in a process that was forked.
            begun = [helper for helper in helpers if not helper.cancel()]
            for helper in begun:
                helper.exception()  # waits; it is raised below, if nothing else is
        for helper in begun:
            helper.result()
        return [spans[index] for index in range(len(calls))]


@cache
def _current() -> Callable[[], int] | None:
    """What tells the processor that the calling thread is on; None where the system does not say."""
    if sys.platform != "linux":
        return None
    function: Callable[[], int] | None = getattr(ctypes.CDLL(None), "sched_getcpu", None)
    return function

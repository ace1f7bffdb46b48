"""Threads that work beside the caller's, on other processors than the caller's.

A small picture takes a few hundred microseconds. Python's own way of handing work to a thread, and of
hearing that it is done, would take a good part of that again, since each waits for the interpreter's lock. So
on Linux helpers wait in compiled code, and the caller enters that once for all that a picture takes.
Elsewhere an executor does the same, only slower.

Linux wakes a thread where it last ran. If the caller has come there meanwhile, the two may share that one
processor for milliseconds, with another idle, and the helper may not even begin before the caller has done
everything itself. So a caller first sends its helpers away from where it is.
"""

import ctypes
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from time import perf_counter
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.halide import crew
from subpixel.engines.machine_code import Call, check


class Span(NamedTuple):
    """When a call was made, and when it was done, in seconds of one clock."""

    began_s: float
    ended_s: float


class Helpers(Protocol):
    """A number of threads, which end with the object."""

    def make(self, calls: Sequence[Call], most: int) -> list[Span]:
        """Make calls, at least one: the first on this thread, the others wherever there is time for them.

        At most ``most`` helpers take part. Raises `EngineError` where a call fails, when all have ended.
        """


def helpers(count: int) -> Helpers:
    """So many, in the fastest way that this system has."""
    return Crew(count) if sys.platform == "linux" else Pool(count)


class Crew:
    """Helpers that wait in compiled code: see `crew`."""

    def __init__(self, count: int) -> None:
        """Their threads begin when they are first wanted."""
        self._places = np.zeros((count, crew.PLACE_WORDS), np.int64)
        self._idle: list[int] = []  # addresses of places
        self._ids: list[int] = []
        self._begun, self._lock, self._process = 0, threading.Lock(), os.getpid()
        self._sent: tuple[int, set[int], int] | None = None
        weakref.finalize(self, _dismiss, self._idle).atexit = False

    def make(self, calls: Sequence[Call], most: int) -> list[Span]:
        """See `Helpers.make`."""
        words = [0, len(calls)]
        for call in calls:
            rest = [0] * (crew.CALL_WORDS - 1 - len(call.words))
            words += [call.address, *call.words, *rest]
        job = _words(words)
        places = self._take(min(most, len(calls) - 1))
        try:
            if places:
                self._send_away()
            crew.code().lead(job, _words(places), len(places))
        finally:
            self._idle.extend(places)
        spans = []
        for start in range(crew.JOB_WORDS, len(job), crew.CALL_WORDS):
            code, *times = job[start + crew.RESULT : start + crew.CALL_WORDS]
            check(code)
            spans.append(Span(times[0] + times[1] * 1e-9, times[2] + times[3] * 1e-9))
        return spans

    def _take(self, wanted: int) -> list[int]:
        """Places of so many helpers, or of fewer if others have them."""
        with self._lock:
            while len(self._idle) < wanted and self._begun < len(self._places):
                self._begin()
            return [self._idle.pop() for _ in range(min(wanted, len(self._idle)))]

    def _begin(self) -> None:
        """Start one more thread."""
        place = self._places[self._begun]
        crew.code().prepare(place.ctypes.data)
        threading.Thread(
            target=_serve, args=(place, self._ids), name=f"subpixel-{self._begun}", daemon=True
        ).start()
        self._begun += 1
        self._idle.append(place.ctypes.data)

    def _send_away(self) -> None:
        current = _current()
        if current is None or self._process != os.getpid():  # after a fork the threads are the parent's
            return
        here, allowed = current(), os.sched_getaffinity(0)
        if (here, allowed, len(self._ids)) == self._sent:
            return
        self._sent = here, allowed, len(self._ids)
        if elsewhere := allowed - {here}:
            for thread in self._ids:
                os.sched_setaffinity(thread, elsewhere)


def _words(values: list[int]) -> "ctypes.Array[ctypes.c_int64]":
    return (ctypes.c_int64 * len(values))(*values)


def _serve(place: NDArray[np.int64], ids: list[int]) -> None:
    """What a thread of a `Crew` does; it keeps its place alive, and not the crew."""
    ids.append(threading.get_native_id())
    crew.code().serve(place.ctypes.data)


def _dismiss(places: list[int]) -> None:
    if sys.is_finalizing():  # the process takes its waiting threads with it
        return
    for place in places:
        crew.code().dismiss(place)


class Pool:
    """Helpers of an executor."""

    def __init__(self, count: int) -> None:
        """Their threads begin when they are first wanted."""
        self._count = count
        self._pool = ThreadPoolExecutor(max(1, count), "subpixel")

    def make(self, calls: Sequence[Call], most: int) -> list[Span]:
        """See `Helpers.make`."""
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

        helpers = [self._pool.submit(make_others) for _ in range(min(most, self._count, len(calls) - 1))]
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

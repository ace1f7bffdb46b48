"""Work in stages that overlap: each runs in a thread of its own, so that the slowest alone sets the pace."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

T = TypeVar("T")

DEPTH = 6
"""How many items wait between two stages at most; a 1080p frame has 3 MB."""

_POLL_SECONDS = 0.1


class Closed(Exception):  # noqa: N818 - no error: somebody wanted the work to stop
    """Raised to who waits for a stage that was closed, lest it takes that for the end of the input."""


class Overlapped(Generic[T], Iterator[T]):
    """Iterates over something ahead of its consumer, in a thread.

    An error of the source is raised to the consumer, behind the items before it. `close` stops the thread, at
    the latest when the item that it is at is done.
    """

    def __init__(self, source: Iterable[T], depth: int = DEPTH) -> None:
        """Start iterating over ``source``, at most ``depth`` items ahead."""
        self._source = source
        self._queue: queue.Queue[tuple[T] | None] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._ended = False
        self.working_seconds = 0.0
        """For which the thread was in the source, whatever that waited for included."""
        self.waiting_seconds = 0.0
        """For which the consumer waited for an item."""
        self._thread = threading.Thread(target=self._work, name="subpixel-stage", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        """The next item; what the source raised where it failed."""
        if self._stopped.is_set():
            raise Closed
        if self._ended:
            raise StopIteration
        started = time.perf_counter()
        item = self._next()
        self.waiting_seconds += time.perf_counter() - started
        if item is not None:
            return item[0]
        if self._stopped.is_set():
            raise Closed
        self._ended = True
        if self._error is not None:
            raise self._error
        raise StopIteration

    def stop(self) -> None:
        """Have the thread stop. The rest of the source is not worked on."""
        self._stopped.set()

    def close(self, seconds: float | None = None) -> bool:
        """Stop, and wait for the thread to end, at most so many seconds; whether it has."""
        self.stop()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def seconds(self, waited: float) -> float:
        """For how long the stage worked so far; ``waited`` is for how long it waited for its source."""
        return max(0.0, self.working_seconds - waited)

    def _next(self) -> tuple[T] | None:
        while not self._stopped.is_set():
            try:
                return self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
        return None

    def _work(self) -> None:
        iterator: Iterator[T] | None = None
        try:
            iterator = iter(self._source)
            while not self._stopped.is_set():
                started = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                finally:
                    self.working_seconds += time.perf_counter() - started
                self._put((item,))
                del item  # or the thread would hold a frame while it waits for the next
        except BaseException as error:
            self._error = error
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
            self._put(None)

    def _put(self, item: tuple[T] | None) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue


class Parallel(Overlapped[T]):
    """Calls a function on the items of something ahead of its consumer, on several at once.

    Results come in the items' order, and so do errors. It must be closed.
    """

    def __init__(
        self, work: Callable[[Any], T], source: Iterable[object], workers: int, depth: int = DEPTH
    ) -> None:
        """Start: ``workers`` calls at once, at most ``depth`` results ahead of the consumer."""
        self._call = work
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "subpixel-stage")
        self._busy_seconds = 0.0
        self._lock = threading.Lock()
        super().__init__((self._pool.submit(self._timed, item) for item in source), depth)  # type: ignore[misc]

    def _timed(self, item: object) -> T:
        started = time.perf_counter()
        try:
            return self._call(item)
        finally:
            with self._lock:
                self._busy_seconds += time.perf_counter() - started

    def __next__(self) -> T:
        """The next result; what the call raised, or the source."""
        future: Future[T] = super().__next__()  # type: ignore[assignment]
        started = time.perf_counter()
        try:
            while not self._stopped.is_set():
                if wait([future], _POLL_SECONDS).done:
                    return future.result()
        finally:
            self.waiting_seconds += time.perf_counter() - started
        raise Closed

    def close(self, seconds: float | None = None) -> bool:
        """See `Overlapped.close`; calls that have begun are waited for."""
        ended = super().close(seconds)
        self._pool.shutdown(cancel_futures=True)
        return ended

    def seconds(self, waited: float) -> float:
        """See `Overlapped.seconds`; shared by the workers."""
        return self._busy_seconds / self._workers


def patiently(work: Callable[[], T]) -> T:
    """Call ``work``, which may wait for ever in foreign code, in a thread, so that a signal can end the wait.

    The thread is then left to itself; it does not keep the process from ending.
    """

    def once() -> Iterator[T]:
        yield work()

    return next(Overlapped(once()))


class Line:
    """Several stages in a row, with the time that each one worked."""

    def __init__(self) -> None:
        self._stages: dict[str, Overlapped[Any]] = {}

    def add(
        self, name: str, stage: Callable[..., Iterable[T]], source: "Iterator[object] | None" = None
    ) -> "Overlapped[T]":
        """Start a stage: a function from an iterator over its input to one over its output."""
        overlapped = Overlapped(stage() if source is None else stage(source))
        self._stages[name] = overlapped
        return overlapped

    def add_calls(
        self, name: str, work: Callable[[Any], T], source: Iterator[object], workers: int
    ) -> Parallel[T]:
        """Start a stage that calls a function on each item of its input, on several at once."""
        parallel = Parallel(work, source, workers)
        self._stages[name] = parallel
        return parallel

    def seconds(self) -> dict[str, float]:
        """For how long each stage worked so far, waiting for others left out."""
        result = {}
        waited = 0.0
        for name, stage in self._stages.items():
            result[name] = stage.seconds(waited)
            waited = stage.waiting_seconds
        return result

    def close(self, seconds: float | None = None) -> bool:
        """Stop all stages, and wait for their threads to end, for each at most so many seconds; whether
        they have.
        """
        for stage in self._stages.values():
            stage.stop()
        ended = [stage.close(seconds) for stage in self._stages.values()]
        return all(ended)

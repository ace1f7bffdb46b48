"""A pipeline of stages that overlap: each runs in its own thread, so the slowest stage sets the pace."""

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

T = TypeVar("T")

QUEUE_SIZE = 6
"""The most items that wait between two stages; a 1080p frame takes 3 MB."""

_POLL_SECONDS = 0.1


class PipelineClosed(Exception):  # noqa: N818 - not an error: the caller stopped the work
    """Raised to the consumer of a closed stage, so that it does not mistake the stop for the end of input."""


class Stage(Generic[T], Iterator[T]):
    """Iterate over a source in a thread, ahead of the consumer.

    An error of the source is raised to the consumer, after the items before it. `close` stops the thread, at
    the latest after the current item.
    """

    def __init__(self, source: Iterable[T], queue_size: int = QUEUE_SIZE) -> None:
        """Start iterating over ``source``, at most ``queue_size`` items ahead."""
        self._source = source
        self._queue: queue.Queue[tuple[T] | None] = queue.Queue(queue_size)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._ended = False
        self.working_seconds = 0.0
        """Seconds that the thread spent in the source, including what the source waited for."""
        self.waiting_seconds = 0.0
        """Seconds that the consumer waited for an item."""
        self._thread = threading.Thread(target=self._work, name="subpixel-stage", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        """Return the next item, or raise what the source raised."""
        if self._stopped.is_set():
            raise PipelineClosed
        if self._ended:
            raise StopIteration
        started = time.perf_counter()
        item = self._next()
        self.waiting_seconds += time.perf_counter() - started
        if item is not None:
            return item[0]
        if self._stopped.is_set():
            raise PipelineClosed
        self._ended = True
        if self._error is not None:
            raise self._error
        raise StopIteration

    def stop(self) -> None:
        """Ask the thread to stop; it skips the rest of the source."""
        self._stopped.set()

    def close(self, seconds: float | None = None) -> bool:
        """Stop, wait at most ``seconds`` for the thread to end, and return whether it ended."""
        self.stop()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def seconds(self, waited: float) -> float:
        """Return how many seconds the stage has worked so far.

        Args:
            waited: seconds that it waited for the stage before it.
        """
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
                del item  # otherwise the frame stays in memory while the thread waits for the next
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


class ParallelStage(Stage[T]):
    """Call a function on the items of a source, on several at once, ahead of the consumer.

    Results and errors come in the order of the items. The stage must be closed.
    """

    def __init__(
        self, work: Callable[[Any], T], source: Iterable[object], workers: int, queue_size: int = QUEUE_SIZE
    ) -> None:
        """Start ``workers`` calls at once, at most ``queue_size`` results ahead of the consumer."""
        self._call = work
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers, "subpixel-stage")
        self._busy_seconds = 0.0
        self._lock = threading.Lock()
        super().__init__((self._pool.submit(self._timed, item) for item in source), queue_size)  # type: ignore[misc]

    def _timed(self, item: object) -> T:
        started = time.perf_counter()
        try:
            return self._call(item)
        finally:
            with self._lock:
                self._busy_seconds += time.perf_counter() - started

    def __next__(self) -> T:
        """Return the next result, or raise what the call or the source raised."""
        future: Future[T] = super().__next__()  # type: ignore[assignment]
        started = time.perf_counter()
        try:
            while not self._stopped.is_set():
                if wait([future], _POLL_SECONDS).done:
                    return future.result()
        finally:
            self.waiting_seconds += time.perf_counter() - started
        raise PipelineClosed

    def close(self, seconds: float | None = None) -> bool:
        """See `Stage.close`; it also waits for calls that have begun."""
        ended = super().close(seconds)
        self._pool.shutdown(cancel_futures=True)
        return ended

    def seconds(self, waited: float) -> float:
        """See `Stage.seconds`; the mean of the workers."""
        return self._busy_seconds / self._workers


def call_interruptibly(work: Callable[[], T]) -> T:
    """Call ``work`` in a thread, so that a signal can end the wait even if ``work`` blocks in foreign code.

    After a signal the thread is abandoned. It is a daemon thread, so the process can still end.
    """

    def once() -> Iterator[T]:
        yield work()

    return next(Stage(once()))


class Pipeline:
    """Stages in a row, and the time that each one worked."""

    def __init__(self) -> None:
        self._stages: dict[str, Stage[Any]] = {}

    def add(
        self, name: str, stage: Callable[..., Iterable[T]], source: "Iterator[object] | None" = None
    ) -> "Stage[T]":
        """Start a stage.

        Args:
            name: of the stage, in `seconds`.
            stage: a function from an iterator over its input to an iterable of its output; without ``source``
                it takes no argument.
            source: the stage before it.
        """
        result: Stage[T] = Stage(stage() if source is None else stage(source))
        self._stages[name] = result
        return result

    def add_parallel(
        self, name: str, work: Callable[[Any], T], source: Iterator[object], workers: int
    ) -> ParallelStage[T]:
        """Start a stage that calls ``work`` on each item of ``source``, on ``workers`` items at once."""
        result = ParallelStage(work, source, workers)
        self._stages[name] = result
        return result

    def seconds(self) -> dict[str, float]:
        """Return the seconds that each stage has worked so far, without its waiting for the stage before."""
        result = {}
        waited = 0.0
        for name, stage in self._stages.items():
            result[name] = stage.seconds(waited)
            waited = stage.waiting_seconds
        return result

    def close(self, seconds: float | None = None) -> bool:
        """Stop all stages, wait at most ``seconds`` for each thread to end, and return whether all ended."""
        for stage in self._stages.values():
            stage.stop()
        ended = [stage.close(seconds) for stage in self._stages.values()]
        return all(ended)

"""A thread pool that works on one image."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Workers:
    """A thread pool that returns results in order, and computes a bounded number of them ahead."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "subpixel-image")
        self._ahead = 2 * threads

    def submit(self, function: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Start a call."""
        return self._pool.submit(function, *arguments)

    def map(self, function: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        """Call ``function`` on each item, and yield the results in order.

        ``items`` is consumed lazily: only as far as the results are, and a few items ahead.
        """
        pending: deque[Future[T]] = deque()
        for item in items:
            pending.append(self._pool.submit(function, item))
            if len(pending) > self._ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the calls that have started, and cancel the others."""
        self._pool.shutdown(cancel_futures=True)

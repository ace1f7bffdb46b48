"""Threads that share the work on one picture."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Workers:
    """A pool of threads whose results come in order, a bounded number of them ahead of who takes them."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "subpixel-picture")
        self._ahead = 2 * threads

    def submit(self, work: Callable[..., T], *arguments: Any) -> "Future[T]":
        """Start a call."""
        return self._pool.submit(work, *arguments)

    def map(self, work: Callable[[Any], T], items: Iterable[Any]) -> Iterator[T]:
        """Call ``work`` on each item, several at once; taking the results is what draws on ``items``."""
        pending: deque[Future[T]] = deque()
        for item in items:
            pending.append(self._pool.submit(work, item))
            if len(pending) > self._ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the calls that have begun; the others are not made."""
        self._pool.shutdown(cancel_futures=True)

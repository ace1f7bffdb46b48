"""Several jobs at once, with their progress in one bar."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from subpixel.batch import Job
from subpixel.cli.display import Display
from subpixel.cli.upscale_summary import printable

Outcome = TypeVar("Outcome")

_WAITING = 4
"""Jobs that have started or wait to be reported, for each that runs."""
_POLL_SECONDS = 0.5


class JobsProgress:
    """Shows the progress of several jobs in one bar, from any thread; and stops them."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self.done = 0
        """Jobs whose output is written, or existed."""
        self._finished = 0
        self._fractions: dict[Job, float] = {}
        self._lock = threading.Lock()
        self._stopped = False

    def update(self, job: Job, fraction: float, detail: str = "") -> None:
        """Show the completed fraction of a job; raise `StoppedError` after `stop`."""
        if self._stopped:
            raise StoppedError
        with self._lock:
            self._fractions[job] = fraction
            if self._display.is_terminal:
                self._display.update(
                    self._finished + sum(self._fractions.values()),
                    f"{printable(job.source.name)}{detail and '  '}{detail}",
                )

    def finish(self, job: Job, *, done: bool) -> None:
        """Count a job as completed, whether its output is done or it failed."""
        with self._lock:
            self._fractions.pop(job, None)
            self._finished += 1
            self.done += done

    def skip(self) -> None:
        """Count a job whose output exists."""
        with self._lock:
            self.done += 1

    def print(self, line: str) -> None:
        """Print a line on stderr."""
        with self._lock:
            self._display.print(line)

    def stop(self) -> None:
        """Let jobs in other threads end at their next update."""
        self._stopped = True


class MemoryBudget:
    """Lets images run at once only if they fit into memory together."""

    def __init__(self, limit_mib: int) -> None:
        self._limit_mib = limit_mib
        self._used_mib = 0
        self._released = threading.Condition()

    @contextmanager
    def reserve(self, mib: int) -> Iterator[None]:
        """Wait until there is enough memory for the body; an image that is too large has it all alone."""
        mib = min(mib, self._limit_mib)
        with self._released:
            self._released.wait_for(lambda: self._used_mib + mib <= self._limit_mib)
            self._used_mib += mib
        try:
            yield
        finally:
            with self._released:
                self._used_mib -= mib
                self._released.notify_all()


class StoppedError(BaseException):
    """Ends a job that runs in another thread; a BaseException, so that no ``except Exception`` catches it."""


def run_in_order(
    function: Callable[[Job], Outcome], jobs: Iterable[Job], at_once: int, progress: JobsProgress
) -> Iterator[tuple[Job, Outcome]]:
    """Call a function for each job, some at once, and yield each job with its outcome, in the order of jobs.

    When the iterator is closed, or a signal interrupts it, the jobs that run are stopped, and the others do
    not start. The function is called in other threads: in the main thread, a signal may arrive in a callback
    of libvips, where its exception is lost.
    """
    pool = ThreadPoolExecutor(at_once, "subpixel-job")
    pending: deque[tuple[Job, Future[Outcome]]] = deque()
    try:
        for job in jobs:
            pending.append((job, pool.submit(function, job)))
            # A large image at the front must not leave the other threads without work.
            if len(pending) > _WAITING * at_once:
                yield _first_of(pending)
        while pending:
            yield _first_of(pending)
    except BaseException:
        progress.stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _first_of(pending: deque[tuple[Job, Future[Outcome]]]) -> tuple[Job, Outcome]:
    job, future = pending.popleft()
    while not future.done():
        wait([future], _POLL_SECONDS)  # without a timeout, Ctrl-C has no effect on Windows
    return job, future.result()

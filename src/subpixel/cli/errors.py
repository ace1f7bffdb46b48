"""How errors and interruptions reach people: one line on stderr, and an exit code."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Never

import typer


@contextmanager
def exiting(code: int, *kinds: type[Exception]) -> Iterator[None]:
    """Turn an error of these kinds into ``error: ...`` on stderr and exit with ``code``.

    The codes are those of `subpixel.cli`: 2 around what the options ask for, 1 around the work on inputs.
    """
    try:
        yield
    except kinds as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(code) from None


@contextmanager
def stoppable(message: str) -> Iterator[None]:
    """End with ``message`` and exit code 130 at Ctrl-C, 143 at SIGTERM, after everything was cleaned up.

    Within it `saying` gives other words. A second signal ends the process at once, as a kill would.
    """
    signals = 0

    def stop(signum: int, frame: FrameType | None) -> Never:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(128 + signum)
        raise _Stopped(128 + signum)

    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _Stopped as stopped:
        typer.echo(stopped.message or message, err=True)
        raise typer.Exit(stopped.args[0]) from None
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def saying(message: str) -> Iterator[None]:
    """Have `stoppable` end with this message where a signal comes now."""
    try:
        yield
    except _Stopped as stopped:
        stopped.message = message
        raise


class _Stopped(BaseException):
    """Raised by a signal, past everything that catches errors."""

    message = ""

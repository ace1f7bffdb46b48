"""How a command reports errors and signals: one line on stderr, and an exit code."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Never

import typer


@contextmanager
def exit_on_error(code: int, *types: type[Exception]) -> Iterator[None]:
    """If the body raises one of these exceptions, print ``error: MESSAGE`` on stderr and exit with ``code``.

    Use code 2 for errors in the options and 1 for errors in the work; see `subpixel.cli`.
    """
    try:
        yield
    except types as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(code) from None


@contextmanager
def handle_signals(message: str) -> Iterator[None]:
    """At Ctrl-C or SIGTERM, clean up, print ``message`` on stderr, and exit with code 130 or 143.

    `signal_message` changes the message for a part of the body. A second signal ends the process immediately,
    without cleaning up.
    """
    signals = 0

    def stop(signum: int, frame: FrameType | None) -> Never:
        nonlocal signals
        signals += 1
        if signals > 1:
            os._exit(128 + signum)
        raise _SignalReceived(128 + signum)

    before = {signum: signal.signal(signum, stop) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except _SignalReceived as received:
        typer.echo(received.message or message, err=True)
        raise typer.Exit(received.args[0]) from None
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def signal_message(message: Callable[[], str]) -> Iterator[None]:
    """Set the message of `handle_signals` for signals that arrive during the body, where it is made."""
    try:
        yield
    except _SignalReceived as received:
        received.message = message()
        raise


class _SignalReceived(BaseException):
    """Raised by a signal handler; a BaseException, so that no ``except Exception`` catches it."""

    message = ""

"""How errors reach people: one line on stderr, and an exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

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

"""Output of a command: a progress bar on a terminal, lines on stderr, and results on stdout."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console


class Display:
    """Lines on stderr without a bar, for pipes and logs. It avoids the import of rich, which takes 0.06 s."""

    is_terminal = False

    def print(self, line: str) -> None:
        """Print a line on stderr."""
        typer.echo(line, err=True)

    def update(self, completed: float, description: str) -> None:
        """Show how many jobs are completed, including fractions, and the description of the current one."""


@contextmanager
def open_display(total: int, *, bar: bool = True) -> Iterator[Display]:
    """Yield a display for ``total`` jobs, with a bar if ``bar`` is true and stderr is a terminal."""
    if not bar or not sys.stderr.isatty():
        yield Display()
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = stderr_console()
    progress = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with progress:
        task = progress.add_task("", total=total)

        class TerminalDisplay(Display):
            is_terminal = True

            def print(self, line: str) -> None:
                console.print(line)

            def update(self, completed: float, description: str) -> None:
                progress.update(task, completed=completed, description=description)

        yield TerminalDisplay()


def stderr_console() -> "Console":
    """Return a console for lines and progress bars on stderr, which prints file names as they are."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


@contextmanager
def ignore_closed_stdout() -> Iterator[None]:
    """Print results in the body; if the reader of a pipe has closed it, they are dropped without an error."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard_stdout()


@contextmanager
def report_full_stdout() -> Iterator[None]:
    """Run a command in the body; if stdout is a file on a full disk, exit with a message and code 1.

    Other files are written in functions that report a full disk themselves.
    """
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        discard_stdout()
        print(f"error: stdout could not be written ({error.strerror})", file=sys.stderr)
        sys.exit(1)


def discard_stdout() -> None:
    """Send what is printed from now on, and what is still buffered, to the null device."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

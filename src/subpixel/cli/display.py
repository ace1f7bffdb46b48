"""What people see of a command: a bar where there is a terminal, lines of text, and what goes to stdout."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer


class Display:
    """Lines on stderr, and no bar: for pipes and logs, where importing rich would cost 0.06 s for nothing."""

    is_terminal = False

    def say(self, line: str) -> None:
        """Print a line."""
        typer.echo(line, err=True)

    def show(self, done: float, name: str) -> None:
        """Tell how many of the tasks are done, in fractions, and which one is at work."""


@contextmanager
def to_stdout() -> Iterator[None]:
    """Around what prints a result: a pipe that is closed wants no more of it, and nothing ends for that."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        abandon_stdout()


@contextmanager
def full_stdout() -> Iterator[None]:
    """Around a whole command: what prints to a full disk ends it. All other writing has words of its own."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        abandon_stdout()
        print(f"error: stdout could not be written ({error.strerror})", file=sys.stderr)
        sys.exit(1)


def abandon_stdout() -> None:
    """Let what is printed from here on go nowhere, and what Python still holds of what was."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def display(total: int, *, bar: bool = True) -> Iterator[Display]:
    """A display for a run of ``total`` tasks, with a bar where that is wanted and there is a terminal."""
    if not bar or not sys.stderr.isatty():
        yield Display()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
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

        class Terminal(Display):
            is_terminal = True

            def say(self, line: str) -> None:
                console.print(line)

            def show(self, done: float, name: str) -> None:
                progress.update(task, completed=done, description=name)

        yield Terminal()

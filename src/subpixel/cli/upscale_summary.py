"""What `subpixel upscale` prints about a run over several files as a whole."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from subpixel.batch import BatchPlan, ExistingOutputs, Job
from subpixel.cli.display import Display
from subpixel.files import PIPE
from subpixel.storage.paths import Location, size_of

_MAX_NAMES = 20
"""Most failed files that a summary names."""


@dataclass
class Summary:
    """The numbers of a run."""

    total: int
    """How many files there are."""
    done: int = 0
    skipped: int = 0
    """Outputs that exist, and are left."""
    unfinished: int = 0
    """Videos of which other processes have still to encode segments."""
    failed: list[str] = field(default_factory=list)
    """Names of the inputs."""
    bytes_written: int = 0
    started: float = field(default_factory=time.monotonic)

    @property
    def reported(self) -> int:
        """How many files are done, skipped or failed."""
        return self.done + self.skipped + self.unfinished + len(self.failed)

    def add_done(self, job: Job) -> None:
        """Count a job that wrote its output."""
        self.done += 1
        if str(job.output) != PIPE:
            self.bytes_written += size_of(job.output)

    def text(self) -> str:
        """Return the summary, as text for users."""
        line = f"{self.done} of {self.total} files done in {duration(time.monotonic() - self.started)}"
        if self.done:
            line += f" ({size_of_file(self.bytes_written)})"
        if self.skipped:
            line += f", {self.skipped} skipped"
        if self.unfinished:
            line += f", {self.unfinished} not yet whole"
        if not self.failed:
            return line
        more = len(self.failed) - _MAX_NAMES
        names = [f"  {printable(name)}" for name in self.failed[:_MAX_NAMES]]
        return "\n".join(
            [f"{line}, {len(self.failed)} failed:", *names, *[f"  and {more} more"] * (more > 0)]
        )

    def interruption(self, done: int, existing: ExistingOutputs) -> str:
        """Return the message of an interrupted run: how many files are done, and how to go on."""
        message = f"interrupted; {done} of {self.total} files are done"
        if existing in ("skip", "newer"):
            return f"{message}, and the same command does the rest"
        if existing == "refuse":
            return f"{message}, and the same command with --skip-existing does the rest"
        return f"{message}; the same command would do them again"


def print_plan(plan: BatchPlan, inputs: Sequence[Location], display: Display, *, verbose: bool) -> None:
    """Print which files are left out, and which folders cannot be read."""
    for error in plan.unreadable:
        display.print(printable(f"error: {error}"))
    named = set(plan.results) & set(inputs)
    if plan.results and (verbose or named):
        count = f"{len(plan.results)} input{'s' * (len(plan.results) > 1)}"
        first = printable(plan.results[0])
        display.print(f"note: left out {count} that are outputs of others, such as {first}")
    if verbose and plan.skipped:
        display.print(f"skipped {plan.skipped} files without the extension of an image or a video")


def print_summary(summary: Summary, display: Display, *, verbose: bool, progress: str) -> None:
    """Print the summary of a run over several files, unless all are done and stderr is a log or a program."""
    if summary.total > 1 and progress != "json":
        if verbose or summary.skipped or summary.failed or sys.stderr.isatty():
            display.print(summary.text())
    elif summary.skipped and (verbose or sys.stderr.isatty()):
        display.print("skipped: the output exists already")


def duration(seconds: float) -> str:
    """Return a duration as text: ``0.4 s``, ``12 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    return f"{minutes} min {whole % 60} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def size_of_file(count: int) -> str:
    """Return a number of bytes as text, such as ``812 kB`` or ``3.4 MB``."""
    size, unit = count / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if size < 9.95 and unit != "kB" else f"{size:.0f} {unit}"


def printable(name: object) -> str:
    """Return a file name in one line that any terminal shows: control characters become escapes."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(name)
    )

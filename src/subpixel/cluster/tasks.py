"""Tasks, and who hands them out: what the scheduler knows of the work."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from subpixel.results import ImageResult, VideoResult

Outcome = TypeVar("Outcome")

FileOutcome = ImageResult | VideoResult | Exception
"""What becomes of a file."""

MAX_FAILURES = 3
"""A piece of work that fails this often is set aside."""


class Failure(NamedTuple):
    """Why a task has ended without a result."""

    kind: Literal["machine", "process", "error", "refused"]
    """The machine was lost, the process died, the task raised, or no machine takes the task."""
    reason: str
    """Text for users."""
    error: Exception | None = None
    """What the task raised."""
    node: str = ""
    """Ray's id of the machine, if that is known."""


class Call(NamedTuple):
    """A function, called on a machine of the cluster with a `subpixel.cluster.worker.Context` and these."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(eq=False)
class Task:
    """A piece of work for one process in the cluster."""

    name: str
    """For messages."""
    cpus: int
    """And as many threads."""
    expected_seconds: float | None = None
    """None if nothing was measured yet."""
    avoided: dict[str, str] = field(default_factory=dict)
    """Ids of machines that refused this task, and why."""
    failed_on: set[str] = field(default_factory=set)
    """Ids of machines on which this work failed; others are tried first."""

    @property
    def fraction(self) -> float:
        """The finished share, 0 to 1, as far as messages tell."""
        return 0.0

    def call(self, *, is_copy: bool) -> Call:
        """Return what is to be called.

        Args:
            is_copy: whether another process works on this task, which is slow; the first result counts.
        """
        raise NotImplementedError


class Work(Protocol[Outcome]):
    """Hands out tasks, takes their results, and has outcomes for the user."""

    @property
    def is_pending(self) -> bool:
        """Whether there are tasks to hand out, now or later."""

    def next_task(self, cpus: float) -> Any:
        """Return the next `Task`, or None if there is none now; ``cpus`` are those of the whole cluster."""

    def on_message(self, task: Any, message: Any, node: str) -> None:
        """Take a message that a task sent from a machine."""

    def on_value(self, task: Any, value: Any, node: str) -> None:
        """Take the value that a task returned from a machine. Messages come before it."""

    def on_failure(self, task: Any, failure: Failure) -> None:
        """Take the end of a task without a value; what is to be repeated becomes new tasks."""

    def on_end(self, task: Any) -> None:
        """Note that no process works on a task any more; it comes last, perhaps after those of a copy."""

    def take_outcomes(self) -> list[Outcome]:
        """Return the outcomes since the last call."""

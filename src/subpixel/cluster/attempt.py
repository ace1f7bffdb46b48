"""A task that was submitted, and how it can end."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from subpixel.cluster.tasks import Failure, Task
from subpixel.errors import ClusterError


@dataclass(eq=False)
class Attempt:
    """A task that was submitted."""

    number: int
    task: Task
    ref: Any
    is_copy: bool
    submitted: float
    avoided: frozenset[str] = frozenset()
    """Ids of machines that Ray may not choose."""
    started: float | None = None
    node: str = ""
    host: str = ""
    canceled: float | None = None
    """When it was."""
    lost: float | None = None
    """Since when its machine is lost."""
    heard: float = 0.0
    """When its last message came."""
    ended: float = 0.0
    """When the driver saw that it had ended."""

    def lost_machine(self) -> Failure:
        """Return the failure of an attempt whose machine is lost."""
        return Failure("machine", f"the machine{self._where} was lost")

    def failure(self, error: BaseException, alive: Container[str]) -> Failure:
        """Return what became of an attempt that ended with one of Ray's exceptions.

        Args:
            error: the exception.
            alive: ids of the machines that are not lost.

        Raises `ClusterError` if no further task can be submitted.
        """
        from ray import exceptions

        if isinstance(error, exceptions.LocalRayletDiedError):
            raise ClusterError(
                "Ray's process (raylet) has ended on the machine that submits tasks: this one, or for ray:// "
                "the head node; run `ray start` there, and the same command again: what is finished stays"
            )
        if isinstance(error, exceptions.OutOfMemoryError):
            return Failure("process", f"its process{self._where} was killed, as memory was short")
        if isinstance(error, exceptions.NodeDiedError) or (self.node and self.node not in alive):
            return self.lost_machine()
        if isinstance(error, exceptions.WorkerCrashedError):
            return Failure("process", f"its process{self._where} died")
        reason = str(error).strip().rpartition("\n")[2] or type(error).__name__
        return Failure("process", f"its process{self._where} ended: {reason}")

    @property
    def _where(self) -> str:
        return f" on {self.host}" if self.host else ""

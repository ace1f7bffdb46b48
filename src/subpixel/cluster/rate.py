"""How fast the cluster works, as measured in this run."""

from collections import deque
from statistics import median

_KEPT = 50
"""Measurements of the last pieces of work count; the machines' load and the files change."""

TASK_SECONDS = 30.0
"""What a task should take. Shorter ones cost more overhead, and longer ones lose more with a machine."""
_SHORTEST_SECONDS = 1.0
"""Near the end, tasks get shorter, so that all machines end together; but not shorter than this."""


class Rate:
    """Seconds of work for each unit, on one task's CPUs."""

    def __init__(self) -> None:
        self._measured: deque[float] = deque(maxlen=_KEPT)

    def add(self, units: float, seconds: float) -> None:
        """Add a measurement."""
        if units > 0:
            self._measured.append(seconds / units)

    def seconds(self, units: float) -> float | None:
        """Return how long some units take; None if nothing was measured yet."""
        return units * median(self._measured) if self._measured else None


def seconds_of_next_task(left: float, processes: float) -> float:
    """Return how long the next task should take, when ``left`` seconds of work are left for some processes.

    This is guided self-scheduling (Polychronopoulos and Kuck, 1987): a fixed length as long as there is much
    to do, then a share of what is left, so that no process has a long task when the others have none.
    """
    return max(_SHORTEST_SECONDS, min(TASK_SECONDS, left / (2 * max(processes, 1))))

"""How the learning rate falls over the epochs, and when training ends."""

import math
from abc import ABC, abstractmethod

from subpixel.training.config import ScheduleConfig


class Schedule(ABC):
    """Says the learning rate at any moment. ``state`` is a dictionary of numbers that resumes it."""

    def __init__(self, config: ScheduleConfig) -> None:
        """Start at the first epoch."""
        self.config = config
        self.state: dict[str, float] = {}

    @abstractmethod
    def rate(self, epoch: float) -> float:
        """The learning rate after so many epochs (fractions count batches)."""

    def finish_epoch(self, epoch: int, cost: float) -> bool:
        """Take note of an epoch's mean cost; True when training ends here."""
        return epoch + 1 >= self.config.max_epochs


class Cosine(Schedule):
    """A linear warm-up, then half a cosine from ``rate`` down to ``final_rate``."""

    def rate(self, epoch: float) -> float:
        """See `Schedule.rate`."""
        start, end = self.config.rate, self.config.final_rate
        warmup = self.config.warmup_epochs
        if epoch < warmup:
            return start * (epoch / warmup * 0.99 + 0.01)
        done = (epoch - warmup) / max(self.config.max_epochs - warmup, 1e-9)
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class Plateau(Schedule):
    """The paper's (section 3.2): lower the rate when the cost improves by less than mu.

    The rate falls to ``final_rate``; training ends when ``stop_after`` epochs brought no improvement at all.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        """Start at the first epoch."""
        super().__init__(config)
        self.state = {"rate": config.rate, "best": math.inf, "previous": math.inf, "stale": 0}

    def rate(self, epoch: float) -> float:
        """See `Schedule.rate`."""
        return self.state["rate"]

    def finish_epoch(self, epoch: int, cost: float) -> bool:
        """See `Schedule.finish_epoch`."""
        state = self.state
        if state["previous"] - cost < self.config.mu * cost:
            state["rate"] = max(state["rate"] * self.config.factor, self.config.final_rate)
        state["previous"] = cost
        state["stale"] = 0 if cost < state["best"] else state["stale"] + 1
        state["best"] = min(state["best"], cost)
        return state["stale"] >= self.config.stop_after or super().finish_epoch(epoch, cost)


def make_schedule(config: ScheduleConfig) -> Schedule:
    """Build the schedule that a configuration names."""
    return {"cosine": Cosine, "plateau": Plateau}[config.kind](config)

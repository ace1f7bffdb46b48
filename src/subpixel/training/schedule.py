"""Schedules: the learning rate over the epochs, and when training ends."""

import math
from abc import ABC, abstractmethod

from subpixel.training.config import ScheduleConfig


class Schedule(ABC):
    """The learning rate at any time. ``state`` contains the numbers from which a schedule resumes."""

    def __init__(self, config: ScheduleConfig) -> None:
        """Start before the first epoch."""
        self.config = config
        self.state: dict[str, float] = {}

    @abstractmethod
    def rate(self, epoch: float) -> float:
        """Return the learning rate after ``epoch`` epochs, which may be a fraction."""

    def finish_epoch(self, epoch: int, loss: float) -> bool:
        """Record the mean loss of an epoch; return whether training ends."""
        return epoch + 1 >= self.config.max_epochs


class Cosine(Schedule):
    """A linear warm-up, then half a cosine from ``rate`` down to ``final_rate``."""

    def rate(self, epoch: float) -> float:
        """See `Schedule.rate`."""
        start, end = self.config.rate, self.config.final_rate
        warmup = self.config.warmup_epochs
        if epoch < warmup:
            return start * (epoch / warmup * 0.99 + 0.01)
        progress = (epoch - warmup) / max(self.config.max_epochs - warmup, 1e-9)
        return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


class Plateau(Schedule):
    """The paper's schedule (section 3.2): lower the rate when the loss improves by less than a fraction mu.

    The rate is never below ``final_rate``. Training ends after ``stop_after`` epochs without any improvement.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        """Start before the first epoch."""
        super().__init__(config)
        self.state = {"rate": config.rate, "best": math.inf, "previous": math.inf, "stale": 0}

    def rate(self, epoch: float) -> float:
        """See `Schedule.rate`."""
        return self.state["rate"]

    def finish_epoch(self, epoch: int, loss: float) -> bool:
        """See `Schedule.finish_epoch`."""
        state = self.state
        if state["previous"] - loss < self.config.mu * loss:
            state["rate"] = max(state["rate"] * self.config.factor, self.config.final_rate)
        state["previous"] = loss
        state["stale"] = 0 if loss < state["best"] else state["stale"] + 1
        state["best"] = min(state["best"], loss)
        return state["stale"] >= self.config.stop_after or super().finish_epoch(epoch, loss)


def make_schedule(config: ScheduleConfig) -> Schedule:
    """Build the schedule of a config."""
    return {"cosine": Cosine, "plateau": Plateau}[config.kind](config)

"""Repair of timestamps that damage has broken."""

from dataclasses import dataclass

_CONFIRMATIONS = 5
"""After how many times beyond a jump, one after the other, the jump is taken for true."""


@dataclass
class TimestampRepair:
    """Makes the times of one stream rise, one after the other. Times that rise already stay as they are."""

    second: int
    """The number of ticks in a second."""
    step: int = 1
    """The ticks from one time to the next where that has to be guessed."""
    strict: bool = True
    """Whether two times must not be equal."""
    jumps: bool = False
    """Whether a jump of more than ten seconds is more likely damage than a pause, as in MPEG streams."""
    repaired: int = 0
    """How many times were missing or broken."""
    last: int | None = None
    """The last time returned."""
    _beyond: int = 0

    def repair(self, time: int | None) -> int:
        """Return the time itself, or a plausible one if it is missing (None) or broken."""
        last = self.last
        if last is None:
            self.last = 0 if time is None else time
            return self.last
        if (
            time is not None
            and self.jumps
            and time - last > 10 * self.second
            and self._beyond < _CONFIRMATIONS
        ):
            self._beyond += 1
            time = None
        elif time is not None and time >= last + self.strict:
            self._beyond = 0
        if time is None:
            time, repaired = last + self.step, True
        elif time < last + self.strict:
            # A time that is a little too early gets the least change. A much earlier one is a restart.
            time, repaired = last + (self.strict if last - time < self.second else self.step), True
        else:
            repaired = False
        self.repaired += repaired
        self.last = time
        return time

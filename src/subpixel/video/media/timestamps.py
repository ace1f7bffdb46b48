"""Times of frames and packets, mended where damage has broken them."""

from dataclasses import dataclass

_CONFIRMATIONS = 5
"""How many times in a row must lie beyond a jump before it is believed."""


@dataclass
class Clock:
    """One stream's times as they pass, made to rise. Those that do so already are never touched."""

    second: int
    """How many ticks it has."""
    step: int = 1
    """Ticks from one to the next, where that has to be guessed."""
    strict: bool = True
    """Whether no two times may be the same."""
    jumps: bool = False
    """Whether a leap of more than ten seconds is rather damage than a pause, as in MPEG's streams."""
    mended: int = 0
    """How many times were given anew."""
    last: int | None = None
    _beyond: int = 0

    def mend(self, time: int | None) -> int:
        """The time itself, or the one to use in its place where it is missing or broken."""
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
            time, mended = last + self.step, True
        elif time < last + self.strict:
            # A little behind, it is set right with the least change; far behind, the clock has started anew.
            time, mended = last + (self.strict if last - time < self.second else self.step), True
        else:
            mended = False
        self.mended += mended
        self.last = time
        return time

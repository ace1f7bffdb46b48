"""The part of a video that is wanted."""

from dataclasses import dataclass
from fractions import Fraction

LONGEST_SECONDS = 10**9
"""Longer than any video."""


@dataclass(frozen=True)
class TimeRange:
    """The part of a video that is wanted, in seconds from where it starts; the end may be open."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    def __post_init__(self) -> None:
        """Refuse an empty part."""
        if self.start < 0:
            raise ValueError(f"the start must not be negative, as {float(self.start):g} s is")
        if self.start > LONGEST_SECONDS:
            raise ValueError(f"no video begins only after {float(self.start):g} s")
        if self.end is not None and self.end <= self.start:
            raise ValueError(
                f"the end, {float(self.end):g} s, must lie behind the start, {float(self.start):g} s"
            )

    def __bool__(self) -> bool:
        """Whether anything is cut away."""
        return self.start > 0 or self.end is not None


WHOLE = TimeRange()
"""All of a video."""

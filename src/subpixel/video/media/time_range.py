"""A part of a video, by start and end."""

from dataclasses import dataclass
from fractions import Fraction

LONGEST_SECONDS = 10**9
"""Longer than any video."""


@dataclass(frozen=True)
class TimeRange:
    """A part of a video, in seconds from its beginning. Without ``end`` it goes to the end of the video."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for an empty part."""
        if self.start < 0:
            raise ValueError(f"the start must not be negative, as {float(self.start):g} s is")
        if self.start > LONGEST_SECONDS:
            raise ValueError(f"the start, {float(self.start):g} s, is after the end of any video")
        if self.end is not None and self.end <= self.start:
            raise ValueError(
                f"the end, {float(self.end):g} s, must be after the start, {float(self.start):g} s"
            )

    def __bool__(self) -> bool:
        """Whether this is less than the whole video."""
        return self.start > 0 or self.end is not None


WHOLE = TimeRange()
"""The whole video."""

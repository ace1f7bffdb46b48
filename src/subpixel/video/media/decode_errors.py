"""What was wrong with an input, counted while it is read."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field


@dataclass
class DecodeErrors:
    """What was wrong with the input."""

    frames: int = 0
    """Frames read, damaged ones included."""
    damaged: int = 0
    """How many of them are damaged, which FFmpeg conceals as well as it can."""
    lost: int = 0
    """About how many frames are missing as their packets are too damaged."""
    retimed: int = 0
    """Frames whose time was missing or not behind the one before, and was mended."""
    missing: int = 0
    """About how many frames the file should have had behind its end."""
    appeared: bool = False
    """Whether streams appeared midway, which are not read."""
    resized: int = 0
    """Frames of another size than the first, brought to that."""
    carried_later: list[str] = field(default_factory=list)
    """What frames carry that the first one does not, by FFmpeg's names; no damage."""
    transparent_later: bool = False
    """Whether a frame lets something show through while the first one does not; no damage."""
    broken: str = ""
    """Why reading stopped before the end, if it did."""

    @property
    def share(self) -> float:
        """How much of the video is damaged, 0 to 1."""
        missing = self.lost + self.missing
        return (self.damaged + missing) / max(1, self.frames + missing)

    def settle(self, unusable: Collection[int], numbers: Sequence[int], gaps: int | None) -> None:
        """Tell, at the end, what became of damaged packets of which no frame came: it may have been a field.

        Args:
            unusable: their numbers.
            numbers: of the packets of frames, the least and the greatest; empty where there were none.
            gaps: how many frames there would be room for between those that came; None where nobody knows.
        """
        if numbers and gaps is not None:
            gaps += sum(not numbers[0] <= number <= numbers[1] for number in unusable)
            self.lost = min(len(unusable), gaps)
        else:
            self.lost = len(unusable)
        self.damaged = max(self.damaged, min(self.frames, len(unusable) - self.lost))

    @property
    def notices(self) -> list[str]:
        """All that, in words for people."""
        notices = []
        if self.damaged:
            notices.append(
                f"{self.damaged} frames were damaged, of {self.frames}; FFmpeg concealed what it could"
            )
        if self.lost:
            notices.append(f"about {self.lost} frames are missing, which could not be decoded")
        if self.missing:
            notices.append(f"is cut off: about {self.missing} frames are missing at its end")
        if self.appeared:
            notices.append("streams that appear midway are left out")
        if self.broken:
            notices.append(f"could not be read to its end ({self.broken}); what comes before is there")
        if self.retimed:
            notices.append(f"{self.retimed} frames had no time, or one out of order, and were given one")
        if self.transparent_later:
            notices.append("the transparency of later frames is left out")
        if self.resized:
            notices.append(f"{self.resized} frames had another size than the first, and were brought to it")
        return notices

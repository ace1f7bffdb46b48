"""Decode errors: what was wrong with an input, counted while it is read."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass
class DecodeErrors:
    """What was wrong with an input.

    Folders of interrupted jobs contain the fields by their names, so the names must stay.
    """

    frames: int = 0
    """How many frames were read, with the damaged ones."""
    damaged: int = 0
    """How many of them are damaged. FFmpeg conceals the damage as well as it can."""
    lost: int = 0
    """About how many frames are missing because their packets are too damaged."""
    retimed: int = 0
    """How many frames had no time, or one before that of the previous frame, and got another."""
    missing: int = 0
    """About how many frames are missing at the end of the file."""
    appeared: bool = False
    """Whether streams appeared in the middle of the file; they are not read."""
    resized: int = 0
    """How many frames had another size than the first one, and were resized to it."""
    interlaced: int = 0
    """How many frames are marked as interlaced; no error."""
    output_frames: int = 0
    """How many frames the output has; deinterlacing changes their number."""
    carried_later: list[str] = field(default_factory=list)
    """FFmpeg's names of side data that later frames have and the first one does not; no error."""
    transparent_later: bool = False
    """Whether a later frame has transparent pixels and the first one does not; no error."""
    broken: str = ""
    """Why reading stopped before the end; empty if it did not."""

    def add(self, other: "DecodeErrors") -> None:
        """Add the errors of later frames."""
        self.frames += other.frames
        self.damaged += other.damaged
        self.lost += other.lost
        self.retimed += other.retimed
        self.missing += other.missing
        self.appeared = self.appeared or other.appeared
        self.resized += other.resized
        self.interlaced += other.interlaced
        self.output_frames += other.output_frames
        self.carried_later += [name for name in other.carried_later if name not in self.carried_later]
        self.transparent_later = self.transparent_later or other.transparent_later
        self.broken = self.broken or other.broken

    @classmethod
    def merged(cls, errors: Iterable["DecodeErrors"]) -> "DecodeErrors":
        """Add up the errors of parts of a video, in their order."""
        result = cls()
        for each in errors:
            result.add(each)
        return result

    @property
    def damaged_share(self) -> float:
        """The share of the video that is damaged or missing, 0 to 1."""
        missing = self.lost + self.missing
        return (self.damaged + missing) / max(1, self.frames + missing)

    def count_undecoded(self, numbers: Collection[int], range: Sequence[int], gaps: int | None) -> None:
        """Count, at the end, damaged packets without a frame: as lost frames or, as fields, damaged ones.

        Args:
            numbers: the numbers of these packets.
            range: the least and the greatest number of a packet with a frame; empty if there is none.
            gaps: how many more frames there would be time for between the frames; None if that is not known.
        """
        if range and gaps is not None:
            gaps += sum(not range[0] <= number <= range[1] for number in numbers)
            self.lost = min(len(numbers), gaps)
        else:
            self.lost = len(numbers)
        self.damaged = max(self.damaged, min(self.frames, len(numbers) - self.lost))

    @property
    def warnings(self) -> list[str]:
        """The errors as messages for the user."""
        warnings = []
        if self.damaged:
            warnings.append(
                f"{self.damaged} of {self.frames} frames were damaged; FFmpeg concealed what it could"
            )
        if self.lost:
            warnings.append(f"about {self.lost} frames are missing, as they could not be decoded")
        if self.missing:
            warnings.append(f"is cut off: about {self.missing} frames are missing at its end")
        if self.appeared:
            warnings.append("streams that appear in the middle are dropped")
        if self.broken:
            warnings.append(f"could not be read to its end ({self.broken}); the output ends there")
        if self.retimed:
            warnings.append(f"{self.retimed} frames had no time, or one out of order, and got another")
        if self.transparent_later:
            warnings.append("the transparency of later frames is dropped")
        if self.resized:
            warnings.append(f"{self.resized} frames had another size than the first, and were resized to it")
        return warnings

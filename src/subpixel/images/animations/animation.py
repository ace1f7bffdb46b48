"""What passes between the readers and the writers of animations: composed frames and their delays."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from numpy.typing import NDArray

from subpixel.images.formats import Format
from subpixel.images.image import Header, Metadata

ENDLESS = 0
"""The number of plays of an animation that repeats without an end."""


class Frame(NamedTuple):
    """What is on the screen for a time."""

    samples: NDArray[Any]
    """The complete image, as in `DecodedImage`: all frames of an animation have the same shape and dtype."""
    delay: Fraction
    """How long it is shown, in seconds; may be 0."""


@dataclass
class Animation:
    """An animated file. Its frames are decoded one by one."""

    format: Format
    header: Header
    """Of each frame."""
    frames: int
    """The number of frames, 2 or more."""
    plays: int
    """How often the animation is played; `ENDLESS` is without an end."""
    read_frames: Callable[[], Iterator[Frame]]
    """Decodes the frames from the first one on."""
    metadata: Metadata = field(default_factory=Metadata)
    warnings: list[str] = field(default_factory=list)

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel of the frames is alpha."""
        return self.header.channels in (2, 4)


class Sequence(NamedTuple):
    """An animation to be written."""

    shape: tuple[int, ...]
    """Of each frame: ``(H, W)`` or ``(H, W, 2 to 4)``, as in `DecodedImage`."""
    length: int
    """The number of frames."""
    plays: int
    frames: Iterator[Frame]

    @property
    def channels(self) -> int:
        """Number of channels, alpha included."""
        return self.shape[2] if len(self.shape) == 3 else 1


def in_ticks(frames: Iterable[Frame], per_second: int) -> Iterator[tuple[NDArray[Any], int]]:
    """Round delays to the unit of a format, so that the start of each frame is the nearest possible one."""
    time = Fraction(0)
    for frame in frames:
        start = nearest_tick(time, per_second)
        time += frame.delay
        yield frame.samples, nearest_tick(time, per_second) - start


def nearest_tick(time: Fraction, per_second: int) -> int:
    """Round a time in seconds to the unit of a format."""
    return int(time * per_second + Fraction(1, 2))

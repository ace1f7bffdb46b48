"""Make progressive frames of interlaced ones, by FFmpeg's filters.

An interlaced frame consists of two fields, its odd and its even lines, which were taken at different times.
`bwdif` interpolates the missing lines of a field from the field itself and its neighbors in time. A film that
was telecined to 30 frames per second still has its 24 frames: `fieldmatch` joins their fields again, and
`decimate` drops the frame that is then there twice.

What `bwdif` makes of a frame depends on the frame, the one before and the one after, and on nothing else. So
a segment needs one more frame on each side. Which frame `decimate` drops depends on all frames before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Union

from subpixel.arguments import check_choice
from subpixel.options import Deinterlace, FieldOrder
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.source import is_packet
from subpixel.video.pipeline.deinterlace_filters import CYCLE, Bwdif, InverseTelecine, Stage

if TYPE_CHECKING:
    from av import Packet, VideoFrame

_TELECINED_RATES = (Fraction(295, 10), Fraction(305, 10))
"""Frames per second: telecined film has 30/1.001, or 30."""


class Discontinuity:
    """Comes between two frames of which the second does not follow the first."""


@dataclass(frozen=True, kw_only=True)
class Deinterlacing:
    """What happens to interlaced frames.

    Raises:
        ValueError: an unknown value, or values that exclude each other.
        TypeError: a value of the wrong type.
    """

    mode: Deinterlace = "auto"
    field_order: FieldOrder = "auto"
    inverse_telecine: bool = False

    def __post_init__(self) -> None:
        check_choice(Deinterlace, deinterlace=self.mode)
        check_choice(FieldOrder, field_order=self.field_order)
        if self.inverse_telecine and self.mode != "auto":
            raise ValueError(
                "inverse telecine deinterlaces what remains by itself; leave out the option deinterlace"
            )
        if self.field_order != "auto" and self.mode == "off":
            raise ValueError("the field order is for deinterlacing, which is off; leave one of them out")

    @property
    def rate_factor(self) -> Fraction:
        """How many frames come out for each frame, if all of them are interlaced or telecined."""
        if self.inverse_telecine:
            return Fraction(CYCLE - 1, CYCLE)
        return Fraction(2 if self.mode == "fields" else 1)

    @property
    def ticks(self) -> int:
        """By what the time base of frames is divided, so that it holds the times of the results exactly."""
        if self.inverse_telecine:
            return CYCLE - 1
        return 2 if self.mode == "fields" else 1

    @property
    def context_frames(self) -> int | None:
        """How many frames on each side a result depends on; None for all before it."""
        if self.inverse_telecine:
            return None
        return 0 if self.mode == "off" else 1

    def apply(
        self, events: Iterable[Union["Packet", "VideoFrame", Discontinuity]]
    ) -> Iterator[Union["Packet", "VideoFrame", Discontinuity]]:
        """Yield progressive frames for frames, in order of time, and pass everything else.

        At a `Discontinuity`, the results that wait for the next frame are dropped.

        Raises:
            UnsupportedVideo: FFmpeg cannot deinterlace frames of this size or format.
        """
        new = InverseTelecine if self.inverse_telecine else Bwdif
        filters: Stage = new(self)
        for event in events:
            if isinstance(event, Discontinuity):
                filters = new(self)
                yield event
            elif is_packet(event) or self.mode == "off":
                yield event
            else:
                yield from filters.feed(event)  # type: ignore[arg-type]
        yield from filters.flush()

    def warnings(self, errors: DecodeErrors, frame_rate: Fraction, *, captions: bool) -> list[str]:
        """What was done to interlaced frames, as text for users.

        Args:
            errors: those of the whole input, with the number of frames that are marked as interlaced.
            frame_rate: of the input.
            captions: whether its frames contain closed captions.
        """
        if self.inverse_telecine:
            return _telecine_warnings(frame_rate, captions=captions)
        found = f"{errors.interlaced} of {errors.frames} frames are interlaced"
        if self.mode == "off" and errors.interlaced:
            return [f"{found}, and were upscaled as they are"]
        if self.mode == "auto" and errors.interlaced:
            film = "; for a telecined film, pass --inverse-telecine" if _is_telecine_rate(frame_rate) else ""
            return [
                f"{found}, and were deinterlaced; --deinterlace fields (deinterlace='fields') gives smoother "
                f"motion at twice the frame rate, off leaves them as they are{film}"
            ]
        if self.mode == "auto" and self.field_order != "auto":
            return [
                "the field order changed nothing, because no frame is marked as interlaced; if the "
                "video shows combs, pass --deinterlace frames (deinterlace='frames') too"
            ]
        if self.mode in ("frames", "fields") and not errors.interlaced and self.field_order == "auto":
            return [
                "no frame is marked as interlaced: all were deinterlaced, with the top field first; if "
                "motion jumps back and forth, pass --field-order bottom (field_order='bottom')"
            ]
        return []


def _telecine_warnings(frame_rate: Fraction, *, captions: bool) -> list[str]:
    warnings = []
    if not _is_telecine_rate(frame_rate):
        warnings.append(
            f"inverse telecine dropped one of {CYCLE} frames, though the video has "
            f"{float(frame_rate):.5g} frames per second, and telecined film has 29.97"
        )
    if captions:
        warnings.append("inverse telecine drops the closed captions in the frames")
    return warnings


def _is_telecine_rate(frame_rate: Fraction) -> bool:
    low, high = _TELECINED_RATES
    return low <= frame_rate <= high

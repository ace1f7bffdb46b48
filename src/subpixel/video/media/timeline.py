"""When an input begins and ends, and what its times become in the output."""

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Union

from subpixel.video.media.streams import is_attached_picture
from subpixel.video.media.time_range import TimeRange
from subpixel.video.media.timestamps import TimestampRepair

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

MICROSECONDS = 1_000_000
"""FFmpeg's ticks per second for times of a whole container."""

MAX_EARLY_SECONDS = 10
"""How much earlier than FFmpeg's start of the file a stream of MPEG may begin; an earlier time is damaged."""

_MAX_FRAME_RATE = 10_000
"""Frames per second. A higher rate, as FFmpeg gives for bare streams of DV, counts ticks instead."""

_LATE_PACKETS_SECONDS = 5
"""How far after the end of a time range packets are read: interleaving may delay those before it."""

_MAX_LEADING_GAP_SECONDS = Fraction(1, 10)
"""How long the start of a time range may be without a frame."""


@dataclass
class Timeline:
    """The times of an open video.

    Output times start at 0: at the beginning of the video, or at the start of the time range.

    Attributes:
        container: the input.
        stream: its video stream.
        time_range: the part of the video that is wanted.
        known_origin: see `origin`; None until the first frame is decoded.
        reorder_delay: see `Decoder.reorder_delay`; likewise.
    """

    container: "InputContainer"
    stream: "VideoStream"
    time_range: TimeRange
    known_origin: Fraction | None = None
    reorder_delay: int | None = None

    @property
    def time_base(self) -> Fraction:
        """The unit of the frames' times, in seconds."""
        return self.stream.time_base or Fraction(1, 90_000)

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, from the container or FFmpeg's guess."""
        rates = [self.stream.average_rate, self.stream.guessed_rate]
        if not self.has_timestamps or self.has_decode_times_only:
            rates.reverse()  # the rate of such a container is FFmpeg's default, or counts fields
        return next((rate for rate in rates if rate and rate <= _MAX_FRAME_RATE), Fraction(25))

    @property
    def has_timestamps(self) -> bool:
        """Whether the file contains times of frames at all: a bare stream of H.264 does not."""
        return self.stream.start_time is not None

    @property
    def has_decode_times_only(self) -> bool:
        """Whether the container has only decode times, from which FFmpeg guesses the presentation times.

        This includes Matroska with a video stream from AVI, which is the only one with a codec tag.
        """
        name = self.container.format.name
        if "matroska" not in name:
            return name in ("avi", "asf", "mpegvideo")
        try:
            return bool(self.stream.codec_context.codec_tag.strip("\0"))
        except UnicodeDecodeError:  # a tag that is not text
            return True

    @property
    def origin(self) -> Fraction:
        """When the video begins in the file's times, in seconds: 0, unless it begins later, or before 0."""
        return self.known_origin or Fraction(0)

    @property
    def shift(self) -> Fraction:
        """What is subtracted from all times of the file to get times of the output, in seconds."""
        return self.origin + self.time_range.start

    def find_origin(self, first: Fraction) -> Fraction:
        """Find `origin`.

        As in FFmpeg, a video begins with the earliest of its streams. One that begins before 0 begins with
        its first frame: sound that begins a little earlier does not move the frames.

        Args:
            first: the time of the first frame, in seconds.
        """
        container_start = Fraction(self.container.start_time or 0, MICROSECONDS)
        if first < 0 or container_start <= 0:
            return min(first, Fraction(0))
        mpeg = "mpeg" in self.container.format.name
        starts = [
            stream.start_time * stream.time_base
            for stream in self.container.streams
            if stream.start_time is not None
            and stream.time_base is not None
            and (mpeg or stream.type != "data")
            and not is_attached_picture(stream)
        ]
        plausible = [start for start in starts if not mpeg or start >= container_start - MAX_EARLY_SECONDS]
        return max(Fraction(0), min([*(plausible or [container_start]), first]))

    @property
    def duration_seconds(self) -> Fraction | None:
        """The duration of the time range, in seconds; None if the file does not contain it."""
        duration = self.container.duration
        from_zero = self.container.format.name.startswith(("matroska", "nut"))
        before = self.origin if from_zero else Fraction(0)
        ends = [] if duration is None else [Fraction(duration, MICROSECONDS) - before]
        ends += [] if self.time_range.end is None else [self.time_range.end]
        return max(Fraction(0), min(ends) - self.time_range.start) if ends else None

    @property
    def expected_frames(self) -> int | None:
        """About how many frames the time range has; None if the file does not contain its duration."""
        if not self.time_range and self.stream.frames:
            return self.stream.frames
        seconds = self.duration_seconds
        return None if seconds is None else max(1, round(seconds * self.frame_rate))

    @property
    def max_leading_gap_seconds(self) -> Fraction:
        """How long the start of the time range may be without a frame, if another one follows."""
        return min(1 / self.frame_rate, _MAX_LEADING_GAP_SECONDS)

    def timestamp_repair(
        self, stream: "Stream", time_base: Fraction, *, strict: bool = True
    ) -> TimestampRepair:
        """A `TimestampRepair` for a stream's times in units of ``time_base``."""
        jumps = "mpeg" in self.container.format.name and stream.type != "subtitle"
        return TimestampRepair(second=max(1, round(1 / time_base)), strict=strict, jumps=jumps)

    def seconds(self, time: int) -> Fraction:
        """The seconds from the beginning of the video to a time of the video stream in ticks."""
        return time * self.time_base - self.origin

    def is_past_end(self, packet: "Packet") -> bool:
        """Whether a packet is so far after the end of the time range that no wanted one can follow."""
        if self.time_range.end is None or packet.dts is None or packet.time_base is None:
            return False
        return packet.dts * packet.time_base - self.origin > self.time_range.end + _LATE_PACKETS_SECONDS

    def trim(self, packet: "Packet") -> "Packet | None":
        """Move a packet of another stream to its time in the output; None if it is outside the time range."""
        if is_attached_picture(packet.stream):
            return packet
        if self.time_range:
            base = packet.time_base
            if packet.pts is None or base is None:
                return None
            time = packet.pts * base - self.origin
            duration = (packet.duration or 0) * base
            if self.time_range.end is not None and time >= self.time_range.end:
                return None
            if self.time_range.start and time < self.time_range.start:
                # A subtitle that is on the screen at the start of the time range is shown from there on.
                if packet.stream.type != "subtitle" or time + duration <= self.time_range.start:
                    return None
                packet.duration = round((time + duration - self.time_range.start) / base)
                packet.pts = packet.dts = round(self.shift / base)
        self._move(packet)
        return packet

    def trim_frame(self, frame: "VideoFrame") -> None:
        """Move a frame that is shown in the time range to its time in the output, and cut its duration."""
        assert frame.pts is not None
        time = frame.pts - round(self.shift / self.time_base)
        frame.pts = max(0, time) if self.time_range else time
        end = time + frame.duration
        if self.time_range.end is not None:
            end = min(end, round((self.time_range.end - self.time_range.start) / self.time_base))
        frame.duration = max(0, end - frame.pts)

    def time_of(self, frame: "VideoFrame") -> Fraction:
        """The seconds from the beginning of the whole video to a frame that `trim_frame` has moved.

        Not the start of the time range plus the frame's new time: `trim_frame` rounds the start to ticks, and
        in YUV4MPEG2 and AVI a tick is a whole frame.
        """
        assert frame.pts is not None
        return self.seconds(frame.pts + round(self.shift / self.time_base))

    def _move(self, event: Union["Packet", "VideoFrame"]) -> None:
        if not self.shift or event.time_base is None:
            return
        ticks = round(self.shift / event.time_base)
        for name in ("pts", "dts"):
            if (time := getattr(event, name)) is not None:
                setattr(event, name, time - ticks)

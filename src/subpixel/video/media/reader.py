"""Reads packets and frames from one position of an open video to its end.

FFmpeg conceals damaged frames; the reader counts them.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Union

from subpixel.errors import UnsupportedVideo
from subpixel.video.media.alpha import has_transparent_pixels
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.decoder import Decoded, Decoder
from subpixel.video.media.hdr import frame_side_data
from subpixel.video.media.streams import is_attached_picture, is_mp4, why_unreadable
from subpixel.video.media.timeline import Timeline

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_FRAME_COUNT_TOLERANCE = 2
"""By how many frames a file's own count may be wrong."""

_TRIES = 100
_PAUSE_SECONDS = 0.01
"""How often, and after which pause, FFmpeg is asked again when it has nothing to read yet."""

_ALPHA_BLOCK = (1).to_bytes(8)
"""The first bytes of Matroska's BlockAdditional if it contains the alpha of VP8 or VP9."""


@dataclass(frozen=True)
class Window:
    """The frames from a time on, which are read from a position in the middle.

    Attributes:
        first: the time of the first frame, in ticks of the stream.
        packets_before: how many packets of the stream are before the position.
    """

    first: int
    packets_before: int


class Reader:
    """Reads an open video from its current position. To read from another one, make a new reader.

    Attributes:
        packets: the packets of all streams; may be replaced while `events` runs.
        events: the frames of the video stream, and the packets of the other streams, as they come in the
            file. Times are those of the output.
        decode_errors: those so far.
        first_seconds: the time of the first decoded frame from the beginning of the video, whether it is in
            the time range or not; None before that.
        first_passed: the arguments of `on_frame` for the first frame that is passed on; None before.
        undecoded_at_start: how many there are before the packet of the first frame.
        on_frame: is called with the time of each frame that is passed on, in ticks, and its decode errors. In
            them, `carried_later` is all its side data, and `transparent_later` whether it is transparent,
            which is found out until a frame is.
        damaged_outside: the times of damaged frames, in ticks, before the window or after the time range.
        has_alpha_blocks: whether the transparency is a video stream of its own in the same packets, as with
            VP8 and VP9; FFmpeg does not decode it.
    """

    def __init__(
        self, name: str, timeline: Timeline, covers: dict[int, bytes], window: Window | None = None
    ) -> None:
        """Prepare to read; nothing is read yet.

        Args:
            name: the file's name in messages.
            timeline: the times of the video. The reader sets its origin at the first frame.
            covers: receives the content of attached pictures, by the index of their stream.
            window: the frames that are wanted, unless it is all of the time range.
        """
        self.decode_errors = DecodeErrors()
        self.first_seconds: Fraction | None = None
        self.first_passed: tuple[int, DecodeErrors] | None = None
        self.undecoded_at_start = 0
        self.on_frame: Callable[[int, DecodeErrors], object] = lambda time, errors: None
        self.damaged_outside: list[int] = []
        self.has_alpha_blocks = False
        self.packets = demux(timeline.container, timeline.stream, self.decode_errors)
        self.events = self._read()
        self._name = name
        self._timeline = timeline
        self._covers = covers
        self._window = window
        self._stream = timeline.stream
        self._decoder = Decoder(
            timeline.stream,
            decode_times_only=timeline.has_decode_times_only,
            reorder_delay=timeline.reorder_delay,
        )
        self._repair = timeline.timestamp_repair(timeline.stream, timeline.time_base)
        self._repair.step = max(1, round(1 / (timeline.frame_rate * timeline.time_base)))
        self._without_time = 0
        """How many frames had no time."""
        self._side_data: set[str] = set()
        """The types of side data of all frames so far."""
        self._is_transparent = False
        """Whether any frame so far has transparent pixels."""
        self._early_packets: list[Packet] = []
        """Packets before the first frame, until the origin is known."""
        self._previous: Decoded | None = None
        """The previous frame. Its duration is known when the next one comes."""
        self._number_range: list[int] = []
        """The least and the greatest number of a packet of which a frame has come."""
        self._gaps = 0
        """How many more frames would fit between the frames, by their times."""
        self._ended = False
        """Whether a frame after the time range has come."""

    @property
    def repaired(self) -> int:
        """How many frames had no time, or one before that of the previous frame."""
        return self._repair.repaired

    @property
    def undecoded(self) -> set[int]:
        """See `Decoder.undecoded`."""
        return self._decoder.undecoded

    def _read(self) -> Iterator[Union["Packet", "VideoFrame"]]:
        # Not a for loop, as `packets` may be replaced in between.
        while (packet := next(self.packets, None)) is not None:
            if packet.stream_index != self._stream.index:
                yield from self._pass_packet(packet)
                continue
            if self._ended:
                if self._timeline.is_past_end(packet):
                    break
                continue
            self._check_video_packet(packet)
            for decoded in self._decoder.decode(packet):
                yield from self._take(decoded)
                if self._ended:
                    break
        last = self._previous
        if not self._timeline.time_range and not self.decode_errors.broken:
            self.decode_errors.missing = self._missing_at_end(last.frame if last else None)
        if last is not None and not self._ended:
            last.frame.duration = self._last_duration(last.frame)
            yield from self._pass_frame(last)
        if self._window is not None:
            return
        gaps = self._gaps if self._timeline.has_timestamps else None
        self.decode_errors.count_undecoded(self._decoder.undecoded, self._number_range, gaps)

    def _pass_packet(self, packet: "Packet") -> Iterator["Packet"]:
        """Yield a packet of another stream, once the origin is known, at its time in the output."""
        if is_attached_picture(packet.stream):
            self._covers.setdefault(packet.stream_index, bytes(packet))
        if self._timeline.known_origin is None:
            self._early_packets.append(packet)
        elif packet.size and (trimmed := self._timeline.trim(packet)) is not None:
            yield trimmed

    def _check_video_packet(self, packet: "Packet") -> None:
        """Raise `UnsupportedVideo` if the first packet cannot be decoded; look for alpha in each."""
        is_first = self._timeline.known_origin is None and self._decoder.packets == 0
        if is_first and (why := why_unreadable(packet, self._timeline.container)):
            raise UnsupportedVideo(f"{self._name}: its video stream {why}")
        self.has_alpha_blocks = self.has_alpha_blocks or _has_alpha_block(packet)

    def _take(self, decoded: Decoded) -> Iterator[Union["Packet", "VideoFrame"]]:
        """Take the next decoded frame, and yield the previous one, whose duration is known now."""
        timeline = self._timeline
        at = self._repair.repair(decoded.time)
        self._without_time += decoded.time is None
        if timeline.known_origin is None:
            timeline.reorder_delay = self._decoder.reorder_delay
            timeline.known_origin = timeline.find_origin(at * timeline.time_base)
            yield from filter(None, (timeline.trim(packet) for packet in self._early_packets if packet.size))
        seconds = timeline.seconds(at)
        if self.first_seconds is None:
            self.first_seconds = seconds
            self.undecoded_at_start = sum(number < (decoded.number or 0) for number in self.undecoded)
        end = timeline.time_range.end
        self._ended = end is not None and seconds >= end
        self.damaged_outside += [at] * (self._ended and decoded.is_damaged)
        if (previous := self._previous) is not None:
            # A frame is shown until the next one: the durations in files are those of decoding, or missing.
            assert previous.frame.pts is not None
            previous.frame.duration = at - previous.frame.pts
            self._gaps += max(0, round(previous.frame.duration / self._repair.step) - 1)
            yield from self._pass_frame(
                previous, Fraction(0) if self._ended else timeline.max_leading_gap_seconds
            )
        if self._ended:
            return
        # Counted after the yield, so that a caller who stops at an earlier frame does not see it.
        self.decode_errors.lost = len(self._decoder.undecoded)
        if decoded.number is not None:
            known = [*self._number_range, decoded.number]
            self._number_range = [min(known), max(known)]
        decoded.frame.pts, decoded.frame.time_base = at, timeline.time_base
        self._previous = decoded

    def _pass_frame(self, decoded: Decoded, min_overlap: Fraction = Fraction(0)) -> Iterator["VideoFrame"]:
        """Yield a frame at its time in the output, if it is shown in the time range.

        A frame from before the time range counts if it is shown for more than ``min_overlap`` seconds of it.
        """
        frame, timeline = decoded.frame, self._timeline
        assert frame.pts is not None
        if self._window is not None and frame.pts < self._window.first:
            self.damaged_outside += [frame.pts] * decoded.is_damaged
            return
        start = timeline.time_range.start
        begins_there = not timeline.time_range or timeline.seconds(frame.pts) >= start
        if begins_there or timeline.seconds(frame.pts + frame.duration) > start + min_overlap:
            self._count(decoded)
            timeline.trim_frame(frame)
            yield frame

    def _count(self, decoded: Decoded) -> None:
        """Count a frame, its damage, and what it has that the first frame does not."""
        errors, frame = self.decode_errors, decoded.frame
        types = {side.type.name for side in frame_side_data(frame)}
        is_transparent = not self._is_transparent and has_transparent_pixels(frame)
        errors.damaged += decoded.is_damaged
        errors.frames += 1
        errors.interlaced += frame.interlaced_frame
        if errors.frames > 1:
            errors.carried_later += sorted(types - self._side_data)
            errors.transparent_later = errors.transparent_later or is_transparent
        self._side_data |= types
        self._is_transparent = self._is_transparent or is_transparent
        # Many containers have times for some frames only, from which those of the others follow.
        repaired = max(0, self._repair.repaired - self._without_time)
        errors.retimed = repaired if self._timeline.has_timestamps else 0
        assert frame.pts is not None
        its_errors = DecodeErrors(
            frames=1,
            damaged=int(decoded.is_damaged),
            interlaced=int(frame.interlaced_frame),
            carried_later=sorted(types),
            transparent_later=is_transparent,
        )
        if self.first_passed is None:
            self.first_passed = frame.pts, its_errors
        self.on_frame(frame.pts, its_errors)

    def _last_duration(self, frame: "VideoFrame") -> int:
        """How long the last frame of the file is shown, in ticks."""
        assert frame.pts is not None
        errors = self.decode_errors
        duration = self._stream.duration
        if is_mp4(self._timeline.container) and duration and not (errors.missing or errors.broken):
            # MP4's duration of a single frame is that from one decoding to the next.
            end = (self._stream.start_time or 0) + duration
            if end > frame.pts:
                return end - frame.pts
        step = self._repair.step
        return step if self._timeline.has_decode_times_only else frame.duration or step

    def _missing_at_end(self, last: "VideoFrame | None") -> int:
        """About how many frames are missing at the end, by the file's own count or duration.

        Args:
            last: the last frame, at its time in the file.
        """
        if is_mp4(self._timeline.container):
            # FFmpeg's index has no entry for a frame that an edit list leaves out, and there is no packet.
            expected = min(self._stream.frames, len(self._stream.index_entries))
            before = 0 if self._window is None else self._window.packets_before
            missing = expected - before - self._decoder.packets
        else:
            duration = _seconds_of_tag(self._stream.metadata.get("DURATION", ""))
            if duration is None or last is None:
                return 0
            assert last.pts is not None
            end = last.pts + (last.duration or self._repair.step)
            missing = int((duration - end * self._timeline.time_base) * self._timeline.frame_rate)
        return missing if missing > _FRAME_COUNT_TOLERANCE else 0


def demux(
    container: "InputContainer", stream: "VideoStream", decode_errors: DecodeErrors
) -> Iterator["Packet"]:
    """All packets with content, from here to the end or to where the file cannot be read any further.

    Then one that flushes the decoder of ``stream``. Why reading stopped goes to ``decode_errors``.
    """
    import av

    tries = 0
    while True:
        try:
            # PyAV ends with empty packets for all decoders, but all have the index of the first stream.
            # An empty packet before the end would flush the decoder too.
            for packet in container.demux():
                tries = 0
                if packet.size:
                    yield packet
        except av.error.BlockingIOError as error:
            # Nothing can be read yet, but this is not the end.
            tries += 1
            if tries < _TRIES:
                time.sleep(_PAUSE_SECONDS)
                continue
            decode_errors.broken = str(error.strerror)
        except av.FFmpegError as error:
            decode_errors.broken = str(getattr(error, "strerror", error))
        except IndexError:
            # PyAV raises this at the end if streams have appeared that it did not know before.
            decode_errors.appeared = True
        break
    flush = av.Packet()
    flush.stream = stream
    yield flush


def _has_alpha_block(packet: "Packet") -> bool:
    if not packet.has_sidedata("matroska_block_additional"):
        return False
    return bytes(packet.get_sidedata("matroska_block_additional"))[:8] == _ALPHA_BLOCK


def _seconds_of_tag(text: str) -> Fraction | None:
    """The seconds of a time such as 00:00:04.000000000 in Matroska's tags; None for anything else."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None

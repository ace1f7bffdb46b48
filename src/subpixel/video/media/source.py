"""Opens a video, and gives its packets and the frames of its video stream."""

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from subpixel.errors import InputError, UnreadableVideo, UnsupportedVideo
from subpixel.files import PIPE, is_file
from subpixel.storage.paths import ObjectPath, locate
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.reader import Reader
from subpixel.video.media.remote import RemoteVideo
from subpixel.video.media.streams import is_attached_picture, is_mp4, why_unreadable
from subpixel.video.media.time_range import LONGEST_SECONDS, WHOLE, TimeRange
from subpixel.video.media.timeline import MICROSECONDS, Timeline

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

_SEEK_MARGINS = (0, 10, 60)
"""How many seconds before the start of a time range FFmpeg is asked to seek, one try after the other: without
an index it may find a position between two key frames. The last try is the beginning of the file."""

_MAX_SUBTITLE_SECONDS = 10
"""How long before the start of a time range a subtitle may begin that is still on the screen there."""

_MAX_READ_AHEAD = 200
"""How many packets are read to find one of another stream."""


@dataclass
class Source:
    """An open video.

    Attributes:
        name: the file's name in messages, or "stdin".
        container: the file, opened by PyAV.
        stream: the video stream that is upscaled.
        others: all other streams. Remove those that are not wanted in the output.
        timeline: the times of the video.
        seekable: whether the file can be read twice.
        first_frame_seconds: the time of the first frame of the whole video from its beginning; None if not
            known.
        file: what FFmpeg reads the video from, if that is no local file.
        covers: the content of attached pictures (covers), by the index of their stream.
        has_blocked_reader: whether a thread still waits for a pipe that gives nothing. The file must not be
            closed then.
        first_frame: the first frame of the time range, from which the output is planned.
    """

    name: str
    container: "InputContainer"
    stream: "VideoStream"
    others: list["Stream"]
    timeline: Timeline
    seekable: bool
    first_frame_seconds: Fraction | None = None
    file: RemoteVideo | None = None
    covers: dict[int, bytes] = field(default_factory=dict)
    has_blocked_reader: bool = False
    _reader: Reader = field(init=False)
    _buffer: deque[Union["Packet", "VideoFrame"]] = field(default_factory=deque)
    """Packets and the first frame that were read, but not yet returned by `events`."""
    state: tuple[int, int | str] | None = None
    """The size, and the time or the version, of a regular file before it was opened."""

    def __post_init__(self) -> None:
        """Read up to the first frame.

        Raises:
            UnreadableVideo: there is none.
            UnsupportedVideo: the video stream cannot be decoded.
        """
        time_range = self.timeline.time_range
        positions = self._positions()
        for position in positions:
            self._read_from(position)
            for event in self._reader.events:
                self._buffer.append(event)
                if not is_packet(event):
                    break
            found = self._buffer and not is_packet(self._buffer[-1])
            earliest = self._reader.first_seconds
            if found and (earliest is None or earliest <= time_range.start or position is positions[-1]):
                self.first_frame: VideoFrame = self._buffer[-1]  # type: ignore[assignment]
                if not time_range.start:
                    self.first_frame_seconds = earliest
                return
        broken = self.decode_errors.broken
        if is_mp4(self.container) and not self.seekable and broken:
            raise UnreadableVideo(
                f"{self.name}: the index of this MP4 (moov) is at its end, and a pipe cannot be "
                "read twice; name the file instead, or put its index first: "
                "ffmpeg -i in.mp4 -c copy -movflags +faststart out.mp4"
            )
        where = " in the time range of start and end" if time_range else ""
        raise UnreadableVideo(f"{self.name}: contains no frame{where}{f' ({broken})' if broken else ''}")

    def _positions(self) -> list[Fraction | None]:
        """The positions from which to try to read, in seconds from the beginning; None is the current one."""
        time_range = self.timeline.time_range
        if not time_range.start or not self.seekable or not self.timeline.has_timestamps:
            return [None]
        if self.first_frame_seconds is not None and self.first_frame_seconds >= time_range.start:
            return [None]  # FFmpeg seeks in the video stream, and sound may begin long before it
        subtitles = any(stream.type == "subtitle" for stream in self.others)
        # With decode times only, the times of the first frames after a key frame are a little uncertain.
        start = time_range.start - (
            _MAX_SUBTITLE_SECONDS if subtitles else self.timeline.has_decode_times_only
        )
        earlier = [start - margin for margin in _SEEK_MARGINS if margin < start]
        # Some containers have no position before the first, and seek elsewhere if asked for one.
        return [*earlier, Fraction(0), Fraction(-LONGEST_SECONDS)]

    def _read_from(self, position: Fraction | None) -> None:
        import av

        if position is not None:
            # If FFmpeg cannot seek there, nothing was read before, and reading begins at the beginning.
            with contextlib.suppress(av.FFmpegError):
                self.container.seek(int((self.timeline.origin + position) * MICROSECONDS))
        self._buffer.clear()
        self._reader = Reader(self.name, self.timeline, self.covers)

    @property
    def decode_errors(self) -> DecodeErrors:
        """The decode errors so far."""
        return self._reader.decode_errors

    @property
    def reader(self) -> Reader:
        """What reads the packets and frames."""
        return self._reader

    @property
    def has_alpha_blocks(self) -> bool:
        """See `Reader.has_alpha_blocks`."""
        return self._reader.has_alpha_blocks

    def packets(self) -> Iterator["Packet"]:
        """The packets of all streams, from the current position, to pass to `events`."""
        return self._reader.packets

    def events(self, packets: Iterator["Packet"] | None = None) -> Iterator[Union["Packet", "VideoFrame"]]:
        """The frames of the video stream, and the packets of the other streams, as they come in the file.

        Times are those of the output: from the start of the time range. The times of frames rise strictly.

        Args:
            packets: the result of `packets`, if another thread reads it ahead.
        """
        if packets is not None:
            self._reader.packets = packets
        while self._buffer:
            yield self._buffer.popleft()
        yield from self._reader.events
        if self.file is not None:
            self.file.check()

    def copies(self) -> Iterator["Packet"]:
        """The packets of the other streams alone, from the current position; nothing is decoded."""
        from av.stream import Discard

        self.stream.discard = Discard.all
        yield from (event for event in self._buffer if is_packet(event))  # type: ignore[misc]
        for packet in self._reader.packets:
            if packet.stream_index != self.stream.index and packet.size:
                if (trimmed := self.timeline.trim(packet)) is not None:
                    yield trimmed
                elif self.timeline.is_past_end(packet):
                    return
        if self.file is not None:
            self.file.check()

    def discard_others(self) -> None:
        """Skip the packets of other streams from here on."""
        from av.stream import Discard

        for stream in self.others:
            stream.discard = Discard.all
        self._buffer = deque(event for event in self._buffer if not is_packet(event))

    def first_packet(self, stream: "Stream") -> bytes | None:
        """The first packet of another stream; None if there is none near the first frame."""
        packet = self._first_packet(stream, _MAX_READ_AHEAD)
        return None if packet is None else bytes(packet)

    def sample_packet(self, stream: "Stream") -> bytes | None:
        """A packet near the first frame, as `first_packet`, but on a pipe of sound only.

        Other streams may have no packet before the end of a pipe. Sound has one soon.
        """
        packet = self._sample_packet(stream)
        return None if packet is None else bytes(packet)

    def why_unreadable(self, stream: "Stream") -> str:
        """Why a copy of another stream could not be read, with the cure; empty if it could be."""
        packet = self._sample_packet(stream)
        return "" if packet is None else why_unreadable(packet, self.container)

    def _sample_packet(self, stream: "Stream") -> "Packet | None":
        return self._first_packet(stream, _MAX_READ_AHEAD if self.seekable or stream.type == "audio" else 0)

    def _first_packet(self, stream: "Stream", ahead: int) -> "Packet | None":
        read: Iterator[Any] = filter(is_packet, self._buffer)
        if (found := next((packet for packet in read if packet.stream_index == stream.index), None)) is None:
            more: list[Packet] = []
            for packet in islice(self._reader.packets, ahead):
                more.append(packet)
                if packet.stream_index == stream.index:
                    found = packet
                    break
            self._reader.packets = chain(more, self._reader.packets)
        return found

    @property
    def hidden_sound_seconds(self) -> float:
        """How much of the sound read so far an edit list hides, in seconds."""
        packets: list[Any] = [*filter(is_packet, self._buffer)]
        hidden = [p for p in packets if p.is_discard and p.stream.type == "audio" and p.pts is not None]
        return max((-float(packet.pts * packet.time_base) for packet in hidden), default=0.0)

    def check_unchanged(self) -> None:
        """Raise `InputError` if the file was changed, replaced or removed since it was opened.

        Some of its content was read before, and some is read by name later.
        """
        if self.state is not None and _state(self.name) != self.state:
            raise InputError(f"{self.name}: was changed while it was read; run the same command again")

    def close(self) -> None:
        """Close the file, unless a thread still waits for it."""
        if not self.has_blocked_reader:
            self.container.close()
            if self.file is not None:
                self.file.close()


def is_packet(event: Union["Packet", "VideoFrame"]) -> bool:
    """Whether an event is a packet, which is copied, and not a frame."""
    import av

    return isinstance(event, av.Packet)


def open_source(input: Path | str, time_range: TimeRange = WHOLE) -> Source:
    """Open a video file, or stdin if ``input`` is "-".

    Args:
        input: the file, or the URL of an object in a bucket, of which only ranges are read.
        time_range: the part of the video that is wanted.

    Raises:
        UnreadableVideo: there is no such file, it is not a video, or it contains no frame.
        UnsupportedVideo: it has no video stream, or one that this FFmpeg does not decode.
    """
    name = "stdin" if str(input) == PIPE else str(input)
    whole: Source | None = None
    if time_range.start and is_regular(input):
        # A time range counts from the beginning of the whole video, which only its first frame shows.
        with contextlib.closing(open_source(input)) as whole:
            pass
    state = _state(input)
    container, stream, file = _open_video(input)
    try:
        others = [other for other in container.streams if other.index != stream.index]
        timeline = Timeline(container, stream, time_range)
        if whole is not None:
            timeline.known_origin = whole.timeline.known_origin
            timeline.reorder_delay = whole.timeline.reorder_delay
        first_frame_seconds = None if whole is None else whole.first_frame_seconds
        return Source(
            name,
            container,
            stream,
            others,
            timeline,
            is_regular(input),
            first_frame_seconds,
            file,
            state=state,
        )
    except BaseException:
        container.close()
        if file is not None:
            file.close()
        raise


@contextlib.contextmanager
def open_again(source: Source) -> Iterator[tuple["InputContainer", "VideoStream"]]:
    """Open the file of a source once more, at its beginning; only packets of the video stream are read."""
    from av.stream import Discard

    container, stream, file = _open_video(source.name)
    try:
        for other in container.streams:
            if other.index != stream.index:
                other.discard = Discard.all
        yield container, stream
        if file is not None:
            file.check()
    except Exception:
        if file is not None:
            file.check()  # its error may be the reason
        raise
    finally:
        container.close()
        if file is not None:
            file.close()


def _open_video(input: Path | str) -> tuple["InputContainer", "VideoStream", RemoteVideo | None]:
    """Open a file, and choose its video stream; raises as `open_source`."""
    import av
    from av.codec.context import ThreadType

    name = "stdin" if str(input) == PIPE else str(input)
    file: RemoteVideo | None = None
    try:
        if isinstance(location := locate(input), ObjectPath):
            file = RemoteVideo(location)
        # Metadata is copied byte by byte, whatever its encoding.
        container = av.open(file or url(input), "r", metadata_errors="surrogateescape")
    except (av.FFmpegError, OSError, ValueError) as error:
        if file is not None:
            file.close()
        raise UnreadableVideo(f"{name}: cannot be read ({getattr(error, 'strerror', error)})") from error
    try:
        videos = [stream for stream in container.streams.video if not is_attached_picture(stream)]
        if not videos:
            types = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise UnsupportedVideo(f"{name}: contains no video, only {types}")
        stream = max(videos, key=lambda video: bool(video.disposition & 1))
        if stream.codec_context is None:
            raise UnsupportedVideo(f"{name}: its video is in a format that this FFmpeg does not decode")
        stream.thread_type = ThreadType.AUTO
        stream.thread_count = 0  # FFmpeg's own choice
        return container, stream, file
    except BaseException:
        container.close()
        if file is not None:
            file.close()
        raise


def _state(input: Path | str) -> tuple[int, int | str] | None:
    """The size, and the time or the version, of a file or an object; None for a pipe, or if there is none."""
    with contextlib.suppress(OSError):
        if isinstance(location := locate(input), ObjectPath):
            found = location.status()
            return found.size, found.version
        if is_regular(input):
            status = location.stat()
            return status.st_size, status.st_mtime_ns
    return None


def url(file: Path | str) -> str:
    """The URL of a file for FFmpeg, which without "file:" takes a name with a colon for a protocol."""
    return "pipe:0" if str(file) == PIPE else f"file:{file}"


def is_regular(input: Path | str) -> bool:
    """Whether an input can be read twice, as pipes and devices cannot."""
    location = locate(input)
    return isinstance(location, ObjectPath) or (str(input) != PIPE and is_file(location))

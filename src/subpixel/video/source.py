"""A video file as it is read: what it holds, its packets, and the frames of its picture.

Damage is concealed as FFmpeg does it, and counted. Times are the file's own, unless a part is cut out.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Union

from subpixel.errors import UnreadableVideo, UnsupportedVideo
from subpixel.jobs import PIPE
from subpixel.video.clock import Clock

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

_MICROSECONDS = 1_000_000
_TAIL = 5
"""Seconds for which packets are still read behind the end of a cut: what belongs before it may come late."""


@dataclass(frozen=True)
class Cut:
    """The part of a video that is wanted, in seconds from where it starts; the end may be open."""

    start: Fraction = Fraction(0)
    end: Fraction | None = None

    def __post_init__(self) -> None:
        """Refuse an empty part."""
        if self.start < 0:
            raise ValueError(f"the start must not be negative, as {float(self.start):g} s is")
        if self.end is not None and self.end <= self.start:
            raise ValueError(
                f"the end, {float(self.end):g} s, must lie behind the start, {float(self.start):g} s"
            )

    def __bool__(self) -> bool:
        """Whether anything is cut away."""
        return self.start > 0 or self.end is not None


@dataclass
class Damage:
    """What was wrong with the input."""

    frames: int = 0
    """Frames read, damaged ones included."""
    damaged: int = 0
    """Frames that FFmpeg had to conceal, and packets of which it made none."""
    retimed: int = 0
    """Frames whose time was missing or not behind the one before, and was mended."""
    resized: int = 0
    """Frames of another size than the first, brought to that."""
    broken: str = ""
    """Why reading stopped before the end, if it did."""

    @property
    def share(self) -> float:
        """How much of the video is damaged, 0 to 1."""
        return self.damaged / max(1, self.frames, self.damaged)

    @property
    def notices(self) -> list[str]:
        """All that, in words for people."""
        notices = []
        if self.damaged:
            notices.append(
                f"{self.damaged} frames were damaged, of {self.frames}; FFmpeg concealed what it could"
            )
        if self.broken:
            notices.append(f"could not be read to its end ({self.broken}); what comes before is there")
        if self.retimed:
            notices.append(f"{self.retimed} frames had no time, or one out of order, and were given one")
        if self.resized:
            notices.append(f"{self.resized} frames had another size than the first, and were brought to it")
        return notices


@dataclass
class Source:
    """An open video.

    Attributes:
        name: for people.
        container: FFmpeg's view of the file.
        stream: whose picture is enlarged.
        others: all other streams.
        first: its first frame, from which everything is planned.
        cut: the part that is wanted.
        damage: counted while reading.
        pictures: what attached pictures (covers) hold, by the index of their stream.
    """

    name: str
    container: "InputContainer"
    stream: "VideoStream"
    others: list["Stream"]
    cut: Cut
    seekable: bool
    damage: Damage = field(default_factory=Damage)
    pictures: dict[int, bytes] = field(default_factory=dict)
    _read: deque[Union["Packet", "VideoFrame"]] = field(default_factory=deque)
    _events: Iterator[Union["Packet", "VideoFrame"]] = field(init=False)
    _packets: Iterator["Packet"] = field(init=False)

    def __post_init__(self) -> None:
        """Read up to the first frame."""
        self._clock = self.clock(self.stream, self.time_base)
        self._clock.step = max(1, round(1 / (self.rate * self.time_base)))
        if self.cut.start and self.seekable:
            self.container.seek(int((self.origin + self.cut.start) * _MICROSECONDS))
        self._packets = self._demuxed()
        self._events = self._decoded()
        for event in self._events:
            self._read.append(event)
            if not is_packet(event):
                self.first: VideoFrame = event  # type: ignore[assignment]
                return
        wanted = " in the part that is wanted" if self.cut else ""
        raise UnreadableVideo(f"{self.name}: gives no frame{wanted}{_because(self.damage.broken)}")

    @property
    def time_base(self) -> Fraction:
        """The unit of the frames' times, in seconds."""
        return self.stream.time_base or Fraction(1, 90_000)

    @property
    def rate(self) -> Fraction:
        """Frames a second, by the container's word or FFmpeg's guess."""
        return self.stream.average_rate or self.stream.guessed_rate or Fraction(25)

    @property
    def origin(self) -> Fraction:
        """Where the file's times start, in seconds."""
        return Fraction(self.container.start_time or 0, _MICROSECONDS)

    @property
    def shift(self) -> Fraction:
        """What is taken off all times, in seconds: a part that is cut out starts at 0."""
        return self.origin + self.cut.start if self.cut else Fraction(0)

    @property
    def seconds(self) -> Fraction | None:
        """How long the wanted part lasts; None where the file does not say."""
        whole = self.container.duration
        if self.cut.end is not None:
            end = self.cut.end
            if whole is not None:
                end = min(end, Fraction(whole, _MICROSECONDS))
        elif whole is None:
            return None
        else:
            end = Fraction(whole, _MICROSECONDS)
        return max(Fraction(0), end - self.cut.start)

    @property
    def expected_frames(self) -> int | None:
        """About how many frames there will be; None where nothing tells."""
        if not self.cut and self.stream.frames:
            return self.stream.frames
        return None if self.seconds is None else max(1, round(self.seconds * self.rate))

    def clock(self, stream: "Stream", time_base: Fraction) -> Clock:
        """A clock for the times of a stream that come in ``time_base``."""
        leaps = "mpeg" in self.container.format.name and stream.type != "subtitle"
        return Clock(second=max(1, round(1 / time_base)), jumps=leaps)

    @property
    def _has_times(self) -> bool:
        """Whether the file tells the frames' times at all: a bare stream of H.264 does not."""
        return self.stream.start_time is not None

    def packets(self) -> Iterator["Packet"]:
        """The packets of all streams, from where reading is, for `events`."""
        return self._packets

    def events(self, packets: Iterator["Packet"] | None = None) -> Iterator[Union["Packet", "VideoFrame"]]:
        """The frames of the picture, and the packets of the other streams, as they come in the file.

        Times are those of the output: within a cut, and shifted by it. Frames' times rise strictly.

        Args:
            packets: what `packets` gives, where that is read ahead.
        """
        if packets is not None:
            self._packets = packets
        while self._read:
            yield self._read.popleft()
        yield from self._events

    def copies(self) -> Iterator["Packet"]:
        """The packets of the other streams alone, from where reading is; nothing is decoded."""
        from av.stream import Discard

        self.stream.discard = Discard.all
        yield from (event for event in self._read if is_packet(event))  # type: ignore[misc]
        for packet in self._packets:
            if packet.stream_index != self.stream.index and packet.size:
                if (kept := self.copied(packet)) is not None:
                    yield kept
                elif self._is_past(packet):
                    return

    def only_video(self) -> None:
        """Have the packets of other streams passed over from here on."""
        from av.stream import Discard

        for stream in self.others:
            stream.discard = Discard.all
        self._read = deque(event for event in self._read if not is_packet(event))

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def _decoded(self) -> Iterator[Union["Packet", "VideoFrame"]]:
        import av

        done = False
        # Asked for anew each time: `events` may have put another iterator in its place.
        while (packet := next(self._packets, None)) is not None:
            if packet.stream_index != self.stream.index:
                if self._is_picture(packet):
                    self.pictures.setdefault(packet.stream_index, bytes(packet))
                if packet.size and (kept := self.copied(packet)) is not None:
                    yield kept
                continue
            if done:
                if self._is_past(packet):
                    return
                continue
            try:
                frames = self.stream.decode(packet)
            except av.FFmpegError as error:
                if isinstance(error, av.error.EOFError):
                    continue
                self.damage.damaged += 1
                continue
            for frame in frames:
                timed = self._clock.mend(frame.pts if frame.pts is not None else frame.dts)
                if self.cut.end is not None and self._seconds(timed) >= self.cut.end:
                    done = True
                    break
                if self._seconds(timed) < self.cut.start:
                    continue
                self.damage.frames += 1
                self.damage.retimed = self._clock.mended if self._has_times else 0
                self.damage.damaged += frame.is_corrupt
                frame.pts = timed - round(self.shift / self.time_base)
                frame.time_base = self.time_base
                yield frame

    def _demuxed(self) -> Iterator["Packet"]:
        """All packets, up to the end or to where the file cannot be read any further."""
        import av

        try:
            yield from self.container.demux()
        except av.FFmpegError as error:
            self.damage.broken = str(getattr(error, "strerror", error))
            # What the decoder still holds is good.
            flush = av.Packet()
            flush.stream = self.stream
            yield flush

    def _is_past(self, packet: "Packet") -> bool:
        """Whether a packet lies so far behind the end that nothing wanted can follow."""
        if self.cut.end is None or packet.dts is None or packet.time_base is None:
            return False
        return packet.dts * packet.time_base - self.origin > self.cut.end + _TAIL

    def _seconds(self, time: int) -> Fraction:
        """A time of the video stream from where the file starts, in seconds."""
        return time * self.time_base - self.origin

    def _is_picture(self, packet: "Packet") -> bool:
        return is_attached_picture(packet.stream)

    def copied(self, packet: "Packet") -> "Packet | None":
        """A packet of another stream with its times in the output, or None where it is cut away."""
        if not self.cut or self._is_picture(packet):
            return packet
        if packet.pts is None or packet.time_base is None:
            return None
        base = packet.time_base
        time = packet.pts * base - self.origin
        lasts = (packet.duration or 0) * base
        if self.cut.end is not None and time >= self.cut.end:
            return None
        if time < self.cut.start:
            # A subtitle that is on the screen where the part starts is shown from there on.
            if packet.stream.type != "subtitle" or time + lasts <= self.cut.start:
                return None
            packet.duration = round((time + lasts - self.cut.start) / base)
            packet.pts = packet.dts = 0
            return packet
        ticks = round(self.shift / base)
        packet.pts -= ticks
        packet.dts = None if packet.dts is None else packet.dts - ticks
        return packet


def is_packet(event: Union["Packet", "VideoFrame"]) -> bool:
    """Whether an event is a packet, to be copied, and not a frame."""
    import av

    return isinstance(event, av.Packet)


def is_attached_picture(stream: "Stream") -> bool:
    """Whether a stream is one picture, such as a cover, and not a film."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def open_source(input: Path | str, cut: Cut = Cut(), *, threads: int = 0) -> Source:
    """Open a video file, or stdin where ``input`` is "-".

    Args:
        input: the file.
        cut: the part that is wanted.
        threads: that may decode; 0 lets FFmpeg choose.

    Raises:
        UnreadableVideo: there is no such file, it is no video, or it gives no frame.
        UnsupportedVideo: it has no picture, or one that this FFmpeg does not decode.
    """
    import av
    from av.codec.context import ThreadType

    name = "stdin" if str(input) == PIPE else str(input)
    try:
        # Metadata goes from file to file byte by byte, whatever its encoding.
        container = av.open(url(input), "r", metadata_errors="surrogateescape")
    except (av.FFmpegError, ValueError) as error:
        raise UnreadableVideo(f"{name}: cannot be read ({getattr(error, 'strerror', error)})") from error
    try:
        videos = [stream for stream in container.streams.video if not is_attached_picture(stream)]
        if not videos:
            held = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
            raise UnsupportedVideo(f"{name}: holds no video, only {held}")
        stream = max(videos, key=lambda video: bool(video.disposition & 1))
        if stream.codec_context is None:
            raise UnsupportedVideo(f"{name}: its video is in a format that this FFmpeg does not decode")
        stream.thread_type = ThreadType.AUTO
        stream.thread_count = threads
        others = [other for other in container.streams if other.index != stream.index]
        return Source(name, container, stream, others, cut, seekable=is_regular(input))
    except BaseException:
        container.close()
        raise


def url(file: Path | str, pipe: str = "pipe:0") -> str:
    """A file as FFmpeg names it: without "file:" a colon in its name would be taken for a protocol's."""
    return pipe if str(file) == PIPE else f"file:{file}"


def is_regular(input: Path | str) -> bool:
    """Whether an input can be read twice, as pipes and devices cannot."""
    return str(input) != PIPE and Path(input).is_file()


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""

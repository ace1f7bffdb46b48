"""A video file as it is read: what it holds, its packets, and the frames of its picture.

Damage is concealed as FFmpeg does it, and counted. Times are the file's own, unless a part is cut out.
"""

import contextlib
import re
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from subpixel.errors import UnreadableVideo, UnsupportedVideo
from subpixel.files import PIPE, is_file
from subpixel.video.media.alpha import see_through
from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.decoder import Decoded, Decoder
from subpixel.video.media.hdr import attached
from subpixel.video.media.time_range import LONGEST_SECONDS, WHOLE, TimeRange
from subpixel.video.media.timestamps import Clock

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

_FASTEST = 10_000
"""Frames a second; what says more, as FFmpeg does of DV's bare streams, counts ticks."""

_FEW_FRAMES = 2
"""By which a file's own word on how many it has may be off."""

_BZLIB = re.compile(rb"BZh[1-9]1AY&SY")
"""How everything begins that bzlib has compressed."""

_MICROSECONDS = 1_000_000
_STEPS_BACK = (0, 10, 60)
"""Seconds before the start of a cut from where reading is tried, before it is tried from the beginning:
where there is no index, a place between two key frames may be found."""
_SUBTITLES_LAST = 10
"""Seconds that a subtitle may have been on the screen where a cut starts."""
_LONGEST_SLIVER = Fraction(1, 10)
"""Seconds that a part may begin without a frame at most."""
_MOST_READ_AHEAD = 200
"""Packets, as they come from the file."""
EARLIEST_SECONDS = 10
"""By which a stream of MPEG's may begin before what FFmpeg takes for the start; beyond that it is damage."""
_TRIES = 100
_PAUSE_SECONDS = 0.01
"""How often, and after what pause, FFmpeg is asked again where it has nothing to read yet."""
_TAIL = 5
"""Seconds for which packets are still read behind the end of a cut: what belongs before it may come late."""


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
    time_range: TimeRange
    seekable: bool
    decode_errors: DecodeErrors = field(default_factory=DecodeErrors)
    pictures: dict[int, bytes] = field(default_factory=dict)
    _read: deque[Union["Packet", "VideoFrame"]] = field(default_factory=deque)
    _events: Iterator[Union["Packet", "VideoFrame"]] = field(init=False)
    _packets: Iterator["Packet"] = field(init=False)
    _earliest: Fraction | None = None
    """The time of the first frame that was decoded, wanted or not."""
    beginning: Fraction | None = None
    """Of the whole film, in seconds of the file's times; None until its first frame is decoded."""
    lead: int | None = None
    """See `Decoder.lead`; likewise."""
    picture_from: Fraction | None = None
    """The time of the first frame of the whole film, in seconds from its beginning, where that is known."""
    _carried: set[str] = field(init=False)
    _is_see_through: bool = False
    is_waited_for: bool = False
    """Whether a thread is still reading, from a pipe that gives nothing; the file must not be closed then."""
    alpha_beside: bool = False
    """Whether its transparency is a picture of its own, as with VP8 and VP9; FFmpeg does not decode that."""

    def __post_init__(self) -> None:
        """Read up to the first frame."""
        places = self._places()
        for place in places:
            self._start_at(place)
            for event in self._events:
                self._read.append(event)
                if not is_packet(event):
                    break
            found = self._read and not is_packet(self._read[-1])
            if found and (
                self._earliest is None or self._earliest <= self.time_range.start or place is places[-1]
            ):
                self.first: VideoFrame = self._read[-1]  # type: ignore[assignment]
                return
        if self._is_mp4 and not self.seekable and self.decode_errors.broken:
            raise UnreadableVideo(
                f"{self.name}: the index of this MP4 (moov) lies at its end, and a pipe cannot be "
                "read twice; name the file instead, or put its index first: "
                "ffmpeg -i in.mp4 -c copy -movflags +faststart out.mp4"
            )
        wanted = " in the part that is wanted" if self.time_range else ""
        raise UnreadableVideo(f"{self.name}: gives no frame{wanted}{_because(self.decode_errors.broken)}")

    def _places(self) -> list[Fraction | None]:
        """From where reading is tried, in seconds from the start; None is where the file is now."""
        if not self.time_range.start or not self.seekable or not self._has_times:
            return [None]
        if self.picture_from is not None and self.picture_from >= self.time_range.start:
            return [None]  # FFmpeg finds places where the picture is, and sound may come long before
        subtitles = any(stream.type == "subtitle" for stream in self.others)
        # Where times are those of decoding, the first behind a key frame are a little uncertain.
        start = self.time_range.start - (_SUBTITLES_LAST if subtitles else self._by_decoding)
        backwards = [start - back for back in _STEPS_BACK if back < start]
        # Some containers know of no place before the first, and stand somewhere else when they are asked.
        return [*backwards, Fraction(0), Fraction(-LONGEST_SECONDS)]

    def _start_at(self, place: Fraction | None) -> None:
        import av

        if place is not None:
            # Where FFmpeg cannot find a place, nothing was read before, and reading begins at the beginning.
            with contextlib.suppress(av.FFmpegError):
                self.container.seek(int((self.origin + place) * _MICROSECONDS))
        self.decode_errors = DecodeErrors()
        self._decoder = Decoder(self.stream, by_decoding=self._by_decoding, lead=self.lead)
        self._carried = set()
        self._is_see_through = False
        self._clock = self.clock(self.stream, self.time_base)
        self._clock.step = max(1, round(1 / (self.rate * self.time_base)))
        self._earliest = None
        self._untold = 0
        self._read.clear()
        self._packets = self._demuxed()
        self._events = self._decoded()

    def _move(self, event: Union["Packet", "VideoFrame"]) -> None:
        """Bring the times of a packet or a frame from the file's to those of the output."""
        if not self.shift or event.time_base is None:
            return
        ticks = round(self.shift / event.time_base)
        for name in ("pts", "dts"):
            if (time := getattr(event, name)) is not None:
                setattr(event, name, time - ticks)

    @property
    def time_base(self) -> Fraction:
        """The unit of the frames' times, in seconds."""
        return self.stream.time_base or Fraction(1, 90_000)

    @property
    def rate(self) -> Fraction:
        """Frames a second, by the container's word or FFmpeg's guess."""
        rates = [self.stream.average_rate, self.stream.guessed_rate]
        if not self._has_times or self._by_decoding:
            rates.reverse()  # what such a container says is FFmpeg's default, or counts fields
        return next((rate for rate in rates if rate and rate <= _FASTEST), Fraction(25))

    @property
    def origin(self) -> Fraction:
        """Where the film begins in the file's times, in seconds: 0, unless it begins later, or before 0."""
        return self.beginning or Fraction(0)

    @property
    def shift(self) -> Fraction:
        """What is taken off all times, in seconds: a film starts at 0, and a part that is cut out too."""
        return self.origin + self.time_range.start

    def _begins_at(self, first: Fraction) -> Fraction:
        """What `origin` will be.

        As FFmpeg has it, a film begins where the first of its streams does; one that begins before 0 with its
        first frame, as sound that begins a little earlier needs no other place for the picture.

        Args:
            first: the time of the first frame, in seconds.
        """
        told = Fraction(self.container.start_time or 0, _MICROSECONDS)
        if first < 0 or told <= 0:
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
        believed = [start for start in starts if not mpeg or start >= told - EARLIEST_SECONDS]
        return max(Fraction(0), min([*(believed or [told]), first]))

    @property
    def seconds(self) -> Fraction | None:
        """How long the wanted part lasts; None where the file does not say."""
        whole = self.container.duration
        from_zero = self.container.format.name.startswith(("matroska", "nut"))
        begun = self.origin if from_zero else Fraction(0)
        ends = [] if whole is None else [Fraction(whole, _MICROSECONDS) - begun]
        ends += [] if self.time_range.end is None else [self.time_range.end]
        return max(Fraction(0), min(ends) - self.time_range.start) if ends else None

    @property
    def expected_frames(self) -> int | None:
        """About how many frames there will be; None where nothing tells."""
        if not self.time_range and self.stream.frames:
            return self.stream.frames
        return None if self.seconds is None else max(1, round(self.seconds * self.rate))

    def clock(self, stream: "Stream", time_base: Fraction, *, strict: bool = True) -> Clock:
        """A clock for the times of a stream that come in ``time_base``; see `Clock.strict`."""
        leaps = "mpeg" in self.container.format.name and stream.type != "subtitle"
        return Clock(second=max(1, round(1 / time_base)), strict=strict, jumps=leaps)

    @property
    def _is_mp4(self) -> bool:
        return "mp4" in self.container.format.name

    @property
    def _by_decoding(self) -> bool:
        """Whether the container tells only when frames are decoded, from which FFmpeg guesses the rest.

        So does Matroska for what it has taken over from AVI, which alone has a tag of AVI's there.
        """
        name = self.container.format.name
        if "matroska" not in name:
            return name in ("avi", "asf", "mpegvideo")
        try:
            return bool(self.stream.codec_context.codec_tag.strip("\0"))
        except UnicodeDecodeError:  # a tag that is no text
            return True

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

    def first_packet(self, stream: "Stream") -> bytes | None:
        """What the first packet of another stream holds; None where there is none near the first frame."""
        packet = self._first_packet(stream)
        return None if packet is None else bytes(packet)

    def _first_packet(self, stream: "Stream", ahead: int = _MOST_READ_AHEAD) -> "Packet | None":
        read: Iterator[Any] = filter(is_packet, self._read)
        if (found := next((packet for packet in read if packet.stream_index == stream.index), None)) is None:
            more: list[Packet] = []
            for packet in islice(self._packets, ahead):
                more.append(packet)
                if packet.stream_index == stream.index:
                    found = packet
                    break
            self._packets = chain(more, self._packets)
        return found

    def sealed(self, stream: "Stream") -> str:
        """Why nobody could read a copy of another stream, in words for people, with the cure; else empty."""
        packet = self._near(stream)
        return "" if packet is None else self._seal(packet)

    def _seal(self, packet: "Packet") -> str:
        if packet.has_sidedata("encryption_info"):
            return "is encrypted; decrypt it first"
        if "matroska" in self.container.format.name and _BZLIB.match(bytes(packet)):
            return (
                "is compressed by bzlib, which this FFmpeg does not undo; "
                "rewrite the file by mkvmerge with --compression -1:none"
            )
        return ""

    @property
    def hidden_seconds(self) -> float:
        """How long sound is, of what was read, that an edit list keeps from being heard."""
        packets: list[Any] = [*filter(is_packet, self._read)]
        hidden = [p for p in packets if p.is_discard and p.stream.type == "audio" and p.pts is not None]
        return max((-float(packet.pts * packet.time_base) for packet in hidden), default=0.0)

    def sample(self, stream: "Stream") -> bytes | None:
        """What a packet of another stream holds that lies near the first frame; None where none does."""
        packet = self._near(stream)
        return None if packet is None else bytes(packet)

    def _near(self, stream: "Stream") -> "Packet | None":
        # A pipe would have to give all that first; sound comes soon, what else there is perhaps never.
        return self._first_packet(stream, _MOST_READ_AHEAD if self.seekable or stream.type == "audio" else 0)

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
        """Close the file, unless somebody still waits for it."""
        if not self.is_waited_for:
            self.container.close()

    def _decoded(self) -> Iterator[Union["Packet", "VideoFrame"]]:
        shown: Decoded | None = None
        early: list[Packet] = []
        numbers: list[int] = []
        gaps = 0
        done = False
        # Asked for anew each time: `events` may have put another iterator in its place.
        while (packet := next(self._packets, None)) is not None:
            if packet.stream_index != self.stream.index:
                if self._is_picture(packet):
                    self.pictures.setdefault(packet.stream_index, bytes(packet))
                if self.beginning is None:
                    early.append(packet)  # until it is known what is taken off its times
                elif packet.size and (kept := self.copied(packet)) is not None:
                    yield kept
                continue
            if done:
                if self._is_past(packet):
                    break
                continue
            if self.beginning is None and self._decoder.packets == 0 and (why := self._seal(packet)):
                raise UnsupportedVideo(f"{self.name}: its picture {why}")
            self.alpha_beside = self.alpha_beside or _has_alpha_beside(packet)
            for decoded in self._decoder.decode(packet):
                frame = decoded.frame
                at = self._clock.mend(decoded.time)
                self._untold += decoded.time is None
                if self.beginning is None:
                    self.lead, self.beginning = self._decoder.lead, self._begins_at(at * self.time_base)
                    kept_ones = (self.copied(packet) for packet in early if packet.size)
                    yield from filter(None, kept_ones)
                seconds = self._seconds(at)
                if self._earliest is None:
                    self._earliest = seconds
                done = self.time_range.end is not None and seconds >= self.time_range.end
                if shown is not None:
                    # A frame is shown until the next one: files tell how long it takes to decode, or nothing.
                    assert shown.frame.pts is not None
                    shown.frame.duration = at - shown.frame.pts
                    gaps += max(0, round(shown.frame.duration / self._clock.step) - 1)
                    yield from self._wanted(shown, sliver=Fraction(0) if done else self._sliver)
                if done:
                    break
                # Not before whoever wanted no more than the frames so far has left.
                self.decode_errors.lost = len(self._decoder.unusable)
                if decoded.number is not None:
                    numbers = [min([*numbers, decoded.number]), max([*numbers, decoded.number])]
                frame.pts, frame.time_base = at, self.time_base
                shown = decoded
        if not self.time_range and not self.decode_errors.broken:
            self.decode_errors.missing = self._missing(shown.frame if shown else None)
        if shown is not None and not done:
            shown.frame.duration = self._last_duration(shown.frame)
            yield from self._wanted(shown)
        self.decode_errors.settle(self._decoder.unusable, numbers, gaps if self._has_times else None)

    def _last_duration(self, frame: "VideoFrame") -> int:
        """How long the last frame of the file is shown."""
        assert frame.pts is not None
        if (
            self._is_mp4
            and self.stream.duration
            and not (self.decode_errors.missing or self.decode_errors.broken)
        ):
            # What it tells of single frames is from one decoding to the next.
            end = (self.stream.start_time or 0) + self.stream.duration
            if end > frame.pts:
                return end - frame.pts
        return self._clock.step if self._by_decoding else frame.duration or self._clock.step

    def _wanted(self, decoded: Decoded, sliver: Fraction = Fraction(0)) -> Iterator["VideoFrame"]:
        """A frame in its place in the output, if it is shown in the part that is wanted.

        One that began before is, if it stays on the screen for more than ``sliver`` seconds of it.
        """
        frame = decoded.frame
        assert frame.pts is not None
        begins_there = not self.time_range or self._seconds(frame.pts) >= self.time_range.start
        if begins_there or self._seconds(frame.pts + frame.duration) > self.time_range.start + sliver:
            self.decode_errors.damaged += decoded.is_damaged
            yield self._placed(frame)

    @property
    def _sliver(self) -> Fraction:
        """For how long, in seconds, a part may begin without a frame, where the next one is due."""
        return min(1 / self.rate, _LONGEST_SLIVER)

    def _placed(self, frame: "VideoFrame") -> "VideoFrame":
        """Count a frame, and put it at its time in the output."""
        self.decode_errors.frames += 1
        self._note_carried(frame)
        self._note_transparency(frame)
        # Many containers tell the times of some frames alone, from which the others follow.
        self.decode_errors.retimed = max(0, self._clock.mended - self._untold) if self._has_times else 0
        assert frame.pts is not None
        time = frame.pts - round(self.shift / self.time_base)
        frame.pts = max(0, time) if self.time_range else time
        end = time + frame.duration
        if self.time_range.end is not None:
            end = min(end, round((self.time_range.end - self.time_range.start) / self.time_base))
        frame.duration = max(0, end - frame.pts)
        return frame

    def _note_carried(self, frame: "VideoFrame") -> None:
        """Keep in mind what frames carry that the first one does not."""
        kinds = {side.type.name for side in attached(frame)}
        if self.decode_errors.frames > 1:
            self.decode_errors.carried_later += sorted(kinds - self._carried)
        self._carried |= kinds

    def _note_transparency(self, frame: "VideoFrame") -> None:
        """Keep in mind whether frames let something show through while the first one does not."""
        if not self._is_see_through and see_through(frame):
            self._is_see_through = True
            self.decode_errors.transparent_later = self.decode_errors.frames > 1

    def _missing(self, last: "VideoFrame | None") -> int:
        """About how many frames the file lacks at its end, by its own word; ``last`` as it was decoded."""
        if self._is_mp4:
            # What an edit list leaves out has no entry in FFmpeg's index, and no packet.
            missing = min(self.stream.frames, len(self.stream.index_entries)) - self._decoder.packets
        else:
            told = _clock_time(self.stream.metadata.get("DURATION", ""))
            if told is None or last is None:
                return 0
            assert last.pts is not None
            end = last.pts + (last.duration or self._clock.step)
            missing = int((told - end * self.time_base) * self.rate)
        return missing if missing > _FEW_FRAMES else 0

    def _demuxed(self) -> Iterator["Packet"]:
        """All packets that hold something, up to the end or to where the file cannot be read any further, and
        one that has the decoder give what it still holds.
        """
        import av

        tries = 0
        while True:
            try:
                # PyAV ends with empty ones for all decoders, but their index is always that of the first
                # stream. An empty one before the end would end the decoder too.
                for packet in self.container.demux():
                    tries = 0
                    if packet.size:
                        yield packet
            except av.error.BlockingIOError as error:
                # There is nothing yet, which is no end.
                tries += 1
                if tries < _TRIES:
                    time.sleep(_PAUSE_SECONDS)
                    continue
                self.decode_errors.broken = str(error.strerror)
            except av.FFmpegError as error:
                self.decode_errors.broken = str(getattr(error, "strerror", error))
            except IndexError:
                # PyAV fails so at the end where streams have appeared that it did not know of before.
                self.decode_errors.appeared = True
            break
        # What the decoder still holds is good.
        flush = av.Packet()
        flush.stream = self.stream
        yield flush

    def _is_past(self, packet: "Packet") -> bool:
        """Whether a packet lies so far behind the end that nothing wanted can follow."""
        if self.time_range.end is None or packet.dts is None or packet.time_base is None:
            return False
        return packet.dts * packet.time_base - self.origin > self.time_range.end + _TAIL

    def _seconds(self, time: int) -> Fraction:
        """A time of the video stream from where the file starts, in seconds."""
        return time * self.time_base - self.origin

    def _is_picture(self, packet: "Packet") -> bool:
        return is_attached_picture(packet.stream)

    def copied(self, packet: "Packet") -> "Packet | None":
        """A packet of another stream with its times in the output, or None where it is cut away."""
        if self._is_picture(packet):
            return packet
        if self.time_range:
            base = packet.time_base
            if packet.pts is None or base is None:
                return None
            time = packet.pts * base - self.origin
            lasts = (packet.duration or 0) * base
            if self.time_range.end is not None and time >= self.time_range.end:
                return None
            if self.time_range.start and time < self.time_range.start:
                # A subtitle that is on the screen where the part starts is shown from there on.
                if packet.stream.type != "subtitle" or time + lasts <= self.time_range.start:
                    return None
                packet.duration = round((time + lasts - self.time_range.start) / base)
                packet.pts = packet.dts = round(self.shift / base)
        self._move(packet)
        return packet


_ALPHA_BESIDE = (1).to_bytes(8)
"""How Matroska's BlockAdditional begins where it is the alpha of VP8 or VP9."""


def _has_alpha_beside(packet: "Packet") -> bool:
    if not packet.has_sidedata("matroska_block_additional"):
        return False
    return bytes(packet.get_sidedata("matroska_block_additional"))[:8] == _ALPHA_BESIDE


def is_packet(event: Union["Packet", "VideoFrame"]) -> bool:
    """Whether an event is a packet, to be copied, and not a frame."""
    import av

    return isinstance(event, av.Packet)


def is_attached_picture(stream: "Stream") -> bool:
    """Whether a stream is one picture, such as a cover, and not a film."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def is_attached(stream: "Stream") -> bool:
    """Whether a stream is an attachment or a cover, and has no place in time."""
    return stream.type == "attachment" or is_attached_picture(stream)


def open_source(input: Path | str, time_range: TimeRange = WHOLE) -> Source:
    """Open a video file, or stdin where ``input`` is "-".

    Args:
        input: the file.
        cut: the part that is wanted.

    Raises:
        UnreadableVideo: there is no such file, it is no video, or it gives no frame.
        UnsupportedVideo: it has no picture, or one that this FFmpeg does not decode.
    """
    import av
    from av.codec.context import ThreadType

    name = "stdin" if str(input) == PIPE else str(input)
    whole: dict[str, Any] = {}
    if time_range.start and is_regular(input):
        # A part is counted from where the whole begins, which its own first frame does not tell.
        with contextlib.closing(open_source(input)) as source:
            whole = {"beginning": source.beginning, "lead": source.lead, "picture_from": source._earliest}
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
        stream.thread_count = 0  # FFmpeg's own choice
        others = [other for other in container.streams if other.index != stream.index]
        return Source(name, container, stream, others, time_range, seekable=is_regular(input), **whole)
    except BaseException:
        container.close()
        raise


def url(file: Path | str) -> str:
    """An input as FFmpeg names it: without "file:" a colon in a name would be taken for a protocol's."""
    return "pipe:0" if str(file) == PIPE else f"file:{file}"


def is_regular(input: Path | str) -> bool:
    """Whether an input can be read twice, as pipes and devices cannot."""
    return str(input) != PIPE and is_file(Path(input))


def _clock_time(text: str) -> Fraction | None:
    """Seconds of a time such as Matroska's tags have, 00:00:04.000000000; None for anything else."""
    try:
        hours, minutes, seconds = text.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)
    except ValueError:
        return None


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""

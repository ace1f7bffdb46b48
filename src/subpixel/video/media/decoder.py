"""A stream's decoder, which tells of each frame when it is shown, and whether it is damaged.

Packets are numbered, and their numbers are put in the place of their times while they are decoded: a decoder
gives that back with the frame, in whichever order frames come out and by however many threads. So it is known
from which packet each frame comes, which of them gave none, and what the container had told of it.
"""

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

_LONGEST_REORDERING = 16
"""Frames that H.264 and HEVC may have decoded before one that is shown before them all."""

_UNTOLD = ("h264", "hevc", "vvc", "mpeg1video", "mpeg2video")
"""Codecs for which FFmpeg guesses no times of display, as it does not see which packets are B-frames;
of MPEG it sees that too late, and guesses wrongly for the first."""

_MOST_UNDER_WAY = 1024
"""Packets that are remembered; far more than threads and reordering can hold back."""


@dataclass
class DisplayOrder:
    """Times of frames where the container tells only when each is decoded.

    Frames leave the decoder in the order in which they are shown, so they take the times of their packets in
    rising order.
    """

    _times: list[int] = field(default_factory=list)
    """Those not yet taken, as a heap."""
    _owed: set[int] = field(default_factory=set)
    """Numbers of packets of which no frame has come."""

    def sent(self, number: int, time: int) -> None:
        """Note a packet that goes into the decoder."""
        heapq.heappush(self._times, time)
        self._owed.add(number)

    def time_of(self, number: int | None, *, is_b: bool) -> int | None:
        """When a frame is shown, the next that comes out of the decoder; None where no time is left.

        Args:
            number: that of its packet.
            is_b: whether it is a B-frame, which may be decoded behind others that are shown later.
        """
        if number is not None:
            self._owed.discard(number)
            # Damaged packets give no frame, and their times must not be left over for others.
            newest = number - _LONGEST_REORDERING if is_b else number
            lost = {owed for owed in self._owed if owed < newest}
            self._owed -= lost
            for _ in range(min(len(lost), len(self._times))):
                heapq.heappop(self._times)
        return heapq.heappop(self._times) if self._times else None


@dataclass(frozen=True)
class Decoded:
    """A frame as it comes out of the decoder."""

    frame: "VideoFrame"
    number: int | None
    """Of its packet; None where the decoder does not say."""
    time: int | None
    """When it is shown, in the stream's time base; None where nothing tells."""
    is_damaged: bool


class Decoder:
    """Decodes one stream. What it cannot make sense of it passes over, and remembers."""

    def __init__(self, stream: "VideoStream", *, by_decoding: bool, lead: int | None = None) -> None:
        """Begin.

        Args:
            stream: whose packets will come.
            by_decoding: whether its container tells only when frames are decoded.
            lead: see the attribute; None to take it from the first packet.
        """
        self.packets = 0
        """How many were decoded."""
        self.lead = lead
        """By how much FFmpeg takes the times of such a container to be earlier than those of display."""
        self.unusable: set[int] = set()
        """Numbers of damaged packets of which no frame has come."""
        self._stream = stream
        self._order = DisplayOrder() if by_decoding else None
        self._told: dict[int, tuple[int | None, int | None]] = {}
        self._newest = -1
        """The greatest number of a packet of which a frame has come."""

    def decode(self, packet: "Packet") -> list[Decoded]:
        """The frames that are ready once a packet, or the empty one at the end, is given."""
        import av

        number = self._number(packet) if packet.size else None
        try:
            frames = self._stream.decode(packet)
        except av.error.EOFError:
            return []
        except av.FFmpegError:
            failed = self.packets - 1 if number is None else number
            if number is not None or failed > self._newest:
                self.unusable.add(failed)
            frames = []
        found = [self._decoded(frame) for frame in frames]
        if number is None and max(self.unusable, default=-1) > self._newest:
            # PyAV gives up what threads hold behind one that fails.
            self.unusable.update(held for held in self._told if held > self._newest)
        return found

    def _number(self, packet: "Packet") -> int:
        number = self.packets
        self.packets += 1
        if packet.is_corrupt:
            self.unusable.add(number)
        told = packet.pts, packet.dts
        self._told[number] = told
        self._told.pop(number - _MOST_UNDER_WAY, None)
        if self._order is not None:
            untold = told[0] is None or self._stream.codec_context.name in _UNTOLD
            time = told[1] if untold else told[0]
            if self.lead is None:
                self.lead = (time or 0) - (told[1] or 0)
            if time is not None:
                self._order.sent(number, time)
        packet.pts = number
        return number

    def _decoded(self, frame: "VideoFrame") -> Decoded:
        number = frame.pts
        is_damaged = frame.is_corrupt or number in self.unusable
        if number is not None:
            self.unusable.discard(number)
            self._newest = max(self._newest, number)
        return Decoded(frame, number, self._time(frame, number), is_damaged)

    def _time(self, frame: "VideoFrame", number: int | None) -> int | None:
        from av.video.frame import PictureType

        pts, dts = (None, None) if number is None else self._told.pop(number, (None, None))
        if self._order is not None:
            time = self._order.time_of(number, is_b=frame.pict_type == PictureType.B)
            return None if time is None else time - (self.lead or 0)
        if number is None:
            return frame.dts
        if pts is None and not self._stream.codec_context.has_b_frames:
            return dts
        return pts

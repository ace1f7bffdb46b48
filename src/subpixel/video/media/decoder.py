"""Decodes a video stream, and finds the time and the damage of each frame.

Each packet gets a number, which takes the place of its time while it is decoded. The decoder gives the number
back with the frame, in whichever order frames come out and however many threads decode. So we know the packet
of each frame, which packets gave no frame, and which times the container had for the frame.
"""

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.video.stream import VideoStream

MAX_REORDERED_FRAMES = 16
"""How many frames H.264 and HEVC may decode before one that is shown before them all."""

WITHOUT_GUESSED_TIMES = ("h264", "hevc", "vvc", "mpeg1video", "mpeg2video")
"""Codecs for which FFmpeg cannot guess presentation times: it does not see which packets are B-frames. With
MPEG-1 and MPEG-2 it sees that too late, and guesses wrong times for the first packets."""

_MAX_REMEMBERED_PACKETS = 1024
"""Far more packets than threads and reordering can delay."""


@dataclass
class DisplayOrder:
    """Finds presentation times where the container has decode times only.

    Frames leave the decoder in display order, so they get the times of their packets in rising order.
    """

    _times: list[int] = field(default_factory=list)
    """The times that no frame has got yet, as a heap."""
    _pending: set[int] = field(default_factory=set)
    """The numbers of packets of which no frame has come."""

    def add_packet(self, number: int, time: int) -> None:
        """Add a packet that goes into the decoder."""
        heapq.heappush(self._times, time)
        self._pending.add(number)

    def next_time(self, number: int | None, *, is_b: bool) -> int | None:
        """The presentation time of the next frame that the decoder returns; None if no time is left.

        Args:
            number: the number of its packet.
            is_b: whether it is a B-frame, which may be decoded after frames that are shown later.
        """
        if number is not None:
            self._pending.discard(number)
            # Damaged packets give no frame. Their times must not go to other frames.
            newest = number - MAX_REORDERED_FRAMES if is_b else number
            lost = {pending for pending in self._pending if pending < newest}
            self._pending -= lost
            for _ in range(min(len(lost), len(self._times))):
                heapq.heappop(self._times)
        return heapq.heappop(self._times) if self._times else None


@dataclass(frozen=True)
class Decoded:
    """A frame that comes out of the decoder."""

    frame: "VideoFrame"
    number: int | None
    """The number of its packet; None if the decoder does not return it."""
    time: int | None
    """Its presentation time, in the stream's time base; None if it is not known."""
    is_damaged: bool


class Decoder:
    """Decodes one stream. It skips packets that cannot be decoded, and remembers them."""

    def __init__(
        self, stream: "VideoStream", *, decode_times_only: bool, reorder_delay: int | None = None
    ) -> None:
        """Prepare to decode.

        Args:
            stream: the stream of the packets.
            decode_times_only: whether the container has only decode times.
            reorder_delay: see the attribute; None to take it from the first packet.
        """
        self.packets = 0
        """How many packets were decoded."""
        self.reorder_delay = reorder_delay
        """The ticks from the decode time to the presentation time of the first packet, which FFmpeg guesses.
        Presentation times of a container with decode times only are so much earlier."""
        self.undecoded: set[int] = set()
        """The numbers of damaged packets of which no frame has come."""
        self._stream = stream
        self._order = DisplayOrder() if decode_times_only else None
        self._times: dict[int, tuple[int | None, int | None]] = {}
        """The container's presentation time and decode time of packets, by number."""
        self._newest = -1
        """The greatest number of a packet of which a frame has come."""

    def decode(self, packet: "Packet") -> list[Decoded]:
        """Decode a packet, or flush the decoder with an empty one; return the frames that are ready."""
        import av

        number = self._number(packet) if packet.size else None
        try:
            frames = self._stream.decode(packet)
        except av.error.EOFError:
            return []
        except av.FFmpegError:
            failed = self.packets - 1 if number is None else number
            if number is not None or failed > self._newest:
                self.undecoded.add(failed)
            frames = []
        found = [self._decoded(frame) for frame in frames]
        if number is None and max(self.undecoded, default=-1) > self._newest:
            # PyAV drops the frames that its threads have decoded after a packet that fails.
            self.undecoded.update(remembered for remembered in self._times if remembered > self._newest)
        return found

    def _number(self, packet: "Packet") -> int:
        number = self.packets
        self.packets += 1
        if packet.is_corrupt:
            self.undecoded.add(number)
        pts, dts = packet.pts, packet.dts
        self._times[number] = pts, dts
        self._times.pop(number - _MAX_REMEMBERED_PACKETS, None)
        if self._order is not None:
            time = dts if pts is None or self._stream.codec_context.name in WITHOUT_GUESSED_TIMES else pts
            if self.reorder_delay is None:
                self.reorder_delay = (time or 0) - (dts or 0)
            if time is not None:
                self._order.add_packet(number, time)
        packet.pts = number
        return number

    def _decoded(self, frame: "VideoFrame") -> Decoded:
        number = frame.pts
        is_damaged = frame.is_corrupt or number in self.undecoded
        if number is not None:
            self.undecoded.discard(number)
            self._newest = max(self._newest, number)
        return Decoded(frame, number, self._time(frame, number), is_damaged)

    def _time(self, frame: "VideoFrame", number: int | None) -> int | None:
        from av.video.frame import PictureType

        pts, dts = (None, None) if number is None else self._times.pop(number, (None, None))
        if self._order is not None:
            time = self._order.next_time(number, is_b=frame.pict_type == PictureType.B)
            return None if time is None else time - (self.reorder_delay or 0)
        if number is None:
            return frame.dts
        if pts is None and not self._stream.codec_context.has_b_frames:
            return dts
        return pts

"""Decodes a video from the middle, beginning at the nearest packet that allows it."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.frame_index import FrameIndex, NoRandomAccess, OtherFrames
from subpixel.video.media.index import NO_TIME, PacketIndex
from subpixel.video.media.reader import Reader, Window
from subpixel.video.media.source import Source, is_packet, open_again
from subpixel.video.media.timeline import Timeline

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_EARLIER_SECONDS = 10
"""How much earlier FFmpeg is asked to seek if it did not come to the wanted packet."""

_MAX_UNKNOWN_PACKETS = 64
"""How many packets after a seek may be incomplete."""


class _Missed(Exception):  # noqa: N818 - the next position is tried
    """A seek did not lead to the wanted packet."""


def read_window(
    source: Source,
    packets: PacketIndex,
    frames: FrameIndex,
    first: int,
    on_frame: Callable[[int, DecodeErrors], object] = lambda time, errors: None,
) -> Generator["VideoFrame", None, None]:
    """Yield the frames of the time range from a position on, equal to those of a decode from the start.

    The file is opened again, so several can be read at once, and the source stays where it is.

    Args:
        source: the video.
        packets: all of its packets.
        frames: all of its frames.
        first: the position of the first frame.
        on_frame: see `Reader.on_frame`. It is called before the frame is yielded. For the last frame of the
            time range, it is called again with what was found after it.

    Raises:
        NoRandomAccess: a frame is damaged, missing, or not where the packets had it. The frames that were
            yielded before are right.
    """
    entry = frames.entry(first)
    earlier = round(_EARLIER_SECONDS / source.timeline.time_base)
    for target in _targets(packets, entry, earlier):
        try:
            with open_again(source) as (container, stream):
                if target is not None:
                    _seek(container, stream, target)
                known = source.timeline
                timeline = Timeline(
                    container, stream, known.time_range, known.known_origin, known.reorder_delay
                )
                reader = Reader(source.name, timeline, {}, Window(int(frames.times[first]), entry))
                reader.on_frame = on_frame
                reader.packets = _packets_from(reader.packets, packets, entry, stream)
                yield from _checked(reader, packets, frames, first, entry)
                return
        except _Missed:
            continue
    raise NoRandomAccess("its packets are not found again")


def _targets(packets: PacketIndex, entry: int, earlier: int) -> list[int | None]:
    """The times to seek to, in ticks, one after the other; None is the start of the file."""
    if entry == 0:
        return [None]
    times = [int(time[entry]) for time in (packets.pts, packets.dts) if time[entry] != NO_TIME]
    return [*dict.fromkeys(times), *(time - earlier for time in times[-1:]), None]


def _seek(container: "InputContainer", stream: "VideoStream", target: int) -> None:
    import av

    try:
        container.seek(target, stream=stream)
    except av.FFmpegError as error:
        raise _Missed from error


def _packets_from(
    read: Iterator["Packet"], packets: PacketIndex, entry: int, stream: "VideoStream"
) -> Iterator["Packet"]:
    """Pass the packets of the video stream from a number on.

    Raises:
        _Missed: the first packets that are read are not before it.
        NoRandomAccess: a later packet is not the expected one.
    """
    ours = (packet for packet in read if packet.stream_index == stream.index)
    packet, number = _first_known(ours, packets, entry)
    while packet.size:
        if number >= entry and not packets.matches(number, packet):
            if number == entry:
                raise _Missed
            raise NoRandomAccess("its packets are not the same after a seek")
        if number < entry and not packets.is_at(number, packet):
            raise _Missed
        if number >= entry:
            yield packet
        number += 1
        packet = next(ours)
    if number != len(packets):
        raise NoRandomAccess("its end is not the same after a seek")
    yield packet  # flushes the decoder


def _first_known(read: Iterator["Packet"], packets: PacketIndex, entry: int) -> tuple["Packet", int]:
    """The first packet that is in the index, and its number, which is at most ``entry``."""
    for packet in islice(read, _MAX_UNKNOWN_PACKETS):
        if not packet.size:
            break
        numbers = packets.numbers(packet)
        if len(numbers) > 1:  # an edit list shows it twice
            numbers = [number for number in numbers if packets.matches(number, packet)]
        if numbers:
            if len(numbers) > 1 or numbers[0] > entry:
                break
            return packet, numbers[0]
    raise _Missed


def _checked(
    reader: Reader, packets: PacketIndex, frames: FrameIndex, first: int, entry: int
) -> Iterator["VideoFrame"]:
    """Pass frames as long as they are those of the index, and so are those to which they may refer.

    What takes the place of damaged content depends on all that was decoded before.
    """
    passed: list[tuple[int, DecodeErrors]] = []
    waiting: deque[tuple[int, VideoFrame]] = deque()
    known_from = frames.entry_time(entry)
    on_frame, reader.on_frame = reader.on_frame, lambda time, errors: passed.append((time, errors))
    for position in range(first, frames.end):
        frame = next((event for event in reader.events if not is_packet(event)), None)
        if reader.repaired:
            raise OtherFrames("its frames are not shown in the order of their times")
        if frame is None or passed[-1][0] != frames.times[position]:
            raise (NoRandomAccess if reader.undecoded else OtherFrames)("a frame is missing")
        is_uncertain = any(time >= known_from for time in reader.damaged_outside)
        if is_uncertain or passed[-1][1].damaged or _has_lost(reader, packets, frames, position, entry):
            raise NoRandomAccess("it is damaged")
        waiting.append((min(frames.last_reference(position), frames.end - 1), frame))  # type: ignore[arg-type]
        while waiting and waiting[0][0] <= position:
            on_frame(*passed.pop(0))
            yield waiting.popleft()[1]
    if next((event for event in reader.events if not is_packet(event)), None) is not None:
        raise NoRandomAccess("there are frames after those of its packets")
    found = reader.decode_errors
    at_end = DecodeErrors(missing=found.missing, appeared=found.appeared, broken=found.broken)
    on_frame(int(frames.times[frames.end - 1]), at_end)


def _has_lost(reader: Reader, packets: PacketIndex, frames: FrameIndex, position: int, entry: int) -> bool:
    """Whether a packet on which a frame may depend could not be decoded.

    Before the first frame of the file, and among those that are shown before an entry, some cannot be.
    """
    first = frames.packets[0] if entry == 0 else entry
    times = np.where(packets.pts == NO_TIME, packets.dts, packets.pts) if reader.undecoded else packets.pts
    return any(
        first <= number + entry <= frames.packets[position]
        and (entry == 0 or times[number + entry] >= times[entry])
        for number in reader.undecoded
    )

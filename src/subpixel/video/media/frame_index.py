"""`FrameIndex`: the frames of a video, their times, and the packets from which they can be decoded."""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import SubpixelError
from subpixel.video.media.access_points import Access
from subpixel.video.media.decoder import MAX_REORDERED_FRAMES, WITHOUT_GUESSED_TIMES
from subpixel.video.media.index import DISCARDED, NO_TIME, PacketIndex
from subpixel.video.media.source import Source
from subpixel.video.media.timeline import Timeline

_B_FRAMES = ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4")
"""Codecs that decode frames in another order than they are shown."""

_GAP_STEPS = 2
"""Frames may be lost where the next one comes after more than so many of the usual steps."""


class NoRandomAccess(SubpixelError):  # noqa: N818 - the reason why something is slow, not an error of the user
    """Why the frames of a stream must be decoded from its start."""


class OtherFrames(NoRandomAccess):
    """The frames are not those of the packets, though nothing is damaged."""


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """The frames of a video in the order in which they are shown. A position counts from its first frame.

    Attributes:
        times: of the frames of the whole video, in ticks of the stream, ``(N,)`` int64; they rise strictly.
        packets: the number of the packet of each frame, ``(N,)`` int64.
        first: the position of the first frame of the time range.
        end: the position after that of the last one.
    """

    times: NDArray[np.int64]
    packets: NDArray[np.int64]
    first: int
    end: int
    _entries: NDArray[np.int64]
    """The numbers of packets at which decoding can begin, rising."""
    _entry_times: NDArray[np.int64]
    _needed: NDArray[np.int64]
    """For each position, the least number of a packet of its frame or a later one."""
    _shift: int
    """The ticks that are subtracted from times to get those of the output."""

    def __len__(self) -> int:
        """How many frames the time range has."""
        return self.end - self.first

    def position(self, time: int) -> int:
        """The position of the last frame in the time range that begins at a time in ticks, or before."""
        found = int(np.searchsorted(self.times, time, "right")) - 1
        return min(max(found, self.first), self.end - 1)

    def position_in_output(self, time: int) -> int:
        """The position of the frame that is shown at a time of the output, in ticks of the stream."""
        return self.position(time + self._shift)

    def output_time(self, position: int) -> int:
        """The time of a frame in the output, in ticks of the stream; see `Timeline.trim_frame`."""
        time = int(self.times[position]) - self._shift
        return max(0, time) if position == self.first else time

    def is_known(self, time: int) -> bool:
        """Whether a frame has exactly this time."""
        return bool(self.times[self.position(time)] == time)

    def entry(self, position: int) -> int:
        """The number of the last packet from which the frames from a position on can be decoded.

        0, the start of the file, if there is none.
        """
        at = int(np.searchsorted(self._entries, self._needed[position], "right")) - 1
        while at >= 0 and self._entry_times[at] > self.times[position]:
            at -= 1  # the frame is shown before this entry, and may depend on frames before it
        return int(self._entries[at]) if at >= 0 else 0

    def last_reference(self, position: int) -> int:
        """The position of the last frame to which a frame may refer, or its own: all decoded before it."""
        return int(np.searchsorted(self._needed, self.packets[position], "right")) - 1

    def entry_time(self, entry: int) -> int:
        """The time from which frames are right if decoding begins at a packet that `entry` returned."""
        found = self._entry_times[self._entries == entry]
        return int(found[0]) if entry else int(self.times[0])


def frame_index(packets: PacketIndex, source: Source) -> FrameIndex:
    """Find the frames of a source among its packets.

    Raises:
        NoRandomAccess: it cannot be known that a decode from the start gives these frames at these times.
    """
    timeline = source.timeline
    if packets.refusal:
        raise NoRandomAccess(packets.refusal)
    if not timeline.has_timestamps:
        raise NoRandomAccess("its frames have no times in the file")
    times = _times(packets, timeline)
    shown = np.flatnonzero(packets.flags & (DISCARDED | Access.HIDDEN) == 0)
    if (times[shown] == NO_TIME).any():
        raise NoRandomAccess("some of its frames have no time in the file")
    order = shown[np.argsort(times[shown], kind="stable")]
    assert source.reader.first_passed is not None and source.first_frame_seconds is not None
    start = int((source.first_frame_seconds + timeline.origin) / timeline.time_base)
    order = order[times[order] >= start]  # packets before the first key frame give no frame
    ordered = times[order]
    steps = np.diff(ordered)
    decoding_ranks = np.argsort(np.argsort(order))
    if (np.abs(decoding_ranks - np.arange(len(order))) > MAX_REORDERED_FRAMES).any():
        raise NoRandomAccess("its times go back")
    if (steps == 0).any():
        raise NoRandomAccess("several of its frames have the same time")
    repair = timeline.timestamp_repair(timeline.stream, timeline.time_base)
    if repair.jumps and (steps > 10 * repair.second).any():
        raise NoRandomAccess("its times jump")
    first = int(np.searchsorted(ordered, source.reader.first_passed[0]))
    if (
        not len(ordered)
        or ordered[0] != start
        or ordered[min(first, len(ordered) - 1)] != source.reader.first_passed[0]
    ):
        raise NoRandomAccess("its first frame has another time than its packets")
    entries, entry_times = _entries(packets, times, ordered, timeline)
    needed = np.minimum.accumulate(order[::-1])[::-1]
    continued = ~_follows_gap(packets, entries, ordered, needed)
    return FrameIndex(
        times=ordered,
        packets=order,
        first=first,
        end=_end(ordered, timeline),
        _entries=entries[continued],
        _entry_times=entry_times[continued],
        _needed=needed,
        _shift=round(timeline.shift / timeline.time_base),
    )


def _times(packets: PacketIndex, timeline: Timeline) -> NDArray[np.int64]:
    """The time of the frame of each packet, as `Decoder` gives it, or `NO_TIME`."""
    if not timeline.has_decode_times_only:
        return packets.pts
    by_decoding = timeline.stream.codec_context.name in WITHOUT_GUESSED_TIMES
    times = packets.dts if by_decoding else np.where(packets.pts == NO_TIME, packets.dts, packets.pts)
    return np.where(times == NO_TIME, times, times - (timeline.reorder_delay or 0))


def _entries(
    packets: PacketIndex, times: NDArray[np.int64], ordered: NDArray[np.int64], timeline: Timeline
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of packets at which decoding can begin, and the times from which frames are then right."""
    entries = np.flatnonzero(packets.flags & Access.ENTRY)
    has_b_frames = timeline.stream.codec_context.codec.canonical_name in _B_FRAMES
    if not (timeline.has_decode_times_only and has_b_frames):
        entries = entries[times[entries] != NO_TIME]
        return entries, times[entries]
    if len(ordered) != len(packets):
        return entries[:0], times[:0]
    # `DisplayOrder` gives the times of missing frames to others, until the second one that is no B-frame.
    entries = entries[packets.flags[entries] & Access.OPEN == 0]
    others = np.flatnonzero(packets.flags & Access.LEADING == 0)
    after = np.append(others, [len(packets)] * 2)
    found = np.searchsorted(others, entries)
    is_closed = after[found + 1] == entries + 1
    positions = np.where(is_closed, entries, after[found + 2] - 1)
    known = (after[found + 1] < len(packets)) | is_closed
    return entries[known], ordered[positions[known]]


def _follows_gap(
    packets: PacketIndex, entries: NDArray[np.int64], ordered: NDArray[np.int64], needed: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which entries are in an open group whose earlier frames may be lost.

    Then a decoder that comes from before, and counts on them, drops frames that another one shows.
    """
    starts = np.minimum(np.searchsorted(needed, entries), len(ordered) - 1)
    steps = np.diff(ordered, prepend=ordered[:1])
    is_gap = steps > _GAP_STEPS * np.median(steps)
    found: NDArray[np.bool_] = is_gap[starts] & (packets.flags[entries] & Access.OPEN != 0)
    return found


def _end(times: NDArray[np.int64], timeline: Timeline) -> int:
    """The position after the last frame of the time range."""
    end = timeline.time_range.end
    if end is None:
        return len(times)
    return int(np.searchsorted(times, ceil((end + timeline.origin) / timeline.time_base)))

"""`SegmentFrames`: the frames of segments, decoded from the middle of the video where that gives the same."""

import contextlib
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.frame_index import NoRandomAccess, frame_index
from subpixel.video.media.index import PacketIndex
from subpixel.video.media.pixel_formats import reformat
from subpixel.video.media.source import is_packet
from subpixel.video.media.window import read_window
from subpixel.video.pipeline import encode, history
from subpixel.video.pipeline.deinterlace import Discontinuity
from subpixel.video.pipeline.plan import VideoPlan
from subpixel.video.pipeline.segment_ranges import SegmentErrors, SegmentRanges
from subpixel.video.pipeline.stages import Pipeline
from subpixel.video.pipeline.work import Work

if TYPE_CHECKING:
    from av import Packet, VideoFrame

Numbered = tuple[int, Union["VideoFrame", None]]
"""A frame and its number. None stands for a segment without frames, with the number of its first one."""


class WarmUp(NamedTuple):
    """A frame before a segment, whose result is not wanted; see `subpixel.video.pipeline.history`."""

    number: int
    frame: "VideoFrame"


_Event = Union["VideoFrame", Discontinuity]


class _FromStart(Discontinuity):
    """The frames that follow are those of the whole video."""


class SegmentFrames:
    """Decodes and numbers the frames of segments.

    Where the index of the video allows it, the number of a frame is its position among the frames that the
    video should have. So segments do not depend on each other, even if frames are missing, and each can be
    decoded by itself. Otherwise all frames are decoded from the start, and counted.
    """

    def __init__(self, plan: VideoPlan, packets: PacketIndex) -> None:
        """Find out whether frames can be decoded from the middle.

        Args:
            plan: of the job.
            packets: of its source.
        """
        self.refusal = ""
        """Why all frames have to be decoded from the start; empty if they have not."""
        self.late_start = ""
        """Why decoding began at the start of the video, though that is far before what was wanted."""
        self.has_all = False
        """Whether the video was decoded from its start to its end. Then its source has all decode errors."""
        self._plan, self._packets = plan, packets
        self._ranges: SegmentRanges | None = None
        try:
            if plan.deinterlacing.context_frames is None:
                raise NoRandomAccess("inverse telecine depends on all frames before")
            index = frame_index(packets, plan.source)
            self._ranges = SegmentRanges(index, plan.deinterlacing.ticks)
        except NoRandomAccess as error:
            self.refusal = str(error)
        self._warm_up = history.WARM_UP_FRAMES if plan.has_history else 0
        self._errors = SegmentErrors(plan.source, self._ranges)
        self._taken: set[int] = set()
        """The segments that this process encodes."""
        self._passed = -1
        """The last of them when decoding began again from the start: those before it are too late to take."""

    @property
    def count(self) -> int | None:
        """How many segments there are; None if only decoding shows it."""
        return None if self._ranges is None else self._ranges.count

    @property
    def frames(self) -> int | None:
        """How many frames they should have together; likewise."""
        return None if self._ranges is None else self._ranges.results * len(self._ranges.index)

    def errors(self, segment: int) -> DecodeErrors:
        """The decode errors of a segment whose frames were all decoded."""
        return self._errors.of(segment)

    def is_clean(self, segment: int, errors: DecodeErrors) -> bool:
        """See `SegmentErrors.is_clean`."""
        return self._errors.is_clean(segment, errors)

    def numbered(self, work: Work, pipeline: Pipeline) -> Iterator[Numbered | WarmUp]:
        """Start to decode, and yield the frames of the segments that ``work`` wants, in order.

        For a network for video, the last frames before such a segment come as `WarmUp`. Frames are scaled to
        the size of the first one.

        Args:
            work: decides which segments are decoded.
            pipeline: gets the stages.
        """
        events: Iterator[Any]
        self._plan.source.discard_others()
        if work.wants_all or self._ranges is None:
            packets = pipeline.add("demux", self._plan.source.packets)
            events = pipeline.add("decode", self._all_frames, packets)
        else:
            events = pipeline.add("decode", lambda: self._wanted_frames(work, self._require_ranges()))
        if self._plan.deinterlacing.mode != "off":
            events = pipeline.add("deinterlace", self._plan.deinterlacing.apply, events)
        return self._numbered(events, work)

    def _require_ranges(self) -> SegmentRanges:
        assert self._ranges is not None
        return self._ranges

    def _all_frames(self, packets: "Iterator[Packet] | None" = None) -> Iterator[_Event]:
        """Decode all frames from the start."""
        self._errors.count_from_start()
        yield _FromStart()
        yield from (event for event in self._plan.source.events(packets) if not is_packet(event))  # type: ignore[misc]
        self._errors.end_from_start()

    def _wanted_frames(self, work: Work, ranges: SegmentRanges) -> Iterator[_Event]:
        """Decode what segments need, and change to a decode from the start if that gives other frames."""
        try:
            segment = self._next_wanted(0, work)
            while segment is not None:
                yield Discontinuity()
                segment = yield from self._frames_from(segment, work, ranges)
        except NoRandomAccess as error:
            self.refusal = str(error)
            yield from self._all_frames()

    def _next_wanted(self, segment: int, work: Work) -> int | None:
        """Take the next segment that is wanted; None if there is none."""
        last = self._require_ranges().count - 1
        for number in range(segment, min(last, last if work.last is None else work.last) + 1):
            if self._takes(number, work):
                return number
        return None

    def _takes(self, segment: int, work: Work) -> bool:
        if segment > self._passed and segment not in self._taken and work.wants(segment):
            self._taken.add(segment)
        return segment in self._taken

    def _frames_from(
        self, segment: int, work: Work, ranges: SegmentRanges
    ) -> Generator[_Event, None, int | None]:
        """Decode a segment, and the next wanted ones as long as no seek is faster.

        Returns:
            The wanted segment to go on with.
        """
        index, source = ranges.index, self._plan.source
        position = self._first_needed(segment, ranges)
        if position > encode.SEGMENT_FRAMES and index.entry(position) == 0:
            self.late_start = "it has no later key frame from which its frames are known to be right"
        end, wanted = ranges.end(segment), None
        with contextlib.closing(
            read_window(source, self._packets, index, position, self._errors.add_frame)
        ) as frames:
            for frame in frames:
                yield frame
                position += 1
                if position == end:
                    wanted = self._next_wanted(segment + 1, work)
                    if wanted is not None and not self._is_ahead(wanted, position, ranges):
                        segment, end, wanted = wanted, ranges.end(wanted), None
                if end + self._context <= position < index.end:
                    return wanted
        return None

    @property
    def _context(self) -> int:
        return self._plan.deinterlacing.context_frames or 0

    def _first_needed(self, segment: int, ranges: SegmentRanges) -> int:
        """The position of the first frame on which a segment depends."""
        before = self._context + -(-self._warm_up // ranges.results)
        return max(ranges.index.first, ranges.first(segment) - before)

    def _warms_up(self, number: int) -> bool:
        """Whether a frame belongs to the segment after its own, too."""
        return self._warm_up > 0 and len(history.segments_of(number)) > 1

    def _is_ahead(self, segment: int, position: int, ranges: SegmentRanges) -> bool:
        """Whether decoding of a segment can begin after the packets that were read up to a position."""
        index = ranges.index
        return (
            position < index.end
            and index.entry(self._first_needed(segment, ranges)) > index.packets[position]
        )

    def _numbered(self, events: Iterator[Any], work: Work) -> Iterator[Numbered | WarmUp]:
        """Number the frames, and scale them to the size of the first one."""
        from av.video.reformatter import VideoReformatter

        first, whole = self._plan.source.first_frame, self._plan.source.decode_errors
        from_start, segment, latest = False, -1, None
        for event in events:
            if isinstance(event, Discontinuity):
                if isinstance(event, _FromStart):
                    from_start, segment = True, -1
                    self._passed = max(self._taken, default=-1)
                continue
            is_resized = (event.width, event.height) != (first.width, first.height)
            number = whole.output_frames if self._ranges is None else self._ranges.number(event.pts)
            if from_start:
                whole.output_frames += 1
                whole.resized += is_resized
            if number // encode.SEGMENT_FRAMES != segment:
                if from_start:
                    yield from self._without_frames(segment + 1, number // encode.SEGMENT_FRAMES, work)
                segment = number // encode.SEGMENT_FRAMES
                if work.last is not None and segment > work.last:
                    return
                is_taken = self._takes(segment, work) if from_start else segment in self._taken
            if not (is_taken or self._warms_up(number)) or (latest is not None and event.pts <= latest):
                continue
            latest = event.pts
            if is_resized:
                event = reformat(VideoReformatter(), event, first.width, first.height, bicubic=True)
            if not is_taken:
                yield WarmUp(number, event)
                continue
            self._errors.add_result(segment, is_resized=is_resized)
            yield number, event
        if from_start:
            yield from self._without_frames(segment + 1, self.count or 0, work)
            self.has_all = True

    def _without_frames(self, first: int, end: int, work: Work) -> Iterator[Numbered]:
        """Yield the wanted segments of which all frames are missing."""
        for segment in range(first, end if work.last is None else min(end, work.last + 1)):
            if self._takes(segment, work):
                yield segment * encode.SEGMENT_FRAMES, None

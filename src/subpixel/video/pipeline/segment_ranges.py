"""Which frames of a video each segment has, and what was wrong with them."""

from collections import defaultdict
from dataclasses import dataclass

from subpixel.video.media.decode_errors import DecodeErrors
from subpixel.video.media.frame_index import FrameIndex
from subpixel.video.media.source import Source
from subpixel.video.pipeline import encode


@dataclass(frozen=True)
class SegmentRanges:
    """Divides the frames of an index into segments. Results are numbered from the first one of the job."""

    index: FrameIndex
    results: int
    """How many results each frame gives: two if each field becomes a frame."""

    @property
    def count(self) -> int:
        """How many segments there are."""
        return -(-len(self.index) * self.results // encode.SEGMENT_FRAMES)

    def segment(self, time: int) -> int:
        """The segment with the first result of the frame at a time in ticks of the stream."""
        return self._number(self.index.position(time)) // encode.SEGMENT_FRAMES

    def number(self, time: int) -> int:
        """The number of the result at a time of the output, in the ticks of results."""
        position = self.index.position_in_output(time // self.results)
        is_second = self.results > 1 and time > self.results * self.index.output_time(position)
        return self._number(position) + is_second

    def first(self, segment: int) -> int:
        """The position of the first frame of a segment."""
        return self.index.first + segment * encode.SEGMENT_FRAMES // self.results

    def end(self, segment: int) -> int:
        """The position after the last frame of a segment."""
        frames = -(-(segment + 1) * encode.SEGMENT_FRAMES // self.results)
        return min(self.index.first + frames, self.index.end)

    def frames(self, segment: int) -> int:
        """How many frames have their first result in a segment."""
        before = -(-segment * encode.SEGMENT_FRAMES // self.results)
        return self.end(segment) - self.index.first - before

    def _number(self, position: int) -> int:
        return (position - self.index.first) * self.results


class SegmentErrors:
    """Counts the decode errors of each segment.

    Decoding counts frames, and later stages count results, each in its thread.
    """

    def __init__(self, source: Source, ranges: SegmentRanges | None) -> None:
        """Start without errors; without ranges nothing is counted."""
        self._source, self._ranges = source, ranges
        assert source.reader.first_passed is not None
        self._first_time, self._first = source.reader.first_passed
        self._frames: dict[int, DecodeErrors] = defaultdict(DecodeErrors)
        self._results: dict[int, DecodeErrors] = defaultdict(DecodeErrors)

    def of(self, segment: int) -> DecodeErrors:
        """The decode errors of a segment whose frames were all decoded."""
        errors = DecodeErrors.merged([self._frames[segment], self._results[segment]])
        if self._ranges is not None and segment == self._ranges.index.first == 0:
            errors.lost += self._source.reader.undecoded_at_start
        return errors

    def is_clean(self, segment: int, errors: DecodeErrors) -> bool:
        """Whether a segment has all its frames, undamaged: then its errors add up with those of others."""
        if self._ranges is None:
            return False
        return errors.frames == self._ranges.frames(segment) and not (errors.damaged or errors.retimed)

    def add_frame(self, time: int, errors: DecodeErrors) -> None:
        """Count a frame; see `Reader.on_frame`."""
        if self._ranges is None:
            return
        counted = self._frames[self._ranges.segment(time)]
        counted.add(errors)
        counted.retimed += not self._ranges.index.is_known(time)
        known = self._first.carried_later
        counted.carried_later = [name for name in counted.carried_later if name not in known]
        counted.transparent_later = counted.transparent_later and not self._first.transparent_later

    def add_result(self, segment: int, *, is_resized: bool) -> None:
        """Count a frame of the output."""
        self._results[segment].add(DecodeErrors(output_frames=1, resized=int(is_resized)))

    def count_from_start(self) -> None:
        """Forget what was decoded, and count what the source decodes."""
        self._frames.clear()
        self._source.reader.on_frame = self.add_frame
        self.add_frame(self._first_time, self._first)

    def end_from_start(self) -> None:
        """Count what the source found at its end."""
        if self._ranges is not None:
            found, index = self._source.decode_errors, self._ranges.index
            at_end = DecodeErrors(missing=found.missing, appeared=found.appeared, broken=found.broken)
            self.add_frame(int(index.times[index.end - 1]), at_end)

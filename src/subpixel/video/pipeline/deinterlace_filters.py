"""FFmpeg's filters for interlaced frames, fed frame by frame; the times of results are ours."""

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

from subpixel.errors import UnsupportedVideo
from subpixel.options import FieldOrder
from subpixel.video.media.hdr import frame_side_data
from subpixel.video.media.pixel_formats import planar_format, reformat, same_range, to_planar

if TYPE_CHECKING:
    from av import VideoFrame

    from subpixel.video.pipeline.deinterlace import Deinterlacing

CYCLE = 5
"""Of so many frames of telecined video, one is dropped."""

_MIN_PLANE_WIDTH, _MIN_PLANE_HEIGHT = 3, 4
"""The smallest planes that bwdif takes, in samples."""

_PARITY: dict[FieldOrder, str] = {"auto": "auto", "top": "tff", "bottom": "bff"}

_MATCHED_FORMATS = frozenset(f"yuv{chroma}p" for chroma in (410, 411, 420, 422, 444))
"""The pixel formats that fieldmatch takes."""

_REPLACED_FORMATS = {
    **{f"gray{depth}le": "gray16le" for depth in (9, 10, 12, 14)},
    **{f"yuv440p{depth}le": f"yuv444p{depth}le" for depth in (10, 12)},
}
"""What takes the place of planar formats that bwdif does not take."""


class _Time(NamedTuple):
    """When a frame is shown, and for how long, in its time base."""

    pts: int
    duration: int
    time_base: Fraction


class Stage:
    """A filter graph, which is made again when frames change size or format, and the times of its frames."""

    def __init__(self, deinterlacing: "Deinterlacing") -> None:
        from av.video.reformatter import VideoReformatter

        self._deinterlacing = deinterlacing
        self._converter = VideoReformatter()
        self._graph: _Graph | None = None
        self._format: object = None
        """Of the frames for which the graph is."""
        self._times: dict[int, _Time | None] = {}
        """The times of the frames in the graph, by their number since it was made."""
        self._fed = 0
        """How many frames have gone into the graph."""

    def feed(self, frame: "VideoFrame") -> Iterator["VideoFrame"]:
        """Take the next frame, and yield those that are ready."""
        if self._graph is not None and self._format != _format(frame):
            yield from self.flush()
        if self._graph is None:
            self._begin(frame)
        assert frame.pts is not None and frame.time_base is not None
        yield from self._push(frame, _Time(frame.pts, frame.duration, frame.time_base))

    def _begin(self, frame: "VideoFrame") -> None:
        """Make a graph for frames like ``frame``."""
        _check_size(frame)
        self._format = _format(frame)
        self._graph, self._fed = self._new_graph(self._converted(frame)), 0

    def _push(self, frame: "VideoFrame", time: _Time | None) -> "Iterator[VideoFrame]":
        """Put a frame into the graph, and yield what is ready. A frame without a time gets no result."""
        assert self._graph is not None
        converted = self._converted(frame)
        kept = converted.pts, converted.time_base
        self._times[self._fed] = time
        converted.pts, converted.time_base = self._fed, Fraction(1)
        self._fed += 1
        results = self._graph.feed(converted)
        converted.pts, converted.time_base = kept
        yield from filter(None, map(self._timed, results))

    def _converted(self, frame: "VideoFrame") -> "VideoFrame":
        """Convert a frame to a planar format that FFmpeg's filters take.

        They would convert it themselves, but from full range to limited range.
        """
        format = planar_format(frame.format)
        if frame.format.name == format and format not in _REPLACED_FORMATS:
            return frame
        frame = to_planar(frame, self._converter)
        format = _REPLACED_FORMATS.get(format, format)
        return reformat(self._converter, frame, format=format, **same_range(frame))

    def flush(self) -> Iterator["VideoFrame"]:
        """Yield the frames that remain."""
        if self._graph is not None:
            yield from filter(None, map(self._timed, self._graph.feed(None)))
            self._drop_graph()

    def _drop_graph(self) -> None:
        self._graph = None
        self._times.clear()

    def _new_graph(self, frame: "VideoFrame") -> "_Graph":
        raise NotImplementedError

    def _timed(self, frame: "VideoFrame") -> "VideoFrame | None":
        """Give a result its time; None for a frame that gets no result."""
        raise NotImplementedError


class Bwdif(Stage):
    """Interpolates the missing lines of fields.

    With the mode "auto", each row of interlaced frames gets a graph of its own, which begins with the
    progressive frame before the row and ends with the one after it.
    """

    def __init__(self, deinterlacing: "Deinterlacing") -> None:
        super().__init__(deinterlacing)
        self._number = -1
        """Of the frame of the last result."""
        self._progressive: VideoFrame | None = None
        """The last frame, if it needs no filter, until the next one comes."""
        self._without_captions: _Graph | None = None

    def feed(self, frame: "VideoFrame") -> Iterator["VideoFrame"]:
        """See `Stage.feed`."""
        before, self._progressive = self._progressive, None
        if self._deinterlacing.mode == "auto" and not frame.interlaced_frame:
            yield from filter(None, [before])
            if self._graph is not None and self._format == _format(frame):
                yield from self._push(frame, None)
                self._drop_graph()
            else:
                yield from self.flush()
            self._progressive = frame
            return
        if before is not None:
            if _format(before) == _format(frame):
                self._begin(frame)
                # bwdif does not use the frame before at the first frame that it filters, so that is not ours.
                for context in (frame, frame, before):
                    yield from self._push(context, None)
            yield before
        yield from super().feed(frame)

    def flush(self) -> Iterator["VideoFrame"]:
        """See `Stage.flush`."""
        yield from filter(None, [self._progressive])
        self._progressive = None
        yield from super().flush()

    def _new_graph(self, frame: "VideoFrame") -> "_Graph":
        self._number = -1
        mode = self._deinterlacing.mode
        options = {
            "mode": "send_field" if mode == "fields" else "send_frame",
            "parity": _PARITY[self._deinterlacing.field_order],
            "deint": "interlaced" if mode == "auto" else "all",
        }
        graph = _Graph(frame)
        graph.add("bwdif", **options)
        return graph

    def _timed(self, frame: "VideoFrame") -> "VideoFrame | None":
        assert frame.pts is not None
        number = frame.pts // 2  # bwdif's time base is half of ours
        is_second = number == self._number
        if number != self._number:
            self._times.pop(self._number, None)
            self._number = number
        if (time := self._times[number]) is None:
            return None
        if is_second:
            frame = self._remove_captions(frame)
        ticks = self._deinterlacing.ticks
        duration = max(1, time.duration)  # the end of a time range may leave less than a tick
        frame.pts = ticks * time.pts + (duration if is_second else 0)
        frame.duration, frame.time_base = duration, time.time_base / ticks
        return frame

    def _remove_captions(self, frame: "VideoFrame") -> "VideoFrame":
        """Remove closed captions, which would be shown twice, from the frame of a second field."""
        if not has_captions(frame):
            return frame
        if self._without_captions is None or not self._without_captions.takes(frame):
            self._without_captions = _Graph(frame)
            self._without_captions.add("sidedata", mode="delete", type="A53_CC")
        return self._without_captions.feed(frame)[0]


class InverseTelecine(Stage):
    """Restores the frames of a telecined film."""

    def __init__(self, deinterlacing: "Deinterlacing") -> None:
        super().__init__(deinterlacing)
        self._results = 0
        """How many frames have come out of the graph."""

    def _new_graph(self, frame: "VideoFrame") -> "_Graph":
        self._results = 0
        name = frame.format.name
        if name not in _MATCHED_FORMATS:
            eight_bits = name.partition("p")[0] + "p"
            cure = eight_bits if eight_bits in _MATCHED_FORMATS else "yuv420p"
            raise UnsupportedVideo(
                f"inverse telecine is only possible for 8-bit Y'CbCr, not for the pixel format {name}; "
                f"convert the video to {cure} first"
            )
        parity = _PARITY[self._deinterlacing.field_order]
        graph = _Graph(frame)
        graph.add("fieldmatch", order=parity, combmatch="full")
        # Frames without a match are marked as interlaced now, and only these are deinterlaced.
        graph.add("bwdif", mode="send_frame", parity=parity, deint="interlaced")
        graph.add("sidedata", mode="delete", type="A53_CC")  # a part of them would be dropped
        graph.add("decimate", cycle=str(CYCLE))
        return graph

    def _timed(self, frame: "VideoFrame") -> "VideoFrame | None":
        kept = CYCLE - 1
        cycle, index = divmod(self._results, kept)
        self._results += 1
        first = CYCLE * cycle
        start = self._time_of(first)
        if self._fed >= first + CYCLE:
            last = self._time_of(first + CYCLE - 1)
            duration = last.pts + last.duration - start.pts
            frame.pts = kept * start.pts + index * duration
            if index == kept - 1:
                for number in range(first, first + CYCLE):
                    del self._times[number]
        else:  # the last frames, too few for a cycle, of which none is dropped
            start = self._time_of(first + index)
            duration = kept * start.duration
            frame.pts = kept * start.pts
        frame.duration, frame.time_base = duration, start.time_base / kept
        return frame

    def _time_of(self, number: int) -> _Time:
        time = self._times[number]
        assert time is not None  # each frame that is fed gets a result
        return time


class _Graph:
    """FFmpeg's filters, one after the other. The first frame opens them."""

    def __init__(self, frame: "VideoFrame") -> None:
        """Prepare for frames like ``frame``."""
        from av.filter import Graph

        self._graph = Graph()
        self._format = _format(frame)
        # decimate needs a constant frame rate, but which does not matter: we compute the times.
        self._last: Any = self._graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base="1/1",
            frame_rate="1/1",
        )

    def add(self, name: str, **options: str) -> None:
        """Add a filter."""
        added = self._graph.add(name, **options)
        self._last.link_to(added)
        self._last = added

    def takes(self, frame: "VideoFrame") -> bool:
        """Return whether a frame has the size and format of the first one."""
        return self._format == _format(frame)

    def feed(self, frame: "VideoFrame | None") -> "list[VideoFrame]":
        """Filter a frame, or flush the filters with None, and return the frames that are ready."""
        import av

        if not self._graph.configured:
            self.add("buffersink")
            self._graph.configure()
        self._graph.vpush(frame)
        results = []
        while True:
            try:
                results.append(self._graph.vpull())
            except (av.error.BlockingIOError, av.error.EOFError):
                return results


def _check_size(frame: "VideoFrame") -> None:
    """Raise `UnsupportedVideo` for a frame that is too small for bwdif."""
    if any(plane.width < _MIN_PLANE_WIDTH or plane.height < _MIN_PLANE_HEIGHT for plane in frame.planes):
        raise UnsupportedVideo(
            f"frames of {frame.width}x{frame.height} pixels are too small to deinterlace; "
            "pass --deinterlace off (deinterlace='off')"
        )


def _format(frame: "VideoFrame") -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def has_captions(frame: "VideoFrame") -> bool:
    """Return whether a frame contains closed captions."""
    return any(side.type.name == "A53_CC" for side in frame_side_data(frame))

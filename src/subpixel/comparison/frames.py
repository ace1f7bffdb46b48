"""Frames of a video that a page shows, spread evenly over its length."""

import contextlib
from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subpixel.comparison.stills import Crop, Rendering, Still, inside
from subpixel.errors import UnreadableVideo, UnsupportedVideo
from subpixel.images.image import Metadata
from subpixel.sizes import TargetSize
from subpixel.upscaler import Upscaler
from subpixel.video.media.pixel_formats import bit_depth, is_full_range, plane, round_to_depth, to_planar
from subpixel.video.media.source import Source, is_packet, is_regular, open_source
from subpixel.video.media.time_range import TimeRange
from subpixel.video.pipeline import history
from subpixel.video.pipeline.frames import FrameUpscaler
from subpixel.video.pipeline.links import FrameLink

if TYPE_CHECKING:
    from av import VideoFrame

_UNSPECIFIED, _BT601, _BT709 = 2, 5, 1
"""Matrices by their number in ITU-T H.273, which FFmpeg's scaler takes too."""

_HD_ROWS = 720
"""Players take untagged video of this height or more as BT.709, and smaller video as BT.601."""

_MAX_EARLIER_SECONDS = Fraction(1, 20)
"""A frame that is shown much longer at the start of a time range belongs to the range."""

_PQ, _HLG = 16, 18
"""Transfer characteristics of HDR."""


class FrameStill(Still):
    """One frame of a video, upright.

    Attributes:
        time: in seconds from the start of the video.
        remaining: about how many frames follow from here on; None if unknown.
        whole_size: width and height of the upright frame.
    """

    def __init__(
        self, path: Path, frame: "VideoFrame", time: Fraction, remaining: int | None, crop: Crop | None
    ) -> None:
        self._path = path
        self.frame = frame
        self.remaining = remaining
        self.time = time
        self.label = time_label(time)
        self._quarter_turns = round(frame.rotation / 90) % 4
        sides = (frame.width, frame.height)
        self.whole_size = sides[::-1] if self._quarter_turns % 2 else sides
        self.crop = inside(path, crop, *self.whole_size)
        self._is_hdr = int(frame.color_trc) in (_PQ, _HLG)
        self.metadata = Metadata()
        if self._is_hdr:  # as RGB of full range
            tags = bytes([int(frame.color_primaries), int(frame.color_trc), 0, 1])
            self.metadata = Metadata(png_chunks=((b"cICP", tags),))

    def original(self) -> Rendering:
        """Return the part in its original size."""
        return self._rendering(self.frame, self.crop)

    def upscaled(self, upscaler: Upscaler) -> Rendering:
        """Return the part after upscaling: the frame that `upscale_video` gives to the encoder.

        A network for video first sees the frames before, from the start of the video or as many as before a
        segment.

        Raises:
            UnsupportedVideo: see `FrameUpscaler`; or a network for video cannot read the file twice.
        """
        upscale = FrameUpscaler(upscaler.family, TargetSize(scale=upscaler.scale))
        link = None
        if history.has_history(upscale.upsampling(self.frame.width, self.frame.height)):
            for frame in read_frames_before(self._path, self.time, history.WARM_UP_FRAMES):
                with FrameLink(link) as link:
                    upscale.warm_up(frame, link)
        large = upscale(self.frame, FrameLink(link))
        return self._rendering(large, self.crop.enlarged(int(upscaler.scale)))

    def _rendering(self, frame: "VideoFrame", part: Crop) -> Rendering:
        samples, luma = (
            np.ascontiguousarray(part.cut(np.rot90(array, self._quarter_turns)))
            for array in (self._rgb(frame), _luma(frame))
        )
        return Rendering(samples, luma)

    def _rgb(self, frame: "VideoFrame") -> NDArray[Any]:
        """The frame as RGB ``(H, W, 3)``: uint8, or uint16 for HDR."""
        from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

        matrix = int(frame.colorspace)
        if matrix == _UNSPECIFIED:
            matrix = _BT709 if self.frame.height >= _HD_ROWS else _BT601
        arguments: dict[str, Any] = {}
        if not frame.format.is_rgb:
            full = is_full_range(frame)
            arguments["src_colorspace"] = matrix
            arguments["src_color_range"] = ColorRange.JPEG if full else ColorRange.MPEG
            arguments["dst_color_range"] = ColorRange.JPEG
        flags = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        with _converting(frame):
            rgb = VideoReformatter().reformat(
                frame, format="rgb48le" if self._is_hdr else "rgb24", interpolation=flags, **arguments
            )
        result: NDArray[Any] = rgb.to_ndarray()
        return result


def read_frames(path: Path, count: int, crop: Crop | None) -> Iterator[FrameStill]:
    """Read ``count`` frames from the middles of equal parts of a video; fewer if it has or gives fewer.

    Raises:
        InputError: see `open_source`; or the crop is not inside the frames.
    """
    with contextlib.closing(open_source(path)) as source:
        total, rate = source.timeline.expected_frames, source.timeline.frame_rate
        if total is None or not source.seekable:
            picked = _decode_all(source, count)
            time_of = source.timeline.time_of
            yield from (FrameStill(path, frame, time_of(frame), None, crop) for frame in picked)
            return
    numbers = sorted({(2 * number + 1) * total // (2 * count) for number in range(count)})
    # Earlier, so that rounded times of the file do not give the next frame.
    earlier = min(1 / (2 * rate), _MAX_EARLIER_SECONDS)
    found, failure = 0, None
    for start in (max(Fraction(0), number / rate - earlier) for number in numbers):
        try:
            still = read_frame_at(path, start, crop)
        except UnreadableVideo as error:  # a file that is cut off still tells its whole length
            failure = error
            continue
        found += 1
        yield still
    if failure and not found:
        raise failure


def read_frame_at(path: Path, start: Fraction, crop: Crop | None) -> FrameStill:
    """Read the first frame from a time on, in seconds from the start of the video."""
    with contextlib.closing(open_source(path, TimeRange(start))) as source:
        frame = source.first_frame
        timeline = source.timeline
        return FrameStill(path, frame, timeline.time_of(frame), timeline.expected_frames, crop)


def read_frames_before(path: Path, time: Fraction, count: int) -> "list[VideoFrame]":
    """Read the last ``count`` frames that end by a time, in seconds; all of them if there are fewer.

    Raises:
        UnsupportedVideo: the file cannot be read twice.
    """
    if not is_regular(path):
        raise UnsupportedVideo(
            f"{path}: a network for video needs the frames before again, and a pipe is read only once; "
            "copy it into a file first"
        )
    seconds = Fraction(1)
    while True:
        start = max(Fraction(0), time - seconds)
        found: deque[VideoFrame] = deque(maxlen=count)
        with contextlib.closing(open_source(path, TimeRange(start))) as source:
            source.discard_others()
            frames: Iterator[Any] = (event for event in source.events() if not is_packet(event))
            for frame in frames:
                if source.timeline.time_of(frame) + frame.duration * source.timeline.time_base > time:
                    break
                found.append(frame)
        if len(found) == count or not start:
            return list(found)
        seconds *= 2


def _decode_all(source: Source, count: int) -> "list[VideoFrame]":
    """Pick frames from a video of unknown length; at most ``2 * count`` frames are in memory."""
    source.discard_others()
    kept: list[VideoFrame] = []
    step = 1
    frames = (event for event in source.events() if not is_packet(event))
    for number, frame in enumerate(frames):
        if number % step == 0:
            kept.append(frame)  # type: ignore[arg-type]
        if len(kept) == 2 * count:
            kept, step = kept[::2], 2 * step
    if not kept:
        raise UnreadableVideo(f"{source.name}: gives no frame")
    picked = sorted({(2 * number + 1) * len(kept) // (2 * count) for number in range(count)})
    return [kept[number] for number in picked]


def _luma(frame: "VideoFrame") -> NDArray[np.uint8]:
    """The luma plane ``(H, W)`` in its own range, rounded to 8 bits, as in `subpixel.evaluation.clips`."""
    from av.video.reformatter import VideoReformatter

    with _converting(frame):
        frame = to_planar(frame, VideoReformatter())
    luma = plane(frame, 0)
    if luma.dtype == np.uint8:
        return luma
    deep = np.left_shift(luma, 16 - bit_depth(frame.format))
    return round_to_depth(deep, 8).astype(np.uint8)


@contextlib.contextmanager
def _converting(frame: "VideoFrame") -> Iterator[None]:
    """Report what FFmpeg cannot convert; its errors are OSError, as those of the page's file."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise UnsupportedVideo(
            f"frames of the pixel format {frame.format.name} cannot be converted ({error})"
        ) from error


def time_label(time: Fraction) -> str:
    """A time in seconds as ``M:SS.ss``, or ``H:MM:SS.ss`` from one hour on."""
    hundredths = round(time * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 100:02}.{rest % 100:02}"
    return f"{hours}:{minutes:02}:{seconds}" if hours else f"{minutes}:{seconds}"

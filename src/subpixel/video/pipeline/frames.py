"""Upscale one decoded frame: luma by the network, everything else by FFmpeg.

FFmpeg's bicubic scaler upscales the whole frame at its own depth. That also copies what is attached to the
frame (tags, times, closed captions) and keeps the chroma siting. The network's luma then replaces the luma of
the result. Nothing is converted to RGB.
"""

import threading
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import from_float, to_float
from subpixel.engines.family import ModelFamily
from subpixel.engines.pixel_art import AnyUpsampling, PixelArtFamily
from subpixel.engines.upsampling import Upsampling
from subpixel.errors import UnsupportedVideo
from subpixel.ops.grain import add_grain, removed_noise
from subpixel.sizes import IMAGE, PixelGeometry, TargetSize
from subpixel.video.media.pixel_formats import (
    bit_depth,
    planar_format,
    plane,
    reformat,
    round_to_depth,
    same_range,
    to_planar,
)
from subpixel.video.pipeline.history import History, corrected, history_of, reduced
from subpixel.video.pipeline.links import FrameLink
from subpixel.video.pipeline.pixel_art import upscale_planes
from subpixel.video.pipeline.unchanged import Rectangle, hr_part, with_context

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.reformatter import VideoReformatter


_BAND_SAMPLES = 1 << 23
"""Samples of the networks' output in a band: 32 MB of float32 for each frame in work."""

_MIN_BAND_ROWS = 64


class FrameUpscaler:
    """Upscale frames.

    Size and format may change between frames. Several threads may call it at once.
    """

    def __init__(
        self,
        family: ModelFamily | PixelArtFamily,
        target: TargetSize,
        format: str | None = None,
        geometry: PixelGeometry = IMAGE,
        *,
        grain: float = 0.0,
    ) -> None:
        """Store the models and the size and format of results.

        Args:
            family: the models and their engines.
            target: the size of results.
            format: FFmpeg's name of the planar Y'CbCr or gray format of results; by default the
                `planar_format` of each frame.
            geometry: of the pixels. Most codecs require even sides for subsampled chroma; for an integer
                factor, an odd side gets one more pixel, which repeats the last one.
            grain: how much of the noise that the network removes is given back, 0 to 1.
        """
        self._family = family
        self._target = target
        self._format = format
        self._geometry = geometry
        self._grain = grain
        self._thread = threading.local()
        # Exact arithmetic in Python, the same for each frame.
        self.size = cache(self._size)
        self.upsampling = cache(self._upsampling)
        self._history = cache(history_of)

    def _size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the result for a frame of ``width`` and ``height``."""
        return self._target.for_source(width, height, self._geometry)

    def _upsampling(self, width: int, height: int) -> AnyUpsampling:
        """Return what upsamples the luma of a frame of ``width`` and ``height``.

        Where even sides need one pixel more than an integer factor gives, its target is without that pixel.

        Raises:
            ValueError: the models cannot reach the size.
            EngineError: a model cannot be compiled.
        """
        sides = self._target.for_source(width, height, replace(self._geometry, even=False))
        if sides[0] * height != sides[1] * width or sides[0] % width:  # no integer factor
            sides = self.size(width, height)
        return self._family.upsampling((height, width), (sides[1], sides[0]))

    def __call__(
        self, frame: "VideoFrame", link: FrameLink | None = None, number: int | None = None
    ) -> "VideoFrame":
        """Upscale a frame.

        Args:
            frame: as decoded.
            link: to the frame before, from which unchanged luma is copied. This does not change the result. A
                network for video gets its state by it.
            number: of the result in the film, see `subpixel.video.pipeline.history`.

        Returns:
            A new frame, with the times and everything else that FFmpeg attaches to the input.

        Raises:
            UnsupportedVideo: FFmpeg cannot convert the frame's pixel format to planes.
            EngineError: the engine failed.
        """
        if isinstance(self._family, PixelArtFamily):
            return self._by_rule(frame, self._family)
        small, large = self._by_bicubic(frame)
        depths = bit_depth(small.format), bit_depth(large.format)
        luma, seed = (plane(small, 0), plane(large, 0)), (frame.pts or 0) if self._grain else None
        self._put_luma(*luma, depths, seed, link or FrameLink(), number)
        return large

    def warm_up(self, frame: "VideoFrame", link: FrameLink, number: int | None = None) -> None:
        """Let a network for video see a frame whose result is not wanted.

        Args:
            frame, link, number: as for a call.
        """
        small = to_planar(frame, self._reformatters()[1])
        luma, depth = plane(small, 0), bit_depth(small.format)
        history = self._history(self.upsampling(small.width, small.height))
        if history is not None:
            base = self._without_history(luma, depth, history, link)
            corrected(history.network, _full_range(luma, depth), base, link, number, warm_up=True)

    def _by_rule(self, frame: "VideoFrame", family: PixelArtFamily) -> "VideoFrame":
        """Upscale all planes of pixel art by a rule, and convert them to the format of results."""
        _, converter = self._reformatters()
        planes = planar_format(frame.format)
        small, large = self._by_bicubic(frame, planes)
        if small.format.name not in (planes, planes.replace("yuv", "yuvj"), planes.replace("yuv", "yuva")):
            small = reformat(converter, small, format=planes, **same_range(small))
        small_planes, large_planes = (
            [plane(each, index) for index in range(len(large.planes))] for each in (small, large)
        )
        target = self.upsampling(small.width, small.height).target
        upscale_planes(small_planes, large_planes, family, target)
        if self._format not in (None, planes):
            large = reformat(converter, large, format=self._format, **same_range(large))
        return large

    def gray_frame(self, frame: "VideoFrame") -> "VideoFrame":
        """Return the result for a frame with all samples gray, which skips the network and encodes fast."""
        large = self._by_bicubic(frame)[1]
        for index in range(len(large.planes)):
            plane(large, index)[...] = 1 << bit_depth(large.format) - 1
        return large

    def _by_bicubic(self, frame: "VideoFrame", format: str | None = None) -> "tuple[VideoFrame, VideoFrame]":
        """Return a frame in planes, and its bicubic upscaling, by default in the format of results."""
        import av
        from av.video.frame import PictureType

        width, height = self.size(frame.width, frame.height)
        color_range = same_range(frame)
        try:
            scaler, converter = self._reformatters()
            frame = to_planar(frame, converter)
            planes = format or self._format or planar_format(frame.format)
            large = reformat(scaler, frame, width, height, planes, bicubic=True, **color_range)
        except av.FFmpegError as error:
            raise UnsupportedVideo(
                f"frames of the pixel format {frame.format.name} cannot be upscaled ({error}); "
                "convert the video to another pixel format first"
            ) from error
        if large is frame:
            large = _copy(frame, converter)
        # An encoder would take the frame type of the input as a request for its own.
        large.pict_type = PictureType.NONE
        return frame, large

    def _reformatters(self) -> "tuple[VideoReformatter, VideoReformatter]":
        """Return this thread's FFmpeg scaler and converter. Each keeps what it has prepared."""
        from av.video.reformatter import VideoReformatter

        if not hasattr(self._thread, "reformatters"):
            self._thread.reformatters = VideoReformatter(), VideoReformatter()
        reformatters: tuple[VideoReformatter, VideoReformatter] = self._thread.reformatters
        return reformatters

    def _put_luma(
        self,
        small: NDArray[Any],
        large: NDArray[Any],
        depths: tuple[int, int],
        seed: int | None,
        link: FrameLink,
        number: int | None,
    ) -> None:
        """Fill ``large`` with ``small`` upscaled by the network.

        ``depths`` are the bits of both, and ``seed`` is that of the grain; None without grain.
        """
        height, width = small.shape
        upsampling = self.upsampling(width, height)
        assert isinstance(upsampling, Upsampling)
        rows, columns = upsampling.target
        inside = large[:rows, :columns]
        history = self._history(upsampling)
        if history is None:
            self._put_single(small, inside, upsampling, depths, seed, link)
        else:
            base = self._without_history(small, depths[0], history, link)
            given = _full_range(small, depths[0])
            result = corrected(history.network, given, base, link, number)
            inside[...] = round_to_depth(self._finished(given, result, upsampling, seed), depths[1])
        large[:rows, columns:] = large[:rows, columns - 1 : columns]
        large[rows:] = large[rows - 1 : rows]

    def _put_single(
        self,
        small: NDArray[Any],
        inside: NDArray[Any],
        upsampling: Upsampling,
        depths: tuple[int, int],
        seed: int | None,
        link: FrameLink,
    ) -> None:
        """Fill ``inside`` with ``small`` upscaled by itself; what did not change is copied."""
        changed = link.changed(small, depths, upsampling.context_px) if seed is None else None
        if changed and not (upsampling.is_one_network and upsampling.engines[0].is_exact):
            changed = None  # rectangles of a frame may get other samples than the whole
        self._compute(small, inside, upsampling, depths, seed, changed)
        if changed is not None and not link.copy_others(inside, changed, small.shape):
            self._compute(small, inside, upsampling, depths, seed)
        link.finish(inside)

    def _without_history(
        self, small: NDArray[Any], depth: int, history: History, link: FrameLink
    ) -> NDArray[Any]:
        """Return the result of a network for video without its history, in all 8 or 16 bits."""
        base = np.empty(history.upsampling.target, small.dtype)
        self._put_single(small, base, history.upsampling, (depth, 8 * small.itemsize), None, link)
        return base

    def _finished(
        self, small: NDArray[Any], result: NDArray[Any], upsampling: Upsampling, seed: int | None
    ) -> NDArray[Any]:
        """Reduce, sharpen and give grain to the result of a network for video, where that is asked for."""
        if upsampling.is_one_network and seed is None:
            return result
        large = np.ascontiguousarray(reduced(result, upsampling))
        if seed is not None and can_have_grain(upsampling):
            self._add_grain(to_float(small), large, upsampling, seed)
        return from_float(large, small.dtype)

    def _compute(
        self,
        small: NDArray[Any],
        inside: NDArray[Any],
        upsampling: Upsampling,
        depths: tuple[int, int],
        seed: int | None,
        rectangles: list[Rectangle] | None = None,
    ) -> None:
        """Fill ``inside`` from ``small``, or only what belongs to some rectangles of ``small``."""
        if rectangles == []:
            return
        # Repeat the edge: the network would otherwise see black around the frame.
        context_px = upsampling.context_px
        context = np.pad(small, context_px, mode="edge")
        is_deep = small.dtype == np.uint16 or inside.dtype == np.uint16
        if is_deep:  # engines take uint16 samples of the full 16 bits
            context = _full_range(context, depths[0])
        parts = [(context, inside)]
        if rectangles is not None:
            parts = [
                (context[with_context(each, context_px)], inside[hr_part(each, upsampling.factor)])
                for each in rectangles
            ]
        for part, result in parts:
            if is_deep:
                result[...] = round_to_depth(self._upsample(part, upsampling, seed), depths[1])
            elif upsampling.is_one_network and seed is None:
                upsampling.engines[0](part, context_px=context_px, out=result)
            else:
                result[...] = self._upsample(part, upsampling, seed)

    def _upsample(self, context: NDArray[Any], upsampling: Upsampling, seed: int | None) -> NDArray[Any]:
        """Upsample a plane, uint8 or uint16, that is given with ``upsampling.context_px`` on each side."""
        context_px = upsampling.context_px
        if upsampling.is_one_network and seed is None:
            result: NDArray[Any] = upsampling.engines[0](context, context_px=context_px)
            return result
        if seed is None or not can_have_grain(upsampling):
            return _in_bands(context, upsampling)
        rows, columns = upsampling.target
        small = to_float(context)
        large = upsampling.upsample(small)
        part = slice(0, rows), slice(0, columns)
        large = np.ascontiguousarray(upsampling.finish(large, part, (-context_px, -context_px)))
        inner = slice(context_px, -context_px or None)
        self._add_grain(small[inner, inner], large, upsampling, seed)
        return from_float(large, context.dtype)

    def _add_grain(
        self, small: NDArray[np.float32], large: NDArray[np.float32], upsampling: Upsampling, seed: int
    ) -> None:
        noise = removed_noise(small, large)
        if noise is not None:
            add_grain(large, noise, self._grain, seed, upsampling.source)


def _full_range(samples: NDArray[Any], depth: int) -> NDArray[Any]:
    """Shift samples so that they use all bits of their dtype, as engines take them."""
    shift = 8 * samples.itemsize - depth
    return np.left_shift(samples, shift) if shift else samples


def _in_bands(context: NDArray[Any], upsampling: Upsampling) -> NDArray[Any]:
    """Upsample a plane that is given with its context, in bands of rows to save memory."""
    context_px, (rows, columns) = upsampling.context_px, upsampling.target
    result = np.empty((rows, columns), context.dtype)
    large_rows = max(_MIN_BAND_ROWS, _BAND_SAMPLES // (context.shape[1] * upsampling.factor))
    step = max(1, large_rows * rows // (upsampling.source[0] * upsampling.factor))
    for top in range(0, rows, step):
        band = slice(top, min(top + step, rows))
        under = upsampling.pixels_under(band, 0)
        # `context` begins ``context_px`` before the first row of the frame.
        large = upsampling.upsample(to_float(context[under.start : under.stop + 2 * context_px]))
        part, origin = (band, slice(0, columns)), (under.start - context_px, -context_px)
        result[band] = from_float(upsampling.finish(large, part, origin), context.dtype)
    return result


def can_have_grain(upsampling: AnyUpsampling) -> bool:
    """Return whether a network makes the frames, and both sides become longer, as for `removed_noise`."""
    longer = all(to >= side for side, to in zip(upsampling.source, upsampling.target, strict=True))
    return isinstance(upsampling, Upsampling) and bool(upsampling.engines) and longer


def _copy(frame: "VideoFrame", converter: "VideoReformatter") -> "VideoFrame":
    """Return a copy of a planar frame with everything that is attached to it.

    FFmpeg's scaler returns the frame itself if neither size nor format changes. PyAV cannot copy a frame, so
    it is scaled to another size and back, which attaches the same, and then gets the same samples.
    """
    other = reformat(converter, frame, frame.width + 16, frame.height + 16)
    result = reformat(converter, other, frame.width, frame.height)
    for index in range(len(frame.planes)):
        plane(result, index)[...] = plane(frame, index)
    return result

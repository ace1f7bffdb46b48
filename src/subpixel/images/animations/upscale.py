"""Upscaling an animation frame by frame."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.pixel_art import AnyUpsampling
from subpixel.engines.upsampling import Upsampling
from subpixel.images.animations.animation import Animation, Frame, Sequence, nearest_tick
from subpixel.images.formats import GIF, PNG, Format
from subpixel.images.tiles import upscale_array, worker_count
from subpixel.images.workers import Workers
from subpixel.images.write import storable
from subpixel.models.catalog import described_base

_MAX_FRAMES_AHEAD = 4
_GIF_TICKS_PER_SECOND, _SHORTEST_TICKS_IN_BROWSERS = 100, 2


def frames_ahead(upsampling: AnyUpsampling) -> int:
    """How many frames are upscaled at once; each is in memory."""
    return min(upsampling.threads, _MAX_FRAMES_AHEAD)


def upscale_animation(
    animation: Animation,
    partial: Path,
    upsampling: AnyUpsampling,
    format: Format,
    *,
    quality: int,
    on_frame: Callable[[int], None],
) -> list[str]:
    """Upscale an animation, and write it to an existing, empty file.

    Args:
        animation: the input.
        partial: the file; its name does not matter.
        upsampling: from the size of a frame to that of the result.
        format: the format to write: GIF, PNG or WebP.
        quality: 1 to 100, for WebP.
        on_frame: called with the number of finished frames.

    Returns:
        Warnings.
    """
    height, width = upsampling.target
    metadata, warnings = storable(
        animation.metadata.updated(width, height), format, gray=animation.header.channels < 3
    )
    job = _Job(animation, upsampling, format, on_frame)
    shape = (
        upsampling.target if animation.header.channels == 1 else (height, width, animation.header.channels)
    )
    sequence = Sequence(shape, animation.frames, animation.plays, job.frames())
    with partial.open("r+b") as file, Workers(worker_count(upsampling)) as workers:
        if format is GIF:
            from subpixel.images.animations import gif

            warnings += gif.write(file, sequence, metadata, warn_of_colors=animation.format is not GIF)
        elif format is PNG:
            from subpixel.images.animations import apng

            warnings += apng.write(file, sequence, metadata, workers)
        else:
            from subpixel.images.animations import webp

            webp.write(file, sequence, metadata, quality)
    return [*animation.warnings, *_history_warnings(upsampling), *job.warnings(), *warnings]


def _history_warnings(upsampling: AnyUpsampling) -> list[str]:
    """What users are told if networks for video upscale an animation."""
    engines = upsampling.engines if isinstance(upsampling, Upsampling) else ()
    return [
        f"each frame of an animation is upscaled by itself, by {described_base(engine.model)}; the frames "
        "before help only in a video, such as .mkv"
        for engine in engines[:1]
        if engine.model.spec.history
    ]


class _Job:
    """Upscales frames, several at once, and notes what the output format cannot store."""

    def __init__(
        self, animation: Animation, upsampling: AnyUpsampling, format: Format, on_frame: Callable[[int], None]
    ) -> None:
        self._animation = animation
        self._upsampling = upsampling
        self._format = format
        self._on_frame = on_frame
        self._has_partial_alpha = False
        self._short_frames = 0
        self._time = Fraction(0)

    def frames(self) -> Iterator[Frame]:
        """Yield the upscaled frames. A frame that is equal to the one before is not computed again."""
        pending: deque[tuple[Future[NDArray[Any]], Frame]] = deque()
        before: NDArray[Any] | None = None
        ahead, finished = frames_ahead(self._upsampling), 0
        with ThreadPoolExecutor(ahead, "subpixel-frame") as pool:
            try:
                for frame in self._animation.read_frames():
                    self._note(frame)
                    if before is None or not np.array_equal(frame.samples, before):
                        future = pool.submit(self._upscale, frame.samples)
                    before = frame.samples
                    pending.append((future, frame))
                    if len(pending) > ahead:
                        yield _finished(*pending.popleft())
                        finished += 1
                        self._on_frame(finished)
                while pending:
                    yield _finished(*pending.popleft())
                    finished += 1
                    self._on_frame(finished)
            finally:
                pool.shutdown(cancel_futures=True)

    def _upscale(self, samples: NDArray[Any]) -> NDArray[Any]:
        dtype = samples.dtype if self._format.supports_16_bit else np.uint8
        result = upscale_array(samples, self._upsampling, alpha=self._animation.has_alpha, dtype=dtype)
        if self._animation.has_alpha:  # invisible colors would only make the file larger
            result[result[..., -1] == 0] = 0
        return result

    def _note(self, frame: Frame) -> None:
        if self._format is not GIF or self._animation.format is GIF:
            return
        if self._animation.has_alpha and not self._has_partial_alpha:
            alpha = frame.samples[..., -1]
            self._has_partial_alpha = bool(((alpha > 0) & (alpha < np.iinfo(alpha.dtype).max)).any())
        start = nearest_tick(self._time, _GIF_TICKS_PER_SECOND)
        self._time += frame.delay
        ticks = nearest_tick(self._time, _GIF_TICKS_PER_SECOND) - start
        self._short_frames += frame.delay > 0 and ticks < _SHORTEST_TICKS_IN_BROWSERS

    def warnings(self) -> list[str]:
        """Return what was reduced; known after the last frame."""
        warnings = []
        if self._animation.header.is_16_bit and not self._format.supports_16_bit:
            warnings.append(f"reduced from 16 to 8 bits per sample, the limit of {self._format.name}")
        if self._has_partial_alpha:
            warnings.append("GIF has no partial transparency: pixels became opaque or fully transparent")
        if self._short_frames:
            warnings.append(
                "browsers show frames of a GIF that are shorter than 0.02 s for 0.1 s, and it has "
                f"{self._short_frames} of them"
            )
        return warnings


def _finished(future: "Future[NDArray[Any]]", frame: Frame) -> Frame:
    return Frame(future.result(), frame.delay)

"""Upscales frames from any source: a decoder, a camera or a generator; see `subpixel.Upscaler.frames`."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.family import ModelFamily
from subpixel.engines.pixel_art import PixelArtFamily
from subpixel.sizes import TargetSize
from subpixel.video.pipeline.arrays import ArrayUpscaler
from subpixel.video.pipeline.frames import FrameUpscaler
from subpixel.video.pipeline.links import FrameLink, linked
from subpixel.video.pipeline.stages import Pipeline

_STOP_TIMEOUT_SECONDS = 1
"""How long to wait for the source to stop; a camera may never answer."""


def upscale_frames(
    frames: Iterable[Any],
    family: ModelFamily | PixelArtFamily,
    target: TargetSize,
    *,
    upscale_image: Callable[[Any], Any],
    check: Callable[[NDArray[Any]], object],
    workers: int,
) -> Iterator[Any]:
    """Upscale frames, a few ahead of the caller.

    Args:
        frames: PyAV's frames, and images.
        family: the models and their engines.
        target: the size of results.
        upscale_image: upscales an image by itself.
        check: raises for an array whose samples cannot be upscaled.
        workers: how many frames to upscale at once.

    Yields:
        One result per frame, in order. Before the result of the first frame that a network for video
        upscales by itself, there is a `UserWarning`.
    """
    video_frames, images = FrameUpscaler(family, target), ArrayUpscaler(family, target)
    notes: list[str] = []

    def has_link(frame: Any) -> bool:
        if not notes:
            notes.extend(images.missing_history(frame, is_video_frame=_is_video_frame(frame)))
        return _is_video_frame(frame) or images.takes(frame)

    def upscale(linked_frame: tuple[Any, FrameLink | None]) -> Any:
        frame, link = linked_frame
        if link is None:
            return upscale_image(frame)
        with link:
            if _is_video_frame(frame):
                return video_frames(frame, link)
            if isinstance(frame, np.ndarray):
                check(frame)
            return images(frame, link)

    pipeline, told = Pipeline(), False
    try:
        read = linked(pipeline.add("read", lambda: frames), has_link, private=True)
        for result in pipeline.add_parallel("upscale", upscale, read, workers):
            if notes and not told:
                warnings.warn(notes[0], UserWarning, stacklevel=2)
                told = True
            yield result
    finally:
        pipeline.close(_STOP_TIMEOUT_SECONDS)


def _is_video_frame(frame: Any) -> bool:
    return not isinstance(frame, np.ndarray) and hasattr(frame, "planes")

"""What calls return and what they report on the way."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far the work on one file is; what an image has no use for keeps its default.

    >>> import subpixel
    >>> def show(progress: subpixel.Progress) -> None:
    ...     print(f"{progress.fraction:.0%}")
    >>> result = subpixel.upscale_image("small.png", "large.png", progress=show)
    100%
    """

    fraction: float
    """Done, 0 to 1; 0 for a video while nothing tells how long it is."""
    seconds: float
    """Since the work began."""
    frames: int = 0
    """Of a video: done, those of an earlier run included."""
    total_frames: int | None = None
    """About how many there are; None where nothing tells."""
    frames_per_second: float = 0.0
    """Of this run."""
    speed: float = 0.0
    """Seconds of video made in a second."""
    bottleneck: str = ""
    """The stage that sets the pace."""

    @property
    def total(self) -> int | None:
        """The name of `total_frames` until version 0.2; it goes in 0.3."""
        _warn_of_old_name("Progress.total", "total_frames")
        return self.total_frames


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was done to one file."""

    input: str
    """The path; ``<bytes>`` or ``<file>`` for what has none."""
    output: str
    scale: int
    model: str
    engine: str
    precision: str
    target: str
    """The processor that the engine was compiled for, in words for people."""
    threads: int
    reason: str
    """Why this engine, in words for people."""
    content: str
    """What the source was taken for, "clean" or "compressed"; empty where that decided nothing."""
    content_reason: str
    """Why, in words for people."""
    width: int
    """Of the output in pixels, as `height`."""
    height: int
    seconds: float
    warnings: tuple[str, ...]
    """What had to be changed or left out, in words for people."""

    @property
    def notices(self) -> tuple[str, ...]:
        """The name of `warnings` until version 0.2; it goes in 0.3."""
        _warn_of_old_name(f"{type(self).__name__}.notices", "warnings")
        return self.warnings


@dataclass(frozen=True, kw_only=True)
class ImageResult(Result):
    """What was done to one image.

    >>> import subpixel
    >>> result = subpixel.upscale_image("small.png", "large.png", scale=3)
    >>> result.model, result.width, result.height, result.warnings
    ('default-x3', 144, 120, ())
    """


@dataclass(frozen=True, kw_only=True)
class VideoResult(Result):
    """What was done to one video.

    >>> import subpixel
    >>> result = subpixel.upscale_video("film.mp4", "film-large.mkv")
    >>> result.model, result.codec, result.width, result.height, result.frames
    ('default-compressed-x2', 'libx264', 96, 80, 3)
    """

    codec: str
    frames: int
    resumed_frames: int
    """How many of them an earlier run had made."""
    frames_per_second: float
    """Of the frames that this run made."""
    stages: Mapping[str, float]
    """For how many seconds each stage worked; they overlap."""
    bottleneck: str
    """The stage that worked longest, and so set the pace."""
    damaged_frames: int
    missing_frames: int
    """About how many are missing at the end of an input that is cut off."""
    lost_frames: int
    """About how many could not be decoded and are missing."""
    damaged_share: float
    """Of damaged, lost and missing frames, 0 to 1."""


def _warn_of_old_name(old: str, new: str) -> None:
    warnings.warn(f"{old} is now {new}; the old name goes in version 0.3", DeprecationWarning, stacklevel=3)

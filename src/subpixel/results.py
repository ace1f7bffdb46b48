"""What the functions for files return, and what they report meanwhile."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress on one file. For an image, only ``fraction`` and ``seconds`` are set, and the frames of an
    animation.

    >>> import subpixel
    >>> def show(progress: subpixel.Progress) -> None:
    ...     print(f"{progress.fraction:.0%}")
    >>> result = subpixel.upscale_image("small.png", "large.png", progress=show)
    100%
    """

    fraction: float
    """The finished share, 0 to 1; 0 until the end for a video of unknown length."""
    seconds: float
    """Since the start of the work."""
    frames: int = 0
    """Finished frames, including those of an interrupted run that is resumed."""
    total_frames: int | None = None
    """The expected number of frames; None if the input does not state it."""
    frames_per_second: float = 0.0
    """In this run."""
    speed: float = 0.0
    """Seconds of video per second of work: 1 is real time."""
    bottleneck: str = ""
    """The slowest stage, which limits the speed."""

    @property
    def total(self) -> int | None:
        """The name of `total_frames` until version 0.2; it is removed in 0.3."""
        _warn_of_old_name("Progress.total", "total_frames")
        return self.total_frames


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result for one file."""

    input: str
    """The path; ``<bytes>``, or ``<file>`` for a file object without a name."""
    output: str
    """The same for the output."""
    scale: float
    """The factor per side, an integer if it is one. If the sides differ in it, that of the longer side."""
    sharpness: float
    """How much the result was sharpened, 0 to 1."""
    model: str
    engine: str
    precision: str
    target: str
    """The instruction set for which the engine was compiled, as text for users."""
    threads: int
    reason: str
    """Why this engine was selected, as text for users."""
    content: str
    """"clean", "compressed" or "pixel-art" if that selected the model, otherwise empty."""
    content_reason: str
    """Why, as text for users."""
    width: int
    """Of the output as it is stored, in pixels. A player may rotate a video."""
    height: int
    """The same for the other side."""
    seconds: float
    """Of work on this file."""
    warnings: tuple[str, ...]
    """What was changed or left out, as text for users."""

    @property
    def notices(self) -> tuple[str, ...]:
        """The name of `warnings` until version 0.2; it is removed in 0.3."""
        _warn_of_old_name(f"{type(self).__name__}.notices", "warnings")
        return self.warnings


@dataclass(frozen=True, kw_only=True)
class ImageResult(Result):
    """The result for one image.

    >>> import subpixel
    >>> result = subpixel.upscale_image("small.png", "large.png", scale=3)
    >>> result.model, result.width, result.height, result.warnings
    ('default-x3', 144, 120, ())
    """

    frames: int = 1
    """Frames of an animation; 1 for a still image."""


@dataclass(frozen=True, kw_only=True)
class VideoResult(Result):
    """The result for one video.

    >>> import subpixel
    >>> result = subpixel.upscale_video("film.mp4", "film-large.mkv")
    >>> result.model, result.codec, result.width, result.height, result.frames
    ('default-compressed-x2', 'libx264', 96, 80, 3)
    """

    codec: str
    """FFmpeg's name of the encoder."""
    grain: float
    """How much of the noise that the model removed was given back, 0 to 1."""
    frames: int
    """Frames in the output."""
    resumed_frames: int
    """How many of them come from an interrupted run."""
    missing_segments: int = 0
    """How many segments other shards have still to encode; the output is written when none is missing."""
    frames_per_second: float
    """In this run."""
    copied_share: float = 0.0
    """The share of the luma that this run copied from the frame before, because it did not change, 0 to 1."""
    stages: Mapping[str, float]
    """Seconds of work in each stage; the stages overlap."""
    bottleneck: str
    """The stage with the most seconds of work, which limited the speed."""
    damaged_frames: int
    """Frames that were decoded with errors."""
    missing_frames: int
    """About how many frames are missing at the end of a truncated input."""
    lost_frames: int
    """About how many frames could not be decoded and are missing."""
    damaged_share: float
    """The share of damaged, missing and lost frames, 0 to 1."""


@dataclass(frozen=True, kw_only=True)
class Preview(Result):
    """What the result for one file would be. Its ``seconds`` are 0."""

    source_width: int
    """Of the input, in pixels, upright."""
    source_height: int
    frames: int | None
    """1 for a still image; None for a video of unknown length."""
    codec: str = ""
    """FFmpeg's name of the encoder of a video."""
    memory_mib: int = 0
    """About how much memory an image needs, in MiB; 0 for a video."""
    resumes: bool = False
    """Whether a video would resume from the finished part of an interrupted run."""


def _warn_of_old_name(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is now {new}; the old name is removed in version 0.3", DeprecationWarning, stacklevel=3
    )

"""What calls return and what they report on the way."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a video is."""

    frames: int
    """Done, those of an earlier run included."""
    total: int | None
    """About how many there are; None where nothing tells."""
    seconds: float
    """Since the job began."""
    frames_per_second: float
    """Of this run."""
    speed: float
    """Seconds of film made in a second."""
    bottleneck: str
    """The stage that sets the pace."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was done to one file."""

    input: str
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
    notices: tuple[str, ...]
    """What had to be changed or left out, in words for people."""


@dataclass(frozen=True, kw_only=True)
class ImageResult(Result):
    """What was done to one image."""


@dataclass(frozen=True, kw_only=True)
class VideoResult(Result):
    """What was done to one video."""

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

"""The part of a training config that is about several frames: the network, and its clips."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from subpixel.errors import ConfigError


@dataclass(frozen=True)
class FramesConfig:
    """How a network of the kind "frames" sees several frames (VESPCN, Caballero et al., arXiv 1611.05250).

    It upscales the middle one of ``count`` frames. ``network.widths`` are the channels of its hidden layers,
    over all times; with ``count = 1`` it is a "stack", trained on clips.
    """

    count: int
    """Frames that the network sees: odd."""
    fusion: Literal["early", "slow", "3d"] = "early"
    """Where frames meet (section 3.1). "early": in the first layer. "slow": each layer joins two neighboring
    times, until one is left; a hidden layer has the same channels in total, divided among its times. "3d":
    the same with one set of weights for all times of a layer, which is a 3D convolution."""
    motion: Literal["none", "transformer"] = "none"
    """"transformer" moves the other frames onto the middle one first (section 3.2): flow in two steps, coarse
    and fine, trained with the network."""
    motion_weight: float = 0.01
    """Weight of the mean squared difference between the middle frame and those moved onto it (beta)."""
    smoothness_weight: float = 0.001
    """Weight of the Huber term of the flow's gradients (lambda)."""
    motion_range_px: float = 8.0
    """Largest motion of each step along an axis, in LR pixels. The paper has half the size of the picture,
    which would be another range for patches than for whole frames."""

    def __post_init__(self) -> None:
        """Check the number of frames."""
        if self.count < 1 or self.count % 2 == 0:
            raise ConfigError(f"frames.count must be odd and positive, not {self.count}")
        if self.motion != "none" and self.count == 1:
            raise ConfigError("frames.motion needs frames.count of at least 3")
        if self.motion_range_px <= 0:
            raise ConfigError(f"frames.motion_range_px must be positive, not {self.motion_range_px}")


@dataclass(frozen=True)
class RecurrentConfig:
    """How a network of the kind "recurrent" uses the previous frame, see `RecurrentNetwork`.

    ``network.widths`` are the hidden layers of the correction.
    """

    base: str
    """The trained network for single frames, by name or path. It is not trained further."""
    state: int = 8
    """Channels of the hidden state, see `subpixel.models.spec.History` for this and the next numbers."""
    frames: int = 10
    """Frames of the sequences to train on."""
    block_px: int = 8
    """Side of the blocks whose motion is searched, in LR pixels; their quarters may move as a neighbor."""
    range_px: int = 7
    """Largest motion of a block from frame to frame, in LR pixels."""
    parts: int = 2
    """Steps of motion in a pixel of the result."""
    fit_limit: int = 16
    """Most difference after motion, in sixteenths of a block's detail, with which history counts."""
    bounded: bool = False
    """Whether results lie between those of the base and the moved previous ones. Only in use: trained with
    this bound, a network gains more where the camera moves, and loses more in drawings."""
    bounded_in_motion: bool = True
    """Whether the bound holds everywhere, or only where nothing moves."""

    def __post_init__(self) -> None:
        """Check the number of frames; the spec checks the others."""
        if self.frames < 1:
            raise ConfigError(f"recurrent.frames must be positive, not {self.frames}")


@dataclass(frozen=True)
class ClipsConfig:
    """The clips that a network over several frames is trained on.

    Moving stills are made of the pictures in ``data.folders``.
    """

    folder: str
    """Below --datasets. Each file of a video, and each folder of numbered images, is a clip."""
    halved: tuple[str, ...] = ()
    """Names of clips that are reduced to half their size first, which removes artifacts of compression."""
    frames: int = 60
    """Most frames of each clip, from its start."""
    held_out: tuple[str, ...] = ()
    """Folders below --datasets with clips for tests. Training refuses to start if it has a frame of them, or
    of ``validation.folder``."""
    stills: int = 0
    """Number of moving stills: pictures under smooth motion of a camera, see
    `subpixel.training.moving_stills`."""
    still_frames: int = 15
    """Frames of each."""
    still_side_px: int = 48
    """Height and width of each, in LR pixels."""
    still_share: float = 0.3
    """The share of the patches that are cut from moving stills."""
    static_share: float = 0.0
    """The share of the patches in which a single frame is repeated."""
    compressed_share: float = 0.0
    """The share of the patches whose LR frames are compressed by H.264, at CRFs of 18 to 32."""
    validation_frames: int = 20
    """Most frames of each clip for validation."""

    def __post_init__(self) -> None:
        """Check shares and numbers."""
        for name in ("still_share", "static_share", "compressed_share"):
            if not 0 <= (share := getattr(self, name)) <= 1:
                raise ConfigError(f"clips.{name} must be 0 to 1, not {share}")
        for name in ("frames", "still_frames", "still_side_px", "validation_frames"):
            if (value := getattr(self, name)) < 1:
                raise ConfigError(f"clips.{name} must be positive, not {value}")
        if self.stills < 0:
            raise ConfigError(f"clips.stills must not be negative, not {self.stills}")


def times_after(layer: int, frames: FramesConfig) -> int:
    """Return how many times are left after a layer, counted from 0."""
    return 1 if frames.fusion == "early" else max(1, frames.count - 1 - layer)


def check_widths(widths: Sequence[int], frames: FramesConfig) -> None:
    """Raise `ConfigError` if hidden layers of these widths cannot join the frames two by two."""
    if len(widths) < frames.count - 1:
        raise ConfigError(
            f'frames.fusion = "{frames.fusion}" of {frames.count} frames needs at least {frames.count - 1} '
            "network.widths, since each layer joins two times"
        )
    for layer, width in enumerate(widths):
        if width % (times := times_after(layer, frames)):
            raise ConfigError(f"network.widths: {width} channels cannot be divided among {times} times")

"""The protocols on video: from HR clips to PSNR and SSIM on luma, frame by frame.

HR is the luma of each decoded frame in its own range; luma of more than 8 bits is rounded to 8. LR is made
from it as for images, see `subpixel.evaluation.protocol`, and may be compressed with H.264.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, tee
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from subpixel.arguments import check_callables
from subpixel.errors import DatasetError, name_file_in_errors
from subpixel.evaluation.clips import luma_planes
from subpixel.evaluation.compression import through_h264
from subpixel.evaluation.metrics import SSIM_WINDOW_PX, psnr_db, ssim
from subpixel.evaluation.protocol import (
    Degradation,
    Scores,
    UpscaleFrames,
    UpscaleLuma,
    bicubic,
    checked_result,
    crop_to_multiple,
    lr_plane,
    mean,
)
from subpixel.evaluation.temporal import TemporalMeter, TemporalScores, pooled
from subpixel.evaluation.vmaf import VmafMeter, VmafScores

Plane = NDArray[np.uint8]

VESPCN_BORDER_PX = 8
"""Border that the protocol "vespcn" leaves out, in HR pixels."""

VESPCN_ENDS = 2
"""Frames that the protocol "vespcn" leaves out at each end of a clip."""


@dataclass(frozen=True)
class ClipProtocol:
    """Which pixels and frames of a clip are compared.

    - ``image``: all frames, each as an image is, without a border of ``scale`` pixels. The ESPCN paper's.
    - ``full-frame``: all frames and all pixels.
    - ``vespcn``: without the first and last two frames, which lack neighbors, and without a border of 8
      pixels: how VESPCN and the methods that compare with it are measured on Vid4.

    Raises:
        ValueError: the name is unknown.
    """

    name: str = "image"

    def __post_init__(self) -> None:
        """Check the name."""
        if self.name not in CLIP_PROTOCOLS:
            raise ValueError(f"unknown protocol {self.name!r}; known: {', '.join(CLIP_PROTOCOLS)}")

    def border_px(self, scale: int) -> int:
        """Width of the border that is left out, in HR pixels."""
        return {"image": scale, "full-frame": 0, "vespcn": VESPCN_BORDER_PX}[self.name]

    @property
    def ends(self) -> int:
        """Number of frames that are left out at each end."""
        return VESPCN_ENDS if self.name == "vespcn" else 0


CLIP_PROTOCOLS = ("image", "full-frame", "vespcn")
"""The names of `ClipProtocol`."""


@dataclass(frozen=True)
class ClipScores:
    """The scores of a model and of bicubic on each measured frame of one clip."""

    name: str
    model: tuple[Scores, ...]
    bicubic: tuple[Scores, ...]
    temporal: TemporalScores | None = None
    """Of the model, if it was asked for."""
    vmaf: VmafScores | None = None
    """Of the model, if it was asked for."""

    @property
    def frames(self) -> int:
        """The number of frames that were measured."""
        return len(self.model)

    @property
    def mean(self) -> "MeanScores":
        """The means over the frames; a PSNR is infinite if any frame is equal to its original."""
        return MeanScores(self.name, self.frames, mean(self.model), mean(self.bicubic))


@dataclass(frozen=True)
class MeanScores:
    """The mean scores over the frames of a clip, or over several clips."""

    name: str
    frames: int
    model: Scores
    bicubic: Scores


@dataclass(frozen=True)
class ClipSetup:
    """What is measured on clips, and how LR is made."""

    scale: int
    degradation: Degradation = field(default_factory=Degradation)
    """How LR is made, frame by frame."""
    crf: int | None = None
    """If given, LR is also compressed with H.264 at this constant rate factor."""
    protocol: ClipProtocol = field(default_factory=ClipProtocol)
    """Which pixels and frames are compared."""
    temporal: bool = False
    """Measure temporal consistency, see `subpixel.evaluation.temporal`."""
    vmaf: bool = False
    """Measure VMAF, see `subpixel.evaluation.vmaf`."""

    def __post_init__(self) -> None:
        """Check the rate factor."""
        if self.crf is not None and not 0 <= self.crf <= 51:
            raise ValueError(f"the CRF of H.264 must be 0 to 51, not {self.crf}")


def evaluate_clip(
    file: Path,
    upscale: UpscaleLuma,
    setup: ClipSetup,
    *,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> ClipScores:
    """Downscale each frame of a clip, upscale it with ``upscale`` and with bicubic, and compare.

    Args:
        file: the clip.
        upscale: the model.
        setup: what is measured, and how LR is made.
        size: width and height of the frames of a ``.yuv``.
        frames: how many frames to use from the start, at most; all by default.
        progress: called after each frame with the number of frames done.

    Raises:
        DatasetError: the clip does not exist, or is unreadable, damaged, too small or too short.
        EngineError: what temporal consistency or VMAF need is not installed.
        ValueError: a ``.yuv`` without a size, or a result of the model with a wrong shape or dtype.
    """
    return evaluate_frames(
        file, lambda planes: map(upscale, planes), setup, size=size, frames=frames, progress=progress
    )


def evaluate_frames(
    file: Path,
    upscale: UpscaleFrames,
    setup: ClipSetup,
    *,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> ClipScores:
    """`evaluate_clip` for a model that sees all frames of the clip, such as one with a state."""
    check_callables(progress=progress)
    border, baseline = setup.protocol.border_px(setup.scale), bicubic(setup.scale)
    model: list[Scores] = []
    interpolated: list[Scores] = []
    with contextlib.ExitStack() as stack:
        meter = TemporalMeter(border) if setup.temporal else None
        vmaf = stack.enter_context(VmafMeter()) if setup.vmaf else None
        stack.enter_context(name_file_in_errors(str(file)))
        planes = stack.enter_context(contextlib.closing(luma_planes(file, size)))
        hr_planes, lr_planes = tee(_pairs(file, islice(planes, frames), setup))
        results = upscale(lr for _, lr in lr_planes)
        for (hr, lr), sr in zip(hr_planes, results, strict=True):
            model.append(_compared(hr, checked_result(lr, sr, setup.scale), border))
            interpolated.append(_compared(hr, baseline(lr), border))
            for one in (meter, vmaf):
                if one is not None:
                    one.add(hr, sr)
            progress(len(model))
        ends = setup.protocol.ends
        measured = slice(ends, len(model) - ends)
        _check_length(file, len(model), setup)
        return ClipScores(
            file.name,
            tuple(model[measured]),
            tuple(interpolated[measured]),
            None if meter is None else pooled(meter.pairs[ends : len(model) - 1 - ends]),
            None if vmaf is None else vmaf.scores(),
        )


def mean_of_clips(clips: Sequence[ClipScores]) -> MeanScores:
    """The mean scores of clips, each with weight 1 whatever its length, and the sum of their frames."""
    means = [clip.mean for clip in clips]
    return MeanScores(
        "mean",
        sum(clip.frames for clip in clips),
        mean([one.model for one in means]),
        mean([one.bicubic for one in means]),
    )


def _pairs(file: Path, planes: Iterable[Plane], setup: ClipSetup) -> Iterator[tuple[Plane, Plane]]:
    """The HR and LR planes of a clip; all of its frames are in memory if they are compressed."""
    scale, degradation = setup.scale, setup.degradation
    hr_planes = (_cropped(file, luma, scale, setup.protocol.border_px(scale)) for luma in planes)
    if setup.crf is None:
        for hr in hr_planes:
            yield hr, lr_plane(hr, scale, degradation)
        return
    kept = list(hr_planes)
    compressed = through_h264([lr_plane(hr, scale, degradation) for hr in kept], setup.crf)
    yield from zip(kept, compressed, strict=True)


def _check_length(file: Path, frames: int, setup: ClipSetup) -> None:
    """Refuse a clip without a frame to measure, or without two for temporal consistency."""
    least = 2 * setup.protocol.ends + (2 if setup.temporal else 1)
    if frames < least:
        raise DatasetError(
            f"{file}: {frames} frames are too few for the protocol {setup.protocol.name}"
            f"{' with temporal consistency' if setup.temporal else ''}; take a clip of at least {least}"
        )


def _cropped(file: Path, luma: Plane, scale: int, border: int) -> Plane:
    """A copy of a frame, cropped to a multiple of the scale; refused if too small to measure."""
    hr = crop_to_multiple(luma, scale)
    if min(hr.shape) < SSIM_WINDOW_PX + 2 * border:
        height, width = luma.shape
        least = -(-(SSIM_WINDOW_PX + 2 * border) // scale) * scale
        raise DatasetError(
            f"{file}: frames of {width}x{height} are too small to evaluate x{scale}; "
            f"take a clip of at least {least}x{least}"
        )
    return hr.copy()


def _compared(hr: Plane, sr: Plane, border: int) -> Scores:
    return Scores(psnr_db(hr, sr, shave=border), ssim(hr, sr, shave=border))

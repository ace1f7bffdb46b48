"""The reference of a comparison: the image or video that a perfect result would equal."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.comparison.frames import FrameStill, read_frame_at
from subpixel.comparison.stills import ImageStill
from subpixel.errors import InputError
from subpixel.evaluation.metrics import SSIM_WINDOW_PX, psnr_db, ssim
from subpixel.images.read import read

PROTOCOL = (
    "PSNR and SSIM on luma with 8 bits per sample (images: BT.601 in 16 to 235; videos: the luma plane), "
    "without a border of {scale} pixels, as in the protocol of subpixel evaluate. Here the input is the "
    "given file; compare with published values only if it was made with MATLAB's bicubic."
)

_MAX_OTHER_FRAMES = 2
"""By which containers may be wrong about their number of frames."""


def open_reference(path: Path, still: ImageStill, scale: int) -> tuple[ImageStill, list[str]]:
    """Read the reference of an image.

    If it is up to ``scale - 1`` pixels larger than the result, it is cropped at the right and at the bottom,
    as datasets are before they are made smaller.

    Returns:
        The part that the page shows, and warnings.

    Raises:
        InputError: it cannot be read, or its size does not fit.
    """
    image = read(path, lambda header: None)
    height, width = image.samples.shape[:2]
    source_height, source_width = still.image.samples.shape[:2]
    warnings = check_reference_size(path, (width, height), (source_width, source_height), scale)
    part = still.crop.enlarged(scale)
    reference = ImageStill(image, part)
    reference.has_color = still.has_color = reference.has_color or still.has_color
    if (reference.metadata.icc or b"") != (still.metadata.icc or b""):
        warnings.append(
            f"{path}: has another color profile than the input; the values compare samples as they are"
        )
    return reference, warnings


def read_reference_frame(path: Path, still: FrameStill, scale: int) -> tuple[FrameStill, list[str]]:
    """Read the frame of a reference video at the time of ``still``; see `open_reference`."""
    earlier = max(Fraction(0), still.time - Fraction(1, 1000))  # containers round times
    found = read_frame_at(path, earlier, None)
    ours, others = still.remaining, found.remaining
    if ours is not None and others is not None and abs(ours - others) > max(_MAX_OTHER_FRAMES, ours // 100):
        raise InputError(
            f"{path}: has about {others} frames from {still.label} on, and the input {ours}; "
            "the reference must have the frames of the input"
        )
    source = still.whole_size
    warnings = check_reference_size(path, found.whole_size, source, scale)
    part = still.crop.enlarged(scale)
    return FrameStill(path, found.frame, found.time, None, part), warnings


def check_reference_size(path: Path, size: tuple[int, int], source: tuple[int, int], scale: int) -> list[str]:
    """Raise `InputError` if a reference does not fit; return a warning if it must be cropped.

    Args:
        path: the reference.
        size: its width and height.
        source: those of the input.
        scale: the factor between them.
    """
    expected = (source[0] * scale, source[1] * scale)
    over = (size[0] - expected[0], size[1] - expected[1])
    if over == (0, 0):
        return []
    sizes = f"{size[0]} x {size[1]} pixels"
    wanted = f"{expected[0]} x {expected[1]}"
    if all(0 <= side < scale for side in over):
        return [
            f"{path}: {sizes} cropped to {wanted} at the right and at the bottom, "
            f"a multiple of the scale {scale}"
        ]
    if over[0] < 0 or over[1] < 0:
        cure = f"name the file of which the input was made, {scale} times as large as the input"
    else:
        cure = f"crop it to {wanted}, or make the input from it again"
    fitting = size[0] / source[0]
    if fitting == size[1] / source[1] and fitting.is_integer() and fitting > 1:
        cure = f"pass -s {round(fitting)} (scale={round(fitting)})"
    raise InputError(
        f"{path}: the reference has {sizes}, but {source[0]} x {source[1]} upscaled by {scale} are {wanted}; "
        f"{cure}"
    )


def scores(reference: NDArray[np.uint8], result: NDArray[np.uint8], scale: int) -> dict[str, Any]:
    """PSNR and SSIM of a luma plane; None if it is too small, and for the PSNR of equal planes."""
    least = min(reference.shape) - 2 * scale
    if least < 1:
        return {"psnr_db": None, "ssim": None, "equal": False}
    value = psnr_db(reference, result, shave=scale)
    return {
        "psnr_db": None if math.isinf(value) else round(value, 3),
        "ssim": round(ssim(reference, result, shave=scale), 5) if least >= SSIM_WINDOW_PX else None,
        "equal": math.isinf(value),
    }

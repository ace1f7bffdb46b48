"""The protocol behind the published numbers: from an HR picture to PSNR and SSIM on luma.

`docs/protocol.md` gives its reasons, and what each deviation costs. In short: HR is BT.601 luma, cropped to a
multiple of the scale; LR is made from it, and the result, SR, from LR; all three are 8-bit, as image files
are; a border of ``scale`` pixels is left out.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import from_float
from subpixel.errors import DatasetError
from subpixel.evaluation.metrics import SSIM_WINDOW_PX, psnr_db, ssim
from subpixel.files import is_file, is_folder
from subpixel.ops.color import luma_8bit
from subpixel.ops.resize import blur_and_decimate, imresize

UpscaleLuma = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""From an LR luma plane ``(H, W)`` to ``(scale*H, scale*W)``, both uint8. Every `Engine` is one."""

DEGRADATIONS = ("bicubic", "gaussian")
"""What `Degradation` knows."""

SUFFIXES = frozenset({".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif"})
"""Which files of a folder are its pictures."""


@dataclass(frozen=True)
class Degradation:
    """How the LR plane is made.

    - ``bicubic``: MATLAB's antialiased bicubic on HR luma, as the published numbers have it.
    - ``gaussian``: Gaussian blur of HR luma, then one pixel in ``scale``: how the ESPCN paper says that it
      made its training data. ``sigma_px`` is the blur's standard deviation in HR pixels.
    """

    kind: str = "bicubic"
    sigma_px: float | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown kind, a blur without its width, and a width without a blur."""
        if self.kind not in DEGRADATIONS:
            raise ValueError(f"unknown degradation {self.kind!r}; known: {', '.join(DEGRADATIONS)}")
        if (self.kind == "gaussian") != (self.sigma_px is not None):
            raise ValueError("the gaussian degradation, and no other, needs a sigma in HR pixels")
        if self.sigma_px is not None and not self.sigma_px > 0:
            raise ValueError(f"the blur's sigma must be positive, not {self.sigma_px}")

    def __call__(self, image: NDArray[np.uint8], scale: int) -> NDArray[np.float64]:
        """Make the LR luma plane in [0, 1], not rounded, of an 8-bit image.

        The image's sides must be multiples of ``scale``.
        """
        hr = luma_8bit(image) / 255
        if self.sigma_px is None:
            return imresize(hr, 1 / scale)
        return blur_and_decimate(hr, scale, self.sigma_px)


@dataclass(frozen=True)
class Scores:
    """How close one result is to the original, or the mean over several."""

    psnr_db: float
    ssim: float


@dataclass(frozen=True)
class ImageScores:
    """What one picture of a test set came to, beside bicubic on the same LR plane."""

    name: str
    model: Scores
    bicubic: Scores


def bicubic(scale: int) -> UpscaleLuma:
    """The baseline as one more model: MATLAB's bicubic in floating point, rounded half up once."""
    return lambda plane: from_float(imresize(plane / 255, scale), plane.dtype)


def crop_to_multiple(image: NDArray[Any], scale: int) -> NDArray[Any]:
    """Cut rows and columns off the bottom and the right until both sides are multiples of ``scale``."""
    height, width = (side // scale * scale for side in image.shape[:2])
    return image[:height, :width]


def lr_plane(
    image: NDArray[np.uint8], scale: int, degradation: Degradation = Degradation()
) -> NDArray[np.uint8]:
    """The small luma plane of an HR picture, ``(H, W)`` or ``(H, W, 3)``, cropped to fit the scale."""
    return from_float(degradation(crop_to_multiple(image, scale), scale), np.dtype(np.uint8))


def super_resolved(lr: NDArray[np.uint8], upscale: UpscaleLuma, scale: int) -> NDArray[np.uint8]:
    """The model's enlargement of an LR luma plane ``(H, W)``; ValueError unless as `UpscaleLuma` says."""
    sr = upscale(lr)
    expected = tuple(scale * side for side in lr.shape)
    if sr.shape != expected or sr.dtype != lr.dtype:
        raise ValueError(f"the model made {sr.dtype} {sr.shape} of {lr.shape}, not {lr.dtype} {expected}")
    return sr


def evaluate_image(
    image: NDArray[np.uint8], upscale: UpscaleLuma, scale: int, degradation: Degradation = Degradation()
) -> Scores:
    """Degrade one picture, enlarge it again, and compare with the original.

    Args:
        image: the HR picture, ``(H, W)`` gray (taken as luma as it is) or ``(H, W, 3)`` RGB, uint8.
        upscale: the model.
        scale: its factor.
        degradation: how LR is made.

    Raises:
        ValueError: a wrong shape or dtype, of the picture or of what the model makes; or too small a picture.
    """
    hr = luma_8bit(crop_to_multiple(image, scale))
    sr = super_resolved(lr_plane(image, scale, degradation), upscale, scale)
    return Scores(psnr_db(hr, sr, shave=scale), ssim(hr, sr, shave=scale))


def evaluate_file(
    file: Path, upscale: UpscaleLuma, scale: int, degradation: Degradation = Degradation()
) -> ImageScores:
    """`evaluate_image` on a picture file, by ``upscale`` and by bicubic.

    Raises `DatasetError` when the file cannot be read or is too small.
    """
    image = read_picture(file)
    height, width = image.shape[:2]
    least = SSIM_WINDOW_PX + 2 * scale
    if min(side // scale * scale for side in (height, width)) < least:
        raise DatasetError(f"{file}: {width}x{height} is too small to evaluate x{scale}")
    return ImageScores(
        file.stem,
        evaluate_image(image, upscale, scale, degradation),
        evaluate_image(image, bicubic(scale), scale, degradation),
    )


def mean(scores: Sequence[Scores]) -> Scores:
    """The mean of each measure over a test set; for PSNR the mean of the dB, as the literature has it."""
    return Scores(
        float(np.mean([score.psnr_db for score in scores])), float(np.mean([score.ssim for score in scores]))
    )


def pictures(folder: Path) -> list[Path]:
    """The pictures of a test set, sorted by name: those in ``folder/HR`` if there is one, else in ``folder``.

    Raises `DatasetError` when the folder or the pictures are missing.
    """
    if not is_folder(folder):
        raise DatasetError(
            f"{folder}: no such folder; a test set is a folder of pictures, or one with an HR folder"
        )
    if not (found := files_of(folder, SUFFIXES)):
        raise DatasetError(f"{home_of(folder)}: holds no pictures; known are {', '.join(sorted(SUFFIXES))}")
    return found


def home_of(folder: Path) -> Path:
    """Where the files of a test set lie: in ``folder/HR`` if there is one, else in ``folder``."""
    return folder / "HR" if is_folder(folder / "HR") else folder


def files_of(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of a test set that end in one of ``suffixes`` (lower case, with the dot), sorted by name."""
    return sorted(
        file for file in home_of(folder).iterdir() if file.suffix.lower() in suffixes and is_file(file)
    )


def read_picture(file: Path) -> NDArray[np.uint8]:
    """Read a picture of a test set as ``(H, W)`` gray or ``(H, W, 3)`` RGB, uint8, exactly as stored.

    Raises `DatasetError` for anything else: a conversion would change the number without a word.
    """
    from PIL import Image

    try:
        with Image.open(file) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise DatasetError(f"{file}: is an animation or holds several pages; a test picture is one")
            if picture.mode == "P" and not picture.has_transparency_data:
                return np.asarray(picture.convert("RGB"))
            if picture.mode not in ("L", "RGB"):
                raise DatasetError(
                    f"{file}: has samples of kind {picture.mode}; convert it to 8-bit gray or RGB"
                )
            return np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{file}: not a readable picture ({error})") from error

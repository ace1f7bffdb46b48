"""The protocol behind the published numbers: from an HR image to PSNR and SSIM on luma.

HR is BT.601 luma, cropped to a multiple of the scale. LR is made from HR, and the result, SR, from LR. All
three have 8 bits per sample, as image files have. A border of ``scale`` pixels is left out.

`docs/protocol.md` explains each choice, and what a deviation costs.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
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
"""A function from an LR luma plane ``(H, W)`` to ``(scale*H, scale*W)``, both uint8; each `Engine` is one."""

UpscaleFrames = Callable[[Iterable[NDArray[np.uint8]]], Iterator[NDArray[np.uint8]]]
"""A function from the LR luma planes of a clip, in order, to as many results. It may look ahead."""

DEGRADATIONS = ("bicubic", "gaussian", "bd")
"""The kinds of `Degradation`."""

BD_SIGMA_PX = 1.6
"""Standard deviation of the blur of "bd" in HR pixels."""

IMAGE_SUFFIXES = frozenset(
    {".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".gif"}
)
"""Extensions of the files in a folder that are its images."""


@dataclass(frozen=True)
class Degradation:
    """How LR is made from HR.

    - ``bicubic``: MATLAB's antialiased bicubic on HR luma, as in the published numbers ("BI").
    - ``gaussian``: a Gaussian blur of HR luma, then only the middle of each block of ``scale`` x ``scale``
      pixels, as the ESPCN paper describes its training data. ``sigma_px`` is the standard deviation of the
      blur in HR pixels.
    - ``bd``: a Gaussian blur with a standard deviation of 1.6 HR pixels, then only the first pixel of each
      block, as papers on video do ("BD"). LR is shifted by ``(scale - 1) / 2`` HR pixels.

    Raises:
        ValueError: the kind is unknown, ``gaussian`` is without ``sigma_px``, or another kind has one.
    """

    kind: str = "bicubic"
    sigma_px: float | None = None

    def __post_init__(self) -> None:
        """Check kind and sigma."""
        if self.kind not in DEGRADATIONS:
            raise ValueError(f"unknown degradation {self.kind!r}; known: {', '.join(DEGRADATIONS)}")
        if (self.kind == "gaussian") != (self.sigma_px is not None):
            raise ValueError(
                f"the gaussian degradation needs a sigma in HR pixels, and {self.kind} takes none"
                if self.kind != "gaussian"
                else "the gaussian degradation needs a sigma in HR pixels"
            )
        if self.sigma_px is not None and not self.sigma_px > 0:
            raise ValueError(f"the sigma of the blur must be positive, not {self.sigma_px}")

    def __call__(self, image: NDArray[np.uint8], scale: int) -> NDArray[np.float64]:
        """Make the LR luma plane of an 8-bit HR image, in [0, 1] and not rounded.

        The sides of the image must be multiples of ``scale``.
        """
        hr = luma_8bit(image) / 255
        if self.kind == "bd":
            return blur_and_decimate(hr, scale, BD_SIGMA_PX, position="first")
        if self.sigma_px is None:
            return imresize(hr, 1 / scale)
        return blur_and_decimate(hr, scale, self.sigma_px)


@dataclass(frozen=True)
class Scores:
    """PSNR and SSIM of one result against the original, or the means over several."""

    psnr_db: float
    ssim: float


@dataclass(frozen=True)
class ImageScores:
    """The scores of a model and of bicubic on the same image of a test set."""

    name: str
    model: Scores
    bicubic: Scores


def bicubic(scale: int) -> UpscaleLuma:
    """The baseline, in the form of a model: MATLAB's bicubic in floating point, rounded half up once."""
    return lambda plane: from_float(imresize(plane / 255, scale), plane.dtype)


def crop_to_multiple(image: NDArray[Any], scale: int) -> NDArray[Any]:
    """Crop rows at the bottom and columns at the right until both sides are multiples of ``scale``."""
    height, width = (side // scale * scale for side in image.shape[:2])
    return image[:height, :width]


def lr_plane(
    image: NDArray[np.uint8], scale: int, degradation: Degradation = Degradation()
) -> NDArray[np.uint8]:
    """Make the 8-bit LR luma plane of an HR image, ``(H, W)`` or ``(H, W, 3)``, which is cropped first."""
    return from_float(degradation(crop_to_multiple(image, scale), scale), np.dtype(np.uint8))


def super_resolve(lr: NDArray[np.uint8], upscale: UpscaleLuma, scale: int) -> NDArray[np.uint8]:
    """Upscale an LR luma plane ``(H, W)``; ValueError if the shape or dtype of the result is wrong."""
    return checked_result(lr, upscale(lr), scale)


def checked_result(lr: NDArray[np.uint8], sr: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """The result of a model for an LR plane; ValueError if its shape or dtype is wrong."""
    expected = tuple(scale * side for side in lr.shape)
    if sr.shape != expected or sr.dtype != lr.dtype:
        raise ValueError(
            f"the model turned {lr.dtype} {lr.shape} into {sr.dtype} {sr.shape}, not {lr.dtype} {expected}"
        )
    return sr


def evaluate_image(
    image: NDArray[np.uint8], upscale: UpscaleLuma, scale: int, degradation: Degradation = Degradation()
) -> Scores:
    """Downscale one image, upscale it with a model, and compare the result with the original.

    Args:
        image: the HR image, uint8, ``(H, W, 3)`` RGB or ``(H, W)`` grayscale, which is its own luma.
        upscale: the model.
        scale: its factor.
        degradation: how LR is made.

    Raises:
        ValueError: the image or the result has a wrong shape or dtype, or the image is too small.
    """
    hr = luma_8bit(crop_to_multiple(image, scale))
    sr = super_resolve(lr_plane(image, scale, degradation), upscale, scale)
    return Scores(psnr_db(hr, sr, shave=scale), ssim(hr, sr, shave=scale))


def evaluate_file(
    file: Path, upscale: UpscaleLuma, scale: int, degradation: Degradation = Degradation()
) -> ImageScores:
    """`evaluate_image` on an image file, for ``upscale`` and for bicubic.

    Raises `DatasetError` when the file cannot be read or is too small.
    """
    image = read_image(file)
    height, width = image.shape[:2]
    least = -(-(SSIM_WINDOW_PX + 2 * scale) // scale) * scale
    if min(height, width) < least:
        raise DatasetError(
            f"{file}: {width}x{height} is too small to evaluate x{scale}; "
            f"leave out images smaller than {least}x{least}"
        )
    return ImageScores(
        file.stem,
        evaluate_image(image, upscale, scale, degradation),
        evaluate_image(image, bicubic(scale), scale, degradation),
    )


def mean(scores: Sequence[Scores]) -> Scores:
    """The means over a test set; that of PSNR is the mean of the dB, as in the literature."""
    return Scores(
        float(np.mean([score.psnr_db for score in scores])), float(np.mean([score.ssim for score in scores]))
    )


def find_images(folder: Path) -> list[Path]:
    """The image files of a test set, sorted by name: those in ``folder/HR`` if it exists, else in ``folder``.

    Raises `DatasetError` if the folder does not exist or contains no images.
    """
    if not is_folder(folder):
        raise DatasetError(
            f"{folder}: no such folder; a test set is a folder of images, or one that contains a folder HR"
        )
    if not (found := files_with_suffix(folder, IMAGE_SUFFIXES)):
        raise DatasetError(
            f"{hr_folder(folder)}: contains no images; their names end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    return found


def hr_folder(folder: Path) -> Path:
    """The folder of the files of a test set: ``folder/HR`` if it exists, else ``folder``."""
    return folder / "HR" if is_folder(folder / "HR") else folder


def files_with_suffix(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """The files of a test set with one of ``suffixes`` (lower case, with the dot), sorted by name."""
    return sorted(
        file for file in hr_folder(folder).iterdir() if file.suffix.lower() in suffixes and is_file(file)
    )


def read_image(file: Path) -> NDArray[np.uint8]:
    """Read an image of a test set, exactly as stored: uint8, ``(H, W)`` grayscale or ``(H, W, 3)`` RGB.

    Raises `DatasetError` for anything else, because a conversion would silently change the numbers.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise DatasetError(f"{file}: has several frames or pages; take an image with one")
            if image.mode == "P" and not image.has_transparency_data:
                return np.asarray(image.convert("RGB"))
            if image.mode not in ("L", "RGB"):
                raise DatasetError(
                    f"{file}: has samples of type {image.mode}; convert it to 8-bit grayscale or RGB"
                )
            return np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(f"{file}: not a readable image ({error}); remove or replace it") from error

"""Stills: images and frames that a page shows, in their original size and upscaled."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import ImageTooLarge, InputError
from subpixel.images.codecs.png import COLOR_CHUNKS
from subpixel.images.formats import MAX_OUTPUT_PIXELS
from subpixel.images.image import KEEP_ALL_FRAMES, DecodedImage, Header, Metadata, drop_opaque_alpha
from subpixel.images.read import read
from subpixel.images.tiles import upscale_strips, worker_count
from subpixel.images.workers import Workers
from subpixel.ops.color import luma_8bit
from subpixel.sizes import TargetSize
from subpixel.upscaler import Upscaler


class Crop(NamedTuple):
    """A rectangle of an image, in pixels from its top left corner."""

    x: int
    y: int
    width: int
    height: int

    def enlarged(self, scale: int) -> "Crop":
        """The same part of the image after upscaling."""
        return Crop(*(side * scale for side in self))

    def cut(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Cut this part out of ``(H, W)`` or ``(H, W, C)``; a view."""
        return samples[self.y : self.y + self.height, self.x : self.x + self.width]


class Rendering(NamedTuple):
    """What a page shows of one method, and what it is measured by."""

    samples: NDArray[Any]
    """``(H, W)`` gray, or ``(H, W, 2 to 4)`` as in `DecodedImage`; uint8 or uint16."""
    luma: NDArray[np.uint8]
    """``(H, W)``."""


class Still(ABC):
    """One image or frame.

    Attributes:
        label: the time of a frame; empty for an image.
        crop: the part that the page shows.
        metadata: the color space, which goes into the page with the samples.
        is_transparent: whether anything shows through.
    """

    label: str = ""
    crop: Crop
    metadata: Metadata
    is_transparent: bool = False

    @abstractmethod
    def original(self) -> Rendering:
        """Return the part in its original size."""

    @abstractmethod
    def upscaled(self, upscaler: Upscaler) -> Rendering:
        """Return the part as it is after upscaling the whole: the samples that `upscale_image` writes."""


class ImageStill(Still):
    """An image file.

    Attributes:
        warnings: what had to be changed while reading.
        has_color: whether it is RGB. May be set for a grayscale image that is measured against an RGB one:
            luma of RGB has another range.
    """

    def __init__(self, image: DecodedImage, crop: Crop) -> None:
        self.image = image
        self.crop = crop
        chunks = tuple((name, body) for name, body in image.metadata.png_chunks if name in COLOR_CHUNKS)
        self.metadata = Metadata(icc=image.metadata.icc, png_chunks=chunks)
        self.is_transparent = image.has_alpha and drop_opaque_alpha(image.samples) is image.samples
        self.has_color = image.samples.ndim == 3 and image.samples.shape[2] >= 3
        # A page shows only one frame, whatever is written.
        self.warnings = tuple(warning.removesuffix(KEEP_ALL_FRAMES) for warning in image.warnings)

    def original(self) -> Rendering:
        """Return the part in its original size."""
        return self._rendering(self.crop.cut(self.image.samples))

    def upscaled(self, upscaler: Upscaler) -> Rendering:
        """Return the part after upscaling."""
        samples = self.image.samples
        part = self.crop.enlarged(int(upscaler.scale))
        result = np.empty((part.height, part.width, *samples.shape[2:]), samples.dtype)
        height, width = samples.shape[:2]
        to_width, to_height = TargetSize(scale=upscaler.scale).for_source(width, height)
        upsampling = upscaler.family.upsampling((height, width), (to_height, to_width))
        with Workers(worker_count(upsampling)) as workers:
            top = -part.y
            for strip in upscale_strips(samples, upsampling, workers, alpha=self.image.has_alpha).iterator:
                first, last = max(top, 0), min(top + len(strip), part.height)
                if first < last:
                    rows = strip[first - top : last - top]
                    result[first:last] = rows[:, part.x : part.x + part.width]
                top += len(strip)
                if top >= part.height:
                    break
        return self._rendering(result)

    def _rendering(self, samples: NDArray[Any]) -> Rendering:
        return Rendering(samples, _luma(samples, self.image.has_alpha, self.has_color))


def open_image(path: Path, scale: int, crop: Crop | None, check_size: Callable[[Crop], None]) -> ImageStill:
    """Read an image.

    Args:
        path: the file.
        scale: by how much it is going to be upscaled.
        crop: the part to show; the whole if None.
        check_size: called with the part before any pixel is decoded; it may raise.

    Raises:
        InputError: the file cannot be read, is too large, or the crop is not inside the image.
    """
    part = crop

    def approve(header: Header) -> None:
        nonlocal part
        if header.width * header.height * scale**2 > MAX_OUTPUT_PIXELS:
            raise ImageTooLarge(
                f"{path}: would become {header.width * scale} x {header.height * scale} pixels, more than "
                f"the limit of {MAX_OUTPUT_PIXELS}; cut out a part of the file first"
            )
        part = inside(path, crop, header.width, header.height)
        check_size(part)

    image = read(path, approve)
    assert part is not None
    return ImageStill(image, part)


def inside(path: Path, crop: Crop | None, width: int, height: int) -> Crop:
    """Return the crop, or the whole of a ``width`` x ``height`` image if it is None.

    Raises `InputError` if the crop is not inside the image.
    """
    if crop is None:
        return Crop(0, 0, width, height)
    if crop.x + crop.width > width or crop.y + crop.height > height:
        raise InputError(
            f"{path}: the crop {','.join(map(str, crop))} (X,Y,WIDTH,HEIGHT) is not inside the "
            f"{width} x {height} pixels; make it smaller"
        )
    return crop


def _luma(samples: NDArray[Any], alpha: bool, color: bool) -> NDArray[np.uint8]:
    """8-bit luma as in the protocol; with alpha, of the image in front of gray."""
    if samples.dtype == np.uint16:
        samples = ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)
    opacity = None
    if alpha:
        opacity = samples[..., -1].astype(np.float32) / 255
        samples = samples[..., 0] if samples.shape[2] == 2 else samples[..., :3]
    if color and samples.ndim == 2:
        samples = np.repeat(samples[..., None], 3, axis=2)
    result = luma_8bit(samples)
    if opacity is not None:
        result = np.floor((result - np.float32(128)) * opacity + 128.5).astype(np.uint8)
    return result

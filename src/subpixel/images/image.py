"""What passes between file, network and file: upright samples, their metadata, and warnings."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.images import exif as exif_blocks
from subpixel.images.palette import Palette

_MAX_DPI = 65_535
"""The most that JPEG can store."""


@dataclass(frozen=True)
class GainMap:
    """The gain map of an Ultra HDR JPEG: by how much each part of the image is brighter on an HDR screen."""

    samples: NDArray[Any]
    """``(H, W)`` or ``(H, W, 3)``, uint8, upright, usually smaller than the image."""
    image_size: tuple[int, int]
    """Width and height of the upright image that it belongs to."""
    segments: tuple[bytes, ...] = ()
    """The segments of its file that state how it is applied, encoded."""
    is_iso: bool = False
    """Whether the image states by ISO 21496-1 that it has a gain map."""
    is_xmp: bool = False
    """Whether it states so by XMP."""


@dataclass
class Metadata:
    """Metadata of an image file. Each format stores as much of it as it can."""

    icc: bytes | None = None
    exif: bytes | None = None
    """A TIFF structure, without the prefix ``Exif\\0\\0`` of some formats."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical. Upscaling keeps it, so the printed image gets larger."""
    aspect: tuple[int, int] | None = None
    """Horizontal and vertical pixels per unknown unit of length, if pixels are not square."""
    iptc: bytes | None = None
    """IPTC-IIM records: titles, keywords, credits."""
    comment: bytes | None = None
    """The comment of a JPEG, in an unknown encoding."""
    gain_map: GainMap | None = None
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """Type and body of chunks that only PNG can store, such as its color space and its texts."""

    @property
    def cicp(self) -> tuple[int, int] | None:
        """Color primaries and transfer of ITU-T H.273, if they are the color space of the samples."""
        body = dict(self.png_chunks).get(b"cICP", b"")
        return (body[0], body[1]) if len(body) == 4 and body[2:] == b"\0\1" else None

    def read_orientation(self, warnings: list[str]) -> int:
        """Return the orientation of the stored samples, 1 to 8, from EXIF, or else from XMP.

        Also rotates the resolution to match the upright image, and drops damaged EXIF with a warning.
        """
        orientation = None
        if self.exif:
            try:
                orientation = exif_blocks.orientation(self.exif)
                exif_blocks.update_exif(self.exif, 1, 1)  # fails now rather than after the work
            except ValueError as error:
                warnings.append(f"its EXIF data is damaged and was dropped ({error})")
                self.exif = None
        orientation = orientation or exif_blocks.xmp_orientation(self.xmp or b"")
        self.rotate_resolution(orientation)
        return orientation

    def rotate_resolution(self, orientation: int) -> None:
        """Swap horizontal and vertical resolution if the orientation swaps the axes."""
        if swaps_axes(orientation):
            self.dpi = self.dpi and (self.dpi[1], self.dpi[0])
            self.aspect = self.aspect and (self.aspect[1], self.aspect[0])

    def updated(self, width_px: int, height_px: int) -> "Metadata":
        """Return the metadata for the upright image of the new size. An invalid dpi is dropped."""
        return replace(
            self,
            exif=exif_blocks.update_exif(self.exif, width_px, height_px) if self.exif else None,
            xmp=exif_blocks.update_xmp(self.xmp) if self.xmp else None,
            dpi=self.dpi if self.dpi and all(0 < value <= _MAX_DPI for value in self.dpi) else None,
        )


@dataclass
class DecodedImage:
    """The upright samples of an image file, with its metadata."""

    samples: NDArray[Any]
    """``(H, W)`` gray, ``(H, W, 2)`` gray and alpha, ``(H, W, 3)`` RGB, or ``(H, W, 4)`` RGB and alpha; uint8
    or uint16 over the whole range. Alpha is straight: the colors are not multiplied by it."""
    metadata: Metadata = field(default_factory=Metadata)
    warnings: list[str] = field(default_factory=list)
    """What reading changed or dropped, in plain words."""
    bits: int = 0
    """Significant bits of each sample, if fewer than those of the dtype; otherwise 0."""

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.samples.ndim == 3 and self.samples.shape[2] in (2, 4)


KEEP_ALL_FRAMES = "; write GIF, WebP or PNG to keep all"
"""The end of `first_frame_warning`."""


def first_frame_warning(frames: int) -> str:
    """The warning about an animation of which only one frame is read."""
    return f"is an animation of {frames} frames, of which only the first is upscaled{KEEP_ALL_FRAMES}"


class Header(NamedTuple):
    """What is known of an image before its pixels are decoded."""

    width: int
    """Of the upright image, in pixels."""
    height: int
    """Of the upright image, in pixels."""
    channels: int
    is_16_bit: bool
    """Whether samples have 16 bits rather than 8."""
    copies: int = 1
    """How many copies of the samples the decoder has in memory."""
    gain_map_bytes: int = 0
    """Size of the samples of its gain map."""
    file_bytes: int = 0
    """What the decoder has in memory of the file, until the samples are decoded."""

    @property
    def nbytes(self) -> int:
        """Size of the samples in bytes."""
        return self.width * self.height * self.channels * (2 if self.is_16_bit else 1)


class Strips(NamedTuple):
    """An image to be written, as an iterator of strips from top to bottom."""

    shape: tuple[int, ...]
    """Of the complete image: ``(H, W)`` or ``(H, W, 2 to 4)``, as in `DecodedImage`."""
    dtype: np.dtype[Any]
    rows: int
    """Rows of each strip, a multiple of 16. The last strip may have fewer."""
    iterator: Iterator[NDArray[Any]]
    palette: Palette | None = None
    """All colors, if they are known and few."""

    @property
    def channels(self) -> int:
        """Number of channels, alpha included."""
        return self.shape[2] if len(self.shape) == 3 else 1

    def to_array(self) -> NDArray[Any]:
        """Collect all strips in one array of `shape`."""
        samples = np.empty(self.shape, self.dtype)
        for top, strip in zip(range(0, self.shape[0], self.rows), self.iterator, strict=True):
            samples[top : top + self.rows] = strip
        return samples


def apply_orientation(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and flip stored samples upright, by EXIF's orientation tag (0x0112, EXIF 2.32 section 4.6.4).

    Args:
        samples: ``(H, W)`` or ``(H, W, C)``, any dtype.
        orientation: 1 to 8; any other value counts as 1.

    Returns:
        A view.
    """
    if orientation in (3, 4):
        samples = samples[::-1]
    if orientation in (2, 3):
        samples = samples[:, ::-1]
    if orientation in (6, 7):
        samples = samples[::-1]
    if orientation in (7, 8):
        samples = samples[:, ::-1]
    return samples.swapaxes(0, 1) if swaps_axes(orientation) else samples


def swaps_axes(orientation: int) -> bool:
    """Whether an orientation swaps width and height."""
    return orientation in (5, 6, 7, 8)


def drop_opaque_alpha(samples: NDArray[Any]) -> NDArray[Any]:
    """Remove the alpha channel if it is opaque everywhere.

    Args:
        samples: ``(H, W, 2 or 4)``, uint8 or uint16.

    Returns:
        A view without alpha, or the input if any pixel is transparent.
    """
    if not (samples[..., -1] == np.iinfo(samples.dtype).max).all():
        return samples
    return samples[..., 0] if samples.shape[2] == 2 else samples[..., :3]

"""A picture between its file and the network: samples that stand upright, and what goes with them."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.images import exif as exif_blocks

_MAX_DPI = 65_535  # as JPEG can hold; what is not above 0 means nothing


@dataclass
class Metadata:
    """What a file says about its picture. Each format carries as much of it as it can."""

    icc: bytes | None = None
    exif: bytes | None = None
    """A TIFF structure, without the ``Exif\\0\\0`` that some formats put in front."""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    """Across and down. Enlarging leaves it as it is, so the picture gets larger in print as well."""
    aspect: tuple[int, int] | None = None
    """Pixels in some length, across and down, where pixels are not square and nothing says how long it is."""
    iptc: bytes | None = None
    """IPTC-IIM records: titles, keywords, credits."""
    comment: bytes | None = None
    """A comment of JPEG's, in no known encoding."""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """Chunks that have no home outside PNG (its color space, its texts), as type and body."""

    def orientation(self, notices: list[str]) -> int:
        """How the stored picture stands, 1 to 8, by its EXIF or else its XMP; its resolution is turned too.

        Damaged EXIF is dropped.
        """
        stated = None
        if self.exif:
            try:
                stated = exif_blocks.orientation(self.exif)
                exif_blocks.updated(self.exif, 1, 1)  # as will be done to it in the end
            except ValueError as error:
                notices.append(f"its EXIF data is damaged and was left out ({error})")
                self.exif = None
        turn = stated or exif_blocks.xmp_orientation(self.xmp or b"")
        self.turn(turn)
        return turn

    def turn(self, orientation: int) -> None:
        """Turn the resolution with a picture that is turned upright."""
        if swaps_axes(orientation):
            self.dpi = self.dpi and (self.dpi[1], self.dpi[0])
            self.aspect = self.aspect and (self.aspect[1], self.aspect[0])

    def updated(self, width_px: int, height_px: int) -> "Metadata":
        """The metadata of the picture now upright and ``width_px`` x ``height_px`` large."""
        return replace(
            self,
            exif=exif_blocks.updated(self.exif, width_px, height_px) if self.exif else None,
            xmp=exif_blocks.updated_xmp(self.xmp) if self.xmp else None,
            dpi=self.dpi if self.dpi and all(0 < value <= _MAX_DPI for value in self.dpi) else None,
        )


@dataclass
class Picture:
    """Samples and what goes with them."""

    samples: NDArray[Any]
    """``(H, W)`` gray, ``(H, W, 2)`` gray and alpha, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGB and alpha; uint8
    or uint16, spanning the whole range. Alpha is straight, not multiplied into the colors."""
    metadata: Metadata = field(default_factory=Metadata)
    notices: list[str] = field(default_factory=list)
    """What had to be changed on the way, in words for people."""

    @property
    def alpha(self) -> bool:
        """Whether the last band is alpha."""
        return self.samples.ndim == 3 and self.samples.shape[2] in (2, 4)


class Header(NamedTuple):
    """What is known of a picture before its pixels are decoded."""

    width: int
    """In pixels, upright, as `height`."""
    height: int
    bands: int
    deep: bool
    """Whether samples have 16 bits."""
    copies: int = 1
    """How many times the samples are in memory while they are decoded."""

    @property
    def nbytes(self) -> int:
        """Of the samples."""
        return self.width * self.height * self.bands * (2 if self.deep else 1)


class Strips(NamedTuple):
    """Samples on their way to a file, from top to bottom."""

    shape: tuple[int, ...]
    """Of the whole: ``(H, W)`` or ``(H, W, 2 to 4)``, as in `Picture`."""
    dtype: np.dtype[Any]
    rows: int
    """Of each strip but the last, which may be lower: a multiple of 16."""
    each: Iterator[NDArray[Any]]

    @property
    def bands(self) -> int:
        """How many there are, alpha included."""
        return self.shape[2] if len(self.shape) == 3 else 1

    def whole(self) -> NDArray[Any]:
        """All of them as one array."""
        samples = np.empty(self.shape, self.dtype)
        for top, strip in zip(range(0, self.shape[0], self.rows), self.each, strict=True):
            samples[top : top + self.rows] = strip
        return samples


def upright(samples: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror an image as EXIF's orientation tag (0x0112, EXIF 2.32 section 4.6.4) asks.

    Args:
        samples: ``(H, W)`` or ``(H, W, C)``, any dtype.
        orientation: 1 to 8; anything else counts as 1.

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
    """Whether the upright picture is as wide as the stored one is high."""
    return orientation in (5, 6, 7, 8)


def without_opaque_alpha(samples: NDArray[Any]) -> NDArray[Any]:
    """Leave out the alpha of an image ``(H, W, 2 or 4)`` that is opaque everywhere; unsigned integers."""
    if not (samples[..., -1] == np.iinfo(samples.dtype).max).all():
        return samples
    return samples[..., 0] if samples.shape[2] == 2 else samples[..., :3]

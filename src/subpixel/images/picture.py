"""A picture between its file and the network: samples that stand upright, and what goes with them."""

from dataclasses import dataclass, field, replace
from typing import Any

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
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """Chunks that have no home outside PNG (its colour space, its texts), as type and body."""

    def orientation(self, notices: list[str]) -> int:
        """How the stored picture stands, 1 to 8, by its EXIF or else its XMP. Damaged EXIF is dropped."""
        stated = None
        if self.exif:
            try:
                stated = exif_blocks.orientation(self.exif)
                exif_blocks.updated(self.exif, 1, 1)  # as will be done to it in the end
            except ValueError as error:
                notices.append(f"its EXIF data is damaged and was left out ({error})")
                self.exif = None
        return stated or exif_blocks.xmp_orientation(self.xmp or b"")

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
    """``(H, W)`` grey, ``(H, W, 2)`` grey and alpha, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGB and alpha; uint8
    or uint16, spanning the whole range. Alpha is straight, not multiplied into the colours."""
    metadata: Metadata = field(default_factory=Metadata)
    notices: list[str] = field(default_factory=list)
    """What had to be changed on the way, in words for people."""

    @property
    def alpha(self) -> bool:
        """Whether the last band is alpha."""
        return self.samples.ndim == 3 and self.samples.shape[2] in (2, 4)


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

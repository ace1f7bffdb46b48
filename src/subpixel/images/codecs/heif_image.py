"""What HEIC and AVIF share: depth, rotation, colors and warnings of a decoded image."""

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.images.heif_description import Description
from subpixel.images.image import DecodedImage, Metadata

_SRGB_TRANSFER, _UNSPECIFIED = 13, 2
_LUMINANCE_STEPS = 10_000
"""PNG counts light in steps of 0.0001 cd/m2, HEIF in cd/m2 for clli."""


def to_full_range(samples: NDArray[Any], bits: int) -> NDArray[Any]:
    """Scale samples of 1 to 16 bits to the full range of their dtype, in place."""
    peak, full = (1 << bits) - 1, np.iinfo(samples.dtype).max
    if bits in (8, 16) or peak > full:
        return samples
    for row in samples:
        row[...] = (row.astype(np.uint32) * full + peak // 2) // peak
    return samples


def upright(samples: NDArray[Any], found: Description) -> NDArray[Any]:
    """Crop, rotate and mirror stored samples as the boxes say. The result is a view."""
    if found.crop:
        left, top, width, height = found.crop
        samples = samples[top : top + height, left : left + width]
    for transform in found.transforms:
        samples = np.rot90(samples, transform.quarter_turns)
        if transform.mirrored:
            samples = samples[::-1] if transform.mirrored == b"rows" else samples[:, ::-1]
    return samples


def decoded(samples: NDArray[Any], found: Description) -> DecodedImage:
    """Add metadata and warnings to upright samples.

    The boxes alone decide the orientation (ISO/IEC 23000-22, 7.3.6.7): cameras also write it to EXIF, where
    it is not applied again.
    """
    metadata = Metadata(icc=found.icc, exif=found.exif, xmp=found.xmp)
    warnings: list[str] = []
    metadata.read_orientation(warnings)  # checks EXIF
    swapped = sum(transform.quarter_turns for transform in found.transforms) % 2
    metadata.aspect = found.aspect and (found.aspect[::-1] if swapped else found.aspect)
    metadata.png_chunks = _color_chunks(found)
    if found.others:
        verb = "was" if len(found.others) == 1 and not found.others[0].endswith("s") else "were"
        warnings.append(f"it also contains {' and '.join(found.others)}, which {verb} dropped")
    return DecodedImage(samples, metadata, warnings, found.bits)


def _color_chunks(found: Description) -> tuple[tuple[bytes, bytes], ...]:
    """The color space as chunks of PNG. A profile takes precedence; sRGB needs none."""
    if found.icc or not found.cicp:
        return ()
    primaries, transfer = found.cicp[:2]
    if _UNSPECIFIED in (primaries, transfer) or (primaries, transfer) == (1, _SRGB_TRANSFER):
        return ()
    chunks = [(b"cICP", bytes([primaries & 255, transfer & 255, 0, 1]))]
    if found.mastering and len(found.mastering) == 24:
        green, blue, red, white = (found.mastering[at : at + 4] for at in range(0, 16, 4))
        chunks.append((b"mDCV", red + green + blue + white + found.mastering[16:]))
    if found.light and len(found.light) == 4:
        chunks.append(
            (
                b"cLLI",
                struct.pack(
                    ">II", *(level * _LUMINANCE_STEPS for level in struct.unpack(">HH", found.light))
                ),
            )
        )
    return tuple(chunks)


def light_properties(chunks: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
    """The boxes mdcv and clli for the chunks mDCV and cLLI of a PNG."""
    properties = []
    for name, body in chunks:
        if name == b"mDCV" and len(body) == 24:
            red, green, blue, white = (body[at : at + 4] for at in range(0, 16, 4))
            properties.append((b"mdcv", green + blue + red + white + body[16:]))
        elif name == b"cLLI" and len(body) == 8:
            levels = (min(0xFFFF, round(level / _LUMINANCE_STEPS)) for level in struct.unpack(">II", body))
            properties.append((b"clli", struct.pack(">HH", *levels)))
    return properties

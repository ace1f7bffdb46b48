"""Reads and writes AVIF: boxes and metadata here, samples by libavif through imagecodecs.

libavif gives samples as they are stored, in 8, 10 or 12 bits. It needs the complete image in memory.
"""

from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images.codecs import heif_image
from subpixel.images.codecs.avif_metadata import Addition, add_metadata
from subpixel.images.formats import AVIF, LOSSLESS_QUALITY, bits_per_sample
from subpixel.images.heif import read_container
from subpixel.images.heif_description import describe
from subpixel.images.image import DecodedImage, Header, Metadata, Strips

_SPEED = 8
"""Of libaom, from 0 (slow) to 10: a third of the time of 6, for files of about the same size and quality."""
_UNSPECIFIED, _SRGB = (2, 2), (1, 13)
_IDENTITY, _BT709, _BT2020 = 0, 1, 9
_MATRICES = {9: _BT2020}
"""Matrices of H.273 by primaries; BT.709 for others. For BT.601, libavif uses libyuv, which truncates chroma
of 8-bit RGB: on average red is 0.55 and blue 0.7 too dark, and green 0.5 too bright."""
_COPIES = 4
"""Copies of the samples: YUV of the decoder, YUV of libavif, RGB, and what this module computes."""


def read(path: Path, approve: Callable[[Header], None]) -> DecodedImage:
    """Read an AVIF file. ``approve`` gets the header before pixels are decoded."""
    import imagecodecs

    container = read_container(path)
    if container.has_sequence and container.brands[:1] == (b"avis",):
        raise UnsupportedImage(f"{path}: is an AVIF animation; pass the frames one by one")
    found = describe(container)
    channels = (1 if found.is_gray else 3) + found.has_alpha
    approve(Header(*found.upright_size, channels, found.bits > 8, _COPIES))
    samples = imagecodecs.avif_decode(path.read_bytes(), index=0)
    if samples.shape[:2] != (found.height, found.width):
        raise UnreadableImage(
            f"{path}: the AVIF file is damaged (its sizes contradict each other); get it again"
        )
    samples = heif_image.to_full_range(samples, found.bits)
    return heif_image.decoded(heif_image.upright(samples, found), found)


def write(file: IO[bytes], strips: Strips, metadata: Metadata, quality: int) -> None:
    """Write samples and metadata as an AVIF file with full color resolution (4:4:4)."""
    import imagecodecs

    samples = strips.to_array()
    lossless = quality == LOSSLESS_QUALITY
    bits = 8
    if samples.dtype == np.uint16:
        bits = bits_per_sample(AVIF, quality)
        samples = _reduced(samples, bits)
    primaries, transfer = _colors(metadata)
    matrix = _IDENTITY if lossless and strips.channels > 2 else _MATRICES.get(primaries, _BT709)
    data = imagecodecs.avif_encode(
        samples, quality, speed=_SPEED, bitspersample=bits, pixelformat=1 if strips.channels > 2 else None,
        primaries=primaries, transfer=transfer, matrix=matrix, numthreads=0,
    )  # fmt: skip
    file.write(add_metadata(bytes(data), _additions(metadata)))


def _colors(metadata: Metadata) -> tuple[int, int]:
    """Primaries and transfer of ITU-T H.273."""
    if metadata.icc:
        return _UNSPECIFIED
    return (metadata.cicp[0], metadata.cicp[1]) if metadata.cicp else _SRGB


def _additions(metadata: Metadata) -> Addition:
    return Addition(
        icc=metadata.icc,
        exif=metadata.exif,
        xmp=metadata.xmp,
        properties=heif_image.light_properties(metadata.png_chunks),
    )


def _reduced(samples: NDArray[Any], bits: int) -> NDArray[np.uint16]:
    """Round 16-bit samples to fewer bits."""
    peak = (1 << bits) - 1
    result = np.empty(samples.shape, np.uint16)
    for row, out in zip(samples, result, strict=True):
        out[...] = (row.astype(np.uint32) * peak + 32767) // 65535
    return result

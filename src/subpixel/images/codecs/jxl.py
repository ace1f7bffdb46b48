"""Reads and writes JPEG XL: header and metadata here, samples by libjxl through imagecodecs.

libjxl needs the complete image in memory. imagecodecs passes neither color profiles nor metadata: metadata is
in boxes around the codestream, which this module reads and writes, as it does the color space in its header.
It does not read ICC profiles, and writes none.
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images.codecs import png_colors
from subpixel.images.codecs.heif_image import to_full_range
from subpixel.images.formats import LOSSLESS_QUALITY
from subpixel.images.image import DecodedImage, Header, Metadata, Strips
from subpixel.images.jxl_header import (
    CICP_PRIMARIES,
    CICP_TRANSFERS,
    CONTAINER,
    JxlHeader,
    read_header,
    with_cicp,
)

_EFFORT, _LOSSLESS_EFFORT = 5, 3
"""Of libjxl, from 1 to 10. Its default, 7, takes two times as long, and 13 times without loss, for files that
are smaller by less than 1% and by 11%."""
_COPIES = 4
"""Copies of the samples: libjxl computes with floats."""
_SRGB = (1, 13)
"""Primaries and transfer of ITU-T H.273."""
_UNKNOWN = 2
_LEVEL = 10
"""The level of codestreams with 16 bits."""
_ALPHA = 0


def read(path: Path, approve: Callable[[Header], None]) -> DecodedImage:
    """Read a JPEG XL file. ``approve`` gets the header before pixels are decoded."""
    import imagecodecs

    header = read_header(path)
    _check_supported(path, header)
    channels = (1 if header.is_gray else 3) + len(header.extra_channels)
    is_16_bit = header.bits > 8
    approve(Header(header.width, header.height, channels, is_16_bit, _COPIES))
    samples = imagecodecs.jpegxl_decode(path.read_bytes(), numthreads=0)
    if samples.shape[:2] != (header.height, header.width):
        raise UnreadableImage(
            f"{path}: the JPEG XL file is damaged (its sizes contradict each other); get it again"
        )
    samples = to_full_range(samples, header.bits)
    metadata = Metadata(exif=header.exif, xmp=header.xmp)
    warnings = header.warnings
    metadata.read_orientation(warnings)  # checks EXIF; libjxl applies the orientation of the codestream
    if header.color:
        metadata.png_chunks = _color_chunks(header)
    elif not header.is_xyb:
        warnings.append("its color profile cannot be read, so colors may look different; pass a PNG of it")
    return DecodedImage(samples, metadata, warnings, header.bits)


def write(file: IO[bytes], strips: Strips, metadata: Metadata, quality: int) -> None:
    """Write samples and metadata as a JPEG XL file, in sRGB, or in the colors of `stores_cicp`."""
    import imagecodecs

    samples = strips.to_array()
    lossless = quality == LOSSLESS_QUALITY
    options: dict[str, Any] = {"lossless": True} if lossless else {"distance": distance(quality)}
    options["effort"] = _LOSSLESS_EFFORT if lossless else _EFFORT
    deep = samples.dtype == np.uint16
    if deep and not lossless:
        _linearize(samples)
    # imagecodecs states sRGB for 8 bits, and linear light for 16.
    data = imagecodecs.jpegxl_encode(samples, numthreads=0, usecontainer=True, **options)
    codestream = _codestream(bytes(data))
    colors = metadata.cicp or _SRGB
    if deep or colors != _SRGB:
        codestream = with_cicp(codestream, *colors)
    file.write(CONTAINER)
    file.write(_box(b"ftyp", b"jxl \0\0\0\0jxl "))
    if deep:
        file.write(_box(b"jxll", bytes([_LEVEL])))
    if metadata.exif:
        file.write(_box(b"Exif", bytes(4) + metadata.exif))
    if metadata.xmp:
        file.write(_box(b"xml ", metadata.xmp))
    file.write(_box(b"jxlc", codestream))


def stores_cicp(cicp: tuple[int, int] | None, quality: int) -> bool:
    """Whether an image with these primaries and this transfer (ITU-T H.273) keeps them in the file.

    Lossy compression begins with a conversion from the colors of the image, which imagecodecs offers for sRGB
    and linear light only.
    """
    if cicp is None or quality != LOSSLESS_QUALITY:
        return False
    return cicp[0] in CICP_PRIMARIES and cicp[1] in CICP_TRANSFERS


def _codestream(data: bytes) -> bytes:
    """The codestream in a container of libjxl."""
    start = data.index(b"jxlc") + 4
    size = int.from_bytes(data[start - 8 : start - 4])
    if size == 1:
        start += 8
    return bytes(memoryview(data)[start : start - 8 + size if size > 1 else None])


def _linearize(samples: NDArray[np.uint16]) -> None:
    """Convert 16-bit samples from sRGB to linear light, in place; not alpha."""
    table = np.round(png_colors.srgb_to_linear(np.linspace(0, 1, 65536)) * 65535).astype(np.uint16)
    colors = samples if samples.ndim == 2 else samples[..., : samples.shape[2] - (samples.shape[2] in (2, 4))]
    for row in colors:
        row[...] = table[row]


def distance(quality: int) -> float:
    """The Butteraugli distance for a quality from 1 to 99, by the formula of cjxl."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25


def _check_supported(path: Path, header: JxlHeader) -> None:
    problem = None
    if header.is_animated:
        problem = "is an animation; pass the frames one by one"
    elif header.is_float or header.bits > 16:
        problem = "has floating-point samples or more than 16 bits; convert it to a 16-bit PNG first"
    elif header.extra_channels not in ([], [_ALPHA]):
        problem = "has channels beside color and alpha; convert it to PNG first"
    elif header.associated_alpha:
        problem = "has colors that are multiplied by alpha; convert it to PNG first"
    if problem:
        raise UnsupportedImage(f"{path}: {problem}")


def _color_chunks(header: JxlHeader) -> tuple[tuple[bytes, bytes], ...]:
    """The color space as chunks of PNG; none for sRGB."""
    color = header.color
    assert color is not None
    if color.transfer == _UNKNOWN or (color.primaries, color.transfer) == _SRGB:
        return ()
    if color.primaries and color.transfer:
        return ((b"cICP", bytes([color.primaries, color.transfer & 255, 0, 1])),)
    gamma = color.gamma or {8: 1.0}.get(color.transfer, 0.45455)
    values = [value for point in (color.white, *color.points) for value in point]
    if not all(0 <= value < 2 for value in values):
        return ()
    chromaticities = struct.pack(">8I", *(round(value * 100_000) for value in values))
    return (b"gAMA", round(gamma * 100_000).to_bytes(4)), (b"cHRM", chromaticities)


def _box(name: bytes, body: bytes) -> bytes:
    if len(body) + 8 >= 1 << 32:
        return struct.pack(">I4sQ", 1, name, 16 + len(body)) + body
    return struct.pack(">I4s", 8 + len(body), name) + body

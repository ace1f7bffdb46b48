"""How strongly a picture file was compressed, read from its header without decoding a pixel."""

import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from subpixel.images.formats import JPEG, TIFF, WEBP, Format, recognize

CLEAN_QUALITY: dict[Format, float] = {JPEG: 96, WEBP: 92}
"""From this quality on, a picture is enlarged no better by a network for compressed ones than by the one for
clean ones. ``benchmarks/compression.py`` measures it; in between the two are within 0.05 dB of each other."""

IJG_LUMA_SUM = 3688
"""Of the luma table in annex K of the JPEG standard (ITU-T T.81), which the IJG's quality 50 has as it is."""

_COMPRESSION, _STRIPS, _TILES, _JPEG_TABLES = 259, 273, 324, 347
_JPEG_IN_TIFF = 7
"""Tags of TIFF 6.0 and its supplement 2, and the compression that this brought."""

_MOST_HEADER_BYTES = 1 << 16
"""Of a JPEG in a TIFF: its tables and its frame header."""

_MOST_VP8_QUANTIZER = 127
_VP8_HEADER_BYTES = 10
_SEGMENTS = 4


def lossy_quality(path: Path) -> tuple[Format, float] | None:
    """The format and the quality of a picture that was compressed with loss; None for any other, or none.

    The quality is on the format's usual scale: that of the IJG's library for JPEG, that of libwebp for WebP.
    """
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError:
        return None
    kind = recognize(start)
    if kind is TIFF:
        kind, quality = JPEG, tiff_quality(path)
    else:
        quality = jpeg_quality(path) if kind is JPEG else webp_quality(path) if kind is WEBP else None
    return None if quality is None or not isinstance(kind, Format) else (kind, quality)


def jpeg_quality(path: Path) -> float | None:
    """How little a JPEG was compressed, on the scale up to 100 that encoders have from the IJG's library.

    From its quantization table for luma, by the scale's formula at the table's mean; None where there is no
    table to be read, as in what is no JPEG.
    """
    try:
        with path.open("rb") as file:
            return _jpeg_quality(file)
    except OSError:
        return None


def _jpeg_quality(file: BinaryIO) -> float | None:
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        # Pillow reads the EXIF data as well, and warns where it is damaged.
        with warnings.catch_warnings(action="ignore"), JpegImageFile(file) as picture:
            tables: Mapping[int, Sequence[int]] = picture.quantization
            percent = 100 * sum(tables[min(tables)]) / IJG_LUMA_SUM
    except (OSError, SyntaxError, ValueError):
        return None
    return 100 - percent / 2 if percent <= 100 else 5000 / percent


def tiff_quality(path: Path) -> float | None:
    """The same of the first of the JPEGs that are a TIFF's strips or tiles; None where there are none."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            head = file.read(8)
            if head[2] == 43:  # BigTIFF; Pillow does not know a big-endian one
                head += file.read(8)
            tags = ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
            if tags.get(_COMPRESSION) != _JPEG_IN_TIFF:
                return None
            tables = bytes(tags.get(_JPEG_TABLES, b""))
            places = list(tags.get(_STRIPS) or tags.get(_TILES) or ())
            file.seek(places[0])
            start = file.read(_MOST_HEADER_BYTES)
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error):
        return None
    # An abbreviated stream lacks the tables, which are one of their own, from start-of-image to its end.
    return _jpeg_quality(BytesIO(tables[:-2] + start[2:] if tables else start))


def webp_quality(path: Path) -> float | None:
    """How little a WebP was compressed, on libwebp's scale up to 100; None for one without loss, or damaged.

    From the quantizer in the header of its VP8 frame (RFC 6386, section 9), by libwebp's formula: the mean of
    those of its segments, where it has some.
    """
    try:
        frame = next((body for name, body in _chunks(path) if name == b"VP8 "), b"")
        if len(frame) <= _VP8_HEADER_BYTES:
            return None
        share = (1 - _vp8_quantizer(frame[_VP8_HEADER_BYTES:]) / _MOST_VP8_QUANTIZER) ** 3
    except (OSError, struct.error, IndexError):
        return None
    return 150 * share if share < 0.5 else 50 * (1 + share)


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Names and beginnings of a WebP file's chunks, enough of each for the header of a frame."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            here = file.tell()
            yield name, file.read(min(size, 256))
            file.seek(here + size + size % 2)


def _vp8_quantizer(header: bytes) -> float:
    """The quantizer of a VP8 key frame, 0 to 127, from what follows its size.

    Raises IndexError where that is cut off.
    """
    bits = _BoolDecoder(header)
    bits.number(2)  # color space, clamping
    segments: list[int] = []
    absolute = False
    if bits.number(1):
        new_map, new_values = bits.number(1), bits.number(1)
        if new_values:
            absolute = bool(bits.number(1))
            segments = [bits.optional(7) for _ in range(_SEGMENTS)]
            for _ in range(_SEGMENTS):
                bits.optional(6)  # of the loop filter
        if new_map:
            for _ in range(3):
                if bits.number(1):
                    bits.number(8)
    bits.number(1 + 6 + 3)  # the loop filter
    if bits.number(1) and bits.number(1):
        for _ in range(8):
            bits.optional(6)
    bits.number(2)  # partitions
    base = bits.number(7)
    if not segments:
        return base
    quantizers = [value if absolute else base + value for value in segments]
    return sum(min(max(value, 0), _MOST_VP8_QUANTIZER) for value in quantizers) / _SEGMENTS


class _BoolDecoder:
    """VP8's arithmetic decoder (RFC 6386, section 7), for bits that are as often 0 as 1, as in headers."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 2
        self._value = data[0] << 8 | data[1]
        self._range = 255
        self._shifted = 0

    def _bit(self) -> int:
        split = 1 + ((self._range - 1) * 128 >> 8)
        bit = int(self._value >= split << 8)
        if bit:
            self._range -= split
            self._value -= split << 8
        else:
            self._range = split
        while self._range < 128:
            self._value <<= 1
            self._range <<= 1
            self._shifted += 1
            if self._shifted == 8:
                self._shifted = 0
                self._value |= self._data[self._place]
                self._place += 1
        return bit

    def number(self, count: int) -> int:
        """An unsigned number of so many bits."""
        value = 0
        for _ in range(count):
            value = value << 1 | self._bit()
        return value

    def optional(self, count: int) -> int:
        """A number with its sign behind it, 0 where a first bit says that there is none."""
        if not self.number(1):
            return 0
        value = self.number(count)
        return -value if self.number(1) else value

"""The quality of lossy image files, estimated from their headers without decoding a pixel."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from subpixel.files import is_file
from subpixel.images import av1, hevc
from subpixel.images.formats import AVIF, HEIC, JPEG, JXL, TIFF, WEBP, Format, recognize
from subpixel.images.heif import read_container
from subpixel.images.jxl_header import read_header
from subpixel.images.pillow_warnings import caught_warnings

CLEAN_QUALITY: dict[Format, float] = {JPEG: 96, WEBP: 92, AVIF: 87, HEIC: 55}
"""From this quality on, the model for compressed images is no better than the model for clean images.
``benchmarks/compression.py`` measures it; near this quality the two are within 0.05 dB of each other."""

IJG_LUMA_SUM = 3688
"""Sum of the luma quantization table in annex K of JPEG (ITU-T T.81). libjpeg uses it unscaled at quality
50."""

_COMPRESSION, _STRIPS, _TILES, _JPEG_TABLES = 259, 273, 324, 347
_JPEG_IN_TIFF = 7
"""Tags of TIFF 6.0 and its supplement 2, and the number of the compression that the supplement adds."""

_MAX_HEADER_BYTES = 1 << 16
"""Enough for the tables and the frame header of a JPEG inside a TIFF."""

_MAX_VP8_QUANTIZER = 127
_VP8_HEADER_BYTES = 10
_SEGMENTS = 4


def lossy_quality(path: Path) -> tuple[Format, float | None] | None:
    """Estimate the quality of an image file with lossy compression.

    Returns:
        The format (JPEG also for JPEGs inside a TIFF) and the quality, up to 100, on the scale of libjpeg,
        libwebp, libavif or libheif with x265; None if the headers do not tell, as in JPEG XL. None instead of
        both for lossless images, and for files that are not images or cannot be read.
    """
    if not is_file(path):  # opening a pipe would wait for its writer
        return None
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return None
    found = recognize(start)
    if found is JXL:
        return (JXL, None) if _is_lossy_jxl(path) else None
    if found in (AVIF, HEIC):
        return _heif_quality(path, found)
    lossy: Format
    if found is TIFF:
        lossy, quality = JPEG, tiff_quality(path)
    elif found is JPEG:
        lossy, quality = JPEG, jpeg_quality(path)
    elif found is WEBP:
        lossy, quality = WEBP, webp_quality(path)
    else:
        return None
    return None if quality is None else (lossy, quality)


def jpeg_quality(path: Path) -> float | None:
    """Estimate the quality of a JPEG file, on the scale of libjpeg up to 100.

    It inverts libjpeg's formula for the mean of the luma quantization table. None if there is no such table,
    or the file is not a JPEG.
    """
    try:
        with path.open("rb") as file:
            return _jpeg_quality(file)
    except OSError:
        return None


def _jpeg_quality(file: BinaryIO) -> float | None:
    from PIL.JpegImagePlugin import JpegImageFile

    try:
        # Pillow reads the EXIF data too, and warns if it is damaged.
        with caught_warnings(), JpegImageFile(file) as image:
            tables: Mapping[int, Sequence[int]] = image.quantization
            percent = 100 * sum(tables[min(tables)]) / IJG_LUMA_SUM
    except (OSError, SyntaxError, ValueError):
        return None
    return 100 - percent / 2 if percent <= 100 else 5000 / percent


def tiff_quality(path: Path) -> float | None:
    """Estimate the quality of the first JPEG strip or tile of a TIFF file; None if there is none."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        with path.open("rb") as file, caught_warnings():
            head = file.read(8)
            if head[2] == 43:  # BigTIFF; Pillow reads only little-endian ones
                head += file.read(8)
            tags = ImageFileDirectory_v2(head)
            file.seek(tags.next)
            tags.load(file)
            if tags.get(_COMPRESSION) != _JPEG_IN_TIFF:
                return None
            tables = bytes(tags.get(_JPEG_TABLES, b""))
            offsets = list(tags.get(_STRIPS) or tags.get(_TILES) or ())
            file.seek(offsets[0])
            start = file.read(_MAX_HEADER_BYTES)
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error):
        return None
    # The strips may be abbreviated: their tables are a separate stream from SOI to EOI.
    return _jpeg_quality(BytesIO(tables[:-2] + start[2:] if tables else start))


def webp_quality(path: Path) -> float | None:
    """Estimate the quality of a WebP file, on the scale of libwebp up to 100.

    It inverts libwebp's formula for the quantizer in the header of the VP8 frame (RFC 6386, section 9), or
    the mean of the quantizers of its segments. None if the file is lossless or damaged.
    """
    try:
        frame = next((body for name, body in _chunks(path) if name == b"VP8 "), b"")
        if len(frame) <= _VP8_HEADER_BYTES:
            return None
        share = (1 - _vp8_quantizer(frame[_VP8_HEADER_BYTES:]) / _MAX_VP8_QUANTIZER) ** 3
    except (OSError, struct.error, IndexError):
        return None
    return 150 * share if share < 0.5 else 50 * (1 + share)


def _is_lossy_jxl(path: Path) -> bool:
    try:
        return read_header(path).is_lossy
    except (OSError, ValueError):
        return False


def _heif_quality(path: Path, format: Format) -> tuple[Format, float | None] | None:
    """The quality of AVIF or HEIC; None if it is lossless or damaged."""
    try:
        container = read_container(path)
        item = container.coded_item(container.primary)
        data = container.data(item, _MAX_HEADER_BYTES)
    except (OSError, ValueError):
        return None
    try:
        if format is AVIF:
            index = av1.base_q_idx(data)
            return (AVIF, 100 - index / 3) if index else None
        parameter = hevc.quantization_parameter(item.find(b"hvcC") or b"", data)
        return HEIC, min(94 - 2 * parameter, 100)
    except (ValueError, IndexError):
        return format, None


def _chunks(path: Path) -> Iterator[tuple[bytes, bytes]]:
    """The chunks of a WebP file: name, and as much of the body as a frame header needs."""
    with path.open("rb") as file:
        file.seek(12)
        while len(head := file.read(8)) == 8:
            name, size = struct.unpack("<4sI", head)
            start = file.tell()
            if name == b"ANMF":  # a frame of an animation: chunks, after 16 bytes of its own
                file.seek(start + 16)
                continue
            yield name, file.read(min(size, 256))
            file.seek(start + size + size % 2)


def _vp8_quantizer(header: bytes) -> float:
    """Read the quantizer of a VP8 key frame, 0 to 127.

    Args:
        header: the bytes of the frame after its width and height.

    Raises:
        IndexError: the header is truncated.
    """
    bits = _BoolDecoder(header)
    bits.unsigned(2)  # color space, clamping
    segments: list[int] = []
    absolute = False
    if bits.unsigned(1):
        new_map, new_values = bits.unsigned(1), bits.unsigned(1)
        if new_values:
            absolute = bool(bits.unsigned(1))
            segments = [bits.optional_signed(7) for _ in range(_SEGMENTS)]
            for _ in range(_SEGMENTS):
                bits.optional_signed(6)  # of the loop filter
        if new_map:
            for _ in range(3):
                if bits.unsigned(1):
                    bits.unsigned(8)
    bits.unsigned(1 + 6 + 3)  # the loop filter
    if bits.unsigned(1) and bits.unsigned(1):
        for _ in range(8):
            bits.optional_signed(6)
    bits.unsigned(2)  # partitions
    base = bits.unsigned(7)
    if not segments:
        return base
    quantizers = [value if absolute else base + value for value in segments]
    return sum(min(max(value, 0), _MAX_VP8_QUANTIZER) for value in quantizers) / _SEGMENTS


class _BoolDecoder:
    """The arithmetic decoder of VP8 (RFC 6386, section 7), for bits of probability 1/2, as in headers."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 2
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
                self._value |= self._data[self._position]
                self._position += 1
        return bit

    def unsigned(self, count: int) -> int:
        """Read an unsigned integer of ``count`` bits."""
        value = 0
        for _ in range(count):
            value = value << 1 | self._bit()
        return value

    def optional_signed(self, count: int) -> int:
        """Read a presence bit, and if it is set, an integer of ``count`` bits and its sign; else return 0."""
        if not self.unsigned(1):
            return 0
        value = self.unsigned(count)
        return -value if self.unsigned(1) else value

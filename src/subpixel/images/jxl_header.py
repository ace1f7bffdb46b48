"""Reads the header of JPEG XL files (ISO/IEC 18181-1, and 18181-2 for the boxes), without decoding pixels."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

CODESTREAM, CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_MAX_HEADER_BYTES = 1 << 12
_MAX_METADATA_BYTES = 1 << 25
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_ENUM = ((0, 0), (0, 1), (4, 2), (6, 18))
_SIZE = ((9, 1), (13, 1), (18, 1), (30, 1))
_CUSTOM_XY = ((19, 0), (19, 1 << 19), (20, 1 << 20), (21, 1 << 21))
_GRAY, _XYB = 1, 2
_CUSTOM = 2
_ALPHA, _SPOT, _CFA = 0, 2, 5
_D65_XY = (0.3127, 0.3290)
_WHITES = {1: _D65_XY, 10: (1 / 3, 1 / 3), 11: (0.314, 0.351)}
_PRIMARIES = {
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),
    9: ((0.708, 0.292), (0.17, 0.797), (0.131, 0.046)),
    11: ((0.68, 0.32), (0.265, 0.69), (0.15, 0.06)),
}

CICP_PRIMARIES = {1: 1, 9: 9, 12: 11}
"""The numbers of JPEG XL for numbers of ITU-T H.273, with the white point D65."""
CICP_TRANSFERS = (1, 8, 13, 16, 18)
"""Transfers that have the same number in JPEG XL and in ITU-T H.273."""

Point = tuple[float, float]


@dataclass
class Color:
    """The color space of the samples, if no ICC profile defines it."""

    white: Point = _D65_XY
    points: tuple[Point, ...] = _PRIMARIES[1]
    """Chromaticities of red, green and blue."""
    primaries: int = 1
    """Their number in ITU-T H.273, or 0 if there is none."""
    transfer: int = 13
    """Of ITU-T H.273, or 0 if it is `gamma`."""
    gamma: float = 0.0
    """Exponent from linear light to samples."""


@dataclass
class JxlHeader:
    """What is known of a JPEG XL image before its pixels are decoded."""

    width: int = 0
    """Of the upright image."""
    height: int = 0
    bits: int = 8
    is_float: bool = False
    is_gray: bool = False
    is_animated: bool = False
    is_lossy: bool = False
    is_xyb: bool = False
    """Whether the decoder converts the colors, and so can give any color space."""
    extra_channels: list[int] = field(default_factory=list)
    """Their types; 0 is alpha."""
    associated_alpha: bool = False
    """Whether the colors are multiplied by alpha."""
    color: Color | None = None
    """None if an ICC profile defines it."""
    exif: bytes | None = None
    xmp: bytes | None = None
    warnings: list[str] = field(default_factory=list)
    color_bits: tuple[int, int] = (0, 0)
    """Where the color space is in the codestream: its first bit, and the bit after its last."""
    end_bit: int = 0
    """Where the header ends in the codestream."""


class _Bits:
    """Reads bits, the lowest of each byte first. Bits after the end are an error."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)
        self.position = 0

    def align(self) -> None:
        """Skip to the next byte."""
        self.unsigned(self._left % 8)

    def unsigned(self, count: int) -> int:
        if count > self._left:
            raise ValueError("the header is truncated")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        self.position += count
        return value

    def flag(self) -> bool:
        return bool(self.unsigned(1))

    def choice(self, options: tuple[tuple[int, int], ...]) -> int:
        """An integer in one of four ways (U32): how many bits, and what is added."""
        bits, added = options[self.unsigned(2)]
        return added + self.unsigned(bits)

    def enum(self) -> int:
        return self.choice(_ENUM)

    def point(self) -> Point:
        x, y = (self._signed(self.choice(_CUSTOM_XY)) for _ in range(2))
        return x / 1e6, y / 1e6

    @staticmethod
    def _signed(value: int) -> int:
        return -(value + 1) // 2 if value & 1 else value // 2


def read_header(path: Path) -> JxlHeader:
    """Read the header and the metadata of a JPEG XL file.

    Raises:
        ValueError: the header is malformed.
        OSError: the file cannot be read.
    """
    header = JxlHeader()
    with path.open("rb") as file:
        start = file.read(_MAX_HEADER_BYTES)
        if start.startswith(CONTAINER):
            start = _read_boxes(header, file)
    if not start.startswith(CODESTREAM):
        raise ValueError("it has no codestream")
    _read_codestream(header, _Bits(start[2:]))
    return header


def with_cicp(codestream: bytes, primaries: int, transfer: int) -> bytes:
    """Replace the color space in the header of a codestream.

    Samples keep their values, except in XYB (lossy compression), which decoders convert to the new space.

    Args:
        codestream: of an image without an ICC profile, in the white point D65.
        primaries, transfer: numbers of ITU-T H.273, from `CICP_PRIMARIES` and `CICP_TRANSFERS`.
    """
    header = JxlHeader()
    _read_codestream(header, _Bits(codestream[2:_MAX_HEADER_BYTES]))
    assert header.color is not None
    start, end = header.color_bits
    bits = int.from_bytes(codestream[2 : 2 + -(-header.end_bit // 8)], "little")
    color, width = _color_bits(header.is_gray, primaries, transfer)
    rest = (bits & (1 << header.end_bit) - 1) >> end
    changed = (bits & (1 << start) - 1) | color << start | rest << start + width
    size = -(-(header.end_bit + width - (end - start)) // 8)
    return codestream[:2] + changed.to_bytes(size, "little") + codestream[2 + -(-header.end_bit // 8) :]


def _color_bits(is_gray: bool, primaries: int, transfer: int) -> tuple[int, int]:
    """The bits of a color space, and their number."""
    fields = [(0, 1), (0, 1), *_enum_fields(_GRAY if is_gray else 0), *_enum_fields(1)]
    if not is_gray:
        fields += _enum_fields(CICP_PRIMARIES[primaries])
    fields += [(0, 1), *_enum_fields(transfer), *_enum_fields(0)]
    value = width = 0
    for number, count in fields:
        value |= number << width
        width += count
    return value, width


def _enum_fields(value: int) -> list[tuple[int, int]]:
    """Values and widths of the bits for an integer, as `_Bits.enum` reads them."""
    if value < 2:
        return [(value, 2)]
    return [(2, 2), (value - 2, 4)] if value < 18 else [(3, 2), (value - 18, 6)]


def _read_boxes(header: JxlHeader, file: IO[bytes]) -> bytes:
    """Read the metadata of a container, and return the start of its codestream."""
    start = b""
    for name, body in _boxes(file):
        if name in (b"jxlc", b"jxlp") and len(start) < _MAX_HEADER_BYTES:
            start += body[4 if name == b"jxlp" else 0 :]
        if name == b"brob":
            name, body = body[:4], _expanded(header, body)
        if name == b"Exif" and header.exif is None and len(body) > 4:
            header.exif = body[4 + int.from_bytes(body[:4]) :].removeprefix(b"Exif\0\0") or None
        elif name == b"xml " and header.xmp is None:
            header.xmp = body or None
        elif name == b"jhgm":
            header.warnings.append("its gain map, which brightens it on HDR screens, was dropped")
        elif name == b"jumb":
            header.warnings.append("its JUMBF metadata (such as a statement of origin) was dropped")
        elif name == b"jbrd":
            header.is_lossy = True  # a JPEG
    return start


def _expanded(header: JxlHeader, body: bytes) -> bytes:
    """Decompress a brob box."""
    if body[:4] not in (b"Exif", b"xml "):
        return b""
    import imagecodecs

    try:
        return bytes(imagecodecs.brotli_decode(body[4:], out=_MAX_METADATA_BYTES))
    except Exception:  # damaged, or too large
        header.warnings.append(f"its {body[:4].decode().strip()} metadata is damaged and was dropped")
        return b""


def _boxes(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    end = file.seek(0, 2)
    offset = 0
    while offset + 8 <= end:
        file.seek(offset)
        head = file.read(16)
        size, name = struct.unpack_from(">I4s", head)
        start = 8
        if size == 1 and len(head) == 16:
            size, start = int.from_bytes(head[8:]), 16
        size = size or end - offset
        if size < start:
            raise ValueError("a box has no valid size")
        is_codestream = name in (b"jxlc", b"jxlp")
        if not is_codestream and size > _MAX_METADATA_BYTES:
            name = b"skip"
        wanted = _MAX_HEADER_BYTES if is_codestream or name == b"skip" else size
        file.seek(offset + start)
        yield name, file.read(min(size - start, wanted))
        offset += size


def _read_codestream(header: JxlHeader, bits: _Bits) -> None:
    width, height = _read_size(bits)
    orientation = 1
    is_xyb, has_profile, extra_fields = True, False, False
    header.color = Color()
    if not bits.flag():
        extra_fields = bits.flag()
        if extra_fields:
            orientation = _read_extra_fields(header, bits)
        header.bits, header.is_float = _read_depth(bits)
        bits.flag()  # whether 16-bit buffers suffice
        for _ in range(bits.choice(((0, 0), (0, 1), (4, 2), (12, 1)))):
            _read_extra_channel(header, bits)
        is_xyb = bits.flag()
        start = bits.position
        has_profile = _read_color(header, bits)
        header.color_bits = (start, bits.position)
        if extra_fields and not bits.flag():  # tone mapping
            bits.unsigned(16 + 16 + 1 + 16)
        _skip_extensions(bits)
    header.width, header.height = (height, width) if orientation > 4 else (width, height)
    header.is_xyb = is_xyb
    own_upsampling = not bits.flag()
    header.end_bit = bits.position
    header.is_lossy |= is_xyb or not (has_profile or own_upsampling or not _is_var_dct(bits))


def _is_var_dct(bits: _Bits) -> bool:
    """Whether the first frame is compressed with the transform of JPEG XL, as transcoded JPEGs are."""
    bits.align()
    if bits.flag():
        return True
    bits.unsigned(2)
    return not bits.flag()


def _read_size(bits: _Bits) -> tuple[int, int]:
    small = bits.flag()

    def side() -> int:
        return 8 * (bits.unsigned(5) + 1) if small else bits.choice(_SIZE)

    height = side()
    ratio = bits.unsigned(3)
    if not ratio:
        return side(), height
    across, down = _RATIOS[ratio - 1]
    return height * across // down, height


def _read_extra_fields(header: JxlHeader, bits: _Bits) -> int:
    """Read orientation, preview and animation. Returns the orientation."""
    orientation = 1 + bits.unsigned(3)
    if bits.flag():
        _read_size(bits)  # on screen
    if bits.flag():  # a preview
        small = bits.flag()
        options = ((0, 16), (0, 32), (5, 1), (9, 33)) if small else ((6, 1), (8, 65), (10, 321), (12, 1345))
        bits.choice(options)
        if not bits.unsigned(3):
            bits.choice(options)
    if bits.flag():
        header.is_animated = True
        bits.choice(((0, 100), (0, 1000), (10, 1), (30, 1)))
        bits.choice(((0, 1), (0, 1001), (8, 1), (10, 1)))
        bits.choice(((0, 0), (3, 0), (16, 0), (32, 0)))
        bits.flag()
    return orientation


def _read_depth(bits: _Bits) -> tuple[int, bool]:
    if not bits.flag():
        return bits.choice(((0, 8), (0, 10), (0, 12), (6, 1))), False
    depth = bits.choice(((0, 32), (0, 16), (0, 24), (6, 1)))
    bits.unsigned(4)
    return depth, True


def _read_extra_channel(header: JxlHeader, bits: _Bits) -> None:
    if bits.flag():
        header.extra_channels.append(_ALPHA)
        return
    kind = bits.enum()
    _read_depth(bits)
    bits.choice(((0, 0), (0, 3), (0, 4), (3, 1)))
    for _ in range(bits.choice(((0, 0), (4, 0), (5, 16), (10, 48)))):
        bits.unsigned(8)
    if kind == _ALPHA:
        header.associated_alpha |= bits.flag()
    elif kind == _SPOT:
        bits.unsigned(64)
    elif kind == _CFA:
        bits.choice(((0, 1), (2, 0), (4, 3), (8, 19)))
    header.extra_channels.append(kind)


def _read_color(header: JxlHeader, bits: _Bits) -> bool:
    """Read the color space. Returns whether an ICC profile follows the header."""
    if bits.flag():
        return False
    has_profile = bits.flag()
    space = bits.enum()
    header.is_gray = space == _GRAY
    if has_profile:
        header.color = None
        return True
    color = Color()
    if space != _XYB:
        white = bits.enum()
        color.white = bits.point() if white == _CUSTOM else _WHITES.get(white, _D65_XY)
        if space != _GRAY:
            primaries = bits.enum()
            if primaries == _CUSTOM:
                color.points = (bits.point(), bits.point(), bits.point())
            else:
                color.points = _PRIMARIES.get(primaries, _PRIMARIES[1])
            known = {(1, 1): 1, (9, 1): 9, (11, 1): 12, (11, 11): 11}
            color.primaries = known.get((primaries, white), 0)
        elif white != 1:
            color.primaries = 0
    if bits.flag():
        color.gamma, color.transfer = bits.unsigned(24) / 1e7, 0
    else:
        color.transfer = bits.enum()
    bits.enum()  # rendering intent
    header.color = color
    return False


def _skip_extensions(bits: _Bits) -> None:
    """Skip extensions; there are none so far."""
    if bits.unsigned(2):
        raise ValueError("it has unknown extensions")

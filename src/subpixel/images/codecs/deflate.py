"""Deflate by several threads: pieces that are compressed on their own and put one behind the other."""

import zlib
from typing import Any, NamedTuple

from isal import isal_zlib
from numpy.typing import NDArray

LEVEL = 1
"""Of ISA-L, 0 to 3. On enlarged photographs it takes a sixth of zlib's time at level 2, for 3% more bytes."""

ZLIB_LEVEL, _REGULAR = 2, 8
"""Of zlib, for what ISA-L makes so many times smaller: on pages of text zlib is fast, and a fifth better."""

HEADER = b"\x78\x01"
"""Of a zlib stream."""

_ADLER_BASE = 65_521


class Piece(NamedTuple):
    """A compressed piece of a zlib stream."""

    data: bytes
    """It ends at a whole byte, and more may follow."""
    adler: int
    """The checksum of what was compressed."""
    length: int
    """How many bytes that was."""


def compressed(data: NDArray[Any]) -> Piece:
    """Compress C-contiguous bytes as a piece of a stream."""
    packed = _packed(isal_zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS), data)
    if len(packed) * _REGULAR < data.nbytes:
        packed = _packed(zlib.compressobj(ZLIB_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS), data)
    return Piece(packed, isal_zlib.adler32(data.data), data.nbytes)


def _packed(deflate: Any, data: NDArray[Any]) -> bytes:
    result: bytes = deflate.compress(data.data) + deflate.flush(zlib.Z_SYNC_FLUSH)
    return result


def crc(kind: bytes, body: bytes) -> int:
    """The CRC-32 of a PNG chunk."""
    checksum: int = isal_zlib.crc32(body, isal_zlib.crc32(kind))
    return checksum


def whole(data: NDArray[Any]) -> bytes:
    """Compress C-contiguous bytes as a stream of its own."""
    result: bytes = isal_zlib.compress(data.data, LEVEL)
    return result


def trailer(adler: int) -> bytes:
    """What ends a stream: an empty last block, and the checksum of everything."""
    return b"\x03\x00" + adler.to_bytes(4)


def joined_adler(first: int, second: int, second_length: int) -> int:
    """The Adler-32 (RFC 1950) of two pieces of data from theirs, as ``adler32_combine`` of zlib."""
    low, high = first & 0xFFFF, first >> 16
    other_low, other_high = second & 0xFFFF, second >> 16
    new_low = (low + other_low - 1) % _ADLER_BASE
    new_high = (high + other_high + second_length * (low - 1)) % _ADLER_BASE
    return new_high << 16 | new_low

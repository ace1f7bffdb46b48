"""Photoshop's image resources, where JPEG and TIFF files keep IPTC data (titles, keywords, credits)."""

import struct
from collections.abc import Iterator

MARK = b"Photoshop 3.0\0"
"""At the start of a JPEG segment."""

_SIGNATURE = b"8BIM"
_IPTC = 0x0404
_PATHS = range(2000, 2998)


def iptc(resources: bytes) -> bytes | None:
    """The IPTC-IIM records among image resources, if there are any."""
    return b"".join(data for number, data in _each(resources) if number == _IPTC) or None


def has_paths(resources: bytes) -> bool:
    """Whether there are paths, as used to cut a picture's subject out."""
    return any(number in _PATHS for number, _ in _each(resources))


def resources_of(iptc: bytes) -> bytes:
    """Image resources of IPTC-IIM records alone."""
    header = _SIGNATURE + struct.pack(">HHI", _IPTC, 0, len(iptc))
    return header + iptc + bytes(len(iptc) % 2)


def _each(resources: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while resources[place : place + 4] == _SIGNATURE and len(resources) >= place + 12:
        (number,) = struct.unpack_from(">H", resources, place + 4)
        name = resources[place + 6] + 1
        place += 6 + name + name % 2
        if len(resources) < place + 4:
            return
        (length,) = struct.unpack_from(">I", resources, place)
        yield number, resources[place + 4 : place + 4 + length]
        place += 4 + length + length % 2

"""Image resources of Photoshop, in which JPEG and TIFF files store IPTC data (titles, keywords, credits)."""

import struct
from collections.abc import Iterator

IDENTIFIER = b"Photoshop 3.0\0"
"""The beginning of a JPEG segment with image resources."""

_SIGNATURE = b"8BIM"
_IPTC = 0x0404
_PATHS = range(2000, 2998)


def read_iptc(resources: bytes) -> bytes | None:
    """Return the IPTC-IIM records in image resources, or None."""
    return b"".join(data for number, data in _resources(resources) if number == _IPTC) or None


def has_clipping_paths(resources: bytes) -> bool:
    """Whether image resources contain clipping paths, which cut out the subject of an image."""
    return any(number in _PATHS for number, _ in _resources(resources))


def iptc_resource(iptc: bytes) -> bytes:
    """Return an image resource with IPTC-IIM records."""
    header = _SIGNATURE + struct.pack(">HHI", _IPTC, 0, len(iptc))
    return header + iptc + bytes(len(iptc) % 2)


def _resources(resources: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while resources[offset : offset + 4] == _SIGNATURE and len(resources) >= offset + 12:
        (number,) = struct.unpack_from(">H", resources, offset + 4)
        name = resources[offset + 6] + 1
        offset += 6 + name + name % 2
        if len(resources) < offset + 4:
            return
        (length,) = struct.unpack_from(">I", resources, offset)
        yield number, resources[offset + 4 : offset + 4 + length]
        offset += 4 + length + length % 2

"""The structure of JPEG files (ITU-T T.81, annex B): segments and scans."""

import re
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

SOI, EOI, SOS, APP = 0xD8, 0xD9, 0xDA, 0xE0
MAX_SEGMENT_BYTES = 65_533
XMP_IDENTIFIER = b"http://ns.adobe.com/xap/1.0/\0"
ICC_IDENTIFIER = b"ICC_PROFILE\0"
MPF_IDENTIFIER = b"MPF\0"
_MARKER = re.compile(rb"\xff+([^\x00\xff\x01\xd0-\xd7])", re.DOTALL)
"""Any marker except those inside compressed data: stuffed zeros, fill bytes, TEM and restarts."""


class Segment(NamedTuple):
    """A segment before the first scan."""

    marker: int
    offset: int
    """Of the marker, without fill bytes."""
    length: int
    """With the marker."""
    body: bytes


@dataclass
class JpegFile:
    """The structure of a JPEG file."""

    segments: list[Segment] = field(default_factory=list)
    """Segments before the first scan."""
    scans: list[bytes] = field(default_factory=list)
    """Headers of the scans."""
    scan_offsets: list[int] = field(default_factory=list)
    """Offsets of all segments from the header of the first scan on."""
    end: int = 0
    """Offset of the end of the last scan."""

    def bodies(self, marker: int, identifier: bytes) -> list[bytes]:
        """The bodies, without the identifier, of segments that begin with it."""
        return [
            segment.body.removeprefix(identifier)
            for segment in self.segments
            if segment.marker == marker and segment.body.startswith(identifier)
        ]


def parse(data: bytes) -> JpegFile:
    """Find segments and scans. Other bytes between segments, and after the image, are ignored."""
    file = JpegFile()
    offset = 2
    while (found := _MARKER.search(data, offset)) is not None:
        marker, start = found[1][0], found.end() - 2
        if marker in (SOI, EOI):
            if file.scans:
                break
            offset = found.end()
            continue
        length = int.from_bytes(data[start + 2 : start + 4])
        body = data[start + 4 : start + 2 + length]
        offset = start + 2 + max(length, 2)
        if marker == SOS:
            file.scans.append(body)
        if file.scans:
            file.scan_offsets.append(start)
        else:
            file.segments.append(Segment(marker, start, 2 + length, body))
    file.end = len(data) if found is None else found.end() - 2
    return file


def encode_segment(marker: int, body: bytes) -> bytes:
    """Return a segment: its marker, its length and its body."""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body

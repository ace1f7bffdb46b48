"""The structure of JPEG files (ITU-T T.81, annex B): segments and scans."""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

SOI, EOI, SOS, APP = 0xD8, 0xD9, 0xDA, 0xE0
END = bytes([0xFF, EOI])
MAX_SEGMENT_BYTES = 65_533
XMP_IDENTIFIER = b"http://ns.adobe.com/xap/1.0/\0"
ICC_IDENTIFIER = b"ICC_PROFILE\0"
MPF_IDENTIFIER = b"MPF\0"
_NO_MARKERS = frozenset([0x00, 0x01, *range(0xD0, 0xD8), 0xFF])
"""What follows 0xFF inside compressed data: stuffed zeros, TEM, restarts and fill bytes."""


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


def parse(data: bytes, *, headers_only: bool = False) -> JpegFile:
    """Find segments and scans. Other bytes between segments, and after the image, are ignored.

    With ``headers_only``, the end is that of the first scan's header, where its pixels begin.
    """
    file = JpegFile()
    offset = 2
    while (start := _find_marker(data, offset)) < len(data):
        marker = data[start + 1]
        if marker in (SOI, EOI):
            if file.scans:
                break
            offset = start + 2
            continue
        length = int.from_bytes(data[start + 2 : start + 4])
        body = data[start + 4 : start + 2 + length]
        offset = start + 2 + max(length, 2)
        if marker == SOS:
            file.scans.append(body)
        if file.scans:
            file.scan_offsets.append(start)
            if headers_only:
                file.end = offset
                return file
        else:
            file.segments.append(Segment(marker, start, 2 + length, body))
    file.end = start
    return file


def _find_marker(data: bytes, offset: int) -> int:
    """Return the offset of the next marker, without fill bytes; the length of the data if there is none.

    A regular expression takes ten times as long, and keeps other images waiting by the interpreter's lock.
    """
    while (start := data.find(b"\xff", offset)) >= 0:
        offset = start + 1
        if offset < len(data) and data[offset] not in _NO_MARKERS:
            return start
    return len(data)


def encode_segment(marker: int, body: bytes) -> bytes:
    """Return a segment: its marker, its length and its body."""
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body

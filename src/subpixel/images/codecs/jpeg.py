"""JPEG: its segments by hand, its pixels by libjpeg-turbo: read through libvips, written through imagecodecs.

Only the segments that the pixels depend on reach libjpeg, which then has nothing else to stumble over, and
libvips tells of every part of the picture that libjpeg would fill with gray. Pictures are written in strips,
each compressed on its own and put behind the others as a restart interval (ITU-T T.81, section E.1.4), so
that several threads can work, and memory stays bounded.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images import exif as exif_blocks
from subpixel.images import photoshop
from subpixel.images.picture import Header, Metadata, Picture, Strips, swaps_axes, upright
from subpixel.images.pillow import cmyk_to_srgb
from subpixel.images.workers import Workers

if TYPE_CHECKING:
    from subpixel.images.codecs.vips import Span

MAX_SEGMENT_BYTES = 65_533
EXIF_MARK = b"Exif\0\0"
XMP_MARK = b"http://ns.adobe.com/xap/1.0/\0"
_MORE_XMP_MARK = b"http://ns.adobe.com/xmp/extension/\0"
_ICC_MARK = b"ICC_PROFILE\0"
_MPF_MARK = b"MPF\0"
_ICC_PART_BYTES = MAX_SEGMENT_BYTES - len(_ICC_MARK) - 2
_SOI, _EOI, _SOS, _DRI, _COM, _APP = 0xD8, 0xD9, 0xDA, 0xDD, 0xFE, 0xE0
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xCA)
_HUFFMAN = (0xC0, 0xC1, 0xC2)
_COMMON = (*_HUFFMAN, 0xC9, 0xCA)
_MARKER = re.compile(rb"\xff+([^\x00\xff\x01\xd0-\xd7])", re.DOTALL)
"""What is not part of the compressed data, nor a restart."""
_MAX_RESTART_BLOCKS = 65_535
_INCH_CM = 2.54
_EXTRANEOUS = "extraneous bytes before marker"


class _Segment(NamedTuple):
    marker: int
    place: int
    """Of the marker's last two bytes."""
    length: int
    """Marker included."""
    body: bytes


@dataclass
class _File:
    """A JPEG file taken apart."""

    segments: list[_Segment] = field(default_factory=list)
    """Before the pixels."""
    scans: list[bytes] = field(default_factory=list)
    """Their headers."""
    marks: list[int] = field(default_factory=list)
    """Where the segments begin from the first scan's header on."""
    end: int = 0
    """Where the last scan ends."""

    def bodies(self, marker: int, mark: bytes) -> list[bytes]:
        """What follows the mark in segments that begin with it."""
        return [
            segment.body.removeprefix(mark)
            for segment in self.segments
            if segment.marker == marker and segment.body.startswith(mark)
        ]


class _Frame(NamedTuple):
    marker: int
    precision: int
    height: int
    width: int
    components: dict[int, tuple[int, int]]
    """Sampling factors, across and down, by the component's number."""


def read(path: Path, approve: Callable[[Header], None]) -> Picture:
    """Read a JPEG file; ``approve`` is given the header before the pixels are decoded."""
    from subpixel.images.codecs.vips import Decoder, Error

    with path.open("rb") as stream:
        data = stream.read()
        file = _taken_apart(data)
        frame = _frame(path, file)
        notices: list[str] = []
        metadata = _metadata(file, notices)
        turn = metadata.orientation(notices)
        size = (frame.height, frame.width) if swaps_axes(turn) else (frame.width, frame.height)
        several = frame.marker in _PROGRESSIVE or len(file.scans) > 1  # which libjpeg holds as coefficients
        copies = (3 if several else 1) + 3 * (len(frame.components) == 4)
        approve(Header(*size, len(frame.components), False, copies))
        _refuse_incomplete(path, file, frame)
        try:
            samples = Decoder("jpegload", stream, _spans(data, file, frame)).samples()
        except Error as error:
            if _EXTRANEOUS not in str(error):
                raise
            samples = Decoder("jpegload", stream, _spans(data, file, frame, trimmed=True)).samples()
    if len(frame.components) == 4:
        samples = cmyk_to_srgb(samples, metadata.icc)
        metadata.icc = None
        notices.append("converted from CMYK to RGB")
    return Picture(upright(samples, turn), metadata, notices)


def write(file: IO[bytes], strips: Strips, metadata: Metadata, quality: int, workers: Workers) -> None:
    """Write 8-bit samples, gray or RGB, as a JPEG file: baseline, color at full resolution (4:4:4)."""
    height, width = strips.shape[:2]
    blocks = -(-width // 8)
    rows = next(
        rows
        for rows in range(strips.rows, 0, -8)
        if strips.rows % rows == 0 and blocks * rows // 8 <= _MAX_RESTART_BLOCKS
    )

    def compress(piece: NDArray[Any]) -> _Strip:
        return _compressed(piece, quality)

    pieces = (strip[top : top + rows] for strip in strips.each for top in range(0, len(strip), rows))
    for number, strip in enumerate(workers.map(compress, pieces)):
        if number == 0:
            file.write(bytes([0xFF, _SOI]))
            for marker, body in _segments(metadata):
                file.write(_segment(marker, body))
            file.write(_of_height(strip.tables, height))
            if height > rows:
                file.write(_segment(_DRI, struct.pack(">H", blocks * rows // 8)))
            file.write(strip.scan)
        else:
            file.write(bytes([0xFF, 0xD0 + (number - 1) % 8]))
        file.write(strip.pixels)
    file.write(bytes([0xFF, _EOI]))


class _Strip(NamedTuple):
    """A strip's JPEG file in parts."""

    tables: bytes
    """Segments from behind the JFIF one, up to the scan."""
    scan: bytes
    """Its header."""
    pixels: bytes


def _compressed(piece: NDArray[Any], quality: int) -> _Strip:
    import imagecodecs

    data = bytes(imagecodecs.jpeg8_encode(np.ascontiguousarray(piece), quality, subsampling="444"))
    file = _taken_apart(data)
    first = next(segment for segment in file.segments if segment.marker != _APP)
    scan = file.marks[0]
    pixels = scan + 2 + int.from_bytes(data[scan + 2 : scan + 4])
    return _Strip(data[first.place : scan], data[scan:pixels], data[pixels : file.end])


def _of_height(tables: bytes, height: int) -> bytes:
    """Such segments for a picture of another height."""
    data = bytearray(tables)
    place = 0
    while data[place + 1] not in _FRAMES:
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    struct.pack_into(">H", data, place + 5, height)
    return bytes(data)


def _taken_apart(data: bytes) -> _File:
    """Find the segments and the scans; what lies between segments, or behind the picture, is passed over."""
    file = _File()
    place = 2
    while (found := _MARKER.search(data, place)) is not None:
        marker, start = found[1][0], found.end() - 2
        if marker in (_SOI, _EOI):
            if file.scans:
                break
            place = found.end()
            continue
        length = int.from_bytes(data[start + 2 : start + 4])
        body = data[start + 4 : start + 2 + length]
        place = start + 2 + max(length, 2)
        if marker == _SOS:
            file.scans.append(body)
        if file.scans:
            file.marks.append(start)
        else:
            file.segments.append(_Segment(marker, start, 2 + length, body))
    file.end = len(data) if found is None else found.end() - 2
    return file


def _of_pixels(segment: _Segment) -> bool:
    """Whether the pixels depend on it: tables and the frame, and what says whether it is YCbCr or RGB."""
    if segment.marker == _APP:
        return segment.body.startswith(b"JFIF\0\1") and len(segment.body) >= 14
    if segment.marker == _APP + 14:
        return segment.body.startswith(b"Adobe")
    return segment.marker < _APP


def _spans(data: bytes, file: _File, frame: _Frame, *, trimmed: bool = False) -> "list[Span]":
    """What libjpeg is given of a file, and in which it has nothing to complain of but missing pixels.

    Where the file is ``trimmed``, zeros at the end of a scan are left out, with which some writers fill up.
    """
    spans: list[Span] = [(0, 2)]
    for part in file.segments:
        if part.marker == _APP + 14 and part.body.startswith(b"Adobe") and part.body[11:12] > b"\2":
            continue  # says that it is of a color space that does not exist
        if _of_pixels(part):
            spans.append((part.place, part.length))
    sequential = frame.marker not in _PROGRESSIVE
    for start, stop in pairwise([*file.marks, file.end]):
        end = stop
        if trimmed:
            while end > start and data[end - 1] == 0 and data[end - 2] != 0xFF:
                end -= 1
        if sequential and data[start + 1] == _SOS:
            # Some write here what counts in progressive ones alone, to which libjpeg objects.
            head = start + 2 + int.from_bytes(data[start + 2 : start + 4])
            spans += [data[start : head - 3], b"\0\x3f\0", (head, end - head)]
        else:
            spans.append((start, end - start))
    return [*spans, bytes([0xFF, _EOI])]


def _frame(path: Path, file: _File) -> _Frame:
    for segment in file.segments:
        body = segment.body
        if segment.marker in _FRAMES and len(body) >= 6 and len(body) == 6 + 3 * body[5]:
            precision, height, width, _ = struct.unpack(">BHHB", body[:6])
            components = {}
            for index in range(6, len(body), 3):
                components[body[index]] = (body[index + 1] >> 4, body[index + 1] & 15)
            frame = _Frame(segment.marker, precision, height, width, components)
            break
    else:
        raise UnreadableImage(f"{path}: the JPEG file is damaged or cut off (it has no header); get it anew")
    if not (file.scans and height and width and all(all(factors) for factors in components.values())):
        raise UnreadableImage(f"{path}: the JPEG file is damaged or cut off (it has no pixels); get it anew")
    if precision != 8 or frame.marker not in _COMMON or len(components) not in (1, 3, 4):
        what = f"{precision}-bit" if precision != 8 else f"{len(components)}-band"
        if frame.marker not in _COMMON:
            what = "lossless or hierarchical"
        raise UnsupportedImage(f"{path}: is a {what} JPEG; convert it to PNG or TIFF first")
    return frame


def _refuse_incomplete(path: Path, file: _File, frame: _Frame) -> None:
    """Raise `UnreadableImage` where there is too little for a picture of that size, or scans are missing."""
    across = max(factors[0] for factors in frame.components.values())
    down = max(factors[1] for factors in frame.components.values())
    blocks = 0
    for h, v in frame.components.values():
        blocks += -(-frame.width * h // (8 * across)) * -(-frame.height * v // (8 * down))
    if frame.marker in _HUFFMAN and 8 * (file.end - file.marks[0]) < blocks:  # each takes at least a bit
        raise UnreadableImage(
            f"{path}: the JPEG file is damaged or cut off (it holds too little for {frame.width} x "
            f"{frame.height} pixels); get it anew"
        )
    missing = dict.fromkeys(frame.components, (1 << 64) - 1)  # a bit for each coefficient of a block
    for scan in file.scans:
        count = scan[0] if scan else 0
        if len(scan) != 4 + 2 * count:
            continue  # libjpeg will tell
        first, last, bits = scan[-3:] if frame.marker in _PROGRESSIVE else (0, 63, 0)
        coefficients = (1 << min(last, 63) + 1) - (1 << min(first, 63))
        for component in scan[1 : 1 + 2 * count : 2]:
            # Scans of the same coefficients refine one another; the last leaves no bit open.
            if bits & 15:
                missing[component] = missing.get(component, 0) | coefficients
            else:
                missing[component] = missing.get(component, 0) & ~coefficients
    if any(missing.values()):
        raise UnreadableImage(f"{path}: the JPEG file is damaged or cut off (scans are missing); get it anew")


def _metadata(file: _File, notices: list[str]) -> Metadata:
    metadata = Metadata()
    parts = sorted(body for body in file.bodies(_APP + 2, _ICC_MARK) if len(body) > 2)
    if parts:
        if [part[0] for part in parts] == [*range(1, len(parts) + 1)] and parts[0][1] == len(parts):
            metadata.icc = b"".join(part[2:] for part in parts)
        else:
            notices.append("its color profile is damaged and was left out (parts are missing)")
    metadata.exif = next(iter(file.bodies(_APP + 1, EXIF_MARK)), None)
    metadata.xmp = next(iter(file.bodies(_APP + 1, XMP_MARK)), None)
    metadata.comment = b"\n".join(part.body for part in file.segments if part.marker == _COM) or None
    resources = b"".join(file.bodies(_APP + 13, photoshop.MARK))
    metadata.iptc = photoshop.iptc(resources)
    if photoshop.has_paths(resources):
        notices.append("its clipping paths were left out")
    if metadata.xmp:
        metadata.xmp, claims = exif_blocks.without_lost_parts(metadata.xmp)
        notices += claims
    if file.bodies(_APP + 1, _MORE_XMP_MARK):
        notices.append("its XMP data beyond the first 64 kB was left out")
    frames = max((exif_blocks.mpf_frames(body) for body in file.bodies(_APP + 2, _MPF_MARK)), default=1)
    if frames > 1:
        others = "1 more picture" if frames == 2 else f"{frames - 1} more pictures"
        notices.append(f"it holds {others} (previews, views or a gain map); the first alone was enlarged")
    _set_resolution(metadata, file)
    return metadata


def _set_resolution(metadata: Metadata, file: _File) -> None:
    for body in file.bodies(_APP, b"JFIF\0"):
        if len(body) < 7:
            continue
        unit, across, down = struct.unpack(">BHH", body[2:7])
        if unit == 0 and across != down and across and down:
            metadata.aspect = (across, down)
        elif unit in (1, 2) and across and down:
            inch = 1 if unit == 1 else _INCH_CM
            metadata.dpi = (across * inch, down * inch)
    if metadata.dpi is None and metadata.exif:
        metadata.dpi = exif_blocks.resolution(metadata.exif)


def _segments(metadata: Metadata) -> Iterator[tuple[int, bytes]]:
    unit, across, down = 0, 1, 1
    if metadata.dpi:
        unit, (across, down) = 1, (max(1, round(value)) for value in metadata.dpi)
    elif metadata.aspect and max(metadata.aspect) <= 0xFFFF:
        across, down = metadata.aspect
    yield _APP, b"JFIF\0\1\1" + struct.pack(">BHHBB", unit, across, down, 0, 0)
    if metadata.exif:
        yield _APP + 1, EXIF_MARK + metadata.exif
    if metadata.xmp:
        yield _APP + 1, XMP_MARK + metadata.xmp
    if metadata.icc:
        parts = [metadata.icc[i : i + _ICC_PART_BYTES] for i in range(0, len(metadata.icc), _ICC_PART_BYTES)]
        for number, part in enumerate(parts, 1):
            yield _APP + 2, _ICC_MARK + bytes([number, len(parts)]) + part
    if metadata.iptc:
        yield _APP + 13, photoshop.MARK + photoshop.resources_of(metadata.iptc)
    if metadata.comment:
        yield _COM, metadata.comment


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body

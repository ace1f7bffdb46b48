"""Reads and writes JPEG: segments here, pixels by libjpeg-turbo, through libvips and Pillow.

libjpeg gets only the segments that the pixels depend on, so damaged metadata cannot disturb it. libvips
reports missing parts of the image, which libjpeg alone would fill with gray. Strips of the output are
compressed independently and joined as restart intervals (ITU-T T.81, section E.1.4), so several threads can
work, and memory stays bounded.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images import exif as exif_blocks
from subpixel.images import photoshop
from subpixel.images.codecs import gain_map
from subpixel.images.codecs.jpeg_file import (
    APP,
    END,
    ICC_IDENTIFIER,
    MAX_SEGMENT_BYTES,
    MPF_IDENTIFIER,
    SOI,
    SOS,
    XMP_IDENTIFIER,
    JpegFile,
    Segment,
    encode_segment,
    parse,
)
from subpixel.images.image import (
    DecodedImage,
    GainMap,
    Header,
    Metadata,
    Strips,
    apply_orientation,
    swaps_axes,
)
from subpixel.images.pillow import cmyk_to_srgb, to_jpeg
from subpixel.images.workers import Workers

if TYPE_CHECKING:
    from subpixel.images.codecs.vips import Span

EXIF_IDENTIFIER = b"Exif\0\0"
_MORE_XMP_IDENTIFIER = b"http://ns.adobe.com/xmp/extension/\0"
_ICC_PART_BYTES = MAX_SEGMENT_BYTES - len(ICC_IDENTIFIER) - 2
_DRI, _COM = 0xDD, 0xFE
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xCA)
_HUFFMAN = (0xC0, 0xC1, 0xC2)
_SUPPORTED_FRAMES = (*_HUFFMAN, 0xC9, 0xCA)
_MAX_RESTART_BLOCKS = 65_535
_CM_PER_INCH = 2.54
_EXTRANEOUS = "extraneous bytes before marker"
"""The warning of libjpeg about bytes after a scan."""


class _Frame(NamedTuple):
    marker: int
    precision: int
    height: int
    width: int
    components: dict[int, tuple[int, int]]
    """Horizontal and vertical sampling factor of each component, by its number."""


def read(path: Path, approve: Callable[[Header], None]) -> DecodedImage:
    """Read a JPEG file. ``approve`` gets the header before pixels are decoded."""
    from subpixel.images.codecs.vips import Error, decode

    with path.open("rb") as stream:
        data = stream.read()
        file = parse(data)
        frame = _frame(path, file)
        warnings: list[str] = []
        second = _find_gain_map(path, data, file, frame)
        metadata = _metadata(file, warnings, has_gain_map=second is not None)
        orientation = metadata.read_orientation(warnings)
        size = (frame.height, frame.width) if swaps_axes(orientation) else (frame.width, frame.height)
        # With several scans, libjpeg has the coefficients of the complete image in memory.
        several_scans = frame.marker in _PROGRESSIVE or len(file.scans) > 1
        copies = (3 if several_scans else 1) + 3 * (len(frame.components) == 4)
        gain_map_bytes = second.nbytes if second else 0
        # The file is in memory, and the parts of it that libjpeg gets, alone and joined.
        approve(Header(*size, len(frame.components), False, copies, gain_map_bytes, 3 * len(data)))
        _check_complete(path, file, frame)
        try:
            samples = decode("jpegload", stream, _spans(data, file, frame))
        except Error as error:
            if _EXTRANEOUS not in str(error):
                raise
            samples = decode("jpegload", stream, _spans(data, file, frame, trimmed=True))
    _keep_gain_map(metadata, file, second, size, orientation, warnings)
    if len(frame.components) == 4:
        samples = cmyk_to_srgb(samples, metadata.icc)
        metadata.icc = None
        warnings.append("converted from CMYK to RGB")
    return DecodedImage(apply_orientation(samples, orientation), metadata, warnings)


class _GainMapFile(NamedTuple):
    """A gain map before it is decoded."""

    data: bytes
    file: JpegFile
    frame: _Frame

    @property
    def nbytes(self) -> int:
        """Size of its samples."""
        return self.frame.width * self.frame.height * len(self.frame.components)


def _find_gain_map(path: Path, data: bytes, file: JpegFile, image: _Frame) -> _GainMapFile | None:
    """The gain map of the file, if it has one of a usual kind."""
    found = gain_map.find(data, file) if len(image.components) < 4 else None
    if found is None:
        return None
    try:
        frame = _frame(path, found[1])
    except (UnreadableImage, UnsupportedImage):
        return None
    is_larger = frame.width * frame.height > image.width * image.height
    return None if is_larger or len(frame.components) == 4 else _GainMapFile(*found, frame)


def _keep_gain_map(
    metadata: Metadata,
    file: JpegFile,
    second: _GainMapFile | None,
    size: tuple[int, int],
    orientation: int,
    warnings: list[str],
) -> None:
    """Decode the gain map, which has the orientation of the image."""
    if second is None:
        return
    try:
        samples = gain_map.decode(second.data, _spans(second.data, second.file, second.frame))
    except Exception:  # on damaged files, decoders raise almost anything
        warnings.append("its gain map, which brightens it on HDR screens, is damaged and was dropped")
        return
    metadata.gain_map = GainMap(
        apply_orientation(samples, orientation), size, *gain_map.metadata_segments(file, second.file)
    )


def write(file: IO[bytes], strips: Strips, metadata: Metadata, quality: int, workers: Workers) -> None:
    """Write 8-bit gray or RGB samples as a baseline JPEG file with full color resolution (4:4:4)."""
    height, width = strips.shape[:2]
    second = gain_map.encode(metadata.gain_map, width, height, quality) if metadata.gain_map else b""
    mpf_offset = 0
    blocks = -(-width // 8)
    rows = next(
        rows
        for rows in range(strips.rows, 0, -8)
        if strips.rows % rows == 0 and blocks * rows // 8 <= _MAX_RESTART_BLOCKS
    )

    def compress(rows: NDArray[Any]) -> _EncodedStrip:
        return _compress(rows, quality)

    intervals = (strip[top : top + rows] for strip in strips.iterator for top in range(0, len(strip), rows))
    for number, strip in enumerate(workers.map(compress, intervals)):
        if number == 0:
            file.write(bytes([0xFF, SOI]))
            for marker, body in _segments(metadata, len(second)):
                file.write(encode_segment(marker, body))
            mpf_offset = file.tell()
            if second:
                file.write(encode_segment(APP + 2, MPF_IDENTIFIER + gain_map.mpf(0, 0, 0)))
            file.write(_with_height(strip.tables, height))
            if height > rows:
                file.write(encode_segment(_DRI, struct.pack(">H", blocks * rows // 8)))
            file.write(strip.scan)
        else:
            file.write(bytes([0xFF, 0xD0 + (number - 1) % 8]))
        file.write(strip.pixels)
    file.write(END)
    if second:
        _append_gain_map(file, second, mpf_offset)


def _append_gain_map(file: IO[bytes], second: bytes, mpf_offset: int) -> None:
    """Write the gain map after the image, and its position into the MPF segment of the image."""
    first_bytes = file.tell()
    file.write(second)
    block = mpf_offset + 4 + len(MPF_IDENTIFIER)
    file.seek(block)
    file.write(gain_map.mpf(first_bytes, len(second), first_bytes - block))
    file.seek(0, 2)


class _EncodedStrip(NamedTuple):
    """The parts of a JPEG file that contains one strip."""

    tables: bytes
    """Segments between the JFIF segment and the scan."""
    scan: bytes
    """The header of the scan."""
    pixels: bytes


def _compress(rows: NDArray[Any], quality: int) -> _EncodedStrip:
    data = to_jpeg(rows, quality)
    file = parse(data, headers_only=True)
    first = next(segment for segment in file.segments if segment.marker != APP)
    scan, pixels = file.scan_offsets[0], file.end
    return _EncodedStrip(data[first.offset : scan], data[scan:pixels], data[pixels : -len(END)])


def _with_height(tables: bytes, height: int) -> bytes:
    """Set the height in the frame header among the segments."""
    data = bytearray(tables)
    offset = 0
    while data[offset + 1] not in _FRAMES:
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4])
    struct.pack_into(">H", data, offset + 5, height)
    return bytes(data)


def _affects_pixels(segment: Segment) -> bool:
    """Whether the pixels depend on a segment: tables, the frame header, and what selects YCbCr or RGB."""
    if segment.marker == APP:
        return segment.body.startswith(b"JFIF\0\1") and len(segment.body) >= 14
    if segment.marker == APP + 14:
        return segment.body.startswith(b"Adobe")
    return segment.marker < APP


def _spans(data: bytes, file: JpegFile, frame: _Frame, *, trimmed: bool = False) -> "list[Span]":
    """The parts of a file that libjpeg gets. They are free of errors that do not concern the pixels.

    With ``trimmed``, they lack the zeros with which some writers pad the end of a scan.
    """
    spans: list[Span] = [(0, 2)]
    for segment in file.segments:
        if segment.marker == APP + 14 and segment.body.startswith(b"Adobe") and segment.body[11:12] > b"\2":
            continue  # states a color space that does not exist
        if _affects_pixels(segment):
            spans.append((segment.offset, segment.length))
    sequential = frame.marker not in _PROGRESSIVE
    for start, stop in pairwise([*file.scan_offsets, file.end]):
        end = stop
        if trimmed:
            while end > start and data[end - 1] == 0 and data[end - 2] != 0xFF:
                end -= 1
        if sequential and data[start + 1] == SOS:
            # Some writers set parameters that only progressive files have; libjpeg warns about them.
            head = start + 2 + int.from_bytes(data[start + 2 : start + 4])
            spans += [data[start : head - 3], b"\0\x3f\0", (head, end - head)]
        else:
            spans.append((start, end - start))
    return [*spans, END]


def _damaged(path: Path, why: str) -> UnreadableImage:
    return UnreadableImage(f"{path}: the JPEG file is damaged or truncated ({why}); get it again")


def _frame(path: Path, file: JpegFile) -> _Frame:
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
        raise _damaged(path, "it has no header")
    if not (file.scans and height and width and all(all(factors) for factors in components.values())):
        raise _damaged(path, "it has no pixels")
    if precision != 8 or frame.marker not in _SUPPORTED_FRAMES or len(components) not in (1, 3, 4):
        variant = f"{precision}-bit" if precision != 8 else f"{len(components)}-channel"
        if frame.marker not in _SUPPORTED_FRAMES:
            variant = "lossless or hierarchical"
        raise UnsupportedImage(f"{path}: is a {variant} JPEG; convert it to PNG or TIFF first")
    return frame


def _check_complete(path: Path, file: JpegFile, frame: _Frame) -> None:
    """Raise `UnreadableImage` if the file is too small for the size of the image, or scans are missing."""
    across = max(factors[0] for factors in frame.components.values())
    down = max(factors[1] for factors in frame.components.values())
    blocks = 0
    for h, v in frame.components.values():
        blocks += -(-frame.width * h // (8 * across)) * -(-frame.height * v // (8 * down))
    if (
        frame.marker in _HUFFMAN and 8 * (file.end - file.scan_offsets[0]) < blocks
    ):  # each needs at least one bit
        raise _damaged(path, f"it is too small for {frame.width} x {frame.height} pixels")
    missing = dict.fromkeys(frame.components, (1 << 64) - 1)  # one bit per coefficient of a block
    for scan in file.scans:
        count = scan[0] if scan else 0
        if len(scan) != 4 + 2 * count:
            continue  # libjpeg reports it
        first, last, bits = scan[-3:] if frame.marker in _PROGRESSIVE else (0, 63, 0)
        coefficients = (1 << min(last, 63) + 1) - (1 << min(first, 63))
        for component in scan[1 : 1 + 2 * count : 2]:
            # Successive scans refine the same coefficients; the last one completes them.
            if bits & 15:
                missing[component] = missing.get(component, 0) | coefficients
            else:
                missing[component] = missing.get(component, 0) & ~coefficients
    if any(missing.values()):
        raise _damaged(path, "scans are missing")


def _metadata(file: JpegFile, warnings: list[str], *, has_gain_map: bool) -> Metadata:
    metadata = Metadata()
    parts = sorted(body for body in file.bodies(APP + 2, ICC_IDENTIFIER) if len(body) > 2)
    if parts:
        if [part[0] for part in parts] == [*range(1, len(parts) + 1)] and parts[0][1] == len(parts):
            metadata.icc = b"".join(part[2:] for part in parts)
        else:
            warnings.append("its color profile is damaged and was dropped (parts are missing)")
    metadata.exif = next(iter(file.bodies(APP + 1, EXIF_IDENTIFIER)), None)
    metadata.xmp = next(iter(file.bodies(APP + 1, XMP_IDENTIFIER)), None)
    metadata.comment = b"\n".join(part.body for part in file.segments if part.marker == _COM) or None
    resources = b"".join(file.bodies(APP + 13, photoshop.IDENTIFIER))
    metadata.iptc = photoshop.read_iptc(resources)
    if photoshop.has_clipping_paths(resources):
        warnings.append("its clipping paths were dropped")
    if metadata.xmp:
        metadata.xmp, dropped = exif_blocks.remove_dropped_parts(metadata.xmp)
        warnings += [text for text in dropped if not (has_gain_map and text == exif_blocks.GAIN_MAP_DROPPED)]
    if file.bodies(APP + 1, _MORE_XMP_IDENTIFIER):
        warnings.append("its XMP data beyond the first 64 kB was dropped")
    images = max(
        (exif_blocks.mpf_image_count(body) for body in file.bodies(APP + 2, MPF_IDENTIFIER)), default=1
    )
    images -= has_gain_map
    if images > 1:
        others = "1 more image" if images == 2 else f"{images - 1} more images"
        warnings.append(f"it contains {others} (previews, views or a gain map); only the first was upscaled")
    _set_resolution(metadata, file)
    return metadata


def _set_resolution(metadata: Metadata, file: JpegFile) -> None:
    for body in file.bodies(APP, b"JFIF\0"):
        if len(body) < 7:
            continue
        unit, across, down = struct.unpack(">BHH", body[2:7])
        if unit == 0 and across != down and across and down:
            metadata.aspect = (across, down)
        elif unit in (1, 2) and across and down:
            factor = 1 if unit == 1 else _CM_PER_INCH
            metadata.dpi = (across * factor, down * factor)
    if metadata.dpi is None and metadata.exif:
        metadata.dpi = exif_blocks.resolution(metadata.exif)


def _segments(metadata: Metadata, gain_map_bytes: int) -> Iterator[tuple[int, bytes]]:
    unit, across, down = 0, 1, 1
    if metadata.dpi:
        unit, (across, down) = 1, (max(1, round(value)) for value in metadata.dpi)
    elif metadata.aspect and max(metadata.aspect) <= 0xFFFF:
        across, down = metadata.aspect
    yield APP, b"JFIF\0\1\1" + struct.pack(">BHHBB", unit, across, down, 0, 0)
    if metadata.exif:
        yield APP + 1, EXIF_IDENTIFIER + metadata.exif
    xmp = metadata.xmp
    if metadata.gain_map and metadata.gain_map.is_xmp:
        xmp = gain_map.xmp_of_image(xmp, gain_map_bytes)
    if xmp:
        yield APP + 1, XMP_IDENTIFIER + xmp
    if metadata.icc:
        parts = [metadata.icc[i : i + _ICC_PART_BYTES] for i in range(0, len(metadata.icc), _ICC_PART_BYTES)]
        for number, part in enumerate(parts, 1):
            yield APP + 2, ICC_IDENTIFIER + bytes([number, len(parts)]) + part
    if metadata.gain_map and metadata.gain_map.is_iso:
        yield APP + 2, gain_map.ISO_IDENTIFIER + bytes(4)  # the versions
    if metadata.iptc:
        yield APP + 13, photoshop.IDENTIFIER + photoshop.iptc_resource(metadata.iptc)
    if metadata.comment:
        yield _COM, metadata.comment

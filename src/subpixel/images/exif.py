"""Updates EXIF and XMP for an image that was rotated upright and upscaled.

Blocks are changed in place, and everything else in them keeps its offset. The maker note of a camera refers
to its own parts by their offsets in the block, so rewriting the block would break it.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

_IMAGE_WIDTH, _IMAGE_LENGTH, _ORIENTATION, _EXIF_IFD = 0x0100, 0x0101, 0x0112, 0x8769
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_MPF_COUNT, _MPF_ENTRIES = 0xB001, 0xB002
_MAX_MPF_IMAGES = 16
_SHORT, _LONG = 3, 4
_INCH, _CENTIMETER = 2, 3


class _Entry(NamedTuple):
    position: int
    tag: int
    value: int
    """The value if it is a single SHORT or LONG, otherwise 0."""


class _Block:
    """A TIFF structure, read and changed in place. Methods raise ``ValueError`` if it is malformed."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        order = {b"II": "<", b"MM": ">"}.get(data[:2])
        if order is None or len(data) < 8:
            raise ValueError("not a TIFF structure")
        self.order = order
        self.first = self.unpack("I", 4)

    def unpack(self, code: str, position: int) -> int:
        try:
            (value,) = struct.unpack_from(self.order + code, self.data, position)
        except struct.error as error:
            raise ValueError("an offset points beyond its end") from error
        return int(value)

    def entries(self, ifd: int) -> Iterator[_Entry]:
        for index in range(self.unpack("H", ifd)):
            position = ifd + 2 + 12 * index
            tag, type_ = self.unpack("H", position), self.unpack("H", position + 2)
            single = self.unpack("I", position + 4) == 1 and type_ in (_SHORT, _LONG)
            value = self.unpack("H" if type_ == _SHORT else "I", position + 8) if single else 0
            yield _Entry(position, tag, value)

    def next_ifd(self, ifd: int) -> int:
        """The position of the pointer to the next directory."""
        return ifd + 2 + 12 * self.unpack("H", ifd)

    def rational(self, entry: _Entry) -> float:
        """The value of a single RATIONAL."""
        position = self.unpack("I", entry.position + 8)
        return self.unpack("I", position) / self.unpack("I", position + 4)

    def set_long(self, entry: _Entry, value: int) -> None:
        self._pack("HII", entry.position + 2, _LONG, 1, value)

    def set_short(self, entry: _Entry, value: int) -> None:
        self._pack("HIHH", entry.position + 2, _SHORT, 1, value, 0)

    def _pack(self, code: str, position: int, *values: int) -> None:
        try:
            struct.pack_into(self.order + code, self.data, position, *values)
        except struct.error as error:
            raise ValueError("an offset points beyond its end") from error


def orientation(exif: bytes) -> int | None:
    """Return the orientation tag of an EXIF block (a TIFF structure), or None.

    Raises:
        ValueError: the block is malformed.
    """
    block = _Block(exif)
    return next((entry.value for entry in block.entries(block.first) if entry.tag == _ORIENTATION), None)


def update_exif(exif: bytes, width_px: int, height_px: int) -> bytes:
    """Update an EXIF block for the upright image of the new size.

    Sets the orientation to 1 and the sizes to the new ones, where the block has such tags. The thumbnail
    shows the old image, so it is overwritten with zeros and its directory is unlinked.

    Raises:
        ValueError: the block is malformed.
    """
    block = _Block(exif)
    directories = [block.first]
    for directory in directories:
        for entry in list(block.entries(directory)):
            if entry.tag == _ORIENTATION:
                block.set_short(entry, 1)
            elif entry.tag in (_IMAGE_WIDTH, _PIXEL_X):
                block.set_long(entry, width_px)
            elif entry.tag in (_IMAGE_LENGTH, _PIXEL_Y):
                block.set_long(entry, height_px)
            # Damaged pointers can form a cycle.
            elif entry.tag == _EXIF_IFD and entry.value not in directories:
                directories.append(entry.value)
    link = block.next_ifd(block.first)
    # Some writers omit the pointer at the end of a block without thumbnail.
    if link + 4 <= len(block.data) and (thumbnail_ifd := block.unpack("I", link)):
        thumbnail = {entry.tag: entry.value for entry in block.entries(thumbnail_ifd)}
        start, length = thumbnail.get(_THUMBNAIL, 0), thumbnail.get(_THUMBNAIL_BYTES, 0)
        if start > 0 and start + length <= len(block.data):
            block.data[start : start + length] = bytes(length)
        struct.pack_into(block.order + "I", block.data, link, 0)
    return bytes(block.data)


_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([1-8])")


def xmp_orientation(xmp: bytes) -> int:
    """Return the orientation in an XMP packet, or 1 if it has none."""
    match = _XMP_ORIENTATION.search(xmp)
    return int(match[2]) if match else 1


def update_xmp(xmp: bytes) -> bytes:
    """Set the orientation in an XMP packet to 1."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def resolution(exif: bytes) -> tuple[float, float] | None:
    """Return horizontal and vertical dpi from an EXIF block; None if it has none, or is malformed."""
    try:
        block = _Block(exif)
        entries = {entry.tag: entry for entry in block.entries(block.first)}
        across, down = (block.rational(entries[tag]) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    except (ValueError, KeyError, ZeroDivisionError):
        return None
    unit = entries[_RESOLUTION_UNIT].value if _RESOLUTION_UNIT in entries else _INCH
    units_per_inch = {_INCH: 1.0, _CENTIMETER: 2.54}.get(unit)
    if not (units_per_inch and across and down):
        return None
    return across * units_per_inch, down * units_per_inch


GAIN_MAP_DROPPED = "its gain map, which brightens it on HDR screens, was dropped"
_PART_NAMESPACES = (
    (rb"http://ns\.adobe\.com/hdr-gain-map/1\.0/", GAIN_MAP_DROPPED),
    (rb"http://ns\.google\.com/photos/1\.0/container/(?:item/)?", ""),
    (rb"http://ns\.google\.com/photos/1\.0/camera/", "its motion photo video was dropped"),
    (
        rb"http://ns\.google\.com/photos/1\.0/(?:depthmap|image|audio)/",
        "its depth map, second image or audio was dropped",
    ),
    (rb"http://ns\.adobe\.com/xmp/note/", ""),
)
"""XMP namespaces that describe other parts of a JPEG file, which the output lacks, and a warning for each."""


def remove_dropped_parts(xmp: bytes) -> tuple[bytes, list[str]]:
    """Remove properties of file parts that are not copied from an XMP packet.

    Returns:
        The packet, and warnings about the dropped parts.
    """
    warnings = []
    for namespace, warning in _PART_NAMESPACES:
        for declared in re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + namespace + rb"[\"']", xmp):
            prefix = re.escape(declared)
            before = xmp
            xmp = re.sub(rb"<(" + prefix + rb":[\w.-]+)\b[^>]*?(?<!/)>.*?</\1\s*>", b"", xmp, flags=re.DOTALL)
            xmp = re.sub(rb"<" + prefix + rb":[\w.-]+\b[^>]*/>", b"", xmp)
            xmp = re.sub(rb"\s+" + prefix + rb":[\w.-]+\s*=\s*(\"[^\"]*\"|'[^']*')", b"", xmp)
            if xmp != before and warning and warning not in warnings:
                warnings.append(warning)
            xmp = re.sub(rb"\s+xmlns:" + prefix + rb"\s*=\s*(\"[^\"]*\"|'[^']*')", b"", xmp)
    return xmp, warnings


def mpf_image_count(block: bytes) -> int:
    """Return the number of images in a file from its MPF segment (CIPA DC-007); 1 if it is malformed."""
    try:
        index = _Block(block)
        return next((entry.value for entry in index.entries(index.first) if entry.tag == _MPF_COUNT), 1)
    except ValueError:
        return 1


def mpf_images(block: bytes) -> list[tuple[int, int]]:
    """Return offset and size of the images in a file from its MPF segment; empty if it is malformed.

    Offsets count from the start of the block; that of the first image is 0.
    """
    try:
        index = _Block(block)
        entry = next((entry for entry in index.entries(index.first) if entry.tag == _MPF_ENTRIES), None)
        if entry is None:
            return []
        count, start = index.unpack("I", entry.position + 4) // 16, index.unpack("I", entry.position + 8)
        positions = range(start, start + 16 * min(count, _MAX_MPF_IMAGES), 16)
        return [(index.unpack("I", at + 8), index.unpack("I", at + 4)) for at in positions]
    except ValueError:
        return []

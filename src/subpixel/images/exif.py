"""EXIF and XMP after a picture was turned and enlarged.

The blocks are changed in place, byte by byte, and everything else in them stays where it is: a camera's
maker note points to its own parts by their offsets in the block, so rewriting the block would break it.
"""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

_IMAGE_WIDTH, _IMAGE_LENGTH, _ORIENTATION, _EXIF_IFD = 0x0100, 0x0101, 0x0112, 0x8769
_PIXEL_X, _PIXEL_Y = 0xA002, 0xA003
_THUMBNAIL, _THUMBNAIL_BYTES = 0x0201, 0x0202
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_MPF_COUNT = 0xB001
_SHORT, _LONG = 3, 4
_INCH, _CENTIMETER = 2, 3


class _Entry(NamedTuple):
    position: int
    tag: int
    value: int
    """The value of a single SHORT or LONG, otherwise 0."""


class _Block:
    """A TIFF structure that can be read and changed in place. Malformed ones raise ``ValueError``."""

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
            raise ValueError("points beyond its end") from error
        return int(value)

    def entries(self, ifd: int) -> Iterator[_Entry]:
        for index in range(self.unpack("H", ifd)):
            position = ifd + 2 + 12 * index
            tag, kind = self.unpack("H", position), self.unpack("H", position + 2)
            single = self.unpack("I", position + 4) == 1 and kind in (_SHORT, _LONG)
            value = self.unpack("H" if kind == _SHORT else "I", position + 8) if single else 0
            yield _Entry(position, tag, value)

    def next_ifd(self, ifd: int) -> int:
        """The position of the pointer to the following directory."""
        return ifd + 2 + 12 * self.unpack("H", ifd)

    def rational(self, entry: _Entry) -> float:
        """The value of a single RATIONAL."""
        place = self.unpack("I", entry.position + 8)
        return self.unpack("I", place) / self.unpack("I", place + 4)

    def set_long(self, entry: _Entry, value: int) -> None:
        self._pack("HII", entry.position + 2, _LONG, 1, value)

    def set_short(self, entry: _Entry, value: int) -> None:
        self._pack("HIHH", entry.position + 2, _SHORT, 1, value, 0)

    def _pack(self, code: str, position: int, *values: int) -> None:
        try:
            struct.pack_into(self.order + code, self.data, position, *values)
        except struct.error as error:
            raise ValueError("points beyond its end") from error


def orientation(exif: bytes) -> int | None:
    """The orientation tag of an EXIF block (a TIFF structure), where there is one.

    Raises ``ValueError`` for a malformed block.
    """
    block = _Block(exif)
    return next((entry.value for entry in block.entries(block.first) if entry.tag == _ORIENTATION), None)


def updated(exif: bytes, width_px: int, height_px: int) -> bytes:
    """An EXIF block for the picture now upright and ``width_px`` x ``height_px`` large.

    Where they are present, the orientation becomes 1 and the sizes become the new ones. The thumbnail
    shows the old picture, so it is blanked and its directory is unlinked.

    Raises ``ValueError`` for a malformed block.
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
            elif entry.tag == _EXIF_IFD and entry.value not in directories:  # damage can make a circle
                directories.append(entry.value)
    link = block.next_ifd(block.first)
    # Some writers leave out the pointer at the end of a block that has no thumbnail.
    if link + 4 <= len(block.data) and (thumbnail_ifd := block.unpack("I", link)):
        thumbnail = {entry.tag: entry.value for entry in block.entries(thumbnail_ifd)}
        start, length = thumbnail.get(_THUMBNAIL, 0), thumbnail.get(_THUMBNAIL_BYTES, 0)
        if start > 0 and start + length <= len(block.data):
            block.data[start : start + length] = bytes(length)
        struct.pack_into(block.order + "I", block.data, link, 0)
    return bytes(block.data)


_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>)\s*)([1-8])")


def xmp_orientation(xmp: bytes) -> int:
    """The orientation that an XMP packet states, or 1."""
    match = _XMP_ORIENTATION.search(xmp)
    return int(match[2]) if match else 1


def updated_xmp(xmp: bytes) -> bytes:
    """An XMP packet for the picture now upright."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def resolution(exif: bytes) -> tuple[float, float] | None:
    """Pixels in an inch, across and down, by an EXIF block; None where it does not say, or is malformed."""
    try:
        block = _Block(exif)
        places = {entry.tag: entry for entry in block.entries(block.first)}
        across, down = (block.rational(places[tag]) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    except (ValueError, KeyError, ZeroDivisionError):
        return None
    unit = places[_RESOLUTION_UNIT].value if _RESOLUTION_UNIT in places else _INCH
    inch = {_INCH: 1.0, _CENTIMETER: 2.54}.get(unit)
    return (across * inch, down * inch) if inch and across and down else None


_LOST_PARTS = (
    (
        rb"http://ns\.adobe\.com/hdr-gain-map/1\.0/",
        "its gain map, which brightens it on HDR screens, was left out",
    ),
    (rb"http://ns\.google\.com/photos/1\.0/container/(?:item/)?", ""),
    (rb"http://ns\.google\.com/photos/1\.0/camera/", "its moving part was left out"),
    (
        rb"http://ns\.google\.com/photos/1\.0/(?:depthmap|image|audio)/",
        "its depth map, second image or sound was left out",
    ),
    (rb"http://ns\.adobe\.com/xmp/note/", ""),
)
"""Names of what XMP says of other parts of a JPEG file, which a new one has not; and what to tell of each."""


def without_lost_parts(xmp: bytes) -> tuple[bytes, list[str]]:
    """An XMP packet without what it says of parts of its file that are left out, and notices of them."""
    notices = []
    for name, notice in _LOST_PARTS:
        for declared in re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + name + rb"[\"']", xmp):
            prefix = re.escape(declared)
            before = xmp
            xmp = re.sub(rb"<(" + prefix + rb":[\w.-]+)\b[^>]*?(?<!/)>.*?</\1\s*>", b"", xmp, flags=re.DOTALL)
            xmp = re.sub(rb"<" + prefix + rb":[\w.-]+\b[^>]*/>", b"", xmp)
            xmp = re.sub(rb"\s+" + prefix + rb":[\w.-]+\s*=\s*(\"[^\"]*\"|'[^']*')", b"", xmp)
            if xmp != before and notice and notice not in notices:
                notices.append(notice)
            xmp = re.sub(rb"\s+xmlns:" + prefix + rb"\s*=\s*(\"[^\"]*\"|'[^']*')", b"", xmp)
    return xmp, notices


def mpf_frames(block: bytes) -> int:
    """How many pictures a file has, by its MPF segment (CIPA DC-007); 1 where that is malformed."""
    try:
        index = _Block(block)
        return next((entry.value for entry in index.entries(index.first) if entry.tag == _MPF_COUNT), 1)
    except ValueError:
        return 1

"""Adds color profile, EXIF and XMP to an AVIF file of libavif, to which imagecodecs passes only samples.

The result has one more mdat box, after that of the samples. ISO/IEC 14496-12 and 23008-12 define the boxes.
"""

import struct
from dataclasses import dataclass, field

from subpixel.images.heif import boxes


@dataclass
class Addition:
    """What is added."""

    icc: bytes | None = None
    exif: bytes | None = None
    """A TIFF structure."""
    xmp: bytes | None = None
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Type and body of boxes that describe the image."""


def add_metadata(data: bytes, addition: Addition) -> bytes:
    """Return an AVIF file with additional metadata of its primary image.

    Args:
        data: a file of libavif: ftyp, meta, mdat, with item numbers of 16 bits and offsets of 32 bits.
        addition: what to add.
    """
    properties = list(addition.properties)
    if addition.icc:
        properties.append((b"colr", b"prof" + addition.icc))
    items = []
    if addition.exif:
        items.append((b"Exif\0", bytes(4) + addition.exif))
    if addition.xmp:
        items.append((b"mime\0application/rdf+xml\0", addition.xmp))
    if not properties and not items:
        return data
    top = dict(boxes(data))
    meta = dict(boxes(top[b"meta"][4:]))
    primary = int.from_bytes(meta[b"pitm"][4:6])
    entries = _locations(meta[b"iloc"])
    first = max(entries) + 1
    meta[b"iprp"] = _with_properties(meta[b"iprp"], properties, primary)
    for number, (info, _) in enumerate(items, first):
        entry = _box(b"infe", b"\2\0\0\1" + struct.pack(">HH", number, 0) + info[:4] + info[4:])
        count = int.from_bytes(meta[b"iinf"][4:6]) + 1
        meta[b"iinf"] = meta[b"iinf"][:4] + struct.pack(">H", count) + meta[b"iinf"][6:] + entry
        reference = _box(b"cdsc", struct.pack(">HHH", number, 1, primary))
        meta[b"iref"] = meta.get(b"iref", bytes(4)) + reference
        entries[number] = [(0, len(items[number - first][1]))]
    head = _box(b"ftyp", top[b"ftyp"])
    # The size of the meta box does not depend on the offsets in it, so it is built twice.
    size = len(_meta(meta, entries))
    old_start = len(head) + 8 + len(top[b"meta"])
    shift = len(head) + size - old_start
    for number in entries:
        if number < first:
            entries[number] = [(offset + shift, length) for offset, length in entries[number]]
    offset = len(data) + shift + 8
    for number, (_, body) in enumerate(items, first):
        entries[number] = [(offset, len(body))]
        offset += len(body)
    added = _box(b"mdat", b"".join(body for _, body in items)) if items else b""
    return head + _meta(meta, entries) + data[old_start:] + added


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def _meta(children: dict[bytes, bytes], entries: dict[int, list[tuple[int, int]]]) -> bytes:
    iloc = struct.pack(">IHH", 0, 0x4400, len(entries))
    for number, extents in entries.items():
        iloc += struct.pack(">HHH", number, 0, len(extents))
        iloc += b"".join(struct.pack(">II", *extent) for extent in extents)
    body = b"".join(_box(name, iloc if name == b"iloc" else child) for name, child in children.items())
    return _box(b"meta", bytes(4) + body)


def _locations(body: bytes) -> dict[int, list[tuple[int, int]]]:
    """The extents of each item. libavif writes version 0, with offsets and lengths of 32 bits."""
    version, sizes, count = struct.unpack_from(">IHH", body)
    if version or sizes != 0x4400:
        raise ValueError("the iloc box has another layout")
    entries: dict[int, list[tuple[int, int]]] = {}
    position = 8
    for _ in range(count):
        number, _, extents = struct.unpack_from(">HHH", body, position)
        position += 6
        entries[number] = [struct.unpack_from(">II", body, position + 8 * i) for i in range(extents)]
        position += 8 * extents
    return entries


def _with_properties(body: bytes, properties: list[tuple[bytes, bytes]], primary: int) -> bytes:
    parts = dict(boxes(body))
    known = len(list(boxes(parts[b"ipco"])))
    ipco = parts[b"ipco"] + b"".join(_box(*each) for each in properties)
    indices = bytes(range(known + 1, known + 1 + len(properties)))
    ipma = parts[b"ipma"]
    result, position = ipma[:8], 8
    for _ in range(int.from_bytes(ipma[4:8])):
        number, count = struct.unpack_from(">HB", ipma, position)
        own = ipma[position + 3 : position + 3 + count]
        own += indices if number == primary else b""
        result += struct.pack(">HB", number, len(own)) + own
        position += 3 + count
    return _box(b"ipco", ipco) + _box(b"ipma", result)

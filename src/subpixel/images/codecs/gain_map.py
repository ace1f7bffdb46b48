"""Reads and writes the gain map of an Ultra HDR JPEG, which brightens it on HDR screens.

The gain map is a second JPEG after the first, which the MPF segment of the first locates (CIPA DC-007). Its
metadata is XMP (Adobe's and Google's hdrgm), or a segment of ISO 21496-1, or both, and is copied unchanged:
it states how the map is applied, whatever the size of the map.
"""

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from subpixel.images.codecs.jpeg_file import (
    APP,
    ICC_IDENTIFIER,
    MPF_IDENTIFIER,
    SOI,
    XMP_IDENTIFIER,
    JpegFile,
    encode_segment,
    parse,
)
from subpixel.images.exif import mpf_images
from subpixel.images.image import GainMap
from subpixel.images.pillow import to_jpeg

ISO_IDENTIFIER = b"urn:iso:std:iso:ts:21496:-1\0"
_HDRGM = b"http://ns.adobe.com/hdr-gain-map/1.0/"
_ISO_VERSION_BYTES = 4
"""The segment of the first image contains only versions; that of the gain map more."""
_XMP = """<rdf:Description rdf:about="" xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"
 xmlns:Container="http://ns.google.com/photos/1.0/container/"
 xmlns:Item="http://ns.google.com/photos/1.0/container/item/" hdrgm:Version="1.0">
<Container:Directory><rdf:Seq>
<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li>
<rdf:li rdf:parseType="Resource">
<Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="%d"/></rdf:li>
</rdf:Seq></Container:Directory></rdf:Description>"""
_PACKET = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b"</rdf:RDF></x:xmpmeta>"
)
_MPF_PRIMARY = 0x030000


def find(data: bytes, file: JpegFile) -> tuple[bytes, JpegFile] | None:
    """Find the gain map behind the first image of a JPEG file.

    Args:
        data: the complete file.
        file: the structure of the first image.

    Returns:
        The bytes from the start of the gain map on, and its structure; None if there is none.
    """
    starts = []
    for segment in file.segments:
        if segment.marker == APP + 2 and segment.body.startswith(MPF_IDENTIFIER):
            header = segment.offset + 4 + len(MPF_IDENTIFIER)
            starts += [
                header + offset for offset, _ in mpf_images(segment.body[len(MPF_IDENTIFIER) :]) if offset
            ]
    for start in dict.fromkeys([*starts, file.end + 2]):
        part = data[start:]
        if part[:2] != bytes([0xFF, SOI]):
            continue
        found = parse(part)
        is_iso = any(len(body) > _ISO_VERSION_BYTES for body in found.bodies(APP + 2, ISO_IDENTIFIER))
        is_xmp = any(_HDRGM in body for body in found.bodies(APP + 1, XMP_IDENTIFIER))
        if found.scans and (is_iso or is_xmp):
            return part, found
    return None


def metadata_segments(first: JpegFile, second: JpegFile) -> tuple[tuple[bytes, ...], bool, bool]:
    """What is kept of the segments of both images.

    Returns:
        The segments of the gain map that state how it is applied, encoded; and whether ISO 21496-1 and XMP
        are used.
    """
    kept = []
    for segment in second.segments:
        is_xmp = segment.marker == APP + 1 and segment.body.startswith(XMP_IDENTIFIER)
        is_other = segment.marker == APP + 2 and segment.body.startswith((ISO_IDENTIFIER, ICC_IDENTIFIER))
        if is_xmp or is_other:
            kept.append(encode_segment(segment.marker, segment.body))
    is_xmp = any(_HDRGM in body for body in second.bodies(APP + 1, XMP_IDENTIFIER))
    return tuple(kept), bool(first.bodies(APP + 2, ISO_IDENTIFIER)), is_xmp


def encode(gain_map: GainMap, width: int, height: int, quality: int) -> bytes:
    """Resize a gain map for an image of another size, and compress it as JPEG."""
    data = to_jpeg(resized(gain_map, width, height), quality)
    return data[:2] + b"".join(gain_map.segments) + data[2:]


def resized(gain_map: GainMap, width: int, height: int) -> NDArray[Any]:
    """The samples of the gain map for an image of another size, by bilinear interpolation.

    It neither overshoots, which would become halos of light, nor invents details that the image lacks.
    """
    rows, columns = gain_map.samples.shape[:2]
    across, down = gain_map.image_size
    size = (max(1, round(columns * width / across)), max(1, round(rows * height / down)))
    resampled = Image.fromarray(gain_map.samples).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(resampled)


def xmp_of_image(xmp: bytes | None, gain_map_bytes: int) -> bytes:
    """Add to the XMP data of the first image that a gain map of so many bytes follows."""
    packet = xmp if xmp and b"</rdf:RDF>" in xmp else _PACKET
    before, end, after = packet.rpartition(b"</rdf:RDF>")
    return before + (_XMP % gain_map_bytes).encode() + end + after


def mpf(first_bytes: int, second_bytes: int, offset: int) -> bytes:
    """The MPF segment of the first image, without its identifier.

    Args:
        first_bytes, second_bytes: the sizes of the images.
        offset: of the second image, counted from the start of this block.
    """
    block = struct.pack(">2sHIH", b"MM", 42, 8, 3)
    block += struct.pack(">HHI4s", 0xB000, 7, 4, b"0100")
    block += struct.pack(">HHII", 0xB001, 4, 1, 2)
    block += struct.pack(">HHII", 0xB002, 7, 32, 50) + bytes(4)
    block += struct.pack(">IIIHH", _MPF_PRIMARY, first_bytes, 0, 0, 0)
    return block + struct.pack(">IIIHH", 0, second_bytes, offset, 0, 0)


def decode(part: bytes, spans: "list[Any]") -> NDArray[Any]:
    """Decode the samples of a gain map, ``(H, W)`` or ``(H, W, 3)``, uint8."""
    from subpixel.images.codecs.vips import decode

    return decode("jpegload", io.BytesIO(part), spans)

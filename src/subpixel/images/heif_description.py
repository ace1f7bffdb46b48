"""What the boxes of a HEIC or AVIF file say about its images (ISO/IEC 23008-12).

Decoders give samples. What else a job needs before it decodes comes from here: the size, the bit depth, the
color space, rotation, metadata, and which other images the file contains.
"""

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from subpixel.images.heif import Container, Item

_ALPHA = (
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
    b"urn:mpeg:hevc:2015:auxid:1",
    b"urn:mpeg:avc:2015:auxid:1",
)
_DEPTH = (
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth",
    b"urn:mpeg:hevc:2015:auxid:2",
    b"urn:mpeg:avc:2015:auxid:2",
)
_CODED = (b"hvc1", b"av01", b"grid", b"iovl", b"iden", b"jpeg", b"avc1", b"unci", b"j2k1", b"vvc1", b"tmap")


class Transform(NamedTuple):
    """A rotation or mirroring of the decoded samples. Several are applied in their order."""

    quarter_turns: int
    """Counterclockwise."""
    mirrored: bytes = b""
    """``"rows"`` if top and bottom are exchanged, ``"columns"`` if left and right are, or empty."""


@dataclass
class Description:
    """What the boxes say about the primary image of a HEIC or AVIF file."""

    width: int
    """Of the stored samples, before `transforms`."""
    height: int
    bits: int
    """Per sample."""
    is_gray: bool
    has_alpha: bool
    crop: tuple[int, int, int, int] | None = None
    """Left, top, width and height of the visible part (clap), applied before `transforms`."""
    transforms: list[Transform] = field(default_factory=list)
    cicp: tuple[int, int, int, bool] | None = None
    """Primaries, transfer and matrix of ITU-T H.273, and whether samples have the full range."""
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    aspect: tuple[int, int] | None = None
    mastering: bytes | None = None
    """The body of mdcv: the display on which the image was made."""
    light: bytes | None = None
    """The body of clli: the maximum and the mean of light, in cd/m2."""
    others: list[str] = field(default_factory=list)
    """The other images of the file, as text for users."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height after cropping and rotation."""
        width, height = self.crop[2:] if self.crop else (self.width, self.height)
        swapped = sum(transform.quarter_turns for transform in self.transforms) % 2
        return (height, width) if swapped else (width, height)


def describe(container: Container) -> Description:
    """Collect what the boxes say about the primary image.

    Raises:
        ValueError: something that is needed is missing or malformed.
    """
    item = container.primary
    size = item.find(b"ispe")
    if size is None or len(size) < 12:
        raise ValueError("it does not state its size")
    width, height = struct.unpack_from(">II", size, 4)
    if not width or not height:
        raise ValueError("it has no pixels")
    coded = container.coded_item(item)
    bits, is_gray = _sample_format(item, coded)
    found = Description(width, height, bits, is_gray, has_alpha=False)
    _read_display(found, item)
    _read_color(found, item, coded)
    _read_metadata(found, container)
    _read_others(found, container)
    return found


def _sample_format(item: Item, coded: Item) -> tuple[int, bool]:
    """Bits per sample, and whether the image is monochrome."""
    if av1 := coded.find(b"av1C"):
        flags = av1[2] if len(av1) > 2 else 0
        bits = (12 if flags & 0x20 else 10) if flags & 0x40 else 8
        return bits, bool(flags & 0x10)
    if (hevc := coded.find(b"hvcC")) and len(hevc) > 18:
        return 8 + max(hevc[17] & 7, hevc[18] & 7), hevc[16] & 3 == 0
    pixels = item.find(b"pixi") or b""
    if len(pixels) > 5:
        return max(pixels[5 : 5 + pixels[4]] or b"\x08"), pixels[4] == 1
    return 8, False


def _read_display(found: Description, item: Item) -> None:
    for name, body in item.properties:
        if name == b"irot" and body:
            found.transforms.append(Transform(body[0] & 3))
        elif name == b"imir" and body:
            found.transforms.append(Transform(0, b"columns" if body[0] & 1 else b"rows"))
        elif name == b"clap" and len(body) == 32:
            found.crop = _clean_aperture(found.width, found.height, body)
        elif name == b"pasp" and len(body) == 8:
            across, down = struct.unpack(">II", body)
            if across != down and across and down:
                found.aspect = (down, across)  # pixels per unit, and so the inverse


def _clean_aperture(width: int, height: int, body: bytes) -> tuple[int, int, int, int] | None:
    """The visible part of an image, or None if it is malformed or the whole image."""
    wide_n, wide_d, high_n, high_d, x_n, x_d, y_n, y_d = struct.unpack(">IIIIiIiI", body)
    if not (wide_d and high_d and x_d and y_d):
        return None
    wide, high = wide_n // wide_d, high_n // high_d
    left = round((width - 1) / 2 + x_n / x_d - (wide - 1) / 2)
    top = round((height - 1) / 2 + y_n / y_d - (high - 1) / 2)
    if not (
        wide > 0 and high > 0 and left >= 0 and top >= 0 and left + wide <= width and top + high <= height
    ):
        return None
    return None if (wide, high) == (width, height) else (left, top, wide, high)


def _read_color(found: Description, item: Item, coded: Item) -> None:
    found.mastering = item.find(b"mdcv") or coded.find(b"mdcv")
    found.light = item.find(b"clli") or coded.find(b"clli")
    for name, body in (*item.properties, *coded.properties):
        if name != b"colr":
            continue
        if body[:4] == b"nclx" and len(body) >= 11 and found.cicp is None:
            primaries, transfer, matrix = struct.unpack_from(">HHH", body, 4)
            found.cicp = (primaries, transfer, matrix, bool(body[10] & 0x80))
        elif body[:4] in (b"prof", b"rICC") and found.icc is None:
            found.icc = body[4:] or None


def _read_metadata(found: Description, container: Container) -> None:
    for _, item in container.referring(b"cdsc", container.primary_id):
        if item.type == b"Exif" and found.exif is None:
            data = container.data(item)
            start = 4 + int.from_bytes(data[:4])
            found.exif = data[start:].removeprefix(b"Exif\0\0") or None
        elif item.content_type == b"application/rdf+xml" and found.xmp is None:
            found.xmp = container.data(item) or None


def _read_others(found: Description, container: Container) -> None:
    """Name the images beside the primary one, and find out whether one is its alpha."""
    primary = container.primary_id
    parts = {primary}
    for item in container.items.values():
        for name, targets in item.references:
            if name == b"dimg":
                parts.update(targets)
    thumbnails = {number for number, _ in container.referring(b"thmb", primary)}
    auxiliaries = dict(container.referring(b"auxl", primary))
    names: list[str] = []
    for item in auxiliaries.values():
        kind = (item.find(b"auxC") or b"")[4:].split(b"\0")[0]
        if kind in _ALPHA:
            found.has_alpha = True
        elif kind in _DEPTH:
            names.append("a depth map")
        elif b"gainmap" in kind.lower():
            names.append("a gain map (which brightens it on HDR screens)")
        else:
            names.append("an auxiliary image")
    if any(item.type == b"tmap" for item in container.items.values()):
        names.append("a gain map (which brightens it on HDR screens)")
    more = 0
    for number, item in container.items.items():
        is_image = item.type in _CODED and not item.hidden and item.type != b"tmap"
        belongs = number in parts or number in thumbnails or number in auxiliaries
        more += (
            is_image and not belongs and not any(kind in (b"thmb", b"auxl") for kind, _ in item.references)
        )
    if thumbnails:
        names.append("a thumbnail")
    if container.has_sequence:
        names.append("a sequence of images")
    if more:
        names.append("1 more image" if more == 1 else f"{more} more images")
    found.others = list(dict.fromkeys(names))

"""PNG: its chunks by hand, its pixels decoded by libpng through libvips, and encoded here.

Only the chunks that the pixels depend on reach libpng. The others are either understood here, or carried
over as they are, or left out with a notice. libvips knows few of them, and its writer uses one thread.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images.codecs import deflate
from subpixel.images.picture import Header, Metadata, Picture, Strips, swaps_axes, upright
from subpixel.images.workers import Workers

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
COLOR_CHUNKS = (b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI")
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_OF_STORED_PIXELS = (b"hIST", b"iDOT", b"acTL", b"fcTL", b"fdAT")
"""Unsafe to copy, and of no use to who looks at the picture: an animation of one frame among them."""
_XMP = b"XML:com.adobe.xmp\0"
_INCH_M = 0.0254
_MAX_METADATA_BYTES = 1 << 24
_BAND_BYTES = 1 << 21
_FILTER_UP = 2
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""The number of bands, and what PNG calls it."""
_BANDS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PALETTE = 3
_DEPTHS = (1, 2, 4, 8, 16)


class _Chunk(NamedTuple):
    kind: bytes
    place: int
    length: int
    """Of the whole chunk, 12 bytes more than its body."""
    body: bytes
    """Empty for pixels, which are left in the file."""
    intact: bool


def read(path: Path, approve: Callable[[Header], None]) -> Picture:
    """Read a PNG file; ``approve`` is given the header before the pixels are decoded."""
    from subpixel.images.codecs.vips import Decoder

    with path.open("rb") as file:
        chunks = list(_chunks(path, file))
        pixels = [chunk for chunk in chunks if chunk.kind in (*_CRITICAL, b"tRNS")]
        for chunk in pixels:
            if not chunk.intact:
                name = chunk.kind.decode("latin-1")
                raise UnreadableImage(f"{path}: the PNG file is damaged (its {name!r} chunk); get it anew")
        layout = _layout(path, pixels)
        picture = _read_ancillary(path, chunks, layout)
        turn = picture.metadata.orientation(picture.notices)
        size = (layout.height, layout.width) if swaps_axes(turn) else (layout.width, layout.height)
        deep = layout.depth == 16
        approve(Header(*size, layout.bands, deep, 2 if layout.interlaced else 1))
        spans = [(0, len(_SIGNATURE)), *((chunk.place, chunk.length) for chunk in pixels)]
        picture.samples = upright(Decoder("pngload", file, spans).samples(), turn)
    return picture


def write(file: IO[bytes], strips: Strips, metadata: Metadata, workers: Workers) -> None:
    """Write samples with their metadata as a PNG file, several threads compressing them."""
    height, width = strips.shape[:2]
    depth = 8 * strips.dtype.itemsize
    file.write(_SIGNATURE)
    header = struct.pack(">IIBBBBB", width, height, depth, _COLOR_TYPES[strips.bands], 0, 0, 0)
    file.write(_chunk(b"IHDR", header))
    for kind, body in _ancillary(metadata):
        file.write(_chunk(kind, body))
    data, adler = deflate.HEADER, 1
    for piece in workers.map(_compressed, _bands(strips)):
        file.write(_chunk(b"IDAT", data + piece.data))
        data, adler = b"", deflate.joined_adler(adler, piece.adler, piece.length)
    file.write(_chunk(b"IDAT", data + deflate.trailer(adler)))
    file.write(_chunk(b"IEND", b""))


_Band = tuple[NDArray[Any], NDArray[Any] | None]


def _bands(strips: Strips) -> Iterator[_Band]:
    """The samples in bands of rows, each with the row above it."""
    above = None
    for strip in strips.each:
        rows = strip.reshape(len(strip), -1)
        count = max(1, _BAND_BYTES // rows[0].nbytes)
        for top in range(0, len(rows), count):
            yield rows[top : top + count], above
            above = rows[top : top + count][-1].copy()


def _compressed(band: _Band) -> deflate.Piece:
    """Rows, each stored as its difference from the one above (the filter Up), which suits photographs."""
    rows, above = (_bytes(part) if part is not None else 0 for part in band)
    assert isinstance(rows, np.ndarray)
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _FILTER_UP
    np.subtract(rows[0], above, out=filtered[0, 1:])
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return deflate.compressed(filtered)


def _bytes(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """PNG counts bytes, and puts the high one first."""
    return samples.astype(samples.dtype.newbyteorder(">"), copy=False).view(np.uint8)


def _chunks(path: Path, file: IO[bytes]) -> Iterator[_Chunk]:
    """Each chunk, up to and with IEND; the bodies and checksums of pixels are left to libpng."""
    end = file.seek(0, 2)
    place, kind = len(_SIGNATURE), b""
    while kind != b"IEND":
        file.seek(place)
        header = file.read(8)
        length, kind = struct.unpack(">I4s", header) if len(header) == 8 else (0, b"")
        if place + 12 + length > end:
            raise UnreadableImage(f"{path}: the file is cut off; get it anew")
        body, intact = b"", True
        if kind != b"IDAT":
            body = file.read(length) if length <= _MAX_METADATA_BYTES else b""
            intact = len(body) == length and deflate.crc(kind, body) == int.from_bytes(file.read(4))
        yield _Chunk(kind, place, length + 12, body, intact)
        place += length + 12


class _Layout(NamedTuple):
    """What IHDR says, and of what the samples will be."""

    width: int
    height: int
    stored_depth: int
    color_type: int
    interlaced: bool
    transparent: bool
    """By tRNS."""
    palette: bytes

    @property
    def depth(self) -> int:
        return max(8, self.stored_depth)

    @property
    def bands(self) -> int:
        return _BANDS[self.color_type] + self.transparent


def _layout(path: Path, pixels: list[_Chunk]) -> _Layout:
    first = pixels[0] if pixels else None
    if first is None or first.kind != b"IHDR" or len(first.body) != 13:
        raise UnreadableImage(f"{path}: the PNG file is damaged (it has no header); get it anew")
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", first.body)
    if color not in _BANDS or depth not in _DEPTHS or not width or not height:
        raise UnreadableImage(f"{path}: the PNG file is damaged (its header makes no sense); get it anew")
    bodies = {chunk.kind: chunk.body for chunk in pixels}
    transparent = b"tRNS" in bodies and color in (0, 2, _PALETTE)
    return _Layout(width, height, depth, color, bool(interlaced), transparent, bodies.get(b"PLTE", b""))


def _read_ancillary(path: Path, chunks: list[_Chunk], layout: _Layout) -> Picture:
    """All that is not pixels, in a picture that has none yet."""
    metadata, notices = Metadata(), []
    carried: list[tuple[bytes, bytes]] = []
    unsafe = set()
    for chunk in chunks:
        kind, body, name = chunk.kind, chunk.body, chunk.kind.decode("latin-1")
        if kind in (*_CRITICAL, b"tRNS"):
            continue
        if not chunk.intact:
            notices.append(f"its {name!r} chunk is damaged or too large and was left out")
        elif not kind[0] & 0x20:
            what = (
                "written for iPhones alone"
                if kind == b"CgBI"
                else f"with a {name!r} chunk that must be known"
            )
            raise UnsupportedImage(f"{path}: is a PNG {what}; convert it to a plain PNG first")
        elif kind == b"acTL" and len(body) == 8 and (frames := int.from_bytes(body[:4])) > 1:
            raise UnsupportedImage(f"{path}: is an animation of {frames} frames; give the frames one by one")
        elif kind == b"eXIf":
            metadata.exif = body.removeprefix(b"Exif\0\0")
        elif kind == b"iCCP":
            metadata.icc = _unpacked(_profile, body, "color profile", notices)
        elif kind == b"iTXt" and body.startswith(_XMP):
            metadata.xmp = _unpacked(_xmp, body, "XMP data", notices)
        elif kind == b"pHYs":
            _set_resolution(metadata, body)
        elif kind in (b"sBIT", b"bKGD"):
            body = _significant_bits(body, layout) if kind == b"sBIT" else _background(body, layout)
            carried += [(kind, body)] if body else []
        elif kind in COLOR_CHUNKS or kind == b"tIME" or kind[3] & 0x20:  # safe to copy, whatever it is
            carried.append((kind, body))
        elif kind not in _OF_STORED_PIXELS:
            unsafe.add(name)
    if unsafe:
        names = ", ".join(sorted(unsafe))
        notices.append(f"what it says in chunks that depend on its pixels was left out ({names})")
    metadata.png_chunks = tuple(carried)
    return Picture(np.empty((0, 0), np.uint8), metadata, notices)


def _set_resolution(metadata: Metadata, body: bytes) -> None:
    if len(body) != 9:
        return
    across, down, unit = struct.unpack(">IIB", body)
    if unit == 1:
        metadata.dpi = (across * _INCH_M, down * _INCH_M)
    elif across and down and across != down:
        metadata.aspect = (across, down)


def _significant_bits(body: bytes, layout: _Layout) -> bytes:
    """SBIT for the bands that the samples will have; empty where it is damaged."""
    if len(body) != _BANDS[layout.color_type]:
        return b""
    return body + bytes([layout.depth]) * layout.transparent


def _background(body: bytes, layout: _Layout) -> bytes:
    """BKGD for samples of 8 or 16 bits without a palette; empty where it is damaged."""
    if layout.color_type == _PALETTE:
        color = layout.palette[3 * body[0] : 3 * body[0] + 3] if body else b""
        return b"".join(bytes([0, value]) for value in color)
    if len(body) != (2 if layout.color_type in (0, 4) else 6):
        return b""
    if layout.stored_depth >= 8:
        return body
    return (int.from_bytes(body) * 255 // ((1 << layout.stored_depth) - 1) & 255).to_bytes(2)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body), kind) + body + deflate.crc(kind, body).to_bytes(4)


def _ancillary(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    yield from metadata.png_chunks
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        yield b"pHYs", struct.pack(">IIB", *(round(value / _INCH_M) for value in metadata.dpi), 1)
    elif metadata.aspect:
        yield b"pHYs", struct.pack(">IIB", *metadata.aspect, 0)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", _XMP + bytes(4) + metadata.xmp


def _unpacked(unpack: Callable[[bytes], bytes], body: bytes, what: str, notices: list[str]) -> bytes | None:
    try:
        return unpack(body)
    except ValueError as error:
        notices.append(f"its {what} is damaged and was left out ({error})")
        return None


def _profile(body: bytes) -> bytes:
    """The ICC profile in an iCCP chunk: a name, a zero, the method, and the compressed profile."""
    _, separator, rest = body.partition(b"\0")
    if not separator or rest[:1] != b"\0":
        raise ValueError("unknown compression")
    return _inflated(rest[1:])


def _xmp(body: bytes) -> bytes:
    """The XMP packet in an iTXt chunk: keyword, compression flag and method, language, keyword, text."""
    compressed, rest = body[len(_XMP) : len(_XMP) + 1], body[len(_XMP) + 2 :]
    text = rest.split(b"\0", 2)[-1]
    return text if compressed == b"\0" else _inflated(text)


def _inflated(data: bytes) -> bytes:
    """What zlib compressed. Raises ValueError where it is damaged, or more than any metadata should be."""
    try:
        inflate = zlib.decompressobj()
        whole = inflate.decompress(data, _MAX_METADATA_BYTES)
    except zlib.error as error:
        raise ValueError("its compressed data is broken") from error
    if not inflate.eof:
        raise ValueError("cut off, or too large")
    return whole

"""Reads and writes PNG: chunks and encoding here, decoding by libpng through libvips.

libpng gets only the chunks that the pixels depend on. The others are parsed here, or copied unchanged, or
dropped with a warning. libvips supports few of them, and its writer uses only one thread.
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
from subpixel.images.image import (
    DecodedImage,
    Header,
    Metadata,
    Strips,
    apply_orientation,
    first_frame_warning,
    swaps_axes,
)
from subpixel.images.palette import Palette
from subpixel.images.workers import Workers

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
COLOR_CHUNKS = (b"cHRM", b"gAMA", b"sRGB", b"cICP", b"mDCV", b"cLLI")
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
_DROPPED_SILENTLY = (b"hIST", b"iDOT", b"acTL", b"fcTL", b"fdAT")
"""Chunks about the stored pixels that are useless in the output, such as those of an animation of one
frame."""
_XMP = b"XML:com.adobe.xmp\0"
_M_PER_INCH = 0.0254
_MAX_METADATA_BYTES = 1 << 24
_BLOCK_BYTES = 1 << 21
_FILTER_UP = 2
_ZLIB_LEVEL_OF_INDICES = 6
"""Slower than for photographs, but the files of pixel art are small."""
COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""The color type by the number of channels."""
_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PALETTE = 3
_DEPTHS = (1, 2, 4, 8, 16)


class Chunk(NamedTuple):
    """A chunk of a file."""

    name: bytes
    offset: int
    length: int
    """Of the chunk: 12 bytes more than its body."""
    body: bytes
    """Empty for pixels, which libpng reads from the file."""
    intact: bool


def read(path: Path, approve: Callable[[Header], None]) -> DecodedImage:
    """Read a PNG file. ``approve`` gets the header before pixels are decoded."""
    from subpixel.images.codecs.vips import decode

    with path.open("rb") as file:
        chunks = list(chunks_of(path, file))
        pixels = [chunk for chunk in chunks if chunk.name in (*CRITICAL, b"tRNS")]
        for chunk in pixels:
            if not chunk.intact:
                name = chunk.name.decode("latin-1")
                raise UnreadableImage(f"{path}: the PNG file is damaged (its {name!r} chunk); get it again")
        layout = layout_of(path, pixels)
        image = read_ancillary(path, chunks, layout)
        frames = max((int.from_bytes(chunk.body[:4]) for chunk in chunks if chunk.name == b"acTL"), default=1)
        if frames > 1:
            image.warnings.append(first_frame_warning(frames))
        orientation = image.metadata.read_orientation(image.warnings)
        size = (layout.height, layout.width) if swaps_axes(orientation) else (layout.width, layout.height)
        spans = [(0, len(SIGNATURE)), *((chunk.offset, chunk.length) for chunk in pixels)]
        copies, file_bytes = 2 if layout.interlaced else 1, sum(length for _, length in spans)
        approve(Header(*size, layout.channels, layout.depth == 16, copies, file_bytes=2 * file_bytes))
        image.samples = apply_orientation(decode("pngload", file, spans), orientation)
    return image


def write(file: IO[bytes], strips: Strips, metadata: Metadata, workers: Workers) -> None:
    """Write samples and metadata as a PNG file. Several threads compress."""
    height, width = strips.shape[:2]
    depth, color_type = 8 * strips.dtype.itemsize, COLOR_TYPES[strips.channels]
    chunks = list(ancillary(metadata))
    if strips.palette is not None:
        depth, color_type = strips.palette.bits, _PALETTE
        chunks = _with_palette(chunks, strips.palette)
    file.write(SIGNATURE)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    for name, body in [(b"IHDR", header), *chunks]:
        file.write(encode_chunk(name, body))
    for data in compressed(strips, workers):
        file.write(encode_chunk(b"IDAT", data))
    file.write(encode_chunk(b"IEND", b""))


def compressed(strips: Strips, workers: Workers) -> Iterator[bytes]:
    """Compress samples, and yield the parts of the zlib stream."""
    header, adler = deflate.HEADER, 1
    compress = _compress if strips.palette is None else _compress_indices
    for piece in workers.map(compress, _blocks(strips)):
        yield header + piece.data
        header, adler = b"", deflate.combine_adler(adler, piece.adler, piece.length)
    yield header + deflate.trailer(adler)


_Block = tuple[NDArray[Any], NDArray[Any] | None]
"""Rows, and the row above them."""


def _blocks(strips: Strips) -> Iterator[_Block]:
    """Split the samples into blocks of rows."""
    above = None
    for strip in strips.iterator:
        rows = strip.reshape(len(strip), -1) if strips.palette is None else strips.palette.pack(strip)
        count = max(1, _BLOCK_BYTES // rows[0].nbytes)
        for top in range(0, len(rows), count):
            yield rows[top : top + count], above
            above = rows[top : top + count][-1].copy()


def _compress(block: _Block) -> deflate.Piece:
    """Store rows as differences from the row above (the filter Up), which suits photographs, and compress."""
    rows, above = (_big_endian_bytes(part) if part is not None else 0 for part in block)
    assert isinstance(rows, np.ndarray)
    filtered = np.empty((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = _FILTER_UP
    np.subtract(rows[0], above, out=filtered[0, 1:])
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    return deflate.compress_piece(filtered)


def _compress_indices(block: _Block) -> deflate.Piece:
    """Compress rows of positions in a palette. Equal rows become zeros; other differences mean nothing."""
    rows, above = block
    filtered = np.zeros((rows.shape[0], 1 + rows.shape[1]), np.uint8)
    before = np.concatenate([rows[:1] if above is None else above[None], rows[:-1]])
    repeated = (rows == before).all(axis=1)
    repeated[0] &= above is not None
    filtered[repeated, 0] = _FILTER_UP
    filtered[~repeated, 1:] = rows[~repeated]
    return deflate.compress_piece(filtered, _ZLIB_LEVEL_OF_INDICES)


def _big_endian_bytes(samples: NDArray[Any]) -> NDArray[np.uint8]:
    return samples.astype(samples.dtype.newbyteorder(">"), copy=False).view(np.uint8)


def chunks_of(path: Path, file: IO[bytes]) -> Iterator[Chunk]:
    """Yield the chunks up to IEND. The pixels, in IDAT and fdAT, are read by those who decode them."""
    end = file.seek(0, 2)
    offset, name = len(SIGNATURE), b""
    while name != b"IEND":
        file.seek(offset)
        header = file.read(8)
        length, name = struct.unpack(">I4s", header) if len(header) == 8 else (0, b"")
        if offset + 12 + length > end:
            raise UnreadableImage(f"{path}: the file is truncated; get it again")
        body, intact = b"", True
        if name not in (b"IDAT", b"fdAT"):
            body = file.read(length) if length <= _MAX_METADATA_BYTES else b""
            intact = len(body) == length and deflate.crc(name, body) == int.from_bytes(file.read(4))
        yield Chunk(name, offset, length + 12, body, intact)
        offset += length + 12


class Layout(NamedTuple):
    """The header of a PNG, and the shape of the decoded samples."""

    width: int
    height: int
    stored_depth: int
    color_type: int
    interlaced: bool
    transparent: bool
    """Whether tRNS adds an alpha channel."""
    palette: bytes

    @property
    def depth(self) -> int:
        """Bits of the decoded samples."""
        return max(8, self.stored_depth)

    @property
    def channels(self) -> int:
        """Of the decoded samples, alpha included."""
        return _CHANNELS[self.color_type] + self.transparent


def layout_of(path: Path, pixels: list[Chunk]) -> Layout:
    """Parse the header.

    Args:
        path: the file, for messages.
        pixels: the chunks that the pixels depend on, the header first.

    Raises:
        UnreadableImage: the header is missing or invalid.
    """
    first = pixels[0] if pixels else None
    if first is None or first.name != b"IHDR" or len(first.body) != 13:
        raise UnreadableImage(f"{path}: the PNG file is damaged (it has no header); get it again")
    width, height, depth, color, _, _, interlaced = struct.unpack(">IIBBBBB", first.body)
    if color not in _CHANNELS or depth not in _DEPTHS or not width or not height:
        raise UnreadableImage(f"{path}: the PNG file is damaged (its header is invalid); get it again")
    bodies = {chunk.name: chunk.body for chunk in pixels}
    transparent = b"tRNS" in bodies and color in (0, 2, _PALETTE)
    return Layout(width, height, depth, color, bool(interlaced), transparent, bodies.get(b"PLTE", b""))


def read_ancillary(path: Path, chunks: list[Chunk], layout: Layout) -> DecodedImage:
    """Read the metadata into an image without samples."""
    metadata, warnings = Metadata(), []
    kept: list[tuple[bytes, bytes]] = []
    unsafe = set()
    for chunk in chunks:
        name, body, shown = chunk.name, chunk.body, chunk.name.decode("latin-1")
        if name in (*CRITICAL, b"tRNS"):
            continue
        if not chunk.intact:
            warnings.append(f"its {shown!r} chunk is damaged or too large and was dropped")
        elif not name[0] & 0x20:
            problem = (
                "is a PNG only for iPhones"
                if name == b"CgBI"
                else f"has the unknown critical chunk {shown!r}"
            )
            raise UnsupportedImage(f"{path}: {problem}; convert it to a plain PNG first")
        elif name == b"eXIf":
            metadata.exif = body.removeprefix(b"Exif\0\0")
        elif name == b"iCCP":
            metadata.icc = _parsed(_profile, body, "color profile", warnings)
        elif name == b"iTXt" and body.startswith(_XMP):
            metadata.xmp = _parsed(_xmp, body, "XMP data", warnings)
        elif name == b"pHYs":
            _set_resolution(metadata, body)
        elif name in (b"sBIT", b"bKGD"):
            body = _significant_bits(body, layout) if name == b"sBIT" else _background(body, layout)
            kept += [(name, body)] if body else []
        elif name in COLOR_CHUNKS or name == b"tIME" or name[3] & 0x20:  # marked as safe to copy
            kept.append((name, body))
        elif name not in _DROPPED_SILENTLY:
            unsafe.add(shown)
    if unsafe:
        names = ", ".join(sorted(unsafe))
        warnings.append(f"chunks that may depend on its pixels were dropped ({names})")
    metadata.png_chunks = tuple(kept)
    return DecodedImage(np.empty((0, 0), np.uint8), metadata, warnings)


def _set_resolution(metadata: Metadata, body: bytes) -> None:
    if len(body) != 9:
        return
    across, down, unit = struct.unpack(">IIB", body)
    if unit == 1:
        metadata.dpi = (across * _M_PER_INCH, down * _M_PER_INCH)
    elif across and down and across != down:
        metadata.aspect = (across, down)


def _significant_bits(body: bytes, layout: Layout) -> bytes:
    """The body of sBIT for the decoded channels; empty if it is damaged."""
    if len(body) != _CHANNELS[layout.color_type]:
        return b""
    return body + bytes([layout.depth]) * layout.transparent


def _background(body: bytes, layout: Layout) -> bytes:
    """The body of bKGD for decoded samples of 8 or 16 bits; empty if it is damaged."""
    if layout.color_type == _PALETTE:
        color = layout.palette[3 * body[0] : 3 * body[0] + 3] if body else b""
        return b"".join(bytes([0, value]) for value in color)
    if len(body) != (2 if layout.color_type in (0, 4) else 6):
        return b""
    if layout.stored_depth >= 8:
        return body
    return (int.from_bytes(body) * 255 // ((1 << layout.stored_depth) - 1) & 255).to_bytes(2)


def encode_chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and its checksum."""
    return struct.pack(">I4s", len(body), name) + body + deflate.crc(name, body).to_bytes(4)


def ancillary(metadata: Metadata) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and body of the chunks that store metadata."""
    yield from metadata.png_chunks
    if metadata.icc:
        yield b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)
    if metadata.dpi:
        yield b"pHYs", struct.pack(">IIB", *(round(value / _M_PER_INCH) for value in metadata.dpi), 1)
    elif metadata.aspect:
        yield b"pHYs", struct.pack(">IIB", *metadata.aspect, 0)
    if metadata.exif:
        yield b"eXIf", metadata.exif
    if metadata.xmp:
        yield b"iTXt", _XMP + bytes(4) + metadata.xmp


def _with_palette(chunks: list[tuple[bytes, bytes]], palette: Palette) -> list[tuple[bytes, bytes]]:
    """Insert the chunks of a palette, and convert those that describe RGB."""
    result = []
    for name, body in chunks:
        if name == b"sBIT":
            result.append((name, body[:3]))
        elif name != b"bKGD":
            result.append((name, body))
    result.append((b"PLTE", palette.rgb))
    if palette.alpha:
        result.append((b"tRNS", palette.alpha))
    for body in (body for name, body in chunks if name == b"bKGD"):
        if (index := palette.index(*body[1::2])) is not None:
            result.append((b"bKGD", bytes([index])))
    return result


def _parsed(parse: Callable[[bytes], bytes], body: bytes, what: str, warnings: list[str]) -> bytes | None:
    try:
        return parse(body)
    except ValueError as error:
        warnings.append(f"its {what} is damaged and was dropped ({error})")
        return None


def _profile(body: bytes) -> bytes:
    """Extract the ICC profile from an iCCP chunk: name, zero, compression method, compressed profile."""
    _, separator, rest = body.partition(b"\0")
    if not separator or rest[:1] != b"\0":
        raise ValueError("unknown compression")
    return _inflate(rest[1:])


def _xmp(body: bytes) -> bytes:
    """Extract the XMP packet from an iTXt chunk.

    Its fields: keyword, compression flag, compression method, language, translated keyword, text.
    """
    compressed, rest = body[len(_XMP) : len(_XMP) + 1], body[len(_XMP) + 2 :]
    text = rest.split(b"\0", 2)[-1]
    return text if compressed == b"\0" else _inflate(text)


def _inflate(data: bytes) -> bytes:
    """Decompress a zlib stream.

    Raises:
        ValueError: the data is damaged, or decompresses to more than `_MAX_METADATA_BYTES`.
    """
    try:
        decompressor = zlib.decompressobj()
        result = decompressor.decompress(data, _MAX_METADATA_BYTES)
    except zlib.error as error:
        raise ValueError("its compressed data is invalid") from error
    if not decompressor.eof:
        raise ValueError("truncated, or too large")
    return result

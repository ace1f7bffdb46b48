"""Reads and writes animated PNG (APNG; PNG specification, third edition).

Each frame is decoded as a PNG of its own, and its samples are compressed as those of a still PNG.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import UnreadableImage
from subpixel.images.animations.animation import Animation, Frame, Sequence
from subpixel.images.animations.changes import bounds
from subpixel.images.animations.compose import Disposal, Patch, compose
from subpixel.images.codecs import deflate, png
from subpixel.images.formats import PNG
from subpixel.images.image import Header, Metadata, Strips
from subpixel.images.workers import Workers

_DEFAULT_DENOMINATOR = 100
"""Of a delay whose denominator is 0."""
_MAX_16_BITS = 0xFFFF
_CONTROL = ">IIIIIHHBB"
"""Of fcTL: sequence number, width, height, left, top, numerator and denominator of the delay, disposal,
blending."""
_KEEP, _REPLACE = 0, 0
_DISPOSALS = (Disposal.KEEP, Disposal.CLEAR, Disposal.RESTORE)


class _Part(NamedTuple):
    """A frame as it is stored."""

    control: tuple[int, ...]
    """The fields of fcTL."""
    chunks: list[png.Chunk]
    """IDAT or fdAT."""


def open_apng(path: Path) -> Animation | None:
    """Read the chunks of a PNG; None if it is no animation of two or more frames."""
    with path.open("rb") as file:
        chunks = list(png.chunks_of(path, file))
    if not any(chunk.name == b"acTL" for chunk in chunks):
        return None
    parts = _parts(path, chunks)
    if len(parts) < 2:
        return None
    layout = png.layout_of(path, [chunk for chunk in chunks if chunk.name in (b"IHDR", b"PLTE", b"tRNS")])
    for number, part in enumerate(parts):
        _, width, height, left, top, *_ = part.control
        if left + width > layout.width or top + height > layout.height or not width or not height:
            raise UnreadableImage(
                f"{path}: the PNG file is damaged (frame {number} is not inside the image); get it again"
            )
    image = png.read_ancillary(path, chunks, layout)
    header = next(chunk for chunk in chunks if chunk.name == b"acTL").body
    warnings = image.warnings
    if (stated := int.from_bytes(header[:4])) > len(parts):
        warnings.append(f"only {len(parts)} of its {stated} frames are there")
    if not any(chunk.name == b"IDAT" for chunk in parts[0].chunks):
        warnings.append("its default image, which is not a frame of the animation, was dropped")
    colors = layout.channels - (layout.channels in (2, 4))
    alpha = layout.channels in (2, 4) or any(
        part.control[7] == Disposal.CLEAR.value or _size(part) != (layout.width, layout.height)
        for part in parts[:1]
    )
    dtype = np.uint16 if layout.depth == 16 else np.uint8
    shape = (layout.height, layout.width, colors + 1)

    def patches() -> Iterator[Patch]:
        with path.open("rb") as file:
            for part in parts:
                yield _patch(path, file, part, chunks)

    return Animation(
        PNG,
        Header(layout.width, layout.height, colors + alpha, layout.depth == 16, 4),
        len(parts),
        int.from_bytes(header[4:8]),
        lambda: compose(patches(), shape, dtype, alpha=alpha),
        image.metadata,
        warnings,
    )


def _size(part: _Part) -> tuple[int, int]:
    return part.control[1], part.control[2]


def _parts(path: Path, chunks: list[png.Chunk]) -> list[_Part]:
    """Collect the chunks of each frame. IDAT is a frame only if a fcTL precedes it."""
    parts: list[_Part] = []
    for chunk in chunks:
        if chunk.name == b"fcTL":
            if not chunk.intact or len(chunk.body) != struct.calcsize(_CONTROL):
                raise UnreadableImage(f"{path}: the PNG file is damaged (its 'fcTL' chunk); get it again")
            parts.append(_Part(struct.unpack(_CONTROL, chunk.body), []))
        elif chunk.name in (b"IDAT", b"fdAT") and parts:
            parts[-1].chunks.append(chunk)
    return [part for part in parts if part.chunks]


def _patch(path: Path, file: IO[bytes], part: _Part, chunks: list[png.Chunk]) -> Patch:
    """Decode a frame."""
    from subpixel.images.codecs.vips import Span, decode

    _, width, height, left, top, numerator, denominator, disposal, blending = part.control
    spans: list[Span] = [png.SIGNATURE]
    for chunk in chunks:
        if chunk.name == b"IHDR":
            spans.append(png.encode_chunk(b"IHDR", struct.pack(">II", width, height) + chunk.body[8:]))
        elif chunk.name in (b"PLTE", b"tRNS"):
            spans.append((chunk.offset, chunk.length))
    for chunk in part.chunks:
        if chunk.name == b"IDAT":
            spans.append((chunk.offset, chunk.length))
            continue
        file.seek(chunk.offset + 8)
        body, checksum = file.read(chunk.length - 12), file.read(4)
        if deflate.crc(b"fdAT", body) != int.from_bytes(checksum):
            raise UnreadableImage(f"{path}: the PNG file is damaged (its 'fdAT' chunk); get it again")
        spans.append(png.encode_chunk(b"IDAT", body[4:]))
    spans.append(png.encode_chunk(b"IEND", b""))
    samples = _with_alpha(decode("pngload", file, spans))
    delay = Fraction(numerator, denominator or _DEFAULT_DENOMINATOR)
    return Patch(left, top, samples, delay, _DISPOSALS[min(disposal, 2)], bool(blending))


def _with_alpha(samples: NDArray[Any]) -> NDArray[Any]:
    pixels = samples if samples.ndim == 3 else samples[..., None]
    if pixels.shape[2] in (2, 4):
        return pixels
    opaque = np.full((*pixels.shape[:2], 1), np.iinfo(pixels.dtype).max, pixels.dtype)
    return np.concatenate([pixels, opaque], axis=2)


def write(file: IO[bytes], sequence: Sequence, metadata: Metadata, workers: Workers) -> list[str]:
    """Write an animated PNG. Of each frame, only the rectangle that changes is stored.

    Returns:
        Warnings.
    """
    height, width = sequence.shape[:2]
    first = next(sequence.frames)
    depth = 8 * first.samples.dtype.itemsize
    file.write(png.SIGNATURE)
    header = struct.pack(">IIBBBBB", width, height, depth, png.COLOR_TYPES[sequence.channels], 0, 0, 0)
    file.write(png.encode_chunk(b"IHDR", header))
    file.write(png.encode_chunk(b"acTL", struct.pack(">II", sequence.length, sequence.plays)))
    for name, body in png.ancillary(metadata):
        file.write(png.encode_chunk(name, body))
    writer = _Writer(file, workers)
    writer.add(first, slice(0, height), slice(0, width))
    before = first.samples
    for frame in sequence.frames:
        differs = frame.samples != before
        writer.add(frame, *bounds(differs.any(2) if differs.ndim == 3 else differs))
        before = frame.samples
    file.write(png.encode_chunk(b"IEND", b""))
    return writer.warnings


class _Writer:
    """Writes the chunks of frames."""

    def __init__(self, file: IO[bytes], workers: Workers) -> None:
        self._file = file
        self._workers = workers
        self._number = 0
        self.warnings: list[str] = []

    def add(self, frame: Frame, rows: slice, columns: slice) -> None:
        """Write a part of a frame."""
        part = np.ascontiguousarray(frame.samples[rows, columns])
        is_first = not self._number
        size = part.shape[1], part.shape[0], columns.start, rows.start
        control = struct.pack(_CONTROL[0] + _CONTROL[2:], *size, *self._delay(frame), _KEEP, _REPLACE)
        self._put(b"fcTL", control)
        strips = Strips(part.shape, part.dtype, len(part), iter([part]))
        for data in png.compressed(strips, self._workers):
            if is_first:
                self._file.write(png.encode_chunk(b"IDAT", data))
            else:
                self._put(b"fdAT", data)

    def _put(self, name: bytes, body: bytes) -> None:
        self._file.write(png.encode_chunk(name, self._number.to_bytes(4) + body))
        self._number += 1

    def _delay(self, frame: Frame) -> tuple[int, int]:
        """The delay as a fraction of two 16-bit numbers."""
        denominator = frame.delay.denominator
        largest = int(_MAX_16_BITS / frame.delay) if frame.delay else denominator
        if not largest:
            self.warnings = [f"delays are cut to {_MAX_16_BITS} s, the limit of PNG"]
            return _MAX_16_BITS, 1
        denominator = min(denominator, largest, _MAX_16_BITS)
        return int(frame.delay * denominator + Fraction(1, 2)), denominator

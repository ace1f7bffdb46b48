"""Reads and writes GIF, still or animated.

A GIF is a row of blocks (GIF89a specification). Blocks are parsed and written here; Pillow decodes and
encodes the pixels of a block.
"""

import itertools
import struct
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import GifImagePlugin, Image

from subpixel.errors import UnreadableImage
from subpixel.images.animations.animation import ENDLESS, Animation, Sequence, in_ticks
from subpixel.images.animations.changes import bounds
from subpixel.images.animations.compose import Disposal, Patch, compose
from subpixel.images.animations.palette import MAX_COLORS, TRANSPARENT, PaletteBuilder, pack
from subpixel.images.animations.spool import Spool
from subpixel.images.formats import GIF
from subpixel.images.image import Header, Metadata

TICKS_PER_SECOND = 100
"""Delays are hundredths of a second."""
_MAX_TICKS = 0xFFFF
_MAX_LOOPS = 0xFFFF

_DISPOSALS = {2: Disposal.CLEAR, 3: Disposal.RESTORE}
_KEEP, _CLEAR = 1, 2
_LOOP_EXTENSIONS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_XMP_EXTENSION = b"XMP DataXMP"
_XMP_TRAILER = b"\x01" + bytes(range(255, -1, -1))
"""Makes a reader that takes the text of XMP for the lengths of blocks find the end (XMP, part 3, 1.1.2)."""

_INDICES = bytes(value for index in range(256) for value in (index, 0, 0))
"""A palette with which Pillow decodes a block to its indices; a gray one would give another mode."""


class _Block(NamedTuple):
    """An image block, with the graphic control extension before it."""

    left: int
    top: int
    width: int
    height: int
    interlaced: bool
    palette: bytes
    data: bytes
    """The compressed indices."""
    ticks: int
    disposal: Disposal
    transparent: int | None
    """The index that is not drawn."""

    def patch(self) -> Patch:
        """Decode the pixels."""
        colors = np.zeros((256, 4), np.uint8)
        colors[:, 3] = 255
        known = np.frombuffer(self.palette, np.uint8).reshape(-1, 3)
        colors[: len(known), :3] = known
        if self.transparent is not None:
            colors[self.transparent] = 0
        return Patch(
            self.left,
            self.top,
            colors[self._indices()],
            Fraction(self.ticks, TICKS_PER_SECOND),
            self.disposal,
        )

    def _indices(self) -> NDArray[np.uint8]:
        if not self.width or not self.height:
            return np.zeros((self.height, self.width), np.uint8)
        size = self.width, self.height
        screen = struct.pack("<HHBBB", *size, 0x80 | 7, 0, 0)
        descriptor = struct.pack("<BHHHHB", 0x2C, 0, 0, *size, 0x40 if self.interlaced else 0)
        file = BytesIO(b"".join([b"GIF89a", screen, _INDICES, descriptor, self.data, b";"]))
        # Not through Image.open, whose limit on pixels is global to the process.
        with GifImagePlugin.GifImageFile(file) as image:
            return np.asarray(image)


class _Contents(NamedTuple):
    """A parsed file."""

    width: int
    height: int
    blocks: list[_Block]
    plays: int
    metadata: Metadata
    is_complete: bool
    """Whether the trailer is there, the mark at the end of a file."""

    @property
    def has_alpha(self) -> bool:
        """Whether pixels can be transparent."""
        first = self.blocks[0]
        covers = (first.left, first.top) == (0, 0)
        covers = covers and first.width >= self.width and first.height >= self.height
        return not covers or any(
            block.transparent is not None or block.disposal is Disposal.CLEAR for block in self.blocks
        )


def open_gif(path: Path) -> Animation:
    """Parse a GIF; one with a single frame is an `Animation` too."""
    contents = _parse(path, path.read_bytes())
    alpha = contents.has_alpha
    warnings = [] if contents.is_complete else ["its end is missing, perhaps with further frames"]
    shape = (contents.height, contents.width, 4)

    return Animation(
        GIF,
        Header(contents.width, contents.height, 4 if alpha else 3, False, 3),
        len(contents.blocks),
        contents.plays,
        lambda: compose((block.patch() for block in contents.blocks), shape, np.uint8, alpha=alpha),
        contents.metadata,
        warnings,
    )


def _parse(path: Path, data: bytes) -> _Contents:
    parser = _Parser(data)
    try:
        is_complete = parser.parse()
    except (struct.error, IndexError):
        raise UnreadableImage(f"{path}: the file is truncated; get it again") from None
    if not parser.blocks:
        raise UnreadableImage(f"{path}: the GIF file is damaged (it contains no image); get it again")
    first = parser.blocks[0]
    # As browsers do, a first frame that is larger than the screen enlarges it.
    width = max(parser.width, first.left + first.width)
    height = max(parser.height, first.top + first.height)
    if not width or not height:
        raise UnreadableImage(f"{path}: the GIF file is damaged (its size is 0); get it again")
    # A GIF states how often it repeats after the first time.
    plays = 1 if parser.loops is None else parser.loops + 1 if parser.loops else ENDLESS
    metadata = Metadata(comment=parser.comment, xmp=parser.xmp)
    return _Contents(width, height, parser.blocks, plays, metadata, is_complete)


class _Parser:
    """Reads the blocks of a GIF. A truncated file raises IndexError or struct.error."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 6
        self.blocks: list[_Block] = []
        self.loops: int | None = None
        self.comment: bytes | None = None
        self.xmp: bytes | None = None
        self._control: tuple[int, int, int | None] = (0, 0, None)
        self.width, self.height, flags, _, _ = self._unpack("<HHBBB")
        self._palette = self._color_table(flags)

    def parse(self) -> bool:
        """Read all blocks, and return whether the trailer follows them."""
        while self._at < len(self._data):
            kind = self._take(1)[0]
            if kind == 0x2C:
                self._image()
            elif kind == 0x21:
                self._extension()
            elif kind == 0x3B:
                return True
            elif kind:  # zeros between blocks do no harm
                break
        return False

    def _take(self, length: int) -> bytes:
        taken = self._data[self._at : self._at + length]
        if len(taken) < length:
            raise IndexError
        self._at += length
        return taken

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))

    def _color_table(self, flags: int) -> bytes:
        return self._take(3 << (flags & 7) + 1) if flags & 0x80 else b""

    def _sub_blocks(self) -> bytes:
        """Skip sub-blocks, and return them with their lengths, without the end mark."""
        start = self._at
        while length := self._take(1)[0]:
            self._take(length)
        return self._data[start : self._at - 1]

    def _image(self) -> None:
        left, top, width, height, flags = self._unpack("<HHHHB")
        palette = self._color_table(flags) or self._palette
        start = self._at
        self._at += 1
        self._sub_blocks()
        ticks, disposal, transparent = self._control
        self.blocks.append(
            _Block(
                left, top, width, height, bool(flags & 0x40), palette, self._data[start : self._at],
                ticks, _DISPOSALS.get(disposal, Disposal.KEEP), transparent,
            )
        )  # fmt: skip
        self._control = (0, 0, None)

    def _extension(self) -> None:
        label = self._take(1)[0]
        body = self._sub_blocks()
        if label == 0xF9 and len(body) >= 5:
            flags, ticks, index = struct.unpack("<BHB", body[1:5])
            self._control = (ticks, flags >> 2 & 7, index if flags & 1 else None)
        elif label == 0x01:  # text, which no browser shows; the control was for it
            self._control = (0, 0, None)
        elif label == 0xFE:
            self.comment = self.comment or _joined(body)
        elif label == 0xFF and body[1:12] in _LOOP_EXTENSIONS and body[12:14] == b"\x03\x01":
            self.loops = int.from_bytes(body[14:16], "little")
        elif label == 0xFF and body[1:12] == _XMP_EXTENSION:
            self.xmp = body[12:].removesuffix(_XMP_TRAILER)


def _joined(sub_blocks: bytes) -> bytes:
    """Remove the lengths between sub-blocks."""
    parts, at = [], 0
    while at < len(sub_blocks):
        parts.append(sub_blocks[at + 1 : at + 1 + sub_blocks[at]])
        at += 1 + sub_blocks[at]
    return b"".join(parts)


def write(
    file: IO[bytes], sequence: Sequence, metadata: Metadata, *, warn_of_colors: bool = True
) -> list[str]:
    """Write a GIF, with one palette for all frames.

    Without dithering, and with one palette, equal pixels of two frames stay equal, so that what stands still
    does not flicker. The palette needs all frames, so they wait in a temporary file beside the output.

    Returns:
        Warnings.
    """
    builder, warnings = PaletteBuilder(), []
    height, width = sequence.shape[:2]
    with Spool(Path(file.name).parent) as spool:
        delays = []
        for samples, ticks in in_ticks(sequence.frames, TICKS_PER_SECOND):
            pixels = pack(samples)
            builder.add(pixels)
            spool.add(pixels)
            delays.append(ticks)
        if max(delays) > _MAX_TICKS:
            warnings.append(f"delays are cut to {_MAX_TICKS / TICKS_PER_SECOND:.0f} s, the limit of GIF")
        if warn_of_colors and not builder.is_exact:
            warnings.append(f"reduced to {MAX_COLORS} colors, the limit of GIF")
        palette = builder.palette()
        file.write(_header(width, height, palette.colors, sequence, metadata))
        frames = (palette.indices(pixels) for pixels in spool)
        for part, ticks in zip(_parts(frames, palette.transparent), delays, strict=True):
            options: dict[str, Any] = {
                "duration": min(ticks, _MAX_TICKS) * 1000 // TICKS_PER_SECOND,
                "disposal": part.disposal,
            }
            if palette.transparent is not None:
                options["transparency"] = palette.transparent
            image = Image.fromarray(part.indices)
            file.writelines(GifImagePlugin.getdata(image, (part.left, part.top), **options))
        file.write(b";")
    return warnings


def _header(
    width: int, height: int, colors: NDArray[np.uint8], sequence: Sequence, metadata: Metadata
) -> bytes:
    """Everything before the first frame."""
    table = colors.tobytes().ljust(3 * (MAX_COLORS + 1), b"\0")
    header = [b"GIF89a", struct.pack("<HHBBB", width, height, 0x80 | 7, TRANSPARENT, 0), table]
    if sequence.length > 1 and sequence.plays != 1:
        loops = min(sequence.plays - 1, _MAX_LOOPS) if sequence.plays else 0
        header.append(b"!\xff\x0bNETSCAPE2.0\x03\x01" + struct.pack("<HB", loops, 0))
    if metadata.comment:
        header.append(b"!\xfe")
        for start in range(0, len(metadata.comment), 255):
            part = metadata.comment[start : start + 255]
            header.append(bytes([len(part)]) + part)
        header.append(b"\0")
    if metadata.xmp:
        header.append(b"!\xff\x0b" + _XMP_EXTENSION + metadata.xmp + _XMP_TRAILER + b"\0")
    return b"".join(header)


class _Part(NamedTuple):
    """The part of a frame that is written."""

    left: int
    top: int
    indices: NDArray[np.uint8]
    """The transparent index, if there is one, where a pixel stays as it is."""
    disposal: int


def _parts(frames: Iterator[NDArray[np.uint8]], transparent: int | None) -> Iterator[_Part]:
    """Reduce each frame to what changes.

    A pixel can become transparent only if the frame before is cleared at its end. Then its rectangle includes
    this pixel.

    Args:
        frames: indices.
        transparent: the index of transparent pixels; None if there are none.
    """
    frame = next(frames)
    changed = np.full(frame.shape, True) if transparent is None else frame != transparent
    for following in itertools.chain(frames, [None]):
        area, clears = changed, False
        if following is not None and transparent is not None:
            cleared = (following == transparent) & (frame != transparent)
            clears = bool(cleared.any())
            area = changed | cleared if clears else changed
        rows, columns = bounds(area)
        drawn = frame if transparent is None else np.where(changed, frame, transparent).astype(np.uint8)
        yield _Part(columns.start, rows.start, drawn[rows, columns], _CLEAR if clears else _KEEP)
        if following is not None:
            changed = following != frame
            if clears:
                changed[rows, columns] = following[rows, columns] != transparent
            frame = following

"""BMP: headers of every age, with palettes, masks and runs; written without compression."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images.picture import Header, Metadata, Picture, Strips

_FILE_HEADER_BYTES = 14
_OS2_HEADER_BYTES, _INFO_HEADER_BYTES = 12, 40
_RGB, _RLE8, _RLE4, _BITFIELDS, _JPEG, _PNG, _ALPHA_BITFIELDS = range(7)
_OS2_RLE24 = 4
"""What OS/2 calls by the number that Windows has for JPEG."""
_DEPTHS = (1, 2, 4, 8, 16, 24, 32)
_INCH_M = 0.0254
_EMBEDDED_PROFILE = b"DEBM"
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F), 24: (0xFF0000, 0xFF00, 0xFF), 32: (0xFF0000, 0xFF00, 0xFF)}


class _Layout(NamedTuple):
    width: int
    height: int
    upside_down: bool
    """Whether the last row comes first, as is usual."""
    depth: int
    runs: bool
    masks: tuple[int, ...]
    """Of red, green, blue and perhaps alpha."""
    palette: NDArray[np.uint8]
    """``(n, 3)``, RGB."""
    start: int
    """Of the pixels in the file."""


def read(path: Path, approve: Callable[[Header], None]) -> Picture:
    """Read a BMP file; ``approve`` is given the header before the pixels are decoded."""
    data = path.read_bytes()
    layout, metadata = _header(path, data)
    gray = bool(len(layout.palette)) and (layout.palette == layout.palette[:, :1]).all()
    bands = 1 if gray else 3 + (len(layout.masks) == 4)
    approve(Header(layout.width, layout.height, bands, False, 3))
    rows = _runs(path, data, layout) if layout.runs else _rows(path, data, layout)
    if layout.upside_down:
        rows = rows[::-1]
    if len(layout.palette):
        if rows.max(initial=0) >= len(layout.palette):
            raise _damaged(path, "it names colors that its palette lacks")
        return Picture((layout.palette[:, 0] if gray else layout.palette)[rows], metadata)
    if rows.ndim == 3:
        return Picture(rows, metadata)
    samples = np.stack([_channel(rows, mask) for mask in layout.masks], axis=-1)
    return Picture(samples, metadata)


def write(file: IO[bytes], strips: Strips, metadata: Metadata) -> None:
    """Write 8-bit samples, gray or RGB, as a BMP file."""
    height, width = strips.shape[:2]
    row_bytes = -(-width * strips.bands // 4) * 4
    palette = b"".join(bytes([gray, gray, gray, 0]) for gray in range(256)) if strips.bands == 1 else b""
    start = _FILE_HEADER_BYTES + _INFO_HEADER_BYTES + len(palette)
    across, down = (round(value / _INCH_M) for value in metadata.dpi or (0, 0))
    file.write(struct.pack("<2sIHHI", b"BM", start + row_bytes * height, 0, 0, start))
    size, colors = row_bytes * height, len(palette) // 4
    depth = 8 * strips.bands
    fields = (_INFO_HEADER_BYTES, width, height, 1, depth, _RGB, size, across, down, colors, 0)
    file.write(struct.pack("<IiiHHIIiiII", *fields) + palette)
    place = start + row_bytes * height
    for strip in strips.each:  # the last row comes first in the file
        rows = np.zeros((len(strip), row_bytes), np.uint8)
        pixels = strip[::-1, :, ::-1] if strip.ndim == 3 else strip[::-1]
        rows[:, : width * strips.bands] = pixels.reshape(len(strip), -1)
        place -= rows.nbytes
        file.seek(place)
        file.write(rows.data)


def _damaged(path: Path, why: str) -> UnreadableImage:
    return UnreadableImage(f"{path}: the BMP file is damaged or cut off ({why}); get it anew")


def _header(path: Path, data: bytes) -> tuple[_Layout, Metadata]:
    metadata = Metadata()
    try:
        start, size = struct.unpack_from("<II", data, 10)
        if size == _OS2_HEADER_BYTES:
            width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
            compression, used, entry_bytes = _RGB, 0, 3
        else:
            fields = struct.unpack_from("<iiHHIIiiI", data, 18)
            if size < _INFO_HEADER_BYTES:  # a short one of OS/2, whose rest counts as 0
                known = data[18 : 14 + size].ljust(_INFO_HEADER_BYTES - 4, b"\0")
                fields = struct.unpack_from("<iiHHIIiiI", known)
            width, height, _, depth, compression, _, across, down, used = fields
            entry_bytes = 4
            if across > 0 and down > 0:
                metadata.dpi = (across * _INCH_M, down * _INCH_M)
            metadata.icc = _profile(data, size)
        os2 = size in (16, 64)
        masks, behind = _masks(path, data, size, depth, compression, os2)
    except struct.error:
        raise _damaged(path, "its header is incomplete") from None
    if depth not in _DEPTHS or width <= 0 or not height:
        raise _damaged(path, "its header makes no sense")
    palette = np.zeros((0, 3), np.uint8)
    if depth <= 8:
        count = min(used or 1 << depth, 1 << depth, max(0, (start - behind) // entry_bytes) or 1 << depth)
        entries = np.frombuffer(data[behind : behind + count * entry_bytes], np.uint8)
        palette = entries[: len(entries) // entry_bytes * entry_bytes].reshape(-1, entry_bytes)[:, 2::-1]
        if not len(palette):
            raise _damaged(path, "its palette is missing")
    runs = compression in (_RLE4, _RLE8) or (os2 and compression == _OS2_RLE24)
    layout = _Layout(width, abs(height), height > 0, depth, runs, masks, palette, start)
    return layout, metadata


def _profile(data: bytes, size: int) -> bytes | None:
    """The ICC profile that a header of version 5 points to."""
    if size < 124 or data[14 + 56 : 14 + 60] != _EMBEDDED_PROFILE:
        return None
    place, length = struct.unpack_from("<II", data, 14 + 112)
    profile = data[14 + place : 14 + place + length]
    return profile if len(profile) == length > 128 else None


def _masks(
    path: Path, data: bytes, size: int, depth: int, compression: int, os2: bool
) -> tuple[tuple[int, ...], int]:
    """The bits of red, green, blue and perhaps alpha in a pixel, and where the palette begins."""
    behind = _FILE_HEADER_BYTES + size
    known = (_RGB, _RLE8, _RLE4, _OS2_RLE24) if os2 else (_RGB, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS)
    depth_of_runs = {_RLE8: 8, _RLE4: 4, _OS2_RLE24: 24 if os2 else 0}
    if compression not in known:
        name = {_JPEG: "a JPEG in it", _PNG: "a PNG in it"}.get(compression, f"compression {compression}")
        raise UnsupportedImage(f"{path}: is a BMP with {name}; convert it to PNG first")
    if depth_of_runs.get(compression, depth) != depth:
        raise _damaged(path, "its compression does not fit its depth")
    masks: tuple[int, ...] = _DEFAULT_MASKS.get(depth, ())
    if compression in (_BITFIELDS, _ALPHA_BITFIELDS) and not os2:
        place = _FILE_HEADER_BYTES + _INFO_HEADER_BYTES
        alpha = size >= 56 or compression == _ALPHA_BITFIELDS
        masks = struct.unpack_from("<4I" if alpha else "<3I", data, place)
        if size == _INFO_HEADER_BYTES:
            behind += 4 * len(masks)
        if depth not in (16, 24, 32) or not all(masks[:3]):
            raise _damaged(path, "its color masks make no sense")
        if not masks[-1]:
            masks = masks[:3]
    return masks, behind


def _rows(path: Path, data: bytes, layout: _Layout) -> NDArray[Any]:
    """Pixels as they are stored: palette indices or masked words ``(H, W)``, or RGB ``(H, W, 3)``."""
    width, height, depth = layout.width, layout.height, layout.depth
    row_bytes = -(-width * depth // 32) * 4
    # The padding of the last row may be missing.
    needed = row_bytes * (height - 1) + -(-width * depth // 8)
    if len(data) < layout.start + needed:
        raise _damaged(path, "pixels are missing")
    flat = np.frombuffer(
        data[layout.start : layout.start + row_bytes * height].ljust(row_bytes * height, b"\0"), np.uint8
    )
    rows = flat.reshape(height, row_bytes)
    if depth < 8:
        parts = [(rows >> shift) & ((1 << depth) - 1) for shift in range(8 - depth, -1, -depth)]
        return np.stack(parts, axis=-1).reshape(height, -1)[:, :width]
    if depth == 24 and layout.masks == _DEFAULT_MASKS[24]:
        return rows[:, : 3 * width].reshape(height, width, 3)[..., ::-1]
    if depth == 24:
        low, middle, high = np.moveaxis(
            rows[:, : 3 * width].reshape(height, width, 3).astype(np.uint32), 2, 0
        )
        words: NDArray[Any] = low | middle << 8 | high << 16
        return words
    return rows.view(f"<u{depth // 8}")[:, :width]


def _channel(words: NDArray[Any], mask: int) -> NDArray[np.uint8]:
    """The bits of a mask, over the whole range of 8 bits."""
    shift = (mask & -mask).bit_length() - 1
    largest = mask >> shift
    values = (words.astype(np.uint32) & np.uint32(mask)) >> np.uint32(shift)
    if largest > 0xFFFF:  # keeps the products below within 32 bits
        values, largest = values >> np.uint32(largest.bit_length() - 16), 0xFFFF
    return ((values * np.uint32(255) + np.uint32(largest // 2)) // np.uint32(largest)).astype(np.uint8)


def _runs(path: Path, data: bytes, layout: _Layout) -> NDArray[Any]:
    """Run-length encoded pixels, RLE8, RLE4 or OS/2's RLE24: palette indices, or RGB.

    What runs leave out is of the palette's first color, or black.
    """
    width, height, depth = layout.width, layout.height, layout.depth
    unit = 3 if depth == 24 else 1
    result = np.zeros((height, width, unit), np.uint8)
    place, x, y, ended = layout.start, 0, 0, False
    end = len(data)
    while not ended:
        if place + 2 > end:
            raise _damaged(path, "pixels are missing")
        count, value = data[place], data[place + 1]
        place += 2
        if count:
            place += unit - 1
            colors = np.frombuffer(data[place - unit : place], np.uint8)
            pixels = _nibbles(colors, count) if depth == 4 else np.broadcast_to(colors, (count, unit))
        elif value == 0:
            x, y = 0, y + 1
            continue
        elif value == 1:
            ended = True
            continue
        elif value == 2:
            if place + 2 > end:
                raise _damaged(path, "pixels are missing")
            x, y, place = x + data[place], y + data[place + 1], place + 2
            continue
        else:
            count = value
            length = -(-count // 2) if depth == 4 else count * unit
            colors = np.frombuffer(data[place : place + length], np.uint8)
            if len(colors) < length:
                raise _damaged(path, "pixels are missing")
            pixels = _nibbles(colors, count) if depth == 4 else colors.reshape(count, unit)
            place += length + length % 2
        if y < height and x < width:
            result[y, x : x + count] = pixels[: width - x]
        x += count
    return result[..., ::-1] if unit == 3 else result[..., 0]


def _nibbles(colors: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """So many palette indices of 4 bits, the high ones first, ``(count, 1)``; few are repeated."""
    both = np.stack([colors >> 4, colors & 15], axis=-1).ravel()
    return np.resize(both, (count, 1))

"""Reads BMP of every version, with palettes, masks and run-length encoding, and writes uncompressed BMP."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import UnreadableImage, UnsupportedImage
from subpixel.images.image import DecodedImage, Header, Metadata, Strips

_FILE_HEADER_BYTES = 14
_OS2_HEADER_BYTES, _INFO_HEADER_BYTES = 12, 40
_RGB, _RLE8, _RLE4, _BITFIELDS, _JPEG, _PNG, _ALPHA_BITFIELDS = range(7)
_OS2_RLE24 = 4
"""In OS/2 headers. In Windows headers the same number is JPEG."""
_DEPTHS = (1, 2, 4, 8, 16, 24, 32)
_M_PER_INCH = 0.0254
_EMBEDDED_PROFILE = b"DEBM"
_DEFAULT_MASKS = {16: (0x7C00, 0x3E0, 0x1F), 24: (0xFF0000, 0xFF00, 0xFF), 32: (0xFF0000, 0xFF00, 0xFF)}


class _Layout(NamedTuple):
    width: int
    height: int
    bottom_up: bool
    """Whether the last row comes first in the file, as is usual."""
    depth: int
    run_length_encoded: bool
    masks: tuple[int, ...]
    """Bit masks of red, green, blue and, if present, alpha."""
    palette: NDArray[np.uint8]
    """``(n, 3)``, RGB."""
    start: int
    """Offset of the pixels in the file."""


def read(path: Path, approve: Callable[[Header], None]) -> DecodedImage:
    """Read a BMP file. ``approve`` gets the header before pixels are decoded."""
    data = path.read_bytes()
    layout, metadata = _header(path, data)
    gray = bool(len(layout.palette)) and (layout.palette == layout.palette[:, :1]).all()
    channels = 1 if gray else 3 + (len(layout.masks) == 4)
    approve(Header(layout.width, layout.height, channels, False, 3))
    rows = _run_length_rows(path, data, layout) if layout.run_length_encoded else _rows(path, data, layout)
    if layout.bottom_up:
        rows = rows[::-1]
    if len(layout.palette):
        if rows.max(initial=0) >= len(layout.palette):
            raise _damaged(path, "its palette lacks colors that its pixels use")
        return DecodedImage((layout.palette[:, 0] if gray else layout.palette)[rows], metadata)
    if rows.ndim == 3:
        return DecodedImage(rows, metadata)
    samples = np.stack([_channel(rows, mask) for mask in layout.masks], axis=-1)
    return DecodedImage(samples, metadata)


def write(file: IO[bytes], strips: Strips, metadata: Metadata) -> None:
    """Write 8-bit gray or RGB samples as a BMP file."""
    height, width = strips.shape[:2]
    row_bytes = -(-width * strips.channels // 4) * 4
    palette = b"".join(bytes([gray, gray, gray, 0]) for gray in range(256)) if strips.channels == 1 else b""
    start = _FILE_HEADER_BYTES + _INFO_HEADER_BYTES + len(palette)
    across, down = (round(value / _M_PER_INCH) for value in metadata.dpi or (0, 0))
    file.write(struct.pack("<2sIHHI", b"BM", start + row_bytes * height, 0, 0, start))
    size, colors = row_bytes * height, len(palette) // 4
    depth = 8 * strips.channels
    fields = (_INFO_HEADER_BYTES, width, height, 1, depth, _RGB, size, across, down, colors, 0)
    file.write(struct.pack("<IiiHHIIiiII", *fields) + palette)
    offset = start + row_bytes * height
    for strip in strips.iterator:  # the last row comes first in the file
        rows = np.zeros((len(strip), row_bytes), np.uint8)
        pixels = strip[::-1, :, ::-1] if strip.ndim == 3 else strip[::-1]
        rows[:, : width * strips.channels] = pixels.reshape(len(strip), -1)
        offset -= rows.nbytes
        file.seek(offset)
        file.write(rows.data)


def _damaged(path: Path, why: str) -> UnreadableImage:
    return UnreadableImage(f"{path}: the BMP file is damaged or truncated ({why}); get it again")


def _header(path: Path, data: bytes) -> tuple[_Layout, Metadata]:
    metadata = Metadata()
    try:
        start, size = struct.unpack_from("<II", data, 10)
        if size == _OS2_HEADER_BYTES:
            width, height, _, depth = struct.unpack_from("<HHHH", data, 18)
            compression, used, entry_bytes = _RGB, 0, 3
        else:
            fields = struct.unpack_from("<iiHHIIiiI", data, 18)
            if size < _INFO_HEADER_BYTES:  # a short OS/2 header; missing fields count as 0
                known = data[18 : 14 + size].ljust(_INFO_HEADER_BYTES - 4, b"\0")
                fields = struct.unpack_from("<iiHHIIiiI", known)
            width, height, _, depth, compression, _, across, down, used = fields
            entry_bytes = 4
            if across > 0 and down > 0:
                metadata.dpi = (across * _M_PER_INCH, down * _M_PER_INCH)
            metadata.icc = _profile(data, size)
        os2 = size in (16, 64)
        masks, palette_offset = _masks(path, data, size, depth, compression, os2)
    except struct.error:
        raise _damaged(path, "its header is incomplete") from None
    if depth not in _DEPTHS or width <= 0 or not height:
        raise _damaged(path, "its header is invalid")
    palette = np.zeros((0, 3), np.uint8)
    if depth <= 8:
        count = min(
            used or 1 << depth, 1 << depth, max(0, (start - palette_offset) // entry_bytes) or 1 << depth
        )
        entries = np.frombuffer(data[palette_offset : palette_offset + count * entry_bytes], np.uint8)
        palette = entries[: len(entries) // entry_bytes * entry_bytes].reshape(-1, entry_bytes)[:, 2::-1]
        if not len(palette):
            raise _damaged(path, "its palette is missing")
    run_length = compression in (_RLE4, _RLE8) or (os2 and compression == _OS2_RLE24)
    layout = _Layout(width, abs(height), height > 0, depth, run_length, masks, palette, start)
    return layout, metadata


def _profile(data: bytes, size: int) -> bytes | None:
    """The ICC profile of a BMP of version 5, or None."""
    if size < 124 or data[14 + 56 : 14 + 60] != _EMBEDDED_PROFILE:
        return None
    offset, length = struct.unpack_from("<II", data, 14 + 112)
    profile = data[14 + offset : 14 + offset + length]
    return profile if len(profile) == length > 128 else None


def _masks(
    path: Path, data: bytes, size: int, depth: int, compression: int, os2: bool
) -> tuple[tuple[int, ...], int]:
    """The bit masks of red, green, blue and, if present, alpha; and the offset of the palette."""
    palette_offset = _FILE_HEADER_BYTES + size
    known = (_RGB, _RLE8, _RLE4, _OS2_RLE24) if os2 else (_RGB, _RLE8, _RLE4, _BITFIELDS, _ALPHA_BITFIELDS)
    run_length_depths = {_RLE8: 8, _RLE4: 4, _OS2_RLE24: 24 if os2 else 0}
    if compression not in known:
        found = {_JPEG: "a JPEG inside", _PNG: "a PNG inside"}.get(compression, f"compression {compression}")
        raise UnsupportedImage(f"{path}: is a BMP with {found}; convert it to PNG first")
    if run_length_depths.get(compression, depth) != depth:
        raise _damaged(path, "its compression does not fit its depth")
    masks: tuple[int, ...] = _DEFAULT_MASKS.get(depth, ())
    if compression in (_BITFIELDS, _ALPHA_BITFIELDS) and not os2:
        offset = _FILE_HEADER_BYTES + _INFO_HEADER_BYTES
        alpha = size >= 56 or compression == _ALPHA_BITFIELDS
        masks = struct.unpack_from("<4I" if alpha else "<3I", data, offset)
        if size == _INFO_HEADER_BYTES:
            palette_offset += 4 * len(masks)
        if depth not in (16, 24, 32) or not all(masks[:3]):
            raise _damaged(path, "its color masks are invalid")
        if not masks[-1]:
            masks = masks[:3]
    return masks, palette_offset


def _rows(path: Path, data: bytes, layout: _Layout) -> NDArray[Any]:
    """Unpack stored pixels: palette indices or masked words ``(H, W)``, or RGB ``(H, W, 3)``."""
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
    """Extract one channel by its mask, and scale it to 8 bits."""
    shift = (mask & -mask).bit_length() - 1
    largest = mask >> shift
    values = (words.astype(np.uint32) & np.uint32(mask)) >> np.uint32(shift)
    if largest > 0xFFFF:  # keeps the products below in 32 bits
        values, largest = values >> np.uint32(largest.bit_length() - 16), 0xFFFF
    return ((values * np.uint32(255) + np.uint32(largest // 2)) // np.uint32(largest)).astype(np.uint8)


def _run_length_rows(path: Path, data: bytes, layout: _Layout) -> NDArray[Any]:
    """Decode RLE8 or RLE4 to palette indices ``(H, W)``, or RLE24 of OS/2 to RGB ``(H, W, 3)``.

    Skipped pixels get the first color of the palette, or black.
    """
    width, height, depth = layout.width, layout.height, layout.depth
    unit = 3 if depth == 24 else 1
    result = np.zeros((height, width, unit), np.uint8)
    offset, x, y, ended = layout.start, 0, 0, False
    end = len(data)
    while not ended:
        if offset + 2 > end:
            raise _damaged(path, "pixels are missing")
        count, value = data[offset], data[offset + 1]
        offset += 2
        if count:
            offset += unit - 1
            colors = np.frombuffer(data[offset - unit : offset], np.uint8)
            pixels = _nibbles(colors, count) if depth == 4 else np.broadcast_to(colors, (count, unit))
        elif value == 0:
            x, y = 0, y + 1
            continue
        elif value == 1:
            ended = True
            continue
        elif value == 2:
            if offset + 2 > end:
                raise _damaged(path, "pixels are missing")
            x, y, offset = x + data[offset], y + data[offset + 1], offset + 2
            continue
        else:
            count = value
            length = -(-count // 2) if depth == 4 else count * unit
            colors = np.frombuffer(data[offset : offset + length], np.uint8)
            if len(colors) < length:
                raise _damaged(path, "pixels are missing")
            pixels = _nibbles(colors, count) if depth == 4 else colors.reshape(count, unit)
            offset += length + length % 2
        if y < height and x < width:
            result[y, x : x + count] = pixels[: width - x]
        x += count
    return result[..., ::-1] if unit == 3 else result[..., 0]


def _nibbles(colors: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Unpack palette indices of 4 bits, high ones first, and repeat them as needed: ``(count, 1)``."""
    both = np.stack([colors >> 4, colors & 15], axis=-1).ravel()
    return np.resize(both, (count, 1))

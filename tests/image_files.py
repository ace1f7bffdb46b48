"""Builds image files, or parts of them, that the usual libraries do not write."""

import struct
import zlib

import numpy as np

from subpixel.engines.upsampling import Upsampling
from subpixel.images.tiles import upscale_array


def png_chunk(kind, body):
    return struct.pack(">I4s", len(body), kind) + body + struct.pack(">I", zlib.crc32(kind + body))


def png(header, rows, *chunks):
    """A PNG of unfiltered rows. ``header``: width, height, depth, color type, interlaced."""
    width, height, depth, color, interlaced = header
    ihdr = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, interlaced)
    idat = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    parts = [(b"IHDR", ihdr), *chunks, (b"IDAT", idat), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def interlaced_png16(rgb):
    """A 16-bit RGB PNG, interlaced."""
    rows = []
    for y, x, down, across in _ADAM7:
        rows += [row.astype(">u2").tobytes() for row in rgb[y::down, x::across] if row.size]
    return png((rgb.shape[1], rgb.shape[0], 16, 2, 1), rows)


def ifd(order, offset, entries, following=0):
    """A TIFF directory at an offset. Entries are tag, type, count, and value (a number, or bytes)."""
    data, extra = struct.pack(order + "H", len(entries)), b""
    free = offset + 2 + 12 * len(entries) + 4
    for tag, type_, count, value in entries:
        if isinstance(value, bytes) and len(value) > 4:
            field = struct.pack(order + "I", free + len(extra))
            extra += value
        elif isinstance(value, bytes):
            field = value.ljust(4, b"\0")
        else:
            field = struct.pack(order + "HH", value, 0) if type_ == 3 else struct.pack(order + "I", value)
        data += struct.pack(order + "HHI", tag, type_, count) + field
    return data + struct.pack(order + "I", following) + extra


def exif_block(orientation, width, height, *, thumbnail=b"", order="<"):
    """EXIF as a camera writes it: sizes, a maker note that contains its own offset, and a thumbnail."""
    main, details, second = 8, 120, 300
    entries = [
        (0x0100, 4, 1, width),
        (0x0101, 4, 1, height),
        (0x010F, 2, 7, b"Camera\0"),
        (0x0112, 3, 1, orientation),
        (0x8769, 4, 1, details),
    ]
    note = b"MAKER" + struct.pack(order + "I", details + 2 + 3 * 12 + 4)
    block = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", main)
    block += ifd(order, main, entries, second if thumbnail else 0)
    block = block.ljust(details, b"\0")
    block += ifd(
        order, details, [(0x927C, 7, len(note), note), (0xA002, 3, 1, width), (0xA003, 3, 1, height)]
    )
    if thumbnail:
        block = block.ljust(second, b"\0")
        offset = second + 2 + 2 * 12 + 4
        block += ifd(order, second, [(0x0201, 4, 1, offset), (0x0202, 4, 1, len(thumbnail))]) + thumbnail
    return block


def packed_tiff(image, depth):
    """An RGB TIFF with ``depth`` bits per sample. Each row is padded to a multiple of 8 bits."""
    height, width, _ = image.shape
    bits = ((image.reshape(height, -1, 1) >> np.arange(depth)[::-1]) & 1).astype(np.uint8)
    strip = np.packbits(bits.reshape(height, -1), axis=1).tobytes()
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, struct.pack("<3H", depth, depth, depth)),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, len(strip)),
    ]
    strip = strip.ljust(len(strip) + len(strip) % 2, b"\0")
    return struct.pack("<2sHI", b"II", 42, 8 + len(strip)) + strip + ifd("<", 8 + len(strip), entries)


def smooth_image(height=20, width=28, channels=3, dtype=np.uint8, seed=0):
    """Smooth random colors over the whole range."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((5, 7, channels))
    rows, columns = np.linspace(0, 3.99, height), np.linspace(0, 5.99, width)
    y, x = rows.astype(int), columns.astype(int)
    v, u = (rows - y)[:, None, None], (columns - x)[None, :, None]
    top = coarse[y][:, x] * (1 - u) + coarse[y][:, x + 1] * u
    bottom = coarse[y + 1][:, x] * (1 - u) + coarse[y + 1][:, x + 1] * u
    image = np.round((top * (1 - v) + bottom * v) * np.iinfo(dtype).max).astype(dtype)
    return np.ascontiguousarray(image[..., 0] if channels == 1 else image)


def cmyk_profile():
    """An ICC profile of unusual inks: cyan is green, black is blue, magenta and yellow print nothing."""

    def lab(cyan, black):
        if black:
            return 76, 207, 20  # L 30, a 79, b -108: sRGB's blue
        return (224, 42, 211) if cyan else (255, 128, 128)  # L 88, a -86, b 83: sRGB's green; or white

    grid = bytes(value for index in range(16) for value in lab(index >> 3 & 1, index & 1))
    identity = struct.pack(">9i", *(65536 * (index % 4 == 0) for index in range(9)))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + ramp * 4 + grid + ramp * 3
    tags = {b"A2B0": table, b"wtpt": struct.pack(">4s4x3i", b"XYZ ", 63190, 65536, 54061)}
    offset = 128 + 4 + 12 * len(tags)
    index, data = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        index += struct.pack(">4sII", name, offset + len(data), len(body))
        data += body.ljust(-(-len(body) // 4) * 4, b"\0")
    header = struct.pack(">I4sI4s4s4s", offset + len(data), b"", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header = (header.ljust(36, b"\0") + b"acsp").ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + index + data


def upscaled(image, engine, **options):
    """An image, upscaled by the scale of an engine."""
    return upscale_array(image, Upsampling([engine], image.shape[:2]), **options)

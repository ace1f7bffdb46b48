"""Builds and reads animated files: by Pillow, or block by block where Pillow does not write such files."""

import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import pyvips
from PIL import GifImagePlugin, Image, ImageDraw

from image_files import png_chunk

DELAYS_MS = [0, 10, 40, 30, 100]


def sticker(number, *, alpha=True):
    """A frame of an animation: what stands still, and a disk that moves."""
    image = Image.new("RGBA", (40, 30), (0, 0, 0, 0) if alpha else (240, 240, 200, 255))
    draw = ImageDraw.Draw(image)
    draw.rectangle((28, 18, 36, 26), fill=(0, 0, 255, 255))
    draw.ellipse((number * 4, 5, number * 4 + 12, 17), fill=(255, 40 * number, 0, 255))
    return image if alpha else image.convert("RGB")


def save(path, frames, **options):
    delays = options.pop("duration", DELAYS_MS[: len(frames)])
    lossless = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=delays, **lossless, **options)


def read_vips(path):
    """Frames (RGBA), delays in ms and plays of a GIF or WebP, by libvips."""
    load = pyvips.Image.gifload if path.suffix == ".gif" else pyvips.Image.webpload
    image = load(str(path), n=-1)
    samples = image.numpy().reshape(-1, image.get("page-height"), image.width, image.bands)
    if image.bands == 3:
        samples = np.pad(samples, [(0, 0)] * 3 + [(0, 1)], constant_values=255)
    return samples, image.get("delay"), image.get("loop")


def read_png(path):
    """The same for an APNG, by FFmpeg; the plays from the file itself."""
    data = path.read_bytes()
    delays = []
    for at in (found for found in range(len(data)) if data.startswith(b"fcTL", found)):
        numerator, denominator = struct.unpack(">HH", data[at + 24 : at + 28])
        delays.append(float(Fraction(numerator, denominator) * 1000))
    with av.open(str(path)) as video:
        form = "rgba64le" if video.streams.video[0].format.name.endswith("be") else "rgba"
        frames = [frame.to_ndarray(format=form) for frame in video.decode(video=0)]
    at = data.index(b"acTL")
    count, plays = struct.unpack(">II", data[at + 4 : at + 12])
    assert count == len(frames) == len(delays)
    return np.stack(frames), delays, plays


def read(path):
    return read_png(path) if path.suffix == ".png" else read_vips(path)


def visible(frames):
    """Frames whose transparent pixels have no color."""
    return np.where(frames[..., 3:] > 0, frames, 0)


def block(left, top, pixels, palette=None, interlaced=False, **options):
    """An image block of a GIF as Pillow encodes it, perhaps with a palette of its own."""
    image = Image.fromarray(np.asarray(pixels, np.uint8))
    data = b"".join(GifImagePlugin.getdata(image, (left, top), **options))
    at = data.index(b",") if data[0] != 0x21 else 8
    flags = at + 9
    if interlaced:
        height = len(pixels)
        order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
        data = b"".join(
            GifImagePlugin.getdata(
                Image.fromarray(np.asarray(pixels, np.uint8)[order]), (left, top), **options
            )
        )
        data = data[:flags] + bytes([0x40]) + data[flags + 1 :]
    if palette:
        data = data[:flags] + bytes([data[flags] | 0x80 | 1]) + bytes(palette) + data[flags + 1 :]
    return data


RED, GREEN, BLUE, WHITE = range(4)
COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]


def gif(width, height, *blocks, extensions=b""):
    screen = struct.pack("<HHBBB", width, height, 0x80 | 1, 0, 0)
    return b"GIF89a" + screen + bytes(sum(COLORS, ())) + extensions + b"".join(blocks) + b";"


def one(height, width, color):
    return np.full((height, width), color)


UNUSUAL_GIFS = {
    "disposal": gif(
        16, 12,
        block(0, 0, one(12, 16, GREEN), duration=100, disposal=1),
        block(2, 2, one(5, 5, BLUE), duration=100, disposal=3),
        block(8, 4, one(6, 6, RED), duration=100, disposal=2, transparency=WHITE),
        block(0, 0, one(3, 3, WHITE), duration=100, transparency=WHITE),
    ),
    "local palette": gif(
        16, 12,
        block(0, 0, one(12, 16, GREEN), duration=100),
        block(4, 4, one(4, 4, GREEN), palette=[9, 9, 9, 200, 100, 50, 0, 0, 0, 0, 0, 0], duration=100),
    ),
    "interlaced": gif(
        16, 12,
        block(0, 0, np.arange(192).reshape(12, 16) // 16 % 4, interlaced=True, duration=100),
        block(0, 0, np.arange(192).reshape(12, 16) % 4, duration=100),
    ),
    "beyond the screen": gif(
        16, 12,
        block(0, 0, one(12, 16, GREEN), duration=100),
        block(10, 8, one(9, 9, BLUE), duration=100),
    ),
    "first beyond the screen": gif(
        8, 6,
        block(0, 0, one(12, 16, GREEN), duration=100),
        block(2, 2, one(4, 4, BLUE), duration=100),
    ),
    "uncovered": gif(
        16, 12,
        block(4, 4, one(4, 4, GREEN), duration=100, transparency=WHITE),
        block(8, 2, one(4, 4, BLUE), duration=100),
    ),
}  # fmt: skip


def apng(parts, header, *chunks, default=None):
    """An APNG. ``parts``: left, top, samples, delay in ms, disposal, blending of each frame."""

    def compressed(samples):
        rows = samples.reshape(len(samples), -1).astype(samples.dtype.newbyteorder(">"))
        return zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))

    width, height, depth, color = header
    result = b"\x89PNG\r\n\x1a\n"
    result += png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    result += png_chunk(b"acTL", struct.pack(">II", len(parts), 0))
    result += b"".join(png_chunk(*chunk) for chunk in chunks)
    if default is not None:
        result += png_chunk(b"IDAT", compressed(default))
    number = 0
    for left, top, samples, delay, disposal, blending in parts:
        size = samples.shape[1], samples.shape[0]
        control = struct.pack(">IIIIIHHBB", number, *size, left, top, delay, 1000, disposal, blending)
        result += png_chunk(b"fcTL", control)
        number += 1
        if number == 1 and default is None:
            result += png_chunk(b"IDAT", compressed(samples))
        else:
            result += png_chunk(b"fdAT", struct.pack(">I", number) + compressed(samples))
            number += 1
    return result + png_chunk(b"IEND", b"")


def rgba(height, width, *color, dtype=np.uint8):
    return np.full((height, width, len(color)), color, dtype)

"""How much memory upscaling an image needs, estimated from its header."""

from pathlib import Path

import numpy as np

from subpixel.engines.pixel_art import AnyUpsampling
from subpixel.errors import ImageTooLarge
from subpixel.images.formats import AVIF, GIF, JPEG, JXL, WEBP, Format
from subpixel.images.image import Header
from subpixel.images.tiles import STRIP_BYTES, largest_tile_px, worker_count

_MIB = 1 << 20
_FLOAT_BYTES = 4
_SMALL_PLANES = 10
"""Planes of floats in memory of the LR pixels of a tile, while it is upscaled."""
_SCRATCH_BYTES = 48 << 20
"""What an engine and an encoder need besides. Measured, and rounded up."""
_STRIPS_IN_MEMORY = 5
"""Output strips that are computed, that wait, and that are compressed."""
_PLANES_TO_FILL = 8
"""Planes of floats in memory while hidden colors are filled."""
_FRAME_COPIES = 4
"""Copies of a frame of an animation that are written, besides those that are computed ahead."""
_GIF_PALETTE_BYTES = 100 * _MIB
"""The tables that count and map the colors of a GIF."""
_ENCODER_BYTES = {WEBP: (4, 4), GIF: (4, 4), AVIF: (11, 16), JXL: (8, 8)}
"""Bytes for each sample of the output, of 8 and of 16 bits, where a library needs the complete image: the
samples, those that are passed on, those that the encoder computes with, and the file. Measured, and rounded
up."""


def required_bytes(
    header: Header, upsampling: AnyUpsampling, output_format: Format, *, frames_ahead: int = 0
) -> int:
    """Estimate the peak memory that upscaling an image needs, in bytes.

    It is the sum of the input with its decoder's copies, the planes that fill hidden colors, strips of the
    output (the complete output for WebP, GIF, AVIF and JPEG XL), and a tile with its context for each thread;
    or of the input and its file, if that is more.

    Args:
        header: of the input.
        upsampling: from the input to the output.
        output_format: the format to write.
        frames_ahead: for an animation, how many frames are computed at once.
    """
    factor = upsampling.factor
    pixels = upsampling.target[0] * upsampling.target[1]
    alpha = header.channels in (2, 4)
    samples = header.nbytes * (max(header.copies, 2) if alpha else header.copies)
    if alpha:
        samples += _PLANES_TO_FILL * _FLOAT_BYTES * header.width * header.height
    output = header.nbytes * pixels // (header.width * header.height)
    strips = min(output, max(STRIP_BYTES, output * 48 // header.height)) * _STRIPS_IN_MEMORY
    # Decoded, rotated, as Pillow's copy, and resized the same.
    samples += 3 * header.gain_map_bytes
    if output_format is JPEG:
        strips += 3 * header.gain_map_bytes * pixels // (header.width * header.height)
    if output_format in _ENCODER_BYTES:
        channels = 4 if output_format in (WEBP, GIF) else header.channels
        strips += _ENCODER_BYTES[output_format][header.is_16_bit] * channels * pixels
    if output_format is GIF:
        strips += _GIF_PALETTE_BYTES
    if frames_ahead:
        samples *= 1 + frames_ahead
        strips += (_FRAME_COPIES + frames_ahead) * output
    large_planes = 4 if upsampling.sharpness else 2
    tile = largest_tile_px(upsampling, header.channels, np.dtype(np.uint16 if header.is_16_bit else np.uint8))
    tile *= _FLOAT_BYTES * (large_planes * factor**2 + _SMALL_PLANES)
    return samples + max(header.file_bytes, strips + worker_count(upsampling) * tile) + _SCRATCH_BYTES


def check_memory(
    path: Path,
    header: Header,
    upsampling: AnyUpsampling,
    output_format: Format,
    max_mib: int,
    *,
    frames_ahead: int = 0,
) -> None:
    """Check that upscaling an image needs no more memory than the limit.

    Raises:
        ImageTooLarge: it needs more.
    """
    required = required_bytes(header, upsampling, output_format, frames_ahead=frames_ahead)
    required_mib = -(-required // _MIB)
    if required_mib > max_mib:
        raise ImageTooLarge(
            f"{path}: {header.width} x {header.height} pixels would need about {required_mib} MiB of memory, "
            f"more than the limit of {max_mib}; raise --max-memory (max_memory_mib) to allow it"
        )

"""Reads and writes still GIFs; `subpixel.images.animations.gif` has the format."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import IO

from subpixel.images.animations import gif
from subpixel.images.animations.animation import Frame, Sequence
from subpixel.images.image import (
    DecodedImage,
    Header,
    Metadata,
    Strips,
    drop_opaque_alpha,
    first_frame_warning,
)


def read(path: Path, approve: Callable[[Header], None]) -> DecodedImage:
    """Read the first frame of a GIF file. ``approve`` gets the header before pixels are decoded."""
    animation = gif.open_gif(path)
    approve(animation.header)
    if animation.frames > 1:
        animation.warnings = [first_frame_warning(animation.frames)]
    samples = next(animation.read_frames()).samples
    if animation.has_alpha:
        samples = drop_opaque_alpha(samples)
    return DecodedImage(samples, animation.metadata, animation.warnings)


def write(file: IO[bytes], strips: Strips, metadata: Metadata) -> list[str]:
    """Write 8-bit samples as a GIF file, and return warnings."""
    frames = (Frame(samples, Fraction(0)) for samples in [strips.to_array()])
    return gif.write(file, Sequence(strips.shape, 1, 1, frames), metadata)

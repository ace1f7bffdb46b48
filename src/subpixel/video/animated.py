"""Animated images as input: FFmpeg reads no animated WebP, and drops transparency instead of showing it."""

import contextlib
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import ImageTooLarge
from subpixel.files import is_file
from subpixel.images.animations import apng
from subpixel.images.animations.animation import ENDLESS, Animation, Frame, Sequence
from subpixel.images.animations.open import open_animation
from subpixel.images.formats import MAX_MEMORY_MIB
from subpixel.images.image import Metadata
from subpixel.images.workers import Workers

DELAY_OF_NO_DELAY = Fraction(1, 10)
"""Seconds. Browsers show a frame without a delay for this time."""

_MAX_BYTES = MAX_MEMORY_MIB << 20


@contextlib.contextmanager
def as_video(input: str, warnings: list[str]) -> Iterator[str]:
    """Yield a path that FFmpeg reads: for an animated GIF, WebP or PNG, a temporary file of opaque frames.

    The file has the same bytes each time, so that an interrupted job resumes.

    Args:
        input: the path of the input, "-", or the URL of an object that is no image.
        warnings: gets those about what a video does not have.

    Raises:
        InputError: the animation is damaged, or its frames are too large.
    """
    # FFmpeg reads a WebP animation of a single frame no better than others.
    animation = open_animation(Path(input), least_frames=1) if is_file(Path(input)) else None
    if animation is None:
        yield input
        return
    header = animation.header
    if (needed := header.nbytes * header.copies) > _MAX_BYTES:
        raise ImageTooLarge(
            f"{header.width} x {header.height} pixels would need {needed >> 20} MiB of memory, "
            f"more than the limit of {_MAX_BYTES >> 20}"
        )
    with tempfile.TemporaryDirectory(prefix="subpixel-", ignore_cleanup_errors=True) as folder:
        path = Path(folder, "animation.png")
        _write(animation, path, warnings)
        yield str(path)


def _write(animation: Animation, path: Path, warnings: list[str]) -> None:
    header = animation.header
    colors = header.channels - animation.has_alpha
    shape = (header.height, header.width) if colors == 1 else (header.height, header.width, colors)
    found: set[str] = set()
    frames = _opaque_frames(animation, found)
    with path.open("wb") as file, Workers(1) as workers:
        sequence = Sequence(shape, animation.frames, 1, frames)
        apng.write(file, sequence, Metadata(icc=animation.metadata.icc), workers)
    warnings += animation.warnings
    if animation.plays != 1 and animation.frames > 1:
        plays = "repeats without an end" if animation.plays == ENDLESS else f"plays {animation.plays} times"
        warnings.append(f"{plays} as an animation, and once as a video")
    warnings += sorted(found)


def _opaque_frames(animation: Animation, found: set[str]) -> Iterator[Frame]:
    for frame in animation.read_frames():
        samples = frame.samples
        if animation.has_alpha:
            if (samples[..., -1] != np.iinfo(samples.dtype).max).any():
                found.add("its transparency became white")
            samples = _on_white(samples)
        if not frame.delay:
            found.add(f"frames without a delay are shown for {float(DELAY_OF_NO_DELAY)} s, as in browsers")
        yield Frame(samples, frame.delay or DELAY_OF_NO_DELAY)


def _on_white(samples: NDArray[Any]) -> NDArray[Any]:
    """Blend ``(H, W, 2 or 4)`` with white, and drop alpha."""
    largest = np.iinfo(samples.dtype).max
    pixels = samples.astype(np.float32)
    share = pixels[..., -1:] / largest
    blended = np.rint(pixels[..., :-1] * share + largest * (1 - share)).astype(samples.dtype)
    return blended[..., 0] if blended.shape[2] == 1 else blended

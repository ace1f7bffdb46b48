"""Reads and writes animated WebP through Pillow. libwebp composes the frames."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, WebPImagePlugin

from subpixel.errors import UnreadableImage
from subpixel.images.animations.animation import Animation, Frame, Sequence, in_ticks
from subpixel.images.codecs import webp
from subpixel.images.formats import WEBP
from subpixel.images.image import Header, Metadata

TICKS_PER_SECOND = 1000
"""Delays are milliseconds."""
_MAX_PLAYS = 0xFFFF
_ANIMATION_FLAG = 0x02


def open_webp(path: Path) -> Animation | None:
    """Read the header of a WebP; None if it is a still image. An animation may have a single frame."""
    # Not through Image.open, whose limit on pixels is global to the process.
    with path.open("rb") as file, WebPImagePlugin.WebPImageFile(file) as image:
        frames = image.n_frames
        if frames < 2 and not _is_animated(path):
            return None
        plays, channels = int(image.info["loop"]), len(image.getbands())
        header = Header(*image.size, channels, False, 4)
        return Animation(WEBP, header, frames, plays, lambda: _frames(path), webp.metadata_of(image))


def _is_animated(path: Path) -> bool:
    """Whether the flags of the file announce an animation, perhaps of a single frame."""
    with path.open("rb") as file:
        start = file.read(21)
    return start[12:16] == b"VP8X" and bool(start[20] & _ANIMATION_FLAG)


def _frames(path: Path) -> Iterator[Frame]:
    with path.open("rb") as file, WebPImagePlugin.WebPImageFile(file) as image:
        for number in range(image.n_frames):
            image.seek(number)
            try:
                image.load()
            except EOFError:
                raise UnreadableImage(
                    f"{path}: frame {number} of the WebP file is damaged or truncated; get it again"
                ) from None
            yield Frame(np.asarray(image), Fraction(int(image.info["duration"]), TICKS_PER_SECOND))


def write(file: IO[bytes], sequence: Sequence, metadata: Metadata, quality: int) -> None:
    """Write 8-bit samples as an animated WebP file, lossless at quality 100.

    libwebp joins frames that are equal to the one before with it.
    """
    frames = _LazyFrames(sequence)
    frames.save(
        webp.methods_of(file),
        "WebP",
        save_all=True,
        duration=frames.durations_ms,
        loop=min(sequence.plays, _MAX_PLAYS),
        **webp.save_options(metadata, quality),
    )


class _LazyFrames(Image.Image):
    """An image of several frames for Pillow's writer, which would collect a list of images in memory."""

    def __init__(self, sequence: Sequence) -> None:
        super().__init__()
        self.n_frames = sequence.length
        self.durations_ms: list[int] = []
        """Of the frames so far: Pillow reads a duration after its frame."""
        self._frames: Any = enumerate(in_ticks(sequence.frames, TICKS_PER_SECOND))
        self._number = -1
        self.seek(0)

    def tell(self) -> int:
        """The number of the current frame."""
        return self._number

    def seek(self, frame: int) -> None:
        """Go to the next frame. At its end, Pillow goes back to the first one, which is not needed."""
        if frame != self._number + 1:
            return
        self._number, (samples, duration_ms) = next(self._frames)
        current = Image.fromarray(samples)
        self.im, self._mode, self._size = current.im, current.mode, current.size
        self.durations_ms.append(duration_ms)

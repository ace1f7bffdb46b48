"""Opening animated files."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from subpixel.files import is_file
from subpixel.images.animations.animation import Animation, Frame
from subpixel.images.formats import GIF, PNG, Format, recognize
from subpixel.images.image import apply_orientation, swaps_axes
from subpixel.images.read import decoding_errors


def open_animation(path: Path, least_frames: int = 2) -> Animation | None:
    """Open an animation of ``least_frames`` or more. A GIF, and a WebP that says so, may have a single frame.

    Returns:
        None if the file is a still image, another kind of file, or cannot be read: `read` reports that.

    Raises:
        UnreadableImage: an animation that is damaged or truncated.
    """
    if not is_file(path):  # opening a pipe would wait for its writer
        return None
    try:
        with path.open("rb") as file:
            found = recognize(file.read(32))
    except OSError:
        return None
    if not isinstance(found, Format) or not found.supports_animation:
        return None
    with decoding_errors(path, found):
        animation = _open(path, found)
        if animation is None or animation.frames < least_frames:
            return None
        return _upright(path, animation)


def _open(path: Path, format: Format) -> Animation | None:
    # Only the codec that is needed is imported, to save time.
    if format is GIF:
        from subpixel.images.animations.gif import open_gif

        return open_gif(path)
    if format is PNG:
        from subpixel.images.animations.apng import open_apng

        return open_apng(path)
    from subpixel.images.animations.webp import open_webp

    return open_webp(path)


def _upright(path: Path, animation: Animation) -> Animation:
    """Apply the EXIF orientation, and make errors of decoders name the file."""
    orientation = animation.metadata.read_orientation(animation.warnings)
    header = animation.header
    if swaps_axes(orientation):
        header = header._replace(width=header.height, height=header.width)

    def read_frames() -> Iterator[Frame]:
        with decoding_errors(path, animation.format):
            for frame in animation.read_frames():
                yield frame._replace(samples=apply_orientation(frame.samples, orientation))

    return replace(animation, header=header, read_frames=read_frames)

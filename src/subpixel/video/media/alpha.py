"""Whether a frame has transparent pixels: formats with alpha are also used for opaque frames."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from av import VideoFormat, VideoFrame

_RGB_THEN_ALPHA = ("rgba", "bgra")


def _has_alpha(format: "VideoFormat") -> bool:
    """Whether a format has alpha. A palette's colors have; FFmpeg counts them as one component."""
    return len(format.components) in (2, 4) or format.has_palette


def has_transparent_pixels(frame: "VideoFrame") -> bool:
    """Whether any pixel of a frame is not opaque."""
    if not _has_alpha(frame.format):
        return False
    rgba = frame if frame.format.name in _RGB_THEN_ALPHA else frame.reformat(format="rgba")
    plane: Any = rgba.planes[0]
    rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:, : 4 * rgba.width]
    return bool((rows[:, 3::4] != 0xFF).any())

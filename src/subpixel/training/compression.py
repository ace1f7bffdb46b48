"""Compresses low-resolution images, so that a network learns to remove the artifacts of compression.

A luma plane is encoded and decoded again, either as a JPEG or as one frame of a short H.264 video. In the
video the camera moves by fractions of an LR pixel, so that the frame may be predicted from others.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from subpixel.evaluation.compression import through_h264

QUALITIES = range(30, 91)
"""Qualities of JPEG, on Pillow's scale."""

RATE_FACTORS = range(18, 33)
"""CRFs of x264."""

VIDEO_SHARE = 2 / 3
"""The share of compressed images that are frames of a video; the others are JPEGs. Video has the larger share
because its artifacts are weaker, and because such a network is mostly used for video."""

FRAMES = 4
"""Frames of a video."""

STEP_PX = 3
"""The largest motion of the camera between frames, in HR pixels, in either direction on both axes."""

MAX_SHIFT_PX = STEP_PX * (FRAMES - 1)
"""The largest distance of the camera from the position of the image, in HR pixels on each axis."""

Plane = NDArray[np.uint8]


def through_jpeg(plane: Plane, quality: int) -> Plane:
    """Encode and decode a luma plane ``(H, W)`` as JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(plane).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


def compress(lr_at: Callable[[int, int], Plane], rng: np.random.Generator) -> Plane:
    """Return a low-resolution luma plane after H.264 or JPEG of a random quality.

    Args:
        lr_at: ``lr_at(y, x)`` returns the plane ``(H, W)`` as seen by a camera that is ``y`` HR pixels
            further down and ``x`` further right, at most `MAX_SHIFT_PX` in either direction.
        rng: decides between H.264 and JPEG (see `VIDEO_SHARE`), the quality and the motion.
    """
    if rng.random() >= VIDEO_SHARE:
        return through_jpeg(lr_at(0, 0), int(rng.choice(QUALITIES)))
    wanted, motion = int(rng.integers(FRAMES)), rng.integers(-STEP_PX, STEP_PX + 1, 2)
    planes = [lr_at(*((number - wanted) * motion)) for number in range(FRAMES)]
    return through_h264(planes, int(rng.choice(RATE_FACTORS)))[wanted]

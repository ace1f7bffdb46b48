"""Compresses the low-resolution frames of a clip with H.264, as videos in use are."""

import io
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

X264 = {"threads": "1", "x264-params": "no-mbtree=1"}
"""Options that make x264 deterministic. With its macroblock tree, one in 15 videos of 40x32 pixels was
encoded differently when it was encoded again."""


def through_h264(planes: Sequence[NDArray[np.uint8]], crf: int) -> list[NDArray[np.uint8]]:
    """Encode and decode luma planes as the frames of an H.264 video, with x264 at its default preset.

    Args:
        planes: ``(H, W)`` uint8, all of one size.
        crf: x264's constant rate factor, 0 to 51; more is stronger compression.

    Returns:
        The decoded planes, as many and of the same size.
    """
    import av

    if any(one.shape != other.shape for one, other in pairwise(planes)):
        raise ValueError("the frames of a video have one size")
    height, width = planes[0].shape
    even = [(0, height % 2), (0, width % 2)]  # 4:2:0 needs even sides
    rows = height + height % 2
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25, options={**X264, "crf": str(crf)})
        stream.width, stream.height = width + width % 2, rows
        stream.pix_fmt = "yuv420p"
        for plane in planes:
            # After the luma come two chroma planes of a quarter of its size, gray.
            samples = np.pad(np.pad(plane, even, mode="edge"), [(0, rows // 2), (0, 0)], constant_values=128)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(samples, format="yuv420p")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as encoded:
        frames = [np.asarray(frame.to_ndarray(), np.uint8) for frame in encoded.decode(video=0)]
    return [samples[:height, :width] for samples in frames]

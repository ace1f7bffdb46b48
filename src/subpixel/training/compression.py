"""What compression does to the small picture: a network trained on it learns to undo that, too.

A luma plane is encoded and decoded again: as a JPEG, or as one frame of a short H.264 film over which the
camera moves by fractions of a pixel, so that the frame may be one that was predicted from others.
"""

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

QUALITIES = range(30, 91)
"""Of JPEG, as Pillow counts."""

RATE_FACTORS = range(18, 33)
"""Of x264: its CRF."""

FILM_SHARE = 2 / 3
"""Of the compressed small pictures; the others are JPEGs. Films need the larger share: there is less to mend
in them, and they are what such a network is used for most."""

FRAMES = 4
"""Of a film."""

STEP_PX = 3
"""How far the camera moves from frame to frame at most, in HR pixels, either way on both axes."""

MARGIN_PX = STEP_PX * (FRAMES - 1)
"""How far away from where it took the picture the camera gets at most."""

X264 = {"threads": "1", "x264-params": "no-mbtree=1"}
"""Without its tree of macroblocks x264 gives the same for the same; with it, one film in 15 of 40x32 pixels
came out otherwise."""

Plane = NDArray[np.uint8]


def through_jpeg(plane: Plane, quality: int) -> Plane:
    """A luma plane ``(H, W)`` after JPEG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(plane).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


def through_h264(planes: list[Plane], crf: int) -> list[Plane]:
    """The luma of a film's frames, all ``(H, W)``, after H.264 by x264."""
    import av

    height, width = planes[0].shape
    even = [(0, height % 2), (0, width % 2)]  # 4:2:0 has no odd sides
    rows = height + height % 2
    film = io.BytesIO()
    with av.open(film, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25, options={**X264, "crf": str(crf)})
        stream.width, stream.height = width + width % 2, rows
        stream.pix_fmt = "yuv420p"
        for plane in planes:
            # Behind the luma lie two planes of a quarter of its size, gray.
            samples = np.pad(np.pad(plane, even, mode="edge"), [(0, rows // 2), (0, 0)], constant_values=128)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(samples, format="yuv420p")))
        container.mux(stream.encode(None))
    film.seek(0)
    with av.open(film, "r") as encoded:
        frames = [np.asarray(frame.to_ndarray(), np.uint8) for frame in encoded.decode(video=0)]
    return [samples[:height, :width] for samples in frames]


def compressed(small_at: Callable[[int, int], Plane], rng: np.random.Generator) -> Plane:
    """A small picture after H.264 (see `FILM_SHARE`) or JPEG, of a quality drawn at random.

    ``small_at(y, x)`` makes it from the large one as a camera sees it that is so many HR pixels further down
    and to the right.
    """
    if rng.random() >= FILM_SHARE:
        return through_jpeg(small_at(0, 0), int(rng.choice(QUALITIES)))
    wanted, moves = int(rng.integers(FRAMES)), rng.integers(-STEP_PX, STEP_PX + 1, 2)
    planes = [small_at(*((number - wanted) * moves)) for number in range(FRAMES)]
    return through_h264(planes, int(rng.choice(RATE_FACTORS)))[wanted]

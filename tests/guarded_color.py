"""Convert colors in arrays next to forbidden pages: `python guarded_color.py [overrun]`; see `guarded.py`."""

import sys

import numpy as np

from guarded import array, copy
from subpixel.engines.color import kernel
from subpixel.images.chroma import (
    split_rgb,
    split_rgb_in_numpy,
    write_resampled_rgb,
    write_rgb,
    write_rgb_in_numpy,
)
from subpixel.ops.resample import resample as resample_in_numpy
from subpixel.ops.resample import taps

kernel.MIN_PX = 0
WIDTHS = (16, 17, 31, 48, 65)
overrun = sys.argv[1:] == ["overrun"]
rng = np.random.default_rng(0)
empty = np.empty


def guard_scratch(*, at_end):
    """Guard what the kernel allocates, too."""
    kernel.np.empty = lambda shape, dtype: array(np.atleast_1d(shape), dtype, at_end=at_end)


for at_end in (True, False):
    for size in ((16, 16), (17, 31), (40, 70)):
        axes = [taps("lanczos", *sides) for sides in zip((24, 33), size, strict=True)]
        plane = rng.random((24, 33), np.float32)
        part = slice(0, size[0]), slice(0, size[1])
        expected = resample_in_numpy(plane, *axes, part, (0, 0))
        guarded_plane = copy(plane, at_end=at_end)
        guard_scratch(at_end=at_end)
        result = kernel.resample(guarded_plane, *axes, part, (0, 0))
        np.empty = empty
        np.testing.assert_array_equal(result, expected)
    for dtype in ("uint8", "uint16", "float32"):
        white = 1 if dtype == "float32" else np.iinfo(dtype).max
        for width in WIDTHS:
            for channels in (3, 4):
                image = (rng.random((3, width, channels)) * white).astype(dtype)
                expected = split_rgb_in_numpy(image)
                pixels = copy(image, at_end=at_end)
                guard_scratch(at_end=at_end)
                planes = split_rgb(pixels)
                np.empty = empty
                np.testing.assert_array_equal(planes, expected)
            for scale in (1, 2, 3, 4):
                luma = rng.random((3 * scale, width * scale), np.float32)
                context = 4 if scale > 1 else 0
                chroma = rng.random((2, 3 + context, width + context), np.float32)
                expected = empty((3 * scale, width * scale, 3), dtype)
                padded = np.pad(chroma, [(0, 0), (2 - context // 2,) * 2, (2 - context // 2,) * 2])
                write_rgb_in_numpy(luma, *padded, scale, expected)
                planes = [copy(plane, at_end=at_end) for plane in (luma, *chroma)]
                if overrun:
                    planes[1] = planes[1][:, 1:]
                for channels in (3, 4):
                    out = array((*luma.shape, channels), dtype, at_end=at_end)
                    guard_scratch(at_end=at_end)
                    if scale > 1:
                        write_rgb(*planes, scale, out)
                    else:
                        write_resampled_rgb(*planes, out)
                    np.empty = empty
                    np.testing.assert_array_equal(out[..., :3], expected)

"""Run code for videos next to forbidden pages: `python guarded_history.py [overrun]`; see `guarded.py`."""

import sys
from functools import partial
from itertools import product

import numpy as np

from guarded import array, copy
from history_models import random_correction, video_model
from history_motion import (
    CASES,
    STATE,
    Inputs,
    expected_masks,
    expected_planes,
    mostly_whole,
    nearly_smooth,
    noise,
    random_inputs,
    waves,
)
from subpixel.engines.history.application import Application
from subpixel.engines.history.motion import MotionCompensation
from subpixel.ops.block_motion import align

SIZES = [(1, 1), (7, 16), (16, 7), (33, 31), (70, 65)]
overrun = sys.argv[1:] == ["overrun"]
empty = np.empty


def guarded(call, *, at_end):
    """Call a function that allocates only guarded memory."""
    np.empty = lambda shape, dtype, **_: array(np.atleast_1d(shape), dtype, at_end=at_end)
    try:
        return call()
    finally:
        np.empty = empty


for at_end, scale, dtype in product((True, False), (2, 3, 4), ("uint8", "uint16", "float32")):
    model = video_model(scale, bounded=scale < 4, bounded_in_motion=scale == 3)
    application = Application(model, threads=2)
    for height, width in SIZES:
        given = random_correction(model, height, width, dtype).mapped(partial(copy, at_end=at_end))
        found = guarded(lambda: given.applied(application), at_end=at_end)  # noqa: B023
        rounded = guarded(lambda: application.eight_bits(given.base), at_end=at_end)  # noqa: B023
        expected = *given.expected(model), given.eight_bits
        for one, other in zip((*found, rounded), expected, strict=True):
            np.testing.assert_array_equal(one, other)

for at_end, case in product((True, False), CASES):
    compensation = MotionCompensation(case.scale, case.history, threads=2)
    for height, width in SIZES:
        frames = noise(height, width), noise(height, width, seed=2)
        frames = frames if height == 33 else (waves(height, width), waves(height, width, 2.4, -1.7))
        numbers = {"block_px": case.block_px, "range_px": case.range_px, "fit_limit": 16}
        expected = align(*frames, case.steps, **numbers)
        now, before = (copy(frame, at_end=at_end) for frame in frames)
        if overrun:
            before = before[:, 1:] if at_end else before[:-1]
            now = np.lib.stride_tricks.as_strided(now, (height + 1, width))
        found = guarded(lambda: compensation.align(now, before), at_end=at_end)  # noqa: B023
        np.testing.assert_array_equal(found.residual, expected.residual)
        for dtype in ("uint8", "uint16", "float32"):
            plane, _, _ = nearly_smooth(height, width, dtype)
            plane = copy(plane, at_end=at_end)
            masks = guarded(lambda: compensation.masks(plane, found), at_end=at_end)  # noqa: B023
            for one, other in zip(masks, expected_masks(case, plane, *frames, found), strict=True):
                np.testing.assert_array_equal(one, other)
        for far in (False, True):
            if far:  # as far as it goes, in any direction
                limit, rng = case.steps * case.range_px, np.random.default_rng(1)
                quarters = rng.choice([-limit, 1 - limit, limit - 1, limit], found.motion.shape)
                found.motion[...] = mostly_whole(quarters, rng)
            inputs = random_inputs(case, height, width)
            planes = array((case.scale**2 + 2 + STATE, height, width), np.uint8, at_end=at_end)
            base, result, hidden, opened = Inputs(*(copy(each, at_end=at_end) for each in inputs))

            def write():
                compensation.write_inputs(planes, found, opened, base=base, result=result, hidden=hidden)  # noqa: B023

            guarded(write, at_end=at_end)
            wanted = expected_planes(case, inputs, found.motion, expected.detail, expected.residual)
            np.testing.assert_array_equal(planes, wanted)

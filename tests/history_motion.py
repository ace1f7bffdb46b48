"""Frames to find motion in, and the inputs of the correction as NumPy computes them."""

from typing import NamedTuple

import numpy as np

from subpixel.engines.numpy_history import is_smooth
from subpixel.models.history import eight_bits
from subpixel.models.spec import History
from subpixel.ops.block_motion import between_samples, moved, still, whole_pixels
from subpixel.ops.pixel_art import nearest
from subpixel.ops.pixel_shuffle import pixel_unshuffle

STATE = 2


class Case(NamedTuple):
    """A scale and the sizes of a history: those that the code depends on."""

    scale: int
    parts: int
    block_px: int
    range_px: int

    @property
    def steps(self):
        return self.scale * self.parts

    @property
    def history(self):
        sizes = self.block_px, self.range_px, self.parts
        return History((), STATE, *sizes, fit_limit=16, bounded=True, bounded_in_motion=False)


CASES = [
    Case(4, 2, 8, 3),
    Case(4, 1, 4, 2),
    Case(3, 2, 16, 5),
    Case(3, 1, 8, 1),
    Case(2, 2, 4, 4),
    Case(2, 1, 16, 2),
]

SIZES = [(1, 1), (2, 7), (7, 2), (15, 33), (16, 16), (33, 17), (70, 97), (97, 15)]
"""Those of rows and columns that are no whole blocks, vectors and bands, too."""


def noise(height, width, levels=256, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.integers(0, levels, (height, width)) * (255 // (levels - 1))).astype(np.uint8)


def waves(height, width, down=0.0, right=0.0):
    """A smooth picture that is moved by parts of a pixel."""
    y, x = np.mgrid[:height, :width] + np.array([down, right])[:, None, None]
    rng, values = np.random.default_rng(1), np.zeros((height, width))
    for a, b, phase in rng.uniform(0.1, 0.9, (6, 3)):
        values += np.sin(a * y + 1.3 * b * x + 7 * phase)
    return np.clip(128 + 35 * values, 0, 255).astype(np.uint8)


def frame_pairs(height, width):
    """Yield frames and the ones before: unrelated, with ties, and with motion, also out of the picture."""
    yield noise(height, width), noise(height, width, seed=2)
    yield noise(height, width, 2), noise(height, width, 2, seed=2)
    yield waves(height, width), waves(height, width, 1.3, -2.6)
    yield waves(height, width), waves(height, width, -0.4, 0.7)
    yield noise(height, width, 4), np.roll(noise(height, width, 4), (2, -1), (0, 1))
    # Up to the middle of a block it moves, behind it all stays: a block has changed, and still fits exactly.
    for middle in (6, 12, 24):
        now, before = waves(height, width), waves(height, width)
        now[:, :middle] = np.pad(before, ((0, 0), (2, 0)), mode="edge")[:, :width][:, :middle]
        yield now, before
    # Differences about as large as those that let a block stay.
    grain = np.random.default_rng(width).random((2, height, width)) < 0.1
    yield 100 + np.roll(grain[0], (1, 1), (0, 1)).astype(np.uint8), 100 + grain[0].astype(np.uint8)
    yield 100 + grain[0].astype(np.uint8), 100 + grain[1].astype(np.uint8)


def mostly_whole(quarters, rng):
    """Give the quarters of most blocks the same motion."""
    blocks = quarters[:, ::2, ::2].repeat(2, 1).repeat(2, 2)
    return np.where(rng.random(blocks.shape[1:]) < 0.1, quarters, blocks)


class Inputs(NamedTuple):
    """What `MotionCompensation.write_inputs` moves and compares."""

    base: np.ndarray
    result: np.ndarray
    hidden: np.ndarray
    opened: np.ndarray


def random_inputs(case, height, width):
    rng = np.random.default_rng(height)
    base, result = rng.integers(0, 256, (2, case.scale * height, case.scale * width)).astype(np.uint8)
    hidden = rng.integers(0, 256, (STATE, height, width)).astype(np.uint8)
    return Inputs(base, result, hidden, rng.random((height, width)) < 0.8)


def expected_planes(case, inputs, motion, detail, residual):
    """The inputs of the correction."""
    samples = between_samples(inputs.result, case.parts)
    old = moved(samples[None], motion, case.scale * case.block_px // 2, case.parts)[0]
    difference = pixel_unshuffle(np.clip(old.astype(int) - inputs.base, -128, 127)[None], case.scale)
    levels = np.clip(np.stack([detail, residual]).astype(int), -128, 127)
    hidden = moved(inputs.hidden, whole_pixels(motion, case.steps), case.block_px // 2).astype(int) - 128
    return (np.concatenate([difference, levels, hidden]) * inputs.opened + 128).astype(np.uint8)


def nearly_smooth(height, width, dtype):
    """Return a frame that is flat and smooth in part, and a previous one in 8 bits that differs little."""
    rng = np.random.default_rng(height)
    # Flat steps that bend by as much as smooth areas may, or by 1/65535 more.
    steps = rng.choice([-669, -668, 668, 669], (1, width)) * (rng.random(width) < 0.15)
    deep = np.repeat(20000 + steps.cumsum(1), height, axis=0)
    deep[height // 2 :] += rng.integers(-500, 500, deep.shape)[height // 2 :]
    deep = np.rot90(deep, 2) if width % 2 else deep
    plane = deep.astype(np.uint16)
    if dtype == "float32":
        plane = (plane / 65535).astype(np.float32)
    frame = eight_bits(plane)
    previous = frame.copy()
    previous[rng.integers(0, height, 2), rng.integers(0, width, 2)] ^= 1
    return frame if dtype == "uint8" else plane, frame, previous


def expected_masks(case, plane, frame, previous, aligned):
    """Which pixels are open, still, and in quarters of blocks without motion."""
    height, width = plane.shape
    fits = nearest(aligned.explained(), case.block_px)[:height, :width]
    stays = np.kron(~aligned.motion.any(axis=0), np.ones(2 * [case.block_px // 2], bool))[:height, :width]
    return fits & ~is_smooth(plane), still(frame, previous, case.block_px), stays

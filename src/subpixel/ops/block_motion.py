"""Motion of blocks from one frame to the next, in integers, so that all engines find the same.

Motion is measured in steps, a fixed number of them in a pixel. Frames are interpolated in between their
pixels, with Keys' bicubic kernel in 128ths, first along rows and then along columns, each rounded half up to
8 bits. They are continued by their edge pixels: where motion points outside, and to whole blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from subpixel.ops.pixel_art import nearest
from subpixel.ops.resize import keys_cubic

Sample = TypeVar("Sample", bound=np.generic)

Plane = NDArray[np.uint8]
"""Luma ``(H, W)`` in 8 bits."""

Motion = NDArray[np.int64]
"""``(2, rows, columns)`` of blocks or their quarters: where each was in the previous frame, relative to where
it is: rows and columns, in steps."""

TAP_BITS = 7
"""The kernels' taps are in steps of ``2**-TAP_BITS``."""

STAY_NUMERATOR, STAY_DENOMINATOR = 13, 64
"""A block stays where it is unless motion lowers its mean absolute difference by more than 13/64, in 8-bit
levels: noise in flat areas would otherwise move them."""

DIVIDED_ABOVE = 1
"""Mean absolute difference of a block after motion, in 8-bit levels, up to which it is not divided."""

FIT_FLOOR_HALVES = 3
"""Mean absolute difference of a block after motion, in halves of an 8-bit level, that always counts as a fit:
rounding and weak noise."""


CUT_PARTS = 8
"""If motion explains less than one in `CUT_PARTS` blocks, there is a cut, a flash or the like in between: the
other blocks fit by chance, and none counts. Blocks whose samples differ by at most `PLAIN_RANGE` are left out
of this: the black bars above and below a film fit after each cut."""

PLAIN_RANGE = 8
"""In 8-bit levels. Encoders and resampling leave some levels in bars."""


@dataclass(frozen=True)
class Alignment:
    """How the previous frame explains a frame."""

    motion: Motion
    """Of the blocks' quarters."""
    residual: NDArray[np.int64]
    """``(H, W)``: the frame minus the moved previous one."""
    detail: NDArray[np.int64]
    """``(H, W)``: the frame minus its binomial 3x3 mean, rounded half up."""
    fits: NDArray[np.bool_]
    """``(H, W)``: whether motion explains the pixel's block."""


def align(
    frame: Plane, previous: Plane, steps: int, *, block_px: int, range_px: int, fit_limit: int
) -> Alignment:
    """Find the motion of a frame's blocks, and where it explains them.

    It explains a block if the sum of absolute residuals is at most that of the block's detail, times
    ``fit_limit / 16``, plus `FIT_FLOOR_HALVES` / 2 for each pixel. After a cut, it explains none, see
    `without_chance`.

    Args:
        frame, previous: ``(H, W)`` uint8.
        steps: in a pixel.
        block_px: side of the blocks, in pixels.
        range_px: largest motion along each axis, in pixels.
        fit_limit: most residual, in sixteenths of the detail.
    """
    height, width = frame.shape
    now, before = (whole_blocks(plane, block_px) for plane in (frame, previous))
    samples = between_samples(before, steps)
    motion = block_motion(now, samples, steps, block_px=block_px, range_px=range_px)
    motion = quarter_motion(now, samples, motion, steps, block_px)
    residual = now.astype(np.int64) - moved(samples[None], motion, block_px // 2, steps)[0]
    detail = detail_16ths(now)
    limit = 8 * FIT_FLOOR_HALVES * block_px**2 * 16 + fit_limit * block_sums(np.abs(detail), block_px)
    rows, columns = limit.shape
    blocks = now.reshape(rows, block_px, columns, block_px)
    varied = blocks.max((1, 3)) - blocks.min((1, 3)) > PLAIN_RANGE
    explained = without_chance(256 * block_sums(np.abs(residual), block_px) <= limit, varied)
    fits = nearest(explained, block_px)
    inside = np.s_[:height, :width]
    return Alignment(motion, residual[inside], (detail[inside] + 8) >> 4, fits[inside])


def without_chance(fits: NDArray[np.bool_], varied: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which blocks motion explains: none after a cut, see `CUT_PARTS`.

    Args:
        fits: ``(rows, columns)``: the blocks that fit.
        varied: likewise: those whose samples differ by more than `PLAIN_RANGE`.
    """
    return fits & (CUT_PARTS * np.count_nonzero(fits & varied) >= np.count_nonzero(varied))


def still(frame: Plane, previous: Plane, block_px: int) -> NDArray[np.bool_]:
    """Return where nothing changed: pixels of blocks that equal the previous frame, as do their neighbors.

    Args:
        frame, previous: ``(H, W)`` uint8.
        block_px: side of the blocks.
    """
    height, width = frame.shape
    changed = whole_blocks(frame, block_px) != whole_blocks(previous, block_px)
    rows, columns = (side // block_px for side in changed.shape)
    same = ~changed.reshape(rows, block_px, columns, block_px).any((1, 3))
    return nearest(still_blocks(same), block_px)[:height, :width]


def still_blocks(same: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which blocks, ``(rows, columns)``, are the same as before, as are their neighbors."""
    rows = same.copy()
    rows[1:] &= same[:-1]
    rows[:-1] &= same[1:]
    result = rows.copy()
    result[:, 1:] &= rows[:, :-1]
    result[:, :-1] &= rows[:, 1:]
    return result


def whole_blocks(plane: Plane, block_px: int) -> Plane:
    """Continue the edges at the bottom and on the right to whole blocks."""
    return np.pad(plane, [(0, -side % block_px) for side in plane.shape], mode="edge")


def kernel_taps(steps: int) -> NDArray[np.int64]:
    """Return the four taps of Keys' kernel at ``0 .. steps - 1`` steps of a pixel, ``(steps, 4)``.

    They are in units of ``2**-TAP_BITS``, and each row sums to ``2**TAP_BITS``: what rounding changes is
    added to the largest.
    """
    exact = keys_cubic(np.arange(steps)[:, None] / steps - np.arange(-1, 3)) * 2**TAP_BITS
    taps: NDArray[np.int64] = np.rint(exact).astype(np.int64)
    rows = np.arange(steps)
    taps[rows, taps.argmax(1)] += 2**TAP_BITS - taps.sum(1)
    return taps


def between_samples(plane: NDArray[Sample], steps: int) -> NDArray[Sample]:
    """Interpolate ``(H, W)`` at each step from the first to the last pixel.

    Returns:
        ``(steps * (H - 1) + 1, steps * (W - 1) + 1)``; sample ``steps * i`` is pixel ``i``. uint8 is rounded,
        floats are not.
    """
    return _between_rows(_between_rows(plane.T, steps).T, steps)


def _between_rows(plane: NDArray[Any], steps: int) -> NDArray[Any]:
    height = len(plane)
    padded = np.pad(plane, [(1, 2), (0, 0)], mode="edge")
    integers = plane.dtype == np.uint8
    windows = np.stack([padded[tap : tap + height] for tap in range(4)])
    sums = np.tensordot(kernel_taps(steps), windows.astype(np.int64 if integers else np.float64), axes=1)
    half = 2 ** (TAP_BITS - 1)
    between = np.clip((sums + half) >> TAP_BITS, 0, 255) if integers else sums / 2**TAP_BITS
    rows = between.transpose(1, 0, 2).reshape(steps * height, -1)[: steps * (height - 1) + 1]
    return np.asarray(rows, plane.dtype)


def block_motion(frame: Plane, samples: Plane, steps: int, *, block_px: int, range_px: int) -> Motion:
    """Search the motion with the smallest sum of absolute differences for each block.

    Candidates are no motion, all whole pixels within the range, row by row, and then neighbors of the best
    at each step of `search_steps`, row by row, within the range. The first one of equal candidates wins.

    Args:
        frame: ``(H, W)``, whole blocks.
        samples: the previous frame, from `between_samples`.
        steps, block_px, range_px: as for `align`.
    """
    blocks = (2, frame.shape[0] // block_px, frame.shape[1] // block_px)
    best = np.zeros(blocks, np.int64)
    penalty = STAY_NUMERATOR * block_px**2 // STAY_DENOMINATOR

    def cost(motion: Motion) -> NDArray[np.int64]:
        difference = np.abs(frame.astype(np.int64) - moved(samples[None], motion, block_px, steps)[0])
        return block_sums(difference, block_px)

    least = cost(best) - penalty

    def keep_better(motion: Motion) -> None:
        nonlocal best, least
        found = cost(motion)
        better = found < least
        best, least = np.where(better, motion, best), np.where(better, found, least)

    whole = range(-range_px, range_px + 1)
    for offset in product(whole, repeat=2):
        keep_better(np.broadcast_to(steps * np.array(offset)[:, None, None], blocks))
    limit = steps * range_px
    for step in search_steps(steps):
        around = best
        for offset in neighbors(step):
            keep_better(np.clip(around + np.array(offset)[:, None, None], -limit, limit))
    return best


def quarter_motion(frame: Plane, samples: Plane, motion: Motion, steps: int, block_px: int) -> Motion:
    """Let the quarters of blocks move as a neighbor does: motion changes within blocks, too.

    Candidates are the block's motion, that of the block above or below which the quarter touches, and that of
    the block to the left or right which it touches. As for blocks, the first one stays unless another lowers
    the sum of absolute differences by more than 13/64 for each pixel, rounded down; the first one of equal
    candidates wins. The quarters of a block stay together if its motion leaves a mean absolute difference of
    at most `DIVIDED_ABOVE`.

    Args:
        frame, samples, steps, block_px: as for `block_motion`.
        motion: of blocks, its result.

    Returns:
        The motion of quarters: ``(2, 2*rows, 2*columns)``.
    """
    side = block_px // 2
    (row, column), (near_row, near_column) = quarters_and_neighbors(motion.shape[1:])
    best: Motion = motion[:, row, column]

    def cost(motion: Motion) -> NDArray[np.int64]:
        difference = np.abs(frame.astype(np.int64) - moved(samples[None], motion, side, steps)[0])
        return block_sums(difference, side)

    least = cost(best)
    divided = nearest(block_sums(least, 2) > DIVIDED_ABOVE * block_px**2, 2)
    least = least - STAY_NUMERATOR * side**2 // STAY_DENOMINATOR
    for candidate in (motion[:, near_row, column], motion[:, row, near_column]):
        found = cost(candidate)
        better = divided & (found < least)
        best, least = np.where(better, candidate, best), np.where(better, found, least)
    return best


def quarters_and_neighbors(
    blocks: tuple[int, ...],
) -> tuple[tuple[NDArray[np.int64], ...], tuple[NDArray[np.int64], ...]]:
    """Return the rows and columns of the blocks of all quarters, and those of the blocks that they touch.

    At the edge of the frame, where there is none, it is the block itself.
    """
    quarters = [np.arange(2 * count) for count in blocks]
    own = [each // 2 for each in quarters]
    near = [
        np.clip(block + 2 * (each % 2) - 1, 0, count - 1)
        for block, each, count in zip(own, quarters, blocks, strict=True)
    ]
    return (own[0][:, None], own[1]), (near[0][:, None], near[1])


def search_steps(steps: int) -> Iterator[int]:
    """Yield the distances of the search below a whole pixel: 4, 2 and 1 steps of 8."""
    distance = steps // 2
    while distance:
        yield distance
        distance //= 2


def neighbors(step: int) -> Iterator[tuple[int, int]]:
    """Yield the eight offsets around a motion, row by row."""
    for row, column in product((-step, 0, step), repeat=2):
        if row or column:
            yield row, column


def moved(values: NDArray[Sample], motion: Motion, block: int, step: int = 1) -> NDArray[Sample]:
    """Read each sample of a grid from where the motion of its block or quarter points; the edge continues.

    Args:
        values: ``(C, h, w)``.
        motion: in samples of ``values``.
        block: side of the blocks or quarters, in samples of the grid.
        step: distance of the samples of the grid, in samples of ``values``: 1 to move all of them.

    Returns:
        ``(C, ceil(h / step), ceil(w / step))``.
    """
    height, width = values.shape[1:]
    rows, columns = np.arange(-(-height // step)), np.arange(-(-width // step))
    down, right = motion[:, rows[:, None] // block, columns // block]
    y = np.clip(rows[:, None] * step + down, 0, height - 1)
    x = np.clip(columns * step + right, 0, width - 1)
    return values[:, y, x]


def whole_pixels(motion: Motion, steps: int) -> Motion:
    """Round motion to whole pixels, half up."""
    return (motion + steps // 2) // steps


def detail_16ths(frame: Plane) -> NDArray[np.int64]:
    """Return 16 times the difference of each pixel from its binomial 3x3 mean; the edge continues."""
    padded = np.pad(frame, 1, mode="edge").astype(np.int64)
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    sums = rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]
    return np.asarray(16 * frame.astype(np.int64) - sums)


def block_sums(values: NDArray[np.int64], block_px: int) -> NDArray[np.int64]:
    """Sum ``(H, W)`` over blocks."""
    rows, columns = (side // block_px for side in values.shape)
    return np.asarray(values.reshape(rows, block_px, columns, block_px).sum((1, 3)))

"""Motion of blocks: against a plain search, pixel by pixel, and on pictures that move as told."""

from itertools import product

import numpy as np
import pytest
import skimage.data

from subpixel.evaluation.protocol import lr_plane
from subpixel.ops.block_motion import (
    align,
    between_samples,
    block_motion,
    detail_16ths,
    kernel_taps,
    moved,
    quarter_motion,
    still,
    whole_blocks,
    whole_pixels,
)
from subpixel.ops.pixel_art import nearest
from subpixel.ops.resize import imresize

STEPS = (2, 3, 4, 6, 8)


def noise(height: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width)).astype(np.uint8)


def pixel(plane: np.ndarray, row: int, column: int) -> int:
    return int(plane[min(max(row, 0), plane.shape[0] - 1), min(max(column, 0), plane.shape[1] - 1)])


def test_taps_are_keys_kernel_in_128ths() -> None:
    """Keys 1981, a = -1/2: at a quarter -9, 111, 29, -3; at a half -8, 72, 72, -8."""
    assert kernel_taps(4).tolist() == [[0, 128, 0, 0], [-9, 111, 29, -3], [-8, 72, 72, -8], [-3, 29, 111, -9]]
    assert kernel_taps(3).tolist() == [[0, 128, 0, 0], [-9, 99, 43, -5], [-5, 43, 99, -9]]
    assert all((kernel_taps(steps).sum(1) == 128).all() for steps in range(1, 9))


@pytest.mark.parametrize("steps", STEPS)
def test_samples_in_between_are_rounded_twice(steps: int) -> None:
    plane = noise(5, 6)
    taps = kernel_taps(steps).tolist()

    def along_rows(row: int, at: int) -> int:
        near, part = divmod(at, steps)
        total = sum(taps[part][tap] * pixel(plane, row, near - 1 + tap) for tap in range(4))
        return min(max((total + 64) // 128, 0), 255)

    rows, columns = steps * 4 + 1, steps * 5 + 1
    expected = np.empty((rows, columns), np.uint8)
    for y, x in product(range(rows), range(columns)):
        near, part = divmod(y, steps)
        column = [along_rows(min(max(near - 1 + tap, 0), 4), x) for tap in range(4)]
        total = sum(tap * one for tap, one in zip(taps[part], column, strict=True))
        expected[y, x] = min(max((total + 64) // 128, 0), 255)
    np.testing.assert_array_equal(between_samples(plane, steps), expected)
    np.testing.assert_array_equal(between_samples(plane, steps)[::steps, ::steps], plane)
    smooth = np.add.outer(np.arange(5), np.arange(6) ** 2 / 9).astype(np.float32)
    np.testing.assert_allclose(
        between_samples(smooth, steps)[steps : -2 * steps, steps : -2 * steps],
        np.add.outer(np.arange(rows) / steps, (np.arange(columns) / steps) ** 2 / 9)[
            steps : -2 * steps, steps : -2 * steps
        ],
        atol=0.03,
    )


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_search_is_that_of_loops(steps: int, seed: int) -> None:
    """Random frames with a part of the other one in it, so that ties, the edge and each step occur."""
    block, limit = 4, 2
    before = noise(8, 12, seed) // 16 * 16
    now = np.roll(before, (1, -2), (0, 1))
    now[4:] = noise(4, 12, seed + 10) // 64
    samples = between_samples(before, steps)

    def cost(top: int, left: int, down: int, right: int) -> int:
        return sum(
            abs(int(now[row, column]) - pixel(samples, row * steps + down, column * steps + right))
            for row in range(top, top + block)
            for column in range(left, left + block)
        )

    expected = np.zeros((2, 2, 3), int)
    for row, column in product(range(2), range(3)):
        at = row * block, column * block
        best, least = (0, 0), cost(*at, 0, 0) - 13 * block**2 // 64
        for offset in product(range(-limit, limit + 1), repeat=2):
            motion = offset[0] * steps, offset[1] * steps
            if (found := cost(*at, *motion)) < least:
                best, least = motion, found
        for step in {2: (1,), 3: (1,), 4: (2, 1), 6: (3, 1), 8: (4, 2, 1)}[steps]:
            around = best
            for offset in product((-step, 0, step), repeat=2):
                motion = tuple(
                    min(max(one + more, -limit * steps), limit * steps)
                    for one, more in zip(around, offset, strict=True)
                )
                if offset != (0, 0) and (found := cost(*at, *motion)) < least:
                    best, least = motion, found
        expected[:, row, column] = best
    found = block_motion(now, samples, steps, block_px=block, range_px=limit)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected.reshape(2, -1), axis=1).T) > 2


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("block", [4, 8])
def test_quarters_are_those_of_loops(steps: int, block: int) -> None:
    """Each takes its block's motion, or that of a block it touches, if that lowers the cost enough."""
    side, height, width = block // 2, 5 * block, 6 * block
    rng = np.random.default_rng(steps)
    before = np.clip(noise(height, width) // 64 + rng.integers(0, 3, (height, width)) + 100, 0, 255)
    before[: 2 * block] = noise(2 * block, width)
    samples = between_samples(before.astype(np.uint8), steps)
    motion = rng.integers(-1, 2, (2, 5, 6)) * np.array([steps, 1])[:, None, None]
    # Quarters that move as some candidate does, with differences about as large as decide.
    chosen = rng.integers(0, 3, (10, 12))
    now = np.empty((height, width), np.uint8)
    for row, column in product(range(10), range(12)):
        near = near_blocks(row, column, (5, 6))[chosen[row, column]]
        down, right = motion[:, near[0], near[1]]
        for y, x in product(range(row * side, row * side + side), range(column * side, column * side + side)):
            now[y, x] = pixel(samples, y * steps + down, x * steps + right)
    now[block:] += rng.integers(0, 3, (height - block, width)).astype(np.uint8)

    def cost(row: int, column: int, offset: tuple[int, int]) -> int:
        return sum(
            abs(int(now[y, x]) - pixel(samples, y * steps + offset[0], x * steps + offset[1]))
            for y in range(row * side, row * side + side)
            for x in range(column * side, column * side + side)
        )

    expected, choices = np.empty((2, 10, 12), int), set()
    for row, column in product(range(10), range(12)):
        blocks = near_blocks(row, column, (5, 6))
        best, *others = (tuple(motion[:, near[0], near[1]]) for near in blocks)
        choice, (top, left) = 0, blocks[0]
        quarters = product((2 * top, 2 * top + 1), (2 * left, 2 * left + 1))
        if sum(cost(*quarter, best) for quarter in quarters) > block**2:
            least = cost(row, column, best) - 13 * side**2 // 64
            for number, other in enumerate(others, 1):
                if (found := cost(row, column, other)) < least:
                    best, least, choice = other, found, number
        expected[:, row, column] = best
        choices.add(choice)
    np.testing.assert_array_equal(quarter_motion(now, samples, motion, steps, block), expected)
    assert choices == {0, 1, 2}


def near_blocks(row: int, column: int, blocks: tuple[int, int]) -> list[tuple[int, int]]:
    """The block of a quarter, the one above or below, and the one to the left or right that it touches."""
    top, left = row // 2, column // 2
    down, right = (top + (1 if row % 2 else -1)), (left + (1 if column % 2 else -1))
    vertical = (down, left) if 0 <= down < blocks[0] else (top, left)
    return [(top, left), vertical, (top, right) if 0 <= right < blocks[1] else (top, left)]


def test_moving_copies_from_where_motion_points_at_any_size() -> None:
    values = np.stack([noise(7, 10), noise(7, 10, 2)])
    motion = np.array([[[1, -3], [0, 9]], [[-2, 1], [20, -1]]])
    result = moved(values, motion, 5)
    for channel, row, column in product(range(2), range(7), range(10)):
        down, right = motion[:, row // 5, column // 5]
        assert result[channel, row, column] == pixel(values[channel], row + down, column + right)
    assert whole_pixels(np.array([-3, -2, -1, 1, 2, 5, 6]), 4).tolist() == [-1, 0, 0, 0, 1, 1, 2]


def test_detail_is_the_difference_from_a_binomial_mean() -> None:
    plane = noise(3, 3)
    weights = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    assert detail_16ths(plane)[1, 1] == 16 * int(plane[1, 1]) - int((weights * plane).sum())
    assert not detail_16ths(np.full((4, 5), 77, np.uint8)).any()


def test_a_block_fits_up_to_the_limit() -> None:
    """Without detail, the mean difference may be 1.5; with detail, ``fit_limit`` sixteenths of it more."""
    options = {"block_px": 4, "range_px": 1}
    before = np.full((4, 8), 100, np.uint8)
    now = before.copy()
    now[:, :4] = 101
    now[2:, :4] = 102  # the mean difference of the block is 1.5, and its detail is not 0
    now[:, 4:] = 103
    fits = align(now, before, 2, fit_limit=1, **options).fits
    assert fits[:, :4].all() and not fits[:, 4:].any()
    pattern = np.tile(np.array([[0, 8], [8, 0]], np.uint8), (2, 4)) + np.uint8(100)  # a mean detail of 4
    other = np.full((4, 8), 104, np.uint8)  # a mean difference of 4
    assert abs(detail_16ths(np.tile(pattern, (3, 3)))[4:8, 4:8]).mean() == 64
    assert not align(pattern, other, 2, fit_limit=4, **options).fits.any()
    assert align(pattern, other, 2, fit_limit=16, **options).fits.all()


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("speed", [(0, 0), (1, 2), (-5, 3), (7, -9)])
def test_the_motion_of_a_camera_is_found(scale: int, speed: tuple[int, int]) -> None:
    """The speed is in pixels of the result."""
    large = imresize(skimage.data.camera()[60:220, 160:320], 2)  # smooth, so that LR has no aliasing
    hr = [large[60 + speed[0] * n :, 60 + speed[1] * n :][: 48 * scale, : 48 * scale] for n in range(2)]
    before, now = (lr_plane(one, scale) for one in hr)
    found = align(now, before, scale, block_px=8, range_px=6, fit_limit=16)
    inside = found.motion[:, 2:-2, 2:-2]
    textured = nearest(now.reshape(6, 8, 6, 8).std((1, 3))[1:-1, 1:-1] > 12, 2)
    right = (np.abs(inside - np.array(speed)[:, None, None]) <= (scale > 2)).all(0)
    assert textured.sum() >= 5 and right[textured].mean() > 0.85
    halves = align(now, before, 2 * scale, block_px=8, range_px=6, fit_limit=16)
    inner = np.s_[8:-8, 8:-8]  # at the edge, motion out of the frame fits by chance
    assert np.abs(halves.residual[inner]).mean() <= np.abs(found.residual[inner]).mean()
    assert found.fits[inner].mean() > 0.9


def test_frames_that_are_no_whole_blocks_are_continued() -> None:
    plane = noise(9, 5)
    assert whole_blocks(plane, 8).shape == (16, 8)
    found = align(plane, plane, 4, block_px=8, range_px=2, fit_limit=16)
    assert found.fits.shape == found.detail.shape == found.residual.shape == (9, 5)
    assert found.fits.all() and not found.residual.any() and not found.motion.any()


def test_after_a_cut_no_block_fits() -> None:
    """One of 15 blocks is the same, which is chance; two are not."""
    options = {"block_px": 8, "range_px": 2, "fit_limit": 4}
    before, now = noise(24, 40), noise(24, 40, 2)
    now[:8, :8] = before[:8, :8]
    assert not align(now, before, 4, **options).fits.any()
    now[8:16, 8:16] = before[8:16, 8:16]
    fits = align(now, before, 4, **options).fits
    assert fits.sum() == 128 and fits[:8, :8].all() and fits[8:16, 8:16].all()


@pytest.mark.parametrize("bar", [8, 16, 20])
def test_black_bars_do_not_hide_a_cut(bar: int) -> None:
    """They fit after each cut, as do slides' white margins; what counts is the picture between them."""
    options = {"block_px": 8, "range_px": 2, "fit_limit": 4}
    before, now = noise(64, 40), noise(64, 40, 2)
    now[24:32, :8] = before[24:32, :8]  # by chance
    for level in (16, 255):
        for plane in (before, now):
            plane[:bar] = plane[-bar:] = level
            plane[0, 3] = plane[-1, 9] = level - 8  # an encoder's noise
        assert not align(now, before, 4, **options).fits.any()
        assert align(now, now, 4, **options).fits.all()
    black = np.full_like(now, 16)
    assert not align(black, before, 4, **options).fits.any()
    assert align(black, black, 4, **options).fits.all()


def test_a_flash_and_a_fast_fade_count_as_cuts_and_a_slow_fade_does_not() -> None:
    options = {"block_px": 8, "range_px": 2, "fit_limit": 16}
    scene = lr_plane(skimage.data.camera()[100:292, 150:342], 4)
    flash = np.clip(scene.astype(np.int64) + 90, 0, 255).astype(np.uint8)
    assert not align(flash, scene, 8, **options).fits.any()
    assert not align(scene, flash, 8, **options).fits.any()
    assert align(scene, scene, 8, **options).fits.all()
    fast, slow = (np.rint(scene * share).astype(np.uint8) for share in (0.8, 0.995))
    assert align(fast, scene, 8, **options).fits.mean() < 0.5
    assert align(slow, scene, 8, **options).fits.all()


def test_still_blocks_equal_the_previous_frame_as_do_their_neighbors() -> None:
    previous = np.random.default_rng(2).integers(0, 256, (33, 41), np.uint8)
    frame = previous.copy()
    assert still(frame, previous, 8).all()
    frame[9, 10] ^= 1  # in the block of row 1 and column 1
    expected = np.ones((33, 41), bool)
    expected[:24, :24] = False
    np.testing.assert_array_equal(still(frame, previous, 8), expected)
    frame[32, 40] ^= 1  # in the last, incomplete block
    expected[24:, 32:] = False
    np.testing.assert_array_equal(still(frame, previous, 8), expected)

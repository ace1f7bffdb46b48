"""Motion of blocks in machine code equals NumPy to the integer."""

from dataclasses import replace

import numpy as np
import pytest

from history_motion import (
    CASES,
    SIZES,
    STATE,
    Case,
    expected_masks,
    expected_planes,
    frame_pairs,
    mostly_whole,
    nearly_smooth,
    noise,
    random_inputs,
    waves,
)
from scripts import run_script
from subpixel.engines.history import motion as motion_module
from subpixel.engines.history.motion import MotionCompensation
from subpixel.engines.native import targets
from subpixel.errors import EngineError
from subpixel.ops.block_motion import align, still

pytest.importorskip("llvmlite", reason="machine code needs llvmlite")

TARGETS = [name for name in ("avx512", "avx2", "neon") if targets.runs_here(targets.TARGETS[name])]
"""One for each width of vectors."""

every_target = pytest.mark.parametrize("target", TARGETS)
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def expected_alignment(case, now, before, fit_limit=16):
    """The alignment, with fits by block."""
    block = case.block_px
    numbers = {"block_px": block, "range_px": case.range_px, "fit_limit": fit_limit}
    aligned = align(now, before, case.steps, **numbers)
    return replace(aligned, fits=aligned.fits[::block, ::block])


def assert_aligned(found, expected):
    np.testing.assert_array_equal(found.motion, expected.motion)
    np.testing.assert_array_equal(found.detail, expected.detail)
    np.testing.assert_array_equal(found.residual, expected.residual)
    np.testing.assert_array_equal(found.explained(), expected.fits)


def random_motion(case, aligned):
    """Replace the motion of blocks, and of some quarters, by one that points far beyond the edges, too."""
    limit, rng = case.steps * case.range_px, np.random.default_rng(1)
    return replace(aligned, motion=mostly_whole(rng.integers(-limit, limit + 1, aligned.motion.shape), rng))


def random_fits(aligned):
    """Replace the blocks that fit, and the motion: little in a single block, much in several."""
    rng = np.random.default_rng(1)
    fits = rng.random(aligned.fits.shape) < 0.7
    moves = rng.random(aligned.motion.shape[1:]) < (0.1 if fits.size == 1 else 0.9)
    return replace(aligned, fits=fits, motion=rng.choice([-1, 1], aligned.motion.shape) * moves)


def written(compensation, case, aligned, inputs):
    planes = np.full((case.scale**2 + 2 + STATE, *inputs.opened.shape), 77, np.uint8)
    base, result, hidden, opened = inputs
    compensation.write_inputs(planes, aligned, opened, base=base, result=result, hidden=hidden)
    return planes


@every_target
@every_case
def test_motion(case, target):
    compensation, apart = MotionCompensation(case.scale, case.history, target=target), []
    for size in SIZES:
        for now, before in frame_pairs(*size):
            found, block = compensation.align(now, before), case.block_px
            assert_aligned(found, expected_alignment(case, now, before))
            np.testing.assert_array_equal(found.still(), still(now, before, block)[::block, ::block])
            apart.append((found.motion[:, ::2, ::2] != found.motion[:, 1::2, 1::2]).any(0).mean())
    assert max(apart) > 0.3 and min(apart) == 0  # quarters of many blocks, and of none


@every_target
@every_case
def test_moved_inputs(case, target):
    compensation = MotionCompensation(case.scale, case.history, target=target)
    for size in SIZES:
        inputs = random_inputs(case, *size)
        aligned = random_motion(case, compensation.align(noise(*size), noise(*size, seed=2)))
        expected = expected_planes(case, inputs, aligned.motion, aligned.detail, aligned.residual)
        np.testing.assert_array_equal(written(compensation, case, aligned, inputs), expected)


@every_target
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@every_case
def test_masks(case, dtype, target):
    compensation, shares = MotionCompensation(case.scale, case.history, threads=2, target=target), []
    for size in SIZES:
        plane, now, before = nearly_smooth(*size, dtype)
        aligned = random_fits(compensation.align(now, before))
        expected = expected_masks(case, plane, now, before, aligned)
        for view in (plane, np.asfortranarray(plane)):
            for found, wanted in zip(compensation.masks(view, aligned), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)
        shares.append([*map(np.mean, expected)])
    assert (np.max(shares, 0) > 0.3).all() and (np.min(shares, 0) < 0.3).all()


def test_the_widest_range():
    case = Case(4, 2, 8, 32)
    now, before = noise(40, 50), np.roll(noise(40, 50), (27, -31), (0, 1))
    compensation = MotionCompensation(case.scale, case.history)
    assert_aligned(compensation.align(now, before), expected_alignment(case, now, before))


@pytest.mark.parametrize("fit_limit", [1, 5, 256])
def test_which_blocks_fit(fit_limit):
    """Those before the rule about cuts, too."""
    case = Case(4, 2, 8, 2)
    before = waves(64, 64)
    now = np.clip(waves(64, 64, 0.2, 0.3) + np.random.default_rng(0).normal(0, 6, (64, 64)), 0, 255).astype(
        np.uint8
    )
    found = MotionCompensation(4, replace(case.history, fit_limit=fit_limit)).align(now, before)
    expected = expected_alignment(case, now, before, fit_limit)
    assert_aligned(found, expected)
    cost = np.abs(expected.residual).reshape(8, 8, 8, 8).sum((1, 3))
    assert found.fits[cost <= 96].all()
    assert found.fits.all() == (fit_limit == 256)


def test_after_a_cut_some_blocks_fit_by_chance():
    now, before = noise(64, 64), noise(64, 64, seed=2)
    now[:8, :8] = before[:8, :8]
    case = Case(4, 2, 8, 2)
    found = MotionCompensation(4, replace(case.history, fit_limit=1)).align(now, before)
    assert found.fits.sum() == 1 and found.same.sum() == 1 and not found.explained().any()


@every_target
@pytest.mark.parametrize("block_px", [4, 8, 16])
def test_plain_blocks_do_not_count_after_a_cut(target, block_px):
    """One block in the middle fits by chance, or because it is as plain as black bars."""
    case = Case(2, 2, block_px, 2)
    motion = MotionCompensation(2, replace(case.history, fit_limit=1), target=target)
    now, before = noise(5 * block_px, 5 * block_px), noise(5 * block_px, 5 * block_px, seed=2)
    for place in ((0, 0), (block_px - 1, block_px - 1), (1, block_px - 2)):
        for levels in (0, 8, 9):
            for plane in (now, before):
                plane[block_px : 2 * block_px, block_px : 2 * block_px] = 200
                plane[block_px + place[0], block_px + place[1]] -= levels
            found = motion.align(now, before)
            assert_aligned(found, expected_alignment(case, now, before, 1))
            assert found.fits.sum() == 1 and found.varied.sum() == 25 - (levels < 9)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads(threads):
    for case in (CASES[0], CASES[1]):
        compensation = MotionCompensation(case.scale, case.history, threads=threads)
        for size in ((97, 33), (9, 20), (4, 4)):
            now, before = waves(*size), waves(*size, 1.6, 0.7)
            found = compensation.align(now, before)
            assert_aligned(found, expected_alignment(case, now, before))
            inputs, aligned = random_inputs(case, *size), random_motion(case, found)
            expected = expected_planes(case, inputs, aligned.motion, aligned.detail, aligned.residual)
            np.testing.assert_array_equal(written(compensation, case, aligned, inputs), expected)


def test_views():
    """Parts of larger arrays, and planes that are stored by columns; what is around the result stays."""
    case, (height, width) = CASES[0], (21, 40)
    compensation = MotionCompensation(case.scale, case.history)
    now, before = np.asfortranarray(waves(height, width)), np.pad(waves(height, width, 0.6, 1), 9)[9:-9, 9:-9]
    found = compensation.align(now, before)
    assert_aligned(found, expected_alignment(case, now, before))
    inputs = random_inputs(case, height, width)
    strided = inputs._replace(
        base=np.asfortranarray(inputs.base),
        result=np.pad(inputs.result, 3)[3:-3, 3:-3],
        hidden=np.pad(inputs.hidden, 5)[5:-5, 5:-5, 5:-5],
        opened=np.pad(inputs.opened, 1)[1:-1, 1:-1],
    )
    around = np.full((case.scale**2 + 2 + STATE, height + 3, width + 20), 77, np.uint8)
    planes, (base, result, hidden, opened) = around[:, 1:-2, 7:-13], strided
    compensation.write_inputs(planes, found, opened, base=base, result=result, hidden=hidden)
    expected = expected_planes(case, inputs, found.motion, found.detail, found.residual)
    np.testing.assert_array_equal(planes, expected)
    planes[...] = 77
    assert (around == 77).all()


def test_another_process_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBPIXEL_CACHE", str(tmp_path))
    case = CASES[0]
    MotionCompensation(case.scale, case.history)
    assert len([*tmp_path.iterdir()]) == 3
    monkeypatch.setattr("subpixel.engines.history.program.object_file", None)
    now, before = waves(20, 30), waves(20, 30, 1, 0.5)
    found = MotionCompensation(case.scale, case.history).align(now, before)
    assert_aligned(found, expected_alignment(case, now, before))


def test_another_processor(monkeypatch):
    def unknown(name):
        raise EngineError("this processor has no avx2")

    monkeypatch.setattr(motion_module.targets, "find", unknown)
    with pytest.raises(EngineError, match="no avx2"):
        MotionCompensation(4, CASES[0].history)


def test_no_access_out_of_bounds():
    done = run_script("guarded_history.py")
    assert done.returncode == 0, done.stderr
    assert run_script("guarded_history.py", "overrun").returncode == -11

"""Properties of timestamps, tiles and batches, for any input that Hypothesis generates."""

import string
import tempfile
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_files import upscaled
from random_models import random_model
from subpixel.batch import plan_batch
from subpixel.engines.base import tiles
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import OutputError
from subpixel.images import tiles as image_tiles
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.video.media.time_range import TimeRange
from subpixel.video.media.timestamps import TimestampRepair
from subpixel.video.pipeline.encode import decoding_times

# Timestamps

ticks = st.integers(-(10**6), 10**7)


@given(
    times=st.lists(ticks | st.none(), min_size=1, max_size=40),
    second=st.integers(1, 90_000),
    step=st.integers(1, 5000),
    strict=st.booleans(),
    jumps=st.booleans(),
)
def test_repaired_times_are_ordered(times, second, step, strict, jumps):
    repair = TimestampRepair(second, step, strict=strict, jumps=jumps)
    repaired = [repair.repair(time) for time in times]
    assert all(after - before >= strict for before, after in pairwise(repaired))
    changed = sum(time != result for time, result in zip(times, repaired, strict=True))
    assert changed - (times[0] is None) <= repair.repaired <= changed


@given(steps=st.lists(st.integers(1, 10**6), max_size=40), start=ticks, second=st.integers(1, 90_000))
def test_increasing_times_are_unchanged(steps, start, second):
    times = np.cumsum([start, *steps]).tolist()
    repair = TimestampRepair(second)
    assert [repair.repair(time) for time in times] == times
    assert repair.repaired == 0


@given(times=st.lists(ticks, min_size=1, max_size=60, unique=True))
def test_decoding_times_increase_and_are_never_late(times):
    shown = np.array(times)
    decoding = decoding_times(shown)
    assert (np.diff(decoding) > 0).all()
    assert (decoding <= shown).all()


@given(start=st.fractions(0, 10**9), length=st.fractions(-10, 10**6) | st.none())
def test_empty_time_ranges_are_refused(start, length):
    end = None if length is None else start + length
    if length is not None and length <= 0:
        with pytest.raises(ValueError, match="must be after the start"):
            TimeRange(start, end)
    else:
        assert bool(TimeRange(start, end)) == (start > 0 or end is not None)
        assert TimeRange(Fraction(0)) == TimeRange()


# Tiles

sides = st.integers(1, 40)


@given(
    height=sides,
    width=sides,
    halo_px=st.integers(0, 6),
    side_px=st.integers(1, 20),
    context=st.integers(0, 5),
)
def test_tiles_cover_each_pixel_once_and_read_their_halo(height, width, halo_px, side_px, context):
    context_px = min(context, (min(height, width) - 1) // 2)
    covered = np.zeros((height - 2 * context_px, width - 2 * context_px), int)
    for tile in tiles(height, width, halo_px, side_px, context_px):
        covered[tile.keep] += 1
        for read, keep, crop, side in zip(tile.read, tile.keep, tile.crop, (height, width), strict=True):
            first, last = keep.start + context_px, keep.stop + context_px
            assert (read.start, read.stop) == (max(first - halo_px, 0), min(last + halo_px, side))
            assert (read.start + crop.start, read.start + crop.stop) == (first, last)
        kept = [keep.stop - keep.start for keep in tile.keep]
        assert kept[0] * kept[1] <= side_px**2
    assert (covered == 1).all()


@st.composite
def specs(draw):
    """Small networks of one channel, with various receptive fields."""
    scale, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernels = draw(st.tuples(*[st.sampled_from([1, 3, 5])] * 2))
    layers = (Convolution(1, width, kernels[0], "relu"), Convolution(width, scale**2, kernels[1], "none"))
    return ModelSpec(scale, layers, residual=draw(st.sampled_from(["none", "nearest"])))


@given(spec=specs(), height=sides, width=sides, side_px=st.integers(1, 24), seed=st.integers(0, 99))
def test_tiles_equal_the_complete_plane(spec, height, width, side_px, seed):
    model = random_model(spec, seed)
    plane = np.random.default_rng(seed).random((height, width), np.float32)
    whole = NumpyEngine(model)(plane)
    np.testing.assert_allclose(NumpyEngine(model, tile_side_px=side_px)(plane), whole, rtol=0, atol=1e-6)


@given(
    spec=specs(),
    shape=st.tuples(sides, sides) | st.tuples(sides, sides, st.integers(1, 5)),
    side_px=st.integers(8, 24),
    rows=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_strips_and_tiles_equal_the_complete_image(spec, shape, side_px, rows, seed):
    engine = NumpyEngine(random_model(spec, seed))
    image = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    alpha = image.ndim == 3 and image.shape[2] in (2, 4)
    whole = upscaled(image, engine, alpha=alpha)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_tiles, "TILE_SIDE_PX", side_px)
        patch.setattr(image_tiles, "_MIN_STRIP_ROWS", 8 * rows)
        patch.setattr(image_tiles, "_MAX_STRIP_ROWS", 8 * rows)
        tiled = upscaled(image, engine, alpha=alpha)
    # Sums in float32 depend on the alignment of a row, so values halfway between integers may round
    # otherwise.
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert (tiled != whole).mean() < 0.01


# Batches

stems = st.text(alphabet=string.ascii_letters + "é. -", min_size=1, max_size=4).map(
    lambda stem: f"a{stem}".strip()
)
suffixes = st.sampled_from(
    [".png", ".jpg", ".JPG", ".tiff", ".mp4", ".mkv", ".mov", ".avi", ".ts", ".txt", ""]
)
names = st.tuples(stems, suffixes).map("".join)
folders_of_files = st.sampled_from(["", "in/", "in/deeper/", "in/deeper/still/", "other/", "out/"])
files = st.lists(st.tuples(folders_of_files, names).map("".join), min_size=1, max_size=6, unique_by=str.lower)


@given(
    files=files,
    folders=st.lists(st.sampled_from(["in", "in/deeper", "other", "out", "."]), max_size=2),
    output=st.sampled_from(["out", "new", "new/", "in", "in/deeper", "x.png", "x.mp4", "x.xyz"]) | names,
    recursive=st.booleans(),
    picked=st.integers(0, 3),
)
def test_no_output_is_an_input_or_another_output(files, folders, output, recursive, picked):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for file in files:
            path = Path(file)
            if any(parent.is_file() for parent in path.parents) or path.is_dir():
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"G")
        existing = [Path(file) for file in files if Path(file).is_file()][:picked]
        inputs = [*existing, *(Path(name) for name in folders if Path(name).is_dir())] or [Path(files[0])]
        try:
            jobs = plan_batch(inputs, output, recursive=recursive).jobs
        except (ValueError, OutputError):
            return
        assert jobs
        assert all(job.source.is_file() for job in jobs)
        outputs = [job.output.resolve() for job in jobs]
        assert len(set(outputs)) == len(outputs)
        sources = {job.source.resolve() for job in jobs}
        # An output that is its own input is refused later, when it is written.
        for job, target in zip(jobs, outputs, strict=True):
            assert target == job.source.resolve() or target not in sources

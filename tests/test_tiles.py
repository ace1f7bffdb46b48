import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from random_models import integer_model, random_model, random_spec
from subpixel.engines.base import TILE_SIDE_PX, tiles
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.onnxruntime_engine import OnnxRuntimeEngine
from subpixel.models.networks import espcn
from subpixel.models.spec import ModelSpec

each_engine = pytest.mark.parametrize("engine_type", [NumpyEngine, OnnxRuntimeEngine])
SIZES = [(1, 1), (1, 40), (40, 1), (5, 5), (6, 26), (13, 22)]


@pytest.mark.parametrize("halo", [0, 1, 4, 9])
@pytest.mark.parametrize("side", [1, 2, 5, 8])
@pytest.mark.parametrize(("height", "width"), [*SIZES, (3, 100)])
def test_tiles_cover_each_pixel_once(height, width, side, halo):
    pixels = np.arange(height * width).reshape(height, width)
    stitched = np.full((height, width), -1)
    for tile in tiles(height, width, halo, side):
        kept = pixels[tile.keep]
        assert 1 <= kept.size <= side**2
        assert (stitched[tile.keep] == -1).all()
        stitched[tile.keep] = pixels[tile.read][tile.crop]
        for read, keep, length in zip(tile.read, tile.keep, (height, width), strict=True):
            assert read.start == max(0, keep.start - halo)
            assert read.stop == min(length, keep.stop + halo)
    np.testing.assert_array_equal(stitched, pixels)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1, 1, [(1, 1)]),
        (360, 640, [(360, 640)]),
        (64, 4096, [(64, 4096)]),
        (720, 1280, [(360, 640)] * 4),
        (1, 3 * TILE_SIDE_PX**2, [(1, TILE_SIDE_PX**2)] * 3),
        (1000, 2000, [(500, 500)] * 8),
    ],
)
def test_no_more_tiles_than_needed(height, width, expected):
    def shape(tile):
        return tuple(span.stop - span.start for span in tile.keep)

    assert [shape(tile) for tile in tiles(height, width, halo_px=4)] == expected


@each_engine
@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("side", [2, 5, 8])  # ESPCN's halo is 4: smaller than the halo, as large, larger
def test_tiles_equal_the_complete_image_exactly(engine_type, side, height, width):
    model = integer_model()
    lr = np.random.default_rng(0).integers(0, 2, (height, width)).astype(np.float32)
    hr = engine_type(model, tile_side_px=side)(lr)
    assert np.abs(hr).max() < 2**24, "larger whole numbers would be rounded"
    np.testing.assert_array_equal(hr, NumpyEngine(model, tile_side_px=1000)(lr))


@each_engine
@pytest.mark.parametrize("seed", range(10))
def test_tiles_equal_the_complete_image_for_unusual_networks(engine_type, seed):
    model = random_model(random_spec(seed), seed)
    lr = np.random.default_rng(seed).random((model.spec.channels, 23, 17), np.float32)
    whole, tiled = engine_type(model), engine_type(model, tile_side_px=6)
    np.testing.assert_allclose(tiled(lr), whole(lr), rtol=0, atol=2e-6)


@each_engine
def test_tiles_equal_the_complete_image_in_integers(engine_type):
    model = random_model(espcn(3))
    lr = np.random.default_rng(0).integers(0, 256, (37, 41), np.uint8)
    tiled, whole = engine_type(model, tile_side_px=5)(lr), engine_type(model)(lr)
    np.testing.assert_array_equal(tiled, whole)


def test_a_smaller_halo_is_not_enough(monkeypatch):
    model = integer_model()
    lr = np.random.default_rng(0).integers(0, 2, (23, 31)).astype(np.float32)
    whole = NumpyEngine(model)(lr)
    monkeypatch.setattr(ModelSpec, "halo_px", model.spec.halo_px - 1)
    assert (NumpyEngine(model, tile_side_px=8)(lr) != whole).any()


MEASURE = """
import sys
from pathlib import Path

import numpy as np
from random_models import random_model

from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.onnxruntime_engine import OnnxRuntimeEngine
from subpixel.models.spec import Convolution, ModelSpec

def memory(line):
    text = Path("/proc/self/status").read_text()
    return int(text.split(line + ":")[1].split()[0]) * 1024

wide = ModelSpec(2, (Convolution(1, 64, 1, "relu"), Convolution(64, 4, 1)))
engine = {"numpy": NumpyEngine, "onnxruntime": OnnxRuntimeEngine}[sys.argv[1]]
engine = engine(random_model(wide), tile_side_px=int(sys.argv[2]))
lr = np.full((500, 500), 128, np.uint8)
engine(lr[:16, :16])
before = memory("VmRSS")
engine(lr)
print(memory("VmHWM") - before)
"""
"""Prints how many bytes a call needs at its peak. (`resource.getrusage` would include the peak of the parent
process.)"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured with Linux's /proc")
@pytest.mark.parametrize("engine", ["numpy", "onnxruntime"])
def test_memory_is_bounded_by_the_tile(engine):
    def peak_bytes(tile_side_px):
        command = [sys.executable, "-c", MEASURE, engine, str(tile_side_px)]
        environment = {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
        return int(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)

    output = 1000 * 1000
    tile = 64**2 * 64 * 8  # one layer's values, at most float64
    assert peak_bytes(64) < output + 5 * tile
    assert peak_bytes(500) > output + 10 * tile, "so the test can fail"


@pytest.mark.parametrize("context_px", [1, 4, 6])
@pytest.mark.parametrize("side", [2, 5, 8])
def test_context_is_read_but_not_kept(side, context_px):
    pixels = np.arange(20 * 23).reshape(20, 23)
    inside = pixels[context_px:-context_px, context_px:-context_px]
    stitched = np.full(inside.shape, -1)
    for tile in tiles(*pixels.shape, 4, side, context_px):
        assert (stitched[tile.keep] == -1).all()
        stitched[tile.keep] = pixels[tile.read][tile.crop]
        for read, keep, length in zip(tile.read, tile.keep, pixels.shape, strict=True):
            assert read.start == max(0, keep.start + context_px - 4)
            assert read.stop == min(length, keep.stop + context_px + 4)
    np.testing.assert_array_equal(stitched, inside)

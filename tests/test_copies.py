"""Upscalers, engines and models in other processes: pickled and copied, they compute the same."""

import copy
import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest

from image_files import picture
from random_models import halide_runs
from subpixel.engines.halide import HalideEngine
from subpixel.engines.select import ENGINES
from subpixel.models import catalog as packaged
from subpixel.upscaler import Upscaler, load

COPIES = {
    "pickle": lambda given: pickle.loads(pickle.dumps(given)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def upscaler_by(engine, **options):
    if engine == "halide" and not halide_runs():
        pytest.skip("the Halide engine does not run here")
    return load("fast-x2", engine=engine, threads=1, **options)


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_upscaler(engine, way):
    upscaler = upscaler_by(engine)
    again = COPIES[way](upscaler)
    assert (again.reason, again.scale, again.engine.name) == (upscaler.reason, 2, engine)
    assert again.engine.precision == upscaler.engine.precision
    assert again.engine.model is again.model
    for dtype in (np.uint8, np.uint16, np.float32):
        image = picture(dtype=np.uint8)[..., 0]
        image = image.astype(dtype) if dtype != np.float32 else image.astype(dtype) / 255
        np.testing.assert_array_equal(again(image), upscaler(image))


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_keeps_its_options(engine, way):
    given = upscaler_by(engine, precision="fp32").engine
    engine = type(given)(given.model, precision="fp32", threads=2, tile_side_px=96)
    again = COPIES[way](engine)
    assert (again.precision, again.threads, again.tile_side_px) == ("fp32", 2, 96)
    assert COPIES[way](given).tile_side_px == given.tile_side_px
    assert "tile_side_px" not in COPIES[way](given).__dict__


def test_an_engine_held_to_a_simpler_processor():
    if not halide_runs():
        pytest.skip("the Halide engine does not run here")
    engine = HalideEngine(packaged.find("fast-x2"), threads=1, target="avx2")
    assert pickle.loads(pickle.dumps(engine)).target == "avx2"


@pytest.mark.parametrize("way", COPIES)
def test_a_model_stays_frozen(way):
    model = packaged.find("fast-x2")
    again = COPIES[way](model)
    assert again.digest() == model.digest()
    assert (again.name, again.spec, again.metadata) == (model.name, model.spec, model.metadata)
    for array in (*again.weights.values(), again.quantized[0].weight):
        assert not array.flags.writeable


@pytest.mark.parametrize("engine", ENGINES)
def test_another_process(engine):
    """One that begins from nothing, as all do on Windows and macOS."""
    upscaler = upscaler_by(engine)
    planes = [np.full((6, 8), level, np.uint8) for level in (0, 100, 255)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        results = pool.map(upscaler, planes)
    for plane, result in zip(planes, results, strict=True):
        np.testing.assert_array_equal(result, upscaler(plane))


def test_nothing_is_said_at_the_end():
    """No "Exception ignored" of objects that were half made, copied or left to the interpreter's end."""
    code = """
import copy, gc, pickle, sys, subpixel
from subpixel.engines import onnxruntime_engine
from subpixel.engines.select import ENGINES
kept = []
for engine in ENGINES:
    try:
        upscaler = subpixel.load("fast-x2", engine=engine, threads=2)
    except subpixel.EngineError:
        continue
    kept += [upscaler, copy.deepcopy(upscaler), pickle.loads(pickle.dumps(upscaler))]
    frames = upscaler.frames(iter([]))
    kept.append(frames)
class Nonsense:
    def SerializeToString(self):
        return b"nonsense"
onnxruntime_engine.build = lambda model: Nonsense()
wrongs = ({"engine": "onnxruntime"}, {"engine": "gpu"}, {"threads": 0}, {"threads": "2"}, {"model": "none"})
for wrong in wrongs:
    try:
        subpixel.load(**wrong)
    except (subpixel.SubpixelError, ValueError, TypeError):
        pass
    else:
        sys.exit(f"{wrong} is not refused")
    gc.collect()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_copies_share_the_model():
    model = packaged.find("fast-x2")
    upscaler = Upscaler(model, "numpy", threads=1)
    assert copy.deepcopy([model, upscaler])[1].model is model

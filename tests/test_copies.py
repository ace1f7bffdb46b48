"""Pickles and copies of upscalers, engines and models give the same results, also in other processes."""

import copy
import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest

from image_files import smooth_image
from random_models import native_runs
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.native.targets import TARGETS, runs_here
from subpixel.engines.select import ENGINES
from subpixel.loading import load
from subpixel.models import catalog as packaged
from subpixel.upscaler import Upscaler

COPIES = {
    "pickle": lambda given: pickle.loads(pickle.dumps(given)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def upscaler_by(engine, **options):
    if engine == "native" and not native_runs():
        pytest.skip("the native engine does not run here")
    return load("fast-x2", engine=engine, threads=1, **options)


@pytest.mark.parametrize("method", COPIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_upscaler(engine, method):
    upscaler = upscaler_by(engine)
    again = COPIES[method](upscaler)
    assert (again.reason, again.scale, again.engine.name) == (upscaler.reason, 2, engine)
    assert again.engine.precision == upscaler.engine.precision
    assert again.engine.model is again.model
    for dtype in (np.uint8, np.uint16, np.float32):
        image = smooth_image(dtype=np.uint8)[..., 0]
        image = image.astype(dtype) if dtype != np.float32 else image.astype(dtype) / 255
        np.testing.assert_array_equal(again(image), upscaler(image))


@pytest.mark.parametrize("method", COPIES)
@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_keeps_its_options(engine, method):
    precision = "int8" if engine == "native" else "fp32"
    given = upscaler_by(engine, precision=precision).engine
    engine = type(given)(given.model, precision=precision, threads=2, tile_side_px=96)
    again = COPIES[method](engine)
    assert (again.precision, again.threads, again.tile_side_px) == (precision, 2, 96)
    assert COPIES[method](given).tile_side_px == given.tile_side_px
    assert "tile_side_px" not in COPIES[method](given).__dict__


@pytest.mark.skipif(not native_runs() or not runs_here(TARGETS["avx2"]), reason="this processor has no AVX2")
def test_an_engine_keeps_its_instruction_set():
    engine = NativeEngine(packaged.find("fast-x2"), threads=1, target="avx2")
    assert pickle.loads(pickle.dumps(engine)).target == "avx2"


@pytest.mark.parametrize("method", COPIES)
def test_copies_of_a_model_are_read_only(method):
    model = packaged.find("fast-x2")
    again = COPIES[method](model)
    assert again.digest() == model.digest()
    assert (again.name, again.spec, again.metadata) == (model.name, model.spec, model.metadata)
    for array in (*again.weights.values(), again.quantized[0].weight):
        assert not array.flags.writeable


@pytest.mark.parametrize("engine", ENGINES)
def test_another_process(engine):
    """A spawned process shares no memory, as on Windows and macOS."""
    upscaler = upscaler_by(engine)
    planes = [np.full((6, 8), value, np.uint8) for value in (0, 100, 255)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        results = pool.map(upscaler, planes)
    for plane, result in zip(planes, results, strict=True):
        np.testing.assert_array_equal(result, upscaler(plane))


def test_the_interpreter_exits_silently():
    """No "Exception ignored" from objects that failed in their constructor, were copied, or still exist."""
    code = """
import copy, gc, pickle, sys, subpixel
from subpixel.engines import onnxruntime_engine
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.native.targets import TARGETS, runs_here
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
onnxruntime_engine.build = lambda model: b"nonsense"
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

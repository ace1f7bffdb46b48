"""Every packaged model against its stored output, against bicubic, and against its published PSNR.

``pytest tests/test_golden.py --update-golden`` writes the files in ``tests/golden``: for each model and
precision one PNG with the five tiles below each other, made by the numpy engine.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from random_models import halide_runs
from subpixel.engines.base import from_float, to_float
from subpixel.engines.select import choose
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import bicubic, crop_to_multiple, lr_plane, pictures, read_picture
from subpixel.models import catalog
from subpixel.ops.color import luma_8bit

GOLDEN = Path(__file__).parent / "golden"
PRECISION_JSON = Path(__file__).parents[1] / "benchmarks" / "results" / "precision.json"
UPDATE = "pytest tests/test_golden.py --update-golden"

HEIGHT, WIDTH = 36, 48
"""Of a tile in HR pixels: multiples of each scale."""
TILES = {  # of scikit-image's pictures: the tile's top and left, and the least gain over bicubic in dB
    "astronaut": (100, 195, 0.5),
    "chelsea": (95, 150, 0.5),
    "coffee": (160, 330, 0.5),
    "page": (40, 100, 0.2),  # of text, whose letters are hardly to be read at x4
    "horse": (60, 60, 2.5),  # a drawing in black and white
}
STORED_DTYPE = {"int8": np.dtype(np.uint8), "fp32": np.dtype(np.uint16)}
FP32_TOLERANCE = 1e-4
PSNR_TOLERANCE_DB = 0.005

each_model = pytest.mark.parametrize("name", catalog.names())
needs_halide = pytest.mark.skipif(not halide_runs(), reason="the Halide engine does not run here")
each_precision = pytest.mark.parametrize("precision", ["int8", "fp32"])


@cache
def hr_tile(picture):
    """Luma of a tile, ``(HEIGHT, WIDTH)`` uint8."""
    top, left, _ = TILES[picture]
    image = getattr(data, picture)()[top : top + HEIGHT, left : left + WIDTH]
    if image.dtype == np.bool_:
        image = np.where(image, np.uint8(255), np.uint8(0))
    return luma_8bit(image).astype(np.uint8)


def upscale_luma(name, precision, engine):
    """A function from uint8 luma to floats in [0, 1] that are not rounded, or in fp32 to 16 bits at most.

    In int8 the engine is given floats, in fp32 uint16: for these, other tests compile the networks anyway.
    """
    run = choose(catalog.find(name), engine, precision, threads=1).engine
    if precision == "int8" or engine == "numpy":
        return lambda lr: run(to_float(lr)).clip(0, 1)
    return lambda lr: to_float(run(lr.astype(np.uint16) * 257))


def enlarge_tiles(name, precision, engine):
    """The tiles below each other."""
    upscale, scale = upscale_luma(name, precision, engine), catalog.find(name).scale
    return np.concatenate([upscale(lr_plane(hr_tile(picture), scale)) for picture in TILES])


def golden_file(name, precision):
    return GOLDEN / f"{name}-{precision}.png"


def stored_tiles(name, precision):
    file = golden_file(name, precision)
    if not file.exists():
        pytest.fail(f"{file.name} is missing: run `{UPDATE}`, look at the new pictures, and commit them")
    with Image.open(file) as picture:
        stored = np.asarray(picture)
    return stored if precision == "int8" else stored / 65535


@each_precision
@each_model
def test_numpy_engine_gives_the_stored_output(request, name, precision):
    made = enlarge_tiles(name, precision, "numpy")
    if request.config.getoption("--update-golden"):
        GOLDEN.mkdir(exist_ok=True)
        samples = from_float(made, STORED_DTYPE[precision])
        Image.fromarray(samples).save(golden_file(name, precision), optimize=True)
    stored = stored_tiles(name, precision)
    assert stored.shape == (len(TILES) * HEIGHT, WIDTH)
    if precision == "int8":
        np.testing.assert_array_equal(from_float(made, np.dtype(np.uint8)), stored)
    else:
        assert np.abs(made - stored).max() <= FP32_TOLERANCE


@needs_halide
@each_model
def test_fast_engine_gives_the_stored_output_in_int8(name):
    """To the bit, except where the exact value lies halfway: rounding it up or down is float32's choice."""
    stored = stored_tiles(name, "int8").astype(int)
    made = from_float(enlarge_tiles(name, "int8", "halide"), np.dtype(np.uint8)).astype(int)
    halfway = np.abs(enlarge_tiles(name, "int8", "numpy") * np.float64(255) % 1 - 0.5) < 1e-4
    np.testing.assert_array_equal(made[~halfway], stored[~halfway])
    assert np.abs(made - stored).max() <= 1
    assert halfway.sum() <= halfway.size / 500


@pytest.mark.parametrize("engine", [pytest.param("halide", marks=needs_halide), "onnxruntime"])
@each_model
def test_other_engines_give_the_stored_output_in_fp32(name, engine):
    made = enlarge_tiles(name, "fp32", engine)
    assert np.abs(made - stored_tiles(name, "fp32")).max() <= FP32_TOLERANCE


@each_precision
@each_model
def test_stored_output_is_better_than_bicubic(name, precision):
    scale = catalog.find(name).scale
    stored = stored_tiles(name, precision)
    if precision == "fp32":
        stored = from_float(stored, np.dtype(np.uint8))
    for (picture, (_, _, margin_db)), sr in zip(TILES.items(), np.split(stored, len(TILES)), strict=True):
        hr = hr_tile(picture)
        baseline_db = psnr_db(hr, bicubic(scale)(lr_plane(hr, scale)), shave=scale)
        assert psnr_db(hr, sr, shave=scale) >= baseline_db + margin_db, picture


def test_every_golden_file_belongs_to_a_packaged_model():
    expected = {
        golden_file(name, precision).name for name in catalog.names() for precision in ("int8", "fp32")
    }
    assert {file.name for file in GOLDEN.iterdir()} <= expected


def test_golden_files_are_small():
    assert sum(file.stat().st_size for file in GOLDEN.iterdir()) < 700_000


def mean_psnr_db(name, precision, folder):
    scale = catalog.find(name).scale
    engine = choose(catalog.find(name), precision=precision).engine
    scores = []
    for file in pictures(folder):
        image = crop_to_multiple(read_picture(file), scale)
        sr = engine(lr_plane(image, scale))
        scores.append(psnr_db(luma_8bit(image), sr, shave=scale))
    return float(np.mean(scores))


@each_model
def test_set5_in_fp32_is_what_the_model_file_says(datasets, name):
    stated = catalog.find(name).metadata.psnr_db["Set5"]
    assert mean_psnr_db(name, "fp32", datasets / "Set5") == pytest.approx(stated, abs=PSNR_TOLERANCE_DB)


@each_model
def test_set5_in_int8_is_what_was_measured(datasets, name):
    measured = json.loads(PRECISION_JSON.read_text(encoding="utf-8"))
    if name not in measured:
        pytest.fail(f"{PRECISION_JSON.name} lacks {name}: run `python benchmarks/precision.py`")
    stated = measured[name]["int8"]["Set5"]
    assert mean_psnr_db(name, "int8", datasets / "Set5") == pytest.approx(stated, abs=PSNR_TOLERANCE_DB)

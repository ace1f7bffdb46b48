"""Compares each packaged model with its stored output, with bicubic, and with its published PSNR.

``pytest tests/test_golden.py --update-golden`` writes the files in ``tests/golden``: for each model and
precision one PNG that stacks the five tiles, upscaled by the numpy engine.
"""

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage import data

from random_models import native_runs
from subpixel.engines.base import from_float, to_float
from subpixel.engines.select import choose
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import bicubic, crop_to_multiple, find_images, lr_plane, read_image
from subpixel.models import catalog
from subpixel.ops.color import luma_8bit

GOLDEN = Path(__file__).parent / "golden"
PRECISION_JSON = Path(__file__).parents[1] / "benchmarks" / "results" / "precision.json"
UPDATE = "pytest tests/test_golden.py --update-golden"

HEIGHT, WIDTH = 36, 48
"""Size of a tile in HR pixels, a multiple of each scale."""
TILES = {  # image of scikit-image: top and left of the tile, and the minimum gain over bicubic in dB
    "astronaut": (100, 195, 0.5),
    "chelsea": (95, 150, 0.5),
    "coffee": (160, 330, 0.5),
    "page": (40, 100, 0.2),  # text, which is hardly legible at x4
    "horse": (60, 60, 2.5),  # a black and white drawing
}
STORED_DTYPE = {"int8": np.dtype(np.uint8), "fp32": np.dtype(np.uint16)}
FP32_TOLERANCE = 1e-4
PSNR_TOLERANCE_DB = 0.005

each_model = pytest.mark.parametrize("name", catalog.names())
needs_native = pytest.mark.skipif(not native_runs(), reason="the native engine does not run here")
each_precision = pytest.mark.parametrize("precision", ["int8", "fp32"])


@cache
def hr_tile(image_name):
    """Luma of a tile, ``(HEIGHT, WIDTH)`` uint8."""
    top, left, _ = TILES[image_name]
    image = getattr(data, image_name)()[top : top + HEIGHT, left : left + WIDTH]
    if image.dtype == np.bool_:
        image = np.where(image, np.uint8(255), np.uint8(0))
    return luma_8bit(image).astype(np.uint8)


def upscale_luma(name, precision, engine):
    """Return a function from uint8 luma to floats in [0, 1], which int8 rounds to 8 bits.

    In fp32, fast engines get uint16: other tests compile the networks for these anyway.
    """
    run = choose(catalog.find(name), engine, precision, threads=1).engine
    if precision == "int8":
        return lambda lr: to_float(run(lr))
    if engine == "numpy":
        return lambda lr: run(to_float(lr)).clip(0, 1)
    return lambda lr: to_float(run(lr.astype(np.uint16) * 257))


def upscale_tiles(name, precision, engine):
    """Upscale all tiles, and stack them vertically."""
    upscale, scale = upscale_luma(name, precision, engine), catalog.find(name).scale
    return np.concatenate([upscale(lr_plane(hr_tile(image_name), scale)) for image_name in TILES])


def golden_file(name, precision):
    return GOLDEN / f"{name}-{precision}.png"


def stored_tiles(name, precision):
    file = golden_file(name, precision)
    if not file.exists():
        pytest.fail(f"{file.name} is missing: run `{UPDATE}`, look at the new images, and commit them")
    with Image.open(file) as image:
        stored = np.asarray(image)
    return stored if precision == "int8" else stored / 65535


@each_precision
@each_model
def test_numpy_engine_equals_the_stored_output(request, name, precision):
    result = upscale_tiles(name, precision, "numpy")
    if request.config.getoption("--update-golden"):
        GOLDEN.mkdir(exist_ok=True)
        samples = from_float(result, STORED_DTYPE[precision])
        Image.fromarray(samples).save(golden_file(name, precision), optimize=True)
    stored = stored_tiles(name, precision)
    assert stored.shape == (len(TILES) * HEIGHT, WIDTH)
    if precision == "int8":
        np.testing.assert_array_equal(from_float(result, np.dtype(np.uint8)), stored)
    else:
        assert np.abs(result - stored).max() <= FP32_TOLERANCE


@needs_native
@each_model
def test_fast_engine_equals_the_stored_output_in_int8(name):
    result = from_float(upscale_tiles(name, "int8", "native"), np.dtype(np.uint8))
    np.testing.assert_array_equal(result, stored_tiles(name, "int8"))


@pytest.mark.parametrize("engine", ["onnxruntime"])
@each_model
def test_other_engines_equal_the_stored_output_in_fp32(name, engine):
    result = upscale_tiles(name, "fp32", engine)
    assert np.abs(result - stored_tiles(name, "fp32")).max() <= FP32_TOLERANCE


@each_precision
@each_model
def test_stored_output_is_better_than_bicubic(name, precision):
    scale = catalog.find(name).scale
    stored = stored_tiles(name, precision)
    if precision == "fp32":
        stored = from_float(stored, np.dtype(np.uint8))
    for (image_name, (_, _, gain_db)), sr in zip(TILES.items(), np.split(stored, len(TILES)), strict=True):
        hr = hr_tile(image_name)
        baseline_db = psnr_db(hr, bicubic(scale)(lr_plane(hr, scale)), shave=scale)
        assert psnr_db(hr, sr, shave=scale) >= baseline_db + gain_db, image_name


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
    for file in find_images(folder):
        image = crop_to_multiple(read_image(file), scale)
        sr = engine(lr_plane(image, scale))
        scores.append(psnr_db(luma_8bit(image), sr, shave=scale))
    return float(np.mean(scores))


@each_model
def test_set5_in_fp32_equals_the_model_file(datasets, name):
    stated = catalog.find(name).metadata.psnr_db["Set5"]
    assert mean_psnr_db(name, "fp32", datasets / "Set5") == pytest.approx(stated, abs=PSNR_TOLERANCE_DB)


@each_model
def test_set5_in_int8_equals_the_measured_psnr(datasets, name):
    measured = json.loads(PRECISION_JSON.read_text(encoding="utf-8"))
    if name not in measured:
        pytest.fail(f"{PRECISION_JSON.name} lacks {name}: run `python benchmarks/precision.py`")
    stated = measured[name]["int8"]["Set5"]
    assert mean_psnr_db(name, "int8", datasets / "Set5") == pytest.approx(stated, abs=PSNR_TOLERANCE_DB)

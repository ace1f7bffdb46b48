"""The native engine with 16-bit samples and floats equals the reference, for every instruction set here."""

import sys
from functools import cache
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from random_models import quantized_model, random_spec
from scripts import run_script
from subpixel.engines.native import engine as engine_module
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.native.targets import TARGETS, find, runs_here
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.select import choose
from subpixel.engines.smooth import weights
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import Degradation, crop_to_multiple, find_images, read_image
from subpixel.models import catalog as packaged
from subpixel.ops.color import luma_8bit
from test_deep_samples import with_largest_weights
from test_native import SIDES, UNUSUAL, every_target

needs_one = pytest.mark.skipif(
    not any(map(runs_here, TARGETS.values())), reason="the native engine does not run here"
)
every_dtype = pytest.mark.parametrize("dtype", [np.uint16, np.float32])


def deep_plane(shape, dtype, seed=0):
    """Noise, smooth areas, and much between; floats are also below 0 and above 1."""
    rng = np.random.default_rng([seed, *shape])
    noise = rng.random(shape)
    smooth = ndimage.gaussian_filter(noise, (0, 6, 6), mode="nearest")
    strength = ndimage.gaussian_filter(rng.random(shape[1:]), 4, mode="nearest")
    strength = (strength - strength.min()) / (np.ptp(strength) + 1e-9)
    plane = (smooth + (noise - smooth) * (strength - 0.4).clip(0) ** 4 - 0.5) * 1.5 + 0.5
    if dtype == np.float32:
        return plane.astype(dtype)
    return (plane.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


@cache  # the reference takes most of the time, and serves every target
def lr_and_expected(model, height, width, dtype):
    lr = deep_plane((model.spec.channels, height, width), dtype)
    return lr, NumpyEngine(model, precision="int8")(lr)


def assert_equal_to_reference(model, target, sizes, dtype, **options):
    engine = NativeEngine(model, target=target, **options)
    for height, width in sizes:
        lr, expected = lr_and_expected(model, height, width, dtype)
        np.testing.assert_array_equal(engine(lr), expected, f"{height}x{width}")


@every_dtype
def test_planes_for_these_tests_are_smooth_in_part(dtype):
    white = 1 if dtype == np.float32 else 65535
    given = weights(deep_plane((3, 26, 35), dtype).astype(np.float32), white)
    for found in (given == 0, (given > 0) & (given < 1), given == 1):
        assert found.mean() > 0.05


@every_dtype
@every_target
@pytest.mark.parametrize("name", ["espcn-t91-x3", "fast-x2"])
def test_equals_the_reference_at_awkward_sizes(name, target, dtype):
    sizes = [(height, width) for height, width in product(SIDES, SIDES) if 97 not in (height, width)]
    assert_equal_to_reference(packaged.find(name), target, [*sizes, (97, 33), (16, 97)], dtype)


@every_target
@pytest.mark.parametrize("name", packaged.names())
def test_packaged_models_equal_the_reference(name, target):
    for dtype in (np.uint16, np.float32):
        assert_equal_to_reference(packaged.find(name), target, [(11, 37)], dtype)


@every_dtype
@every_target
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_equal_the_reference(seed, target, dtype):
    """Except for tanh in the last layer, which is a polynomial with an error of 1e-6."""
    model = quantized_model(random_spec(seed), seed)
    engine = NativeEngine(model, target=target, threads=2)
    approximate = model.spec.layers[-1].activation == "tanh"
    for height, width in [(1, 1), (2, 9), (13, 6), (60, 41)]:
        lr, expected = lr_and_expected(model, height, width, dtype)
        tolerance = (2e-6 if dtype == np.float32 else 1) if approximate else 0
        difference = np.abs(engine(lr).astype(float) - expected)
        assert difference.max() <= tolerance, f"{height}x{width}"


@every_dtype
@every_target
@pytest.mark.parametrize("network", UNUSUAL)
def test_unusual_networks_equal_the_reference(network, target, dtype):
    model = quantized_model(UNUSUAL[network], 1)
    assert_equal_to_reference(model, target, [(1, 1), (3, 70), (26, 35)], dtype)


@every_dtype
@every_target
@pytest.mark.parametrize("depth", [1, 2])
def test_first_layers_with_large_sums_equal_the_reference(depth, target, dtype):
    assert_equal_to_reference(with_largest_weights(5, depth), target, [(3, 8), (20, 35)], dtype)


@every_dtype
@every_target
def test_strips_and_bands_equal_the_whole(target, dtype, monkeypatch):
    model = packaged.find("fast-x3")
    lr = deep_plane((1, 61, 175), dtype)[0]
    whole = NativeEngine(model, target=target)(lr)
    monkeypatch.setattr(engine_module, "MIN_ROWS", 1)
    monkeypatch.setattr(engine_module, "MIN_COLUMNS", 5)
    monkeypatch.setattr(type(find(target)), "cache_bytes", 9000)
    for threads in (1, 2, 3):
        engine = NativeEngine(model, target=target, threads=threads)
        assert len(engine._strips(175, np.dtype(dtype).name)) > 5
        np.testing.assert_array_equal(engine(lr), whole)
    if dtype == np.float32:
        np.testing.assert_array_equal(engine.run(lr[None]), whole[None])
        np.testing.assert_array_equal(engine(lr.astype(np.float64)), whole.astype(np.float64))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@every_target
def test_views_with_a_context_equal_the_whole(target, dtype):
    """A read-only view into a larger plane, with any strides, and a view of the result."""
    model = packaged.find("espcn-t91-x2")
    whole = deep_plane((1, 50, 90), dtype)[0]
    whole.flags.writeable = False
    engine, halo_px = NativeEngine(model, target=target), model.spec.halo_px
    out = np.zeros((200, 400), dtype)
    view = out[10 : 10 + 2 * (30 - 2 * halo_px), 7 : 7 + 2 * (60 - 2 * halo_px)]
    engine(whole[7:37, 11:71], context_px=halo_px, out=view)
    expected = engine(whole)[2 * (7 + halo_px) : 2 * (37 - halo_px), 2 * (11 + halo_px) : 2 * (71 - halo_px)]
    np.testing.assert_array_equal(view, expected)
    view[...] = 0
    assert not out.any()
    for other in (whole.T, whole[::-1], whole[:, ::-3]):
        np.testing.assert_array_equal(engine(other), engine(np.array(other, order="C")))
        into = np.empty((2 * other.shape[1], 2 * other.shape[0]), dtype).T
        np.testing.assert_array_equal(engine(other, out=into), engine(other))


@needs_one
@pytest.mark.parametrize("name", packaged.names())
def test_ramps_of_every_packaged_model_have_no_bands(name):
    """The reference has more of these tests."""
    model = packaged.find(name)
    engine, halo_px = NativeEngine(model), model.spec.halo_px
    for width in (100, 128, 400):
        lr = np.rint(np.linspace(0, 65535, width)).astype(np.uint16)
        padded = np.pad(np.broadcast_to(lr, (3, width)), halo_px, mode="edge")
        result = engine(padded, context_px=halo_px).astype(int)
        assert np.diff(result, axis=1).min() >= 0
        assert len(np.unique(result)) > 0.9 * width * model.scale


@needs_one
@pytest.mark.parametrize("name", packaged.names())
def test_deep_samples_lose_little_against_fp32(datasets, name):
    model = packaged.find(name)
    exact, close = choose(model, precision="fp32").engine, NativeEngine(model, threads=2)
    losses_db = []
    for file in find_images(datasets / "Set5"):
        image = crop_to_multiple(read_image(file), model.scale)
        lr = Degradation()(image, model.scale).clip(0, 1).astype(np.float32)
        hr = luma_8bit(image) / 255
        qualities_db = (
            psnr_db(hr, engine(lr).clip(0, 1), peak=1, shave=model.scale) for engine in (exact, close)
        )
        losses_db.append(np.subtract(*qualities_db))
    assert np.mean(losses_db) < 0.035


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages with Linux's mmap")
@every_dtype
@every_target
@pytest.mark.parametrize("name", ["espcn-t91-x3", "fast-x2"])
def test_no_access_out_of_bounds(name, target, dtype):
    """Every array, also the working memory, ends or begins at a page without access."""
    done = run_script("guarded.py", target, name, np.dtype(dtype).name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done", str(len(SIDES) ** 2 * 2)]

"""16-bit samples and floats in int8: what the reference computes, and that smooth areas have no bands."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import ndimage
from skimage import data

from random_models import quantized_model
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.smooth import linear, weights
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import Degradation
from subpixel.models import catalog as packaged
from subpixel.models.quantization import deep_first_layer, deep_shift, integer_layers
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.ops.color import luma_8bit

SIDES = (1, 2, 3, 7, 16)


def reference(name):
    return NumpyEngine(packaged.find(name), precision="int8")


def noise(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return (
        rng.random(shape, np.float32) if np.dtype(dtype).kind == "f" else rng.integers(0, 65536, shape, dtype)
    )


def small(image, scale):
    """A picture, reduced but not rounded, in [0, 1]."""
    return Degradation()(image, scale).clip(0, 1)


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 7])
def test_linear_interpolation_agrees_with_scipy(scale):
    for height, width in product(SIDES, SIDES):
        lr = noise((2, height, width), np.float32)
        expected = [
            ndimage.zoom(plane, scale, order=1, mode="nearest", grid_mode=True) for plane in lr.astype(float)
        ]
        np.testing.assert_allclose(linear(lr, scale), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("white", [1, 65535])
def test_weights_agree_with_scipy(white):
    seen = []
    for height, width, contrast in product(SIDES, SIDES, (0.02, 0.2, 1)):
        values = ndimage.gaussian_filter(noise((3, height, width), np.float32), 1.5)
        lr = (values * np.float32(contrast * white)).astype(np.float32)
        second = np.array([1, -2, 1])
        bends = [
            abs(ndimage.correlate1d(plane, second, axis, mode="nearest"))
            for plane, axis in product(lr.astype(float), (0, 1))
        ]
        bend = ndimage.maximum_filter(np.max(bends, axis=0), 3, mode="nearest") * 255 / white
        expected = ((bend - 2.6) / 2).clip(0, 1)
        np.testing.assert_allclose(weights(lr, white), expected, atol=1e-4)
        seen.append(expected.ravel())
    seen = np.concatenate(seen)
    assert (seen == 0).any()
    assert (seen == 1).any()
    assert ((seen > 0) & (seen < 1)).any()


@pytest.mark.parametrize("name", ["fast-x2", "espcn-relu-t91-x3"])
def test_samples_of_8_bits_give_the_same_in_16(name):
    """The first layer's accumulators are exact multiples, so everything after it is the same."""
    engine = reference(name)
    lr = np.random.default_rng(1).integers(0, 256, (23, 30)).astype(np.uint8)
    assert (weights(lr[None] * np.float32(257), 65535) == 1).all()
    deep, eight = engine(lr * np.uint16(257)), engine(lr)
    assert np.abs(deep / 257 - eight).max() < 0.5 + 1 / 257
    assert (np.rint(deep / 257) != eight).mean() < 0.01


@pytest.mark.parametrize("name", ["fast-x2", "espcn-t91-x3"])
def test_floats_give_the_same_as_16_bits(name):
    engine, lr = reference(name), noise((19, 33), np.uint16)
    expected = engine(lr)
    floats = engine((lr / 65535).astype(np.float32))
    assert np.abs(floats.clip(0, 1) * 65535 - expected).max() < 0.51
    assert floats.max() > 1  # floats are not clipped
    np.testing.assert_array_equal(
        engine((lr / 65535).astype(np.float64)), engine((lr / 65535).astype(np.float32))
    )


def ramps():
    """Ramps in 16 bits, up to 2.6 steps of 8 bits per pixel, with the axes along which they rise."""
    rows, columns = np.indices((24, 300))
    yield "right", columns * (65535 / 299), (1,)
    yield "down", columns.T * (65535 / 299), (0,)
    yield "steep", columns[:, :100] * (65535 / 99), (1,)
    rows, columns = np.indices((110, 140))
    yield "diagonal", (rows + columns) * 257, (0, 1)
    yield "slow diagonal", 20000 + rows * 3.1 + columns * 7.3, (0, 1)
    sky = 40000 + 9000 * np.cos(rows / 110 * 3) * -1 + 11 * columns
    yield "sky", sky, (0, 1)


@pytest.mark.parametrize(
    ("ramp", "axes"), [pytest.param(ramp, axes, id=name) for name, ramp, axes in ramps()]
)
@pytest.mark.parametrize("name", ["fast-x2", "espcn-t91-x3", "fast-x4"])
def test_ramps_are_monotonic_and_have_no_bands(name, ramp, axes):
    engine = reference(name)
    scale, halo_px = engine.model.scale, engine.model.spec.halo_px
    lr = np.rint(ramp)
    padded = np.pad(lr, halo_px, mode="edge")
    for dtype, unit, rounding in ((np.uint16, 1, 0), (np.float32, 65535, 2**-7)):
        result = engine((padded / unit).astype(dtype), context_px=halo_px).astype(float) * unit
        for axis in axes:
            assert np.diff(result, axis=axis).min() >= -rounding
        assert len(np.unique(np.rint(result))) > min(256, 0.9 * max(result.shape))
        exact = ndimage.zoom(lr, scale, order=1, mode="nearest", grid_mode=True)
        assert np.abs(result - exact).max() < 1


@pytest.mark.parametrize("name", ["fast-x3", "default-x2", "espcn-t91-x3", "espcn-relu-t91-x3"])
def test_flat_areas_stay_flat_in_every_network(name):
    engine = reference(name)
    for value in (0, 1, 127, 30_000, 65_535):
        assert (engine(np.full((7, 9), value, np.uint16)) == value).all()
    for sample in np.float32([-0.7, 0, 0.1234567, 1, 1.3]):
        assert (engine(np.full((7, 9), sample)) == sample).all()
    lr = noise((16, 40), np.uint16)
    lr[:, 20:] = 12345
    hr = engine(lr)
    assert (hr[:, 22 * engine.model.scale :] == 12345).all()


@pytest.mark.parametrize("name", ["fast-x3", "espcn-t91-x2"])
def test_deep_samples_lose_less_than_rounded_ones(name):
    """Against fp32, on a part of a photo: less than 0.03 dB, and less than if the input had 8 bits."""
    model = packaged.find(name)
    hr = luma_8bit(data.astronaut()[:192, 120:312]).astype(np.uint8)
    lr = small(hr, model.scale).astype(np.float32)
    exact, close = NumpyEngine(model), NumpyEngine(model, precision="int8")

    def quality_db(sr):
        return psnr_db(hr / 255, sr.clip(0, 1), shave=model.scale, peak=1)

    best_db = quality_db(exact(lr))
    assert best_db - quality_db(close(lr)) < 0.03
    assert quality_db(close(lr)) > quality_db(close(np.rint(lr * np.float32(255)) / np.float32(255)))


def with_largest_weights(channels, depth=2):
    """A network of one layer or two, whose first weights, of 9x9 kernels, are 127 or -127."""
    layers = (Convolution(channels, channels, 9, "relu"), Convolution(channels, channels, 1))[:depth]
    model = quantized_model(ModelSpec(1, layers, channels), 1)
    first = model.quantized[0]
    weight = np.where(first.weight < 0, -127, 127).astype(np.int8)
    weight_scale = (first.weight_scale * np.abs(first.weight / 127).mean()).astype(np.float32)
    first = replace(first, weight=weight, weight_scale=weight_scale)
    return replace(model, quantized=(first, *model.quantized[1:]))


def test_tiles_have_a_halo_for_smoothness_even_if_the_network_needs_less():
    model = quantized_model(ModelSpec(2, (Convolution(1, 4, 1, "relu"), Convolution(4, 4, 1))), 3)
    lr = ndimage.gaussian_filter(noise((60, 70), np.float32), 2)
    assert 0 < weights(lr[None], 1).mean() < 1
    whole = NumpyEngine(model, precision="int8")
    tiled = NumpyEngine(model, precision="int8", tile_side_px=13)
    np.testing.assert_array_equal(tiled(lr), whole(lr))


@pytest.mark.parametrize(("channels", "shift"), [(4, 1), (16, 3)])
def test_deep_samples_lose_bits_where_sums_would_need_more_than_32(channels, shift):
    model = with_largest_weights(channels)
    engine = NumpyEngine(model, precision="int8")
    (first, _) = integer_layers(model)
    assert deep_shift(first) == shift
    deep = deep_first_layer(first)
    bounds = (65535 >> shift) * abs(deep.weight.astype(np.int64)).sum((1, 2, 3)) + abs(deep.bias)
    assert bounds.max() < 2**31
    lr = np.random.default_rng(1).integers(0, 256, (channels, 14, 15)).astype(np.uint8)
    eight, deep = engine(lr), engine(lr * np.uint16(257))
    assert ((eight > 0) & (eight < 255)).mean() > 0.3
    assert np.abs(deep / 257 - eight).max() < 2
    assert np.abs(deep / 257 - eight).mean() < 0.3

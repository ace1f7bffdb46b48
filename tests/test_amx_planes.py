"""Last layers of scale 1 with AMX, whose outputs are planes, equal NumPy to the integer."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from subpixel.engines.native import engine as engine_module
from subpixel.engines.native.pack import arithmetic
from subpixel.engines.native.targets import TARGETS
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.models.spec import Convolution, ModelSpec
from test_amx import amx_engine, every_target, lr_plane, quantized_model


def planes(channels, *outputs, last=3):
    """A network of 3x3 kernels, but for the last one."""
    pairs = zip((channels, *outputs), outputs, strict=False)
    hidden = (Convolution(*pair, 3, "prelu") for pair in pairs)
    return ModelSpec(1, (*hidden, Convolution(outputs[-1], channels, last)), channels=channels)


NETWORKS = {
    "16": planes(16, 16),
    "20": planes(20, 16),
    "few": planes(3, 40),
    "many": planes(64, 8, 20),
    "5x5 kernel": planes(33, 16, last=5),
    "9x9 kernel": planes(5, 32, last=9),
}


@every_target
@pytest.mark.parametrize("name", NETWORKS)
def test_agrees_at_awkward_sizes(name, target):
    model = quantized_model(NETWORKS[name])
    engine, reference = amx_engine(model, target, threads=2), NumpyEngine(model, precision="int8")
    for height, width in product((1, 2, 33, 50), (1, 7, 16, 31, 65)):
        lr = lr_plane((model.spec.channels, height, width))
        np.testing.assert_array_equal(engine(lr), reference(lr))


@every_target
@pytest.mark.parametrize("name", ["20", "5x5 kernel"])
def test_rectangles_equal_the_whole(monkeypatch, name, target):
    """Also with context, and in a view of a larger array, where nothing else is written."""
    model = quantized_model(NETWORKS[name])
    channels, halo = model.spec.channels, model.spec.halo_px
    lr = lr_plane((channels, 31, 175))
    whole = amx_engine(model, target)(lr)
    np.testing.assert_array_equal(whole, NumpyEngine(model, precision="int8")(lr))
    monkeypatch.setattr(type(TARGETS[target]), "cache_bytes", 15_000)
    monkeypatch.setattr(engine_module, "MIN_ROWS", 1)
    monkeypatch.setattr(engine_module, "MIN_COLUMNS", 5)
    for threads in (1, 4):
        engine = amx_engine(model, target, threads)
        assert len(engine._strips(175)) > 2
        larger = np.full((channels + 2, 40, 184), 77, np.uint8)
        inside = larger[1:-1, 3:34, 5:180]
        np.testing.assert_array_equal(engine(lr, out=inside), whole)
        inside[...] = 77
        assert (larger == 77).all()
    inner = amx_engine(model, target)(lr, context_px=halo)
    np.testing.assert_array_equal(inner, whole[:, halo:-halo, halo:-halo])


@every_target
def test_numbers_that_are_too_large_for_a_float_agree(target):
    model = quantized_model(NETWORKS["20"])
    *hidden, last = model.quantized
    model = replace(model, quantized=(*hidden, replace(last, weight_scale=last.weight_scale * 1e6)))
    assert arithmetic(model)[-1] == "general"
    lr = lr_plane((20, 20, 30))
    np.testing.assert_array_equal(amx_engine(model, target)(lr), NumpyEngine(model, precision="int8")(lr))

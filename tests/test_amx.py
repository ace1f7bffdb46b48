"""AMX, with its tile registers emulated where the processor has none: equal to the reference to the integer.

`test_native.py` runs the same tests for this instruction set as for all others. Here are those of what only
AMX has: two rows at once, blocks, and results that fit 16 bits.
"""

import re
import sys
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from native_assembly import loops
from random_models import quantized_model
from subpixel.engines.machine_code import aligned
from subpixel.engines.native import engine as engine_module
from subpixel.engines.native import kernel as kernel_module
from subpixel.engines.native.amx.instructions import LINE, SIDE
from subpixel.engines.native.amx.layer import AmxLayer
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.native.kernel import NativeKernel, compile_assembly, compile_object
from subpixel.engines.native.pack import MAX_SUM, arithmetic, pack
from subpixel.engines.native.plan import make_plan
from subpixel.engines.native.targets import TARGETS, runs_here
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.models import catalog as packaged
from subpixel.models.networks import espcn, stack
from subpixel.models.quantization import integer_layers, run_integer_layer
from subpixel.models.spec import Convolution, ModelSpec

llvmlite = pytest.importorskip("llvmlite", reason="the native engine needs llvmlite")

every_target = pytest.mark.parametrize(
    "target",
    [
        pytest.param(
            name,
            marks=[
                pytest.mark.skipif(not runs_here(TARGETS[name]), reason=f"this processor has no {name}"),
                *([pytest.mark.hardware] if name == "amx" else []),
            ],
        )
        for name in ("amx", "amx_in_512")
    ],
)

NETWORKS = {
    "espcn": espcn(3),
    "narrow": stack(2, [16] * 3),
    "wide": stack(3, [32, 32], activation="relu", residual="none"),
    "unusual kernels": stack(4, [20, 33, 64], kernels=[7, 5, 1, 3], activation="tanh"),
    "1x1 kernels": stack(2, [5, 7], kernels=[1, 1, 1], activation="none"),
    "large kernels": stack(3, [8, 12], kernels=[5, 7, 9]),
    "wider last kernel": stack(2, [16, 16], kernels=[3, 3, 5]),
    "equal layers": stack(3, [16, 16, 16, 32, 32, 32, 32], kernels=[3, 3, 3, 3, 3, 3, 1, 5]),
    "mixed": ModelSpec(
        2,
        (
            Convolution(1, 48, 3, "tanh"),
            Convolution(48, 70, 1, "prelu"),
            Convolution(70, 16, 3, "relu"),
            Convolution(16, 4, 3),
        ),
        residual="nearest",
    ),
}


def lr_plane(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def plan_for(model, target="amx"):
    plan = make_plan(model.spec, TARGETS[target], arithmetic(model))
    assert all(isinstance(layer, AmxLayer) for layer in plan.layers)
    return plan


def amx_engine(model, target, threads=1):
    plan_for(model, target)
    return NativeEngine(model, threads=threads, target=target)


def showing(model, channels):
    """Replace the last layer by one that outputs four channels of the layer before it."""
    *hidden, before, last = model.quantized
    weight = np.zeros_like(last.weight)
    weight[range(4), channels] = 1
    step = np.full(4, 1 / 255, np.float32)
    shown = replace(last, weight=weight, weight_scale=step, bias=before.output_zero_point[channels] * step)
    return replace(model, quantized=(*hidden, before, shown))


def steeper(model):
    """Set slopes above 1 in some channels, where PReLU is the minimum of two lines, not the maximum."""
    weights = dict(model.weights)
    for name in weights:
        if name.endswith("slope"):
            weights[name] = np.linspace(-0.5, 1.8, len(weights[name])).astype(np.float32)
    return replace(model, weights=weights)


def hidden_values(model, lr):
    """Return the reference's values before the last layer: ``(channels, H, W)``."""
    values, zero_point = lr[None].astype(np.float64), np.zeros(1)
    for convolution, layer in list(zip(model.spec.layers, integer_layers(model), strict=True))[:-1]:
        values = run_integer_layer(values, zero_point, convolution, layer, last=False)
        zero_point = layer.zero_point.astype(np.float64)
    return values.astype(np.uint8)


def assert_hidden_values_are_equal(model, target, lr):
    """Look at all values before the last layer, four channels at a time."""
    height, width = lr.shape
    outputs = model.spec.layers[-2].outputs
    expected = hidden_values(model, lr)
    plan = plan_for(showing(model, [0] * 4), target)
    code = compile_object(plan)
    hr = np.empty((1, 2 * height, 2 * width), np.uint8)
    for first in range(0, outputs, 4):
        channels = [min(first + number, outputs - 1) for number in range(4)]
        kernel = NativeKernel(code, plan, pack(showing(model, channels), plan))
        kernel(lr[None], hr, slice(0, width), slice(0, height))
        seen = [hr[0, down::2, across::2] for down in range(2) for across in range(2)]
        np.testing.assert_array_equal(seen, expected[channels])


@every_target
@pytest.mark.parametrize("name", ["narrow", "large kernels", "mixed"])
def test_hidden_values_are_the_same_integers(name, target):
    """For every hidden layer, with networks that end after it."""
    lr = lr_plane((11, 39))
    for depth in range(1, len(NETWORKS[name].layers)):
        layers = NETWORKS[name].layers[:depth]
        spec = ModelSpec(2, (*layers, Convolution(layers[-1].outputs, 4, 1)))
        calibrated = quantized_model(spec)
        models = {calibrated, steeper(calibrated)} if layers[-1].activation == "prelu" else {calibrated}
        for model in models:
            assert hidden_values(model, lr).std() > 1
            assert_hidden_values_are_equal(model, target, lr)


@every_target
@pytest.mark.parametrize("sign", [1, -1])
def test_values_are_the_same_where_they_barely_fit_16_bits(sign, target):
    """With accumulators at the limit, of either sign, and the zero point that adds most."""
    spec = ModelSpec(2, (Convolution(1, 16, 3, "none"), Convolution(16, 4, 1)))
    model = quantized_model(spec)
    first, last = model.quantized

    def scaled(factor):
        """Make a model whose first layer's accumulators have one sign and this multiplier."""
        layer = replace(
            first,
            weight=np.abs(first.weight) * np.int8(sign),
            bias=np.zeros_like(first.bias),
            weight_scale=first.output_scale * np.float32(factor),
            output_zero_point=np.full_like(first.output_zero_point, 255 if sign > 0 else 0),
        )
        return replace(model, quantized=(layer, last))

    def fits(factor):
        return arithmetic(scaled(factor))[0] == "short"

    steps = [number / 2**10 for number in range(1, 2**12)]
    assert not fits(steps[-1])
    lr = np.where(lr_plane((11, 39)) > 20, 255, 0).astype(np.uint8)
    assert_hidden_values_are_equal(scaled(max(filter(fits, steps))), target, lr)


@every_target
@pytest.mark.parametrize("name", ["espcn-t91-x2", "default-x3", "fast-x4"])
def test_agrees_at_awkward_sizes(name, target):
    model = packaged.find(name)
    engine, reference = amx_engine(model, target, threads=2), NumpyEngine(model, precision="int8")
    for height, width in product((1, 2, 15, 16, 33), (1, 2, 12, 17, 97)):
        lr = lr_plane((height, width))
        np.testing.assert_array_equal(engine(lr), reference(lr))


@every_target
@pytest.mark.parametrize("name", list(NETWORKS))
def test_agrees_on_unusual_networks(name, target):
    model = steeper(quantized_model(NETWORKS[name]))
    engine, reference = amx_engine(model, target, threads=2), NumpyEngine(model, precision="int8")
    for shape in [(1, 1), (2, 9), (13, 6), (5, 200), (50, 41)]:
        lr = lr_plane(shape)
        np.testing.assert_array_equal(engine(lr), reference(lr))


@every_target
def test_black_and_white_agree(target):
    for name, value in product(("espcn", "narrow"), (0, 255)):
        model = quantized_model(NETWORKS[name])
        lr = np.full((20, 30), value, np.uint8)
        np.testing.assert_array_equal(amx_engine(model, target)(lr), NumpyEngine(model, precision="int8")(lr))


@every_target
@pytest.mark.parametrize("name", ["default-x2", "fast-x4", "wider last kernel"])
@pytest.mark.parametrize("cache_bytes", [1, 15_000])
def test_rectangles_equal_the_whole(monkeypatch, cache_bytes, name, target):
    """Also with context, and in a view of a larger array, where nothing else is written."""
    model = quantized_model(NETWORKS[name]) if name in NETWORKS else packaged.find(name)
    scale = model.scale
    lr = lr_plane((31, 175))
    whole = amx_engine(model, target)(lr)
    rows, columns = slice(3, 3 + 31 * scale), slice(5, 5 + 175 * scale)
    monkeypatch.setattr(type(TARGETS[target]), "cache_bytes", cache_bytes)
    monkeypatch.setattr(engine_module, "MIN_ROWS", 1)
    monkeypatch.setattr(engine_module, "MIN_COLUMNS", 5)
    for threads in (1, 4):
        engine = amx_engine(model, target, threads)
        assert len(engine._strips(175)) > 2
        larger = np.full((31 * scale + 9, 175 * scale + 9), 7, np.uint8)
        engine(lr, out=larger[rows, columns])
        np.testing.assert_array_equal(larger[rows, columns], whole)
        larger[rows, columns] = 7
        assert (larger == 7).all()
    halo = model.spec.halo_px
    inner = amx_engine(model, target)(lr, context_px=halo)
    edge = scale * halo
    np.testing.assert_array_equal(inner, whole[edge:-edge, edge:-edge])


@every_target
@pytest.mark.parametrize("name", ["fast-x3", "espcn-t91-x2", "unusual kernels"])
def test_rows_of_low_images_equal_the_whole(monkeypatch, name, target):
    """For all first and last rows, which are computed in pairs, with any content of working memory."""

    def filled(size):
        memory = aligned(size)
        memory[:] = 255
        return memory

    model = quantized_model(NETWORKS[name]) if name in NETWORKS else packaged.find(name)
    engine, reference, scale = amx_engine(model, target), NumpyEngine(model, precision="int8"), model.scale
    monkeypatch.setattr(kernel_module, "aligned", filled)
    for height in range(1, 8):
        lr = lr_plane((height, 33))
        whole = engine(lr)
        np.testing.assert_array_equal(whole, reference(lr))
        for top, bottom in combinations(range(height + 1), 2):
            hr = np.full((1, height * scale, 33 * scale), 7, np.uint8)
            engine._kernel("uint8")(lr[None], hr, slice(0, 33), slice(top, bottom))
            rows = slice(top * scale, bottom * scale)
            np.testing.assert_array_equal(hr[0, rows], whole[rows])
            hr[0, rows] = 7
            assert (hr == 7).all()


SPILL = re.compile(r"v\w+\s+%[xyz]mm\d+, -?\d*\(%r[sb]p\)")
"""An instruction that writes a vector register to the stack."""


@pytest.mark.skipif(sys.platform == "win32", reason="its assembly looks different")
@pytest.mark.parametrize("name", ["fast-x2", "default-x4", "best-x3", "espcn-t91-x3"])
def test_each_layer_is_one_loop_of_tile_products(name):
    """With all products of a block, and no more accesses to tile registers than are planned."""
    plan = plan_for(packaged.find(name))
    counted = []
    for body in loops(compile_assembly(plan)):
        counts = [
            sum(line.startswith(instruction) for line in body)
            for instruction in ("tdpbusd", "tileloadd", "tilestored")
        ]
        if counts[0]:
            counted.append(tuple(counts))
            assert not [line for line in body if SPILL.match(line)]
    planned = []
    for layer in dict.fromkeys(plan.layers):
        tiles = 2 * layer.blocks * layer.tiles  # of accumulators of two rows
        pairs = -(-layer.blocks // 2) * layer.tiles * layer.steps
        pixels = pairs * layer.rows
        weights = layer.weight_sets * layer.steps * layer.blocks * layer.tiles
        products = tiles * layer.steps * (1 if layer.from_picture else layer.kernel)
        planned.append((products, pixels + weights + tiles, tiles))
    assert counted == planned


def test_equal_layers_share_code():
    # Of three layers 32 to 32, 3x3, the first has another input.
    plan = plan_for(quantized_model(NETWORKS["equal layers"]))
    assert len(set(plan.hidden)) == 5
    assembly = compile_assembly(plan_for(packaged.find("default-x2")))
    assert len(set(re.findall(r"^layer\d+:", assembly, re.MULTILINE))) == 2


@pytest.mark.parametrize("name", list(NETWORKS))
def test_parts_of_the_parameters_do_not_overlap(name):
    model = quantized_model(NETWORKS[name])
    plan = plan_for(model)
    for index, layer in enumerate(plan.layers):
        ends = 0
        for part, size in layer.sizes().items():
            assert layer.at(part) == ends
            assert size % LINE == 0
            ends += size
        assert plan.parameters_at(index + 1) - plan.parameters_at(index) == ends
        assert layer.tiles * SIDE * layer.row_px == layer.pixels <= 64
    parameters = pack(model, plan)
    assert parameters.shape == (plan.parameter_bytes,)
    assert parameters.ctypes.data % LINE == 0


MIXED = {
    # The network, and which of its layers use tiles.
    "scale 1": (stack(1, [16, 16]), "tt."),
    "scale 8": (stack(8, [16]), "t."),
    "color": (stack(3, [16, 40, 33], channels=3), "ttt."),
    "planes": (ModelSpec(1, (Convolution(20, 16, 3, "prelu"), Convolution(16, 20, 3)), channels=20), "tt"),
    "planes, 1x1": (ModelSpec(1, (Convolution(20, 16, 3), Convolution(16, 20, 1)), channels=20), "t."),
    "planes, relu": (ModelSpec(1, (Convolution(3, 16, 3), Convolution(16, 3, 3, "relu")), channels=3), "t."),
    "planes with a residual": (
        ModelSpec(1, (Convolution(3, 16, 3), Convolution(16, 3, 3)), channels=3, residual="nearest"),
        "t.",
    ),
    "many planes": (ModelSpec(1, (Convolution(65, 8, 1), Convolution(8, 65, 1)), channels=65), ".."),
    "large first kernel": (stack(2, [16, 40], kernels=[9, 3, 3]), ".tt"),
    "large last kernel": (stack(2, [16], kernels=[3, 11]), "t."),
    "large hidden kernel": (stack(2, [16, 16], kernels=[3, 11, 3]), "..."),
    "many channels": (stack(2, [129]), ".."),
    "one layer": (ModelSpec(2, (Convolution(1, 4, 3),)), "."),
    "tanh": (
        ModelSpec(
            2, (Convolution(1, 40, 3, "tanh"), Convolution(40, 24, 3, "tanh"), Convolution(24, 4, 3, "relu"))
        ),
        "tt.",
    ),
}


@every_target
@pytest.mark.parametrize("name", MIXED)
def test_vectors_compute_the_other_layers(name, target):
    """Those before and after the layers that use tiles."""
    spec, expected = MIXED[name]
    model = quantized_model(spec)
    plan = make_plan(spec, TARGETS[target], arithmetic(model))
    assert "".join("t" if isinstance(layer, AmxLayer) else "." for layer in plan.layers) == expected
    engine, reference = NativeEngine(model, target=target, threads=2), NumpyEngine(model, precision="int8")
    for height, width in [(1, 1), (2, 9), (13, 6), (50, 41)]:
        lr = lr_plane((spec.channels, height, width))
        lr[:, 20:33, 10:30] = 7  # stays flat if there is a residual
        np.testing.assert_array_equal(engine(lr), reference(lr))


@pytest.mark.parametrize("samples", ["uint16", "float32"])
def test_hidden_layers_of_deep_samples_use_tiles(samples):
    """That they equal the reference is tested in `test_native_deep.py`."""
    model = packaged.find("default-x2")
    layers = make_plan(model.spec, TARGETS["amx"], arithmetic(model), samples).layers
    assert [isinstance(layer, AmxLayer) for layer in layers] == [False, *[True] * 6, False]


def test_values_that_fit_16_bits_are_found():
    model = quantized_model(stack(2, [16, 16]))
    assert arithmetic(model) == ("short", "short", "maximum")
    assert arithmetic(steeper(model)) == ("choice", "choice", "maximum")
    first, second, last = model.quantized
    for factor, expected in ((1, "short"), (100, "maximum")):
        changed = replace(second, weight_scale=second.weight_scale * np.float32(factor))
        assert arithmetic(replace(model, quantized=(first, changed, last)))[1] == expected
    for name, scale in product(("fast", "default"), (2, 3, 4)):
        assert set(arithmetic(packaged.find(name, scale=scale))[:-1]) == {"short"}


@every_target
@pytest.mark.parametrize("change", ["accumulator", "value", "multiplier", "output"])
def test_numbers_that_are_too_large_for_a_float_agree(change, target):
    """Accumulators, values and multipliers that no trained network has."""
    model = quantized_model(stack(2, [16, 16]))
    first, second, last = model.quantized
    if change == "accumulator":
        second = replace(second, bias=second.weight_scale * np.float32(MAX_SUM))
    elif change == "value":
        second = replace(second, weight_scale=second.weight_scale * 1000)
    elif change == "multiplier":
        second = replace(second, output_scale=second.output_scale * 1e4)
    else:
        last = replace(last, weight_scale=last.weight_scale * 1e6)
    model = replace(model, quantized=(first, second, last))
    assert "general" in arithmetic(model)
    lr = lr_plane((20, 30))
    np.testing.assert_array_equal(amx_engine(model, target)(lr), NumpyEngine(model, precision="int8")(lr))

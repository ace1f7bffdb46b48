"""Networks by AMX against the oracle: to the integer between layers, at awkward sizes, on odd networks."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from random_models import halide_runs, quantized_model, random_model
from subpixel.engines.halide import HalideEngine
from subpixel.engines.halide import engine as engine_module
from subpixel.engines.halide.kernel import Kernel
from subpixel.engines.halide.machine import host_kind, machine
from subpixel.engines.machine_code import target_machine
from subpixel.engines.matrices import kernel as kernel_module
from subpixel.engines.matrices.kernel import CPU, MatrixKernel, compile_object
from subpixel.engines.matrices.layout import LINE, SIDE, aligned, make_layout, suits
from subpixel.engines.matrices.pack import MOST_SUM, levels_fit_16_bits, pack
from subpixel.engines.matrices.program import Program
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.models import catalog as packaged
from subpixel.models.networks import espcn, stack
from subpixel.models.quantization import integer_layers, integer_outputs
from subpixel.models.spec import Convolution, ModelSpec

pytestmark = [
    pytest.mark.skipif(not halide_runs(), reason="the Halide engine does not run here"),
    pytest.mark.usefixtures("helpers_take_part"),
]
needs_amx = pytest.mark.skipif(
    not halide_runs() or host_kind() != "amx", reason="this processor has no AMX, or the system keeps it"
)

SIDES = (1, 2, 7, 12, 15, 16, 17, 33, 97)

NETWORKS = {
    "espcn": espcn(3),
    "narrow": stack(2, [16] * 3),
    "wide": stack(3, [32, 32], activation="relu", residual="none"),
    "odd kernels": stack(4, [20, 33, 64], kernels=[7, 5, 1, 3], activation="tanh"),
    "ones": stack(2, [5, 7], kernels=[1, 1, 1], activation="none"),
    "large kernels": stack(3, [8, 12], kernels=[5, 7, 9]),
    "wider last kernel": stack(2, [16, 16], kernels=[3, 3, 5]),
    "alike": stack(3, [16, 16, 16, 32, 32, 32, 32], kernels=[3, 3, 3, 3, 3, 3, 1, 5]),
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


def assert_within_a_level(hr, expected):
    """The last layer's sum is real: engines may round it to different sides of a half."""
    difference = np.abs(hr.astype(int) - expected.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.002 or (difference > 0).sum() <= 1


def by_matrices(model, threads=1):
    engine = HalideEngine(model, precision="int8", threads=threads, target="amx")
    assert isinstance(engine._kernel("uint8"), MatrixKernel)
    return engine


def showing(model, channels):
    """The same with a last layer that gives four channels' levels as they are."""
    *hidden, before, last = model.quantized
    weight = np.zeros_like(last.weight)
    weight[range(4), channels] = 1
    step = np.full(4, 1 / 255, np.float32)
    shown = replace(last, weight=weight, weight_scale=step, bias=before.output_zero[channels] * step)
    return replace(model, quantized=(*hidden, before, shown))


def steeper(model):
    """With slopes above 1 in some channels: PReLU is then the smaller of two lines, not the larger."""
    weights = dict(model.weights)
    for name in weights:
        if name.endswith("slope"):
            weights[name] = np.linspace(-0.5, 1.8, len(weights[name])).astype(np.float32)
    return replace(model, weights=weights)


def test_the_comparison_can_fail():
    hr = lr_plane((40, 50))
    with pytest.raises(AssertionError):
        assert_within_a_level(hr, np.where(hr > 2, hr - 2, hr + 2))
    with pytest.raises(AssertionError):
        assert_within_a_level(hr, np.where(hr > 0, hr - 1, hr))


def hidden_levels(model, lr):
    """What the oracle has before the last layer: ``(channels, H, W)``."""
    values, zeros = lr[None].astype(np.float64), np.zeros(1)
    for described, layer in list(zip(model.spec.layers, integer_layers(model), strict=True))[:-1]:
        values = integer_outputs(values, zeros, described, layer, last=False)
        zeros = layer.zero.astype(np.float64)
    return values.astype(np.uint8)


@pytest.mark.hardware
@needs_amx
@pytest.mark.parametrize("name", list(NETWORKS))
def test_levels_are_the_same_integers(name):
    """Of every hidden layer, by way of networks that end with it."""
    lr = lr_plane((21, 39))
    hr = np.empty((1, 42, 78), np.uint8)
    for depth in range(1, len(NETWORKS[name].layers)):
        layers = NETWORKS[name].layers[:depth]
        outputs = layers[-1].outputs
        spec = ModelSpec(2, (*layers, Convolution(outputs, 4, 1)))
        calibrated = quantized_model(spec)
        assert levels_fit_16_bits(calibrated)
        for model, short in ((calibrated, False), (steeper(calibrated), False), (calibrated, True)):
            layout = make_layout(spec, short=short)
            code = compile_object(layout)
            expected = hidden_levels(model, lr)
            assert expected.std() > 1
            for first in range(0, outputs, 4):
                channels = [min(first + n, outputs - 1) for n in range(4)]
                kernel = MatrixKernel(code, layout, pack(showing(model, channels), layout))
                kernel(lr[None], hr, slice(0, 39), slice(0, 21))
                seen = [hr[0, down::2, across::2] for down in range(2) for across in range(2)]
                np.testing.assert_array_equal(seen, expected[channels])


@pytest.mark.hardware
@needs_amx
@pytest.mark.parametrize("sign", [1, -1])
def test_levels_are_the_same_where_they_hardly_fit_16_bits(sign):
    """Sums that reach the bound, to either side, and the level for zero that adds to it most."""
    spec = ModelSpec(2, (Convolution(1, 16, 3, "none"), Convolution(16, 4, 1)))
    model = quantized_model(spec)
    first, last = model.quantized

    def scaled(factor):
        """A model whose first layer's sums, all of one sign, are so many levels each."""
        layer = replace(
            first,
            weight=np.abs(first.weight) * np.int8(sign),
            bias=np.zeros_like(first.bias),
            weight_scale=first.output_scale * np.float32(factor),
            output_zero=np.full_like(first.output_zero, 255 if sign > 0 else 0),
        )
        return replace(model, quantized=(layer, last))

    steps = [number / 2**10 for number in range(1, 2**12)]
    model = scaled(max(factor for factor in steps if levels_fit_16_bits(scaled(factor))))
    assert not levels_fit_16_bits(scaled(steps[-1]))
    lr = np.where(lr_plane((21, 39)) > 20, 255, 0).astype(np.uint8)
    expected = hidden_levels(model, lr)
    layout = make_layout(spec, short=True)
    code = compile_object(layout)
    hr = np.empty((1, 42, 78), np.uint8)
    for channels in np.arange(16).reshape(4, 4):
        kernel = MatrixKernel(code, layout, pack(showing(model, channels), layout))
        kernel(lr[None], hr, slice(0, 39), slice(0, 21))
        seen = [hr[0, down::2, across::2] for down in range(2) for across in range(2)]
        np.testing.assert_array_equal(seen, expected[channels])


@pytest.mark.hardware
@needs_amx
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", ["espcn-t91-x2", "espcn-t91-x3", "espcn-t91-x4", "fast-x2", "default-x3"])
def test_agrees_at_awkward_sizes(name, threads):
    model = packaged.find(name)
    engine, oracle = by_matrices(model, threads), NumpyEngine(model, precision="int8")
    for height, width in product(SIDES, SIDES):
        lr = lr_plane((height, width))
        assert_within_a_level(engine(lr), oracle(lr))


@pytest.mark.hardware
@needs_amx
@pytest.mark.parametrize("name", list(NETWORKS))
def test_agrees_on_odd_networks(name):
    model = steeper(quantized_model(NETWORKS[name]))
    engine, oracle = by_matrices(model, threads=2), NumpyEngine(model, precision="int8")
    for shape in [(1, 1), (2, 9), (13, 6), (5, 200), (60, 41)]:
        lr = lr_plane(shape)
        assert_within_a_level(engine(lr), oracle(lr))


@pytest.mark.hardware
@needs_amx
@pytest.mark.parametrize("name", packaged.names())
def test_every_packaged_model_goes_by_matrices(name):
    model = packaged.find(name)
    lr = lr_plane((50, 70))
    assert_within_a_level(by_matrices(model)(lr), NumpyEngine(model, precision="int8")(lr))


@pytest.mark.hardware
@needs_amx
def test_black_and_white_agree():
    for name, level in product(("espcn", "narrow"), (0, 255)):
        model = quantized_model(NETWORKS[name])
        lr = np.full((20, 30), level, np.uint8)
        assert_within_a_level(by_matrices(model)(lr), NumpyEngine(model, precision="int8")(lr))


@pytest.mark.hardware
@needs_amx
@pytest.mark.parametrize(
    "name", ["default-x2", "default-x3", "default-x4", "espcn-t91-x3", "wider last kernel"]
)
@pytest.mark.parametrize("working_set", [1, 60_000, 10**9])
def test_rectangles_equal_the_whole(monkeypatch, working_set, name):
    """So do pictures with a margin, and what is written into a larger one, where nothing else is touched."""
    model = quantized_model(NETWORKS[name]) if name in NETWORKS else packaged.find(name)
    scale = model.scale
    lr = lr_plane((61, 175))
    whole = by_matrices(model)(lr)
    rows, columns = slice(3, 3 + 61 * scale), slice(5, 5 + 175 * scale)
    small = replace(machine("amx"), cache_bytes=working_set)
    monkeypatch.setattr(engine_module, "host_machine", lambda *target: small)
    monkeypatch.setattr(engine_module, "LEAST_ROWS", 1)
    monkeypatch.setattr(engine_module, "LEAST_COLUMNS", 5)
    for threads in (1, 2, 4):
        engine = by_matrices(model, threads)
        np.testing.assert_array_equal(engine(lr), whole)
        larger = np.full((61 * scale + 9, 175 * scale + 9), 7, np.uint8)
        engine(lr, out=larger[rows, columns])
        np.testing.assert_array_equal(larger[rows, columns], whole)
        larger[rows, columns] = 7
        assert (larger == 7).all()
    halo = model.spec.halo_px
    inner = by_matrices(model)(lr, context_px=halo)
    edge = scale * halo
    np.testing.assert_array_equal(inner, whole[edge:-edge, edge:-edge])


@pytest.mark.hardware
@needs_amx
@pytest.mark.parametrize("name", ["default-x3", "espcn-t91-x2", "odd kernels"])
def test_all_rows_of_low_pictures_equal_the_whole(monkeypatch, name):
    """Wherever they begin and end among the pairs of rows, whatever was in working memory."""

    def filled(size):
        memory = aligned(size)
        memory[:] = 255
        return memory

    model = quantized_model(NETWORKS[name]) if name in NETWORKS else packaged.find(name)
    engine, oracle, scale = by_matrices(model), NumpyEngine(model, precision="int8"), model.scale
    monkeypatch.setattr(kernel_module, "aligned", filled)
    for height in range(1, 10):
        lr = lr_plane((height, 33))
        whole = engine(lr)
        assert_within_a_level(whole, oracle(lr))
        for top, bottom in combinations(range(height + 1), 2):
            hr = np.full((1, height * scale, 33 * scale), 7, np.uint8)
            engine._kernel("uint8")(lr[None], hr, slice(0, 33), slice(top, bottom))
            rows = slice(top * scale, bottom * scale)
            np.testing.assert_array_equal(hr[0, rows], whole[rows])
            hr[0, rows] = 7
            assert (hr == 7).all()


def test_its_code_has_the_product():
    from llvmlite import binding

    layout = make_layout(espcn(3))
    module = binding.parse_assembly(str(Program(layout, "enlarge").module))
    text = target_machine(CPU).emit_assembly(module)
    products = sum(
        2 * layer.weight_sets * layer.steps * layer.blocks * layer.tiles for layer in layout.layers
    )
    assert text.count("tdpbusd") >= products // 2
    assert text.count("tilestored") >= 2 * sum(layer.blocks * layer.tiles for layer in layout.layers)


def test_layers_alike_are_those_that_can_share_code():
    # Of two layers 32 to 32, 3x3, the second is followed by a 1x1 layer, which keeps fewer rows of its input.
    runs = [(0, 1), (1, 2), (3, 1), (4, 1), (5, 1), (6, 1), (7, 1)]
    assert make_layout(NETWORKS["alike"]).alike() == runs
    assert make_layout(packaged.find("default-x2").spec).alike() == [(0, 1), (1, 6), (7, 1)]
    assert make_layout(packaged.find("espcn-t91-x3").spec).alike() == [(0, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("name", list(NETWORKS))
def test_parts_of_the_parameters_lie_apart(name):
    layout = make_layout(NETWORKS[name])
    ends = 0
    for layer in layout.layers:
        for part, size in layer.sizes().items():
            assert layer.start + layer.at(part) == ends
            assert size % LINE == 0
            ends += size
        assert layer.tiles * SIDE * layer.pixels == layer.block_px <= 64
        with pytest.raises(KeyError):
            layer.at("nothing")
    parameters = pack(quantized_model(NETWORKS[name]), layout)
    assert parameters.shape == (ends,)
    assert parameters.ctypes.data % LINE == 0
    compile_object(layout)


@pytest.mark.parametrize(
    "spec",
    [
        stack(1, [16]),
        stack(8, [16]),
        stack(3, [16], channels=3),
        stack(2, [16], kernels=[9, 3]),
        stack(2, [16], kernels=[3, 11]),
        stack(2, [129]),
        ModelSpec(2, (Convolution(1, 4, 3),)),
        ModelSpec(2, (Convolution(1, 8, 3), Convolution(8, 4, 3, "tanh"))),
    ],
)
def test_other_networks_go_by_vectors(spec):
    assert not suits(spec)
    if halide_runs():
        engine = HalideEngine(quantized_model(spec), precision="int8")
        shape = (20, 30) if spec.channels == 1 else (spec.channels, 20, 30)
        engine(lr_plane(shape))
        assert all(isinstance(kernel, Kernel) for kernel in engine._kernels.values())


def test_levels_that_may_leave_16_bits_are_looked_at_whole():
    model = quantized_model(stack(2, [16, 16]))
    assert levels_fit_16_bits(model)
    assert not levels_fit_16_bits(steeper(model))
    first, second, last = model.quantized
    for factor, fits in ((1, True), (1000, False)):
        changed = replace(second, weight_scale=second.weight_scale * np.float32(factor))
        assert levels_fit_16_bits(replace(model, quantized=(first, changed, last))) == fits
    assert all(
        levels_fit_16_bits(packaged.find(f"{name}-x{scale}"))
        for name in ("fast", "default")
        for scale in (2, 3, 4)
    )


@pytest.mark.parametrize("change", ["sum", "level", "factor"])
def test_what_would_not_be_exact_goes_by_vectors(change):
    """Sums, levels and factors that no trained network has."""
    model = quantized_model(stack(2, [16, 16]))
    layout = make_layout(model.spec)
    assert pack(model, layout) is not None
    first, second, last = model.quantized
    if change == "sum":
        second = replace(second, bias=second.weight_scale * np.float32(MOST_SUM))
    elif change == "level":
        second = replace(second, weight_scale=second.weight_scale * 1000)
    else:
        second = replace(second, output_scale=second.output_scale * 1e4)
    assert pack(replace(model, quantized=(first, second, last)), layout) is None


@pytest.mark.hardware
@needs_amx
def test_deeper_samples_go_by_vectors():
    engine = HalideEngine(random_model(espcn(2)), precision="fp32")
    assert isinstance(engine._kernel("uint8"), Kernel)
    engine = HalideEngine(quantized_model(espcn(2)), precision="int8")
    assert isinstance(engine._kernel("float32"), Kernel)
    assert isinstance(engine._kernel("uint8"), MatrixKernel)

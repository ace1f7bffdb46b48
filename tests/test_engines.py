import math
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

import subpixel
from random_models import (
    native_runs,
    quantized_model,
    random_hr_spec,
    random_model,
    random_spec,
)
from subpixel.engines.base import from_float, to_float
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.native.processor import features
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.engines.onnxruntime_engine import OnnxRuntimeEngine
from subpixel.engines.select import ENGINES, _warn, available_cpus, choose
from subpixel.errors import EngineError
from subpixel.models.model import Model
from subpixel.models.networks import espcn, srcnn
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.ops.resize import imresize

SIDES = (1, 2, 7, 15, 16, 17, 33, 97)
RANDOM_SPECS = [random_spec(seed) for seed in range(40)]
needs_native = pytest.mark.skipif(not native_runs(), reason="the native engine does not run here")
each_engine = pytest.mark.parametrize("engine_type", [NumpyEngine, OnnxRuntimeEngine])


@contextmanager
def hidden(name):
    """Let one package appear not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, None)
        features.cache_clear()
        yield
    features.cache_clear()


def plane(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def assert_agree(result, expected, tolerance=1e-5):
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance)


def identity():
    """Make a network whose output is its input."""
    weights = {"layers.0.weight": np.ones((1, 1, 1, 1), np.float32), "layers.0.bias": np.zeros(1, np.float32)}
    return Model("identity", ModelSpec(1, (Convolution(1, 1, 1),)), weights)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_engines_agree_at_awkward_sizes(activation, scale):
    model = random_model(espcn(scale, activation=activation), seed=scale)
    reference, engine = NumpyEngine(model), OnnxRuntimeEngine(model)
    for height, width in product(SIDES, SIDES):
        lr = plane(height, width)
        hr = engine(lr)
        assert hr.shape == (height * scale, width * scale)
        assert_agree(hr, reference(lr))


@pytest.mark.parametrize("seed", range(len(RANDOM_SPECS)))
def test_engines_agree_on_random_networks(seed):
    model = random_model(RANDOM_SPECS[seed], seed)
    for height, width in [(1, 1), (2, 9), (13, 6)]:
        lr = plane(RANDOM_SPECS[seed].channels, height, width, seed=seed)
        assert_agree(OnnxRuntimeEngine(model)(lr), NumpyEngine(model)(lr))


def test_random_networks_cover_every_feature():
    layers = [layer for spec in RANDOM_SPECS for layer in spec.layers]
    assert {layer.kernel for layer in layers} == {1, 3, 5, 7, 9}
    assert {layer.activation for layer in layers} == {"none", "relu", "prelu", "tanh"}
    assert {spec.scale for spec in RANDOM_SPECS} == set(range(1, 9))
    assert {len(spec.layers) for spec in RANDOM_SPECS} == {1, 2, 3, 4}
    residuals = {(spec.channels, spec.residual) for spec in RANDOM_SPECS}
    assert residuals == set(product([1, 2, 3, 4], ["none", "nearest"]))


@pytest.mark.parametrize("seed", range(len(RANDOM_SPECS)))
def test_reference_agrees_with_pytorch(seed):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    model = random_model(RANDOM_SPECS[seed], seed)
    lr = plane(model.spec.channels, 11, 14, seed=seed)
    weights = {name: torch.tensor(array, dtype=torch.float64) for name, array in model.weights.items()}
    value = image = torch.tensor(lr[None], dtype=torch.float64)
    for index, layer in enumerate(model.spec.layers):
        name = f"layers.{index}"
        value = functional.conv2d(value, weights[f"{name}.weight"], weights[f"{name}.bias"], padding="same")
        if layer.activation == "prelu":
            value = functional.prelu(value, weights[f"{name}.slope"])
        elif layer.activation != "none":
            value = getattr(torch, layer.activation)(value)
    value = functional.pixel_shuffle(value, model.scale)
    if model.spec.residual == "nearest":
        value = value + functional.interpolate(image, scale_factor=model.scale, mode="nearest")
    # The reference rounds its result to float32: 24 bits for values up to about 8.
    assert_agree(NumpyEngine(model)(lr).astype(np.float64), value[0].numpy(), tolerance=5e-7)


def test_the_comparison_can_fail():
    expected = plane(4, 5)
    assert_agree(expected + np.float32(5e-6), expected)
    wrong = expected.copy()
    wrong[3, 4] += 2e-5
    with pytest.raises(AssertionError):
        assert_agree(wrong, expected)
    wrong[3, 4] = np.nan
    with pytest.raises(AssertionError):
        assert_agree(wrong, expected)
    with pytest.raises(AssertionError):
        assert_agree(expected[:1], expected[:, :1].T)
    with pytest.raises(AssertionError):
        assert_agree(expected.astype(np.float64), expected)


@each_engine
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_the_dtype_does_not_change(engine_type, dtype):
    engine = engine_type(random_model(espcn(3)))
    lr = plane(6, 5)
    if np.issubdtype(dtype, np.integer):
        largest = np.iinfo(dtype).max
        lr = (lr * largest).astype(dtype)
        exact = engine((lr / largest).astype(np.float32)).astype(np.float64)
        assert exact.min() < 0, "the test needs values to clip"
        expected = np.clip(np.floor(exact * largest + 0.5), 0, largest)
        # The engine rounds in float32, so values within 2**-8 of a half may be rounded either way.
        unsure = np.abs(exact * largest % 1 - 0.5) < 2**-8
        assert unsure.mean() < 0.1
        hr = engine(lr)
        np.testing.assert_array_equal(hr[~unsure], expected[~unsure])
    else:
        hr = engine(lr.astype(dtype))
        assert_agree(hr.astype(np.float32), engine(lr), tolerance=0)
        assert hr.min() < 0, "floats are not clipped"
    assert hr.dtype == dtype
    assert hr.shape == (18, 15)
    assert hr.flags.c_contiguous


@each_engine
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integers_pass_through_unchanged(engine_type, dtype):
    every = np.arange(np.iinfo(dtype).max + 1).reshape(16, -1).astype(dtype)
    np.testing.assert_array_equal(engine_type(identity())(every), every)


def test_integers_are_rounded_half_up_and_clipped():
    """Once, from the exact product: float32 cannot represent a 16-bit sample plus a half."""
    halves = [Fraction(2 * whole + 1, 2) for whole in range(0, 65535, 7)]
    near = [np.nextafter(np.float32(half / 65535), np.float32(side)) for half in halves for side in (0, 1)]
    samples = np.array([*near, 0.5], np.float32)
    expected = [math.floor(Fraction(float(sample)) * 65535 + Fraction(1, 2)) for sample in samples]
    assert from_float(samples, np.dtype(np.uint16)).tolist() == expected
    assert from_float(np.array([0.5], np.float32), np.dtype(np.uint8)).tolist() == [128]
    overshoot = np.array([-1e9, -0.1, -0.001, 0, 1, 1.001, 1.1, 1e9], np.float32)
    assert from_float(overshoot, np.dtype(np.uint8)).tolist() == [0] * 4 + [255] * 4
    assert from_float(overshoot, np.dtype(np.uint16)).tolist() == [0] * 4 + [65535] * 4
    np.testing.assert_array_equal(from_float(overshoot, np.dtype(np.float32)), overshoot)


def test_integers_become_the_nearest_floats():
    for dtype in (np.uint8, np.uint16):
        every = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)[::-1]
        floats = to_float(every)
        assert floats.dtype == np.float32
        assert floats.flags.c_contiguous
        np.testing.assert_array_max_ulp(floats, (every / np.iinfo(dtype).max).astype(np.float32), 1)
        assert (floats[0], floats[-1]) == (1, 0)
        np.testing.assert_array_equal(from_float(floats, np.dtype(dtype)), every)


@each_engine
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_input_need_not_be_contiguous_or_writeable(engine_type, dtype):
    engine = engine_type(random_model(espcn(2, channels=3)))
    whole = (plane(20, 24, 3) * np.iinfo(np.uint8).max).astype(dtype)
    whole = whole if dtype == np.uint8 else whole / np.float32(255)
    view = whole[::2, ::-3].transpose(2, 0, 1)
    copy = view.copy()
    whole.flags.writeable = False
    np.testing.assert_array_equal(engine(view), engine(copy))
    np.testing.assert_array_equal(view, copy)


@each_engine
def test_one_channel_may_have_its_own_axis(engine_type):
    engine = engine_type(random_model(espcn(2)))
    lr = plane(5, 6)
    np.testing.assert_array_equal(engine(lr[None]), engine(lr)[None])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(), (7,), (0, 5), (5, 0), (5, 6, 3), (2, 5, 6), (3, 0, 6), (1, 3, 5, 6)])
def test_wrong_shapes_are_refused(shape, channels):
    engine = NumpyEngine(random_model(espcn(2, channels=channels)))
    with pytest.raises(ValueError, match=r"expected a plane of shape .*H, W"):
        engine(np.zeros(shape, np.uint8))


def test_a_plane_is_refused_for_a_network_with_several_channels():
    with pytest.raises(ValueError, match=r"shape \(3, H, W\)"):
        NumpyEngine(random_model(espcn(2, channels=3)))(plane(5, 6))


@pytest.mark.parametrize("dtype", [bool, np.int16, np.int64, np.uint32, np.float16, complex, object])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match="expected uint8, uint16, float32 or float64 samples, not"):
        NumpyEngine(random_model(espcn(2)))(np.zeros((5, 6), dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sample", [np.nan, np.inf, -np.inf, 255, -1.5, 2.5])
def test_floats_out_of_range_are_refused(sample, dtype):
    lr = plane(5, 6).astype(dtype)
    lr[3, 2] = sample
    with pytest.raises(ValueError, match=r"finite and in \[0, 1\]"):
        NumpyEngine(random_model(espcn(2)))(lr)


def test_floats_may_overshoot():
    lr = plane(5, 6)
    lr[3, 2], lr[3, 3] = -0.2, 1.2
    model = random_model(espcn(2))
    assert_agree(OnnxRuntimeEngine(model)(lr), NumpyEngine(model)(lr))


@each_engine
def test_threads_may_share_an_engine(engine_type):
    engine = engine_type(random_model(espcn(2)), tile_side_px=16)
    planes = [plane(20 + seed, 30, seed=seed) for seed in range(8)]
    expected = [engine(lr) for lr in planes]
    with ThreadPoolExecutor(4) as pool:
        for hr, alone in zip(pool.map(engine, planes), expected, strict=True):
            np.testing.assert_array_equal(hr, alone)


@needs_native
def test_auto_uses_int8_wherever_the_model_has_it():
    choice = choose(quantized_model(espcn(2)), threads=1)
    assert (choice.engine.name, choice.engine.precision) == ("native", "int8")
    assert choice.reason == f"native on {choice.engine.target}, 1 thread, int8: the fastest installed"


@needs_native
def test_auto_in_fp32_uses_onnx_runtime():
    for model, precision, why in [
        (random_model(espcn(2)), "auto", "has no 8-bit layers"),
        (quantized_model(espcn(2)), "fp32", "engine native does not compute in fp32, only in int8"),
    ]:
        choice = choose(model, precision=precision, threads=2)
        assert (choice.engine.name, choice.engine.precision) == ("onnxruntime", "fp32")
        assert choice.reason.startswith(f"onnxruntime on {choice.engine.target}, 2 threads, fp32: ")
        assert why in choice.reason


def test_auto_falls_back_with_a_reason():
    with hidden("llvmlite"):
        choice = choose(quantized_model(espcn(2)))
    assert (choice.engine.name, choice.engine.precision) == ("onnxruntime", "fp32")
    assert "engine native needs the package llvmlite" in choice.reason
    assert "run `pip install llvmlite`" in choice.reason


def test_auto_falls_back_on_other_processors(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    choice = choose(quantized_model(espcn(2)))
    assert choice.engine.name == "onnxruntime"
    assert "this processor has no " in choice.reason


def test_auto_falls_back_to_numpy(monkeypatch, caplog):
    _warn.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with hidden("llvmlite"):
        choice = choose(quantized_model(espcn(2)))
    assert choice.engine.name == "numpy"
    assert "slow" in choice.reason
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("subpixel", "WARNING")
    assert "only the slow engine numpy can run model random-0-x2: " in record.getMessage()
    assert record.getMessage().count("pip install") == 2
    assert "pip install llvmlite" in choice.reason
    assert "pip install 'subpixel[onnxruntime]'" in choice.reason
    assert choice.engine(plane(3, 4)).shape == (6, 8)


def test_a_target_that_cannot_be_used_is_told(monkeypatch, caplog):
    _warn.cache_clear()
    monkeypatch.setenv("SUBPIXEL_TARGET", "z80")
    assert choose(quantized_model(espcn(2))).engine.name == "onnxruntime"
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("subpixel", "WARNING")
    assert "SUBPIXEL_TARGET cannot be used: unknown target 'z80'" in record.getMessage()


def test_auto_in_int8_uses_an_engine_that_supports_it():
    with hidden("llvmlite"):
        choice = choose(quantized_model(espcn(2)), precision="int8")
    assert (choice.engine.name, choice.engine.precision) == ("numpy", "int8")
    assert "engine onnxruntime does not compute in int8, only in fp32" in choice.reason


@needs_native
@pytest.mark.parametrize(("precision", "name"), [("auto", "native"), ("fp32", "onnxruntime")])
def test_the_old_name_of_the_fast_engine_warns(precision, name):
    with pytest.warns(FutureWarning, match="engine halide is gone"):
        upscaler = subpixel.load("fast-x2", engine="halide", precision=precision)
    assert upscaler.engine.name == name


def test_int8_needs_8_bit_layers():
    with pytest.raises(EngineError, match="has no 8-bit layers: run `subpixel calibrate`"):
        choose(random_model(espcn(2)), precision="int8")


def test_a_requested_engine_is_never_replaced(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match=r"pip install 'subpixel\[onnxruntime\]'"):
        choose(random_model(espcn(2)), "onnxruntime")


@pytest.mark.parametrize("name", ENGINES)
def test_engines_by_name(name):
    if name == "native" and not native_runs():
        pytest.skip("the native engine does not run here")
    precision = "int8" if name == "native" else "fp32"
    choice = choose(quantized_model(espcn(2)), name, precision)
    assert choice.engine.name == name
    assert choice.reason.startswith(f"{name} on ")
    assert choice.reason.endswith(f", {precision}: requested")


def test_unknown_names_are_refused_with_the_known_ones():
    model = random_model(espcn(2))
    with pytest.raises(ValueError, match="unknown engine 'cuda'; known: auto, native, onnxruntime, numpy"):
        choose(model, "cuda")
    with pytest.raises(ValueError, match="unknown precision 'fp64'; known: auto, fp32, int8"):
        choose(model, precision="fp64")


def test_thread_count_is_honored():
    model = random_model(espcn(2))
    for threads in (1, 3):
        engine = choose(model, "onnxruntime", threads=threads).engine
        assert engine.threads == threads
        assert engine._session.get_session_options().intra_op_num_threads == threads
    with pytest.raises(ValueError, match="threads must be at least 1, not 0"):
        choose(model, threads=0)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_threads_default_to_the_cpus_of_this_process():
    allowed = os.sched_getaffinity(0)
    assert choose(random_model(espcn(2))).engine.threads == available_cpus() == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cpus() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def engines_of(model):
    """Yield each engine that runs here, so configured that it cuts the planes of these tests."""
    yield NumpyEngine(model, tile_side_px=9)
    yield OnnxRuntimeEngine(model, tile_side_px=9)
    if native_runs() and model.quantized:
        yield NativeEngine(model, threads=2)


@pytest.mark.parametrize("context_px", [1, 4, 7])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_context_is_read_but_not_upscaled(dtype, context_px):
    model = quantized_model(espcn(2))
    pixels = plane(30 + 2 * context_px, 61 + 2 * context_px)
    lr = pixels.astype(dtype) if np.dtype(dtype).kind == "f" else (pixels * np.iinfo(dtype).max).astype(dtype)
    inside = (slice(2 * context_px, -2 * context_px),) * 2
    for engine in engines_of(model):
        wide = np.zeros((60, 140), dtype)
        out = wide[:, 7:129]
        assert engine(lr, context_px=context_px, out=out) is out
        expected = engine(lr)[inside]
        assert_agree(out, expected, tolerance=1e-5 if np.dtype(dtype).kind == "f" else 0)
        assert not wide[:, :7].any() and not wide[:, 129:].any()


def test_results_are_written_to_arrays_of_any_strides():
    model = quantized_model(espcn(2))
    lr = (plane(9, 12) * 255).astype(np.uint8)
    for engine in engines_of(model):
        for out in (np.empty((24, 18), np.uint8).T, np.empty((18, 48), np.uint8)[:, ::2]):
            engine(lr, out=out)
            np.testing.assert_array_equal(out, engine(lr))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"context_px": 5}, "no pixels inside a context of 5"),
        ({"context_px": -1}, "no pixels inside a context of -1"),
        ({"out": np.empty((20, 24), np.uint16)}, r"out is uint16 \(20, 24\), which does not fit uint8"),
        ({"out": np.empty((18, 24), np.uint8)}, r"out is uint8 \(18, 24\)"),
    ],
)
def test_invalid_context_and_output(arguments, words):
    engine = NumpyEngine(random_model(espcn(2)))
    with pytest.raises(ValueError, match=words):
        engine(np.zeros((10, 12), np.uint8), **arguments)


@pytest.mark.parametrize("spec", [srcnn(2, middle=1), srcnn(3), espcn(4, upsampling="bicubic")])
def test_networks_after_bicubic_upsampling_agree_at_awkward_sizes(spec):
    model = random_model(spec)
    reference = NumpyEngine(model)
    for height, width in product((1, 2, 7, 16, 33), (1, 15, 17)):
        lr = plane(height, width)
        expected = reference(lr)
        for engine in engines_of(model):
            assert_agree(engine(lr), expected)


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_after_bicubic_upsampling_agree(seed):
    model = random_model(random_hr_spec(seed), seed)
    lr = plane(model.spec.channels, 19, 26, seed=seed)
    expected = NumpyEngine(model)(lr)
    for engine in engines_of(model):
        assert_agree(engine(lr), expected)
        lr_8bit = (lr * 255).astype(np.uint8)
        assert np.abs(engine(lr_8bit).astype(int) - NumpyEngine(model)(lr_8bit)).max() <= 1


def test_the_layers_get_the_result_of_bicubic():
    """A network whose output is its input shows it."""
    weights = {"layers.0.weight": np.ones((1, 1, 1, 1), np.float32), "layers.0.bias": np.zeros(1, np.float32)}
    model = Model("bicubic", ModelSpec(3, (Convolution(1, 1, 1),), upsampling="bicubic"), weights)
    lr = plane(20, 31)
    for engine in engines_of(model):
        np.testing.assert_allclose(engine(lr), imresize(lr, 3), atol=2e-6)

"""The native engine agrees with the reference to the integer, for every instruction set that runs here."""

import platform
import re
import sys
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from native_assembly import loops
from random_models import quantized_model, random_model, random_spec
from scripts import run_script
from subpixel.engines.flat import is_flat
from subpixel.engines.native import engine as engine_module
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.native.kernel import compile_assembly
from subpixel.engines.native.pack import arithmetic
from subpixel.engines.native.plan import make_plan
from subpixel.engines.native.targets import TARGETS, find, runs_here
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import EngineError
from subpixel.models import catalog as packaged
from subpixel.models.networks import stack
from subpixel.models.spec import Convolution, ModelSpec

llvmlite = pytest.importorskip("llvmlite", reason="the native engine needs llvmlite")

SIDES = (1, 2, 7, 15, 16, 17, 33, 97)

TARGETS_HERE = [
    pytest.param(
        name, marks=pytest.mark.skipif(not runs_here(instructions), reason=f"this processor has no {name}")
    )
    for name, instructions in TARGETS.items()
    if platform.machine() in instructions.machines  # test_native_arm.py runs others in an emulator
]
every_target = pytest.mark.parametrize("target", TARGETS_HERE)


def lr_plane(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@cache  # the reference takes most of the time, and serves every target
def lr_and_expected(model, height, width):
    lr = lr_plane((model.spec.channels, height, width), height)
    return lr, NumpyEngine(model, precision="int8")(lr)


def assert_equal_to_reference(model, target, sizes, **options):
    engine = NativeEngine(model, target=target, **options)
    for height, width in sizes:
        lr, expected = lr_and_expected(model, height, width)
        np.testing.assert_array_equal(engine(lr), expected, f"{height}x{width}")


@every_target
@pytest.mark.parametrize("name", ["espcn-t91-x3", "fast-x2"])
def test_equals_the_reference_at_awkward_sizes(name, target):
    assert_equal_to_reference(packaged.find(name), target, product(SIDES, SIDES))


@every_target
@pytest.mark.parametrize("name", packaged.names())
def test_packaged_models_equal_the_reference(name, target):
    assert_equal_to_reference(packaged.find(name), target, [(19, 43)])


@every_target
@pytest.mark.parametrize("seed", range(12))
def test_random_networks_equal_the_reference(seed, target):
    """Except for tanh in the last layer, which is a polynomial: then samples differ by at most 1."""
    model = quantized_model(random_spec(seed), seed)
    engine = NativeEngine(model, target=target, threads=2)
    tolerance = 1 if model.spec.layers[-1].activation == "tanh" else 0
    for height, width in [(1, 1), (2, 9), (13, 6), (60, 41)]:
        lr, expected = lr_and_expected(model, height, width)
        difference = np.abs(engine(lr).astype(int) - expected)
        assert difference.max() <= tolerance, f"{height}x{width}"
        assert (difference > 0).mean() < 0.001


UNUSUAL = {
    "one layer": ModelSpec(3, (Convolution(1, 9, 5),)),
    "one layer of color": ModelSpec(2, (Convolution(5, 20, 3, "relu"),), channels=5),
    "1x1 kernels": stack(2, [5, 7], kernels=[1, 1, 1], activation="none"),
    "large kernels": stack(3, [8, 5], kernels=[9, 7, 3]),
    "wide": stack(4, [35, 20], activation="tanh", kernels=[7, 3, 5]),
    "widths": ModelSpec(
        2,
        (
            Convolution(1, 20, 3, "tanh"),
            Convolution(20, 40, 1, "prelu"),
            Convolution(40, 16, 3, "relu"),
            Convolution(16, 4, 3),
        ),
        residual="nearest",
    ),
    "color": ModelSpec(
        3, (Convolution(3, 16, 5, "prelu"), Convolution(16, 27, 3)), channels=3, residual="nearest"
    ),
    "planes of one size": ModelSpec(1, (Convolution(10, 8, 3, "prelu"), Convolution(8, 10, 3)), channels=10),
    "odd planes of one size": ModelSpec(
        1, (Convolution(7, 5, 3), Convolution(5, 7, 1, "relu")), channels=7, residual="nearest"
    ),
    "largest scale": ModelSpec(8, (Convolution(1, 8, 3, "relu"), Convolution(8, 64, 3))),
}


@every_target
@pytest.mark.parametrize("network", UNUSUAL)
def test_unusual_networks_equal_the_reference(network, target):
    model = quantized_model(UNUSUAL[network], 1)
    assert_equal_to_reference(model, target, [(1, 1), (3, 70), (26, 35)])


def with_steep_slopes():
    """A model with slopes of PReLU above 1, and below 0."""
    model = packaged.find("fast-x2")
    slopes = {name: values * 8 - 1 for name, values in model.weights.items() if name.endswith("slope")}
    return replace(model, weights=dict(model.weights) | slopes)


def with_large_sums():
    """A model whose accumulators need more than 22 bits, and that saturates at both ends."""
    model = packaged.find("espcn-relu-t91-x3")
    layers = [
        replace(layer, weight=np.where(layer.weight > 0, 127, -127).astype(np.int8))
        for layer in model.quantized
    ]
    return replace(model, quantized=tuple(layers))


UNUSUAL_WEIGHTS = {"choice": with_steep_slopes, "general": with_large_sums}


@every_target
@pytest.mark.parametrize("how", UNUSUAL_WEIGHTS)
def test_unusual_weights_equal_the_reference(how, target):
    model = UNUSUAL_WEIGHTS[how]()
    assert how in arithmetic(model)
    assert_equal_to_reference(model, target, [(17, 33)])


@every_target
@pytest.mark.parametrize("name", ["fast-x2", "espcn-t91-x2"])
def test_the_general_arithmetic_equals_the_reference(name, target, monkeypatch):
    """Packaged models use a faster one, which is checked to be exact for them."""
    monkeypatch.setattr(engine_module, "arithmetic", lambda model: ["general"] * len(model.spec.layers))
    model = packaged.find(name)
    assert set(arithmetic(model)) <= {"maximum", "short"}
    assert_equal_to_reference(model, target, [(17, 33)])


@every_target
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_strips_and_bands_equal_the_whole(threads, target, monkeypatch):
    model = packaged.find("fast-x3")
    lr = lr_plane((61, 175))
    whole = NativeEngine(model, target=target)(lr)
    monkeypatch.setattr(engine_module, "MIN_ROWS", 1)
    monkeypatch.setattr(engine_module, "MIN_COLUMNS", 5)
    monkeypatch.setattr(type(find(target)), "cache_bytes", 3000)
    engine = NativeEngine(model, target=target, threads=threads)
    assert len(engine._strips(175)) > 5
    np.testing.assert_array_equal(engine(lr), whole)


def with_flat_areas(height, width, seed=0):
    """A plane of few values in areas of many sizes, some of them noisy."""
    rng = np.random.default_rng(seed)
    plane = np.full((height, width), 200, np.uint8)
    for _ in range(1 + height * width // 300):
        top, left = rng.integers(0, height), rng.integers(0, width)
        area = plane[top : top + rng.integers(1, 30), left : left + rng.integers(1, 90)]
        area[...] = rng.integers(0, 256, area.shape if rng.random() < 0.3 else ())
    return plane


@every_target
@pytest.mark.parametrize("threads", [1, 3])
def test_flat_areas_stay_flat_as_in_the_reference(threads, target, monkeypatch):
    model = packaged.find("fast-x3")
    monkeypatch.setattr(engine_module, "MIN_ROWS", 8)
    engine = NativeEngine(model, target=target, threads=threads)
    reference = NumpyEngine(model, precision="int8")
    for height, width in [(1, 1), (3, 5), (5, 64), (97, 33), (60, 300)]:
        lr = with_flat_areas(height, width, width)
        assert is_flat(lr[None]).any()
        np.testing.assert_array_equal(engine(lr), reference(lr), f"{height}x{width}")
        if min(height, width) > 4:
            expected = reference(lr)[3:-3, 3:-3]
            np.testing.assert_array_equal(engine(lr, context_px=1), expected)


@every_target
def test_flat_areas_in_strips_equal_the_whole(target, monkeypatch):
    model, lr = packaged.find("default-x2"), with_flat_areas(80, 400)
    whole = NativeEngine(model, target=target)(lr)
    monkeypatch.setattr(engine_module, "MIN_COLUMNS", 5)
    monkeypatch.setattr(type(find(target)), "cache_bytes", 9000)
    engine = NativeEngine(model, target=target, threads=2)
    assert len(engine._strips(400)) > 10
    np.testing.assert_array_equal(engine(lr), whole)


@every_target
def test_a_small_radius_still_needs_two_pixels_to_be_flat(target):
    """A network that sees only one pixel, but whose flat areas are found by two."""
    model = quantized_model(stack(2, [8], kernels=[1, 1]))
    assert model.spec.radius_px < model.spec.halo_px
    lr = with_flat_areas(40, 70)
    np.testing.assert_array_equal(
        NativeEngine(model, target=target)(lr), NumpyEngine(model, precision="int8")(lr)
    )


INSTRUCTION = {
    "avx512_vnni": "vpdpbusd",
    "avx_vnni": "{vex}\tvpdpbusd",
    "avx_vnni_in_512": "vpdpbusd",
    "avx512": "vpmaddwd",
    "avx2": "vpmaddwd",
}

SPILL = re.compile(r"v\w+\s+%[xyz]mm\d+, -?\d*\(%rsp\)")
"""An instruction that writes a vector register to the stack."""


@pytest.mark.skipif(sys.platform == "win32", reason="its assembly looks different")
@pytest.mark.parametrize("target", INSTRUCTION)
@pytest.mark.parametrize("name", ["default-x2", "default-x3", "best-x4", "espcn-t91-x3"])
@pytest.mark.parametrize("samples", ["uint8", "float32"])
def test_loops_keep_their_accumulators_in_registers(samples, name, target):
    """LLVM may store accumulators on the stack, which makes a loop half as fast."""
    model = packaged.find(name)
    plan = make_plan(model.spec, TARGETS[target], arithmetic(model), samples)
    assembly = compile_assembly(plan)
    instruction = INSTRUCTION[target]
    products = [body for body in loops(assembly) if sum(line.startswith(instruction) for line in body) > 7]
    assert len(products) >= len(set(plan.layers))
    for body in products:
        assert not [line for line in body if SPILL.match(line)]
    assert any("zmm" in line for body in products for line in body) == (plan.instructions.lanes == 16)


def test_what_it_cannot_run_is_refused():
    model = packaged.find("fast-x2")
    with pytest.raises(EngineError, match="unknown target 'z80'; known: amx, avx512_vnni, ") as unknown:
        NativeEngine(model, target="z80")
    assert "_in_512" not in str(unknown.value), "targets for tests"
    with pytest.raises(EngineError, match="no 8-bit layers"):
        NativeEngine(random_model(stack(2, [5])))
    with pytest.raises(EngineError, match="does not compute in fp32"):
        NativeEngine(model, precision="fp32")


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages with Linux's mmap")
@every_target
@pytest.mark.parametrize("name", ["espcn-t91-x3", "fast-x2", "video-x3"])
def test_no_access_out_of_bounds(name, target):
    """Every array, also the working memory, ends or begins at a page without access."""
    done = run_script("guarded.py", target, name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done", str(len(SIDES) ** 2 * 2)]

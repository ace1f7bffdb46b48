"""The native engine on 64-bit Arm agrees with the reference to the integer: compiled here, run by QEMU."""

import os
import re
import shutil
import subprocess
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from native_assembly import loops
from random_models import quantized_model, random_spec
from subpixel.engines.flat import copy_flat_areas
from subpixel.engines.native import processor, targets
from subpixel.engines.native.kernel import compile_assembly, compile_object
from subpixel.engines.native.pack import arithmetic, pack
from subpixel.engines.native.plan import make_plan
from subpixel.engines.native.targets import TARGETS
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.models import catalog as packaged
from subpixel.models.quantization import deep_shift, integer_layers
from test_deep_samples import with_largest_weights
from test_native import UNUSUAL
from test_native_deep import deep_plane

binding = pytest.importorskip("llvmlite.binding", reason="the native engine needs llvmlite")

TRIPLE = "aarch64-linux-gnu"
COMPILER, EMULATOR = f"{TRIPLE}-gcc", "qemu-aarch64"

CPU = {"neon_i8mm": "max", "neon_dotprod": "neoverse-n1", "neon": "cortex-a72"}
"""For each target a processor that QEMU knows and that has no more than what the target needs."""

INSTRUCTION = {"neon_i8mm": ("usdot", "sudot", "usmmla"), "neon_dotprod": ("sdot",), "neon": ("sadalp",)}
"""What adds products to accumulators."""

JUMP = r"(?:b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+,.*,)\s+"
STACK = re.compile(r"(?:ldr|str|ldp|stp)\s+q.*\[sp")
"""A vector instruction that reads or writes the stack."""

MISSING = [name for name in (COMPILER, EMULATOR) if shutil.which(name) is None]
if not Path(f"/usr/{TRIPLE}/include/dlfcn.h").exists():
    MISSING.append("C library for Arm")
emulated = pytest.mark.skipif(
    bool(MISSING),
    reason=f"no {' and no '.join(MISSING)}: "
    "apt-get install qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
)
every_target = pytest.mark.parametrize("target", CPU)

SIDES = (1, 2, 7, 15, 16, 17, 33)
FEW_SIZES = tuple(zip(SIDES, (17, 33, 1, 7, 2, 16, 15), strict=True))


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stderr.decode()}"
    return done.stdout


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    program = tmp_path_factory.mktemp("arm") / "driver"
    run(COMPILER, "-O1", "-o", program, Path(__file__).with_name("arm_driver.c"))
    return program


class ArmKernel:
    """A model compiled for a target, run by the emulator."""

    def __init__(self, model, target, driver, folder, samples="uint8"):
        self.cpu = CPU[target]
        shift = deep_shift(integer_layers(model)[0])
        self.plan = make_plan(model.spec, TARGETS[target], arithmetic(model), samples, shift)
        self.parameters = pack(model, self.plan)
        compiled, self.library, self.driver = folder / "kernel.o", folder / "kernel.so", driver
        compiled.write_bytes(compile_object(self.plan, TRIPLE))
        run(COMPILER, "-shared", "-nostartfiles", "-o", self.library, compiled)

    def __call__(self, planes, context_px=0):
        """Upscale each of several ``(channels, height, width)`` without the context around it."""
        scale = self.plan.spec.scale
        request, shapes = [np.int64(self.parameters.size).tobytes(), self.parameters.tobytes()], []
        for lr in planes:
            channels, height, width = lr.shape
            rows, columns = height - 2 * context_px, width - 2 * context_px
            shapes.append((channels, rows * scale, columns * scale))
            working = [self.plan.working_bytes(columns), self.plan.columns(columns)]
            size = lr.itemsize
            hr_row, hr_plane = columns * scale * size, rows * columns * scale**2 * size
            sizes = [lr.nbytes, working[0], np.prod(shapes[-1]) * size, 0]
            lr_row, lr_plane = width * size, width * height * size
            source = [0, lr_row, lr_plane, width, height, 0, 0, working[1], 0, hr_row, hr_plane]
            inside = [context_px, columns + context_px, context_px, rows + context_px]
            request += [np.array(sizes + source + inside, np.int64).tobytes(), lr.tobytes()]
        environment = os.environ | {"QEMU_CPU": self.cpu, "QEMU_LD_PREFIX": f"/usr/{TRIPLE}"}
        output = run(EMULATOR, self.driver, self.library, input=b"".join(request), env=environment)
        ends = np.cumsum([np.prod(shape) for shape in shapes])
        pieces = np.split(np.frombuffer(output, self.plan.samples), ends)
        assert pieces.pop().size == 0
        results = [piece.reshape(shape).copy() for piece, shape in zip(pieces, shapes, strict=True)]
        if self.plan.spec.residual != "none" and not self.plan.deep:  # as the engine does
            for lr, result in zip(planes, results, strict=True):
                copy_flat_areas(lr, result, context_px)
        return results


def lr_planes(channels, sizes):
    return [
        np.random.default_rng(height).integers(0, 256, (channels, height, width)).astype(np.uint8)
        for height, width in sizes
    ]


@cache
def expected(model, sizes):
    engine = NumpyEngine(model, precision="int8")
    return [engine(lr) for lr in lr_planes(model.spec.channels, sizes)]


def assert_equal_to_reference(kernel, model, sizes, tolerance=0):
    results = kernel(lr_planes(model.spec.channels, sizes))
    for size, result, wanted in zip(sizes, results, expected(model, sizes), strict=True):
        difference = np.abs(result.astype(int) - wanted)
        assert difference.max() <= tolerance, size
        assert (difference > 0).mean() < 0.001, size


@emulated
@every_target
@pytest.mark.parametrize("name", packaged.names())
def test_packaged_models_equal_the_reference(name, target, driver, tmp_path):
    """At awkward sizes, with arrays next to pages without access."""
    sizes = tuple(product(SIDES, SIDES)) if name in ("fast-x2", "espcn-t91-x3") else FEW_SIZES
    model = packaged.find(name)
    assert_equal_to_reference(ArmKernel(model, target, driver, tmp_path), model, sizes)


@emulated
@every_target
@pytest.mark.parametrize("seed", range(6))
def test_random_networks_equal_the_reference(seed, target, driver, tmp_path):
    """Except for tanh in the last layer, which is a polynomial: then samples differ by at most 1."""
    model = quantized_model(random_spec(seed), seed)
    tolerance = 1 if model.spec.layers[-1].activation == "tanh" else 0
    kernel = ArmKernel(model, target, driver, tmp_path)
    assert_equal_to_reference(kernel, model, ((1, 1), (2, 9), (13, 6), (40, 31)), tolerance)


@emulated
@every_target
@pytest.mark.parametrize("samples", ["uint16", "float32"])
def test_deep_samples_equal_the_reference(samples, target, driver, tmp_path):
    """Of one and of several channels, one layer and more, and sums that would need more than 32 bits."""
    models = [packaged.find("fast-x2"), packaged.find("espcn-t91-x3")]
    models += [quantized_model(UNUSUAL[name], 1) for name in ("one layer of color", "color", "1x1 kernels")]
    models.append(with_largest_weights(5))
    for number, model in enumerate(models):
        folder = tmp_path / str(number)
        folder.mkdir()
        planes = [deep_plane((model.spec.channels, *size), np.dtype(samples)) for size in FEW_SIZES]
        results = ArmKernel(model, target, driver, folder, samples)(planes)
        engine = NumpyEngine(model, precision="int8")
        for lr, result in zip(planes, results, strict=True):
            np.testing.assert_array_equal(result, engine(lr))


@emulated
@every_target
@pytest.mark.parametrize("name", ["one layer", "planes of one size", "odd planes of one size"])
def test_unusual_networks_equal_the_reference(name, target, driver, tmp_path):
    """Where the picture is the last layer's input, and where all layers are of several planes."""
    model = quantized_model(UNUSUAL[name])
    assert_equal_to_reference(ArmKernel(model, target, driver, tmp_path), model, FEW_SIZES)


@emulated
@every_target
def test_a_rectangle_with_a_context_equals_the_whole(target, driver, tmp_path):
    model = packaged.find("default-x3")
    halo_px = model.spec.halo_px
    whole = lr_planes(1, [(40, 61)])[0]
    inside = ArmKernel(model, target, driver, tmp_path)([whole], context_px=halo_px)[0]
    edge = slice(3 * halo_px, -3 * halo_px)
    np.testing.assert_array_equal(inside, NumpyEngine(model, precision="int8")(whole)[:, edge, edge])


@every_target
@pytest.mark.parametrize("name", ["default-x2", "default-x3", "best-x4", "espcn-t91-x3"])
def test_loops_keep_their_accumulators_in_registers(name, target):
    model = packaged.find(name)
    plan = make_plan(model.spec, TARGETS[target], arithmetic(model))
    products = [
        body
        for body in loops(compile_assembly(plan, TRIPLE), JUMP)
        if sum(line.startswith(INSTRUCTION[target]) for line in body) > 7
    ]
    assert len(products) >= len(set(plan.layers))
    for body in products:
        assert not [line for line in body if STACK.match(line)]


@emulated
def test_places_of_features_are_those_of_linux():
    source = b"#include <sys/auxv.h>\nAT_HWCAP HWCAP_ASIMDDP AT_HWCAP2 HWCAP2_I8MM"
    last = run(COMPILER, "-E", "-P", "-", input=source).decode().splitlines()[-1]
    given = [processor.ARM_FEATURES[name][:2] for name in ("dotprod", "i8mm")]
    assert last == " ".join(f"{vector} (1 << {place})" for vector, place in given)


@pytest.mark.parametrize(
    ("features", "best"), [({"dotprod", "i8mm"}, "neon_i8mm"), ({"dotprod"}, "neon_dotprod"), ((), "neon")]
)
def test_the_fastest_instruction_set_is_found(features, best, monkeypatch):
    monkeypatch.setattr(targets.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(targets, "features", lambda: frozenset(features))
    monkeypatch.delenv(targets.TARGET_VARIABLE, raising=False)
    assert targets.find().name == best

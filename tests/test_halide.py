"""The fast engine against the oracle: at awkward sizes, on any network and rectangle, within its memory."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from random_models import halide_runs, odd_description, quantized_model, random_model
from subpixel.engines.halide import HalideEngine
from subpixel.engines.halide import engine as engine_module
from subpixel.engines.halide.helpers import Pool, Span
from subpixel.engines.halide.kernel import Kernel, compile_object
from subpixel.engines.halide.machine import KINDS, host_kind, machine
from subpixel.engines.halide.pack import pack
from subpixel.engines.halide.plan import GROUP, Machine, make_plan
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import EngineError
from subpixel.models import catalog as packaged
from subpixel.models.networks import espcn, stack
from subpixel.models.spec import Convolution, ModelSpec

pytestmark = [
    pytest.mark.skipif(not halide_runs(), reason="the Halide engine does not run here"),
    pytest.mark.usefixtures("helpers_take_part"),
]

SIDES = (1, 2, 7, 15, 16, 17, 33, 97)
TOLERANCE = {"fp32": 1e-4, "int8": 1.0}
AVX2 = "x86-64-linux-avx-avx2-f16c-fma-sse41-no_runtime"


def lr_plane(shape, dtype, seed=0):
    samples = np.random.default_rng(seed).random(shape, np.float32)
    return samples if dtype == np.float32 else (samples * np.iinfo(dtype).max).astype(dtype)


def assert_agrees(hr, expected, tolerance):
    """Floats in [0, 1] within ``tolerance``, integers within so many levels."""
    assert hr.dtype == expected.dtype
    assert hr.shape == expected.shape
    difference = np.abs(hr.astype(np.float64) - expected.astype(np.float64)).max()
    assert difference <= tolerance, f"differs by {difference}"


def test_the_comparison_can_fail():
    hr = lr_plane((4, 5), np.uint8)
    with pytest.raises(AssertionError, match=r"differs by 2\.0"):
        assert_agrees(hr, np.where(hr > 2, hr - 2, hr + 2).astype(np.uint8), 1)
    with pytest.raises(AssertionError):
        assert_agrees(hr, hr.astype(np.uint16), 1)
    nan = np.full((2, 2), np.nan, np.float32)
    with pytest.raises(AssertionError, match="differs by nan"):
        assert_agrees(nan, np.zeros_like(nan), 1)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize(("precision", "dtype"), [("fp32", np.float32), ("int8", np.uint8)])
def test_agrees_at_awkward_sizes(precision, dtype, scale, threads):
    model = packaged.find("espcn-t91", scale=scale)
    engine, oracle = (
        HalideEngine(model, precision=precision, threads=threads),
        NumpyEngine(model, precision=precision),
    )
    for height, width in product(SIDES, SIDES):
        lr = lr_plane((height, width), dtype)
        assert_agrees(engine(lr), oracle(lr), TOLERANCE[precision])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("seed", range(12))
def test_agrees_on_odd_networks(seed, precision):
    dtype = np.float32 if precision == "fp32" else np.uint8
    model = quantized_model(odd_description(seed), seed)
    engine, oracle = (
        HalideEngine(model, precision=precision, threads=2),
        NumpyEngine(model, precision=precision),
    )
    for height, width in [(1, 1), (2, 9), (13, 6), (60, 41)]:
        lr = lr_plane((model.spec.channels, height, width), dtype, seed)
        assert_agrees(engine(lr), oracle(lr), TOLERANCE[precision])


@pytest.mark.parametrize(
    ("precision", "dtype", "tolerance"),
    [
        ("fp32", np.uint8, 1),
        ("fp32", np.uint16, 2),
        ("fp32", np.float64, 1e-4),
        ("int8", np.float32, 1e-4),
        ("int8", np.uint16, 8),
    ],
)
def test_agrees_on_every_kind_of_samples(precision, dtype, tolerance):
    model = packaged.find("espcn-relu-t91-x3")
    lr = np.linspace(0, 1, 31 * 45).reshape(31, 45)
    lr = lr.astype(dtype) if np.dtype(dtype).kind == "f" else (lr * np.iinfo(dtype).max).astype(dtype)
    engine, oracle = HalideEngine(model, precision=precision), NumpyEngine(model, precision=precision)
    assert_agrees(engine(lr), oracle(lr), tolerance)


@pytest.mark.parametrize("name", packaged.names())
def test_eight_bits_are_the_same_integers(name):
    """One step between layers that went the other way would show in floats, which are not rounded."""
    model = packaged.find(name)
    lr = lr_plane((90, 100), np.float32)
    engine, oracle = HalideEngine(model, precision="int8"), NumpyEngine(model, precision="int8")
    assert_agrees(engine(lr), oracle(lr), 1e-6)


@pytest.mark.parametrize("scale", [2, 3])
def test_products_by_fours_agree_too(scale):
    """The pipeline for processors with VNNI, compiled for one without."""
    model = packaged.find("espcn-t91", scale=scale)
    plan = make_plan(
        model.spec,
        Machine("by fours", AVX2, lanes=8, registers=16, quads=True, matrices=False, cache_bytes=2**20),
        "int8",
    )
    assert plan.products == "quads"
    kernel = Kernel(compile_object(plan, "uint8"), pack(model, plan))
    oracle = NumpyEngine(model, precision="int8")
    for height, width in [(1, 1), (7, 33), (40, 97)]:
        lr = lr_plane((1, height, width), np.uint8)
        hr = np.empty((1, height * scale, width * scale), np.uint8)
        kernel(lr, hr, slice(0, width), slice(0, height))
        assert_agrees(hr, oracle(lr), 1)


@pytest.mark.parametrize(
    ("kind", "instruction"),
    [("amx", "vpdpbusd"), ("vnni", "vpdpbusd"), ("avx512", "vpmaddwd"), ("avx2", "vpmaddwd")],
)
def test_each_kind_of_processor_gets_its_instruction(kind, instruction, tmp_path):
    hl = pytest.importorskip("halide")
    from subpixel.engines.halide.algorithm import define
    from subpixel.engines.halide.schedule import schedule

    plan = make_plan(espcn(3), machine(kind), "int8")
    pipeline = define(plan, "uint8")
    schedule(pipeline)
    path = tmp_path / "kernel.s"
    hl.Pipeline(pipeline.output).compile_to(
        {hl.OutputFileType.assembly: str(path)},
        pipeline.parameters,
        "enlarge",
        hl.Target(plan.machine.target),
    )
    text = path.read_text()
    products = sum(layer.vectors * layer.outputs_at_once for layer in plan.layers)
    assert text.count(f"\t{instruction}\t") >= products > 0
    assert ("zmm" in text) == (kind != "avx2")


@pytest.mark.parametrize("working_set", [1, 20_000, 10**9])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_rectangles_equal_the_whole(monkeypatch, precision, working_set):
    model = packaged.find("espcn-t91-x3")
    lr = lr_plane((61, 75), np.uint8)
    whole = HalideEngine(model, precision=precision)(lr)
    small = replace(machine(), cache_bytes=working_set)
    monkeypatch.setattr(engine_module, "host_machine", lambda *target: small)
    monkeypatch.setattr(engine_module, "LEAST_ROWS", 1)
    monkeypatch.setattr(engine_module, "LEAST_COLUMNS", 5)
    for threads in (1, 2, 4):
        engine = HalideEngine(model, precision=precision, threads=threads)
        np.testing.assert_array_equal(engine(lr), whole)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5000), (5000, 3), (360, 640)])
def test_rectangles_cover_each_pixel_once(height, width, threads):
    engine = HalideEngine(random_model(espcn(2)), threads=threads)
    seen = np.zeros((height, width), int)
    for rows, columns in engine._rectangles(height, width, threads, "float32"):
        assert rows.stop > rows.start
        assert columns.stop > columns.start
        seen[rows, columns] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("target", ["avx2", None])
def test_the_input_is_read_where_it_lies(monkeypatch, target):
    """A plane in the middle of a larger one, read-only, with rows far apart."""
    model = packaged.find("espcn-t91-x2")
    whole = lr_plane((50, 200), np.uint8)
    whole.flags.writeable = False
    view = whole[7:40, 3:90]
    engine = HalideEngine(model, precision="int8", target=target)
    seen = []
    kind = type(engine._kernel("uint8"))
    calls = kind.calls
    monkeypatch.setattr(kind, "calls", lambda self, lr, *rest: seen.append(lr) or calls(self, lr, *rest))
    np.testing.assert_array_equal(engine(view), engine(view.copy()))
    assert np.shares_memory(seen[0], whole)


@pytest.mark.parametrize(
    "view",
    [
        lambda plane: plane[:, ::-2],
        lambda plane: plane[::-3],
        lambda plane: plane.T,
        lambda plane: plane[:, :1],
        lambda plane: plane[:1, :1].T,
        lambda plane: np.broadcast_to(plane[3], (30, 200)),
        lambda plane: np.ndarray((20, 40), np.uint16, plane.tobytes(), strides=(101, 2)),
    ],
)
def test_planes_may_lie_in_memory_however_they_like(view):
    plane = view(lr_plane((50, 200), np.uint8))
    engine = HalideEngine(packaged.find("espcn-t91-x2"))
    np.testing.assert_array_equal(engine(plane), engine(np.array(plane, order="C")))


def test_pictures_beyond_32_bit_indices_go_tile_by_tile(monkeypatch):
    model = packaged.find("espcn-t91-x2")
    lr = lr_plane((70, 90), np.uint8)
    whole = HalideEngine(model, precision="int8")(lr)
    monkeypatch.setattr(engine_module, "MOST_SAMPLES", 70 * 90)
    tiled = HalideEngine(model, precision="int8", tile_side_px=40)(lr)
    assert_agrees(tiled, whole, 1)
    assert (tiled != whole).mean() < 0.001


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_may_go_on():
    """The helpers that it had do not exist there."""
    script = """
import os, numpy as np
from subpixel.engines.halide import HalideEngine
from subpixel.models import catalog as packaged
engine = HalideEngine(packaged.find("espcn-t91-x2"), threads=2)
lr = np.zeros((80, 80), np.uint8)
engine(lr)
child = os.fork()
if not child:
    engine(lr)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "7"


def test_black_and_white_agree():
    model = quantized_model(espcn(2))
    for level in (0, 255):
        lr = np.full((20, 30), level, np.uint8)
        assert_agrees(HalideEngine(model, precision="int8")(lr), NumpyEngine(model, precision="int8")(lr), 1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_tiles_fit_the_registers(kind, precision):
    """Over any network: what spills to memory costs more than a tile can gain."""
    of = machine(kind)
    for seed in range(200):
        plan = make_plan(odd_description(seed), of, precision)
        end_of_weights = end_of_channels = 0
        for index, layer in enumerate(plan.layers):
            sums = layer.vectors * layer.outputs_at_once
            assert sums + layer.vectors + 1 + 2 * (plan.products == "pairs") <= of.registers
            if index < len(plan.layers) - 1:
                assert layer.outputs_at_once % GROUP[plan.products] == 0
            assert layer.outputs % layer.outputs_at_once == 0
            assert 0 <= layer.outputs - plan.spec.layers[index].outputs < layer.outputs_at_once
            assert (layer.weights_at, layer.channels_at) == (end_of_weights, end_of_channels)
            end_of_weights += layer.outputs * layer.groups * plan.group * layer.kernel**2
            end_of_channels += layer.outputs
        assert (plan.weight_count, plan.channel_count) == (end_of_weights, end_of_channels)


@pytest.mark.parametrize("activation", ["none", "relu", "prelu", "tanh"])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_rows_are_computed_once(tmp_path, activation, precision):
    """Each turn adds one row to every layer's buffer. Halide falls back to several without a word."""
    import halide as hl

    from subpixel.engines.halide.algorithm import define
    from subpixel.engines.halide.schedule import schedule

    plan = make_plan(stack(2, [8] * 4, activation=activation), machine(), precision)
    pipeline = define(plan, "uint8")
    schedule(pipeline)
    path = tmp_path / "lowered.txt"
    pipeline.output.compile_to_lowered_stmt(
        str(path), pipeline.parameters, hl.StmtOutputFormat.Text, hl.Target(plan.machine.target)
    )
    loops = re.findall(r"for \((?:layer|picture)[^.]*\.s1\.([^.,]*)", path.read_text())
    assert sum("_columns" in loop for loop in loops) >= len(plan.layers)
    assert "y" not in loops


@pytest.mark.parametrize("threads", [2, 3])
def test_the_callers_band_is_larger_by_its_head_start(threads):
    """And all bands together are the picture, whatever helpers were early or late by."""
    engine = HalideEngine(random_model(espcn(2)), threads=threads)
    engine._pace_s, sizes = 5e-8, []
    for late_s in (0.0, *[1e-4] * 9, *[-1e-4] * 20):
        pieces = engine._rectangles(300, 64, threads, "float32")
        bands = [rows for rows, columns in pieces]
        assert [band.start for band in bands] == [0, *(band.stop for band in bands[:-1])]
        assert len(bands) == threads and bands[-1].stop == 300
        sizes.append(bands[0].stop - bands[1].stop + bands[1].start)
        caller_s = bands[0].stop * 64 * 5e-8
        engine._learn(pieces, [Span(0.0, caller_s), *[Span(1e-5, caller_s + late_s)] * (threads - 1)])
    assert 0 <= sizes[-1] < sizes[0] < sizes[9] <= 300 // 4
    small = [rows for rows, _ in engine._rectangles(30, 64, threads, "float32")]
    assert small == [slice(0, 30)]


def test_helpers_of_an_executor_serve_too(monkeypatch):
    """As on systems without those of a crew."""
    model, lr = packaged.find("espcn-t91-x2"), lr_plane((97, 70), np.uint8)
    expected = HalideEngine(model, precision="int8", threads=3)(lr)
    monkeypatch.setattr(engine_module, "helpers", Pool)
    engine = HalideEngine(model, precision="int8", threads=3)
    for _ in range(3):
        np.testing.assert_array_equal(engine(lr), expected)


def test_little_work_is_done_by_the_caller_alone(monkeypatch):
    """As much as a helper is worth waking for: with a hundred microseconds for each band."""
    monkeypatch.setattr(engine_module, "LEAST_S", 1e-4)
    engine = HalideEngine(random_model(espcn(2)), threads=3)
    bands = []
    for pace_s in (0.0, 1e-9, 1e-8, 1.5e-8, 2e-8, 1e-7):
        engine._pace_s = pace_s
        bands.append(len(engine._rectangles(100, 100, 3, "float32")))
    assert bands == [3, 1, 1, 1, 2, 3]


def test_a_kernel_reports_buffers_that_do_not_fit():
    """Halide's own checks are part of every kernel."""
    model = random_model(espcn(2))
    plan = make_plan(model.spec, machine(), "fp32")
    code, parameters = compile_object(plan, "float32"), pack(model, plan)
    lr, hr = np.zeros((1, 8, 8), np.float32), np.zeros((1, 16, 16), np.float32)
    kernel = Kernel(code, parameters)
    kernel(lr, hr, slice(0, 8), slice(0, 8))
    with pytest.raises(EngineError, match="a buffer does not fit"):
        kernel(lr.astype(np.uint8), hr, slice(0, 8), slice(0, 8))
    fewer_weights = replace(parameters, weights=parameters.weights[:-1])
    for wrong in (fewer_weights, replace(parameters, offsets=parameters.offsets[:, :-1])):
        with pytest.raises(EngineError, match="a buffer does not fit"):
            Kernel(code, wrong)(lr, hr, slice(0, 8), slice(0, 8))


def run_script(name, *arguments):
    script = Path(__file__).parent / name
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(script.parent), *sys.path])}
    command = [sys.executable, str(script), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages with Linux's mmap")
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *product(["fp32", "int8", "matrices"], ["espcn-t91-x3"]),
        *product(["matrices"], ["fast-x2", "default-x3", "fast-x4"]),
    ],
)
def test_no_access_out_of_bounds(kind, name):
    """Every array, also those that kernels allocate, ends or begins at a page that must not be touched."""
    if kind == "matrices" and host_kind() != "amx":
        pytest.skip(f"this processor is {host_kind()}, not amx")
    done = run_script("guarded.py", kind, name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done", str(len(SIDES) ** 2 * 2)]


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages with Linux's mmap")
def test_the_guard_can_fail():
    assert run_script("guarded.py", "int8", "espcn-t91-x3", "overrun").returncode == -11


MEASURE = """
import numpy as np
from subpixel.engines.halide import HalideEngine
from subpixel.models import catalog as packaged
from pathlib import Path

def memory(line):
    return int(Path("/proc/self/status").read_text().split(line + ":")[1].split()[0]) * 1024

engine = HalideEngine(packaged.find("espcn-t91-x3"), precision="int8", threads=2)
engine(np.zeros((60, 60), np.uint8))
lr = np.full((720, 1280), 128, np.uint8)
before = memory("VmRSS")
hr = engine(lr)
assert hr.shape == (2160, 3840)
print(memory("VmHWM") - before - hr.nbytes)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measured with Linux's /proc")
def test_memory_beyond_the_planes_is_small():
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, check=True, text=True)
    assert int(done.stdout) < 8e6, "row buffers; the limit that was set is 150 MB"


def test_unknown_targets_are_refused(monkeypatch):
    with pytest.raises(EngineError, match="unknown target 'sse9'; known: amx, vnni, avx512, avx2"):
        HalideEngine(random_model(espcn(2)), target="sse9")
    monkeypatch.setenv("SUBPIXEL_TARGET", "avx2")
    assert HalideEngine(random_model(espcn(2))).target == "avx2"
    monkeypatch.setenv("SUBPIXEL_TARGET", "z80")
    with pytest.raises(EngineError, match="unknown target 'z80'"):
        HalideEngine(random_model(espcn(2)))


def test_sums_that_could_exceed_32_bits_are_refused():
    wide = ModelSpec(1, (Convolution(1, 900, 1), Convolution(900, 1, 9)))
    assert 900 * 81 > 2**31 // (255 * 128)
    with pytest.raises(EngineError, match="layer 1 sums more than"):
        HalideEngine(quantized_model_of_zeros(wide), precision="int8")


def quantized_model_of_zeros(spec):
    from subpixel.models.calibration import _placeholder

    layers = tuple(_placeholder(layer) for layer in spec.layers)
    return replace(random_model(spec), quantized=layers)

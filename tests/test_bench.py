"""The benchmark: all runners run the same network, and the numbers are consistent. Times are not asserted."""

import ctypes
import io
import json
import platform
import sys
import time

import numpy as np
import onnx
import onnxruntime
import pytest
from llvmlite import binding
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

from random_models import native_runs, quantized_model, random_model, random_spec
from subpixel.benchmark.measure import Benchmark, Timing, compare, median_times_ms
from subpixel.benchmark.peak import STEPS, compile_loop, make_peak
from subpixel.benchmark.quantized_graph import build_quantized
from subpixel.benchmark.report import table
from subpixel.benchmark.runners import RUNTIMES, Runner, runtime_runners, subpixel_runner
from subpixel.cli import app
from subpixel.engines.base import to_float
from subpixel.engines.machine_code import MachineCode, target_machine
from subpixel.engines.native.avx_vnni import AvxVnniIn512
from subpixel.engines.native.targets import TARGETS, runs_here
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import EngineError
from subpixel.models import catalog as packaged
from subpixel.models.networks import espcn

pytestmark = pytest.mark.skipif(not native_runs(), reason="the native engine does not run here")


def run(*arguments):
    return CliRunner().invoke(app, ["bench", "--threads", "1", "--rounds", "2", *map(str, arguments)])


def test_json_is_the_documented_object():
    result = run("--size", "64x48", "--against", "onnxruntime", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert {"machine", "model", "scale", "size", "threads", "rounds", "peak_gmacs", "results"} == found.keys()
    assert (found["model"], found["scale"], found["size"], found["threads"]) == (
        "default-x3",
        3,
        "64x48",
        1,
    )
    runners = {(one["runner"], one["precision"]) for one in found["results"]}
    assert runners == {("subpixel-native", "int8"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")}
    for one in found["results"]:
        assert 0 < one["min_ms"] <= one["median_ms"] <= one["max_ms"]
        macs = packaged.find("default-x3").spec.macs_per_lr_pixel * 64 * 48
        peak_gmacs = found["peak_gmacs"][one["precision"]]
        share = macs / one["median_ms"] / 1e6 / peak_gmacs
        rounding = 0.0005 / one["median_ms"] + 0.05 / peak_gmacs  # large if other load disturbed the peak
        assert one["share_of_peak"] == pytest.approx(share, abs=0.001 + 1.1 * rounding * share)
        assert one["version"]


def test_table_and_plot(tmp_path):
    pytest.importorskip("matplotlib")
    result = run("--size", "32x32", "-m", "espcn-relu-t91-x3", "--plot", tmp_path / "bars.png")
    assert result.exit_code == 0, result.output
    for words in ("espcn-relu-t91-x3, 32x32 x3, 1 thread", "subpixel-native", "int8", "of peak"):
        assert words in result.stdout
    with Image.open(tmp_path / "bars.png") as image:
        assert image.width > image.height > 100


def test_a_plot_needs_matplotlib_before_anything_is_timed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("subpixel.benchmark.measure.measure", None)
    result = run("--size", "16x16", "--plot", tmp_path / "bars.png")
    assert result.exit_code == 1
    assert "pip install matplotlib" in result.stderr


def test_a_model_without_int8_layers(tmp_path):
    random_model(espcn(2)).save(tmp_path / "m.safetensors")
    result = run("--size", "16x16", "-m", tmp_path / "m.safetensors", "--json")
    (result,) = json.loads(result.stdout)["results"]
    assert (result["runner"], result["precision"]) == ("subpixel-onnxruntime", "fp32")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--size", "640"], "expected WIDTHxHEIGHT"),
        (["--size", "00x10"], "expected WIDTHxHEIGHT"),
        (["--size", "99999x99999"], "of at most 16000000 pixels"),
        (
            ["--against", "tensorrt"],
            "unknown runtime 'tensorrt'; known: onnxruntime, openvino, opencv, torch",
        ),
        (["--target", "sse9"], "unknown target 'sse9'"),
        (["-m", "nonesuch"], "no packaged model"),
    ],
)
def test_wrong_usage(arguments, words):
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_the_error_names_a_missing_runtime(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(
        EngineError, match="pip install opencv-python-headless`, or leave it out of --against"
    ):
        list(runtime_runners("opencv", random_model(espcn(2)), np.zeros((8, 8), np.uint8), 1))


@pytest.mark.parametrize("name", RUNTIMES)
def test_runtimes_run_the_same_network(name):
    module = {"opencv": "cv2"}.get(name, name)
    pytest.importorskip(module)
    model = packaged.find("espcn-t91-x2")
    plane = np.random.default_rng(0).integers(60, 190, (40, 48)).astype(np.uint8)
    reference = NumpyEngine(model)
    runners = [
        subpixel_runner(model, plane, 1, None),
        Runner("reference", "fp32", "", lambda: reference(plane), to_float),
        *runtime_runners(name, model, plane, 1),
    ]
    off = compare(runners, border_px=8)
    assert off[0] == off[1] == 0
    assert max(off) < (3 if name == "openvino" else 0.6), "saturated products make a larger difference"


def test_it_is_said_that_a_network_for_video_is_timed_without_history():
    result = run("--size", "16x16", "-m", "video-x2", "--json")
    assert json.loads(result.stdout)["model"] == "video-x2"
    assert result.stderr.startswith("note: the times are those of the base of video-x2, best-x2, without ")
    assert "note" not in run("--size", "16x16", "-m", "fast-x2", "--json").stderr


def test_models_of_three_channels_are_refused(tmp_path):
    random_model(espcn(2, channels=3)).save(tmp_path / "rgb.safetensors")
    result = run("-m", tmp_path / "rgb.safetensors")
    assert (result.exit_code, "3 channels; `bench` takes models of one, luma" in result.stderr) == (2, True)


def test_different_results_are_an_error():
    def runner(name, offset):
        return Runner(name, "fp32", "1", lambda: np.full((40, 40), 0.5 + offset, np.float32), lambda hr: hr)

    assert compare([runner("a", 0), runner("b", 0.2 / 255)], 4) == pytest.approx([0, 0.2], abs=1e-3)
    with pytest.raises(EngineError, match="b and a disagree in fp32"):
        compare([runner("a", 0), runner("b", 3 / 255)], 4)
    with pytest.raises(EngineError, match="disagree in fp32, by 3"):
        compare([runner("a", 0), runner("b", 3 / 255)], 0)
    with pytest.raises(EngineError, match="disagree in fp32, by nan"):
        compare([runner("a", 0), runner("b", np.nan)], 4)


@pytest.mark.parametrize("seed", range(6))
def test_the_quantized_graph_has_the_same_integers(seed):
    model = quantized_model(random_spec(seed), seed)
    halo = model.spec.halo_px
    side = 2 * halo + 9
    shape = (model.spec.channels, side, side + 3)
    lr = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    graph = build_quantized(model)
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    hr = session.run(["hr"], {"lr": to_float(lr)[None]})[0][0].clip(0, 1)
    expected = to_float(NumpyEngine(model, precision="int8")(lr))
    inside = (slice(None), *(slice(halo * model.scale, -halo * model.scale or None),) * 2)
    # The tanh of the graph is exact, and a value between layers may be rounded to the next integer.
    # The engine rounds to 8 bits.
    assert np.abs(hr - expected)[inside].mean() < 0.02 * expected.std() + 0.3 / 255


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_peak_is_a_rate(precision):
    peak = make_peak(precision, 1)
    assert peak.multiply_adds > 1e8
    started = time.perf_counter()
    rate = peak.run()
    # The test is that the rate counts these multiply-adds, not how fast the machine is.
    assert rate >= peak.multiply_adds / (time.perf_counter() - started)


@pytest.mark.skipif(not runs_here(TARGETS["avx512"]), reason="the test writes the registers of AVX-512")
def test_the_peak_does_not_depend_on_what_registers_held():
    # Multiplications of denormal numbers, such as the one with the bits 1, take some 50 times as long.
    lines = ["mov $$1, %eax", *(f"vpbroadcastd %eax, %zmm{number}" for number in range(32))]
    clobbered = ",".join(("~{eax}", *(f"~{{zmm{number}}}" for number in range(32))))
    text = "\\0A".join(lines)
    source = f'define void @fill() {{ call void asm sideeffect "{text}", "{clobbered}"() ret void }}'
    binding.initialize_native_asmparser()
    machine = target_machine(TARGETS["avx512"].cpu, TARGETS["avx512"].features)
    code = MachineCode(machine.emit_object(binding.parse_assembly(source)), "fill")
    fill = ctypes.CFUNCTYPE(None)(code.address)

    def seconds(precision):
        peak = make_peak(precision, 1, "avx512")
        times_s = []
        for _ in range(3):
            fill()
            started = time.perf_counter()
            peak.function(STEPS // 10)
            times_s.append(time.perf_counter() - started)
        return min(times_s)

    assert seconds("fp32") < 10 * seconds("int8")


class With32Registers(AvxVnniIn512):
    """All registers that AVX-512 and AVX10 have for vectors of 256 bits: no target has them."""

    name = "with_32_registers"
    registers = 32


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(
    "instructions",
    [
        pytest.param(one, id=one.name)
        for one in (*TARGETS.values(), With32Registers())
        if "x86_64" in one.machines
    ],
)
def test_the_loop_of_the_peak_is_code_of_its_instruction_set(instructions, precision):
    if platform.machine() not in instructions.machines:
        pytest.skip("LLVM translates the loop for this architecture only")
    assert compile_loop(precision, instructions)  # LLVM would end the process


def test_engines_are_timed_in_turn():
    calls = []

    class Recorded(NumpyEngine):
        def __call__(self, plane, **options):
            calls.append((self.model.name, plane.shape, plane.dtype))
            return plane

    engines = {name: Recorded(packaged.find(name)) for name in ("espcn-t91-x2", "espcn-t91-x3")}
    medians = median_times_ms(engines, (4, 6), rounds=2)
    assert list(medians) == list(engines)
    assert min(medians.values()) > 0
    assert calls == [(name, (4, 6), np.uint8) for name in engines for _ in range(2)] * 2


def test_the_table_fits_80_columns():
    timings = [
        Timing(runner, "fp32", 1234.56, 999.9, 2345.6, "1.2.3", 0.25, 0.99)
        for runner in ("subpixel-native", "onnxruntime")
    ]
    console = Console(width=80, file=io.StringIO())
    console.print(table(Benchmark("m", "n", 2, "8x8", 1, 1, {"fp32": 32.0}, tuple(timings))))
    lines = console.file.getvalue().splitlines()
    heading = next(line for line in lines if "runner" in line)
    assert heading.split() == (
        ["runner", "precision", "median", "ms", "spread", "ms", "frames/s", "of", "peak", "off", "by"]
    )
    row = next(line for line in lines if "subpixel-native" in line)
    assert row.split() == ["subpixel-native", "fp32", "1234.56", "999.9-2345.6", "1", "99%", "0.25"]
    assert max(map(len, lines)) <= 80


def test_the_table_is_sorted():
    timings = [Timing(f"r{n}", "fp32", float(n), float(n), float(n), "1", 0.0, None) for n in (3, 1, 2)]
    found = table(Benchmark("m", "n", 2, "8x8", 1, 1, {}, tuple(timings)))
    assert list(found.columns[0].cells) == ["r1", "r2", "r3"]

"""The native engine around its kernels: views, threads, forked processes, memory, and choice of target."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from random_models import native_runs, quantized_model, random_model
from scripts import run_script
from subpixel.engines.native.engine import NativeEngine, cut, strips
from subpixel.engines.native.kernel import NativeKernel
from subpixel.engines.native.pack import arithmetic
from subpixel.engines.native.plan import make_plan
from subpixel.engines.native.targets import TARGETS, find, runs_here
from subpixel.engines.numpy_engine import NumpyEngine
from subpixel.errors import EngineError
from subpixel.models import catalog as packaged
from subpixel.models.calibration import placeholder
from subpixel.models.networks import espcn
from subpixel.models.spec import Convolution, ModelSpec

pytestmark = pytest.mark.skipif(not native_runs(), reason="the native engine does not run here")


def lr_plane(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize(
    "view",
    [
        lambda plane: plane[:, ::-2],
        lambda plane: plane[::-3],
        lambda plane: plane.T,
        lambda plane: plane[:, :1],
        lambda plane: plane[:1, :1].T,
        lambda plane: np.broadcast_to(plane[3], (30, 200)),
        lambda plane: np.ndarray((20, 40), np.uint8, plane.tobytes(), strides=(101, 2)),
    ],
)
def test_planes_may_have_any_strides(view):
    plane = view(lr_plane((50, 200)))
    engine = NativeEngine(packaged.find("fast-x2"))
    result = engine(np.array(plane, order="C"))
    np.testing.assert_array_equal(engine(plane), result)
    out = np.empty((4 * plane.shape[0], 4 * plane.shape[1]), np.uint8)[::2, ::-2]
    np.testing.assert_array_equal(engine(plane, out=out), result)


def test_the_input_is_read_without_a_copy(monkeypatch):
    """A read-only view into a larger plane."""
    whole = lr_plane((50, 200))
    whole.flags.writeable = False
    view = whole[7:40, 3:90]
    engine = NativeEngine(packaged.find("fast-x2"))
    seen = []
    calls = NativeKernel.calls
    monkeypatch.setattr(
        NativeKernel, "calls", lambda self, lr, *rest: seen.append(lr) or calls(self, lr, *rest)
    )
    np.testing.assert_array_equal(engine(view), engine(view.copy()))
    assert np.shares_memory(seen[0], whole)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 5000), (5000, 3), (360, 640)])
def test_rectangles_cover_each_pixel_once(height, width, threads, monkeypatch):
    monkeypatch.setattr(type(find()), "cache_bytes", 100_000)
    model = packaged.find("fast-x2")
    plan = make_plan(model.spec, find(), arithmetic(model))
    seen = np.zeros((height, width), int)
    for columns in strips(plan, width):
        for rows in cut(height, threads if height >= threads else 1):
            seen[rows, columns] += 1
    assert (seen == 1).all()


@pytest.mark.parametrize("engine_type", [NativeEngine, NumpyEngine])
def test_a_result_may_overlap_the_plane(engine_type):
    engine = engine_type(packaged.find("fast-x2"), precision="int8")
    lr = lr_plane((30, 40))
    expected = engine(lr)
    memory = np.zeros((60, 80), np.uint8)
    memory[:30, :40] = lr
    engine(memory[:30, :40], out=memory)
    np.testing.assert_array_equal(memory, expected)


@pytest.mark.parametrize("engine_type", [NativeEngine, NumpyEngine])
def test_a_result_that_is_read_only_is_refused(engine_type):
    engine = engine_type(packaged.find("fast-x2"), precision="int8")
    out = np.zeros((60, 80), np.uint8)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        engine(lr_plane((30, 40)), out=out)
    assert not out.any()


def printed_by(script):
    """Run Python code in a process of its own."""
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_may_continue():
    """Its worker threads do not exist there."""
    script = """
import os, numpy as np
from subpixel.engines.native.engine import NativeEngine
from subpixel.models import catalog as packaged
engine = NativeEngine(packaged.find("fast-x2"), threads=2)
lr = np.zeros((80, 80), np.uint8)
engine(lr)
child = os.fork()
if not child:
    engine(lr)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert printed_by(script) == "7"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_process_that_is_forked_while_a_kernel_is_made_may_continue():
    """The thread that makes the kernel does not exist there."""
    script = """
import os, signal, threading, time, numpy as np
from subpixel.engines.native import engine as engine_module
from subpixel.engines.native.engine import NativeEngine
from subpixel.models import catalog as packaged
begun, make = threading.Event(), engine_module.pack
def slow(*arguments):
    begun.set()
    time.sleep(0.3)
    return make(*arguments)
engine_module.pack = slow
engine = NativeEngine(packaged.find("fast-x2"))
lr = np.zeros((9, 9), np.uint8)
thread = threading.Thread(target=engine, args=(lr,))
thread.start()
begun.wait()
child = os.fork()
if not child:
    signal.alarm(60)
    engine(lr)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
"""
    assert printed_by(script) == "7"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_waits_for_compiled_color_conversion():
    """A lock that the compiling thread holds would never be released in the new process."""
    script = """
import os, signal, threading, time
from subpixel.engines.color import kernel
os.environ["SUBPIXEL_CACHE"] = "off"
begun, make = threading.Event(), kernel.target_machine
def slow(*arguments, **options):
    begun.set()
    time.sleep(0.3)
    return make(*arguments, **options)
kernel.target_machine = slow
compiled = lambda: kernel._function(("resample",), kernel.MIN_PX)
thread = threading.Thread(target=compiled)
thread.start()
begun.wait()
child = os.fork()
if not child:
    signal.alarm(10)
    os._exit(7 if compiled() else 8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
"""
    assert printed_by(script) == "7"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_waits_for_the_model_of_another_scale():
    """An upscaler compiles it at its first use, perhaps in another thread."""
    script = """
import os, signal, threading, time
from subpixel.engines import family
from subpixel.models import catalog as packaged
begun, choose = threading.Event(), family.choose
def slow(*arguments):
    begun.set()
    time.sleep(0.3)
    return choose(*arguments)
family.choose = slow
models = family.ModelFamily([packaged.find("fast-x2"), packaged.find("fast-x3")])
thread = threading.Thread(target=models.compiled, args=(2,))
thread.start()
begun.wait()
child = os.fork()
if not child:
    signal.alarm(60)
    models.compiled(3)
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
thread.join()
"""
    assert printed_by(script) == "7"


def test_black_and_white_equal_the_reference():
    model = quantized_model(espcn(2))
    for value in (0, 255):
        lr = np.full((20, 30), value, np.uint8)
        np.testing.assert_array_equal(NativeEngine(model)(lr), NumpyEngine(model, precision="int8")(lr))


def test_many_layers_are_computed():
    deep = ModelSpec(2, (Convolution(1, 4, 3), *[Convolution(4, 4, 3)] * 30, Convolution(4, 4, 3)))
    model = quantized_model(deep)
    lr = lr_plane((9, 70))
    np.testing.assert_array_equal(NativeEngine(model)(lr), NumpyEngine(model, precision="int8")(lr))


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages with Linux's mmap")
def test_an_access_out_of_bounds_is_noticed():
    assert run_script("guarded.py", find().name, "fast-x2", "overrun").returncode == -11


MEASURE = """
import numpy as np
from pathlib import Path
from subpixel.engines.native.engine import NativeEngine
from subpixel.models import catalog as packaged

def memory(line):
    return int(Path("/proc/self/status").read_text().split(line + ":")[1].split()[0]) * 1024

engine = NativeEngine(packaged.find("espcn-t91-x3"), threads=2)
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
    assert int(done.stdout) < 8e6, "rows between layers"


def test_the_environment_limits_the_target(monkeypatch):
    model = packaged.find("fast-x2")
    if runs_here(TARGETS["avx2"]):
        monkeypatch.setenv("SUBPIXEL_TARGET", "avx2")
        assert NativeEngine(model).target == "avx2"
    monkeypatch.setenv("SUBPIXEL_TARGET", "z80")
    with pytest.raises(EngineError, match="unknown target 'z80'; known: "):
        NativeEngine(model)


def test_accumulators_that_could_exceed_32_bits_are_refused():
    wide = ModelSpec(1, (Convolution(1, 900, 1), Convolution(900, 1, 9)))
    assert 900 * 81 > 2**31 // (255 * 128)
    layers = tuple(placeholder(layer) for layer in wide.layers)
    with pytest.raises(EngineError, match="layer 1 sums more than"):
        NativeEngine(replace(random_model(wide), quantized=layers))

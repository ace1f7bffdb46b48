"""Commands leave on disk only what docs/disk.md lists: results and compiled networks."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from image_files import smooth_image
from interpolating import bicubic_model
from random_models import native_runs
from subpixel.engines import onnxruntime_engine
from subpixel.engines.onnxruntime_engine import TELEMETRY_VARIABLE
from video_files import make_frames, write

KERNELS = ".cache/subpixel/kernels/"
RATES = ".cache/subpixel/rates.json"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def run(home, *arguments, **more):
    """Run a command as a new user: the home and the folder for temporary files are empty."""
    temporary = home.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    # Leave out variables such as CI, with which some libraries turn telemetry off themselves.
    environment = {
        key: os.environ[key] for key in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if key in os.environ
    }
    environment |= {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1", **more}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert files(temporary) == []
    return done


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def only_kernels(home):
    found = [name for name in files(home) if name != RATES]
    assert [name for name in found if not (name.startswith(KERNELS) and name.endswith(".kernel"))] == []
    return found


@pytest.mark.parametrize("engine", ["onnxruntime", "native", "numpy"])
def test_images_and_videos(home, tmp_path, engine):
    if engine == "native" and not native_runs():
        pytest.skip("the native engine does not run here")
    Image.fromarray(smooth_image()).save(tmp_path / "a.png")
    write(tmp_path / "b.mkv", make_frames(2))
    inputs = [tmp_path / "a.png", tmp_path / "b.mkv"]
    run(home, "-m", "subpixel", "upscale", *inputs, "-o", tmp_path / "out", "--engine", engine)
    assert files(tmp_path / "out") == ["a.png", "b.mkv"]
    assert bool(only_kernels(home)) == (engine == "native")


def test_the_cache_can_be_turned_off(home, tmp_path):
    Image.fromarray(smooth_image()).save(tmp_path / "a.png")
    arguments = ("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--engine", "auto")
    run(home, "-m", "subpixel", *arguments, SUBPIXEL_CACHE="off")
    assert files(home) == []


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "opencv"])
def test_bench_against_other_runtimes(home, tmp_path, runtime):
    module = {"opencv": "cv2"}.get(runtime, runtime)
    if find_spec(module) is None or not native_runs():
        pytest.skip(f"{module} or llvmlite is missing")
    small = ("-m", "fast-x2", "--size", "32x32", "--rounds", "1", "--threads", "1")
    arguments = ("bench", "--against", runtime, *small)
    done = run(home, "-m", "subpixel", *arguments)
    assert runtime in done.stdout
    only_kernels(home)


def test_export_and_evaluate(home, tmp_path):
    (tmp_path / "set").mkdir()
    Image.fromarray(smooth_image()).save(tmp_path / "set" / "a.png")
    bicubic_model(2).save(tmp_path / "m.safetensors")
    model = str(tmp_path / "m.safetensors")
    run(home, "-m", "subpixel", "export", model, "-o", tmp_path / "m.onnx")
    run(home, "-m", "subpixel", "evaluate", tmp_path / "set", "-m", model, "--engine", "onnxruntime")
    assert files(home) == []


def test_the_telemetry_variable_of_the_user_is_kept(monkeypatch):
    """Subpixel turns off ONNX Runtime's telemetry only if the variable is unset."""
    monkeypatch.setattr(onnxruntime_engine, "import_module", lambda name: os.environ[TELEMETRY_VARIABLE])
    monkeypatch.delenv(TELEMETRY_VARIABLE, raising=False)
    assert onnxruntime_engine.import_onnxruntime() == "1"
    monkeypatch.setenv(TELEMETRY_VARIABLE, "0")
    assert onnxruntime_engine.import_onnxruntime() == "0"


def test_openvino_is_imported_without_its_telemetry():
    if find_spec("openvino") is None:
        pytest.skip("openvino is missing")
    code = (
        "import sys; from subpixel.benchmark.runners import _import_openvino; _import_openvino();"
        "assert 'openvino_telemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_home(tmp_path):
    """Without a home, or with one that is read-only, networks are compiled in each run."""
    Image.fromarray(smooth_image()).save(tmp_path / "a.png")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    for home in (tmp_path / "none", closed):
        output = tmp_path / f"{home.name}.png"
        arguments = ("upscale", tmp_path / "a.png", "-o", output, "--engine", "auto")
        run(home, "-m", "subpixel", *arguments)
        assert Path(output).exists()

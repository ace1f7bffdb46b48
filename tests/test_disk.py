"""What runs leave on disk: the results, the compiled networks, and nothing else (docs/disk.md)."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from image_files import picture
from interpolating import bicubic_model
from random_models import halide_runs
from subpixel.engines import onnxruntime_engine
from subpixel.engines.onnxruntime_engine import TELEMETRY_VARIABLE
from video_files import pictures, write

KERNELS = ".cache/subpixel/kernels/"


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def run(home, *arguments, **more):
    """Run a program as a new user would: with a home and a folder for temporary files that are empty."""
    temporary = home.parent / "tmp"
    temporary.mkdir(exist_ok=True)
    # Continuous integration is where telemetry is off anyway, so nothing may say that this is one.
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


def kernels_alone(home):
    found = files(home)
    assert [name for name in found if not (name.startswith(KERNELS) and name.endswith(".kernel"))] == []
    return found


@pytest.mark.parametrize("engine", ["onnxruntime", "halide", "numpy"])
def test_pictures_and_films(home, tmp_path, engine):
    if engine == "halide" and not halide_runs():
        pytest.skip("the Halide engine does not run here")
    Image.fromarray(picture()).save(tmp_path / "a.png")
    write(tmp_path / "b.mkv", pictures(2))
    inputs = [tmp_path / "a.png", tmp_path / "b.mkv"]
    run(home, "-m", "subpixel", "upscale", *inputs, "-o", tmp_path / "out", "--engine", engine)
    assert files(tmp_path / "out") == ["a.png", "b.mkv"]
    assert bool(kernels_alone(home)) == (engine == "halide")


def test_the_cache_can_be_off(home, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    arguments = ("upscale", tmp_path / "a.png", "-o", tmp_path / "b.png", "--engine", "auto")
    run(home, "-m", "subpixel", *arguments, SUBPIXEL_CACHE="off")
    assert files(home) == []


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "opencv"])
def test_runtimes_to_compare_with(home, tmp_path, runtime):
    module = {"opencv": "cv2"}.get(runtime, runtime)
    if find_spec(module) is None or not halide_runs():
        pytest.skip(f"{module} or halide is missing")
    small = ("-m", "fast-x2", "--size", "32x32", "--rounds", "1", "--threads", "1")
    arguments = ("bench", "--against", runtime, *small)
    done = run(home, "-m", "subpixel", *arguments)
    assert runtime in done.stdout
    kernels_alone(home)


def test_export_and_evaluate(home, tmp_path):
    (tmp_path / "set").mkdir()
    Image.fromarray(picture()).save(tmp_path / "set" / "a.png")
    bicubic_model(2).save(tmp_path / "m.safetensors")
    model = str(tmp_path / "m.safetensors")
    run(home, "-m", "subpixel", "export", model, "-o", tmp_path / "m.onnx")
    run(home, "-m", "subpixel", "evaluate", tmp_path / "set", "-m", model, "--engine", "onnxruntime")
    assert files(home) == []


def test_only_the_default_is_ours(monkeypatch):
    """Where the user's environment says what ONNX Runtime's telemetry shall do, that counts."""
    monkeypatch.setattr(onnxruntime_engine, "import_module", lambda name: os.environ[TELEMETRY_VARIABLE])
    monkeypatch.delenv(TELEMETRY_VARIABLE, raising=False)
    assert onnxruntime_engine.import_onnxruntime() == "1"
    monkeypatch.setenv(TELEMETRY_VARIABLE, "0")
    assert onnxruntime_engine.import_onnxruntime() == "0"


def test_openvino_is_left_as_it_is_found():
    if find_spec("openvino") is None:
        pytest.skip("openvino is missing")
    code = (
        "import sys; from subpixel.benchmark.runners import _import_openvino; _import_openvino();"
        "assert 'openvino_telemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_a_home(tmp_path):
    """There, and where the home cannot be written to, networks are compiled each time."""
    Image.fromarray(picture()).save(tmp_path / "a.png")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    for home in (tmp_path / "none", closed):
        output = tmp_path / f"{home.name}.png"
        arguments = ("upscale", tmp_path / "a.png", "-o", output, "--engine", "auto")
        run(home, "-m", "subpixel", *arguments)
        assert Path(output).exists()

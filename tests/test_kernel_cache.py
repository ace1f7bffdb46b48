"""Compiled networks on disk: found again, built anew when damaged, shared by processes, never in the way."""

import hashlib
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from random_models import halide_runs
from subpixel import __version__
from subpixel.engines.halide import cache
from subpixel.engines.halide.machine import machine
from subpixel.engines.halide.plan import make_plan
from subpixel.models.spec import Convolution, ModelSpec

SMALL = ModelSpec(2, (Convolution(1, 4, 3),))


@pytest.fixture
def plan():
    return make_plan(SMALL, machine("avx2"), "fp32")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBPIXEL_CACHE", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def no_build():
    raise AssertionError("built although it was kept")


def test_what_is_built_is_kept(plan, folder):
    assert cache.kept(plan, "uint8", lambda: b"code") == b"code"
    assert cache.kept(plan, "uint8", no_build) == b"code"
    assert [path.suffix for path in folder.iterdir()] == [".kernel"]


def test_whatever_decides_the_code_is_in_the_name(plan, folder, monkeypatch):
    others = [
        (replace(plan, spec=ModelSpec(2, (Convolution(1, 4, 5),))), "uint8"),
        (make_plan(SMALL, machine("avx512"), "fp32"), "uint8"),
        (make_plan(SMALL, machine("avx2"), "int8"), "uint8"),
        (plan, "float32"),
    ]
    names = {cache.path(plan, "uint8"), *(cache.path(*other) for other in others)}
    assert len(names) == 5
    assert cache.path(plan, "uint8") == cache.path(make_plan(SMALL, machine("avx2"), "fp32"), "uint8")
    monkeypatch.setattr(cache, "_versions", lambda: ("22.0.0", "other sources"))
    assert cache.path(plan, "uint8") not in names


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:36],
        lambda content: content[:-1] + b"?",
        lambda content: bytes(32) + content[32:],
        lambda content: content + b"more",
    ],
)
def test_a_damaged_entry_is_built_anew(plan, folder, damage):
    cache.kept(plan, "uint8", lambda: b"the code")
    entry = cache.path(plan, "uint8")
    entry.write_bytes(damage(entry.read_bytes()))
    assert cache.kept(plan, "uint8", lambda: b"the code again") == b"the code again"
    assert cache.kept(plan, "uint8", no_build) == b"the code again"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_no_obstacle(plan, folder):
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert cache.kept(plan, "uint8", lambda: b"code") == b"code"


def test_a_file_in_the_folders_place_is_no_obstacle(plan, folder):
    folder.write_text("in the way")
    assert cache.kept(plan, "uint8", lambda: b"code") == b"code"
    assert folder.read_text() == "in the way"


def test_off_keeps_nothing(plan, folder, monkeypatch):
    monkeypatch.setenv("SUBPIXEL_CACHE", "off")
    built = []
    for _ in range(2):
        cache.kept(plan, "uint8", lambda: built.append(1) or b"code")
    assert len(built) == 2
    assert not folder.exists()


def test_the_users_cache_by_default(monkeypatch, tmp_path):
    monkeypatch.delenv("SUBPIXEL_CACHE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache.folder() == tmp_path / "subpixel" / "kernels"
    assert cache.folder().name == "kernels"


def test_no_home_keeps_nothing(monkeypatch):
    monkeypatch.delenv("SUBPIXEL_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *names, **options: Path(".cache/subpixel"))
    assert cache.folder() is None


def test_an_installation_without_sources(monkeypatch):
    monkeypatch.setattr(cache, "_SOURCES", ("nowhere.py",))
    cache._versions.cache_clear()
    assert cache._versions()[-1] == __version__
    cache._versions.cache_clear()


BUILD = """
import numpy as np
from random_models import random_model
from subpixel.engines.halide import HalideEngine
from subpixel.models.spec import Convolution, ModelSpec
engine = HalideEngine(random_model(ModelSpec(2, (Convolution(1, 4, 3),))))
print(engine(np.arange(35, dtype=np.uint8).reshape(5, 7) * 7).tolist())
"""


@pytest.mark.skipif(not halide_runs(), reason="the Halide engine does not run here")
def test_processes_may_build_the_same_at_once(folder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}

    def run(number):
        command = [sys.executable, "-c", BUILD]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    with ThreadPoolExecutor(4) as pool:
        outputs = set(pool.map(run, range(4)))
    assert len(outputs) == 1
    (entry,) = folder.iterdir()
    content = entry.read_bytes()
    assert hashlib.sha256(content[32:]).digest() == content[:32]


HIT = "import sys\n" + BUILD + "print('halide' in sys.modules)"


@pytest.mark.skipif(not halide_runs(), reason="the Halide engine does not run here")
def test_what_is_kept_needs_no_halide(folder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", HIT]
    loaded = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[
            -1
        ]
        for _ in range(2)
    ]
    assert loaded == ["True", "False"]


@pytest.mark.skipif(not halide_runs() or os.name != "posix", reason="the Halide engine does not run here")
def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path):
    """LLVM ends the process where it cannot write; nothing is compiled where there is no room."""
    import resource

    code = """
from subpixel.engines.halide.kernel import compile_object
from subpixel.engines.halide.machine import machine
from subpixel.engines.halide.plan import make_plan
from subpixel.errors import EngineError
from subpixel.models.networks import stack

try:
    compile_object(make_plan(stack(2, [4]), machine("avx2"), "fp32"), "uint8")
except EngineError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    assert done.stdout.startswith("a compiled network cannot be written to a temporary file"), done

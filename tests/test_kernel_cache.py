"""The cache of compiled kernels: entries are reused, rebuilt after damage, and shared by processes."""

import hashlib
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from random_models import native_runs
from subpixel import __version__
from subpixel.engines import code_cache as cache
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.native.plan import make_plan
from subpixel.engines.native.targets import TARGETS
from subpixel.models import catalog as packaged

needs_native = pytest.mark.skipif(not native_runs(), reason="the native engine does not run here")

ENTRY = "a network", "a processor"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBPIXEL_CACHE", str(tmp_path / "kernels"))
    return tmp_path / "kernels"


def no_build():
    raise AssertionError("built although it was kept")


def test_a_built_kernel_is_stored(folder):
    assert cache.load_or_build(ENTRY, lambda: b"code") == b"code"
    assert cache.load_or_build(ENTRY, no_build) == b"code"
    assert [path.suffix for path in folder.iterdir()] == [".kernel"]


def test_the_name_depends_on_everything_that_determines_the_code(folder, monkeypatch):
    def plan(name="fast-x2", target="avx2", arithmetic="maximum"):
        return make_plan(packaged.find(name).spec, TARGETS[target], [arithmetic] * 4)

    plans = [plan(), plan("fast-x3"), plan(target="avx512"), plan(target="neon"), plan(arithmetic="general")]
    names = {cache.path(plan.determining) for plan in plans}
    assert len(names) == 5
    assert cache.path(plan().determining) == cache.path(plans[0].determining)
    monkeypatch.setattr(cache, "_versions", lambda: ("22.0.0", "other sources"))
    assert cache.path(plan().determining) not in names


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
def test_a_damaged_entry_is_built_again(folder, damage):
    cache.load_or_build(ENTRY, lambda: b"the code")
    entry = cache.path(ENTRY)
    entry.write_bytes(damage(entry.read_bytes()))
    assert cache.load_or_build(ENTRY, lambda: b"the code again") == b"the code again"
    assert cache.load_or_build(ENTRY, no_build) == b"the code again"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_place_of_an_entry_does_not_block(folder):
    folder.mkdir()
    os.mkfifo(cache.path(ENTRY))
    script = (
        f"from subpixel.engines import code_cache; print(code_cache.load_or_build({ENTRY}, lambda: b'code'))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stdout.strip() == "b'code'"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_works_without_a_writable_folder(folder):
    folder.mkdir()
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    assert cache.load_or_build(ENTRY, lambda: b"code") == b"code"


def test_works_if_the_folder_is_a_file(folder):
    folder.write_text("in the way")
    assert cache.load_or_build(ENTRY, lambda: b"code") == b"code"
    assert folder.read_text() == "in the way"


def test_off_disables_the_cache(folder, monkeypatch):
    monkeypatch.setenv("SUBPIXEL_CACHE", "off")
    built = []
    for _ in range(2):
        cache.load_or_build(ENTRY, lambda: built.append(1) or b"code")
    assert len(built) == 2
    assert not folder.exists()


@needs_native
@pytest.mark.parametrize("place", ["folder", "off"])
def test_the_log_says_whether_the_result_is_kept(tmp_path, monkeypatch, caplog, place):
    monkeypatch.setenv("SUBPIXEL_CACHE", "off" if place == "off" else str(tmp_path))
    with caplog.at_level("INFO", logger="subpixel"):
        NativeEngine(packaged.find("fast-x2"))(np.zeros((5, 5), np.uint8))
    assert "compiling fast-x2 for this processor" in caplog.text
    assert ("the cache keeps the result" in caplog.text) == (place != "off")


def test_the_default_is_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("SUBPIXEL_CACHE")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache.folder() == tmp_path / "subpixel" / "kernels"
    assert cache.folder().name == "kernels"


def test_without_a_home_folder_the_cache_is_disabled(monkeypatch):
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
from subpixel.engines.native.engine import NativeEngine
from subpixel.models import catalog as packaged
engine = NativeEngine(packaged.find("fast-x2"))
print(engine(np.arange(35, dtype=np.uint8).reshape(5, 7) * 7).tolist())
"""


@needs_native
def test_processes_may_build_the_same_kernel_at_once(folder):
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


HIT = "import sys\n" + BUILD + "print('subpixel.engines.native.program' in sys.modules)"


@needs_native
def test_a_stored_kernel_needs_no_generator(folder):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", HIT]
    loaded = [
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[
            -1
        ]
        for _ in range(2)
    ]
    assert loaded == ["True", "False"]

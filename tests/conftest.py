"""Fixtures and settings that several test files need."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from browser import chromium, open_page
from interpolating import bicubic_model
from s3_server import _s3_server, s3

__all__ = ["_s3_server", "chromium", "open_page", "s3"]  # fixtures of all test files

# Some tests import ONNX Runtime before Subpixel does, which turns its telemetry off.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


settings.register_profile(
    "subpixel",
    max_examples=40,
    deadline=None,  # a busy machine is not a fault
    derandomize="CI" in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("subpixel")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="replace the images in tests/golden")


@pytest.fixture(scope="session", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of compiled networks for this run, which its processes share."""
    here = tmp_path_factory.getbasetemp()
    folder = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "kernels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBPIXEL_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def normal_priority() -> Iterator[None]:
    """No test may leave the process with real-time priority: later tests with threads would wait forever.

    As root, SVT-AV1 takes it for its caller; `subpixel.video.media.codecs.normal_scheduling` gives it back.
    """
    yield
    if hasattr(os, "sched_getscheduler"):
        assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a network that upscales x2 as bicubic interpolation does."""
    path = tmp_path_factory.mktemp("models") / "bicubic-x2.safetensors"
    bicubic_model(2).save(path)
    return str(path)


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder with Set5, Set14 and so on, which are not part of the project."""
    beside = Path(__file__).parents[2] / "shared" / "datasets"
    folder = Path(os.environ.get("SUBPIXEL_DATASETS", beside))
    if not (folder / "Set5" / "HR").is_dir():
        pytest.skip(f"no test sets at {folder}; set SUBPIXEL_DATASETS to the folder that contains Set5")
    return folder

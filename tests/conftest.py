"""What several test files need."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before any test file imports ONNX Runtime itself: its telemetry is off, as it is when Subpixel imports it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


settings.register_profile(
    "subpixel",
    max_examples=40,
    deadline=None,  # a busy machine is no fault
    derandomize="CI" in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("subpixel")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden anew (test_golden.py)")


@pytest.fixture(scope="session", autouse=True)
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Compiled networks are kept for this run alone, and shared by its processes."""
    here = tmp_path_factory.getbasetemp()
    folder = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / "kernels"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUBPIXEL_CACHE", str(folder))
        yield folder


@pytest.fixture
def helpers_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """In pictures too that are so small that the fast engine would let the caller work alone."""
    from subpixel.engines.halide import engine

    monkeypatch.setattr(engine, "LEAST_S", 0.0)


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder with Set5, Set14 and so on, which are not part of the project."""
    beside = Path(__file__).parents[2] / "shared" / "datasets"
    folder = Path(os.environ.get("SUBPIXEL_DATASETS", beside))
    if not (folder / "Set5" / "HR").is_dir():
        pytest.skip(f"no test sets at {folder}; set SUBPIXEL_DATASETS to the folder that holds Set5")
    return folder

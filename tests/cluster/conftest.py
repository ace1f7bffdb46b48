"""A cluster for all tests of this folder: three nodes of one CPU, on this machine."""

import contextlib
import importlib.util
import logging
import os
import re
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cluster_process import Cluster, running_cluster, tasks_of
from subpixel import upscale_video
from subpixel.video.pipeline.encode import SEGMENT_FRAMES
from video_files import make_frames, write

if importlib.util.find_spec("ray") is None:
    pytest.skip("the extra cluster is not installed", allow_module_level=True)


@pytest.fixture(scope="session")
def cluster(kernels: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster") / "log") as one:
        one.add()
        one.older = one.add(SUBPIXEL_TARGET="avx2")
        yield one


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 12 small images."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(12):
        coarse = generator.integers(0, 256, (12, 16, 3), np.uint8)
        large = Image.fromarray(coarse).resize((128 + number, 96), Image.Resampling.BICUBIC)
        large.save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of five segments, with sound."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write(path, make_frames(4 * SEGMENT_FRAMES + 40, 160, 120), sound="aac")
    return path


@pytest.fixture(scope="session")
def expected_film(film: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of the film's output, as made on this machine alone."""
    output = tmp_path_factory.mktemp("expected") / "large.mkv"
    upscale_video(film, output)
    return output.read_bytes()


CLIENT_FAILURE = "Starting Ray client server failed"


class RunLog(logging.Handler):
    """What the driver logs: counts what was done. It also kills processes, as soon as they begin a task."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self.done: list[str] = []
        """Each time that a file or a segment was done."""
        self.failed: list[str] = []
        self.killed = 0
        self.copied = 0
        """How often a slow task was copied."""
        self._cluster = cluster
        self._hunts: list[threading.Thread] = []
        self._stopped = threading.Event()

    def kill_process_of(self, pattern: str, times: int, signal: signal.Signals = signal.SIGKILL) -> None:
        """Kill the processes that begin a task whose name matches."""
        self._hunts.append(threading.Thread(target=self._hunt, args=(pattern, times, signal)))
        self._hunts[-1].start()

    def stop(self) -> None:
        """Kill no more."""
        self._stopped.set()
        for hunt in self._hunts:
            hunt.join()
        self._hunts.clear()
        self._stopped.clear()

    def _hunt(self, pattern: str, times: int, signal: signal.Signals) -> None:
        victims: set[int] = set()
        while len(victims) < times and not self._stopped.wait(0.005):
            for node in self._cluster.nodes:
                for pid, name in tasks_of(node).items():
                    if re.search(pattern, name) and pid not in victims and len(victims) < times:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal)
                            victims.add(pid)
                            self.killed += 1

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg.startswith("done: "):
            self.done.append(record.getMessage().removeprefix("done: "))
        elif record.msg.startswith("failed: "):
            self.failed.append(record.getMessage())
        elif record.msg.startswith("slow: "):
            self.copied += 1


@pytest.fixture(autouse=True)
def no_task_is_slow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine any task may be slow, and would be copied and done twice."""
    if "copies_slow_tasks" not in request.keywords:
        monkeypatch.setattr("subpixel.cluster.scheduler._SLOW_SECONDS", 1000.0)


@pytest.fixture
def run_log(cluster: Cluster) -> Iterator[RunLog]:
    logger, log = logging.getLogger("subpixel.cluster"), RunLog(cluster)
    logger.setLevel(logging.DEBUG)
    logger.addHandler(log)
    yield log
    log.stop()
    logger.removeHandler(log)
    logger.setLevel(logging.NOTSET)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip a test of clients outside the cluster if Ray's head node could not start its process for them."""
    try:
        return (yield)
    except Exception as error:
        if CLIENT_FAILURE in str(error):
            pytest.skip(f"Ray now and then fails: {CLIENT_FAILURE}")
        raise

"""Measure the overhead of a cluster for one film, and how many empty tasks it does: for `docs/cluster.md`.

    python benchmarks/cluster_overhead.py CLIP [--frames 2400] [--rounds 3]

CLIP is any video. Its frames, resized to 640x360 and repeated as needed, become an H.264 file. This file is
upscaled x2 by `upscale_video` with two threads, and on a cluster of two nodes with one CPU each, in turn. The
cluster has started before, and its processes have the network loaded from an earlier film. Writes
``benchmarks/results/cluster-overhead.json``.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from shared import ROOT, store
from video import make_clip

sys.path.insert(0, str(ROOT / "tests"))
import subpixel
from cluster_process import running_cluster  # type: ignore[import-not-found]  # of the tests
from subpixel.cluster.connection import connect
from subpixel.cluster.scheduler import Scheduler
from subpixel.cluster.tasks import Call, Failure, Task
from subpixel.cluster.upscale_files import upscale

EMPTY_TASKS = 1000


class Empty(Task):
    """A task that does nothing."""

    def call(self, *, is_copy: bool) -> Call:
        """See `Task.call`."""
        return Call(bool, ())


class EmptyWork:
    """Empty tasks; see `subpixel.cluster.tasks.Work`."""

    def __init__(self, count: int) -> None:
        self.left = count

    @property
    def is_pending(self) -> bool:
        """Whether there are more."""
        return self.left > 0

    def next_task(self, cpus: float) -> Empty | None:
        """Return the next one."""
        self.left -= 1
        return Empty("empty", 1) if self.left >= 0 else None

    def on_message(self, task: Any, message: Any, node: str) -> None:
        """Do nothing."""

    def on_value(self, task: Any, value: Any, node: str) -> None:
        """Do nothing."""

    def on_failure(self, task: Any, failure: Failure) -> None:
        """End the program."""
        raise SystemExit(failure.reason)

    def on_end(self, task: Any) -> None:
        """Do nothing."""

    def take_outcomes(self) -> list[None]:
        """Return none."""
        return []


def seconds_of(work: Any, *arguments: Any, **options: Any) -> float:
    started = time.perf_counter()
    work(*arguments, **options)
    return time.perf_counter() - started


def run_empty() -> None:
    list(Scheduler(EmptyWork(EMPTY_TASKS)).run())


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the overhead of a cluster.")
    parser.add_argument("clip", type=Path)
    parser.add_argument("--frames", type=int, default=2400)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    local, distributed = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        film = folder / "film.mp4"
        make_clip(options.clip, film, options.frames)
        with running_cluster(folder / "log") as cluster:
            cluster.add()
            with connect(cluster.address):
                upscale(film, folder / "warm.mkv")
                for number in range(options.rounds):
                    local.append(
                        seconds_of(subpixel.upscale_video, film, folder / f"local{number}.mkv", threads=2)
                    )
                    distributed.append(seconds_of(upscale, film, folder / f"cluster{number}.mkv"))
                    print(f"local {local[-1]:.1f} s, cluster {distributed[-1]:.1f} s", flush=True)
                    written = {(folder / f"{kind}{number}.mkv").read_bytes() for kind in ("local", "cluster")}
                    assert len(written) == 1
                empty = EMPTY_TASKS / seconds_of(run_empty)
                print(f"{empty:.0f} empty tasks a second")
    store(
        "cluster-overhead",
        {
            "frames": options.frames,
            "local_seconds": round(statistics.median(local), 2),
            "cluster_seconds": round(statistics.median(distributed), 2),
            "ratio": round(statistics.median(b / a for a, b in zip(local, distributed, strict=True)), 3),
            "empty_tasks_per_second": round(empty),
        },
    )


if __name__ == "__main__":
    main()

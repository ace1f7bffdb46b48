"""Simulate 10,000 films on 1 to 1,000 workers, from the times of recorded tasks: for `docs/cluster.md`.

    python benchmarks/cluster_simulation.py record     # a real run on two nodes; writes cluster-tasks.json
    python benchmarks/cluster_simulation.py            # the simulation; writes cluster-simulation.json

`record` upscales a few films on a cluster of two nodes with one CPU each, and stores how long their tasks and
the run took. The simulation draws from these times. It is a discrete-event simulation of the rules of the
scheduler (`subpixel.cluster`): films begin in order, ranges of segments are sized by `seconds_of_next_task`,
the driver takes one event at a time, lost tasks are submitted again, and idle workers copy slow tasks.
Storage is never too slow. The result also has the recorded run, simulated, to compare.
"""

import argparse
import heapq
import itertools
import logging
import random
import re
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from shared import ROOT, load, store

from subpixel.cluster.rate import TASK_SECONDS, seconds_of_next_task
from subpixel.cluster.scheduler import _POLL_SECONDS, _SLOW_FACTOR, _SLOW_SECONDS, _WAITING_PER_CPU
from subpixel.video.pipeline.encode import SEGMENT_FRAMES

WORKERS = (1, 2, 4, 16, 64, 250, 1000)
FILMS = 10_000
MEDIAN_FILM_SEGMENTS, FILM_SPREAD, LONGEST_FILM_SEGMENTS = 30, 1.2, 900
"""Films have a log-normal length: a median of 5 minutes at 25 frames a second, at most 2.4 hours."""

RECORDED_FRAMES = (240, 480, 720, 240, 960)


@dataclass(frozen=True)
class Times:
    """What was recorded, in seconds."""

    segments: Sequence[float]
    """Of each segment of 240 frames, on one CPU."""
    begin: float
    """The task that plans a film, without the segments."""
    join_per_segment: float
    """The task that joins a film."""
    driver: float
    """Of the driver, for each task."""


@dataclass(frozen=True)
class Faults:
    """How machines disturb the work."""

    slow_task_share: float = 0.0
    slow_task_factor: float = 1.0
    mean_seconds_to_loss: float = float("inf")
    """Of a worker."""
    seconds_to_return: float = 120.0


NONE = Faults()
FAULTY = Faults(slow_task_share=0.01, slow_task_factor=5.0, mean_seconds_to_loss=8 * 3600.0)
"""One task in 100 takes five times as long, and each worker is lost every 8 hours on average."""


@dataclass(eq=False)
class Film:
    """A film, as the driver knows it."""

    segments: list[float]
    waiting: int = 0
    """Segments to hand out. They are alike, so only their number counts."""
    running: int = 0
    begun: bool = False


@dataclass(eq=False)
class Task:
    """A task for a worker."""

    kind: str
    film: Film
    count: int
    seconds: float
    """On a worker that is not slow."""
    expected: float
    running: list["Run"] = field(default_factory=list)


@dataclass(eq=False)
class Run:
    """A worker that does a task."""

    task: Task
    worker: int
    started: float
    ends: float
    is_over: bool = False


class Simulation:
    """One run of the films on a number of workers."""

    def __init__(
        self, films: list[list[float]], workers: int, times: Times, faults: Faults, *, seed: int = 0
    ) -> None:
        """Prepare. ``films`` has the seconds of each segment of each film."""
        self._random = random.Random(seed)
        self._workers, self._times, self._faults = workers, times, faults
        self._to_begin = deque(Film(segments) for segments in films)
        self._begun: dict[Film, None] = {}
        self._to_join: deque[Film] = deque()
        self._again: deque[Task] = deque()
        self._submitted: deque[Task] = deque()
        self._idle = deque(range(workers))
        self._runs: set[Run] = set()
        self._left = sum(map(sum, films))
        self._mean = self._left / max(1, sum(map(len, films)))
        self._count, self._films_left = itertools.count(), len(films)
        self._events: list[tuple[float, int, str, Any]] = []
        self._driver_free = 0.0
        self._polls = False
        self.copies = self.lost = self.tasks = 0
        self.busy = 0.0
        for worker in range(workers):
            self._plan_loss(0.0, worker)

    def run(self) -> float:
        """Return the seconds until the last film is written."""
        now = 0.0
        self._submit(now)
        while self._films_left:
            now, _, kind, value = heapq.heappop(self._events)
            getattr(self, f"_on_{kind}")(now, value)
        return now

    # The driver

    def _at(self, when: float, kind: str, value: Any) -> None:
        heapq.heappush(self._events, (when, next(self._count), kind, value))

    def _tell_driver(self, now: float, task: Task, done: int) -> None:
        """The driver learns of the end of a task when it has settled those before."""
        self._driver_free = max(now, self._driver_free) + self._times.driver
        self._at(self._driver_free, "settled", (task, done))

    def _on_settled(self, now: float, ended: tuple[Task, int]) -> None:
        task, done = ended
        film = task.film
        if task.kind == "segments":
            film.running -= task.count
            film.waiting += task.count - done
            self._left -= done * self._mean
        elif done:
            film.begun = True
        if (task.kind == "begin" and not film.begun) or (task.kind == "join" and not done):
            self._again.append(task)
        elif task.kind == "join" or (task.kind == "begin" and task.count):
            self._films_left -= 1
            self._begun.pop(film, None)
        elif task.kind == "begin":
            film.waiting = len(film.segments)
            self._begun[film] = None
        if film.begun and film in self._begun and not film.waiting and not film.running:
            del self._begun[film]
            self._to_join.append(film)
        self._submit(now)

    def _submit(self, now: float) -> None:
        most = self._workers * (1 + _WAITING_PER_CPU)
        while len(self._submitted) + len(self._runs) < most:
            task = self._again.popleft() if self._again else self._next_task()
            if task is None:
                break
            self.tasks += 1
            self._submitted.append(task)
        self._start(now)

    def _next_task(self) -> Task | None:
        if self._to_join:
            film = self._to_join.popleft()
            seconds = self._times.join_per_segment * len(film.segments)
            return Task("join", film, 0, seconds, seconds)
        for film in self._begun:
            if film.waiting:
                wanted = TASK_SECONDS if self._to_begin else seconds_of_next_task(self._left, self._workers)
                count = min(film.waiting, max(1, round(wanted / self._mean)))
                first = len(film.segments) - film.waiting
                film.waiting -= count
                film.running += count
                seconds = sum(film.segments[first : first + count])
                return Task("segments", film, count, seconds, count * self._mean)
        if self._to_begin:
            film = self._to_begin.popleft()
            whole = len(film.segments) * self._mean <= TASK_SECONDS and len(self._to_begin) >= self._workers
            count = len(film.segments) if whole else 0
            joining = self._times.join_per_segment * count
            if whole:
                self._left -= sum(film.segments)
            seconds = self._times.begin + sum(film.segments[:count]) + joining
            return Task("begin", film, count, seconds, seconds)
        return None

    # The workers

    def _start(self, now: float) -> None:
        while self._idle and self._submitted:
            self._run_task(now, self._submitted.popleft())
        if self._idle and not self._polls:
            self._polls = True
            self._at(now + _POLL_SECONDS, "poll", None)

    def _run_task(self, now: float, task: Task) -> None:
        slow = self._random.random() < self._faults.slow_task_share
        seconds = task.seconds * (self._faults.slow_task_factor if slow else 1.0)
        run = Run(task, self._idle.popleft(), now, now + seconds)
        self._runs.add(run)
        task.running.append(run)
        self._at(run.ends, "end", run)

    def _on_end(self, now: float, run: Run) -> None:
        if run.is_over:
            return
        for each in list(run.task.running):  # copies are canceled
            self._release(now, each)
        self._tell_driver(now, run.task, max(1, run.task.count))
        self._start(now)

    def _release(self, now: float, run: Run) -> None:
        run.is_over = True
        self._runs.discard(run)
        run.task.running.remove(run)
        self.busy += now - run.started
        self._idle.append(run.worker)

    def _on_poll(self, now: float, _: None) -> None:
        """Copy the task that will take longest, if workers are idle and nothing waits."""
        self._polls = False
        if not self._idle or self._submitted or self._again:
            return
        slow = [
            (run.ends - now, run.worker, run.task)
            for run in self._runs
            if len(run.task.running) == 1
            and now - run.started >= max(_SLOW_FACTOR * run.task.expected, _SLOW_SECONDS)
            and run.ends - now > run.task.expected / 2
        ]
        if slow:
            self.copies += 1
            self._run_task(now, max(slow)[2])
        if self._runs and self._idle:
            self._polls = True
            self._at(now + _POLL_SECONDS, "poll", None)

    def _plan_loss(self, now: float, worker: int) -> None:
        if self._faults.mean_seconds_to_loss != float("inf"):
            wait = self._random.expovariate(1 / self._faults.mean_seconds_to_loss)
            self._at(now + wait, "loss", worker)

    def _on_loss(self, now: float, worker: int) -> None:
        self.lost += 1
        for run in [run for run in self._runs if run.worker == worker]:
            share = (now - run.started) / (run.ends - run.started)
            self._release(now, run)
            if not run.task.running:
                done = int(share * run.task.count) if run.task.kind == "segments" else 0
                self._tell_driver(now, run.task, done)
        if worker in self._idle:
            self._idle.remove(worker)
        self._at(now + self._faults.seconds_to_return, "back", worker)

    def _on_back(self, now: float, worker: int) -> None:
        self._idle.append(worker)
        self._plan_loss(now, worker)
        self._submit(now)


def draw_films(times: Times, count: int, seed: int = 0) -> list[list[float]]:
    """Draw the lengths of films, and the seconds of their segments."""
    chance = random.Random(seed)
    films = []
    for _ in range(count):
        length = MEDIAN_FILM_SEGMENTS * chance.lognormvariate(0, FILM_SPREAD)
        segments = min(LONGEST_FILM_SEGMENTS, max(1, round(length)))
        films.append(chance.choices(times.segments, k=segments))
    return films


def simulate(times: Times, counts: Sequence[int], films: int) -> list[dict[str, Any]]:
    """Simulate all films on each number of workers."""
    drawn = draw_films(times, films)
    alone = sum(times.begin + sum(film) + times.join_per_segment * len(film) for film in drawn)
    rows = []
    for workers in counts:
        row: dict[str, Any] = {"workers": workers}
        for name, faults in (("undisturbed", NONE), ("disturbed", FAULTY)):
            simulation = Simulation(drawn, workers, times, faults)
            seconds = simulation.run()
            row[name] = {
                "hours": round(seconds / 3600, 3),
                "speedup": round(alone / seconds, 2),
                "tasks": simulation.tasks,
                "copies": simulation.copies,
                "losses": simulation.lost,
            }
        print(row, flush=True)
        rows.append(row)
    return rows


# Recording


class _Log(logging.Handler):
    """Keeps when tasks start and end, from the scheduler's log."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.names: dict[int, str] = {}
        self.started: dict[int, float] = {}
        self.seconds: dict[int, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Take a message of the scheduler."""
        found = re.match(r"attempt (\d+): (start of|started|done)(.*)", record.getMessage())
        if not found:
            return
        number = int(found[1])
        if found[2] == "start of":
            self.names[number] = found[3]
        elif found[2] == "started":
            self.started[number] = record.created
        elif number in self.started:
            self.seconds[number] = record.created - self.started[number]


def record() -> None:
    """Upscale a few films on two nodes, and store the times of the tasks."""
    sys.path.insert(0, str(ROOT / "tests"))
    from cluster_process import running_cluster  # type: ignore[import-not-found]  # of the tests
    from subpixel.cluster.connection import connect
    from subpixel.cluster.upscale_files import upscale
    from video_files import make_frames, write  # type: ignore[import-not-found]

    log = _Log()
    logger = logging.getLogger("subpixel.cluster")
    logger.addHandler(log)
    logger.setLevel(logging.DEBUG)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = [folder / f"film{number}.mp4" for number in range(len(RECORDED_FRAMES))]
        for film, count in zip(films, RECORDED_FRAMES, strict=True):
            write(film, make_frames(count, 320, 180), time_base=Fraction(1, 25))
        with running_cluster(folder / "log") as cluster:
            cluster.add()
            with connect(cluster.address):
                upscale(films[0], folder / "first.mkv", address=cluster.address, scale=2, threads=1)
                log.seconds.clear()
                began = time.perf_counter()
                upscale(films, folder / "large", address=cluster.address, scale=2, threads=1)
                seconds = time.perf_counter() - began
    store("cluster-tasks", {**_recorded(log), "frames": RECORDED_FRAMES, "workers": 2, "seconds": seconds})


def _recorded(log: _Log) -> dict[str, Any]:
    """Divide what tasks took among segments, beginnings and joins."""
    tasks: dict[str, list[float]] = {"beginning": [], "joining": []}
    segments: list[float] = []
    joined = {
        log.names[number].rpartition(" (")[0] for number in log.seconds if "(joining" in log.names[number]
    }
    for number, seconds in log.seconds.items():
        film, _, what = log.names[number].rpartition(" (")
        if found := re.match(r"segment (\d+)(?: to (\d+))?", what):
            count = int(found[2] or found[1]) - int(found[1]) + 1
            segments += [round(seconds / count, 3)] * count
        elif film in joined:  # not a film that its first task did as a whole
            tasks["beginning" if "beginning" in what else "joining"].append(round(seconds, 3))
    return {"segments": segments, **tasks}


def times_of(recorded: dict[str, Any]) -> Times:
    """Summarize what was recorded; the driver's time is that of the empty tasks of `cluster_overhead.py`."""
    return Times(
        recorded["segments"],
        statistics.median(recorded["beginning"]),
        sum(recorded["joining"]) / len(recorded["segments"]),
        1 / load("cluster-overhead")["empty_tasks_per_second"],
    )


def compare(recorded: dict[str, Any], times: Times) -> dict[str, float]:
    """Simulate the recorded run."""
    mean = statistics.mean(times.segments)
    films = [[mean] * (frames // SEGMENT_FRAMES) for frames in recorded["frames"]]
    seconds = Simulation(films, recorded["workers"], times, NONE).run()
    return {"measured_seconds": round(recorded["seconds"], 2), "simulated_seconds": round(seconds, 2)}


def main() -> None:
    """Record, or simulate."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("record", "simulate"), default="simulate")
    parser.add_argument("--films", type=int, default=FILMS)
    arguments = parser.parse_args()
    if arguments.what == "record":
        record()
        return
    recorded = load("cluster-tasks")
    times = times_of(recorded)
    result = {
        "films": arguments.films,
        "faults": asdict(FAULTY),
        "segment_seconds": round(statistics.mean(times.segments), 2),
        "recorded_run": compare(recorded, times),
        "rows": simulate(times, WORKERS, arguments.films),
    }
    store("cluster-simulation", result)


if __name__ == "__main__":
    main()

"""How long this machine took in earlier runs of `subpixel upscale`, for the estimates of ``--dry-run``.

A file in the user's cache folder has the seconds per megapixel of output, for each model, engine, precision
and output format. Small images take longer per pixel, so there is a rate for each power of two of the size.
"""

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from subpixel.batch import Job
from subpixel.errors import OutputError
from subpixel.files import write_atomically
from subpixel.results import ImageResult, Preview, VideoResult

_FILE = "rates.json"
_MAX_KEYS = 300


_Seen = defaultdict[tuple[str, str], list[float]]
"""Seconds per megapixel, by the key of a work and the class of its size."""


class Work(NamedTuple):
    """What a job computes."""

    key: str
    """Everything besides the size that affects the time."""
    pixels: int
    """Of a frame of the output."""
    frames: int


def work_of(job: Job, result: ImageResult | VideoResult | Preview, preset: str | None) -> Work | None:
    """Return the work of a job; None if the number of frames is not known, or nothing is left to do."""
    codec = "" if isinstance(result, ImageResult) else result.codec
    parts = [result.model, result.engine, result.precision, result.target, result.threads]
    parts += [job.output.suffix.lower(), codec, preset or ""]
    frames = result.frames
    if isinstance(result, VideoResult):
        frames = result.frames - result.resumed_frames
    return Work(" ".join(map(str, parts)), result.width * result.height, frames) if frames else None


class Compilations:
    """When networks were compiled in this run, which does not count as work on a file."""

    def __init__(self) -> None:
        self._spans: list[list[float]] = []

    def begin(self) -> None:
        """Note that a compilation begins."""
        self._spans.append([time.perf_counter(), math.inf])

    def end(self) -> None:
        """Note that the compilations have ended that had begun."""
        for span in self._spans:
            span[1] = min(span[1], time.perf_counter())

    def seconds_in(self, start: float, end: float) -> float:
        """Return how long networks were compiled between two values of `time.perf_counter`."""
        covered, until = 0.0, start
        for begin, stop in sorted(self._spans):
            covered += max(0.0, min(stop, end) - max(begin, until))
            until = max(until, min(stop, end))
        return covered


class Rates:
    """The rates of earlier runs, and the times of this one."""

    def __init__(self, compilations: Compilations | None = None) -> None:
        self._compilations = compilations or Compilations()
        self._rates = _read()
        self._seen: _Seen = defaultdict(list)
        self._images_seen: _Seen = defaultdict(list)
        self._image_seconds = self._wall_seconds = 0.0

    def add(self, job: Job, result: ImageResult | VideoResult, preset: str | None) -> None:
        """Add the time of a job that has just finished."""
        work = work_of(job, result, preset)
        now = time.perf_counter()
        seconds = result.seconds - self._compilations.seconds_in(now - result.seconds, now)
        if isinstance(result, ImageResult):
            self._image_seconds += seconds
        if work is not None and seconds > 0:
            per_megapixel = seconds * 1e6 / (work.pixels * work.frames)
            seen = self._images_seen if isinstance(result, ImageResult) else self._seen
            seen[work.key, _size_class(work.pixels)].append(per_megapixel)

    @contextmanager
    def timing_images(self) -> Iterator[None]:
        """Measure the time in which images are upscaled, several at once, in the body."""
        started = time.perf_counter()
        yield
        ended = time.perf_counter()
        self._wall_seconds += ended - started - self._compilations.seconds_in(started, ended)

    def estimate(self, work: Work | None) -> float | None:
        """Return about how many seconds a job takes; None if no earlier run tells."""
        rates = self._rates.get(work.key) if work else None
        if work is None or not rates:
            return None
        wanted = int(_size_class(work.pixels))
        nearest = min(rates, key=lambda size: abs(int(size) - wanted))
        return rates[nearest] * work.pixels * work.frames / 1e6

    def save(self) -> None:
        """Write the rates of this run to the cache, if there is one."""
        file = _file()
        if file is None or not (self._seen or self._images_seen):
            return
        # Images that run at once slow each other down: what counts is what each adds to the time of the run.
        share = min(1.0, self._wall_seconds / self._image_seconds) if self._image_seconds else 1.0
        images = {name: [share * each for each in seen] for name, seen in self._images_seen.items()}
        rates = _read()  # another process may have changed them
        for (key, size), seen in {**self._seen, **images}.items():
            known = rates.pop(key, {})
            known[size] = round(median(seen), 6)
            rates[key] = known  # the last ones are kept
        newest = dict([*rates.items()][-_MAX_KEYS:])
        try:
            with write_atomically(file, overwrite=True) as part:
                part.write_text(json.dumps(newest, indent=1), encoding="utf-8")
        except OutputError:
            pass  # an estimate is missing next time


def _size_class(pixels: int) -> str:
    return str(max(1, pixels).bit_length())


def _file() -> Path | None:
    from subpixel.engines.code_cache import FOLDER_VARIABLE, folder

    cache = folder()
    if cache is None:
        return None
    return (cache if os.environ.get(FOLDER_VARIABLE) else cache.parent) / _FILE


def _read() -> dict[str, dict[str, float]]:
    """Return the stored rates; none if there are none, or they are damaged."""
    file = _file()
    try:
        stored = json.loads(file.read_bytes()) if file else {}
        return {
            str(key): {str(int(size)): float(rate) for size, rate in rates.items() if rate > 0}
            for key, rates in stored.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}

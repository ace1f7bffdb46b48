"""The measurement: every runner in turn, round after round, so that a busy moment meets all alike."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.benchmark.peak import Peak
from subpixel.benchmark.runners import Runner
from subpixel.engines.base import Engine
from subpixel.engines.select import available_cpus
from subpixel.errors import EngineError
from subpixel.models.model import Model

MOST_OFF_LEVELS = {"fp32": 0.5, "int8": 6.0}
"""Beyond this it is another network."""

SETTLE_SECONDS = 0.02
"""Before each turn, for the threads of the runner before to stop waiting for more work, as some do busily."""


@dataclass(frozen=True)
class Timing:
    """How long one runner took."""

    runner: str
    precision: str
    median_ms: float
    min_ms: float
    max_ms: float
    version: str
    off_levels: float
    """How far its result is from our engine's in the same precision, of 255 levels, on average: 0.25 is what
    our rounding to 8 bits comes to. Runtimes whose 8-bit products saturate (without VNNI) have more."""
    share_of_peak: float | None
    """The network's multiply-adds in the median time, over the most that the cores did in the same run and
    precision; None where no peak was measured for the precision."""


@dataclass(frozen=True)
class Benchmark:
    """All runners on one network and size."""

    machine: str
    model: str
    scale: int
    size: str
    """Of the input, such as 640x360."""
    threads: int
    rounds: int
    peak_gmacs: dict[str, float]
    """Multiply-adds a second that the cores can do, in 10^9, by precision."""
    results: tuple[Timing, ...]

    def to_json(self) -> dict[str, Any]:
        """One JSON-ready object."""
        return asdict(self)


def measure(
    model: Model,
    plane: NDArray[np.uint8],
    runners: Sequence[Runner],
    peaks: Sequence[Peak],
    *,
    threads: int,
    rounds: int,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Benchmark:
    """Time runners on one plane.

    Raises `EngineError` when two runners of one precision disagree: then they do not run the same network.
    """
    off_levels = compare(runners, border_px=model.spec.halo_px * model.scale)
    seconds: list[list[float]] = [[] for _ in runners]
    rates: list[list[float]] = [[] for _ in peaks]
    for turn in range(rounds):
        for runner, times in zip(runners, seconds, strict=True):
            time.sleep(SETTLE_SECONDS)
            runner.call()  # brings its threads and its memory back; not timed
            started = time.perf_counter()
            runner.call()
            times.append(time.perf_counter() - started)
        for peak, found in zip(peaks, rates, strict=True):
            time.sleep(SETTLE_SECONDS)
            peak.run()  # as with runners: some threads of theirs wait busily for longer than that
            found.append(peak.run())
        progress((turn + 1) / rounds)
    best = {peak.precision: max(found) for peak, found in zip(peaks, rates, strict=True)}
    height, width = plane.shape
    work = model.spec.macs_per_lr_pixel * height * width
    results = []
    for runner, times, off in zip(runners, seconds, off_levels, strict=True):
        share = work / median(times) / best[runner.precision] if runner.precision in best else None
        results.append(
            Timing(
                runner.name,
                runner.precision,
                round(1000 * median(times), 3),
                round(1000 * min(times), 3),
                round(1000 * max(times), 3),
                runner.version,
                round(off, 3),
                None if share is None else round(share, 3),
            )
        )
    return Benchmark(
        machine_name(),
        model.name,
        model.scale,
        f"{width}x{height}",
        threads,
        rounds,
        {precision: round(rate / 1e9, 1) for precision, rate in best.items()},
        tuple(results),
    )


def compare(runners: Sequence[Runner], border_px: int) -> list[float]:
    """Let each runner work once; how far each is from the first of its precision, in levels on average.

    The border is left out: see `quantized_graph`.

    Raises `EngineError` when one is so far off that it cannot be running the same network.
    """
    first: dict[str, tuple[Runner, NDArray[np.float32]]] = {}
    result = []
    for runner in runners:
        hr = runner.result(runner.call()).clip(0, 1)
        height, width = hr.shape
        inside = hr[border_px : height - border_px, border_px : width - border_px]
        reference, expected = first.setdefault(runner.precision, (runner, inside.copy()))
        off = 255 * float(np.abs(inside - expected).mean()) if inside.size else 0.0
        if not off <= MOST_OFF_LEVELS[runner.precision]:  # worded so that NaN is caught
            raise EngineError(
                f"{runner.name} and {reference.name} disagree in {runner.precision}, by {off:.2f} levels of "
                "255 on average: the times would not be of the same network"
            )
        result.append(off)
    return result


def machine_name() -> str:
    """Processor, and how many CPUs of it this process may use."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {available_cpus()} CPUs, {platform.system()}"


def medians_in_turn_ms(
    engines: Mapping[str, Engine], shape: tuple[int, int], rounds: int
) -> dict[str, float]:
    """Median time in ms of each engine for an 8-bit plane of noise, ``(H, W)``, all engines in turn.

    Each works once untimed before: after another one it finds its rows out of the cache.
    """
    plane = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            engine(plane)
            started = time.perf_counter()
            engine(plane)
            times[name].append((time.perf_counter() - started) * 1000)
    return {name: median(spent) for name, spent in times.items()}

"""Times all runners in turn, round after round, so that other load on the machine affects all alike."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.arguments import check_callables
from subpixel.benchmark.peak import Peak
from subpixel.benchmark.runners import Runner
from subpixel.engines.base import Engine
from subpixel.engines.select import available_cpus
from subpixel.errors import EngineError
from subpixel.models.model import Model

MAX_MEAN_DIFFERENCE = {"fp32": 0.5, "int8": 6.0}
"""Limits on `Timing.off_levels`, by precision. Runners that differ more do not run the same network."""

SETTLE_SECONDS = 0.02
"""Pause before each call, until the threads of the previous runner stop polling for work."""


@dataclass(frozen=True)
class Timing:
    """The times of one runner."""

    runner: str
    precision: str
    median_ms: float
    min_ms: float
    max_ms: float
    version: str
    off_levels: float
    """Mean absolute difference from the result of Subpixel's engine in the same precision, on a scale of 0 to
    255. Subpixel rounds its result to 8 bits, which alone makes 0.25. Runtimes whose 8-bit products saturate
    (without VNNI) have more."""
    share_of_peak: float | None
    """Multiply-adds per second of the network, in the median time, divided by the peak of the same run and
    precision; None if no peak was measured for the precision."""


@dataclass(frozen=True)
class Benchmark:
    """The times of all runners on one network and input size."""

    machine: str
    model: str
    scale: int
    size: str
    """Size of the input, such as 640x360."""
    threads: int
    rounds: int
    peak_gmacs: dict[str, float]
    """Peak of the processor in 10^9 multiply-adds per second, by precision."""
    results: tuple[Timing, ...]

    def to_json(self) -> dict[str, Any]:
        """An object for `json.dumps`."""
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
    """Time runners on one plane, each ``rounds`` times.

    Args:
        model: the network of all runners.
        plane: the input of all runners, ``(H, W)`` uint8.
        runners: what to time; the first one of each precision is the reference for the results.
        peaks: measured in the same rounds, at most one for each precision.
        threads: the number of threads that runners and peaks were made for.
        rounds: how often each is timed.
        progress: called after each round with the fraction of rounds done.

    Raises:
        EngineError: the results of two runners of one precision differ too much to be of the same network.
    """
    check_callables(progress=progress)
    off_levels = compare(runners, border_px=model.spec.halo_px * model.scale)
    seconds, rates = _run_in_turn(runners, peaks, rounds, progress)
    best = {peak.precision: max(of_peak) for peak, of_peak in zip(peaks, rates, strict=True)}
    height, width = plane.shape
    macs = model.spec.macs_per_lr_pixel * height * width
    results = []
    for runner, times, off in zip(runners, seconds, off_levels, strict=True):
        share = macs / median(times) / best[runner.precision] if runner.precision in best else None
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


def _run_in_turn(
    runners: Sequence[Runner], peaks: Sequence[Peak], rounds: int, progress: Callable[[float], None]
) -> tuple[list[list[float]], list[list[float]]]:
    """Seconds of each runner, and multiply-adds per second of each peak, in each round."""
    seconds: list[list[float]] = [[] for _ in runners]
    rates: list[list[float]] = [[] for _ in peaks]
    for number in range(rounds):
        for runner, times in zip(runners, seconds, strict=True):
            time.sleep(SETTLE_SECONDS)
            runner.call()  # untimed: wakes its threads, and brings its memory back into the cache
            started = time.perf_counter()
            runner.call()
            times.append(time.perf_counter() - started)
        for peak, of_peak in zip(peaks, rates, strict=True):
            time.sleep(SETTLE_SECONDS)
            peak.run()  # untimed, as for runners: some of their threads poll for longer than the pause
            of_peak.append(peak.run())
        progress((number + 1) / rounds)
    return seconds, rates


def compare(runners: Sequence[Runner], border_px: int) -> list[float]:
    """Run each runner once, and compare its result with that of the first runner of the same precision.

    A border of ``border_px`` HR pixels is left out, because runtimes pad differently (see `quantized_graph`).

    Returns:
        The mean absolute difference for each runner, on a scale of 0 to 255.

    Raises:
        EngineError: a difference is above `MAX_MEAN_DIFFERENCE`.
    """
    first: dict[str, tuple[Runner, NDArray[np.float32]]] = {}
    result = []
    for runner in runners:
        hr = runner.result(runner.call()).clip(0, 1)
        height, width = hr.shape
        inside = hr[border_px : height - border_px, border_px : width - border_px]
        reference, expected = first.setdefault(runner.precision, (runner, inside.copy()))
        off = 255 * float(np.abs(inside - expected).mean()) if inside.size else 0.0
        if not off <= MAX_MEAN_DIFFERENCE[runner.precision]:  # so that NaN is an error too
            raise EngineError(
                f"{runner.name} and {reference.name} disagree in {runner.precision}, by {off:.2f} of 255 on "
                f"average: they do not run the same network; leave out {runner.name}"
            )
        result.append(off)
    return result


def machine_name() -> str:
    """Name of the processor, number of CPUs that this process may use, and operating system."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name}, {available_cpus()} CPUs, {platform.system()}"


def median_times_ms(engines: Mapping[str, Engine], shape: tuple[int, int], rounds: int) -> dict[str, float]:
    """Time engines in turn on an 8-bit plane of noise of shape ``(H, W)``. Returns medians in ms.

    An untimed call precedes each timed one, because the previous engine has replaced the cache's contents.
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

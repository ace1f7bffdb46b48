"""What every packaged model costs: its time beside the paper's ESPCN of the same scale, in the same run.

    python benchmarks/models.py [--rounds 15]

Every model enlarges a 640x360 plane in int8 on the engine `halide`, in turn with all others of its scale; so
do `fast` for x2 at 1920x1080 and `default` for x4 at 960x540, which become 3840x2160. Writes
``benchmarks/results/models-KIND.json`` for this kind of processor, which `docs/models.md` prints.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from subpixel.benchmark.measure import machine_name
from subpixel.engines.halide import HalideEngine
from subpixel.engines.halide.machine import host_kind
from subpixel.engines.select import available_cpus
from subpixel.networks import packaged

ROOT = Path(__file__).parents[1]
TO_2160P = (("fast-x2", (1080, 1920)), ("default-x4", (540, 960)))


def medians_ms(engines: dict[str, HalideEngine], shape: tuple[int, int], rounds: int) -> dict[str, float]:
    """Of each engine's time for a plane of noise, all in turn."""
    plane = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, engine in engines.items():
            engine(plane)  # the first after another one finds its rows out of the cache
            started = time.perf_counter()
            engine(plane)
            times[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(spent) for name, spent in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    threads = available_cpus()
    engines = {
        name: HalideEngine(packaged.find(name), precision="int8", threads=threads)
        for name in packaged.names()
    }
    rows = []
    for scale in (2, 3, 4):
        of_scale = {name: engine for name, engine in engines.items() if engine.model.scale == scale}
        medians = medians_ms(of_scale, (360, 640), rounds)
        espcn = medians[f"espcn-t91-x{scale}"]
        for name, median in sorted(medians.items(), key=lambda pair: pair[1]):
            description = engines[name].model.description
            rows.append(
                {
                    "model": name,
                    "parameters": description.parameters,
                    "macs_per_lr_pixel": description.macs_per_lr_pixel,
                    "ms": round(median, 2),
                    "of_espcn": round(median / espcn, 2),
                }
            )
            print(rows[-1], flush=True)
    to_2160p = {
        name: round(1000 / medians_ms({name: engines[name]}, shape, rounds)[name], 1)
        for name, shape in TO_2160P
        if name in engines
    }
    stored = {
        "machine": machine_name(),
        "kind": host_kind(),
        "threads": threads,
        "640x360": rows,
        "frames_per_second_to_3840x2160": to_2160p,
    }
    path = ROOT / "benchmarks" / "results" / f"models-{host_kind()}.json"
    path.write_text(json.dumps(stored, indent=2) + "\n")
    print(to_2160p)


if __name__ == "__main__":
    main()

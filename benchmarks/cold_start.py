"""Measure how long the command takes for one small image, in the first run and in later ones.

    python benchmarks/cold_start.py [--rounds 7]

CPU and wall time of whole processes of `subpixel upscale` on a 200x120 PNG, x3, with the default model and
engine: first with an empty cache of compiled networks, then with the cache of that run. Python's bytecode is
cached, as after an installation. Within this process, CPU time to compile and to load the int8 network.
Writes ``benchmarks/results/cold-start-KIND.json`` for this kind of processor, for `docs/engine.md`.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from shared import host_kind, store

from subpixel.engines.native.engine import NativeEngine
from subpixel.models import catalog as packaged

MODEL = "default-x3"


def command_seconds(image: Path, output: Path, cache: Path) -> tuple[float, float]:
    """CPU and wall time of a run of the command."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "subpixel", "upscale", str(image), "-o", str(output), "-s", "3"]
    environment = os.environ | {
        "SUBPIXEL_CACHE": str(cache),
        "PYTHONPYCACHEPREFIX": str(image.parent / "pyc"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else each run would compile all our sources
    subprocess.run([*command, "--overwrite"], env=environment, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.perf_counter() - started


def network_seconds(cache: str) -> float:
    """CPU time until the network is ready, with this cache, or without one (``"off"``)."""
    os.environ["SUBPIXEL_CACHE"] = cache
    started = time.process_time()
    NativeEngine(packaged.find(MODEL))(np.zeros((1, 1), np.uint8))
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    names = ("first", "first_wall", "afterwards", "afterwards_wall", "compile", "load")
    times: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        image, output = Path(folder) / "in.png", Path(folder) / "out.png"
        noise = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
        Image.fromarray(noise).resize((200, 120), Image.Resampling.BICUBIC).save(image)
        command_seconds(image, output, Path(folder) / "warm")  # fills Python's own caches
        network_seconds("off")
        for number in range(rounds):
            cache = Path(folder) / str(number)
            for name in ("first", "afterwards"):
                cpu, wall = command_seconds(image, output, cache)
                times[name].append(cpu)
                times[f"{name}_wall"].append(wall)
            times["compile"].append(network_seconds("off"))
            network_seconds(str(cache))
            times["load"].append(network_seconds(str(cache)))
    stored = {
        "kind": host_kind(),
        "rounds": rounds,
        "median_seconds": {name: round(statistics.median(spent), 3) for name, spent in times.items()},
        "min_seconds": {name: round(min(spent), 3) for name, spent in times.items()},
    }
    print(stored)
    store(f"cold-start-{host_kind()}", stored)


if __name__ == "__main__":
    main()

"""How long the command takes for one picture, the first time and afterwards: figures of `docs/engine.md`.

    python benchmarks/cold_start.py [--rounds 7]

`subpixel upscale` of one 640x360 PNG, x3, as a whole process: as it chooses by itself; and with the engine
`halide` and ESPCN, with an empty folder for compiled networks, and again with what the first run left there,
in turn; and within a process, compiling and loading the kernel that this needs, and compiling that of
`default`. Writes
``benchmarks/results/cold-start-KIND.json`` for this kind of processor.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from shared import store

from subpixel.engines.halide import HalideEngine
from subpixel.engines.halide.machine import host_kind
from subpixel.models import catalog as packaged

HALIDE = ("-m", "espcn-t91-x3", "--engine", "halide")


def command_seconds(picture: Path, output: Path, cache: Path, *options: str) -> float:
    started = time.perf_counter()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "subpixel",
            "upscale",
            str(picture),
            "-o",
            str(output),
            "--overwrite",
            *options,
        ],
        env=os.environ | {"SUBPIXEL_CACHE": str(cache)},
        check=True,
    )
    return time.perf_counter() - started


def kernel_seconds(name: str, cache: str) -> float:
    """Until a model's int8 kernel is ready, from this cache or, with "off", from none."""
    os.environ["SUBPIXEL_CACHE"] = cache
    engine = HalideEngine(packaged.find(name), precision="int8")
    started = time.perf_counter()
    engine._kernel("uint8")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    times: dict[str, list[float]] = {
        "by default": [],
        "first": [],
        "afterwards": [],
        "compile": [],
        "load": [],
        "compile default": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        picture, output = Path(folder) / "in.png", Path(folder) / "out.png"
        noise = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
        Image.fromarray(noise).resize((640, 360), Image.Resampling.BICUBIC).save(picture)
        command_seconds(picture, output, Path(folder) / "warm", *HALIDE)  # Python's own caches
        for number in range(rounds):
            cache = Path(folder) / str(number)
            times["by default"].append(command_seconds(picture, output, cache, "-s", "3"))
            times["first"].append(command_seconds(picture, output, cache, *HALIDE))
            times["afterwards"].append(command_seconds(picture, output, cache, *HALIDE))
            times["compile"].append(kernel_seconds("espcn-t91-x3", "off"))
            kernel_seconds("espcn-t91-x3", str(cache))
            times["load"].append(kernel_seconds("espcn-t91-x3", str(cache)))
            times["compile default"].append(kernel_seconds("default-x3", "off"))
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

"""Measure how busy `subpixel upscale` keeps the CPUs on a folder of photographs, with nothing else running.

    python benchmarks/folder.py --datasets ../shared/datasets [--images 200] [--rounds 3]

The photographs are those of BSD500, resized to 1 megapixel and stored as JPEG. `subpixel upscale FOLDER -o
OUT -s 2` makes larger JPEGs of them. The busy share is CPU time / (CPUs * time), over the whole command: its
start is included. Writes ``benchmarks/results/folder-KIND.json`` for this kind of processor.

Also prints the share of the CPUs that other programs used. If it is not near 0, only the CPU time for each
image means something.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from shared import children_cpu_seconds, host_kind, machine_cpu_seconds, store

from subpixel.engines.select import available_cpus

SIZES = (1224, 816), (816, 1224)
"""1 megapixel, in the two shapes of the photographs."""

SCALE, QUALITY = 2, 90


class Run(NamedTuple):
    """One run of the command, in seconds."""

    wall: float
    cpu: float
    others: float
    """CPU time of all other programs meanwhile."""


def make_folder(photographs: list[Path], folder: Path) -> None:
    for number, path in enumerate(photographs):
        with Image.open(path) as photograph:
            size = SIZES[photograph.height > photograph.width]
            large = photograph.convert("RGB").resize(size, Image.Resampling.BICUBIC)
        large.save(folder / f"{number:03}.jpg", quality=QUALITY)


def upscale(folder: Path) -> Run:
    with tempfile.TemporaryDirectory() as output:
        command = ["upscale", str(folder), "-o", output, "-s", str(SCALE), "--progress", "none"]
        machine, cpu, started = machine_cpu_seconds(), children_cpu_seconds(), time.perf_counter()
        subprocess.run([sys.executable, "-m", "subpixel", *command], check=True, stdout=subprocess.DEVNULL)
        wall = time.perf_counter() - started
        cpu = children_cpu_seconds() - cpu
        return Run(wall, cpu, max(0.0, machine_cpu_seconds() - machine - cpu))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, required=True)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    photographs = sorted((options.datasets / "BSDS500").rglob("*.jpg"))[: options.images]
    cpus = available_cpus()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        make_folder(photographs, Path(folder))
        with tempfile.TemporaryDirectory() as first:
            make_folder(photographs[:2], Path(first))
            upscale(Path(first))  # compiles the network, which is then cached
        for _ in range(options.rounds):
            runs.append(upscale(Path(folder)))
            print({name: round(value, 2) for name, value in runs[-1]._asdict().items()}, flush=True)
    result = {
        "kind": host_kind(),
        "threads": cpus,
        "images": len(photographs),
        "megapixels": round(SIZES[0][0] * SIZES[0][1] / 1e6, 2),
        "scale": SCALE,
        "wall_seconds": round(statistics.median(run.wall for run in runs), 2),
        "cpu_seconds_per_image": round(statistics.median(run.cpu for run in runs) / len(photographs), 4),
        "images_per_second": round(len(photographs) / statistics.median(run.wall for run in runs), 1),
        "busy_share": round(statistics.median(run.cpu / run.wall for run in runs) / cpus, 3),
        "busy_share_of_others": round(statistics.median(run.others / run.wall for run in runs) / cpus, 3),
    }
    print(result)
    store(f"folder-{host_kind()}", result)


if __name__ == "__main__":
    main()

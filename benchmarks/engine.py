"""Time the fast engine beside other runtimes, by scale, threads and size: for `docs/engine.md`.

    python benchmarks/engine.py [--rounds 15]

Writes ``benchmarks/results/engine-KIND.json`` for this kind of processor (such as amx, vnni or avx2), and
draws ``docs/figures/engine-KIND.png``. Needs `pip install '.[bench]'`.
"""

import argparse
from typing import Any

import numpy as np
from shared import ROOT, host_kind, store

from subpixel.benchmark.measure import Benchmark, measure
from subpixel.benchmark.peak import make_peak
from subpixel.benchmark.report import draw
from subpixel.benchmark.runners import RUNTIMES, runtime_runners, subpixel_runner
from subpixel.models import catalog as packaged

SIZES = [(32, 32), (64, 64), (160, 90), (320, 180), (640, 360), (960, 540), (1280, 720)]
"""Width and height of the input planes; the results have 96x96 to 3840x2160 pixels."""


def run(scale: int, size: tuple[int, int], threads: int, against: tuple[str, ...], rounds: int) -> Benchmark:
    model = packaged.find("espcn-t91", scale=scale)
    width, height = size
    plane = np.random.default_rng(0).integers(100, 140, (height, width)).astype(np.uint8)
    runners = [subpixel_runner(model, plane, threads, None)]
    for name in against:
        runners += runtime_runners(name, model, plane, threads)
    peaks = [make_peak(precision, threads) for precision in ("fp32", "int8")]
    result = measure(model, plane, runners, peaks, threads=threads, rounds=rounds)
    times = ", ".join(f"{one.runner} {one.precision} {one.median_ms:.1f}" for one in result.results)
    print(f"x{scale} {width}x{height}, {threads} threads: {times}", flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    kind = host_kind()
    beside = [run(scale, (640, 360), 2, RUNTIMES, rounds) for scale in (2, 3, 4)]
    alone = [run(3, (640, 360), threads, ("onnxruntime",), rounds) for threads in (1, 2)]
    sizes = [run(3, size, 2, (), rounds) for size in SIZES]
    stored: dict[str, Any] = {
        "beside": [one.to_json() for one in beside],
        "threads": [one.to_json() for one in alone],
        "sizes": [one.to_json() for one in sizes],
    }
    store(f"engine-{kind}", stored)
    draw(beside[1], ROOT / "docs" / "figures" / f"engine-{kind}.png")


if __name__ == "__main__":
    main()

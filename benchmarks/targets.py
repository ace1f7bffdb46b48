"""Time the native engine for each instruction set that this processor has.

    python benchmarks/targets.py [--rounds 11]

One luma plane of 640x360, x3, int8, one thread; CPU time of the thread, so that other processes disturb
little. The share is that of the peak (`subpixel.benchmark.peak`), measured before and after each run.
Writes ``benchmarks/results/targets-KIND.json`` for this kind of processor: medians.
"""

import argparse
import time
from statistics import median

import numpy as np
from shared import host_kind, store

from subpixel.benchmark.peak import STEPS, Peak, make_peak
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.native.targets import TARGETS, runs_here
from subpixel.models import catalog as packaged
from subpixel.models.model import Model

MODELS = ("fast-x3", "default-x3", "espcn-t91-x3", "best-x3")
HEIGHT, WIDTH = 360, 640


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    stored = {}
    for target, instructions in TARGETS.items():
        if not runs_here(instructions) or instructions.for_tests:
            continue
        peak = make_peak("int8", 1, target)
        stored[target] = {name: measure(packaged.find(name), target, peak, rounds) for name in MODELS}
        print(target, stored[target], flush=True)
    store(f"targets-{host_kind()}", {"threads": 1, "targets": stored})


def measure(model: Model, target: str, peak: Peak, rounds: int) -> dict[str, float]:
    """Time a model, in turn with the peak."""
    engine = NativeEngine(model, target=target)
    lr = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH)).astype(np.uint8)
    hr = np.empty((HEIGHT * model.scale, WIDTH * model.scale), np.uint8)
    engine(lr, out=hr)
    macs = model.spec.macs_per_lr_pixel * HEIGHT * WIDTH
    times_s, shares = [], []
    for _ in range(rounds):
        before = run_peak(peak)
        began_s = time.thread_time()
        engine(lr, out=hr)
        times_s.append(time.thread_time() - began_s)
        shares.append(macs / times_s[-1] / ((before + run_peak(peak)) / 2))
    return {"median_ms": round(median(times_s) * 1e3, 2), "share_of_peak": round(median(shares), 3)}


def run_peak(peak: Peak) -> float:
    """Run the loop on this thread; return multiply-adds per second of its CPU time."""
    began_s = time.thread_time()
    peak.function(STEPS // 4)
    return peak.multiply_adds / 4 / (time.thread_time() - began_s)


if __name__ == "__main__":
    main()

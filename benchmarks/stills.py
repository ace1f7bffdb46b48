"""Measure where the time of a large photograph goes: decoding, network, color, compression.

    python benchmarks/stills.py --datasets ../shared/datasets

Upscales a JPEG of 24 megapixels to PNG, made of photographs of BSD500, x2 and x1.5, in two threads. In turn,
color conversion and resampling are machine code and NumPy. CPU times are those of all threads together: they
change little when other programs run. Writes ``benchmarks/results/stills.json``.
"""

import argparse
import random
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from PIL import Image
from shared import store

import subpixel
from subpixel.engines.color import kernel
from subpixel.engines.upsampling import Upsampling
from subpixel.images import tiles, upscale
from subpixel.images.codecs import png

SIZE, PART = (6000, 4000), (480, 320)
SCALES, THREADS = (2, 1.5), 2
STAGES: dict[str, list[tuple[Any, str]]] = {
    "decode": [(upscale, "read")],
    "network": [(Upsampling, "upsample")],
    "color": [
        *((tiles, name) for name in ("split_rgb", "write_rgb", "write_resampled_rgb")),
        *((Upsampling, name) for name in ("resample", "finish")),
    ],
    "compress": [(png, "_compress")],
}


class Stages:
    """The CPU time of the functions of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._lock = threading.Lock()
        for stage, functions in STAGES.items():
            for owner, name in functions:
                setattr(owner, name, self._timed(stage, getattr(owner, name)))

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                with self._lock:
                    self.seconds[stage] += time.thread_time() - started

        return call


def photograph(datasets: Path) -> Image.Image:
    """Photographs side by side; Lanczos reduces the few that are larger."""
    files = sorted((datasets / "BSDS500" / "train").glob("*.jpg"))
    draw, result = random.Random(0), Image.new("RGB", SIZE)
    for top in range(0, SIZE[1], PART[1]):
        for left in range(0, SIZE[0], PART[0]):
            with Image.open(draw.choice(files)) as image:
                upright = image.height > image.width
                part = image.transpose(Image.Transpose.ROTATE_90) if upright else image
                result.paste(part.resize(PART, Image.Resampling.LANCZOS), (left, top))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    stages, results = Stages(), []
    with tempfile.TemporaryDirectory() as name:
        source, target = Path(name) / "in.jpg", Path(name) / "out.png"
        photograph(options.datasets).save(source, quality=92)
        for scale in SCALES:
            upscaler = subpixel.load("default", scale=scale, threads=THREADS)

            def run() -> dict[str, float]:
                stages.seconds.clear()
                started = time.process_time()
                subpixel.upscale_image(source, target, upscaler=upscaler, overwrite=True)  # noqa: B023
                return {**stages.seconds, "total": time.process_time() - started}

            run()  # compiles
            runs: dict[str, list[dict[str, float]]] = {"code": [], "numpy": []}
            for _ in range(options.repeats):
                runs["code"].append(run())
                with mock.patch.object(kernel, "_function", return_value=None):
                    runs["numpy"].append(run())
                print(
                    *(f"x{scale} {kind}: {measured[-1]}" for kind, measured in runs.items()),
                    sep="\n",
                    flush=True,
                )
            seconds = {
                kind: {stage: round(median(each[stage] for each in measured), 3) for stage in measured[0]}
                for kind, measured in runs.items()
            }
            results.append({"scale": scale, "engine": upscaler.reason, "seconds": seconds})
    store("stills", {"threads": THREADS, "results": results})


if __name__ == "__main__":
    main()

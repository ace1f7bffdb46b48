"""Measure results of sizes that no model makes: a model and then a reduction.

    python benchmarks/sizes.py --datasets ../shared/datasets

Luma of Set14 is downscaled by 1.5, 2.5 and 5 with MATLAB's bicubic, upscaled to its size again in int8, and
compared with the original. ``lanczos`` and ``bicubic`` (Pillow) do without a network. ``reduced by Pillow``
is the rounded result of the integer factor, reduced by Pillow's Lanczos. For the cost, an image of 8
megapixels and a video are upscaled by 2 and by 1.5 in turn; the figure is CPU time, which other work on the
machine affects less than elapsed time. Writes ``benchmarks/results/sizes.json`` for `docs/images.md`.
"""

import argparse
import math
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from shared import ROOT, store

import subpixel
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import find_images, read_image
from subpixel.ops.color import luma_8bit
from subpixel.ops.resize import imresize

FACTORS = {1.5: 3, 2.5: 5, 5: 5}
"""Factors, and what the sides of the originals must be multiples of."""

NAMES = ("default", "best")
TIMES = 5
CLIP = "sam2_02_cups_720p.mp4"
CLIP_SECONDS = 3

Plane = NDArray[np.uint8]


def by_pillow(plane: Plane, width: int, height: int, method: Image.Resampling) -> Plane:
    return np.asarray(Image.fromarray(plane).resize((width, height), method))


def by_model(upscaler: subpixel.Upscaler, lr: Plane, width: int, height: int) -> Plane:
    return upscaler(lr, size=(width, height))


def by_model_and_pillow(upscaler: subpixel.Upscaler, lr: Plane, width: int, height: int) -> Plane:
    return by_pillow(upscaler(lr), width, height, Image.Resampling.LANCZOS)


def methods(factor: float) -> dict[str, Callable[[Plane, int, int], Plane]]:
    """Functions of an LR plane and of the width and height of the result."""
    result: dict[str, Callable[[Plane, int, int], Plane]] = {
        "bicubic": lambda lr, width, height: by_pillow(lr, width, height, Image.Resampling.BICUBIC),
        "lanczos": lambda lr, width, height: by_pillow(lr, width, height, Image.Resampling.LANCZOS),
    }
    for name in NAMES:
        result[name] = partial(by_model, subpixel.load(name, scale=factor))
        if factor <= 4:
            integer = subpixel.load(name, scale=math.ceil(factor))
            result[f"{name}, reduced by Pillow"] = partial(by_model_and_pillow, integer)
    return result


def quality(datasets: Path) -> dict[str, dict[str, float]]:
    """Mean PSNR in dB by factor and method."""
    result = {}
    images = [luma_8bit(read_image(file)) for file in find_images(datasets / "Set14")]
    for factor, multiple in FACTORS.items():
        scores: dict[str, list[float]] = {}
        upscale = methods(factor)
        for image in images:
            height, width = (side // multiple * multiple for side in image.shape)
            hr = np.floor(image[:height, :width] + 0.5).astype(np.uint8)
            lr = np.clip(np.floor(imresize(hr / 255, 1 / factor) * 255 + 0.5), 0, 255).astype(np.uint8)
            for name, make in upscale.items():
                sr = make(lr, width, height)
                scores.setdefault(name, []).append(psnr_db(hr, sr, shave=math.ceil(factor)))
        result[f"x{factor:g}"] = {name: round(float(np.mean(values)), 3) for name, values in scores.items()}
        print(f"x{factor:g}", result[f"x{factor:g}"])
    return result


def cpu_seconds(work: Callable[[], Any]) -> float:
    before = os.times()
    work()
    after = os.times()
    return after.user + after.system - before.user - before.system


def costs(datasets: Path) -> dict[str, dict[str, float]]:
    """Median CPU seconds of whole jobs by factor."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        with Image.open(ROOT / "examples" / "astronaut-170x170.png") as image:
            tiled = np.tile(np.asarray(image.convert("RGB").resize((510, 510))), (6, 6, 1))
        Image.fromarray(tiled[:2828, :2828]).save(photo)
        clip = datasets / "video" / CLIP

        def image_job(scale: float) -> None:
            subpixel.upscale_image(photo, Path(folder) / "out.png", scale=scale, overwrite=True)

        def video_job(scale: float) -> None:
            target = Path(folder) / "out.mkv"
            subpixel.upscale_video(clip, target, scale=scale, end=CLIP_SECONDS, overwrite=True)

        result = {}
        for name, job in (("image, 8 megapixels", image_job), ("video, 1280x720", video_job)):
            times: dict[float, list[float]] = {2: [], 1.5: []}
            for scale in times:
                job(scale)
            for _ in range(TIMES):
                for scale, values in times.items():
                    values.append(cpu_seconds(partial(job, scale)))
            result[name] = {f"x{scale:g}": round(statistics.median(times[scale]), 3) for scale in times}
            print(name, result[name])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--datasets", type=Path, required=True, help="folder of Set14 and of the clips")
    datasets = parser.parse_args().datasets
    store("sizes", {"psnr_db": quality(datasets), "cpu_seconds": costs(datasets)})


if __name__ == "__main__":
    main()

"""Measure `default` and `default-compressed` on compressed input.

    python benchmarks/content.py --datasets ../shared/datasets

The LR images of the protocol are compressed with JPEG, and the LR frames of clips with H.264 (x264), before
they are upscaled in int8 and compared with the originals. The result is the mean luma PSNR in dB. A model
is measured again only if its file has changed. Writes ``benchmarks/results/content.json`` for
`docs/models.md`, and draws crops of Set14 after JPEG: ``docs/figures/models-compressed.png``.
"""

import argparse
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shared import RAW_SIZE, RESULTS, ROOT, digest, load, stamp

from subpixel.evaluation.clips import find_clips, luma_planes
from subpixel.evaluation.compression import through_h264
from subpixel.evaluation.drawing import save_figure
from subpixel.evaluation.figures import crops
from subpixel.evaluation.methods import Method, find_method
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import (
    Degradation,
    crop_to_multiple,
    evaluate_image,
    find_images,
    lr_plane,
    mean,
    read_image,
    super_resolve,
)
from subpixel.training.compression import through_jpeg

DRAWING = ROOT / "docs" / "figures" / "models-compressed.png"
NAMES = ("default", "default-compressed")
SETS = {"Set5": "Set5", "Set14": "Set14", "BSDS500/val": "BSD100"}
QUALITIES, RATE_FACTORS = (90, 70, 50, 30), (18, 23, 28, 32)
FRAMES = 10

Plane = NDArray[np.uint8]
Upscale = Callable[[Plane], Plane]


def on_images(datasets: Path, scale: int, upscale: Upscale) -> dict[str, dict[str, float]]:
    """Mean PSNR by test set and JPEG quality."""
    result = {}
    for folder, called in SETS.items():
        images = [read_image(file) for file in find_images(datasets / folder)]
        row = {"clean": mean([evaluate_image(image, upscale, scale) for image in images]).psnr_db}
        for quality in QUALITIES:

            def upscale_compressed(plane: Plane, quality: int = quality) -> Plane:
                return upscale(through_jpeg(plane, quality))

            row[str(quality)] = mean(
                [evaluate_image(image, upscale_compressed, scale) for image in images]
            ).psnr_db
        result[called] = {key: round(value, 3) for key, value in row.items()}
    return result


def on_clips(datasets: Path, scale: int, upscale: Upscale) -> dict[str, dict[str, float]]:
    """Mean PSNR by clip and CRF."""
    result: dict[str, dict[str, float]] = {}
    for clip in find_clips([datasets / "video"], RAW_SIZE) or []:
        with contextlib.closing(luma_planes(clip, RAW_SIZE)) as planes:
            hr_frames = [crop_to_multiple(luma, scale).copy() for luma in islice(planes, FRAMES)]
        clean = [lr_plane(hr, scale, Degradation("bicubic")) for hr in hr_frames]
        lr_frames = {"clean": clean, **{str(crf): through_h264(clean, crf) for crf in RATE_FACTORS}}
        result[clip.name] = {}
        for key, frames in lr_frames.items():
            scores = [
                psnr_db(hr, super_resolve(lr, upscale, scale), shave=scale)
                for hr, lr in zip(hr_frames, frames, strict=True)
            ]
            result[clip.name][key] = round(float(np.mean(scores)), 3)
    return result


def draw(datasets: Path, scale: int = 2, quality: int = 50) -> None:
    """Draw crops of Set14 whose LR images were compressed with JPEG."""

    def after_jpeg(name: str) -> Method:
        method = find_method(name, scale=scale)
        return replace(method, upscale=lambda plane: method.upscale(through_jpeg(plane, quality)))

    methods = [after_jpeg(name) for name in ("bicubic", *NAMES)]
    save_figure(crops(datasets / "Set14", methods, count=3), DRAWING)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    datasets = parser.parse_args().datasets
    stored = load("content")
    for scale in (2, 3, 4):
        for name in (f"{family}-x{scale}" for family in NAMES):
            if stored.get(name, {}).get("digest") == digest(name):
                continue
            upscale = find_method(name, scale=scale, precision="int8").upscale
            stored[name] = {
                "digest": digest(name),
                "measured": stamp(),
                "jpeg": on_images(datasets, scale, upscale),
                "h264": on_clips(datasets, scale, upscale),
            }
            print(name, stored[name]["jpeg"], flush=True)
            path = RESULTS / "content.json"
            path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")
    draw(datasets)


if __name__ == "__main__":
    main()

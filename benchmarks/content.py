"""What training on compressed pictures is worth: both forms of the default network on such sources.

    python benchmarks/content.py --datasets ../shared/datasets

The small pictures of the protocol go through JPEG, and the small frames of clips through H.264 (x264), before
they are enlarged in int8 and compared with the originals: mean luma PSNR in dB. A model is measured anew only
when its file has changed. Writes ``benchmarks/results/content.json``, which `docs/models.md` prints, and
draws crops of Set14 behind JPEG: ``docs/figures/models-compressed.png``.
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

from subpixel.evaluation.drawing import save_figure
from subpixel.evaluation.figures import crops
from subpixel.evaluation.methods import Method, find_method
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import (
    Degradation,
    crop_to_multiple,
    evaluate_image,
    lr_plane,
    mean,
    pictures,
    read_picture,
    super_resolved,
)
from subpixel.evaluation.video import find_clips, luma_planes
from subpixel.training.compression import through_h264, through_jpeg

DRAWING = ROOT / "docs" / "figures" / "models-compressed.png"
NAMES = ("default", "default-compressed")
SETS = {"Set5": "Set5", "Set14": "Set14", "BSDS500/val": "BSD100"}
QUALITIES, RATE_FACTORS = (90, 70, 50, 30), (18, 23, 28, 32)
FRAMES = 10

Plane = NDArray[np.uint8]
Upscale = Callable[[Plane], Plane]


def on_pictures(datasets: Path, scale: int, upscale: Upscale) -> dict[str, dict[str, float]]:
    """Mean PSNR by test set and JPEG quality."""
    result = {}
    for folder, called in SETS.items():
        images = [read_picture(file) for file in pictures(datasets / folder)]
        row = {"clean": mean([evaluate_image(image, upscale, scale) for image in images]).psnr_db}
        for quality in QUALITIES:

            def enlarge(plane: Plane, quality: int = quality) -> Plane:
                return upscale(through_jpeg(plane, quality))

            row[str(quality)] = mean([evaluate_image(image, enlarge, scale) for image in images]).psnr_db
        result[called] = {key: round(value, 3) for key, value in row.items()}
    return result


def on_clips(datasets: Path, scale: int, upscale: Upscale) -> dict[str, dict[str, float]]:
    """Mean PSNR by clip and CRF."""
    result: dict[str, dict[str, float]] = {}
    for clip in find_clips([datasets / "video"], RAW_SIZE) or []:
        with contextlib.closing(luma_planes(clip, RAW_SIZE)) as planes:
            large = [crop_to_multiple(luma, scale).copy() for luma in islice(planes, FRAMES)]
        small = [lr_plane(hr, scale, Degradation("bicubic")) for hr in large]
        films = {"clean": small, **{str(crf): through_h264(small, crf) for crf in RATE_FACTORS}}
        result[clip.name] = {}
        for key, film in films.items():
            scores = [
                psnr_db(hr, super_resolved(lr, upscale, scale), shave=scale)
                for hr, lr in zip(large, film, strict=True)
            ]
            result[clip.name][key] = round(float(np.mean(scores)), 3)
    return result


def draw(datasets: Path, scale: int = 2, quality: int = 50) -> None:
    """Crops of Set14 whose small pictures went through JPEG."""

    def behind_jpeg(name: str) -> Method:
        method = find_method(name, scale=scale)
        return replace(method, upscale=lambda plane: method.upscale(through_jpeg(plane, quality)))

    methods = [behind_jpeg(name) for name in ("bicubic", *NAMES)]
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
                "jpeg": on_pictures(datasets, scale, upscale),
                "h264": on_clips(datasets, scale, upscale),
            }
            print(name, stored[name]["jpeg"], flush=True)
            path = RESULTS / "content.json"
            path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")
    draw(datasets)


if __name__ == "__main__":
    main()

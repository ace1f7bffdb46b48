"""Measure what a short training on your own images gives: the example of `docs/training.md`.

    python benchmarks/own_images.py [--threads 1]

Draws 40 pages of text, and trains `configs/own-images-x2.toml` on 35 of them. Measures the PSNR of bicubic,
of the packaged `default-x2` and of the trained model on the other 5, in fp32 and in int8, and the CPU time
of the training. Writes ``benchmarks/results/own_images.json``. Needs `pip install '.[train]'`.
"""

import argparse
import random
import re
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from shared import ROOT, store

from subpixel.engines.select import choose
from subpixel.evaluation.protocol import (
    Degradation,
    bicubic,
    evaluate_image,
    find_images,
    lr_plane,
    mean,
    read_image,
)
from subpixel.models import catalog as packaged
from subpixel.models.calibration import calibrate
from subpixel.models.model import Model
from subpixel.training.config_file import load_config
from subpixel.training.loop import Run
from subpixel.training.result import finished_model

PAGES, SIZE = 40, (800, 600)


def draw_pages(folder: Path) -> None:
    """Draw pages of random words from the license, in several sizes, dark on light and light on dark."""
    words = re.findall(r"[A-Za-z0-9]+[,.]?", (ROOT / "LICENSE").read_text(encoding="utf-8"))
    rng = random.Random(1)
    for number in range(PAGES):
        ink, paper = rng.choice([(0, 255), (20, 250), (40, 240), (230, 30)])
        font = ImageFont.load_default(rng.choice([14, 16, 18, 20, 24, 28]))
        page = Image.new("L", SIZE, paper)
        text = "\n".join(" ".join(rng.choices(words, k=20)) for _ in range(50))
        ImageDraw.Draw(page).multiline_text((12, 8), text, font=font, fill=ink, spacing=8)
        page.save(folder / f"{number:02}.png")


def psnr_db(model: Model, held_out: list[Path]) -> dict[str, float]:
    """Mean PSNR of a model on the held-out pages, in both precisions."""
    images = [read_image(file) for file in held_out]
    return {
        precision: round(
            mean(
                [
                    evaluate_image(image, choose(model, precision=precision).engine, model.scale)
                    for image in images
                ]
            ).psnr_db,
            3,
        )
        for precision in ("fp32", "int8")
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    threads = parser.parse_args().threads
    torch.set_num_threads(threads)
    config_file = ROOT / "configs" / "own-images-x2.toml"
    config = load_config(config_file)
    with tempfile.TemporaryDirectory() as name:
        datasets = Path(name)
        folder = datasets / config.data.folders[0]
        folder.mkdir()
        draw_pages(folder)
        run = Run(config, datasets, datasets / "run", torch.device("cpu"))
        started = time.process_time()
        run.train()
        seconds = time.process_time() - started
        pages = find_images(folder)
        held_out, others = pages[: config.validation.limit], pages[config.validation.limit :]
        planes = [lr_plane(read_image(file), config.network.scale, Degradation()) for file in others]
        trained = finished_model(run, config_file)
        assert isinstance(trained, Model)
        calibrated = calibrate(trained, planes)
        images = [read_image(file) for file in held_out]
        upscale = bicubic(config.network.scale)
        bicubic_db = round(
            mean([evaluate_image(image, upscale, config.network.scale) for image in images]).psnr_db, 3
        )
        result = {
            "bicubic": dict.fromkeys(("fp32", "int8"), bicubic_db),
            "`default-x2`": psnr_db(packaged.find("default-x2"), held_out),
            "the trained model": psnr_db(calibrated, held_out),
        }
    store("own_images", {"threads": threads, "seconds": round(seconds, 1), "psnr_db": result})


if __name__ == "__main__":
    main()

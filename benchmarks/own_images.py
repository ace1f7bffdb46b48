"""What a few minutes of training on one's own images give: the example of `docs/training.md`.

    python benchmarks/own_images.py [--threads 1]

Draws 40 pages of text and trains `configs/own-images-x2.toml` on them: 5 are held out. Measures bicubic,
the packaged `default-x2` and the result on these 5, in fp32 and in int8; and the CPU time of training. Writes
``benchmarks/results/own_images.json``. Needs `pip install '.[train]'`.
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
    lr_plane,
    mean,
    pictures,
    read_picture,
)
from subpixel.models import catalog as packaged
from subpixel.models.calibration import calibrate
from subpixel.models.model import Model
from subpixel.training.config import load_config
from subpixel.training.loop import Run
from subpixel.training.result import finished_model

PAGES, SIZE = 40, (800, 600)


def draw_pages(folder: Path) -> None:
    """Random words of the license in several sizes, dark on light and light on dark."""
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
    """On the pages held out, in both precisions."""
    images = [read_picture(file) for file in held_out]
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
    recipe = ROOT / "configs" / "own-images-x2.toml"
    config = load_config(recipe)
    with tempfile.TemporaryDirectory() as name:
        datasets = Path(name)
        folder = datasets / config.data.folders[0]
        folder.mkdir()
        draw_pages(folder)
        run = Run(config, datasets, datasets / "run", torch.device("cpu"))
        started = time.process_time()
        run.train()
        seconds = time.process_time() - started
        files = pictures(folder)
        held_out, others = files[: config.validation.limit], files[config.validation.limit :]
        planes = [lr_plane(read_picture(file), config.network.scale, Degradation()) for file in others]
        trained = finished_model(run, recipe)
        assert isinstance(trained, Model)
        mine = calibrate(trained, planes)
        images = [read_picture(file) for file in held_out]
        upscale = bicubic(config.network.scale)
        of_bicubic = round(
            mean([evaluate_image(image, upscale, config.network.scale) for image in images]).psnr_db, 3
        )
        result = {
            "bicubic": dict.fromkeys(("fp32", "int8"), of_bicubic),
            "`default-x2`": psnr_db(packaged.find("default-x2"), held_out),
            "the trained model": psnr_db(mine, held_out),
        }
    store("own_images", {"threads": threads, "seconds": round(seconds, 1), "psnr_db": result})


if __name__ == "__main__":
    main()

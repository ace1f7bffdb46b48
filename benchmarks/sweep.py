"""Compares shapes of networks, all trained with the same short config: PSNR against measured time.

    python benchmarks/sweep.py --datasets ../shared/datasets [--threads 1]

Each shape is trained with `configs/sweep-x3.toml`, but for 6000 steps and without fake quantization. PSNR is
measured in fp32 on images that are neither trained nor tested on. Time is measured in int8 on the engine
`native`, with the shapes in turn. Writes ``benchmarks/results/sweep.json`` after each shape. A later run
continues from it: shapes that it contains, and whose weights are in ``runs/sweep``, are not trained again.
Draws ``docs/figures/sweep.png``.
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shared import ROOT, load, store, with_changes

from subpixel.benchmark.measure import median_times_ms
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.select import available_cpus
from subpixel.evaluation.drawing import OKABE_ITO, new_figure, save_figure
from subpixel.evaluation.protocol import crop_to_multiple, find_images, read_image
from subpixel.models.calibration import calibrate
from subpixel.models.model import ModelMetadata, load_model
from subpixel.ops.color import luma_8bit
from subpixel.ops.resize import imresize
from subpixel.training.build import network_spec
from subpixel.training.config import NetworkConfig, TrainingConfig
from subpixel.training.config_file import load_config
from subpixel.training.loop import Run

EPOCHS, SCALE = 12, 3

SHORT: dict[str, dict[str, Any]] = {
    "schedule": {"max_epochs": EPOCHS},
    "precision": {"fp32_epochs": 1},
    "quantization": {"levels": 0},
    "validation": {"every_epochs": EPOCHS},
}

LABEL_LEFT, LABEL_UP = (
    ("7 x 16 (default)", "7 x 16, 5x5 first", "7 x 16, relu"),
    ("7 x 16, 5x5 first", "9 x 16"),
)
"""Names to the left of their points, and above them, so that labels do not overlap in the figure."""


def stack(*widths: int, **changes: Any) -> NetworkConfig:
    settings: dict[str, Any] = {"activation": "prelu", "residual": "nearest", "expansion": 4}
    return NetworkConfig("stack", SCALE, widths=widths, **(settings | changes))


SHAPES = {
    "ESPCN": NetworkConfig("espcn", SCALE, "tanh"),
    "ESPCN, relu": NetworkConfig("espcn", SCALE, "relu"),
    "FSRCNN": stack(56, 12, 12, 12, 12, 12, 56, kernels=(5, 1, 3, 3, 3, 3, 1, 3), residual="none"),
    "SESR-M3": stack(*[16] * 4, kernels=(5, 3, 3, 3, 5)),
    "SESR-M5": stack(*[16] * 6, kernels=(5, 3, 3, 3, 3, 3, 5)),
    "ECBSR-M4C8": stack(*[8] * 5),
    "ECBSR-M4C16": stack(*[16] * 5),
    "8-16-16-16": stack(8, 16, 16, 16),
    "3 x 16 (fast)": stack(*[16] * 3),
    "7 x 16 (default)": stack(*[16] * 7),
    "7 x 16, 5x5 first": stack(*[16] * 7, kernels=(5, *[3] * 7)),
    "7 x 16, relu": stack(*[16] * 7, activation="relu"),
    "7 x 16, no residual": stack(*[16] * 7, residual="none"),
    "7 x 16, not expanded": stack(*[16] * 7, expansion=0),
    "9 x 16": stack(*[16] * 9),
    "3 x 32": stack(*[32] * 3),
    "7 x 32": stack(*[32] * 7),
}


def short_run(name: str, network: NetworkConfig, base: TrainingConfig, datasets: Path) -> dict[str, Any]:
    """Train a shape and save its weights in ``runs/sweep``; return the result to store."""
    config = with_changes(dataclasses.replace(base, network=network), SHORT)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, datasets, Path(folder), torch.device("cpu"))
        run.train()
        psnr_db = run.validate()
        model = run.model(ModelMetadata())
    model.save(weights_of(name))
    return {
        "parameters": network_spec(network).parameters,
        "macs_per_lr_pixel": network_spec(network).macs_per_lr_pixel,
        "psnr_db": round(psnr_db, 3),
    }


def weights_of(name: str) -> Path:
    folder = ROOT / "runs" / "sweep"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name.replace(' ', '-').replace(',', '')}.safetensors"


def lr_planes(folder: Path) -> list[Any]:
    planes = []
    for path in find_images(folder)[:30]:
        hr = luma_8bit(crop_to_multiple(read_image(path), SCALE)).astype(np.float64)
        planes.append(np.clip(np.rint(imresize(hr, 1 / SCALE)), 0, 255).astype(np.uint8))
    return planes


def draw(shapes: dict[str, dict[str, Any]], path: Path) -> None:
    figure = new_figure((8, 5))
    axes = figure.add_subplot()
    for name, row in shapes.items():
        ours = name[0].isdigit()
        axes.plot(row["ms"], row["psnr_db"], "o" if ours else "s", color=OKABE_ITO[0 if ours else 1])
        left, up = name in LABEL_LEFT, 4 if name in LABEL_UP else -3
        axes.annotate(
            name,
            (row["ms"], row["psnr_db"]),
            textcoords="offset points",
            xytext=(-6 if left else 6, up),
            ha="right" if left else "left",
            fontsize=8,
        )
    axes.set_xscale("log")
    ticks = (2, 3, 4, 5, 6, 8, 12)
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.margins(0.2, 0.1)
    axes.set_xlabel("ms for 640x360 to 1920x1080, int8")
    axes.set_ylabel("PSNR in dB after 6000 steps, fp32, held-out images")
    axes.grid(alpha=0.3)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    parser.add_argument("--threads", type=int, help="threads for training")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    base = load_config(ROOT / "configs" / "sweep-x3.toml")
    shapes: dict[str, dict[str, Any]] = load("sweep").get("shapes", {})
    for name, network in SHAPES.items():
        if name not in shapes or not weights_of(name).exists():
            shapes[name] = short_run(name, network, base, options.datasets)
            write(shapes)
            print(name, shapes[name], flush=True)
    planes = lr_planes(options.datasets / "T91")
    models = {name: calibrate(load_model(weights_of(name)), planes) for name in SHAPES}
    threads = available_cpus()
    engines = {name: NativeEngine(model, threads=threads) for name, model in models.items()}
    for name, median in median_times_ms(engines, (360, 640), rounds=15).items():
        shapes[name]["ms"] = round(median, 2)
    write(shapes)
    draw(shapes, ROOT / "docs" / "figures" / "sweep.png")


def write(shapes: dict[str, dict[str, Any]]) -> None:
    store("sweep", {"steps": EPOCHS * 500, "shapes": shapes})


if __name__ == "__main__":
    main()

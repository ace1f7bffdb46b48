"""Measure what int8 costs with 16-bit samples and floats: mean luma PSNR of every packaged model.

    python benchmarks/deep_samples.py --datasets ../shared/datasets

The protocol, except that neither LR nor the result is rounded to 8 bits. Writes
``benchmarks/results/deep_samples.json``: PSNR in dB in fp32, and in int8 with float32 samples.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from shared import store

from subpixel.engines.base import Engine
from subpixel.engines.select import choose
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import Degradation, crop_to_multiple, find_images, read_image
from subpixel.models import catalog as packaged
from subpixel.ops.color import luma_8bit

SETS = ("Set5", "Set14")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    datasets = parser.parse_args().datasets
    images = {name: [read_image(file) for file in find_images(datasets / name)] for name in SETS}
    stored: dict[str, dict[str, dict[str, float]]] = {}
    for name in packaged.names():
        model = packaged.find(name)
        stored[name] = {}
        for precision in ("fp32", "int8"):
            engine = choose(model, precision=precision).engine
            stored[name][precision] = {
                dataset: round(float(np.mean([quality_db(image, engine) for image in of_set])), 3)
                for dataset, of_set in images.items()
            }
        print(name, stored[name], flush=True)
    store("deep_samples", stored)


def quality_db(image: NDArray[np.uint8], engine: Engine) -> float:
    """PSNR of an image that is reduced and upscaled in float32."""
    scale = engine.model.scale
    image = crop_to_multiple(image, scale)
    lr = Degradation()(image, scale).clip(0, 1).astype(np.float32)
    return psnr_db(luma_8bit(image) / 255, engine(lr).clip(0, 1), shave=scale, peak=1)


if __name__ == "__main__":
    main()

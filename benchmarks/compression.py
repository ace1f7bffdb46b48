"""From which quality on is a picture better taken for clean? Both forms of a network behind JPEG and WebP.

    python benchmarks/compression.py --datasets ../shared/datasets

The small pictures of 40 photographs that no network was trained on (the first of BSDS500/train) become color
JPEGs and lossy WebPs, as Pillow writes them, of qualities from 60 to 100. Their luma is upscaled in int8 by
`default` and `best`, and by the forms of both for compressed sources: mean luma PSNR in dB, `scale` pixels
shaved. Writes ``benchmarks/results/compression.json``; the rule in `subpixel.images.compression` follows it.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from shared import store

from subpixel.engines.base import from_float
from subpixel.engines.select import choose
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import crop_to_multiple, pictures, read_picture
from subpixel.models import catalog as packaged
from subpixel.ops.color import luma_8bit
from subpixel.ops.resize import imresize

QUALITIES = (60, 70, 75, 80, 85, 90, 92, 95, 98, 100)
NETWORKS = ("default", "default-compressed", "best", "best-compressed")
LIMIT = 40


def small(picture: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """A picture made small by MATLAB's bicubic, in 8 bits."""
    return from_float(imresize(picture / 255.0, 1 / scale), np.dtype(np.uint8))


def behind(picture: NDArray[np.uint8], kind: str, quality: int) -> NDArray[np.uint8]:
    """Luma of a picture after JPEG or WebP."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, kind, quality=quality)
    return luma_8bit(np.asarray(Image.open(file).convert("RGB")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    datasets = parser.parse_args().datasets
    images = [read_picture(file) for file in pictures(datasets / "BSDS500" / "train")[:LIMIT]]
    stored: dict[str, dict[str, dict[str, float]]] = {}
    for scale in (2, 3, 4):
        large = [crop_to_multiple(image, scale) for image in images]
        lr = [small(image, scale) for image in large]
        for network in NETWORKS:
            engine = choose(packaged.find(network, scale=scale), precision="int8").engine
            of_model = stored[f"{network}-x{scale}"] = {}
            for kind in ("jpeg", "webp"):
                of_model[kind] = {}
                for quality in QUALITIES:
                    scores = [
                        psnr_db(luma_8bit(hr), engine(behind(image, kind, quality)), shave=scale)
                        for hr, image in zip(large, lr, strict=True)
                    ]
                    of_model[kind][str(quality)] = round(float(np.mean(scores)), 3)
            print(network, scale, of_model, flush=True)
    store("compression", stored)


if __name__ == "__main__":
    main()

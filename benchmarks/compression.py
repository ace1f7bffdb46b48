"""Measure from which quality of lossy compression on the networks for clean images are better.

    python benchmarks/compression.py --datasets ../shared/datasets --formats avif heic jxl

Downscales 40 photographs that no network was trained on (the first of BSDS500/train), and saves them as
color images: JPEG, lossy WebP and AVIF with Pillow, HEIC with pillow-heif (x265), JPEG XL with imagecodecs
(libjxl). Upscales their luma in int8 with `default`, `best`, and the networks for compressed images of both.
The result is the mean luma PSNR in dB without a border of `scale` pixels. Writes it to
``benchmarks/results/compression.json``, on which the rule in `subpixel.images.compression` is based; formats
and networks that are not named keep their results.
"""

import argparse
import io
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from shared import load, store

from subpixel.engines.base import from_float
from subpixel.engines.select import choose
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import crop_to_multiple, find_images, read_image
from subpixel.images.codecs import jxl
from subpixel.models import catalog as packaged
from subpixel.ops.color import luma_8bit
from subpixel.ops.resize import imresize

QUALITIES = {
    **dict.fromkeys(("jpeg", "webp"), (60, 70, 75, 80, 85, 90, 92, 95, 98, 100)),
    **dict.fromkeys(("avif", "heic", "jxl"), (50, 60, 70, 80, 85, 90, 95)),
}
"""By format, on the scale of its encoder; that of JPEG XL is the scale of cjxl."""
NETWORKS = ("default", "default-compressed", "best", "best-compressed")
LIMIT = 40


def downscale(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    """Downscale an image with MATLAB's bicubic, to 8 bits."""
    return from_float(imresize(image / 255.0, 1 / scale), np.dtype(np.uint8))


def compressed_luma(image: NDArray[np.uint8], format: str, quality: int) -> NDArray[np.uint8]:
    """Luma of an image after lossy compression."""
    if format == "jxl":
        data = imagecodecs.jpegxl_encode(image, distance=jxl.distance(quality), effort=5)
        return luma_8bit(imagecodecs.jpegxl_decode(data))
    file = io.BytesIO()
    if format == "heic":
        import pillow_heif

        height, width = image.shape[:2]
        pillow_heif.from_bytes("RGB", (width, height), image.tobytes()).save(file, quality=quality)
        return luma_8bit(np.asarray(pillow_heif.open_heif(file).to_pillow()))
    Image.fromarray(image).save(file, format, quality=quality, **({"speed": 8} if format == "avif" else {}))
    return luma_8bit(np.asarray(Image.open(file).convert("RGB")))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    parser.add_argument("--formats", nargs="+", choices=QUALITIES, default=[*QUALITIES])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    options = parser.parse_args()
    images = [read_image(file) for file in find_images(options.datasets / "BSDS500" / "train")[:LIMIT]]
    stored: dict[str, dict[str, dict[str, float]]] = load("compression")
    for scale in (2, 3, 4):
        hr_images = [crop_to_multiple(image, scale) for image in images]
        lr_images = [np.ascontiguousarray(downscale(image, scale)) for image in hr_images]
        engines = {
            network: choose(packaged.find(network, scale=scale), precision="int8").engine
            for network in options.networks
        }
        for format in options.formats:
            for quality in QUALITIES[format]:
                lumas = [compressed_luma(lr, format, quality) for lr in lr_images]
                for network, engine in engines.items():
                    scores = [
                        psnr_db(luma_8bit(hr), engine(luma), shave=scale)
                        for hr, luma in zip(hr_images, lumas, strict=True)
                    ]
                    of_format = stored.setdefault(f"{network}-x{scale}", {}).setdefault(format, {})
                    of_format[str(quality)] = round(float(np.mean(scores)), 3)
            print(scale, format, flush=True)
    store("compression", stored)


if __name__ == "__main__":
    main()

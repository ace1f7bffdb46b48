"""Measure the bicubic baseline, and what each common deviation from the protocol changes: `docs/protocol.md`.

    python benchmarks/protocol_pitfalls.py DATASETS [-m MODEL]...

DATASETS contains the folders Set5 and Set14. The baseline is also measured on BSDS500/val (BSD100) and
BSDS500/test if they exist. One choice at a time differs from the protocol; the result is the mean PSNR
minus that of the protocol, in dB. Writes ``benchmarks/results/protocol_pitfalls.json``. Needs torch and
scikit-image (the extra `dev`).
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from shared import store

from subpixel.engines.base import from_float
from subpixel.engines.select import choose
from subpixel.evaluation.metrics import psnr_db, ssim
from subpixel.evaluation.protocol import crop_to_multiple, evaluate_image, find_images, mean, read_image
from subpixel.models import catalog as packaged
from subpixel.ops.color import luma, luma_8bit
from subpixel.ops.resize import blur_and_decimate, imresize

Image8 = NDArray[np.uint8]
Plane = NDArray[Any]
Upscale = Callable[[Plane, int], Plane]
SCALES = (2, 3, 4)
SETS = {"Set5": "Set5", "Set14": "Set14"}
BASELINE_SETS = SETS | {"BSD100": "BSDS500/val", "BSD500": "BSDS500/test"}
"""The test sets and their folders."""


def rounded(plane: Plane) -> Plane:
    return from_float(plane, np.dtype(np.uint8)) / 255


def unrounded(plane: Plane) -> Plane:
    return plane


@dataclass(frozen=True)
class Protocol:
    """The choices that the PSNR depends on; all planes are in [0, 1]."""

    upscale: Upscale = imresize
    crop: Callable[[Image8, int], Image8] = crop_to_multiple
    luma: Callable[[Image8], Plane] = lambda image: luma_8bit(image) / 255
    downscale: Callable[[Plane, int], Plane] = lambda hr, scale: imresize(hr, 1 / scale)
    downscale_image: Callable[[Image8, int], Plane] | None = None
    round_lr: Callable[[Plane], Plane] = rounded
    round_sr: Callable[[Plane], Plane] = rounded
    shave: Callable[[int], int] = lambda scale: scale
    peak: Callable[[Plane], float] = lambda hr: 1.0
    mean: Callable[[Sequence[float]], float] = lambda values: float(np.mean(values))

    def planes(self, image: Image8, scale: int) -> tuple[Plane, Plane]:
        """HR and SR of one image."""
        image = self.crop(image, scale)
        hr = self.luma(image)
        lr = self.downscale_image(image, scale) if self.downscale_image else self.downscale(hr, scale)
        height, width = hr.shape[:2]
        return hr, self.round_sr(self.upscale(self.round_lr(lr), scale))[:height, :width]

    def psnr_db(self, images: Sequence[Image8], scale: int) -> float:
        """The mean PSNR over a test set."""
        pairs = [self.planes(image, scale) for image in images]
        return self.mean([psnr_db(x, y, peak=self.peak(x), shave=self.shave(scale)) for x, y in pairs])


def pillow(plane: Plane, scale: float) -> Plane:
    size = (round(plane.shape[1] * scale), round(plane.shape[0] * scale))
    floats = Image.fromarray(plane.astype(np.float32))
    return np.asarray(floats.resize(size, Image.Resampling.BICUBIC), np.float64)


def opencv(plane: Plane, scale: float) -> Plane:
    """The filter of OpenCV's INTER_CUBIC, by PyTorch: a = -0.75 and no antialiasing."""
    import torch

    size = [round(side * scale) for side in plane.shape]
    tensor = torch.from_numpy(plane[None, None])
    return np.asarray(
        torch.nn.functional.interpolate(tensor, size=size, mode="bicubic", align_corners=False)[0, 0]
    )


def scikit_image(hr: Plane, scale: int) -> Plane:
    from skimage.transform import resize

    shape = [side // scale for side in hr.shape]
    return np.asarray(resize(hr, shape, order=3, anti_aliasing=True))  # type: ignore[no-untyped-call]


def box_mean(hr: Plane, scale: int) -> Plane:
    height, width = hr.shape
    return np.asarray(hr.reshape(height // scale, scale, width // scale, scale).mean(axis=(1, 3)))


def mirrored(plane: Plane, scale: float) -> Plane:
    """`imresize` with the image mirrored at its edge, instead of the edge pixel repeated."""
    padding = 12
    inside = slice(round(padding * scale), -round(padding * scale))
    return imresize(np.pad(plane, padding, mode="symmetric"), scale)[inside, inside]


def once_rounded(image: Image8, scale: int) -> Plane:
    """LR luma from 8-bit LR in RGB, rounded once instead of after each of the two passes."""
    return luma(rounded(imresize(image / 255, 1 / scale)))


def as_color(image: Image8) -> Image8:
    return image if image.ndim == 3 else np.stack([image] * 3, axis=-1)


def of_mean_mse(values: Sequence[float]) -> float:
    return float(-10 * np.log10(np.mean(10 ** (-np.asarray(values) / 10))))


def deviations(standard: Protocol, *, baseline: bool) -> dict[str, Protocol]:
    def change(**choices: Any) -> Protocol:
        return replace(standard, **choices)

    upsampling = {
        "SR by OpenCV's or PyTorch's bicubic": change(upscale=opencv),
        "both LR and SR by OpenCV's or PyTorch's bicubic": change(
            downscale=lambda hr, scale: opencv(hr, 1 / scale), upscale=opencv
        ),
        "SR by Pillow's bicubic": change(upscale=pillow),
        "SR by bicubic mirrored at the edge": change(upscale=mirrored),
    }
    return {
        "LR by OpenCV's or PyTorch's bicubic: a = -0.75, no antialiasing": change(
            downscale=lambda hr, scale: opencv(hr, 1 / scale)
        ),
        "LR by scikit-image's resize, order 3, anti_aliasing": change(downscale=scikit_image),
        "LR by box means (OpenCV's INTER_AREA)": change(downscale=box_mean),
        "LR by Gaussian blur (sigma 1 px) and decimation": change(
            downscale=lambda hr, scale: blur_and_decimate(hr, scale, 1.0)
        ),
        "the same, keeping each cell's first pixel: a shift": change(
            downscale=lambda hr, scale: blur_and_decimate(hr, 1, 1.0)[::scale, ::scale]
        ),
        "LR by Pillow's bicubic, or PyTorch's with antialias": change(
            downscale=lambda hr, scale: pillow(hr, 1 / scale)
        ),
        "LR by bicubic mirrored at the edge": change(downscale=lambda hr, scale: mirrored(hr, 1 / scale)),
        "LR luma rounded after each of the two passes (MATLAB on `uint8`)": change(
            downscale=lambda hr, scale: imresize(from_float(hr, np.dtype(np.uint8)), 1 / scale) / 255
        ),
        "LR luma of 8-bit RGB files, rounded after each pass": change(
            downscale_image=lambda image, scale: luma(imresize(image, 1 / scale))
        ),
        "the same, rounded once": change(downscale_image=once_rounded),
        **(upsampling if baseline else {}),
        "LR not rounded, as by SRCNN": change(round_lr=unrounded),
        "SR neither rounded nor clipped": change(round_sr=unrounded),
        "HR not rounded": change(luma=luma),
        "nothing rounded or clipped": change(luma=luma, round_lr=unrounded, round_sr=unrounded),
        "luma in 0..255 (OpenCV, Pillow, JPEG) instead of 16..235": change(
            luma=lambda image: rounded(luma(image, limited=False))
        ),
        "BT.709 luma": change(luma=lambda image: rounded(luma(image, matrix="bt709"))),
        "gray pictures through RGB to 16..235": change(luma=lambda image: luma_8bit(as_color(image)) / 255),
        "RGB instead of luma": change(luma=lambda image: as_color(image) / 255),
        "no border left out": change(shave=lambda scale: 0),
        "a border of scale + 6 pixels left out": change(shave=lambda scale: scale + 6),
        "HR not cropped to a multiple of the scale": change(crop=lambda image, scale: image),
        "peak is the picture's own range, not 255": change(peak=lambda hr: float(hr.max() - hr.min())),
        "PSNR of the mean squared error of the set": change(mean=of_mean_mse),
    }


def similarities(scale: int) -> dict[str, Callable[[Plane, Plane], float]]:
    def with_defaults(x: Plane, y: Plane) -> float:
        from skimage.metrics import structural_similarity

        cut = (slice(scale, -scale),) * 2
        return float(structural_similarity(x[cut], y[cut], data_range=1))  # type: ignore[no-untyped-call]

    return {
        "**the protocol, SSIM**": lambda x, y: ssim(x, y, peak=1, shave=scale),
        "SSIM by scikit-image's defaults: a box window of 7 x 7": with_defaults,
        "SSIM, no border left out": lambda x, y: ssim(x, y, peak=1, shave=0),
    }


def network(name: str) -> tuple[int, Upscale]:
    """The scale of a model, and its upscaling as a function."""
    engine = choose(packaged.find(name), precision="fp32").engine

    def upscale(plane: Plane, _: int) -> Plane:
        if plane.ndim == 2:
            return engine(plane)
        return np.stack([engine(channel) for channel in np.moveaxis(plane, -1, 0)], axis=-1)

    return engine.model.scale, upscale


def baseline(images: Sequence[Image8], scale: int) -> dict[str, float]:
    """Scores of bicubic under the protocol, and with unrounded LR, as in SRCNN's programs."""
    result = {}
    for name, protocol in {"": Protocol(), "lr_unrounded_": Protocol(round_lr=unrounded)}.items():
        pairs = [protocol.planes(image, scale) for image in images]
        result[f"{name}psnr_db"] = float(np.mean([psnr_db(x, y, peak=1, shave=scale) for x, y in pairs]))
        result[f"{name}ssim"] = float(np.mean([ssim(x, y, peak=1, shave=scale) for x, y in pairs]))
    return result


def pitfalls(method: Upscale, images: Sequence[Image8], scale: int) -> dict[str, Any]:
    """The PSNR of the protocol, what each deviation adds to it, and SSIM by several definitions."""
    standard = Protocol(upscale=method)
    base = standard.psnr_db(images, scale)

    def upscale(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return from_float(method(lr / 255, scale), lr.dtype)

    # The protocol that is varied here must be that of the package.
    assert abs(mean([evaluate_image(image, upscale, scale) for image in images]).psnr_db - base) < 1e-9
    pairs = [standard.planes(image, scale) for image in images]
    return {
        "psnr_db": base,
        "psnr_change_db": {
            what: protocol.psnr_db(images, scale) - base
            for what, protocol in deviations(standard, baseline=method is imresize).items()
        },
        "ssim": {
            what: float(np.mean([measure(x, y) for x, y in pairs]))
            for what, measure in similarities(scale).items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("datasets", type=Path, metavar="DATASETS")
    parser.add_argument(
        "-m",
        "--model",
        action="append",
        default=[],
        help="a packaged model or a model file to measure beside bicubic; may be repeated",
    )
    arguments = parser.parse_args()
    methods: dict[int, dict[str, Upscale]] = {scale: {f"bicubic x{scale}": imresize} for scale in SCALES}
    for name in arguments.model:
        scale, upscale = network(name)
        methods[scale][name] = upscale
    images = {
        name: [read_image(file) for file in find_images(arguments.datasets / folder)]
        for name, folder in BASELINE_SETS.items()
        if name in SETS or (arguments.datasets / folder).is_dir()
    }
    results = {
        "baseline": {
            name: {f"x{scale}": baseline(images[name], scale) for scale in SCALES} for name in images
        },
        "pitfalls": {
            f"x{scale}": {
                model: {name: pitfalls(upscale, images[name], scale) for name in SETS}
                for model, upscale in models.items()
            }
            for scale, models in methods.items()
        },
    }
    store("protocol_pitfalls", results)


if __name__ == "__main__":
    main()

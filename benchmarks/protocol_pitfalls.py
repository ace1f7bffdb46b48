"""The protocol's bicubic baseline, and what each common deviation does to PSNR: for `docs/protocol.md`.

    python benchmarks/protocol_pitfalls.py DATASETS [-m MODEL]...

DATASETS holds the folders Set5 and Set14; the baseline is also measured on BSDS500/val (BSD100) and
BSDS500/test where they are. One choice at a time differs from the protocol; the tables give the mean PSNR
minus the protocol's, in dB. Writes ``benchmarks/results/protocol_pitfalls.json``. Needs torch
and scikit-image (the extra `dev`).
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
from subpixel.evaluation.protocol import crop_to_multiple, evaluate_image, mean, pictures, read_picture
from subpixel.models import catalog as packaged
from subpixel.ops.color import luma, luma_8bit
from subpixel.ops.resize import blur_and_decimate, imresize

Picture = NDArray[np.uint8]
Plane = NDArray[Any]
Enlarge = Callable[[Plane, int], Plane]
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
    """The choices that the number depends on; all planes are in [0, 1]."""

    enlarge: Enlarge = imresize
    crop: Callable[[Picture, int], Picture] = crop_to_multiple
    luma: Callable[[Picture], Plane] = lambda image: luma_8bit(image) / 255
    shrink: Callable[[Plane, int], Plane] = lambda hr, scale: imresize(hr, 1 / scale)
    shrink_picture: Callable[[Picture, int], Plane] | None = None
    round_lr: Callable[[Plane], Plane] = rounded
    round_sr: Callable[[Plane], Plane] = rounded
    shave: Callable[[int], int] = lambda scale: scale
    peak: Callable[[Plane], float] = lambda hr: 1.0
    mean: Callable[[Sequence[float]], float] = lambda values: float(np.mean(values))

    def planes(self, image: Picture, scale: int) -> tuple[Plane, Plane]:
        """HR and SR of one picture."""
        image = self.crop(image, scale)
        hr = self.luma(image)
        lr = self.shrink_picture(image, scale) if self.shrink_picture else self.shrink(hr, scale)
        height, width = hr.shape[:2]
        return hr, self.round_sr(self.enlarge(self.round_lr(lr), scale))[:height, :width]

    def psnr_db(self, images: Sequence[Picture], scale: int) -> float:
        """The mean over a test set."""
        pairs = [self.planes(image, scale) for image in images]
        return self.mean([psnr_db(x, y, peak=self.peak(x), shave=self.shave(scale)) for x, y in pairs])


def pillow(plane: Plane, scale: float) -> Plane:
    size = (round(plane.shape[1] * scale), round(plane.shape[0] * scale))
    floats = Image.fromarray(plane.astype(np.float32))
    return np.asarray(floats.resize(size, Image.Resampling.BICUBIC), np.float64)


def opencv(plane: Plane, scale: float) -> Plane:
    """The rule of OpenCV's INTER_CUBIC, as PyTorch has it: a = -0.75 and no antialiasing."""
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
    """`imresize` with the picture mirrored at its edge instead of the edge pixel repeated."""
    margin = 12
    cut = slice(round(margin * scale), -round(margin * scale))
    return imresize(np.pad(plane, margin, mode="symmetric"), scale)[cut, cut]


def once_rounded(image: Picture, scale: int) -> Plane:
    """LR luma by way of LR in RGB at 8 bits, without the rounding between the two passes."""
    return luma(rounded(imresize(image / 255, 1 / scale)))


def as_color(image: Picture) -> Picture:
    return image if image.ndim == 3 else np.stack([image] * 3, axis=-1)


def of_mean_mse(values: Sequence[float]) -> float:
    return float(-10 * np.log10(np.mean(10 ** (-np.asarray(values) / 10))))


def deviations(standard: Protocol, *, baseline: bool) -> dict[str, Protocol]:
    def change(**choices: Any) -> Protocol:
        return replace(standard, **choices)

    enlarging = {
        "SR by OpenCV's or PyTorch's bicubic": change(enlarge=opencv),
        "both LR and SR by OpenCV's or PyTorch's bicubic": change(
            shrink=lambda hr, scale: opencv(hr, 1 / scale), enlarge=opencv
        ),
        "SR by Pillow's bicubic": change(enlarge=pillow),
        "SR by bicubic mirrored at the edge": change(enlarge=mirrored),
    }
    return {
        "LR by OpenCV's or PyTorch's bicubic: a = -0.75, no antialiasing": change(
            shrink=lambda hr, scale: opencv(hr, 1 / scale)
        ),
        "LR by scikit-image's resize, order 3, anti_aliasing": change(shrink=scikit_image),
        "LR by box means (OpenCV's INTER_AREA)": change(shrink=box_mean),
        "LR by Gaussian blur (sigma 1 px) and decimation": change(
            shrink=lambda hr, scale: blur_and_decimate(hr, scale, 1.0)
        ),
        "the same, keeping each cell's first pixel: a shift": change(
            shrink=lambda hr, scale: blur_and_decimate(hr, 1, 1.0)[::scale, ::scale]
        ),
        "LR by Pillow's bicubic, or PyTorch's with antialias": change(
            shrink=lambda hr, scale: pillow(hr, 1 / scale)
        ),
        "LR by bicubic mirrored at the edge": change(shrink=lambda hr, scale: mirrored(hr, 1 / scale)),
        "LR luma rounded after each of the two passes (MATLAB on `uint8`)": change(
            shrink=lambda hr, scale: imresize(from_float(hr, np.dtype(np.uint8)), 1 / scale) / 255
        ),
        "LR luma of 8-bit RGB files, rounded after each pass": change(
            shrink_picture=lambda image, scale: luma(imresize(image, 1 / scale))
        ),
        "the same, rounded once": change(shrink_picture=once_rounded),
        **(enlarging if baseline else {}),
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


def network(name: str) -> tuple[int, Enlarge]:
    """A model's scale, and how it enlarges."""
    engine = choose(packaged.find(name), precision="fp32").engine

    def enlarge(plane: Plane, _: int) -> Plane:
        if plane.ndim == 2:
            return engine(plane)
        return np.stack([engine(channel) for channel in np.moveaxis(plane, -1, 0)], axis=-1)

    return engine.model.scale, enlarge


def baseline(images: Sequence[Picture], scale: int) -> dict[str, float]:
    """Bicubic under the protocol, and with LR not rounded, as by SRCNN."""
    result = {}
    for name, protocol in {"": Protocol(), "lr_unrounded_": Protocol(round_lr=unrounded)}.items():
        pairs = [protocol.planes(image, scale) for image in images]
        result[f"{name}psnr_db"] = float(np.mean([psnr_db(x, y, peak=1, shave=scale) for x, y in pairs]))
        result[f"{name}ssim"] = float(np.mean([ssim(x, y, peak=1, shave=scale) for x, y in pairs]))
    return result


def pitfalls(enlarge: Enlarge, images: Sequence[Picture], scale: int) -> dict[str, Any]:
    """The protocol's PSNR, what each deviation adds to it, and SSIM by several rules."""
    standard = Protocol(enlarge=enlarge)
    base = standard.psnr_db(images, scale)

    def upscale(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return from_float(enlarge(lr / 255, scale), lr.dtype)

    # What is varied here must be what the package does.
    assert abs(mean([evaluate_image(image, upscale, scale) for image in images]).psnr_db - base) < 1e-9
    pairs = [standard.planes(image, scale) for image in images]
    return {
        "psnr_db": base,
        "psnr_change_db": {
            what: protocol.psnr_db(images, scale) - base
            for what, protocol in deviations(standard, baseline=enlarge is imresize).items()
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
        help="a packaged model or a model file, to show beside bicubic; may be repeated",
    )
    arguments = parser.parse_args()
    methods: dict[int, dict[str, Enlarge]] = {scale: {f"bicubic x{scale}": imresize} for scale in SCALES}
    for name in arguments.model:
        scale, enlarge = network(name)
        methods[scale][name] = enlarge
    images = {
        name: [read_picture(file) for file in pictures(arguments.datasets / folder)]
        for name, folder in BASELINE_SETS.items()
        if name in SETS or (arguments.datasets / folder).is_dir()
    }
    results = {
        "baseline": {
            name: {f"x{scale}": baseline(images[name], scale) for scale in SCALES} for name in images
        },
        "pitfalls": {
            f"x{scale}": {
                model: {name: pitfalls(enlarge, images[name], scale) for name in SETS}
                for model, enlarge in models.items()
            }
            for scale, models in methods.items()
        },
    }
    store("protocol_pitfalls", results)


if __name__ == "__main__":
    main()

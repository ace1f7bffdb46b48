"""Measure `--sharpness` and `--grain`.

    python benchmarks/sharpness.py quality --ffmpeg FFMPEG --datasets ../shared/datasets
    python benchmarks/sharpness.py grain --datasets ../shared/datasets
    python benchmarks/sharpness.py cost

``quality``: mean PSNR, VMAF and VMAF-NEG of Set14, BSD100 and the first frames of video clips, by sharpness.
Images are clips of one frame. VMAF rewards sharpening, VMAF-NEG (no enhancement gain) does not. FFMPEG is a
program with the filter libvmaf, such as that of the package imageio-ffmpeg.

``grain``: known noise is added to the LR frames of clips. Compares the noise of the source with that of the
result, reduced to the size of the source by bicubic: all of it, and its coarse part (means of 2x2 pixels).

``cost``: CPU time without and with sharpness and grain.

Writes ``sharpness.json``, ``grain.json`` and ``sharpness-cost.json`` in ``benchmarks/results``, for
docs/sharpness.md.
"""

import argparse
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from shared import RAW_SIZE, store
from skimage import data

import subpixel
from subpixel.engines.base import to_float
from subpixel.evaluation.clips import find_clips, luma_planes
from subpixel.evaluation.compression import through_h264
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import Degradation, crop_to_multiple, find_images, lr_plane, read_image
from subpixel.ops.color import luma_8bit
from subpixel.ops.grain import add_grain, removed_noise
from subpixel.ops.resize import imresize

SHARPNESS = (0, 0.25, 0.5, 1)
SCALES = (2, 3)
FRAMES = 3

Plane = NDArray[np.uint8]
Clip = list[Plane]


def vmaf(ffmpeg: str, results: Clip, originals: Clip) -> tuple[float, float]:
    """VMAF and VMAF-NEG of gray frames, as means over the frames."""
    height, width = originals[0].shape
    models = "version=vmaf_v0.6.1\\:name=vmaf|version=vmaf_v0.6.1neg\\:name=neg"
    with tempfile.TemporaryDirectory() as folder:
        inputs: list[str] = []
        for name, frames in (("result", results), ("original", originals)):
            file = Path(folder, name)
            file.write_bytes(b"".join(frame.tobytes() for frame in frames))
            inputs += ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width}x{height}", "-i", str(file)]
        log = Path(folder, "log")
        filters = (
            "[0:v]format=yuv420p[a];[1:v]format=yuv420p[b];"
            f"[a][b]libvmaf=model='{models}':log_fmt=json:log_path={log}"
        )
        subprocess.run([ffmpeg, "-v", "error", *inputs, "-lavfi", filters, "-f", "null", "-"], check=True)
        pooled = json.loads(log.read_text())["pooled_metrics"]
    return pooled["vmaf"]["mean"], pooled["neg"]["mean"]


def image_clips(folder: Path) -> list[Clip]:
    """The luma of images, each as a clip of one frame."""
    images = [read_image(file) for file in find_images(folder)]
    return [[image if image.ndim == 2 else luma_8bit(image)] for image in images]


def video_clips(datasets: Path) -> list[Clip]:
    """The luma of the first frames of clips."""
    clips = []
    for clip in find_clips([datasets / "video"], RAW_SIZE):
        with contextlib.closing(luma_planes(clip, RAW_SIZE)) as planes:
            clips.append([luma.copy() for luma in islice(planes, FRAMES)])
    return clips


def quality(datasets: Path, ffmpeg: str) -> None:
    sets = {
        "Set14": image_clips(datasets / "Set14"),
        "BSD100": image_clips(datasets / "BSDS500" / "val"),
        "clips": video_clips(datasets),
    }
    rows: list[dict[str, Any]] = []
    for scale in SCALES:
        for model in ("default", "best"):
            for sharpness in SHARPNESS:
                upscaler = subpixel.load(model, scale=scale, precision="int8", sharpness=sharpness)
                row: dict[str, Any] = {"model": f"{model}-x{scale}", "sharpness": sharpness}
                for name, clips in sets.items():
                    row[name] = mean_scores(clips, scale, upscaler, ffmpeg)
                rows.append(row)
                print(row, flush=True)
    store("sharpness", {"frames": FRAMES, "rows": rows})


def mean_scores(
    clips: Sequence[Clip], scale: int, upscale: Callable[[Plane], Plane], ffmpeg: str
) -> dict[str, float]:
    """Mean PSNR, VMAF and VMAF-NEG of clips, each with weight 1."""
    scores = []
    for clip in clips:
        originals = [np.ascontiguousarray(crop_to_multiple(frame, scale)) for frame in clip]
        results = [upscale(lr_plane(hr, scale, Degradation("bicubic"))) for hr in originals]
        psnr = np.mean([psnr_db(hr, sr, shave=scale) for hr, sr in zip(originals, results, strict=True)])
        scores.append((float(psnr), *vmaf(ffmpeg, results, originals)))
    names = ("psnr_db", "vmaf", "vmaf_neg")
    return {name: round(float(value), 3) for name, value in zip(names, np.mean(scores, axis=0), strict=True)}


def with_noise(frame: Plane, sigma: float, film: bool, rng: np.random.Generator) -> Plane:
    """Add white noise, or grains of film: larger than a pixel, and weaker in bright areas."""
    noise = rng.normal(0, 1, frame.shape)
    if film:
        noise = gaussian_filter(noise, 0.6)
        noise *= (1.4 - 0.8 * frame / 255) / noise.std()
    rounded: NDArray[np.float64] = np.clip(np.floor(frame + sigma * noise + 0.5), 0, 255)
    return rounded.astype(np.uint8)


def grain(datasets: Path) -> None:
    clips = [clip for clip in video_clips(datasets) if clip[0].size < 300_000]
    rows: list[dict[str, Any]] = []
    for model in ("default-compressed", "best-compressed", "default"):
        upscaler = subpixel.load(model, scale=2, precision="fp32")
        for kind, sigma, crf in (
            ("white", 2, None),
            ("white", 5, None),
            ("film", 2, None),
            ("film", 5, None),
            ("film", 5, 18),
            ("film", 5, 23),
        ):
            scores = [noise_levels(clip, upscaler, sigma, kind == "film", crf) for clip in clips]
            means = {key: round(float(np.mean([score[key] for score in scores])), 2) for key in scores[0]}
            rows.append({"model": f"{model}-x2", "noise": kind, "sigma": sigma, "crf": crf, **means})
            print(rows[-1], flush=True)
    store("grain", {"clips": len(clips), "rows": rows})


def noise_levels(
    clip: Clip, upscale: subpixel.Upscaler, sigma: float, film: bool, crf: int | None
) -> dict[str, float]:
    """Standard deviations in levels of 8 bits: the noise of the source, and of results by grain."""
    rng = np.random.default_rng(0)
    clean = [lr_plane(crop_to_multiple(frame, 2), 2, Degradation("bicubic")) for frame in clip]
    noisy = [with_noise(frame, sigma, film, rng) for frame in clean]
    if crf is not None:
        clean, noisy = through_h264(clean, crf), through_h264(noisy, crf)
    squares: dict[str, list[float]] = {}

    def record(name: str, noise: NDArray[Any]) -> None:
        height, width = (side // 2 * 2 for side in noise.shape)
        coarse = noise[:height, :width].reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
        squares.setdefault(name, []).append(float(noise.var()))
        squares.setdefault(f"{name} coarse", []).append(float(coarse.var()))

    for number, (before, after) in enumerate(zip(clean, noisy, strict=True)):
        smooth = gaussian_filter(np.abs(gaussian_filter(before.astype(float), 1, order=(0, 1))), 3)
        smooth += gaussian_filter(np.abs(gaussian_filter(before.astype(float), 1, order=(1, 0))), 3)
        flat = smooth < np.quantile(smooth, 0.3)
        record("source", np.where(flat, after.astype(float) - before, 0))
        small = to_float(after)
        plain = upscale(small)
        reference = upscale(to_float(before))
        removed = removed_noise(small, plain)
        for share in (0.0, 0.5, 1.0):
            large = plain.copy()
            if removed is not None:
                add_grain(large, removed, share, number, small.shape)
            difference = imresize((large - reference).astype(float), 0.5) * 255
            record(f"grain {share:g}", np.where(flat, difference, 0))
    # Noise counts in the flat 30% of a frame.
    return {name: float(np.sqrt(np.mean(values) / 0.3)) for name, values in squares.items()}


def cpu_seconds(call: Callable[[], object], repeats: int) -> float:
    """The least CPU time of a call, of all threads together; other programs disturb it little."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times)


def cost() -> None:
    astronaut: NDArray[np.uint8] = data.astronaut()  # type: ignore[no-untyped-call]
    gray = np.mean(astronaut, axis=2)
    frame = np.ascontiguousarray(imresize(gray, 1.25)[:360, :640].round().clip(0, 255).astype(np.uint8))
    photo = np.tile(astronaut, (8, 12, 1))[:4000, :6000]
    rows: list[dict[str, Any]] = []
    for model in ("default", "best"):
        for sharpness in (0, 0.5):
            upscaler = subpixel.load(model, scale=3, sharpness=sharpness)
            upscaler(frame)
            seconds = cpu_seconds(lambda: upscaler(frame), 15)  # noqa: B023
            rows.append({"what": "frame", "model": f"{model}-x3", "sharpness": sharpness, "seconds": seconds})
            print(rows[-1], flush=True)
    small = to_float(frame)
    large = to_float(subpixel.load("default-compressed", scale=3)(frame))
    removed = removed_noise(small, large)
    assert removed is not None
    rows.append(
        {
            "what": "grain",
            "estimate_seconds": cpu_seconds(lambda: removed_noise(small, large), 9),
            "add_seconds": cpu_seconds(lambda: add_grain(large, removed, 0.01, 1, small.shape), 9),
        }
    )
    print(rows[-1], flush=True)
    for sharpness in (0, 0.5):
        upscaler = subpixel.load("default", scale=2, sharpness=sharpness)
        seconds = cpu_seconds(lambda: upscaler(photo), 1)  # noqa: B023
        rows.append({"what": "24 MP", "model": "default-x2", "sharpness": sharpness, "seconds": seconds})
        print(rows[-1], flush=True)
    store("sharpness-cost", {"rows": rows})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("quality", "grain", "cost"))
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    parser.add_argument("--ffmpeg", default="ffmpeg")
    arguments = parser.parse_args()
    if arguments.what == "quality":
        quality(arguments.datasets, arguments.ffmpeg)
    elif arguments.what == "grain":
        grain(arguments.datasets)
    else:
        cost()


if __name__ == "__main__":
    main()

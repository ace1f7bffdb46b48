"""Measure what it saves to copy the unchanged parts of videos, and what the comparison costs.

    python benchmarks/unchanged.py --datasets ../shared/datasets [CLIP ...] [--frames 48] [--rounds 3]

CLIPs are any videos. Besides, four are made from images of the datasets: slides, a screen (typing, a pointer,
a scrolling window), a still picture before which something moves, and noise, in which nothing is unchanged.
All but the noise go through libx264.

Each frame is upscaled x2 by `default-compressed` in int8, with and without copies in turn, on one thread.
Both results have to be equal. Times are CPU times, which other work on the machine disturbs less. Then whole
jobs are run with and without copies. Writes ``benchmarks/results/unchanged.json``.
"""

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from shared import store

import subpixel
from subpixel.engines.base import Engine
from subpixel.sizes import TargetSize
from subpixel.video.media.pixel_formats import plane
from subpixel.video.pipeline import links
from subpixel.video.pipeline.frames import FrameUpscaler
from subpixel.video.pipeline.unchanged import Rectangle, changed_rectangles

SIZE, SCALE = (640, 360), 2
JOB: dict[str, Any] = {"codec": "libx264", "preset": "superfast", "overwrite": True, "threads": 1}

Pixels = NDArray[np.uint8]


def pictures(datasets: Path) -> list[Image.Image]:
    """Return images of Set14 at the size of the made clips."""
    files = sorted((datasets / "Set14" / "HR").glob("*.png"))
    return [Image.open(file).convert("RGB").resize(SIZE, Image.Resampling.LANCZOS) for file in files]


def slides(images: list[Image.Image], count: int) -> Iterator[Image.Image]:
    """Yield a new image every 24 frames."""
    return (images[number // 24 % len(images)] for number in range(count))


def screen(images: list[Image.Image], count: int) -> Iterator[Image.Image]:
    """Yield a desktop: text appears letter by letter, a pointer moves, and now and then a window scrolls."""
    tall = np.concatenate([np.asarray(image) for image in images[1:4]])
    text = "The quick brown fox jumps over the lazy dog. " * 20
    for number in range(count):
        frame = Image.new("RGB", SIZE, (228, 230, 235))
        top = 4 * max(0, number % 48 - 32)
        frame.paste(Image.fromarray(tall[top : top + 250, :300]), (320, 40))
        draw = ImageDraw.Draw(frame)
        draw.rectangle((20, 40, 300, 290), "white")
        for line in range(number // 80 + 1):
            letters = text[line * 40 : min(line * 40 + 40, number // 2)]
            draw.text((28, 48 + 16 * line), letters, "black")
        left, up = 100 + 3 * number % 400, 100 + number % 150
        draw.polygon([(left, up), (left + 10, up + 12), (left, up + 16)], "black")
        yield frame


def still(images: list[Image.Image], count: int) -> Iterator[Image.Image]:
    """Yield a picture before which a smaller one moves, as in a recording of a room."""
    for number in range(count):
        frame = images[2].copy()
        frame.paste(images[5].resize((80, 120)), (5 * number % 560, 150))
        yield frame


def noise(images: list[Image.Image], count: int) -> Iterator[Image.Image]:
    """Yield a picture with new noise in each frame."""
    rng = np.random.default_rng(0)
    picture = np.asarray(images[2]).astype(float)
    for _ in range(count):
        noisy = picture + rng.normal(0, 6, picture.shape)
        yield Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


MADE: dict[str, Callable[[list[Image.Image], int], Iterator[Image.Image]]] = {
    "slides": slides,
    "screen": screen,
    "still background": still,
    "noise": noise,
}


def write(path: Path, images: Iterator[Image.Image], *, lossless: bool) -> Path:
    """Write a clip."""
    options = {"crf": "0" if lossless else "20", "preset": "veryfast"}
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for image in images:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(image))))
        output.mux(stream.encode())
    return path


def everything(before: Pixels, after: Pixels, halo_px: int) -> list[Rectangle]:
    """Take the place of `changed_rectangles` in a job that copies nothing."""
    height, width = after.shape
    return [(slice(0, height), slice(0, width))]


def measure(path: Path, count: int, rounds: int) -> dict[str, float]:
    """Upscale the first frames with and without copies in turn."""
    upscaler = subpixel.load("default-compressed", scale=SCALE, precision="int8", threads=1)
    upscale = FrameUpscaler(upscaler.family, TargetSize(scale=SCALE))
    with av.open(str(path)) as file:
        frames = list(itertools.islice(file.decode(video=0), count))
    upscale(frames[0])
    assert isinstance(upscaler.engine, Engine)
    halo_px = upscaler.engine.model.spec.halo_px
    ratios, comparisons, shares = [], [], []
    for _ in range(rounds):
        spent = {"with": 0.0, "without": 0.0, "comparison": 0.0, "network": 0.0}
        before = None
        for frame, link in links.linked(frames, lambda frame: True):
            assert link is not None
            began = time.process_time()
            large = upscale(frame)
            spent["without"] += time.process_time() - began
            began = time.process_time()
            with link:
                other = upscale(frame, link)
            spent["with"] += time.process_time() - began
            shares.append(link.copied_share)
            for index in range(len(large.planes)):
                if not np.array_equal(plane(large, index), plane(other, index)):
                    raise SystemExit(f"{path.name}: a frame differs")
            small = plane(frame, 0)
            if before is not None:
                began = time.process_time()
                changed_rectangles(before, small, halo_px)
                spent["comparison"] += time.process_time() - began
                began = time.process_time()
                upscaler.engine(small)
                spent["network"] += time.process_time() - began
            before = small
        ratios.append(spent["with"] / spent["without"])
        comparisons.append(spent["comparison"] / spent["network"])
    return {
        "frames": len(frames),
        "width": frames[0].width,
        "height": frames[0].height,
        "copied_share": round(statistics.mean(shares), 3),
        "time_ratio": round(statistics.median(ratios), 3),
        "comparison_share_of_network": round(statistics.median(comparisons), 4),
    }


def job_ratio(path: Path, rounds: int) -> float:
    """Return the CPU time of a job with copies, relative to one without, as the median of several rounds."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            spent = []
            for replacement in (changed_rectangles, everything):
                with mock.patch.object(links, "changed_rectangles", replacement):
                    began = time.process_time()
                    subpixel.upscale_video(path, Path(folder) / "out.mkv", scale=SCALE, **JOB)
                    spent.append(time.process_time() - began)
            ratios.append(spent[0] / spent[1])
    return round(statistics.median(ratios), 3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path, nargs="*")
    parser.add_argument("--datasets", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    images = pictures(options.datasets)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        clips = {
            name: write(Path(folder) / f"{name}.mkv", make(images, options.frames), lossless=name == "noise")
            for name, make in MADE.items()
        }
        for name, path in {**clips, **{each.name: each for each in options.clips}}.items():
            results[name] = measure(path, options.frames, options.rounds)
            if name in MADE:
                results[name]["job_time_ratio"] = job_ratio(path, options.rounds)
            print(name, results[name], flush=True)
    target = subpixel.load("default-compressed", scale=SCALE, precision="int8").engine
    store("unchanged", {"engine": target.name, "target": target.target, "threads": 1, "clips": results})


if __name__ == "__main__":
    main()

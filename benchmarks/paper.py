"""Make the tables and figures of the ESPCN paper with our own networks, for `docs/paper.md`.

    python benchmarks/paper.py measure    # PSNR: results/paper.json
    python benchmarks/paper.py video      # PSNR on clips: results/paper-video.json
    python benchmarks/paper.py time       # times and Figure 2: results/paper-times.json
    python benchmarks/paper.py figures    # Figures 3 to 6

`make tables` copies the stored results to the pages. ``--datasets`` is the folder of images and clips.
``measure`` and ``video`` continue from the stored results: a network is measured again only if its file has
changed. Run ``time`` on an idle machine. Needs `pip install '.[train,bench]'`, because TNRD runs on PyTorch.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from statistics import median

import numpy as np
from shared import RAW_SIZE, RESULTS, ROOT, TO_1080P, digest, load, stamp, store
from tables_paper import METHODS, SETS, at_scale, available_methods, video_methods

from subpixel.engines.select import available_cpus, choose
from subpixel.evaluation import figures
from subpixel.evaluation.clips import find_clips
from subpixel.evaluation.drawing import save_figure
from subpixel.evaluation.methods import Method, find_method
from subpixel.evaluation.protocol import evaluate_image, find_images, mean, read_image
from subpixel.evaluation.video import ClipSetup, evaluate_clip
from subpixel.models import catalog as packaged
from subpixel.models.calibration import calibrate
from subpixel.models.model import Model, ModelMetadata

DRAWINGS = ROOT / "docs" / "figures"

FRAMES = 10
"""Number of frames from the start of each clip."""

OTHER_CLIPS = ("openh264_foreman_cif_intra",)
"""Clips with the same content as another one."""


def method(name: str, scale: int, precision: str = "auto") -> Method:
    """Find a method; bicubic and TNRD have only one precision, whatever is asked."""
    if name == "bicubic" or name.startswith("tnrd"):
        precision = "auto"
    return find_method(name, scale=scale, precision=precision)


def measure(datasets: Path) -> None:
    path = RESULTS / "paper.json"
    stored = load("paper")
    for scale in METHODS:
        for name in available_methods(scale):
            key = name if name != "bicubic" else f"bicubic-x{scale}"
            if stored.get(key, {}).get("digest") == digest(name):
                continue
            upscale = method(name, scale, "fp32").upscale
            psnr_db = {}
            for folder, called in SETS.items():
                files = find_images(datasets / folder)
                scores = [evaluate_image(read_image(file), upscale, scale) for file in files]
                psnr_db[called] = round(mean(scores).psnr_db, 3)
            stored[key] = {"digest": digest(name), "measured": stamp(), "psnr_db": psnr_db}
            print(key, psnr_db, flush=True)
            path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")


def measure_video(datasets: Path) -> None:
    path = RESULTS / "paper-video.json"
    stored = load("paper-video")
    clips = [clip for clip in find_clips([datasets / "video"], RAW_SIZE) if clip.stem not in OTHER_CLIPS]
    shown = {name for scale in METHODS for name in (f"bicubic-x{scale}", *video_methods(scale))}
    stored = {name: measured for name, measured in stored.items() if name in shown}
    path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")
    for scale in METHODS:
        for name in video_methods(scale):
            if stored.get(name, {}).get("digest") == digest(name):
                continue
            upscale = method(name, scale, "fp32").upscale
            scores = [
                evaluate_clip(clip, upscale, ClipSetup(scale), size=RAW_SIZE, frames=FRAMES) for clip in clips
            ]
            stored[f"bicubic-x{scale}"] = {one.name: round(one.mean.bicubic.psnr_db, 3) for one in scores}
            psnr_db = {one.name: round(one.mean.model.psnr_db, 3) for one in scores}
            stored[name] = {"digest": digest(name), "measured": stamp(), "psnr_db": psnr_db}
            print(name, psnr_db, flush=True)
            path.write_text(json.dumps(stored, indent=2, sort_keys=True) + "\n")


def untrained(name: str, scale: int) -> Method:
    """The network ``name`` at a scale for which there are no weights; random ones take the same time."""
    other = packaged.find(name)
    *hidden, last = other.spec.layers
    outputs = other.spec.channels * (scale**2 if other.spec.upsampling == "shuffle" else 1)
    layers = (*hidden, dataclasses.replace(last, outputs=outputs))
    spec = dataclasses.replace(other.spec, scale=scale, layers=layers)
    rng = np.random.default_rng(0)
    weights = {key: rng.normal(0, 0.05, shape).astype(np.float32) for key, shape in spec.shapes().items()}
    model = Model(at_scale(name, scale), spec, weights, ModelMetadata())
    if other.quantized:
        model = calibrate(model, [rng.integers(0, 256, (96, 96)).astype(np.uint8)])
    return Method(model.name, scale, choose(model).engine)


def time_all(datasets: Path, rounds: int) -> None:
    methods = [method(name, 3) for name in available_methods(3)]
    figure, shown = figures.quality_against_time(datasets / "Set14", methods)
    save_figure(figure, DRAWINGS / "paper-quality.png")
    frames = {}
    for scale, (height, width) in TO_1080P.items():
        plane = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)
        of_scale = [method(name, scale) for name in available_methods(scale)]
        trained = available_methods(scale)
        of_scale += [
            untrained(name, scale) for name in available_methods(3) if at_scale(name, scale) not in trained
        ]
        times: dict[str, list[float]] = {one.name: [] for one in of_scale}
        for number in range(rounds):
            for one in of_scale:
                if number < 3 or times[one.name][0] < 1000:  # slow methods run only three times
                    started = time.perf_counter()
                    one.upscale(plane)
                    times[one.name].append((time.perf_counter() - started) * 1000)
        frames[f"x{scale}"] = {name: round(median(spent[1:]), 1) for name, spent in times.items()}
        print(scale, frames[f"x{scale}"], flush=True)
    store("paper-times", {"threads": available_cpus(), "Set14 x3": shown, "1920x1080": frames})


def draw(datasets: Path) -> None:
    espcn, srcnn = (
        packaged.find(next(name for name in names if name in available_methods(3)))
        for names in (("espcn-large-x3", "espcn-t91-x3"), ("srcnn-955-large-x3", "srcnn-915-t91-x3"))
    )
    for called, network in (("espcn", espcn), ("srcnn", srcnn)):
        save_figure(figures.first_layer(network), DRAWINGS / f"paper-{called}-first.png")
        save_figure(figures.last_layer(network), DRAWINGS / f"paper-{called}-last.png")
    shown = ("bicubic", srcnn.name, "tnrd-large-x3", espcn.name, "default-x3")
    for folder in ("Set14", "BSDS500/val"):
        methods = [method(name, 3) for name in shown if name in available_methods(3)]
        figure = figures.crops(datasets / folder, methods)
        save_figure(figure, DRAWINGS / f"paper-crops-{SETS[folder]}.png")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("measure", "video", "time", "figures"))
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    if options.what == "measure":
        measure(options.datasets)
    elif options.what == "video":
        measure_video(options.datasets)
    elif options.what == "time":
        time_all(options.datasets, options.rounds)
    elif options.what == "figures":
        draw(options.datasets)


if __name__ == "__main__":
    main()

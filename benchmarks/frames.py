"""Compares networks that see several frames with those that see a single one, and the network for video.

    python benchmarks/frames.py train --datasets ../shared/datasets [--only early-3 --threads 1]
    python benchmarks/frames.py measure --datasets ../shared/datasets

`train` trains each of `FORMS` with ``configs/frames-x4.toml`` and some values changed, in ``runs/frames``:
five to ten minutes each on one core with AMX. It can be interrupted at any time, and continues from the
checkpoints.
`measure` measures those that are trained, and packaged models beside them, on the first frames of the
validation clips. It writes ``benchmarks/results/frames.json``.
"""

import argparse
import dataclasses
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from shared import ROOT, load, store, with_changes

from subpixel.engines.base import from_float
from subpixel.evaluation.methods import find_method
from subpixel.evaluation.protocol import UpscaleFrames
from subpixel.evaluation.video import ClipProtocol, ClipScores, ClipSetup, evaluate_frames, mean_of_clips
from subpixel.models.catalog import find
from subpixel.models.model import Model
from subpixel.training.clips import find_training_clips
from subpixel.training.config import TrainingConfig
from subpixel.training.config_file import load_config
from subpixel.training.frames_file import load_frames_model
from subpixel.training.frames_network import FramesNetwork
from subpixel.training.loop import EpochReport, Run
from subpixel.training.network import Network
from subpixel.training.recurrent_network import RecurrentNetwork
from subpixel.training.result import finished_model

CONFIG = ROOT / "configs" / "frames-x4.toml"
RUNS = ROOT / "runs" / "frames"
SCALE, FRAMES = 4, 10

WIDER_5 = (28, 27, 26, 26, 26, 26)
"""Hidden layers of five frames that meet two by two, at the cost of the others."""


def form(widths: tuple[int, ...] = (24,) * 6, **frames: Any) -> dict[str, dict[str, Any]]:
    return {"frames": frames, "network": {"widths": widths}}


FORMS = {
    "single": form(count=1),
    "early-3": form(count=3),
    "early-5": form(count=5),
    "slow-3": form(count=3, fusion="slow"),
    "slow-5": form(WIDER_5, count=5, fusion="slow"),
    "3d-3": form(count=3, fusion="3d"),
    "3d-5": form(WIDER_5, count=5, fusion="3d"),
    "single, 30 channels": form((30,) * 6, count=1),
    "early-3-motion": form(count=3, motion="transformer"),
    "single, 36 channels": form((36,) * 6, count=1),
    "early-5-motion": form(count=5, motion="transformer"),
}
"""Changes of the config by name: seven forms of 30,000 multiply-adds, and two with motion, each after a
single-frame network of its cost."""

PACKAGED = ("bicubic", "default-x4", "best-x4")

VIDEO = "video-x4"
"""The packaged network for video, which PyTorch computes in fp32."""


def folder_of(name: str) -> Path:
    return RUNS / name.removesuffix(" channels").replace(", ", "-")


def config_of(name: str) -> TrainingConfig:
    base = dataclasses.replace(load_config(CONFIG), name=f"frames-{folder_of(name).name}-x4")
    return with_changes(base, FORMS[name])


def train(names: list[str], datasets: Path) -> None:
    for name in names:
        run = Run(config_of(name), datasets, folder_of(name), torch.device("cpu"), compiled=True)
        run.resume()

        def show(report: EpochReport, name: str = name) -> None:
            psnr = report.validation_psnr_db
            shown = "" if psnr is None else f"  {psnr:.3f} dB"
            print(f"{name}: epoch {report.epoch}, loss {report.loss:.3e}{shown}", flush=True)

        run.train(show)
        finished_model(run, CONFIG).save(folder_of(name) / "model.safetensors")


def methods() -> Iterator[tuple[str, float, UpscaleFrames]]:
    """Name, multiply-adds per LR pixel and method of all that there is to measure."""
    for name in PACKAGED:
        method = find_method(name, scale=SCALE, precision="auto" if name == "bicubic" else "fp32")
        macs = 0 if method.model is None else method.model.spec.macs_per_lr_pixel
        yield name, macs, method.upscale_frames
    for name in FORMS:
        path = folder_of(name) / "model.safetensors"
        if path.is_file():
            frames = load_frames_model(path)
            assert isinstance(frames.network, FramesNetwork)
            yield name, frames.network.macs_per_lr_pixel, frames
    model = find(VIDEO)
    yield VIDEO, model.spec.macs_per_lr_pixel, partial(upscaled, model)


def upscaled(model: Model, planes: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """Upscale frames in fp32 with PyTorch, which is faster than the reference and gives the same."""
    network = Network(model.spec) if model.spec.history is None else RecurrentNetwork(model.spec)
    network.load_model(model)
    frames = (torch.from_numpy(plane / np.float32(255))[None, None] for plane in planes)
    for phases in network.upscale_frames(frames):
        hr = torch.nn.functional.pixel_shuffle(phases, model.scale)
        yield from_float(hr[0, 0].numpy(), np.dtype(np.uint8))


def scores_of(clips: list[ClipScores]) -> dict[str, Any]:
    overall = mean_of_clips(clips).model
    temporal = [clip.temporal for clip in clips if clip.temporal is not None]
    return {
        "psnr_db": round(overall.psnr_db, 3),
        "ssim": round(overall.ssim, 4),
        "warping_error": round(mean(one.warping_error for one in temporal), 7),
        "tof_px": round(mean(one.tof_px for one in temporal), 4),
        "clips": {clip.name: round(clip.mean.model.psnr_db, 3) for clip in clips},
    }


def measure(datasets: Path) -> None:
    setup = ClipSetup(SCALE, protocol=ClipProtocol("full-frame"), temporal=True)
    rows = dict(load("frames").get("rows", {}))
    for name, macs, upscale in methods():
        clips = [
            evaluate_frames(clip, upscale, setup, frames=FRAMES)
            for clip in find_training_clips(datasets / "video_train" / "validation")
        ]
        rows[name] = {"macs_per_lr_pixel": round(macs), **scores_of(clips)}
        print(name, rows[name], flush=True)
        order = [*PACKAGED, *FORMS, VIDEO]
        store("frames", {"frames": FRAMES, "rows": {key: rows[key] for key in order if key in rows}})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("--datasets", type=Path, default=Path("../shared/datasets"))
    parser.add_argument("--only", action="append", choices=list(FORMS))
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.what == "train":
        train(options.only or list(FORMS), options.datasets)
    else:
        measure(options.datasets)


if __name__ == "__main__":
    main()

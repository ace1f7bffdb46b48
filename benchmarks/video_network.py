"""Measure the packaged networks for video beside `best`, and draw what they gain.

    python benchmarks/video_network.py --datasets ../shared/datasets [--only compressed --scales 4]

The validation clips, and five of a still camera, at x2, x3 and x4: PSNR of each frame on luma (bicubic LR,
all pixels, int8); how near a state that begins some frames before a frame comes to that of an endless run;
and 200 times the same frame. Those for compressed video, beside the others for it: PSNR after H.264.
Writes ``benchmarks/results/video-network.json``, and two figures in ``docs/figures``: the gain frame by
frame, and crops.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from shared import ROOT, load, store

from subpixel.engines.history.frames import NativeHistory
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.numpy_history import FrameState
from subpixel.evaluation.compression import through_h264
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import bicubic, crop_to_multiple, lr_plane
from subpixel.models.catalog import find
from subpixel.training.clips import find_training_clips, read_frames

SCALES = (2, 3, 4)

WARM_UPS = (2, 4, 8, 12, 16, 24)
STARTS, FOLLOWING = (26, 36, 46), 4
"""First frames after a warm-up, and how many of them are compared."""

STATIC_FRAME, STATIC_TIMES = 5, 200

CROPS = "edgetam_hideandseek", 3, (0, 16, 24, 32, 48)
"""The clip, scale and frames of the crops."""

CROP_PX, MAGNIFIED = 108, 2

CRF = 23
"""Of the compressed clips."""

FOR_COMPRESSED = ("default-compressed", "best-compressed", "video-compressed")

Plane = NDArray[np.uint8]


class Clip:
    """A clip at a scale, with the results of both networks."""

    def __init__(self, path: Path, scale: int, frames: int, video: NativeHistory) -> None:
        self.name, self.scale, self.video = path.stem, scale, video
        self.hr = [crop_to_multiple(frame, scale) for frame in read_frames(path, frames)]
        self.lr = [lr_plane(frame, scale) for frame in self.hr]
        best = NativeEngine(find(f"best-x{scale}"))
        self.best = [best(frame) for frame in self.lr]
        self.results = self.run(range(len(self.lr)))

    def run(self, frames: Sequence[int]) -> list[Plane]:
        """Upscale some frames, from a new state on."""
        state: FrameState | None = None
        results = []
        for number in frames:
            result, state = self.video.correct(self.lr[number], self.best[number], state)
            results.append(result)
        return results

    def psnr(self, results: Sequence[Plane], first: int = 0) -> list[float]:
        """PSNR of results, of which the first belongs to a certain frame."""
        return [psnr_db(one, hr, shave=0) for one, hr in zip(results, self.hr[first:], strict=False)]

    def warm_up(self, count: int) -> list[float]:
        """PSNR after a warm-up, minus that of the endless run."""
        endless = self.psnr(self.results)
        differences = []
        for start in STARTS:
            if start + FOLLOWING <= len(self.lr):
                warm = self.run(range(start - count, start + FOLLOWING))[count:]
                pairs = zip(self.psnr(warm, start), endless[start:], strict=False)
                differences += [one - other for one, other in pairs]
        return differences

    def static(self) -> list[float]:
        """PSNR of the same frame again and again."""
        repeated = self.run([STATIC_FRAME] * STATIC_TIMES)
        return [psnr_db(one, self.hr[STATIC_FRAME], shave=0) for one in repeated]


def measured(clip: Clip) -> dict[str, Any]:
    static = clip.static()
    return {
        "best_db": [round(value, 3) for value in clip.psnr(clip.best)],
        "video_db": [round(value, 3) for value in clip.psnr(clip.results)],
        "warm_up_db": {str(count): [round(v, 4) for v in clip.warm_up(count)] for count in WARM_UPS},
        "static_db": {"first": round(static[0], 3), "lowest": round(min(static), 3)},
    }


def draw_crops(clip: Clip, path: Path) -> None:
    """Rows: bicubic, best, video, and the original; columns: frames."""
    detail = np.abs(np.diff(clip.hr[0].astype(int), axis=1))
    steps = range(0, clip.hr[0].shape[0] - 2 * CROP_PX, 24)
    places = [(row, column) for row in steps for column in range(0, clip.hr[0].shape[1] - 2 * CROP_PX, 24)]
    top, left = max(places, key=lambda at: detail[at[0] : at[0] + CROP_PX, at[1] : at[1] + CROP_PX].sum())
    small = bicubic(clip.scale)
    rows = [
        np.hstack([planes(number)[top : top + CROP_PX, left : left + CROP_PX] for number in CROPS[2]])
        for planes in (
            lambda number: small(clip.lr[number]),
            lambda number: clip.best[number],
            lambda number: clip.results[number],
            lambda number: clip.hr[number],
        )
    ]
    picture = Image.fromarray(np.vstack(rows))
    size = picture.width * MAGNIFIED, picture.height * MAGNIFIED
    picture.resize(size, Image.Resampling.NEAREST).save(path)


def draw_gain(clips: dict[str, dict[str, Any]], path: Path) -> None:
    """The gain over `best`, frame by frame."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9, 4), layout="constrained")
    for name, clip in clips.items():
        gain = np.subtract(clip["video_db"], clip["best_db"])
        axes.plot(range(1, len(gain) + 1), gain, label=name)
    axes.axhline(0, color="gray", linewidth=0.8)
    axes.set(xlabel="frame", ylabel="PSNR over best-x3 (dB)")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=110)


def measure_clean(paths: Sequence[Path], frames: int, wanted: Sequence[int]) -> dict[str, dict[str, Any]]:
    """Measure the networks for clean video by scale and clip, and draw the figures."""
    scales: dict[str, dict[str, Any]] = {}
    for scale in wanted:
        video = NativeHistory(find(f"video-x{scale}"))
        clips: dict[str, Any] = {}
        for path in paths:
            clip = Clip(path, scale, frames, video)
            clips[clip.name] = measured(clip)
            gain = mean(clips[clip.name]["video_db"]) - mean(clips[clip.name]["best_db"])
            print(f"x{scale} {clip.name}: {gain:+.3f} dB", flush=True)
            if (clip.name, scale) == CROPS[:2]:
                draw_crops(clip, ROOT / "docs" / "figures" / "video-crops.png")
        scales[str(scale)] = clips
    if 3 in wanted:
        draw_gain(scales["3"], ROOT / "docs" / "figures" / "video-gain.png")
    return scales


def measure_compressed(
    paths: Sequence[Path], frames: int, wanted: Sequence[int]
) -> dict[str, dict[str, dict[str, float]]]:
    """Mean PSNR after H.264 by scale, clip and network."""
    scales: dict[str, dict[str, dict[str, float]]] = {}
    for scale in wanted:
        clips = scales[str(scale)] = {}
        models = [find(name, scale=scale) for name in FOR_COMPRESSED]
        for path in paths:
            hr = [crop_to_multiple(frame, scale) for frame in read_frames(path, frames)]
            lr = through_h264([lr_plane(frame, scale) for frame in hr], CRF)
            clips[path.stem] = {}
            for name, model in zip(FOR_COMPRESSED, models, strict=True):
                engine = (
                    map(NativeEngine(model), lr) if model.spec.history is None else NativeHistory(model)(lr)
                )
                psnr = mean(psnr_db(one, frame, shave=0) for one, frame in zip(engine, hr, strict=True))
                clips[path.stem][name] = round(psnr, 3)
            print(f"x{scale} {path.stem}, CRF {CRF}: {clips[path.stem]}", flush=True)
    return scales


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=56)
    parser.add_argument("--only", choices=("clean", "compressed"))
    parser.add_argument("--scales", type=int, nargs="+", choices=SCALES, default=SCALES)
    options = parser.parse_args()
    paths = find_training_clips(options.datasets / "video_train" / "validation")
    paths += sorted((options.datasets / "video").glob("sam2_*.mp4"))
    result, scales = load("video-network"), options.scales
    if options.only != "compressed":
        clean = measure_clean(paths, options.frames, scales)
        result |= {"frames": options.frames, "scales": {**result["scales"], **clean}}
    if options.only != "clean":
        compressed = measure_compressed(paths, options.frames, scales)
        result |= {"crf": CRF, "compressed": {**result["compressed"], **compressed}}
    store("video-network", result)


if __name__ == "__main__":
    main()

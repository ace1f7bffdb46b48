"""The packaged networks for video on parts of real clips: what breaks a film off does no harm that lasts."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from subpixel.engines.history.frames import NativeHistory
from subpixel.engines.native.engine import NativeEngine
from subpixel.evaluation.clips import luma_planes
from subpixel.evaluation.metrics import psnr_db
from subpixel.evaluation.protocol import lr_plane
from subpixel.models import catalog
from subpixel.models.history import without_history

pytest.importorskip("llvmlite", reason="the native engine needs llvmlite")

CLIPS = ("gopro_max_walk", "edgetam_robotarm", "edgetam_goose_cartoon")
HEIGHT, WIDTH, FRAMES = 288, 480, 20
EVENT = 8
SCALES = (2, 3, 4)

Result = tuple[list[np.ndarray], list[np.ndarray], list[float]]


@pytest.fixture(scope="module")
def clips(datasets: Path) -> dict[str, np.ndarray]:
    folder = datasets / "video_train" / "validation"
    if not folder.is_dir():
        pytest.skip(f"no clips at {folder}")
    return {name: middle(folder / f"{name}.mp4") for name in CLIPS}


def middle(path: Path, count: int = FRAMES, height: int = HEIGHT) -> np.ndarray:
    """The middle part of the first frames, ``(T, height, WIDTH)``."""
    frames = []
    planes = luma_planes(path)
    for plane, _ in zip(planes, range(count), strict=False):
        top, left = (plane.shape[0] - height) // 2, (plane.shape[1] - WIDTH) // 2
        frames.append(plane[top : top + height, left : left + WIDTH].copy())
    planes.close()
    return np.stack(frames)


@cache
def networks(scale: int) -> tuple[NativeHistory, NativeEngine]:
    return NativeHistory(catalog.find(f"video-x{scale}")), NativeEngine(catalog.find(f"best-x{scale}"))


def upscaled(hr: np.ndarray, scale: int) -> Result:
    """Results of both networks, and what `video` gains, in dB."""
    video, best = networks(scale)
    state, results, singles, gains = None, [], [], []
    for frame in hr:
        lr = lr_plane(frame, scale)
        singles.append(best(lr))
        result, state = video.correct(lr, singles[-1], state)
        results.append(result)
        psnr = [psnr_db(one, frame, shave=0) for one in (result, singles[-1])]
        gains.append(0.0 if psnr[0] == psnr[1] else psnr[0] - psnr[1])
    return results, singles, gains


@pytest.mark.parametrize("scale", SCALES)
def test_the_frame_after_a_cut_is_that_of_best(clips: dict[str, np.ndarray], scale: int) -> None:
    """Also in a row of shots of one frame; and the frames before have no influence on those that follow."""
    one, other, drawn = clips.values()
    hr = np.concatenate([one[:EVENT], other[:1], drawn[:1], other[1:EVENT]])
    results, singles, gains = upscaled(hr, scale)
    for number in (EVENT, EVENT + 1, EVENT + 2):
        np.testing.assert_array_equal(results[number], singles[number], err_msg=str(number))
    assert any(gain > 0.1 for gain in gains[:EVENT])
    expected, _, _ = upscaled(other[1:EVENT], scale)
    for result, wanted in zip(results[EVENT + 2 :], expected, strict=True):
        np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("scale", SCALES)
def test_black_bars_do_not_hide_a_cut(datasets: Path, clips: dict[str, np.ndarray], scale: int) -> None:
    """Bars of a sixth each, as of a wide film: more than one in eight blocks fit, and none counts."""
    folder = datasets / "video_train" / "validation"
    hr = np.concatenate([middle(folder / f"{name}.mp4", 2, 720) for name in reversed(CLIPS[1:])])
    hr[:, :120] = hr[:, -120:] = 16
    results, singles, _ = upscaled(hr, scale)
    np.testing.assert_array_equal(results[2], singles[2])
    assert np.any(results[1] != singles[1]) and np.any(results[3] != singles[3])


def event(name: str, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    result = one.copy()
    if name == "white frame":
        result[EVENT] = 235
    elif name == "darker frames":
        result[EVENT - 2 : EVENT + 1] = np.rint(16 + 0.7 * (result[EVENT - 2 : EVENT + 1] - 16.0))
    elif name == "fade to black and back":
        shares = [1.0, 0.75, 0.5, 0.25, 0.0, 0.25, 0.5, 0.75]
        for number, share in enumerate(shares, EVENT - 7):
            result[number] = np.rint(16 + share * (result[number] - 16.0))
    elif name == "swapped frames":
        result[EVENT - 1 : EVENT + 1] = result[EVENT - 1 : EVENT + 1][::-1]
    elif name == "damaged blocks":
        result[EVENT, 96:192] = other[EVENT, 96:192]
    return result


EVENTS = ("white frame", "darker frames", "fade to black and back", "swapped frames", "damaged blocks")


@pytest.mark.parametrize("name", EVENTS)
def test_an_event_leaves_nothing_that_lasts(clips: dict[str, np.ndarray], name: str) -> None:
    """Ten frames later the results are nearly those of a film without it, and on average none is harmed."""
    one, other, _ = clips.values()
    undisturbed, _, _ = upscaled(one, 3)
    results, _, gains = upscaled(event(name, one, other), 3)
    far = [
        np.abs(result.astype(int) - expected).mean()
        for result, expected in zip(results, undisturbed, strict=True)
    ]
    assert far[EVENT] > 0.3
    assert far[-1] < 0.35 * max(far[EVENT], far[EVENT + 1]) and far[-1] < 0.4
    assert np.mean(gains) > 0.1 and gains[-1] > 0.2


NAMES = catalog.video_names()


@pytest.mark.parametrize("name", NAMES)
def test_errors_do_not_grow(clips: dict[str, np.ndarray], name: str) -> None:
    """A drawing stands still under noise, or trembles. At x2, version 1 lost 1 dB."""
    model = catalog.find(name)
    scale, picture = model.scale, clips["edgetam_goose_cartoon"][5, 48:240, 96:384]
    video, single = NativeHistory(model), NativeEngine(without_history(model))
    for level, step in ((1, 0), (2, 0), (0, 1)):
        rng, state, gains = np.random.default_rng(1), None, []
        for _ in range(150):
            hr = np.roll(picture, rng.integers(-step, step + 1, 2), (0, 1))
            noise = rng.integers(-level, level + 1, (192 // scale, 288 // scale))
            frame = np.clip(lr_plane(hr, scale) + noise, 0, 255).astype(np.uint8)
            base = single(frame)
            result, state = video.correct(frame, base, state)
            psnr = [psnr_db(one, hr, shave=2 * scale) for one in (result, base)]
            gains.append(psnr[0] - psnr[1])
        assert np.mean(gains[-20:]) > np.mean(gains[10:30]) - 0.15, (level, step)
        assert np.mean(gains) > (-0.3 if step else -0.03), (level, step)

"""Training data over several frames: clips, moving stills, and the patches that are cut from them."""

import math
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image
from skimage.registration import phase_cross_correlation

from subpixel.errors import ConfigError, DatasetError
from subpixel.evaluation.metrics import psnr_db
from subpixel.ops.pixel_shuffle import pixel_shuffle
from subpixel.ops.resize import imresize

torch = pytest.importorskip("torch")

from subpixel.evaluation.clips import luma_planes  # noqa: E402
from subpixel.evaluation.protocol import Degradation, lr_plane  # noqa: E402
from subpixel.training import moving_stills  # noqa: E402
from subpixel.training.clips import (  # noqa: E402
    ClipPatches,
    FrameSequence,
    check_halved,
    degraded,
    find_training_clips,
    load_clips,
    read_frames,
    refuse_held_out,
)
from subpixel.training.config import PatchConfig  # noqa: E402
from subpixel.training.data import augmented  # noqa: E402
from subpixel.training.frames_config import ClipsConfig  # noqa: E402
from subpixel.training.moving_stills import CameraPath, _sampled, moving_still  # noqa: E402
from training_runs import CPU  # noqa: E402
from video_files import ffmpeg  # noqa: E402

SCALE = 3
CONFIG = ClipsConfig("clips")
PATCHES = PatchConfig("random", 12, 8, 5, "image")


def pan(frames: int, height: int, width: int, step: int = 2) -> np.ndarray:
    """A camera that moves to the right by whole pixels."""
    image = skimage.data.camera()[100:, 160:]
    return np.stack([image[:height, step * n : step * n + width] for n in range(frames)])


def write_clip(path: Path, planes: np.ndarray) -> Path:
    raw = path.with_suffix(".gray")
    raw.write_bytes(planes.tobytes())
    size = f"{planes.shape[2]}x{planes.shape[1]}"
    source = ("-f", "rawvideo", "-pix_fmt", "gray", "-video_size", size, "-i", raw)
    ffmpeg(*source, "-c:v", "ffv1", "-pix_fmt", "yuvj420p", path)
    raw.unlink()
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two clips: a video, and a folder of images."""
    clips = tmp_path / "clips"
    (clips / "images").mkdir(parents=True)
    write_clip(clips / "video.mkv", pan(6, 61, 80))
    for number, plane in enumerate(pan(4, 60, 72, 3)):
        Image.fromarray(plane).save(clips / "images" / f"{number:03d}.png")
    (clips / "README.md").touch()
    return clips


def test_clips_are_videos_and_folders_of_images(folder: Path) -> None:
    assert [path.name for path in find_training_clips(folder)] == ["images", "video.mkv"]
    np.testing.assert_array_equal(list(read_frames(folder / "images", 3)), pan(4, 60, 72, 3)[:3])
    with pytest.raises(DatasetError, match="no such folder"):
        find_training_clips(folder / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(DatasetError, match="contains no clips"):
        find_training_clips(folder / "empty")


def test_frames_are_those_of_the_clip_and_their_lr_is_the_protocols(folder: Path) -> None:
    config = replace(CONFIG, halved=("images",))
    halved, whole = load_clips(find_training_clips(folder), config, 5, SCALE, Degradation())
    planes = np.stack([plane.copy() for plane in luma_planes(folder / "video.mkv")])
    assert whole.name == "video.mkv" and whole.hr.shape == (5, 60, 78)
    np.testing.assert_array_equal(whole.hr, planes[:5, :60, :78])
    np.testing.assert_array_equal(whole.lr[0], [lr_plane(plane, SCALE) for plane in planes[:5]])
    assert halved.hr.shape == (4, 30, 36) and len(halved.lr) == 1
    check_halved(config, find_training_clips(folder))
    with pytest.raises(ConfigError, match="halved: gone is not a clip of clips"):
        check_halved(replace(config, halved=("gone",)), find_training_clips(folder))


def test_compressed_copies_depend_on_the_name_only() -> None:
    hr = pan(4, 96, 96)
    one, two, other = (degraded(name, hr, SCALE, Degradation(), compressed=True) for name in ("a", "a", "b"))
    assert len(one.lr) == 4
    clean, *compressed = one.lr
    assert all(20 < psnr_db(clean, lr, shave=0) < 50 for lr in compressed)
    np.testing.assert_array_equal(one.lr, two.lr)
    assert not np.array_equal(one.lr[1:], other.lr[1:])


def test_a_copy_of_a_test_clip_is_refused(folder: Path, tmp_path: Path) -> None:
    """Renamed, cut, reduced and encoded again."""
    tests = tmp_path / "tests"
    tests.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (3, 60, 80), np.uint8)
    apart = write_clip(tests / "apart.mkv", np.concatenate([np.zeros((1, 60, 80), np.uint8), noise]))
    training = load_clips(find_training_clips(folder), CONFIG, 4, SCALE, Degradation())
    black = FrameSequence("black", np.zeros((2, 60, 60), np.uint8), (np.zeros((2, 20, 20), np.uint8),))
    refuse_held_out([*training, black], [apart])
    copy = tests / "other name.mp4"
    ffmpeg("-i", folder / "video.mkv", "-vf", "scale=56:42", "-c:v", "libx264", "-crf", 20, copy)
    with pytest.raises(ConfigError, match=r"video\.mkv shows a frame of .*other name\.mp4, which is not for"):
        refuse_held_out(training, [apart, copy])


def patches(**changes: object) -> ClipPatches:
    clips = [degraded(str(n), pan(7, 60, 72, n), SCALE, Degradation(), compressed=True) for n in (1, 2)]
    stills = [degraded("still", pan(5, 48, 48, 3), SCALE, Degradation(), compressed=True)]
    settings = {"frames": 3, "halo_px": 2, "augment": False, "seed": 3, "device": CPU}
    config = replace(CONFIG, **changes.pop("config", {}))  # type: ignore[arg-type]
    patch = replace(PATCHES, **changes.pop("patches", {}))  # type: ignore[arg-type]
    return ClipPatches(clips, stills, SCALE, patch, config, **(settings | changes))  # type: ignore[arg-type]


def test_targets_are_the_hr_of_the_middle_frame() -> None:
    one, again = patches(), patches()
    for batch, same in zip(one.epoch(0), again.epoch(0), strict=True):
        assert batch.lr.shape == (8, 3, 12, 12) and batch.target.shape == (8, 9, 12, 12)
        assert batch.weight is None
        torch.testing.assert_close(batch.lr, same.lr, rtol=0, atol=0)
        for lr, target in zip(batch.lr.numpy(), batch.target.numpy(), strict=True):
            hr = pixel_shuffle(target, SCALE)[0]
            inside = lr_plane(np.round(hr * 255).astype(np.uint8), SCALE)[3:-3, 3:-3]
            np.testing.assert_allclose(lr[1, 3:-3, 3:-3] * 255, inside, atol=1)
        assert (batch.lr[:, 0] - batch.lr[:, 1]).abs().max() > 0.1  # the camera moves
    assert not torch.equal(next(one.epoch(0)).lr, next(one.epoch(1)).lr)
    assert (one.description, one.skipped, one.batches_per_epoch) == ("2 clips and 1 moving stills", 0, 5)


def test_all_frames_can_be_targets_and_augmentation_keeps_them_together() -> None:
    for augment in (False, True):
        batch = next(patches(all_frames=True, augment=augment).epoch(0))
        assert batch.target.shape == (8, 27, 12, 12)
        for view in range(8):
            turned = augmented(batch, view, SCALE)
            for time in range(3):
                hr = pixel_shuffle(turned.target[:, 9 * time : 9 * time + 9].numpy(), SCALE)[0, 0]
                inside = lr_plane(np.round(hr * 255).astype(np.uint8), SCALE)[3:-3, 3:-3]
                np.testing.assert_allclose(turned.lr[0, time, 3:-3, 3:-3] * 255, inside, atol=1)


def test_shares_choose_the_kinds_of_patches() -> None:
    static = next(patches(config={"static_share": 1.0}).epoch(0)).lr
    assert torch.equal(static[:, 0], static[:, 2])
    clean = next(patches(config={"compressed_share": 0.0}).epoch(0))
    compressed = next(patches(config={"compressed_share": 1.0}).epoch(0))
    assert not torch.equal(clean.lr, compressed.lr)
    with pytest.raises(DatasetError, match="no clip has 8 frames"):
        patches(frames=8)
    only_clips = patches(frames=6)
    assert (only_clips.skipped, only_clips.stills) == (1, [])


def test_pixels_without_context_do_not_count() -> None:
    batch = next(patches(patches={"border": "exclude"}).epoch(0))
    assert batch.weight is not None and batch.weight.shape == (8, 1, 12, 12)
    assert batch.weight[:, :, 2:-2, 2:-2].min() == 1 and batch.weight.min() == 0
    with pytest.raises(DatasetError, match="must exceed 12"):
        patches(patches={"border": "exclude"}, halo_px=6)


@pytest.mark.parametrize("speed", [(0.0, 0.0), (0.5, 0.75), (-1.25, 3.0)])
def test_a_moving_still_moves_at_the_speed_of_its_camera(speed: tuple[float, float]) -> None:
    picture = skimage.data.camera() / 255
    path = CameraPath(np.array(speed), np.zeros(2), 0.0, 0.0)
    frames = _sampled(picture, np.array([255.5, 255.5]), 5, 80, path)
    for first, second in pairwise(frames):
        shift = phase_cross_correlation(first, second, upsample_factor=100)[0]
        np.testing.assert_allclose(shift / moving_stills.SUPERSAMPLING, speed, atol=0.06)


def test_frames_at_fractions_of_a_pixel_are_equally_sharp() -> None:
    """Interpolated at the size of the frames, those in between would lose an eighth of their gradients."""
    path = CameraPath(np.array([0.125, 0.125]), np.zeros(2), 0.0, 0.0)
    frames = _sampled(skimage.data.camera() / 255, np.array([255.5, 255.5]), 9, 96, path)
    gradients = [np.square(np.diff(imresize(frame, 1 / 2), axis=1)).mean() for frame in frames]
    assert max(gradients) < 1.05 * min(gradients)


def test_zoom_and_rotation_are_about_the_center() -> None:
    path = CameraPath(np.zeros(2), np.zeros(2), math.log(2), math.pi / 2)
    matrix, shift = path.at(1)
    np.testing.assert_allclose(matrix, [[0, -2], [2, 0]], atol=1e-12)
    np.testing.assert_allclose(shift, 0)


def test_a_picture_in_front_covers_and_uncovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two flat layers: every pixel is of one of them, but for the outline, which moves."""
    monkeypatch.setattr(moving_stills, "LAYERED_SHARE", 1.0)
    chosen = iter([0, 1])

    class Choices(np.random.Generator):
        def integers(self, *arguments: object) -> int:  # type: ignore[override]
            return next(chosen)

    path = CameraPath(np.array([0.0, 4.0]), np.zeros(2), 0.0, 0.0)
    monkeypatch.setattr(moving_stills, "random_path", lambda rng: path)
    flat = [np.full((300, 300), level, np.uint8) for level in (40, 200)]
    frames = moving_still(flat, 4, 64, Choices(np.random.PCG64(5)))
    clear = (frames < 45) | (frames > 195)
    assert clear.mean() > 0.8 and 0.1 < (frames > 195).mean() < 0.9
    np.testing.assert_allclose(frames[0, :, 8:-8], frames[1, :, 4:-12], atol=30)
    assert (frames[0] != frames[3]).mean() > 0.02


def test_stills_depend_on_the_seed(tmp_path: Path) -> None:
    for name in ("astronaut", "coffee"):
        Image.fromarray(getattr(skimage.data, name)()[:200, :200]).save(tmp_path / f"{name}.png")
    paths = sorted(tmp_path.iterdir())
    one, two, other = (moving_stills.moving_stills(paths, 2, 3, 48, seed) for seed in (1, 1, 2))
    assert one[0].shape == (3, 48, 48) and one[0].dtype == np.uint8
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)
    shutil.rmtree(tmp_path)

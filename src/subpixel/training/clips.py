"""Training data over several frames: sequences from clips and of moving stills, and batches cut from them."""

import contextlib
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from subpixel.errors import ConfigError, DatasetError
from subpixel.evaluation.clips import CLIP_SUFFIXES, RAW_SUFFIX, luma_planes
from subpixel.evaluation.compression import through_h264
from subpixel.evaluation.protocol import (
    IMAGE_SUFFIXES,
    Degradation,
    crop_to_multiple,
    find_images,
    lr_plane,
    read_image,
)
from subpixel.files import is_file, is_folder
from subpixel.ops.color import luma_8bit
from subpixel.ops.pixel_shuffle import pixel_unshuffle
from subpixel.ops.resize import imresize
from subpixel.training.compression import RATE_FACTORS
from subpixel.training.config import PatchConfig
from subpixel.training.data import Batch, augmented
from subpixel.training.frames_config import ClipsConfig
from subpixel.training.moving_stills import moving_stills

COMPRESSED_COPIES = 3
"""Copies of the LR frames of each sequence at other CRFs, from which compressed patches are cut."""

SIGNATURE_CELLS = 12
"""Cells along each axis whose mean luma identifies a frame."""

SAME_CONTENT = 0.5
"""Two frames show the same if no cell differs by more, in standard deviations of the frame's cells. Frames of
different clips of our data sets differ by 1.3 or more."""

LEAST_CONTRAST = 4.0
"""Frames whose cells have a lower standard deviation, in 8-bit levels, are not compared."""

Frames = NDArray[np.uint8]
"""Luma planes ``(T, H, W)``."""


@dataclass(frozen=True)
class FrameSequence:
    """Frames in both resolutions."""

    name: str
    hr: Frames
    lr: tuple[Frames, ...]
    """The LR frames first as they are, then, if asked for, compressed at several CRFs."""


def find_training_clips(folder: Path) -> list[Path]:
    """List the clips in a folder, sorted by name: files of videos, and folders of images.

    Raises:
        DatasetError: the folder does not exist, or contains no clip.
    """
    if not is_folder(folder):
        raise DatasetError(f"{folder}: no such folder; name one that contains clips")
    found = [
        path
        for path in sorted(folder.iterdir())
        if (path.suffix.lower() in CLIP_SUFFIXES and path.suffix.lower() != RAW_SUFFIX and is_file(path))
        or (is_folder(path) and any(one.suffix.lower() in IMAGE_SUFFIXES for one in path.iterdir()))
    ]
    if not found:
        raise DatasetError(f"{folder}: contains no clips; name a folder with videos, or folders of images")
    return found


def read_frames(path: Path, limit: int | None, *, halved: bool = False) -> Iterator[NDArray[np.uint8]]:
    """Yield the luma of the first frames of a clip, ``(H, W)`` uint8, perhaps at half its size."""
    with contextlib.ExitStack() as stack:
        if is_folder(path):
            planes: Iterator[NDArray[np.uint8]] = (luma_8bit(read_image(file)) for file in find_images(path))
        else:
            planes = stack.enter_context(contextlib.closing(luma_planes(path)))
        for plane in islice(planes, limit):
            yield imresize(crop_to_multiple(plane, 2), 0.5) if halved else plane.copy()


def degraded(
    name: str, hr: Frames, scale: int, degradation: Degradation, *, compressed: bool
) -> FrameSequence:
    """Make the LR frames of a sequence; the CRFs of compressed ones depend only on its name."""
    lr = [lr_plane(frame, scale, degradation) for frame in hr]
    versions = [np.stack(lr)]
    if compressed:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        for crf in rng.choice(RATE_FACTORS, COMPRESSED_COPIES, replace=False):
            versions.append(np.stack(through_h264(lr, int(crf))))
    return FrameSequence(name, hr, tuple(versions))


def load_clips(
    paths: Sequence[Path], config: ClipsConfig, limit: int, scale: int, degradation: Degradation
) -> list[FrameSequence]:
    """Read the first frames of clips, crop them to a multiple of ``scale``, and degrade them.

    Raises:
        ConfigError: ``halved`` names no clip.
        DatasetError: a clip cannot be read.
    """
    sequences = []
    for path in paths:
        frames = read_frames(path, limit, halved=path.name in config.halved)
        hr = np.stack([crop_to_multiple(frame, scale) for frame in frames])
        sequences.append(degraded(path.name, hr, scale, degradation, compressed=config.compressed_share > 0))
    return sequences


def check_halved(config: ClipsConfig, paths: Sequence[Path]) -> None:
    """Raise `ConfigError` if ``clips.halved`` names a clip that does not exist."""
    if unknown := sorted(set(config.halved) - {path.name for path in paths}):
        raise ConfigError(f"clips.halved: {unknown[0]} is not a clip of {config.folder}")


def load_stills(
    config: ClipsConfig, pictures: Sequence[Path], scale: int, degradation: Degradation, seed: int
) -> list[FrameSequence]:
    """Make the moving stills of a config."""
    side = config.still_side_px * scale
    return [
        degraded(f"still {number}", hr, scale, degradation, compressed=config.compressed_share > 0)
        for number, hr in enumerate(moving_stills(pictures, config.stills, config.still_frames, side, seed))
    ]


def refuse_held_out(sequences: Sequence[FrameSequence], held_out: Sequence[Path]) -> None:
    """Raise `ConfigError` if a clip to train on shows a frame of a clip for tests or validation.

    Frames are compared by the mean luma of their cells, so copies are found that were renamed, cut, encoded
    again, reduced or converted to another range, not those that were cropped. Frames without contrast, such
    as black ones, do not count.
    """
    known = {one.name: _signatures(iter(one.hr)) for one in sequences}
    for path in held_out:
        frames = _signatures(read_frames(path, None))
        for name, signatures in known.items():
            if not len(frames) or not len(signatures):
                continue
            closest = min(float(np.abs(signatures - frame).max(1).min()) for frame in frames)
            if closest < SAME_CONTENT:
                raise ConfigError(f"clips.folder: {name} shows a frame of {path}, which is not for training")


def _signatures(frames: Iterator[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The mean luma of the cells of each frame that has contrast, normalized: ``(frames, cells)``."""
    found = []
    for frame in frames:
        rows, columns = (np.arange(SIGNATURE_CELLS) * side // SIGNATURE_CELLS for side in frame.shape)
        sums = np.add.reduceat(np.add.reduceat(frame, rows, axis=0, dtype=np.float32), columns, axis=1)
        areas = np.diff(rows, append=frame.shape[0])[:, None] * np.diff(columns, append=frame.shape[1])
        means = (sums / areas).ravel()
        if means.std() > LEAST_CONTRAST:
            found.append((means - means.mean()) / means.std())
    return np.array(found, np.float32)


class ClipPatches:
    """Batches of patches over several frames, for each epoch; the same seed gives the same batches.

    ``lr`` of a batch is ``(N, frames, P, P)``. Its target is that of the middle frame, ``(N, scale**2, P,
    P)``, or, for a network that upscales all of them, of each, ``(N, frames * scale**2, P, P)``.
    """

    def __init__(
        self,
        clips: Sequence[FrameSequence],
        stills: Sequence[FrameSequence],
        scale: int,
        patches: PatchConfig,
        config: ClipsConfig,
        *,
        frames: int,
        all_frames: bool = False,
        halo_px: int,
        augment: bool,
        seed: int,
        device: torch.device,
    ) -> None:
        """Keep the sequences that are at least as long and as large as a patch; `skipped` counts the others.

        Args:
            clips, stills: the sequences.
            scale: the integer factor of the network.
            patches: how patches are cut.
            config: the shares of the kinds of patches.
            frames: frames of a patch.
            all_frames: whether the target has all of them, or only the middle one.
            halo_px: LR pixels by which the network's receptive field extends beyond a pixel.
            augment: rotate, flip and reverse at random.
            seed: of the positions and the augmentation.
            device: of the batches.

        Raises:
            DatasetError: no sequence is left, or a patch has no pixel that counts.
        """
        self.scale, self.config, self.shares = scale, patches, config
        self.frames, self.all_frames, self.halo_px = frames, all_frames, halo_px
        self.augment, self.seed, self.device = augment, seed, device
        fits = [[one for one in kind if self._fits(one)] for kind in (clips, stills)]
        self.clips, self.stills = fits
        self.skipped = len(clips) + len(stills) - len(self.clips) - len(self.stills)
        if not self.clips and not self.stills:
            raise DatasetError(
                f"no clip has {frames} frames of {patches.side_px * scale} pixels; lower patches.side_px"
            )
        if patches.border == "exclude" and patches.side_px <= 2 * halo_px:
            raise DatasetError(f'with border = "exclude", patches.side_px must exceed {2 * halo_px}')

    def _fits(self, sequence: FrameSequence) -> bool:
        frames, height, width = sequence.lr[0].shape
        return frames >= self.frames and bool(min(height, width) >= self.config.side_px)

    @property
    def description(self) -> str:
        """What patches are cut from, for the log of a run."""
        return f"{len(self.clips)} clips and {len(self.stills)} moving stills"

    def crops(self, count: int, frames: int, side_px: int) -> list[Frames]:
        """Return the first LR frames of some sequences, cut to a square in the middle: for calibration."""
        sequences = [*self.clips, *self.stills]
        chosen = np.random.default_rng(self.seed).permutation(len(sequences))[:count]
        result = []
        for number in chosen:
            lr = sequences[number].lr[0][:frames]
            top, left = (max(side - side_px, 0) // 2 for side in lr.shape[1:])
            result.append(lr[:, top : top + side_px, left : left + side_px])
        return result

    @property
    def batches_per_epoch(self) -> int:
        """The number of batches of an epoch."""
        return self.config.batches_per_epoch

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, which depend only on the seed and on ``number``."""
        rng = np.random.default_rng([self.seed, number])
        for _ in range(self.batches_per_epoch):
            cut = [self._cut(rng) for _ in range(self.config.batch)]
            lr, target, weight = (np.stack(one) for one in zip(*cut, strict=True))
            batch = Batch(
                self._tensor(lr) / 255,
                self._tensor(target) / 255,
                self._tensor(weight) if self.config.border == "exclude" else None,
            )
            yield augmented(batch, int(rng.integers(8)), self.scale) if self.augment else batch

    def _tensor(self, values: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device).float()

    def _cut(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Cut one patch: LR ``(frames, P, P)``, target and weight."""
        still, static, compressed, backward = rng.random(4)
        use_stills = self.stills and (not self.clips or still < self.shares.still_share)
        kind = self.stills if use_stills else self.clips
        sequence = kind[int(rng.integers(len(kind)))]
        versions = len(sequence.lr)
        version = int(rng.integers(1, versions)) if compressed < self.shares.compressed_share else 0
        start = int(rng.integers(len(sequence.hr) - self.frames + 1))
        times = np.arange(start, start + self.frames)
        if static < self.shares.static_share:
            times[:] = start
        if self.augment and backward < 0.5:
            times = times[::-1]
        side, shape = self.config.side_px, sequence.lr[0].shape[1:]
        top, left = (int(rng.integers(length - side + 1)) for length in shape)
        lr = sequence.lr[version][times, top : top + side, left : left + side]
        wanted = times if self.all_frames else times[self.frames // 2 : self.frames // 2 + 1]
        scale = self.scale
        hr = sequence.hr[wanted, top * scale : (top + side) * scale, left * scale : (left + side) * scale]
        phases = pixel_unshuffle(hr[:, None], scale)
        rows, columns = (
            self._has_context(origin, length) for origin, length in zip((top, left), shape, strict=True)
        )
        return lr, phases.reshape(-1, side, side), (rows[:, None] & columns)[None].astype(np.uint8)

    def _has_context(self, origin: int, length: int) -> NDArray[np.bool_]:
        """Where, along one axis, the receptive field lacks no pixel of the frame."""
        offsets = np.arange(self.config.side_px)
        from_start = (offsets >= self.halo_px) | (origin == 0)
        from_end = (offsets < len(offsets) - self.halo_px) | (origin + len(offsets) == length)
        return from_start & from_end

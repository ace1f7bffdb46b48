"""Training data: pairs of low- and high-resolution luma, and batches of patches cut from them.

All images are stored one after another in two flat tensors, so that cutting a batch of patches is one gather
by index, on a CPU and on a GPU.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from subpixel.engines.base import from_float
from subpixel.errors import DatasetError
from subpixel.evaluation.protocol import Degradation, crop_to_multiple, read_image
from subpixel.images.compression import jpeg_quality
from subpixel.ops.color import luma_8bit
from subpixel.ops.pixel_shuffle import pixel_unshuffle
from subpixel.ops.resize import imresize
from subpixel.training.compression import MAX_SHIFT_PX, compress
from subpixel.training.config import PatchConfig


@dataclass(frozen=True)
class Pair:
    """The luma of an image in low resolution, and in high resolution as unshuffled phases."""

    lr: NDArray[np.float32]
    """``(H, W)``, in [0, 1]."""
    phases: NDArray[np.uint8]
    """``(scale**2, H, W)``: phase ``i*scale + j`` contains every ``scale``-th HR row from i and column from
    j. Stored in 8 bits, which is exact and takes a quarter of the memory of float32."""


def make_pair(
    image: NDArray[np.uint8],
    scale: int,
    degradation: Degradation,
    compression: np.random.Generator | None = None,
) -> Pair:
    """Make a pair from an image: crop it to a multiple of ``scale``, and degrade it.

    Args:
        image: ``(H, W)`` gray or ``(H, W, 3)`` RGB.
        scale: the integer factor of the network.
        degradation: how the low-resolution image is made.
        compression: if given, the low-resolution image is also compressed, as this generator decides.
    """
    hr = crop_to_multiple(image, scale)
    lr: NDArray[Any]
    if compression is None:
        lr = degradation(hr, scale)
    else:
        lr = _compressed_lr(hr, scale, degradation, compression) / 255
    phases = pixel_unshuffle(luma_8bit(hr)[None], scale)
    return Pair(lr.astype(np.float32), np.ascontiguousarray(phases))


def _compressed_lr(
    hr: NDArray[np.uint8], scale: int, degradation: Degradation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return the degraded and compressed luma; beyond the image, the camera sees its edge repeated."""
    height, width = hr.shape[:2]
    padded = np.pad(hr, [(MAX_SHIFT_PX, MAX_SHIFT_PX)] * 2 + [(0, 0)] * (hr.ndim - 2), mode="edge")

    def lr_at(row: int, column: int) -> NDArray[np.uint8]:
        top, left = MAX_SHIFT_PX + row, MAX_SHIFT_PX + column
        view = padded[top : top + height, left : left + width]
        return from_float(degradation(view, scale), np.dtype(np.uint8))

    return compress(lr_at, rng)


def load_pairs(
    paths: Sequence[Path],
    scale: int,
    degradation: Degradation,
    shrink: Sequence[float] = (1.0,),
    *,
    halved_below_quality: float = 0,
    compressed_copies: float = 0,
) -> list[Pair]:
    """Read images and make pairs from them, one for each size in ``shrink``.

    Args:
        paths: the files.
        scale: the integer factor of the network.
        degradation: how low-resolution images are made.
        shrink: sizes at which each image is used, as fractions of its own size.
        halved_below_quality: images whose `jpeg_quality` is below this are reduced to half their size first;
            other formats count as 100.
        compressed_copies: number of additional pairs per image and size whose low-resolution image is
            compressed. Their number and their compression depend only on the name of the file.

    Raises:
        DatasetError: a file cannot be read.
    """
    pairs = []
    for path in paths:
        image = read_image(path)
        if halved_below_quality and (jpeg_quality(path) or 100) < halved_below_quality:
            image = imresize(image, 0.5)
        for size in shrink:
            shrunk = image if size == 1 else imresize(image, size)
            if min(shrunk.shape[:2]) >= scale:
                pairs.append(make_pair(shrunk, scale, degradation))
                for copy in range(copy_count(path.name, compressed_copies)):
                    rng = np.random.default_rng([zlib.crc32(path.name.encode()), copy])
                    pairs.append(make_pair(shrunk, scale, degradation, rng))
    return pairs


def copy_count(name: str, average: float) -> int:
    """Return the number of copies of a file; the mean over many names is ``average``."""
    return int(average) + (zlib.crc32(name.encode()) / 2**32 < average % 1)


@dataclass(frozen=True)
class Batch:
    """A batch of patches, in [0, 1].

    ``lr`` is ``(N, 1, P, P)`` and ``target`` ``(N, scale**2, P, P)``, both channels-last in memory; over
    several frames both have more channels, see `subpixel.training.clips.ClipPatches`.
    ``weight`` is ``(N, 1, P, P)``: 1 for pixels that count in the loss, 0 elsewhere; None if all count.
    """

    lr: Tensor
    target: Tensor
    weight: Tensor | None


class Patches:
    """Batches of patches from a list of pairs, for each epoch; the same seed gives the same batches."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        scale: int,
        config: PatchConfig,
        *,
        kernels: Sequence[int],
        halo_px: int | None = None,
        augment: bool,
        seed: int,
        device: torch.device,
    ) -> None:
        """Store the images that are at least as large as a patch; `skipped` counts the others.

        Args:
            pairs: the images.
            scale: the integer factor of the network.
            config: how patches are cut.
            kernels: kernel sides of the network's layers.
            halo_px: LR pixels by which the network's receptive field extends beyond a pixel; by default the
                sum of half the kernel sides.
            augment: rotate and flip batches at random.
            seed: of the positions and the augmentation.
            device: where the images are stored.

        Raises:
            DatasetError: no image is as large as a patch, or a patch has no pixel that counts.
        """
        side = config.side_px
        self.config, self.scale, self.augment, self.seed, self.device = config, scale, augment, seed, device
        self.halo_px = sum(kernel // 2 for kernel in kernels) if halo_px is None else halo_px
        fitting = [pair for pair in pairs if min(pair.lr.shape) >= side]
        self.skipped = len(pairs) - len(fitting)
        if not fitting:
            raise DatasetError(f"no image is {side * scale} pixels high and wide; lower patches.side_px")
        if config.border == "exclude" and side <= 2 * self.halo_px:
            raise DatasetError(f'with border = "exclude", patches.side_px must exceed {2 * self.halo_px}')
        self.heights = np.array([pair.lr.shape[0] for pair in fitting])
        self.widths = np.array([pair.lr.shape[1] for pair in fitting])
        starts = np.concatenate([[0], np.cumsum(self.heights * self.widths)[:-1]])
        # For each image its offset in the flat tensors, its height and its width.
        self._layout = torch.from_numpy(np.stack([starts, self.heights, self.widths])).to(device)
        self.lr = torch.from_numpy(np.concatenate([pair.lr.ravel() for pair in fitting])).to(device)
        phases = np.concatenate([pair.phases.reshape(scale**2, -1).T for pair in fitting])
        self.phases = torch.from_numpy(np.ascontiguousarray(phases)).to(device)
        self.grid = self._grid(side, side - sum(kernel % 2 for kernel in kernels))

    def _grid(self, side: int, stride: int) -> NDArray[np.intp]:
        """Return the origins ``(image, row, column)`` of the paper's patches, with the stride of section 3.2.

        The stride is ``side - sum(kernel mod 2)``, so neighbors overlap by as many pixels as the network has
        layers with odd kernels.
        """
        return np.array(
            [
                (image, row, column)
                for image, (height, width) in enumerate(zip(self.heights, self.widths, strict=True))
                for row in range(0, height - side + 1, stride)
                for column in range(0, width - side + 1, stride)
            ],
            dtype=np.intp,
        )

    @property
    def description(self) -> str:
        """What patches are cut from, for the log of a run."""
        return f"{len(self.heights)} images and copies"

    @property
    def batches_per_epoch(self) -> int:
        """The number of batches of an epoch."""
        if self.config.sampling == "random":
            return self.config.batches_per_epoch
        return -(-len(self.grid) // self.config.batch)

    def epoch(self, number: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, which depend only on the seed and on ``number``."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.grid))
        for index in range(self.batches_per_epoch):
            if self.config.sampling == "random":
                origins = self._random_origins(rng)
            else:
                origins = self.grid[order[index * self.config.batch : (index + 1) * self.config.batch]]
            batch = self._gather(origins)
            yield augmented(batch, int(rng.integers(8)), self.scale) if self.augment else batch

    def _random_origins(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Draw images, by their area or with equal probability, and a position in each.

        Positions are drawn from a range that extends a quarter of a patch beyond the image, and then clipped.
        Otherwise far fewer patches would contain a pixel at the border than one inside.
        """
        areas = self.heights * self.widths
        shares = areas / areas.sum() if self.config.drawn_by == "area" else None
        images = rng.choice(len(areas), self.config.batch, p=shares)
        side, beyond = self.config.side_px, self.config.side_px // 4
        room_rows, room_columns = self.heights[images] - side, self.widths[images] - side
        rows = np.clip(rng.integers(-beyond, room_rows + beyond + 1), 0, room_rows)
        columns = np.clip(rng.integers(-beyond, room_columns + beyond + 1), 0, room_columns)
        return np.stack([images, rows, columns], axis=1)

    def _gather(self, origins: NDArray[np.intp]) -> Batch:
        """Cut patches at these origins; everything else is computed on the device."""
        image, row, column = torch.from_numpy(origins.T.copy()).to(self.device)
        offsets = torch.arange(self.config.side_px, device=self.device)
        start, height, width = self._layout[:, image]
        lines = (start + column)[:, None] + (row[:, None] + offsets) * width[:, None]
        index = lines[:, :, None] + offsets
        weight = None
        if self.config.border == "exclude":
            rows, columns = self._has_context(row, height), self._has_context(column, width)
            weight = rows[:, None, :, None] * columns[:, None, None, :]
        target = self.phases[index].permute(0, 3, 1, 2).float() / 255
        return Batch(self.lr[index][:, None], target, weight)

    def _has_context(self, origin: Tensor, length: Tensor) -> Tensor:
        """Return, along one axis, 1 where the receptive field lacks no pixel of the image: ``(N, P)``."""
        side, halo = self.config.side_px, self.halo_px
        offsets = torch.arange(side, device=self.device)
        from_start = (offsets >= halo) | (origin == 0)[:, None]
        from_end = (offsets < side - halo) | (origin + side == length)[:, None]
        return (from_start & from_end).float()


def augmented(batch: Batch, view: int, scale: int) -> Batch:
    """Return one of the eight rotated and flipped variants of a batch; ``view`` 0 to 7, 0 for no change.

    Flipping an unshuffled target flips the plane of each phase and reorders the phases. The order results
    from the same flip of the ``scale`` x ``scale`` matrix of phase numbers.
    """

    def apply(planes: Tensor) -> Tensor:
        if view & 4:
            planes = planes.transpose(-2, -1)
        return planes.flip([-axis for axis in (1, 2) if view & axis]) if view & 3 else planes

    order = apply(torch.arange(scale**2).view(scale, scale)).flatten()
    weight = None if batch.weight is None else apply(batch.weight)
    target = apply(batch.target)
    frames = target.reshape(len(target), -1, scale**2, *target.shape[2:])
    return Batch(apply(batch.lr), frames[:, :, order.to(batch.target.device)].flatten(1, 2), weight)

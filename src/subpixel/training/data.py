"""Training pairs: luma of pictures, made small, with targets unshuffled beforehand.

All pictures lie end to end in two flat tensors, so that a batch of patches is one gather by index, on the
CPU and on a GPU alike.
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
from subpixel.evaluation.protocol import Degradation, crop_to_multiple, read_picture
from subpixel.images.compression import jpeg_quality
from subpixel.ops.color import luma_8bit
from subpixel.ops.pixel_shuffle import pixel_unshuffle
from subpixel.ops.resize import imresize
from subpixel.training.compression import MARGIN_PX, compressed
from subpixel.training.config import PatchConfig


@dataclass(frozen=True)
class Pair:
    """A picture's luma: small, and large but unshuffled."""

    lr: NDArray[np.float32]
    """``(H, W)``, in [0, 1]."""
    phases: NDArray[np.uint8]
    """``(scale**2, H, W)``: phase ``i*scale + j`` has every ``scale``-th HR row from i, column from j.
    In 255ths, which is all that there is of it and a quarter of the memory."""


def make_pair(
    picture: NDArray[np.uint8],
    scale: int,
    degradation: Degradation,
    compression: np.random.Generator | None = None,
) -> Pair:
    """Crop one picture, ``(H, W)`` gray or ``(H, W, 3)`` RGB, to a multiple of ``scale``, and degrade it.

    With ``compression`` the small picture is also `compressed`, by what that generator draws.
    """
    hr = crop_to_multiple(picture, scale)
    lr: NDArray[Any]
    if compression is None:
        lr = degradation(hr, scale)
    else:
        lr = _compressed(hr, scale, degradation, compression) / 255
    phases = pixel_unshuffle(luma_8bit(hr)[None], scale)
    return Pair(lr.astype(np.float32), np.ascontiguousarray(phases))


def _compressed(
    hr: NDArray[np.uint8], scale: int, degradation: Degradation, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """The small picture, in 8 bits; the camera sees a border of repeated pixels around the large one."""
    height, width = hr.shape[:2]
    around = np.pad(hr, [(MARGIN_PX, MARGIN_PX)] * 2 + [(0, 0)] * (hr.ndim - 2), mode="edge")

    def small_at(row: int, column: int) -> NDArray[np.uint8]:
        top, left = MARGIN_PX + row, MARGIN_PX + column
        seen = around[top : top + height, left : left + width]
        return from_float(degradation(seen, scale), np.dtype(np.uint8))

    return compressed(small_at, rng)


def load_pairs(
    paths: Sequence[Path],
    scale: int,
    degradation: Degradation,
    shrink: Sequence[float] = (1.0,),
    *,
    halved_below_quality: float = 0,
    compressed_copies: float = 0,
) -> list[Pair]:
    """Read pictures and degrade them, each at every size of ``shrink``.

    Those whose `jpeg_quality` is lower than ``halved_below_quality`` are halved first; sizes are fractions of
    the picture's own, or of its half. ``compressed_copies`` more of each have their small picture compressed;
    what becomes of each depends on its file's name alone.
    """
    pairs = []
    for path in paths:
        picture = read_picture(path)
        if halved_below_quality and (jpeg_quality(path) or 100) < halved_below_quality:
            picture = imresize(picture, 0.5)
        for size in shrink:
            shrunk = picture if size == 1 else imresize(picture, size)
            if min(shrunk.shape[:2]) >= scale:
                pairs.append(make_pair(shrunk, scale, degradation))
                for copy in range(copies_of(path.name, compressed_copies)):
                    rng = np.random.default_rng([zlib.crc32(path.name.encode()), copy])
                    pairs.append(make_pair(shrunk, scale, degradation, rng))
    return pairs


def copies_of(name: str, wanted: float) -> int:
    """How many copies a file of that name gets for there to be ``wanted`` for each on average."""
    return int(wanted) + (zlib.crc32(name.encode()) / 2**32 < wanted % 1)


@dataclass(frozen=True)
class Batch:
    """Patches: ``lr`` is ``(N, 1, P, P)``, ``target`` ``(N, scale**2, P, P)``, both channels-last in memory.

    ``weight`` is ``(N, 1, P, P)``: 1 where a pixel counts in the loss, 0 elsewhere; None if all count.
    """

    lr: Tensor
    target: Tensor
    weight: Tensor | None


class Patches:
    """Batches of patches from a list of pairs, epoch after epoch; the same seed gives the same batches."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        scale: int,
        config: PatchConfig,
        *,
        kernels: Sequence[int],
        halo_px: int | None = None,
        turn: bool,
        seed: int,
        device: torch.device,
    ) -> None:
        """Lay out the pictures that are at least one patch large; `skipped` counts the others.

        ``halo_px`` is how far the network sees in LR pixels, by default the sum of its kernels' halves.
        """
        side = config.side_px
        self.config, self.scale, self.turn, self.seed, self.device = config, scale, turn, seed, device
        self.halo_px = sum(kernel // 2 for kernel in kernels) if halo_px is None else halo_px
        fitting = [pair for pair in pairs if min(pair.lr.shape) >= side]
        self.skipped = len(pairs) - len(fitting)
        if not fitting:
            raise DatasetError(f"no picture is {side * scale} pixels high and wide; lower patches.side_px")
        if config.border == "exclude" and side <= 2 * self.halo_px:
            raise DatasetError(f'with border = "exclude", patches.side_px must exceed {2 * self.halo_px}')
        self.heights = np.array([pair.lr.shape[0] for pair in fitting])
        self.widths = np.array([pair.lr.shape[1] for pair in fitting])
        starts = np.concatenate([[0], np.cumsum(self.heights * self.widths)[:-1]])
        self._places = torch.from_numpy(np.stack([starts, self.heights, self.widths])).to(device)
        self.lr = torch.from_numpy(np.concatenate([pair.lr.ravel() for pair in fitting])).to(device)
        phases = np.concatenate([pair.phases.reshape(scale**2, -1).T for pair in fitting])
        self.phases = torch.from_numpy(np.ascontiguousarray(phases)).to(device)
        self.grid = self._grid(side, side - sum(kernel % 2 for kernel in kernels))

    def _grid(self, side: int, stride: int) -> NDArray[np.intp]:
        """Origins ``(picture, row, column)`` of the paper's patches: the stride of section 3.2.

        It is ``side - sum(kernel mod 2)``, so neighbors overlap by as many pixels as the network has layers
        of odd kernels.
        """
        return np.array(
            [
                (picture, row, column)
                for picture, (height, width) in enumerate(zip(self.heights, self.widths, strict=True))
                for row in range(0, height - side + 1, stride)
                for column in range(0, width - side + 1, stride)
            ],
            dtype=np.intp,
        )

    @property
    def batches_per_epoch(self) -> int:
        """How many batches `epoch` gives."""
        if self.config.sampling == "random":
            return self.config.batches_per_epoch
        return -(-len(self.grid) // self.config.batch)

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch; which ones depends only on the seed and on ``number``."""
        rng = np.random.default_rng([self.seed, number])
        order = rng.permutation(len(self.grid))
        for index in range(self.batches_per_epoch):
            if self.config.sampling == "random":
                origins = self._random_origins(rng)
            else:
                origins = self.grid[order[index * self.config.batch : (index + 1) * self.config.batch]]
            batch = self._gather(origins)
            yield turned(batch, int(rng.integers(8)), self.scale) if self.turn else batch

    def _random_origins(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Pictures, by their area or all alike, then a place in them; borders get their share.

        Origins are drawn from a range that reaches a quarter patch beyond the picture, then moved inside:
        otherwise a pixel at the border would be seen by one patch where others are seen by many.
        """
        areas = self.heights * self.widths
        shares = areas / areas.sum() if self.config.drawn_by == "area" else None
        pictures = rng.choice(len(areas), self.config.batch, p=shares)
        side, beyond = self.config.side_px, self.config.side_px // 4
        room_rows, room_columns = self.heights[pictures] - side, self.widths[pictures] - side
        rows = np.clip(rng.integers(-beyond, room_rows + beyond + 1), 0, room_rows)
        columns = np.clip(rng.integers(-beyond, room_columns + beyond + 1), 0, room_columns)
        return np.stack([pictures, rows, columns], axis=1)

    def _gather(self, origins: NDArray[np.intp]) -> Batch:
        """Cut patches out; but for their origins all happens on the device."""
        picture, row, column = torch.from_numpy(origins.T.copy()).to(self.device)
        offsets = torch.arange(self.config.side_px, device=self.device)
        start, height, width = self._places[:, picture]
        lines = (start + column)[:, None] + (row[:, None] + offsets) * width[:, None]
        index = lines[:, :, None] + offsets
        weight = None
        if self.config.border == "exclude":
            rows, columns = self._seen_whole(row, height), self._seen_whole(column, width)
            weight = rows[:, None, :, None] * columns[:, None, None, :]
        target = self.phases[index].permute(0, 3, 1, 2).float() / 255
        return Batch(self.lr[index][:, None], target, weight)

    def _seen_whole(self, origin: Tensor, length: Tensor) -> Tensor:
        """1 where, along one axis, the network sees what it would see in the whole picture: ``(N, P)``."""
        side, halo = self.config.side_px, self.halo_px
        offsets = torch.arange(side, device=self.device)
        from_start = (offsets >= halo) | (origin == 0)[:, None]
        from_end = (offsets < side - halo) | (origin + side == length)[:, None]
        return (from_start & from_end).float()


def turned(batch: Batch, view: int, scale: int) -> Batch:
    """One of the eight flips and quarter turns of a batch; ``view`` is 0 to 7, and 0 changes nothing.

    Flipping an unshuffled target flips each phase's plane and reorders the phases: the order is what the same
    flip makes of the ``scale`` x ``scale`` square of phase numbers.
    """

    def apply(planes: Tensor) -> Tensor:
        if view & 4:
            planes = planes.transpose(-2, -1)
        return planes.flip([-axis for axis in (1, 2) if view & axis]) if view & 3 else planes

    order = apply(torch.arange(scale**2).view(scale, scale)).flatten()
    weight = None if batch.weight is None else apply(batch.weight)
    return Batch(apply(batch.lr), apply(batch.target)[:, order.to(batch.target.device)], weight)

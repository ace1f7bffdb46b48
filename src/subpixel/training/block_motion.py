"""Motion of blocks in PyTorch, for many frames at once: the same integers as `subpixel.ops.block_motion`.

Frames are float tensors ``(N, 1, H, W)`` of 8-bit levels, 0 to 255, all of them integers. Sums over blocks
stay below 2**24, so they are exact in float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn

from subpixel.models.spec import FLAT_RADIUS_PX, History
from subpixel.ops.block_motion import (
    CUT_PARTS,
    FIT_FLOOR_HALVES,
    STAY_DENOMINATOR,
    STAY_NUMERATOR,
    TAP_BITS,
    kernel_taps,
    neighbors,
    search_steps,
)


@dataclass(frozen=True)
class Alignment:
    """How the previous frames explain frames, see `subpixel.ops.block_motion.Alignment`."""

    motion: Tensor
    """``(N, 2, rows, columns)`` of blocks, integers."""
    levels: Tensor
    """``(N, 2, H, W)``: the detail, and the residual after motion."""
    opened: Tensor
    """``(N, 1, H, W)``: 1 where motion explains the block and the frame is not flat, 0 elsewhere."""

    def at(self, times: slice) -> "Alignment":
        """Return some of the frames."""
        return Alignment(self.motion[times], self.levels[times], self.opened[times])


@torch.no_grad()
def align(frames: Tensor, previous: Tensor, scale: int, history: History) -> Alignment:
    """Find the motion of the frames' blocks, where it explains them, and where pixels are open."""
    with torch.autocast(frames.device.type, enabled=False):  # integers need float32
        return _align(frames, previous, scale, history)


def _align(frames: Tensor, previous: Tensor, scale: int, history: History) -> Alignment:
    block, steps, (height, width) = history.block_px, scale * history.parts, frames.shape[2:]
    sides = (0, -width % block, 0, -height % block)
    now, before = (extended(one, *sides) for one in (frames, previous))
    samples = between_samples(before, steps)
    motion = block_motion(now, before, samples, steps, history)
    residual = now - moved(samples, motion, block, steps)
    padded = extended(now, 1, 1, 1, 1)
    kernel = torch.tensor([1.0, 2.0, 1.0]).to(now)
    detail = 16 * now - nn.functional.conv2d(padded, (kernel[:, None] * kernel)[None, None])
    floor = 8 * FIT_FLOOR_HALVES * 16
    limit = floor + history.fit_limit * nn.functional.avg_pool2d(detail.abs().double(), block)
    fits = 256 * nn.functional.avg_pool2d(residual.abs().double(), block) <= limit
    fits &= CUT_PARTS * fits.sum((1, 2, 3), keepdim=True) >= fits[0].numel()
    fits = fits.float().repeat_interleave(block, 2).repeat_interleave(block, 3)
    levels = torch.cat([((detail + 8) / 16).floor(), residual], dim=1)
    opened = fits[:, :, :height, :width] * ~is_flat(frames)
    return Alignment(motion, levels[:, :, :height, :width], opened)


def is_flat(frames: Tensor) -> Tensor:
    """Find flat pixels, see `subpixel.engines.flat`: ``(N, 1, H, W)``."""
    side = 2 * FLAT_RADIUS_PX + 1
    highest = nn.functional.max_pool2d(frames, side, 1, FLAT_RADIUS_PX)
    lowest = -nn.functional.max_pool2d(-frames, side, 1, FLAT_RADIUS_PX)
    return highest == lowest


def between_samples(frames: Tensor, steps: int, *, rounded: bool = True) -> Tensor:
    """Interpolate at each step of a pixel, see `subpixel.ops.block_motion.between_samples`."""
    columns = _between_columns(frames, steps, rounded=rounded)
    return _between_columns(columns.transpose(2, 3), steps, rounded=rounded).transpose(2, 3).contiguous()


def _between_columns(frames: Tensor, steps: int, *, rounded: bool) -> Tensor:
    kernels = torch.tensor(kernel_taps(steps)).to(frames)[:, None, None, :]
    height, width = frames.shape[2:]
    between = nn.functional.conv2d(extended(frames, 1, 2, 0, 0), kernels) / 2**TAP_BITS
    if rounded:
        between = (between + 0.5).floor().clamp(0, 255)
    rows: Tensor = between.permute(0, 2, 3, 1).reshape(len(frames), 1, height, steps * width)
    return rows[..., : steps * (width - 1) + 1]


def block_motion(frames: Tensor, previous: Tensor, samples: Tensor, steps: int, history: History) -> Tensor:
    """Search the motion of blocks, see `subpixel.ops.block_motion`: ``(N, 2, rows, columns)``."""
    block, limit = history.block_px, steps * history.range_px
    count, _, height, width = frames.shape
    best = torch.zeros(count, 2, height // block, width // block, dtype=torch.long, device=frames.device)

    def cost(moved_frames: Tensor) -> Tensor:
        return nn.functional.avg_pool2d((frames - moved_frames).abs(), block)

    least = cost(previous) - STAY_NUMERATOR * block**2 // STAY_DENOMINATOR / block**2

    def keep_better(motion: Tensor, found: Tensor) -> None:
        nonlocal best, least
        better = found < least
        best, least = torch.where(better, motion, best), torch.where(better, found, least)

    for motion, moved_frames in _whole_pixels(previous, history.range_px):
        keep_better(steps * motion, cost(moved_frames))
    for step in search_steps(steps):
        around = best
        for offset in neighbors(step):
            motion = (around + torch.tensor(offset).view(1, 2, 1, 1).to(best)).clamp(-limit, limit)
            keep_better(motion, cost(moved(samples, motion, block, steps)))
    return best


def _whole_pixels(previous: Tensor, range_px: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield each motion of whole pixels, row by row, and the frames moved by it."""
    height, width = previous.shape[2:]
    padded = extended(previous, *(range_px,) * 4)
    for row, column in product(range(2 * range_px + 1), repeat=2):
        motion = torch.tensor([row - range_px, column - range_px], device=previous.device).view(1, 2, 1, 1)
        yield motion, padded[:, :, row : row + height, column : column + width]


def moved(values: Tensor, motion: Tensor, block: int, step: int = 1) -> Tensor:
    """Read samples from where the motion of their block points, see `subpixel.ops.block_motion.moved`.

    Args:
        values: ``(N, C, h, w)``.
        motion: ``(N, 2, rows, columns)``.
        block, step: as there.
    """
    count, channels, height, width = values.shape
    rows = torch.arange(-(-height // step), device=values.device)
    columns = torch.arange(-(-width // step), device=values.device)
    dense = motion[:, :, rows[:, None] // block, columns // block]
    y = (rows[:, None] * step + dense[:, 0]).clamp(0, height - 1)
    x = (columns * step + dense[:, 1]).clamp(0, width - 1)
    index = (y * width + x).view(count, 1, -1).expand(-1, channels, -1)
    flat = values.reshape(count, channels, -1).gather(2, index)
    return flat.view(count, channels, len(rows), len(columns))


def extended(values: Tensor, *sides: int) -> Tensor:
    """Continue the edge: left, right, top and bottom."""
    return nn.functional.pad(values, sides, mode="replicate") if any(sides) else values

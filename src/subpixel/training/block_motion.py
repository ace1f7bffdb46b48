"""Motion of blocks in PyTorch, for many frames at once: the same integers as `subpixel.ops.block_motion`.

Frames are float tensors ``(N, 1, H, W)`` of 8-bit levels, 0 to 255, all of them integers. Sums over blocks
stay below 2**24, so they are exact in float32.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from subpixel.models.spec import FLAT_RADIUS_PX, History
from subpixel.ops.block_motion import (
    CUT_PARTS,
    DIVIDED_ABOVE,
    FIT_FLOOR_HALVES,
    PLAIN_RANGE,
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
    """``(N, 2, 2*rows, 2*columns)`` of the blocks' quarters, integers."""
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
    motion = quarter_motion(now, samples, block_motion(now, before, samples, steps, history), steps, block)
    residual = now - moved(samples, motion, block // 2, steps)
    padded = extended(now, 1, 1, 1, 1)
    kernel = torch.tensor([1.0, 2.0, 1.0]).to(now)
    detail = 16 * now - nn.functional.conv2d(padded, (kernel[:, None] * kernel)[None, None])
    floor = 8 * FIT_FLOOR_HALVES * 16
    limit = floor + history.fit_limit * nn.functional.avg_pool2d(detail.abs().double(), block)
    fits = 256 * nn.functional.avg_pool2d(residual.abs().double(), block) <= limit
    varied = nn.functional.max_pool2d(now, block) + nn.functional.max_pool2d(-now, block) > PLAIN_RANGE
    counts = [one.sum((1, 2, 3), keepdim=True) for one in (fits & varied, varied)]
    fits &= CUT_PARTS * counts[0] >= counts[1]
    fits = fits.float().repeat_interleave(block, 2).repeat_interleave(block, 3)
    levels = torch.cat([((detail + 8) / 16).floor(), residual], dim=1)
    opened = fits[:, :, :height, :width] * ~is_flat(frames)
    return Alignment(motion, levels[:, :, :height, :width], opened)


def still(frames: Tensor, previous: Tensor, block_px: int) -> Tensor:
    """Return where nothing changed, see `subpixel.ops.block_motion.still`: ``(N, 1, H, W)``."""
    height, width = frames.shape[2:]
    sides = (0, -width % block_px, 0, -height % block_px)
    changed = (extended(frames, *sides) != extended(previous, *sides)).float()
    near = nn.functional.max_pool2d(nn.functional.max_pool2d(changed, block_px), 3, 1, 1)
    large = near.repeat_interleave(block_px, 2).repeat_interleave(block_px, 3)
    return large[:, :, :height, :width] == 0


def is_flat(frames: Tensor) -> Tensor:
    """Find flat pixels, see `subpixel.engines.flat`: ``(N, 1, H, W)``."""
    side = 2 * FLAT_RADIUS_PX + 1
    highest = nn.functional.max_pool2d(frames, side, 1, FLAT_RADIUS_PX)
    lowest = -nn.functional.max_pool2d(-frames, side, 1, FLAT_RADIUS_PX)
    return highest == lowest


def between_samples(frames: Tensor, steps: int) -> Tensor:
    """Interpolate at each step of a pixel, see `subpixel.ops.block_motion.between_samples`."""
    kernels = taps(steps).to(frames)
    columns = _between_columns(frames, kernels)
    return _between_columns(columns.transpose(2, 3), kernels).transpose(2, 3).contiguous()


def _between_columns(frames: Tensor, kernels: Tensor) -> Tensor:
    (height, width), steps = frames.shape[2:], len(kernels)
    windows = extended(frames, 1, 2, 0, 0).unfold(3, 4, 1)
    between = (windows @ kernels.T + 0.5).floor().clamp(0, 255)
    return between.view(len(frames), 1, height, steps * width)[..., : steps * (width - 1) + 1]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def taps(steps: int) -> Tensor:
    """Return the taps of Keys' kernel, see `subpixel.ops.block_motion.kernel_taps`, as floats."""
    return torch.tensor(kernel_taps(steps) / 2**TAP_BITS, dtype=torch.float32)


def block_motion(frames: Tensor, previous: Tensor, samples: Tensor, steps: int, history: History) -> Tensor:
    """Search the motion of blocks, see `subpixel.ops.block_motion`: ``(N, 2, rows, columns)``."""
    block, range_px = history.block_px, history.range_px
    count, _, height, width = frames.shape
    shape = count, height // block, block, width // block, block
    blocks, side = frames.reshape(*shape, 1, 1), 2 * range_px + 1
    windows = extended(previous, *(range_px,) * 4)[:, 0].unfold(1, side, 1).unfold(2, side, 1)
    sums = (blocks - windows.view(*shape, side, side)).abs().sum((2, 4))
    stay = sums[..., range_px, range_px] - STAY_NUMERATOR * block**2 // STAY_DENOMINATOR
    least, number = sums.flatten(3).min(3)
    motion = steps * (torch.stack([number // side, number % side], dim=1) - range_px)
    motion, least = torch.where((least < stay)[:, None], motion, 0), torch.minimum(least, stay)
    for step in search_steps(steps):
        offsets = torch.tensor(list(neighbors(step)), device=frames.device).T[:, None, None]
        around = (motion[..., None] + offsets).clamp(-steps * range_px, steps * range_px)
        found, number = _sums_at(blocks[..., 0, 0], samples, around, steps).min(3)
        nearest = around.gather(4, number[:, None, ..., None].expand(-1, 2, -1, -1, -1))[..., 0]
        motion, least = torch.where((found < least)[:, None], nearest, motion), torch.minimum(found, least)
    return motion


def quarter_motion(frames: Tensor, samples: Tensor, motion: Tensor, steps: int, block: int) -> Tensor:
    """Let quarters move as a neighbor, see `subpixel.ops.block_motion`: ``(N, 2, 2*rows, 2*columns)``."""
    side, (rows, columns) = block // 2, motion.shape[2:]
    row, near_row = _own_and_near(rows, motion)
    column, near_column = _own_and_near(columns, motion)
    pairs = ((row, column), (near_row, column), (row, near_column))
    candidates = torch.stack([motion[:, :, down[:, None], right] for down, right in pairs], dim=-1)
    quarters = frames.reshape(len(frames), 2 * rows, side, 2 * columns, side)
    sums = _sums_at(quarters, samples, candidates, steps)
    own = sums[..., 0].reshape(-1, rows, 2, columns, 2).sum((2, 4))
    together = (own <= DIVIDED_ABOVE * block**2).repeat_interleave(2, 1).repeat_interleave(2, 2)
    stay = sums[..., :1] - STAY_NUMERATOR * side**2 // STAY_DENOMINATOR
    number = torch.cat([stay, sums[..., 1:]], dim=-1).argmin(3).where(~together, 0)
    return candidates.gather(4, number[:, None, ..., None].expand(-1, 2, -1, -1, -1))[..., 0]


def _own_and_near(count: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the blocks of quarters along one axis, and the blocks that they touch."""
    quarters = torch.arange(2 * count, device=like.device)
    own = quarters // 2
    return own, (own + 2 * (quarters % 2) - 1).clamp(0, count - 1)


def _sums_at(blocks: Tensor, samples: Tensor, motion: Tensor, steps: int) -> Tensor:
    """Sums of absolute differences of blocks ``(N, rows, block, columns, block)`` after several motions.

    Args:
        blocks, samples, steps: of the frames.
        motion: ``(N, 2, rows, columns, motions)``.

    Returns:
        ``(N, rows, columns, motions)``.
    """
    rows, side, columns = blocks.shape[1:4]
    height, width = samples.shape[2:]
    pixels = torch.arange(side, device=motion.device)
    y = side * torch.arange(rows, device=motion.device).view(-1, 1, 1, 1) + pixels
    x = side * torch.arange(columns, device=motion.device).view(-1, 1, 1) + pixels
    y = (steps * y + motion[:, 0, ..., None]).clamp(0, height - 1)
    x = (steps * x + motion[:, 1, ..., None]).clamp(0, width - 1)
    index = y[..., :, None] * width + x[..., None, :]
    found = samples.flatten(1).gather(1, index.flatten(1)).view(index.shape)
    return (found - blocks.transpose(2, 3)[:, :, :, None]).abs().sum((-2, -1))


def moved_between(phases: Tensor, motion: Tensor, scale: int, parts: int, block: int) -> Tensor:
    """Move results, interpolated where motion points between their pixels: `between_samples`, then `moved`.

    Only what is used is interpolated: for each block a product of its window with a matrix on both sides.

    Args:
        phases: ``(N, scale**2, H, W)``, not shuffled.
        motion: ``(N, 2, rows, columns)`` of blocks or quarters of ``block`` LR pixels, in ``1 / parts`` of a
            pixel of the result.
        scale, parts, block: see there.

    Returns:
        ``(N, scale**2, H, W)``.
    """
    count, _, height, width = phases.shape
    side, matrices = scale * block, _matrices(scale * block, parts).to(motion.device)
    rows, columns = (torch.arange(length, device=motion.device) for length in motion.shape[2:])
    y, left = _windows(motion[:, 0], side * rows[:, None], scale * height, matrices)
    x, right = _windows(motion[:, 1], side * columns, scale * width, matrices)
    y = y % scale * scale * height * width + y // scale * width
    x = x % scale * height * width + x // scale
    index = (y[..., :, None] + x[..., None, :]).flatten(1)
    windows = phases.float().flatten(1).gather(1, index).view(-1, y.shape[-1], x.shape[-1])
    blocks = left.flatten(0, 2) @ windows @ right.flatten(0, 2).mT
    blocks = blocks.view(count, len(rows), len(columns), block, scale, block, scale)
    blocks = blocks.permute(0, 4, 6, 1, 3, 2, 5).flatten(5).flatten(3, 4).flatten(1, 2)
    return blocks[:, :, :height, :width]


def _windows(motion: Tensor, first: Tensor, length: int, matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Along one axis, which pixels each block is made of, and by which matrix. The edge continues.

    Args:
        motion: ``(N, rows, columns)``, in parts of a pixel.
        first: the blocks' first pixels, which broadcast to ``(rows, columns)``.
        length: pixels of the frame along the axis.
        matrices: of each part, see `_matrices`.

    Returns:
        The pixels ``(N, rows, columns, side + 3)``, and the matrices ``(N, rows, columns, side, side + 3)``.
    """
    parts, side = matrices.shape[:2]
    lines = torch.arange(-1, side + 2, device=motion.device)
    pixels = first[..., None] + motion.div(parts, rounding_mode="floor")[..., None] + lines
    targets = parts * (first[..., None] + lines[1:-2]) + motion[..., None]
    inside = (targets >= 0) & (targets <= parts * (length - 1))
    part = torch.where(inside, targets % parts, 0)
    return pixels.clamp(0, length - 1), matrices[part, lines[1:-2]]


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _matrices(side: int, parts: int) -> Tensor:
    """Return the matrix ``(side, side + 3)`` that interpolates ``side`` pixels at each part of a pixel."""
    lines, result = torch.arange(side), torch.zeros(parts, side, side + 3)
    for tap, weights in enumerate(taps(parts).T):
        result[:, lines, lines + tap] = weights[:, None]
    return result


def moved(values: Tensor, motion: Tensor, block: int, step: int = 1) -> Tensor:
    """Read samples from where the motion of their block or quarter points: `subpixel.ops.block_motion.moved`.

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

"""Fake quantization: rounds activations in training, so that the network becomes robust to int8."""

from typing import Any

import torch
from torch import Tensor

from subpixel.training.prelu import as_rows, from_rows


def fake_quantize(values: Tensor, levels: int) -> Tensor:
    """Round ``(N, channels, H, W)`` to ``levels`` equally spaced values of each channel's range, including 0.

    The gradient passes straight through to ``values`` (Bengio et al. 2013, arXiv 1308.3432). The gradient of
    the step size (LSQ, Esser et al. 2020, arXiv 1902.08153, equation 3) goes to the channel's highest and
    lowest values, because the step size is a fraction of their difference. Without it, a network tries to
    make the rounding relatively smaller by growing its activations and shrinking the next layer's weights,
    which has no effect.
    """
    result: Tensor = _FakeQuantize.apply(values, levels)  # type: ignore[no-untyped-call]
    return result


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, levels: int) -> Tensor:
        rows, (channels, width) = as_rows(values), values.shape[1::2]
        highest, high = rows.amax(0).view(width, channels).max(0)
        lowest, low = rows.amin(0).view(width, channels).min(0)
        step = ((highest.clamp_min(0) - lowest.clamp_max(0)) / (levels - 1)).clamp_min(1e-8).repeat(width)
        scaled = rows / step
        nearest = torch.round(scaled)
        off = torch.sub(nearest, scaled, out=scaled)
        # The positions of the extremes: the column of the rows, and the row.
        numbers = torch.arange(channels, device=rows.device)
        high, low = high * channels + numbers, low * channels + numbers
        positions = high, rows[:, high].argmax(0), highest > 0, low, rows[:, low].argmin(0), lowest < 0
        ctx.save_for_backward(off, *positions)
        ctx.shape, ctx.levels = values.shape, levels
        return from_rows(nearest.mul_(step), values.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        off, high, high_row, above, low, low_row, below = ctx.saved_tensors
        gradient = as_rows(gradients[0])
        of_step = (gradient * off).sum(0, dtype=torch.float32).view(ctx.shape[3], -1).sum(0)
        of_range = (of_step / (ctx.levels - 1)).to(gradient.dtype)
        result = gradient.clone()
        result[high_row, high] += of_range * above
        result[low_row, low] -= of_range * below
        return from_rows(result, ctx.shape), None

"""A PReLU that is several times as fast as PyTorch's on a CPU.

PyTorch's takes most of the time of a narrow network there: it loops over the channels of one pixel at a time,
16 values, and does not vectorize the comparison. Here a row of pixels is one vector, with the slopes repeated
along it, and there is no comparison.
"""

from typing import Any

import torch
from torch import Tensor, nn


class PReLU(nn.PReLU):
    """`torch.nn.PReLU`, fastest on channels-last tensors ``(N, C, H, W)``."""

    def forward(self, input: Tensor) -> Tensor:
        """Multiply negative values by the slope of their channel."""
        result: Tensor = _Rows.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return result


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, slope: Tensor) -> Tensor:
        rows = as_rows(values)
        slopes = slope.to(values.dtype).repeat(values.shape[3])
        ctx.save_for_backward(rows, slopes)
        ctx.shape, ctx.dtype = values.shape, slope.dtype
        return from_rows(torch.addcmul(rows.relu(), rows.clamp_max(0), slopes), values.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rows, slopes = ctx.saved_tensors
        gradient = as_rows(gradients[0])
        above = torch.ops.aten.threshold_backward(gradient, rows, 0)
        below = gradient - above
        of_slopes = (below * rows).sum(0).to(ctx.dtype).view(ctx.shape[3], -1).sum(0)
        return from_rows(torch.addcmul(above, below, slopes), ctx.shape), of_slopes


def as_rows(values: Tensor) -> Tensor:
    """Reshape ``(N, C, H, W)`` to ``(N*H, W*C)``, without a copy if the memory is channels-last."""
    count, channels, height, width = values.shape
    return values.permute(0, 2, 3, 1).reshape(count * height, width * channels)


def from_rows(rows: Tensor, shape: torch.Size) -> Tensor:
    """Invert `as_rows`; ``shape`` is ``(N, C, H, W)``."""
    count, channels, height, width = shape
    return rows.view(count, height, width, channels).permute(0, 3, 1, 2)

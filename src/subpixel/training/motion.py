"""Motion compensation by a spatial transformer in two steps, as in VESPCN (arXiv 1611.05250, section 3.2)."""

import torch
from torch import Tensor, nn

HUBER_EPSILON = 0.01
"""Added under the root of the Huber term, which is quadratic for gradients of flow below about 0.1."""

STEPS_PX = 4
"""Sides are padded to a multiple of this, because the coarse step works at a quarter of the size."""


class MotionCompensation(nn.Module):
    """Estimates the flow from a frame to another, and moves the other onto it (Table 1 of the paper).

    The coarse step sees both frames at a quarter of their size. The fine one sees them at half, with the
    frame as moved by the coarse step and that flow, and gives a correction. tanh limits each step to
    ``range_px``.
    """

    def __init__(self, range_px: float) -> None:
        """Build the layers; the last ones are zero, so that motion starts as none."""
        super().__init__()
        self.range_px = range_px
        self.coarse = _layers([(2, 5, 2), (24, 3, 1), (24, 5, 2), (24, 3, 1)], outputs=32)
        self.fine = _layers([(5, 5, 2), (24, 3, 1), (24, 3, 1), (24, 3, 1)], outputs=8)

    def forward(self, frame: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Return the other frame moved onto ``frame``, and the flow.

        Args:
            frame: ``(N, 1, H, W)``.
            other: ``(N, 1, H, W)``.

        Returns:
            ``(N, 1, H, W)``, and ``(N, 2, H, W)``: for each pixel of ``frame`` how far its counterpart in
            ``other`` is to the right and down, in pixels.
        """
        height, width = frame.shape[2:]
        padding = (0, -width % STEPS_PX, 0, -height % STEPS_PX)
        pair = nn.functional.pad(torch.cat([frame, other], dim=1), padding, mode="replicate")
        coarse = self.range_px * nn.functional.pixel_shuffle(self.coarse(pair), 4)
        seen = torch.cat([pair, warp(pair[:, 1:], coarse), coarse], dim=1)
        flow = coarse + self.range_px * nn.functional.pixel_shuffle(self.fine(seen), 2)
        flow = flow[:, :, :height, :width]
        return warp(other, flow), flow

    @property
    def macs_per_lr_pixel(self) -> float:
        """Multiply-adds per pixel for one other frame, without the 16 of the two bilinear interpolations."""
        macs = 0.0
        for step in (self.coarse, self.fine):
            area = 1.0
            for layer in step:
                if isinstance(layer, nn.Conv2d):
                    area /= layer.stride[0] ** 2
                    macs += area * layer.weight.numel()
        return macs


def _layers(hidden: list[tuple[int, int, int]], outputs: int) -> nn.Sequential:
    """Convolutions of 24 channels by (inputs, kernel, stride), with relu, and a last one with tanh."""
    layers: list[nn.Module] = []
    for inputs, kernel, stride in hidden:
        layers += [nn.Conv2d(inputs, 24, kernel, stride, kernel // 2), nn.ReLU()]
    last = nn.Conv2d(24, outputs, 3, padding=1)
    nn.init.zeros_(last.weight)
    assert last.bias is not None
    nn.init.zeros_(last.bias)
    return nn.Sequential(*layers, last, nn.Tanh())


def warp(frame: Tensor, flow: Tensor) -> Tensor:
    """Move a frame by a flow, with bilinear interpolation; beyond the frame its edge continues.

    Args:
        frame: ``(N, C, H, W)``.
        flow: ``(N, 2, H, W)``: where to read, in pixels to the right and down from each pixel.
    """
    height, width = frame.shape[2:]
    rows = torch.arange(height, device=frame.device, dtype=flow.dtype)[:, None]
    columns = torch.arange(width, device=frame.device, dtype=flow.dtype)
    x, y = columns + flow[:, 0], rows + flow[:, 1]
    scaled = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    return nn.functional.grid_sample(
        frame, scaled.to(frame.dtype), mode="bilinear", padding_mode="border", align_corners=True
    )


def huber(flow: Tensor) -> Tensor:
    """Return the Huber term of a flow's gradients: ``sqrt(epsilon + sum of their squares)``, its mean.

    Gradients are forward differences of both components of ``(N, 2, H, W)``, without the last row and column.
    """
    across = flow[:, :, :-1, 1:] - flow[:, :, :-1, :-1]
    down = flow[:, :, 1:, :-1] - flow[:, :, :-1, :-1]
    return torch.sqrt(HUBER_EPSILON + (across.square() + down.square()).sum(1)).mean()

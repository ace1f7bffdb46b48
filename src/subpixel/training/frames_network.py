"""Networks that see several frames: spatio-temporal ESPCN with early fusion, slow fusion or 3D convolutions.

See VESPCN (Caballero et al. 2017, arXiv 1611.05250), section 3.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from subpixel.models.model import ModelMetadata
from subpixel.training.config import NetworkConfig
from subpixel.training.frames_config import FramesConfig, times_after
from subpixel.training.frames_model import FramesModel
from subpixel.training.motion import MotionCompensation, huber
from subpixel.training.network import ACTIVATIONS, Trainable
from subpixel.training.prelu import PReLU


class FusionLayer(nn.Module):
    """A convolution that joins neighboring times: each output time sees ``depth`` input times.

    Channels are ordered by time: all of the first, then all of the second, and so on. With one output time
    and all times as inputs it is an ordinary convolution. With ``shared`` weights it is a 3D convolution.
    """

    def __init__(
        self, times: int, depth: int, inputs: int, outputs: int, kernel: int, *, shared: bool
    ) -> None:
        """Build the convolutions; ``inputs`` and ``outputs`` are channels of one time."""
        super().__init__()
        self.inputs, self.depth, self.outputs = inputs, depth, outputs
        self.times = times - depth + 1
        """Times that are left."""
        self.convolutions = nn.ModuleList(
            nn.Conv2d(depth * inputs, outputs, kernel, padding="same")
            for _ in range(1 if shared else self.times)
        )

    def forward(self, values: Tensor) -> Tensor:
        """Map ``(N, times before * inputs, H, W)`` to ``(N, times * outputs, H, W)``."""
        seen = [
            values[:, time * self.inputs : (time + self.depth) * self.inputs] for time in range(self.times)
        ]
        if len(self.convolutions) == 1:
            joined = self.convolutions[0](torch.cat(seen))  # the times of a shared layer as a larger batch
            return torch.cat(joined.chunk(self.times), dim=1)
        return torch.cat([layer(one) for layer, one in zip(self.convolutions, seen, strict=True)], dim=1)

    @property
    def macs_per_lr_pixel(self) -> int:
        """Multiply-adds per pixel."""
        first = self.convolutions[0]
        assert isinstance(first, nn.Conv2d)
        return self.times * first.weight.numel()


class FramesNetwork(Trainable):
    """Upscales the middle one of several frames.

    ``forward`` maps ``(N, frames, H, W)`` to ``(N, scale**2, H, W)``, before the pixel shuffle.
    """

    def __init__(
        self, network: NetworkConfig, frames: FramesConfig, generator: torch.Generator | None = None
    ) -> None:
        """Build the layers with random weights: normal, variance 1/fan-in, or 2/fan-in before relu or PReLU.

        With a residual the last layer is a tenth of that, so that training starts near nearest neighbor.
        """
        super().__init__()
        self.network, self.frames, self.scale = network, frames, network.scale
        self.motion = MotionCompensation(frames.motion_range_px) if frames.motion != "none" else None
        kernels = network.kernels or (3,) * (len(network.widths) + 1)
        self.layers = nn.ModuleList()
        self.activations = nn.ModuleList()
        times, channels = frames.count, 1
        for index, (width, kernel) in enumerate(zip(network.widths, kernels, strict=False)):
            left = times_after(index, frames)
            outputs, shared = width // left, frames.fusion == "3d"
            self.layers.append(FusionLayer(times, times - left + 1, channels, outputs, kernel, shared=shared))
            self.activations.append(
                PReLU(width) if network.activation == "prelu" else ACTIVATIONS[network.activation]()
            )
            times, channels = left, outputs
        self.last = nn.Conv2d(channels, network.scale**2, kernels[-1], padding="same")
        self.regularization: Tensor | None = None
        self._initialize(generator)

    def _initialize(self, generator: torch.Generator | None) -> None:
        with torch.no_grad():
            for module in self.modules():
                if not isinstance(module, nn.Conv2d) or not module.weight.any():
                    continue  # the last layers of motion stay zero
                linear = module is self.last or self.network.activation in ("tanh", "none")
                std = math.sqrt((1.0 if linear else 2.0) / module.weight[0].numel())
                module.weight.normal_(0.0, std, generator=generator)
                assert module.bias is not None
                module.bias.zero_()
            if self.network.residual == "nearest":
                self.last.weight.mul_(0.1)

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale the middle frame; in training, sets `regularization`."""
        middle = self.frames.count // 2
        own = lr[:, middle : middle + 1]
        self.regularization = None
        if self.motion is not None:
            others = [index for index in range(self.frames.count) if index != middle]
            moved, flow = self.motion(
                own.repeat(len(others), 1, 1, 1), torch.cat([lr[:, index : index + 1] for index in others])
            )
            if self.training:
                distance = (moved - own.repeat(len(others), 1, 1, 1)).square().mean()
                self.regularization = (
                    self.frames.motion_weight * distance + self.frames.smoothness_weight * huber(flow)
                )
            by_time = list(moved.chunk(len(others)))
            by_time.insert(middle, own)
            lr = torch.cat(by_time, dim=1)
        values = lr
        for layer, activation in zip(self.layers, self.activations, strict=True):
            values = activation(layer(values))
        phases: Tensor = self.last(values)
        if self.network.residual == "nearest":
            phases = phases + own.repeat_interleave(self.scale**2, dim=1)
        return phases

    def upscale_frames(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """See `Trainable.upscale_frames`; the first and last frame continue before and after the clip."""
        count = self.frames.count
        window: list[Tensor] = []
        with torch.no_grad():
            for frame in frames:
                window = [*(window or [frame] * (count // 2)), frame][-count:]
                if len(window) == count:
                    yield self(torch.cat(window, dim=1))
            for _ in range(count // 2 if window else 0):
                window = [*window, window[-1]][-count:]
                if len(window) == count:
                    yield self(torch.cat(window, dim=1))

    @property
    def halo_px(self) -> int:
        """Receptive field of the layers to each side, in LR pixels, without motion."""
        kernels = self.network.kernels or (3,) * (len(self.network.widths) + 1)
        return sum(kernel // 2 for kernel in kernels)

    @property
    def macs_per_lr_pixel(self) -> float:
        """Multiply-adds per LR pixel: of the layers, and of motion for each other frame.

        Layers of earlier times that 3D convolutions could keep from frame to frame count in full.
        """
        macs: float = self.last.weight.numel()
        for layer in self.layers:
            assert isinstance(layer, FusionLayer)
            macs += layer.macs_per_lr_pixel
        if self.motion is not None:
            macs += (self.frames.count - 1) * self.motion.macs_per_lr_pixel
        return macs

    def parameter_groups(self, last_layer_rate: float) -> list[dict[str, object]]:
        """Return two parameter groups for an optimizer: all layers but the last, and the last."""
        last = list(self.last.parameters())
        own = {id(parameter) for parameter in last}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in own]
        return [{"params": rest, "rate": 1.0}, {"params": last, "rate": last_layer_rate}]

    def fused_parameters(self) -> dict[str, Tensor]:
        """Return all parameters by name."""
        return dict(self.named_parameters())

    def fused(self) -> "FramesNetwork":
        """Return a copy for use rather than training; there is nothing to fuse."""
        self.regularization = None
        return copy.deepcopy(self).eval()

    def tables(self) -> dict[str, Any]:
        """Return what a file stores to build the network again."""
        return {"network": asdict(self.network), "frames": asdict(self.frames)}

    def to_model(self, name: str, metadata: ModelMetadata) -> FramesModel:
        """Return a model with a copy of the current weights."""
        return FramesModel(name, self.fused().cpu(), metadata)

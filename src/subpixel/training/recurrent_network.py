"""A network for video in PyTorch: a single-frame network, corrected with the help of the previous frame.

`subpixel.models.history` has the arithmetic, and `subpixel.engines.numpy_history` is its reference: both give
the same results, but for flat areas, which engines copy.
See docs/research/2026-11-30-several-frames.md for the design.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from subpixel.errors import ConfigError
from subpixel.models.history import (
    CHANGE_STEPS,
    CORRECTION_STEPS,
    GATE_WIDTH,
    MAX_GATE,
    STATE_STEPS,
)
from subpixel.models.model import Model, ModelMetadata
from subpixel.models.spec import Convolution, History, ModelSpec
from subpixel.training.block_motion import Alignment, align, moved, moved_between, still
from subpixel.training.config import NetworkConfig
from subpixel.training.fake_quantization import fake_quantize
from subpixel.training.frames_config import RecurrentConfig
from subpixel.training.network import ACTIVATIONS, Network, Trainable, without_steep_slopes
from subpixel.training.prelu import PReLU


@dataclass
class State:
    """What goes from frame to frame."""

    frame: Tensor
    """The previous frame ``(N, 1, H, W)``, in [0, 1]."""
    phases: Tensor
    """Its result, unshuffled ``(N, scale**2, H, W)``."""
    hidden: Tensor
    """``(N, channels, H, W)``."""


def history_of(network: NetworkConfig, recurrent: RecurrentConfig) -> History:
    """Return the history that a config describes: 3x3 convolutions of ``network.widths``."""
    squares = network.scale**2
    widths = [squares + 2 + recurrent.state, *network.widths, squares + recurrent.state + 1]
    activations = [*[network.activation] * len(network.widths), "none"]
    layers = tuple(
        Convolution(inputs, outputs, 3, activation)
        for inputs, outputs, activation in zip(widths, widths[1:], activations, strict=False)
    )
    names = ("state", "block_px", "range_px", "parts", "fit_limit", "bounded", "bounded_in_motion")
    return History(layers, **{name: getattr(recurrent, name) for name in names})


class RecurrentNetwork(Trainable):
    """Upscales all frames of a sequence, each with the help of the one before.

    ``forward`` maps ``(N, frames, H, W)`` to ``(N, frames * scale**2, H, W)``, before the pixel shuffle.
    Frames are 8-bit samples in [0, 1]. This is for training: what bounds results, and keeps them where
    nothing changed, is only in `step`.
    """

    def __init__(self, spec: ModelSpec, *, generator: torch.Generator | None = None) -> None:
        """Build base and correction; the correction starts as zero, so the network starts as the base."""
        super().__init__()
        assert spec.history is not None
        self.spec, self.history, self.scale = spec, spec.history, spec.scale
        self.base = Network(replace(spec, history=None))
        self.base.requires_grad_(False)
        self.layers = nn.ModuleList(
            nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, padding="same")
            for layer in self.history.layers
        )
        self.activations = nn.ModuleList(
            PReLU(layer.outputs) if layer.activation == "prelu" else ACTIVATIONS[layer.activation]()
            for layer in self.history.layers
        )
        squares = self.scale**2
        self.share = nn.Parameter(torch.zeros(squares))
        """The share of the difference of the results in the result, for each phase."""
        with torch.no_grad():
            for layer in self.convolutions:
                layer.weight.normal_(0, math.sqrt(2 / layer.weight[0].numel()), generator=generator)
                assert layer.bias is not None
                layer.bias.zero_()
            self.convolutions[-1].weight.zero_()
            self.convolutions[-1].weight[squares:-1].normal_(0, 0.01, generator=generator)  # of the state

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """The convolutions of the correction, in order."""
        return [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale all frames of sequences."""
        return self._upscaled(lr, self._base, align, self._corrected)

    def compiled(self) -> Callable[[Tensor], Tensor]:
        """Compile the parts rather than the whole, in which the steps of all frames would be unrolled."""
        parts: list[Any] = [
            torch.compile(part, dynamic=False) for part in (self._base, align, self._corrected)
        ]
        return lambda lr: self._upscaled(lr, *parts)

    def _upscaled(
        self,
        lr: Tensor,
        base_of: Callable[[Tensor], Tensor],
        align_frames: Callable[..., Alignment],
        correct: Callable[..., State],
    ) -> Tensor:
        count, times = lr.shape[:2]
        frames = (255 * lr).round()
        shape = (-1, 1, *lr.shape[2:])
        now, before = (one.reshape(shape) for one in (frames[:, 1:], frames[:, :-1]))
        aligned = align_frames(now, before, self.scale, self.history) if times > 1 else None
        base = base_of(lr.reshape(shape)).reshape(count, times, -1, *lr.shape[2:])
        state = self._first_state(lr[:, :1], base[:, 0])
        results = [base[:, 0]]
        for time in range(1, times):
            assert aligned is not None
            of_time = aligned.at(slice(time - 1, None, times - 1))
            state = correct(lr[:, time : time + 1], base[:, time], state, of_time)
            results.append(state.phases)
        return torch.cat(results, dim=1)

    def step(self, frame: Tensor, state: State | None) -> State:
        """Upscale the next frame ``(N, 1, H, W)``; no state before the first, or after a cut."""
        base = self._base(frame)
        if state is None:
            return self._first_state(frame, base)
        now, before = ((255 * one).round() for one in (frame, state.frame))
        aligned = align(now, before, self.scale, self.history)
        # Only in use: in training, static sequences teach the correction not to drift.
        new = self._corrected(frame, base, state, aligned, bounded=self.history.bounded)
        is_still = still(now, before, self.history.block_px)
        phases = torch.where(is_still, state.phases, new.phases)
        return State(frame, phases, torch.where(is_still, state.hidden, new.hidden))

    def _base(self, frames: Tensor) -> Tensor:
        self.base.quantization_levels = self.quantization_levels
        result: Tensor = self.base(frames)
        return result

    def _first_state(self, frame: Tensor, base: Tensor) -> State:
        return State(frame, base, base.new_zeros(len(frame), self.history.state, *frame.shape[2:]))

    def _corrected(
        self, frame: Tensor, base: Tensor, state: State, aligned: Alignment, *, bounded: bool = False
    ) -> State:
        """Correct the base's result, as `subpixel.models.history` describes."""
        squares, levels = self.scale**2, self.quantization_levels
        old, old_hidden = self._moved(state, aligned.motion)
        difference = old - base
        inputs = [difference, aligned.levels / 255, old_hidden]
        if levels:
            difference = (_rounded(old.clamp(0, 1), 255) - _rounded(base.clamp(0, 1), 255)).clamp(
                -128 / 255, 127 / 255
            )
            inputs = [difference, aligned.levels.clamp(-128, 127) / 255, _rounded(old_hidden, STATE_STEPS)]
        outputs = self._correction(torch.cat(inputs, dim=1) * aligned.opened)
        correction, hidden = outputs[:, :squares], outputs[:, squares:-1].clamp(-1, 1)
        if levels:
            limit = 128 / (255 * CORRECTION_STEPS)
            correction = _rounded(correction.clamp(-limit, limit), 255 * CORRECTION_STEPS)
        largest = MAX_GATE / CHANGE_STEPS
        gate = aligned.opened * (outputs[:, -1:] / GATE_WIDTH + 0.5).clamp(0, largest)
        share = _rounded(self.share.clamp(-largest, largest), CHANGE_STEPS).view(-1, 1, 1)
        change = gate * (correction + share * difference)
        if bounded:
            limited = torch.maximum(change, difference.clamp(max=0)).minimum(difference.clamp(min=0))
            change = torch.where(self._held(aligned.motion, frame.shape), limited, change)
        return State(frame, base + change, gate * hidden)

    def _held(self, motion: Tensor, shape: torch.Size) -> Tensor:
        """Where a bounded network bounds its results, ``(N, 1, H, W)``."""
        stays = (motion == 0).all(1, keepdim=True) | self.history.bounded_in_motion
        for axis in (2, 3):
            stays = stays.repeat_interleave(self.history.block_px // 2, axis)
        return stays[..., : shape[2], : shape[3]]

    def _correction(self, values: Tensor) -> Tensor:
        context_px = sum(layer.kernel // 2 for layer in self.history.layers)
        values = functional.pad(values, 4 * [context_px])
        for layer, activation in zip(self.layers[:-1], self.activations[:-1], strict=True):
            values = activation(layer(values))
            if self.quantization_levels:
                values = fake_quantize(values, self.quantization_levels)
        result: Tensor = self.layers[-1](values)
        return functional.pad(result, 4 * [-context_px])

    def _moved(self, state: State, motion: Tensor) -> tuple[Tensor, Tensor]:
        """Move the last result and the hidden state."""
        quarter_px, scale, parts = self.history.block_px // 2, self.scale, self.history.parts
        with torch.autocast(motion.device.type, enabled=False):
            phases = moved_between(state.phases, motion, scale, parts, quarter_px)
        steps = scale * parts
        whole = torch.div(motion + steps // 2, steps, rounding_mode="floor")
        return phases, moved(state.hidden, whole, quarter_px)

    def upscale_frames(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """See `Trainable.upscale_frames`."""
        state = None
        for frame in frames:
            with torch.no_grad():
                state = self.step(frame, state)
            yield state.phases

    @property
    def halo_px(self) -> int:
        """Receptive field of the layers to each side for one frame, in LR pixels."""
        return max(self.spec.halo_px, sum(layer.kernel // 2 for layer in self.history.layers))

    def parameter_groups(self, last_layer_rate: float) -> list[dict[str, object]]:
        """Return two parameter groups for an optimizer: all layers but the last, and the last."""
        last = list(self.layers[-1].parameters())
        own = {id(parameter) for parameter in last}
        trained = [one for one in self.parameters() if one.requires_grad and id(one) not in own]
        return [{"params": trained, "rate": 1.0}, {"params": last, "rate": last_layer_rate}]

    def fused_parameters(self) -> dict[str, Tensor]:
        """Return all parameters by name."""
        return dict(self.named_parameters())

    def fused(self) -> "RecurrentNetwork":
        """Return a copy for use rather than training; there is nothing to fuse."""
        return copy.deepcopy(self).eval()

    def load_base(self, model: Model) -> None:
        """Copy the weights of the base from a model for single frames."""
        self.base.load_model(model)

    def load_model(self, model: Model) -> None:
        """Copy all weights from a model of the same spec."""
        self.base.load_model(model)
        pairs = zip(self.convolutions, self.activations, strict=True)
        with torch.no_grad():
            for index, (layer, activation) in enumerate(pairs, len(self.spec.layers)):
                assert layer.bias is not None
                layer.weight.copy_(torch.tensor(model.weights[f"layers.{index}.weight"]))
                layer.bias.copy_(torch.tensor(model.weights[f"layers.{index}.bias"]))
                if isinstance(activation, nn.PReLU):
                    activation.weight.copy_(torch.tensor(model.weights[f"layers.{index}.slope"]))
            self.share.copy_(torch.tensor(model.weights["history.share"]))

    def to_model(self, name: str, metadata: ModelMetadata) -> Model:
        """Copy the weights into a `Model`."""
        tensors: dict[str, Tensor] = {"history.share": self.share}
        pairs = zip(self.convolutions, self.activations, strict=True)
        for index, (layer, activation) in enumerate(pairs, len(self.spec.layers)):
            assert layer.bias is not None
            tensors |= {f"layers.{index}.weight": layer.weight, f"layers.{index}.bias": layer.bias}
            if isinstance(activation, nn.PReLU):
                tensors[f"layers.{index}.slope"] = activation.weight
        own = {key: one.detach().float().cpu().contiguous().numpy() for key, one in tensors.items()}
        base = self.base.to_model(name, metadata).weights
        return Model(name, self.spec, {**base, **without_steep_slopes(own)}, metadata)


def recurrent_spec(network: NetworkConfig, recurrent: RecurrentConfig, base: ModelSpec) -> ModelSpec:
    """Add the history that a config describes to the spec of a base.

    Raises:
        ConfigError: the base has another scale than the config, or is not for single luma planes.
    """
    if base.scale != network.scale or base.channels != 1 or base.upsampling != "shuffle" or base.history:
        raise ConfigError(
            f"recurrent.base: {base} does not upscale single luma planes x{network.scale} from LR space"
        )
    return replace(base, history=history_of(network, recurrent))


def _rounded(values: Tensor, steps: int) -> Tensor:
    """Round to multiples of ``1 / steps``; the gradient passes straight through."""
    return values + ((values * steps).round() / steps - values).detach()

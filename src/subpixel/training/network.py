"""The PyTorch form of a `ModelSpec`, which is trained and converted to a `Model`."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from subpixel.engines.tnrd import Bicubic, TnrdModel
from subpixel.models.model import Model, ModelMetadata
from subpixel.models.spec import ModelSpec
from subpixel.ops.pixel_shuffle import subpixel_weights, transposed_kernel
from subpixel.training.fake_quantization import fake_quantize
from subpixel.training.frames_model import FramesModel
from subpixel.training.prelu import PReLU

TrainedModel: TypeAlias = Model | TnrdModel | FramesModel
"""What a training run results in."""

ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU, "tanh": nn.Tanh}


class ExpandedConvolution(nn.Conv2d):
    """An over-parameterized convolution: the sum of its own weights and of a pair of convolutions.

    The first of the pair is much wider, the second is 1x1, and there is no activation between them. So all
    equal one convolution, into which they are fused at every step, at almost no cost (SESR, Bhardwaj et al.
    2022, arXiv 2103.09404, section 3.2). This changes how the weights move in training, not the network.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, width: int) -> None:
        """Create the layer; the pair is zero, and cannot learn before `initialize` sets its weights."""
        super().__init__(inputs, outputs, kernel, padding="same")
        self.expand = nn.Parameter(torch.zeros(width, inputs, kernel, kernel))
        self.project = nn.Parameter(torch.zeros(outputs, width))

    def fused_weight(self) -> Tensor:
        """Return the weight of the convolution that the sum equals, ``(outputs, inputs, kernel, kernel)``."""
        return self.weight + (self.project @ self.expand.flatten(1)).view_as(self.weight)

    def forward(self, values: Tensor) -> Tensor:
        """Convolve."""
        return nn.functional.conv2d(values, self.fused_weight(), self.bias, padding="same")


class Trainable(nn.Module, ABC):
    """The interface between the training loop and a network.

    ``forward`` maps ``(N, channels, H, W)`` to ``(N, channels * scale**2, H, W)``, the values before the
    final pixel shuffle.
    """

    quantization_levels: int = 0
    """Number of values to which each hidden channel is quantized in the forward pass; 0 for none."""
    regularization: Tensor | None = None
    """What the last forward pass in training adds to the loss."""

    @abstractmethod
    def parameter_groups(self, last_layer_rate: float) -> list[dict[str, object]]:
        """Return parameter groups for an optimizer; "rate" multiplies the learning rate of a group."""

    @abstractmethod
    def fused_parameters(self) -> dict[str, Tensor]:
        """Return the parameters of the `fused` network by name, differentiable."""

    @abstractmethod
    def fused(self) -> "Trainable":
        """Return a copy in which over-parameterized layers are fused, as the network is used."""

    def compiled(self) -> Callable[[Tensor], Tensor]:
        """Return ``forward`` with fused kernels, by `torch.compile`."""
        forward: Callable[[Tensor], Tensor] = torch.compile(self)
        return forward

    @abstractmethod
    def to_model(self, name: str, metadata: ModelMetadata) -> TrainedModel:
        """Return a model with a copy of the current weights."""

    def upscale_frames(self, frames: Iterator[Tensor]) -> Iterator[Tensor]:
        """Upscale the frames of a clip in order; a network for images upscales each by itself.

        Args:
            frames: ``(1, channels, H, W)`` each, in [0, 1].

        Yields:
            ``(1, channels * scale**2, H, W)`` for each frame, not shuffled.
        """
        with torch.no_grad():
            for frame in frames:
                yield self(frame)


class Network(Trainable):
    """The layers of a spec, without the final pixel shuffle.

    ``forward`` maps ``(N, channels, H, W)`` to ``(N, channels * scale**2, H, W)``. The shuffle only moves
    values, so training compares with targets that are unshuffled once, beforehand (section 2.2.1 of the
    paper). Channels are in PyTorch's order: ``c*scale**2 + scale*i + j`` for color c, row offset i and column
    offset j. The output of layers in HR space is unshuffled, so that all networks have the same targets.
    """

    def __init__(self, spec: ModelSpec, expansion: int = 0) -> None:
        """Build the layers with PyTorch's default weights; call `initialize` for better ones.

        With an ``expansion``, all layers but the first are an `ExpandedConvolution`, whose pair is that many
        times as wide as its input.
        """
        super().__init__()
        self.spec = spec
        bicubic = spec.upsampling == "bicubic"
        self.upsample = Bicubic(spec.scale) if bicubic else nn.Identity()
        self.layers = nn.ModuleList(
            ExpandedConvolution(layer.inputs, layer.outputs, layer.kernel, expansion * layer.inputs)
            if expansion and layer.inputs > spec.channels
            else nn.Conv2d(layer.inputs, layer.outputs, layer.kernel, padding="same")
            for layer in spec.layers
        )
        self.activations = nn.ModuleList(
            PReLU(layer.outputs) if layer.activation == "prelu" else ACTIVATIONS[layer.activation]()
            for layer in spec.layers
        )

    @property
    def convolutions(self) -> list[nn.Conv2d]:
        """The convolutions, in order."""
        return [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]

    def features(self, lr: Tensor) -> Tensor:
        """Return the input of the last convolution."""
        values: Tensor = self.upsample(lr)
        for layer, activation in zip(self.layers[:-1], self.activations[:-1], strict=True):
            values = activation(layer(values))
            if self.quantization_levels:
                values = fake_quantize(values, self.quantization_levels)
        return values

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale; the result is not shuffled yet."""
        phases: Tensor = self.activations[-1](self.layers[-1](self.features(lr)))
        if self.spec.residual == "nearest":
            phases = phases + lr.repeat_interleave(self.spec.scale**2, dim=1)
        if self.spec.upsampling == "bicubic":
            phases = nn.functional.pixel_unshuffle(phases, self.spec.scale)
        return phases

    def parameter_groups(self, last_layer_rate: float) -> list[dict[str, object]]:
        """Return two parameter groups for an optimizer: all layers but the last, and the last."""
        last = list(self.layers[-1].parameters())
        own = {id(parameter) for parameter in last}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in own]
        return [{"params": rest, "rate": 1.0}, {"params": last, "rate": last_layer_rate}]

    def fused_parameters(self) -> dict[str, Tensor]:
        """Return the parameters by name; of an expanded convolution, those of the one that it equals."""
        tensors: dict[str, Tensor] = {
            name: tensor
            for name, tensor in self.named_parameters()
            if not name.endswith((".expand", ".project"))
        }
        for index, layer in enumerate(self.layers):
            if isinstance(layer, ExpandedConvolution):
                tensors[f"layers.{index}.weight"] = layer.fused_weight()
        return tensors

    def fused(self) -> "Network":
        """Return a copy with its expanded convolutions fused."""
        result = Network(self.spec).to(next(self.parameters()).device)
        result.load_state_dict({name: tensor.detach() for name, tensor in self.fused_parameters().items()})
        return result

    def load_model(self, model: Model, *, last: bool = True) -> None:
        """Copy the weights of a model of the same spec; not those of the last layer if ``last`` is False."""
        with torch.no_grad():
            pairs = list(zip(self.convolutions, self.activations, strict=True))
            for index, (layer, activation) in enumerate(pairs if last else pairs[:-1]):
                assert layer.bias is not None
                if isinstance(layer, ExpandedConvolution):
                    layer.project.zero_()
                layer.weight.copy_(torch.tensor(model.weights[f"layers.{index}.weight"]))
                layer.bias.copy_(torch.tensor(model.weights[f"layers.{index}.bias"]))
                if isinstance(activation, nn.PReLU):
                    activation.weight.copy_(torch.tensor(model.weights[f"layers.{index}.slope"]))

    def to_model(self, name: str, metadata: ModelMetadata) -> Model:
        """Copy the weights into a `Model`, with `without_steep_slopes` applied."""
        fused = self.fused_parameters()
        weights: dict[str, NDArray[np.float32]] = {}
        for index, (layer, activation) in enumerate(zip(self.convolutions, self.activations, strict=True)):
            assert layer.bias is not None
            tensors = {"weight": fused[f"layers.{index}.weight"], "bias": layer.bias}
            if isinstance(activation, nn.PReLU):
                tensors["slope"] = activation.weight
            for key, tensor in tensors.items():
                weights[f"layers.{index}.{key}"] = tensor.detach().float().cpu().contiguous().numpy()
        return Model(name, self.spec, without_steep_slopes(weights), metadata)


def without_steep_slopes(weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return equivalent weights in which no slope of a hidden PReLU is above 1.

    If a slope s is above 1, the channel's weights and bias change sign and its slope becomes 1/s. Its output
    is then divided by -s, and the next layer's weights for it are multiplied by -s. In int8 such a network is
    slightly faster and equally precise.
    """
    result = {name: values.copy() for name, values in weights.items()}
    for name, slope in weights.items():
        if not name.endswith(".slope"):
            continue
        index, steep = int(name.split(".")[1]), slope > 1
        if f"layers.{index + 1}.weight" not in weights:
            continue
        result[f"layers.{index}.weight"][steep] *= -1
        result[f"layers.{index}.bias"][steep] *= -1
        result[name][steep] = 1 / slope[steep]
        result[f"layers.{index + 1}.weight"][:, steep] *= -slope[steep, None, None]
    return result


class DeconvolutionNetwork(Network):
    """A sub-pixel network whose last layer is the equivalent transposed convolution (arXiv 1609.07009).

    It has a kernel of ``k * scale``, a stride of ``scale``, and one bias per color, where the sub-pixel layer
    has one per phase.
    """

    @classmethod
    def like(cls, network: Network) -> "DeconvolutionNetwork":
        """Convert a network; the bias of a color is the mean of the biases of its phases."""
        result = cls(network.spec)
        last, scale = network.convolutions[-1], network.spec.scale
        side = last.kernel_size[0]
        transposed = nn.ConvTranspose2d(
            last.in_channels,
            network.spec.channels,
            side * scale,
            stride=scale,
            padding=scale * (side // 2),
        )
        with torch.no_grad():
            kernel = transposed_kernel(last.weight.detach().cpu().numpy(), scale)
            transposed.weight.copy_(torch.tensor(kernel.swapaxes(0, 1).copy()))
            assert last.bias is not None and transposed.bias is not None
            transposed.bias.copy_(last.bias.reshape(-1, scale**2).mean(1))
        result.layers = nn.ModuleList([*network.layers[:-1], transposed.to(last.weight.device)])
        return result

    def forward(self, lr: Tensor) -> Tensor:
        """Upscale; the result is unshuffled, to have the same targets as other networks."""
        hr = self.activations[-1](self.layers[-1](self.features(lr)))
        return nn.functional.pixel_unshuffle(hr, self.spec.scale)

    def fused(self) -> Network:
        """Return a copy; there is nothing to fuse."""
        return copy.deepcopy(self)

    def load_model(self, model: Model, *, last: bool = True) -> None:
        """Not supported: load the model into a `Network`, and convert that with `like`."""
        raise NotImplementedError

    def to_model(self, name: str, metadata: ModelMetadata) -> Model:
        """Return the equivalent sub-pixel network as a `Model`."""
        equivalent = Network(self.spec)
        transposed, last = self.layers[-1], equivalent.convolutions[-1]
        assert isinstance(transposed, nn.ConvTranspose2d)
        with torch.no_grad():
            kernel = transposed.weight.detach().float().cpu().numpy().swapaxes(0, 1)
            last.weight.copy_(torch.tensor(subpixel_weights(kernel, self.spec.scale).copy()))
            assert last.bias is not None and transposed.bias is not None
            last.bias.copy_(transposed.bias.detach().cpu().repeat_interleave(self.spec.scale**2))
        equivalent.layers = nn.ModuleList([*self.layers[:-1], last])
        return equivalent.to_model(name, metadata)

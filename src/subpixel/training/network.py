"""The torch form of a description: what is trained, and how it becomes a `Model`."""

import copy
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from subpixel.engines.tnrd import Bicubic
from subpixel.models.model import Model, ModelMetadata
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.ops.pixel_shuffle import subpixel_weights, transposed_kernel
from subpixel.training.config import Initialization
from subpixel.training.fake_quantization import rounded
from subpixel.training.prelu import PReLU

ACTIVATIONS = {"none": nn.Identity, "relu": nn.ReLU, "tanh": nn.Tanh}


class ExpandedConvolution(nn.Conv2d):
    """A convolution that is trained as the sum of itself and of two, the first much wider, the second 1x1.

    There is no activation between the two, so that they equal one: it is merged anew at every step, which
    costs next to nothing, and then applied (SESR, Bhardwaj et al. 2022, arXiv 2103.09404, section 3.2). The
    network is the same; the way that its weights move is another.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, width: int) -> None:
        """Make one that is itself alone until the two are given weights, see `initialize`."""
        super().__init__(inputs, outputs, kernel, padding="same")
        self.expand = nn.Parameter(torch.zeros(width, inputs, kernel, kernel))
        self.project = nn.Parameter(torch.zeros(outputs, width))

    def merged(self) -> Tensor:
        """The weight of the one convolution that all equal."""
        return self.weight + (self.project @ self.expand.flatten(1)).view_as(self.weight)

    def forward(self, values: Tensor) -> Tensor:
        """Convolve."""
        return nn.functional.conv2d(values, self.merged(), self.bias, padding="same")


class Trainable(nn.Module, ABC):
    """What the training loop asks of a network, whatever it is made of.

    ``forward`` maps ``(N, channels, H, W)`` to ``(N, channels * scale**2, H, W)``, unshuffled.
    """

    levels: int = 0
    """How many levels each hidden channel is rounded to on its way; 0 for no rounding."""

    @abstractmethod
    def parameter_groups(self, last_layer_rate: float) -> list[dict[str, object]]:
        """Parameters for an optimizer, the last layer's with their own multiple of the learning rate."""

    @abstractmethod
    def merged(self) -> dict[str, Tensor]:
        """All parameters by name, as `without_expansion` has them."""

    @abstractmethod
    def without_expansion(self) -> "Trainable":
        """The same network as it is used, in which averages are kept."""

    @abstractmethod
    def to_model(self, name: str, facts: ModelMetadata) -> Any:
        """What is saved and measured: a `Model`, or what has its name, scale, facts and save."""


class Network(Trainable):
    """A description's layers, up to but without the final shuffle.

    ``forward`` maps ``(N, channels, H, W)`` to ``(N, channels * scale**2, H, W)``: the shuffle only moves
    values, so training compares with targets that were unshuffled once, beforehand (section 2.2.1 of the
    paper). Channels are in PyTorch's order (color slowest). What comes out of layers in HR space is
    unshuffled, so that all networks meet the same targets.
    """

    def __init__(self, spec: ModelSpec, expansion: int = 0) -> None:
        """Build the layers with PyTorch's default weights; call `initialize` for better ones.

        With an ``expansion`` all but the first are an `ExpandedConvolution`, so many times as wide as their
        input.
        """
        super().__init__()
        self.spec = spec
        bicubic = spec.upsampling == "bicubic"
        self.enlarge = Bicubic(spec.scale) if bicubic else nn.Identity()
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
        """The layers, in order."""
        return [layer for layer in self.layers if isinstance(layer, nn.Conv2d)]

    def features(self, lr: Tensor) -> Tensor:
        """The input of the last convolution."""
        lr = self.enlarge(lr)
        for layer, activation in zip(self.layers[:-1], self.activations[:-1], strict=True):
            lr = activation(layer(lr))
            if self.levels:
                lr = rounded(lr, self.levels)
        return lr

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge; the result is still unshuffled."""
        phases: Tensor = self.activations[-1](self.layers[-1](self.features(lr)))
        if self.spec.residual == "nearest":
            phases = phases + lr.repeat_interleave(self.spec.scale**2, dim=1)
        if self.spec.upsampling == "bicubic":
            phases = nn.functional.pixel_unshuffle(phases, self.spec.scale)
        return phases

    def parameter_groups(self, last_layer_rate: float) -> list[dict[str, object]]:
        """Parameters for an optimizer, the last layer's with their own multiple of the learning rate."""
        last = list(self.layers[-1].parameters())
        own = {id(parameter) for parameter in last}
        rest = [parameter for parameter in self.parameters() if id(parameter) not in own]
        return [{"params": rest, "rate": 1.0}, {"params": last, "rate": last_layer_rate}]

    def merged(self) -> dict[str, Tensor]:
        """All parameters by name, those of the one convolution where an expanded one is trained."""
        tensors: dict[str, Tensor] = {
            name: tensor
            for name, tensor in self.named_parameters()
            if not name.endswith((".expand", ".project"))
        }
        for index, layer in enumerate(self.layers):
            if isinstance(layer, ExpandedConvolution):
                tensors[f"layers.{index}.weight"] = layer.merged()
        return tensors

    def without_expansion(self) -> "Network":
        """The same network, its expansions merged."""
        result = Network(self.spec).to(next(self.parameters()).device)
        result.load_state_dict({name: tensor.detach() for name, tensor in self.merged().items()})
        return result

    def load_model(self, model: Model, *, last: bool = True) -> None:
        """Take over the weights of a model of the same description, those of the last layer if wanted."""
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

    @torch.no_grad()
    def balance(self) -> None:
        """Give all layers but the last weights of the spread that `initialize` gives: so they move as far.

        Behind relu, PReLU or nothing, a layer may be made smaller and the next one larger without changing
        the result; training lets them grow. What the last layer is given is then smaller by some factor: it
        must be solved anew. A network with tanh is left as it is.
        """
        hidden = self.spec.layers[:-1]
        if any(described.activation == "tanh" for described in hidden):
            return
        scale = 1.0  # of what the layer is given
        for layer, described in zip(self.convolutions[:-1], hidden, strict=True):
            spread = math.sqrt(_gain(described) / (described.inputs * described.kernel**2))
            factor = spread / float(layer.weight.square().mean().sqrt())
            scale *= factor
            assert layer.bias is not None
            layer.weight.mul_(factor)
            layer.bias.mul_(scale)

    def to_model(self, name: str, facts: ModelMetadata) -> Model:
        """Copy the weights into a `Model`, with no hidden slope above 1: see `without_steep_slopes`."""
        merged = self.merged()
        weights: dict[str, NDArray[np.float32]] = {}
        for index, (layer, activation) in enumerate(zip(self.convolutions, self.activations, strict=True)):
            assert layer.bias is not None
            tensors = {"weight": merged[f"layers.{index}.weight"], "bias": layer.bias}
            if isinstance(activation, nn.PReLU):
                tensors["slope"] = activation.weight
            for key, tensor in tensors.items():
                weights[f"layers.{index}.{key}"] = tensor.detach().float().cpu().contiguous().numpy()
        return Model(name, self.spec, without_steep_slopes(weights), facts)


def without_steep_slopes(weights: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """A model's weights, changed so that no slope of PReLU is above 1, and the result is the same.

    Where a slope s is above 1, the channel becomes its negative over s: its sums change sign, so that the
    slope becomes 1/s, and the next layer takes it times -s. In 8 bits a network is computed a little faster
    so, and needs no more levels.
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
    """A sub-pixel network with the equal transposed convolution for its last layer (arXiv 1609.07009).

    Of kernel ``k * scale`` and stride ``scale``, with one bias for each color where the sub-pixel layer has
    one for each phase.
    """

    @classmethod
    def like(cls, network: Network) -> "DeconvolutionNetwork":
        """One with the weights of ``network``, whose biases of a color's phases become their mean."""
        result = cls(network.spec)
        last, scale = network.convolutions[-1], network.spec.scale
        side = last.kernel_size[0]
        merged = nn.ConvTranspose2d(
            last.in_channels,
            network.spec.channels,
            side * scale,
            stride=scale,
            padding=scale * (side // 2),
        )
        with torch.no_grad():
            kernel = transposed_kernel(last.weight.detach().cpu().numpy(), scale)
            merged.weight.copy_(torch.tensor(kernel.swapaxes(0, 1).copy()))
            assert last.bias is not None and merged.bias is not None
            merged.bias.copy_(last.bias.reshape(-1, scale**2).mean(1))
        result.layers = nn.ModuleList([*network.layers[:-1], merged.to(last.weight.device)])
        return result

    def forward(self, lr: Tensor) -> Tensor:
        """Enlarge; the result is unshuffled, to meet the same targets."""
        hr = self.activations[-1](self.layers[-1](self.features(lr)))
        return nn.functional.pixel_unshuffle(hr, self.spec.scale)

    def without_expansion(self) -> Network:
        """A copy: it has none."""
        return copy.deepcopy(self)

    def load_model(self, model: Model, *, last: bool = True) -> None:
        """Not for this form: start a `Network` from a model, and take `like` of it."""
        raise NotImplementedError

    def to_model(self, name: str, facts: ModelMetadata) -> Model:
        """The equal sub-pixel network as a `Model`."""
        equal = Network(self.spec)
        merged, last = self.layers[-1], equal.convolutions[-1]
        assert isinstance(merged, nn.ConvTranspose2d)
        with torch.no_grad():
            kernel = merged.weight.detach().float().cpu().numpy().swapaxes(0, 1)
            last.weight.copy_(torch.tensor(subpixel_weights(kernel, self.spec.scale).copy()))
            assert last.bias is not None and merged.bias is not None
            last.bias.copy_(merged.bias.detach().cpu().repeat_interleave(self.spec.scale**2))
        equal.layers = nn.ModuleList([*self.layers[:-1], last])
        return equal.to_model(name, facts)


def initialize(network: Network, method: Initialization, generator: torch.Generator) -> None:
    """Set the starting weights; "fitted" and "centered" need `fit_last_layer` afterwards, which needs data.

    "lecun" is LeCun et al. 1998 (variance 1/fan-in, which keeps the variance of tanh's input), with He's
    factor 2 where a relu follows; "gaussian-0.001" is SRCNN's (standard deviation 0.001).
    """
    with torch.no_grad():
        for layer, described in zip(network.convolutions, network.spec.layers, strict=True):
            fan_in = described.inputs * described.kernel**2
            std = 0.001 if method == "gaussian-0.001" else math.sqrt(_gain(described) / fan_in)
            layer.weight.normal_(0.0, std, generator=generator)
            if isinstance(layer, ExpandedConvolution):
                layer.expand.normal_(0.0, math.sqrt(1 / fan_in), generator=generator)
                layer.project.zero_()
            assert layer.bias is not None
            layer.bias.zero_()


def _gain(described: Convolution) -> float:
    """What variance a layer's weights need, times the fan-in, for values to keep theirs behind it."""
    return 2.0 if described.activation in ("relu", "prelu") else 1.0


def center(network: Network, lr: Tensor, deviation: float = 0.5) -> None:
    """Scale and shift hidden layers so that each unit's sums have mean 0 and this deviation on ``lr``.

    Luma is mostly a constant, and so are the sums of random weights over it: a relu behind them is nearly
    always on or never, a tanh works at one end. Layer by layer, as in LSUV (arXiv 1511.06422), but for each
    unit.
    """
    with torch.no_grad():
        values = network.enlarge(lr)
        for layer, activation in zip(network.convolutions[:-1], network.activations[:-1], strict=True):
            assert layer.bias is not None
            sums = layer(values)
            scale = deviation / sums.std((0, 2, 3)).clamp_min(1e-6)
            layer.weight.mul_(scale.view(-1, 1, 1, 1))
            layer.bias.sub_(sums.mean((0, 2, 3))).mul_(scale)
            values = activation(layer(values))


def fit_last_layer(network: Network, batches: list[tuple[Tensor, Tensor]], ridge: float = 1e-6) -> None:
    """Solve the last convolution by least squares on ``batches`` of (lr, unshuffled target).

    The last layer is linear, so given the layers before it the best one has a closed form. Started so, a
    network with random hidden layers already interpolates, instead of first having to learn the identity.
    ``ridge`` is the weight of the penalty on large weights, as a fraction of the mean squared feature.
    """
    last = network.convolutions[-1]
    described = network.spec.layers[-1]
    size = described.inputs * described.kernel**2 + 1
    device = last.weight.device
    moments = torch.zeros(size, size, dtype=torch.float64, device=device)
    products = torch.zeros(size, described.outputs, dtype=torch.float64, device=device)
    with torch.no_grad():
        for lr, target in batches:
            if network.spec.upsampling == "bicubic":
                target = nn.functional.pixel_shuffle(target, network.spec.scale)
            if network.spec.residual == "nearest":
                target = target - lr.repeat_interleave(network.spec.scale**2, dim=1)
            windows = nn.functional.unfold(
                network.features(lr), described.kernel, padding=described.kernel // 2
            )
            rows = windows.transpose(1, 2).reshape(-1, size - 1).double()
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
            moments += rows.T @ rows
            products += rows.T @ target.permute(0, 2, 3, 1).reshape(-1, described.outputs).double()
        penalty = ridge * moments.diagonal().mean() * torch.eye(size, dtype=torch.float64, device=device)
        solution = torch.linalg.solve(moments + penalty, products).float()
        last.weight.copy_(solution[:-1].T.reshape(last.weight.shape))
        assert last.bias is not None
        last.bias.copy_(solution[-1])

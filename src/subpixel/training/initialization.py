"""Initial weights of a network: random, centered on data, or fitted to data."""

import math

import torch
from torch import Tensor, nn

from subpixel.models.spec import Convolution
from subpixel.training.config import Initialization
from subpixel.training.network import ExpandedConvolution, Network


def initialize(network: Network, method: Initialization, generator: torch.Generator) -> None:
    """Set the initial weights; "fitted" and "centered" need `fit_last_layer` afterwards, which needs data.

    "lecun" is LeCun et al. 1998 (variance 1/fan-in, which keeps the variance of tanh's input), with He's
    factor 2 before relu and PReLU; "gaussian-0.001" is SRCNN's (standard deviation 0.001).
    """
    with torch.no_grad():
        for layer, convolution in zip(network.convolutions, network.spec.layers, strict=True):
            fan_in = convolution.inputs * convolution.kernel**2
            std = 0.001 if method == "gaussian-0.001" else math.sqrt(_gain(convolution) / fan_in)
            layer.weight.normal_(0.0, std, generator=generator)
            if isinstance(layer, ExpandedConvolution):
                layer.expand.normal_(0.0, math.sqrt(1 / fan_in), generator=generator)
                layer.project.zero_()
            assert layer.bias is not None
            layer.bias.zero_()


def _gain(convolution: Convolution) -> float:
    """Return fan-in times the variance of a layer's weights with which activations keep their variance."""
    return 2.0 if convolution.activation in ("relu", "prelu") else 1.0


def center(network: Network, lr: Tensor, deviation: float = 0.5) -> None:
    """Scale and shift hidden layers so that each unit has mean 0 and this standard deviation on ``lr``.

    That is before its activation. Luma is mostly constant, and so are weighted sums of it with random
    weights: a relu is then almost always or almost never active, and a tanh is saturated. The layers are
    centered one after another as in LSUV (arXiv 1511.06422), but each unit by itself.

    Args:
        network: changed in place.
        lr: ``(N, 1, H, W)``, in [0, 1].
        deviation: the standard deviation.
    """
    with torch.no_grad():
        values = network.upsample(lr)
        for layer, activation in zip(network.convolutions[:-1], network.activations[:-1], strict=True):
            assert layer.bias is not None
            outputs = layer(values)
            scale = deviation / outputs.std((0, 2, 3)).clamp_min(1e-6)
            layer.weight.mul_(scale.view(-1, 1, 1, 1))
            layer.bias.sub_(outputs.mean((0, 2, 3))).mul_(scale)
            values = activation(layer(values))


def fit_last_layer(network: Network, batches: list[tuple[Tensor, Tensor]], ridge: float = 1e-6) -> None:
    """Solve the last convolution by least squares, so that training starts from a network that interpolates.

    The last layer is linear, so the best one for given hidden layers has a closed form, even if these are
    random.

    Args:
        network: changed in place.
        batches: pairs of ``(N, 1, H, W)`` LR patches and their unshuffled targets ``(N, scale**2, H, W)``.
        ridge: weight of the penalty on large weights, as a fraction of the mean squared feature.
    """
    last = network.convolutions[-1]
    convolution = network.spec.layers[-1]
    size = convolution.inputs * convolution.kernel**2 + 1
    device = last.weight.device
    moments = torch.zeros(size, size, dtype=torch.float64, device=device)
    products = torch.zeros(size, convolution.outputs, dtype=torch.float64, device=device)
    with torch.no_grad():
        for lr, target in batches:
            if network.spec.upsampling == "bicubic":
                target = nn.functional.pixel_shuffle(target, network.spec.scale)
            if network.spec.residual == "nearest":
                target = target - lr.repeat_interleave(network.spec.scale**2, dim=1)
            windows = nn.functional.unfold(
                network.features(lr), convolution.kernel, padding=convolution.kernel // 2
            )
            rows = windows.transpose(1, 2).reshape(-1, size - 1).double()
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
            moments += rows.T @ rows
            products += rows.T @ target.permute(0, 2, 3, 1).reshape(-1, convolution.outputs).double()
        penalty = ridge * moments.diagonal().mean() * torch.eye(size, dtype=torch.float64, device=device)
        solution = torch.linalg.solve(moments + penalty, products).float()
        last.weight.copy_(solution[:-1].T.reshape(last.weight.shape))
        assert last.bias is not None
        last.bias.copy_(solution[-1])


@torch.no_grad()
def balance(network: Network) -> None:
    """Scale the hidden layers so that their weights have the variance that `initialize` gives.

    Training lets weights grow, and the same update changes large weights less. With relu, PReLU or no
    activation, scaling a layer only scales its output, so the output of the hidden layers changes by a
    factor: the last layer must be fitted again. A network with tanh is not changed.
    """
    hidden = network.spec.layers[:-1]
    if any(convolution.activation == "tanh" for convolution in hidden):
        return
    scale = 1.0  # of the layer's input
    for layer, convolution in zip(network.convolutions[:-1], hidden, strict=True):
        spread = math.sqrt(_gain(convolution) / (convolution.inputs * convolution.kernel**2))
        factor = spread / float(layer.weight.square().mean().sqrt())
        scale *= factor
        assert layer.bias is not None
        layer.weight.mul_(factor)
        layer.bias.mul_(scale)

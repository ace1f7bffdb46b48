"""Stacks of small convolutions: the form of most small networks after ESPCN, once their blocks are fused."""

from collections.abc import Sequence
from itertools import pairwise

from subpixel.models.spec import Activation, Convolution, ModelSpec, Residual


def stack(
    scale: int,
    widths: Sequence[int],
    *,
    kernels: Sequence[int] = (),
    activation: Activation = "prelu",
    residual: Residual = "nearest",
    channels: int = 1,
) -> ModelSpec:
    """Return the spec of convolutions with ``widths`` outputs and an activation each, and a last one without.

    Except for skips between layers, this covers:

    - ECBSR (Zhang et al., ACM MM 2021) M4C16, fused: ``stack(scale, [16] * 5)``;
    - SESR (Bhardwaj et al., MLSys 2022, arXiv 2103.09404) M5, fused: ``stack(scale, [16] * 6, kernels=[5, 3,
      3, 3, 3, 3, 5])``;
    - FSRCNN (Dong et al., ECCV 2016, arXiv 1608.00367) for x3, whose 9x9 deconvolution equals 3x3 layers
      before the shuffle: ``stack(3, [56, 12, 12, 12, 12, 12, 56], kernels=[5, 1, 3, 3, 3, 3, 1, 3],
      residual="none")``.

    Args:
        scale: factor of the shuffle.
        widths: output channels of each hidden layer.
        kernels: side of each layer's kernel, one more than ``widths``; by default all 3.
        activation: of every layer except the last.
        residual: added to the output.
        channels: of the image.

    >>> stack(3, [16] * 5).macs_per_lr_pixel
    10656
    """
    sides = tuple(kernels) or (3,) * (len(widths) + 1)
    channel_counts = (channels, *widths, channels * scale**2)
    activations: list[Activation] = [activation] * len(widths) + ["none"]
    layers = (
        Convolution(inputs, outputs, side, layer_activation)
        for (inputs, outputs), side, layer_activation in zip(
            pairwise(channel_counts), sides, activations, strict=True
        )
    )
    return ModelSpec(scale=scale, channels=channels, residual=residual, layers=tuple(layers))

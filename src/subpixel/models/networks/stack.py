"""Stacks of small convolutions: what most small networks after ESPCN are, once their blocks are merged."""

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
    """Describe convolutions of ``widths`` outputs, each with the activation, and a last one without.

    So it covers, up to skips between layers, which a plain stack has not:

    - ECBSR (Zhang et al., ACM MM 2021) M4C16, merged: ``stack(scale, [16] * 5)``;
    - SESR (Bhardwaj et al., MLSys 2022, arXiv 2103.09404) M5, merged: ``stack(scale, [16] * 6, kernels=[5, 3,
      3, 3, 3, 3, 5])``;
    - FSRCNN (Dong et al., ECCV 2016, arXiv 1608.00367) for x3, whose 9x9 deconvolution equals 3x3 layers
      before the shuffle: ``stack(3, [56, 12, 12, 12, 12, 12, 56], kernels=[5, 1, 3, 3, 3, 3, 1, 3],
      residual="none")``.

    Args:
        scale: of the shuffle.
        widths: the hidden layers' outputs.
        kernels: sides of all layers' kernels, one more than ``widths``; 3 where left out.
        activation: behind every layer but the last.
        residual: what is added at the end.
        channels: of the image.

    >>> stack(3, [16] * 5).macs_per_lr_pixel
    10656
    """
    sides = tuple(kernels) or (3,) * (len(widths) + 1)
    ends = (channels, *widths, channels * scale**2)
    activations: list[Activation] = [activation] * len(widths) + ["none"]
    layers = (
        Convolution(inputs, outputs, side, behind)
        for (inputs, outputs), side, behind in zip(pairwise(ends), sides, activations, strict=True)
    )
    return ModelSpec(scale=scale, channels=channels, residual=residual, layers=tuple(layers))

"""Loss functions, computed on unshuffled targets."""

from typing import Literal, TypeAlias

from torch import Tensor

Loss: TypeAlias = Literal["l1", "mse", "psnr"]

PSNR_FLOOR = 1e-4
"""Added to the mean squared error of a patch before the logarithm; corresponds to 40 dB. Without it, flat
patches, which any network reproduces almost exactly, would dominate the gradient."""


def mean_loss(phases: Tensor, target: Tensor, weight: Tensor | None, loss: Loss = "mse") -> Tensor:
    """Return the loss of a batch, a scalar, over the pixels whose ``weight`` is not 0.

    Args:
        phases: ``(N, scale**2, H, W)``, the network's output before the pixel shuffle, in [0, 1].
        target: the same shape and range.
        weight: ``(N, 1, H, W)``, 1 for pixels that count and 0 elsewhere; None if all count.
        loss: "mse" is the mean squared error, the paper's loss (equation 5). The shuffle only moves values,
            so the mean is the same before and after it. "l1" is the mean absolute error. "psnr" is the mean
            over patches of ``10 log10(mse + PSNR_FLOOR)``.
    """
    errors = phases - target
    errors = errors.abs() if loss == "l1" else errors.square()
    axes = tuple(range(1 if loss == "psnr" else 0, errors.ndim))
    if weight is None:
        means = errors.mean(axes)
    else:
        means = (errors * weight).sum(axes) / weight.expand_as(errors).sum(axes)
    return 10 * (means + PSNR_FLOOR).log10().mean() if loss == "psnr" else means

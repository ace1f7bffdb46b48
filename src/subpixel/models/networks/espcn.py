"""ESPCN, the efficient sub-pixel convolutional network (Shi et al., CVPR 2016, arXiv 1609.05158)."""

from subpixel.models.spec import Activation, Convolution, ModelSpec, Upsampling


def espcn(
    scale: int,
    *,
    activation: Activation = "tanh",
    channels: int = 1,
    upsampling: Upsampling = "shuffle",
) -> ModelSpec:
    """Return the spec of the paper's network (section 3.2): (f1, n1) = (5, 64), (f2, n2) = (3, 32), f3 = 3.

    The last layer has ``channels * scale**2`` outputs and no activation. The paper's final models use tanh;
    its first experiments (Table 1) use relu. With ``upsampling="bicubic"``, the same layers work in HR space,
    after bicubic upsampling; the paper compares its network with this form.

    >>> espcn(3).halo_px
    4
    """
    outputs = channels * scale**2 if upsampling == "shuffle" else channels
    return ModelSpec(
        scale=scale,
        channels=channels,
        upsampling=upsampling,
        layers=(
            Convolution(channels, 64, 5, activation),
            Convolution(64, 32, 3, activation),
            Convolution(32, outputs, 3),
        ),
    )

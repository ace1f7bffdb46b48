"""ESPCN, the efficient sub-pixel convolutional network (Shi et al., CVPR 2016, arXiv 1609.05158)."""

from subpixel.model import Activation, Convolution, Description


def espcn(scale: int, *, activation: Activation = "tanh", channels: int = 1) -> Description:
    """Describe the paper's network (section 3.2): (f1, n1) = (5, 64), (f2, n2) = (3, 32), f3 = 3.

    The last layer has ``channels * scale**2`` outputs and no activation. The paper's final models use
    tanh; its first experiments (Table 1) use relu.

    >>> espcn(3).halo_px
    4
    """
    return Description(
        scale=scale,
        channels=channels,
        layers=(
            Convolution(channels, 64, 5, activation),
            Convolution(64, 32, 3, activation),
            Convolution(32, channels * scale**2, 3),
        ),
    )

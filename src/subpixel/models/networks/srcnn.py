"""SRCNN (Dong et al., ECCV 2014 and arXiv 1501.00092), with which the ESPCN paper compares."""

from typing import Literal

from subpixel.models.spec import Convolution, ModelSpec


def srcnn(scale: int, *, middle: Literal[1, 5] = 5, channels: int = 1) -> ModelSpec:
    """Return the spec of SRCNN 9-1-5 or 9-5-5, by the size of its ``middle`` kernel.

    The layers have 64, 32 and ``channels`` filters, with relu in between, and work after bicubic upsampling.
    The authors train without padding; here the layers are padded, as in every network.

    >>> srcnn(3, middle=5).parameters, srcnn(3, middle=1).parameters
    (57281, 8129)
    """
    return ModelSpec(
        scale=scale,
        channels=channels,
        upsampling="bicubic",
        layers=(
            Convolution(channels, 64, 9, "relu"),
            Convolution(64, 32, middle, "relu"),
            Convolution(32, channels, 5),
        ),
    )

"""SRCNN, which ESPCN was compared with (Dong et al., ECCV 2014 and arXiv 1501.00092)."""

from typing import Literal

from subpixel.models.spec import Convolution, ModelSpec


def srcnn(scale: int, *, middle: Literal[1, 5] = 5, channels: int = 1) -> ModelSpec:
    """Describe SRCNN 9-1-5 or 9-5-5 by its ``middle`` kernel: 64, 32 and one filter a color, relu between.

    It works on the image that bicubic has made larger. Its authors leave out the padding while they train;
    here, as in every network, the result is as large as the image.

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

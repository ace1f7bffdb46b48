"""A network that is known to do: bicubic, as one convolution and a pixel shuffle."""

import numpy as np

from subpixel.models.model import Model
from subpixel.models.spec import Convolution, ModelSpec
from subpixel.ops.resize import imresize


def bicubic_model(scale: int) -> Model:
    """A model whose answer is `imresize`, except at the border, where a network sees zeros beyond it."""
    weights = np.zeros((scale * scale, 1, 5, 5), np.float32)
    for row in range(5):
        for column in range(5):
            impulse = np.zeros((5, 5))
            impulse[row, column] = 1.0
            center = imresize(impulse, scale)[2 * scale : 3 * scale, 2 * scale : 3 * scale]
            weights[:, 0, row, column] = center.ravel()
    spec = ModelSpec(scale=scale, layers=(Convolution(1, scale * scale, 5),))
    bias = np.zeros(scale * scale, np.float32)
    return Model(f"bicubic-x{scale}", spec, {"layers.0.weight": weights, "layers.0.bias": bias})

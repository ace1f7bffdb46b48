"""The oracle: the network as the papers write it, in NumPy, for other engines to be held against.

It is slow, and means to be beyond doubt. It stands in where no faster engine can be imported.
"""

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import Engine
from subpixel.shuffle import pixel_shuffle


class NumpyEngine(Engine):
    """Convolutions summed tap by tap in float64, rounded to float32 once, at the end.

    ``threads`` is not honoured: NumPy's matrix product has its own (``OPENBLAS_NUM_THREADS``).
    """

    name = "numpy"
    tile_side_px = 128  # float64 and several copies of it: a quarter of the usual side keeps it near 100 MB

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        description, weights = self.model.description, self.model.weights
        values = tensor.astype(np.float64)
        for index, layer in enumerate(description.layers):
            values = convolve(values, weights[f"layers.{index}.weight"], weights[f"layers.{index}.bias"])
            match layer.activation:
                case "relu":
                    values = np.maximum(values, 0)
                case "prelu":
                    slope = weights[f"layers.{index}.slope"][:, None, None]
                    values = np.where(values >= 0, values, slope * values)
                case "tanh":
                    values = np.tanh(values)
        hr = pixel_shuffle(values, description.scale)
        if description.residual == "nearest":
            hr = hr + tensor.repeat(description.scale, axis=1).repeat(description.scale, axis=2)
        return hr.astype(np.float32)


def convolve(
    values: NDArray[np.float64], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Convolve as networks do (a correlation: the kernel is not flipped), zeros around the image.

    Args:
        values: ``(inputs, H, W)``.
        weight: ``(outputs, inputs, kernel, kernel)``, the kernel's side odd.
        bias: ``(outputs,)``.

    Returns:
        ``(outputs, H, W)``.
    """
    _, height, width = values.shape
    kernel = weight.shape[-1]
    border = kernel // 2
    padded = np.pad(values, ((0, 0), (border, border), (border, border)))
    result = np.tile(bias.astype(np.float64)[:, None, None], (1, height, width))
    for row, column in np.ndindex(kernel, kernel):
        seen = padded[:, row : row + height, column : column + width]
        result += np.tensordot(weight[:, :, row, column], seen, axes=1)
    return result

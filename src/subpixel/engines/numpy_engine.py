"""The oracle: the network as the papers write it, in NumPy, for other engines to be held against.

It is slow, and means to be beyond doubt. It stands in where no faster engine can be imported.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from subpixel.engines.base import Engine
from subpixel.shuffle import pixel_shuffle


class NumpyEngine(Engine):
    """Every layer in float64, rounded to float32 once, at the end.

    ``threads`` is not honoured: NumPy's matrix product has its own (``OPENBLAS_NUM_THREADS``).
    """

    name = "numpy"
    tile_side_px = 128  # each pixel's window is copied out: about 100 MB for ESPCN's second layer

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
    kernel = weight.shape[-1]
    border = kernel // 2
    padded = np.pad(values, ((0, 0), (border, border), (border, border)))
    windows = sliding_window_view(padded, (kernel, kernel), axis=(1, 2))
    sums = np.tensordot(weight.astype(np.float64), windows, axes=((1, 2, 3), (0, 3, 4)))  # inputs and taps
    return np.asarray(sums + bias[:, None, None])

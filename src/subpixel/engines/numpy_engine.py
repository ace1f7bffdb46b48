"""The oracle: the network as the papers write it, in NumPy, for other engines to be held against.

It is slow, and means to be beyond doubt. It stands in where no faster engine can be imported.
"""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from subpixel.engines.base import Engine, enlarged_first
from subpixel.engines.flat import keep_flat
from subpixel.models.model import Convolution, Model
from subpixel.models.quantization import MOST_TANH_ARGUMENT, IntegerLayer, rounded_product, tanh_steps
from subpixel.ops.pixel_shuffle import pixel_shuffle

Float = np.float64


class NumpyEngine(Engine):
    """fp32: every layer in float64, rounded to float32 once, at the end. int8: the integers, exactly.

    ``threads`` is not honored: NumPy's matrix product has its own (``OPENBLAS_NUM_THREADS``).
    """

    name = "numpy"
    precisions = ("fp32", "int8")
    tile_side_px = 128  # each pixel's window is copied out: about 100 MB for ESPCN's second layer

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        if self.precision == "int8":
            picture, values = self._through_integers(tensor)
        else:
            picture, values = tensor, self._through_reals(tensor)
        spec = self.model.spec
        hr = pixel_shuffle(values, spec.shuffle)
        if spec.residual == "none":
            return hr.astype(np.float32)
        hr = hr + picture.repeat(spec.scale, axis=1).repeat(spec.scale, axis=2)
        result: NDArray[np.float32] = hr.astype(np.float32)
        keep_flat(tensor, result)
        return result

    def _through_reals(self, tensor: NDArray[np.float32]) -> NDArray[Float]:
        values = enlarged_first(tensor.astype(np.float64), self.model.spec)
        for index, layer in enumerate(self.model.spec.layers):
            sums = convolve(values, *weights_of(self.model, index))
            values = activated(sums, layer, self.model.weights.get(f"layers.{index}.slope"))
        return values

    def _through_integers(self, tensor: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[Float]]:
        """The input as 8 bits make it, and the last layer's values."""
        levels = np.clip(np.floor(tensor * np.float32(255) + np.float32(0.5)), 0, 255)
        values, zeros = levels.astype(np.float64), np.zeros(len(levels))
        for described, layer in zip(self.model.spec.layers, self._integers, strict=True):
            values = integer_outputs(values, zeros, described, layer, last=layer is self._integers[-1])
            zeros = layer.zero.astype(np.float64)
        return levels / np.float32(255), values


def weights_of(model: Model, index: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A layer's weight and bias."""
    return model.weights[f"layers.{index}.weight"], model.weights[f"layers.{index}.bias"]


def activated(sums: NDArray[Float], layer: Convolution, slope: NDArray[np.float32] | None) -> NDArray[Float]:
    """A layer's activation, applied to ``(outputs, H, W)``; ``slope`` is PReLU's."""
    match layer.activation:
        case "relu":
            return np.maximum(sums, 0)
        case "prelu":
            assert slope is not None
            return np.where(sums >= 0, sums, slope[:, None, None] * sums)
        case "tanh":
            return np.tanh(sums)
    return sums


def integer_outputs(
    values: NDArray[Float], zeros: NDArray[Float], described: Convolution, layer: IntegerLayer, *, last: bool
) -> NDArray[Float]:
    """One layer of the 8-bit network, by the formulas of `subpixel.models.quantization`.

    Args:
        values: ``(inputs, H, W)``, whole numbers from 0 to 255.
        zeros: ``(inputs,)``, each input's level that means zero.
        described: which convolution it is.
        layer: its integers.
        last: whether it is the network's last layer.

    Returns:
        ``(outputs, H, W)``: whole numbers from 0 to 255; of the last layer real values.
    """
    sums = convolve(values, layer.weight, layer.bias, zeros).astype(np.float32)
    factor, negative = layer.factor[:, None, None], layer.negative_factor[:, None, None]
    factor = np.where(sums >= 0, factor, negative)
    if last:
        value = (sums * factor).astype(np.float64)
        return value if described.activation == "prelu" else activated(value, described, None)
    exact = sums.astype(np.float64) * factor  # of two float32 it is
    zero = layer.zero[:, None, None]
    if described.activation != "tanh":
        return np.clip(np.rint(exact + zero), 0, 255)
    argument = np.clip(np.rint(exact), -MOST_TANH_ARGUMENT, MOST_TANH_ARGUMENT).astype(np.int64)
    levels = rounded_product(tanh_steps(argument), layer.steps[:, None, None]) + zero
    return np.asarray(np.clip(levels, 0, 255), np.float64)


def convolve(
    values: NDArray[Float], weight: NDArray[Any], bias: NDArray[Any], beyond: NDArray[Float] | None = None
) -> NDArray[Float]:
    """Convolve as networks do (a correlation: the kernel is not flipped).

    Args:
        values: ``(inputs, H, W)``.
        weight: ``(outputs, inputs, kernel, kernel)``, the kernel's side odd.
        bias: ``(outputs,)``.
        beyond: ``(inputs,)``: what lies around the image; zeros by default.

    Returns:
        ``(outputs, H, W)``.
    """
    windows = sliding_window_view(
        bordered(values, weight.shape[-1] // 2, beyond), weight.shape[2:], axis=(1, 2)
    )
    sums = np.tensordot(weight.astype(np.float64), windows, axes=((1, 2, 3), (0, 3, 4)))  # inputs and taps
    return np.asarray(sums + bias.astype(np.float64)[:, None, None])


def bordered(values: NDArray[Float], border: int, beyond: NDArray[Float] | None = None) -> NDArray[Float]:
    """``(channels, H, W)`` with ``border`` pixels around, of each channel's value ``beyond`` or zero."""
    shape = (len(values), values.shape[1] + 2 * border, values.shape[2] + 2 * border)
    result = np.zeros(shape) if beyond is None else np.broadcast_to(beyond[:, None, None], shape).copy()
    result[:, border : shape[1] - border, border : shape[2] - border] = values
    return result

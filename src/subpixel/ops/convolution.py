"""Convolutions and activations as papers define them: plain, slow, in float64."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Float = np.float64


def convolve(
    values: NDArray[Float], weight: NDArray[Any], bias: NDArray[Any], pad_values: NDArray[Float] | None = None
) -> NDArray[Float]:
    """Convolve as networks do: a correlation, the kernel is not flipped. The output is as large as the input.

    Args:
        values: ``(inputs, H, W)``.
        weight: ``(outputs, inputs, kernel, kernel)``, the kernel's side odd.
        bias: ``(outputs,)``.
        pad_values: ``(inputs,)``, the value of each channel outside of the image; zeros by default.

    Returns:
        ``(outputs, H, W)``.
    """
    padded = pad(values, weight.shape[-1] // 2, pad_values)
    windows = sliding_window_view(padded, weight.shape[2:], axis=(1, 2))
    sums = np.tensordot(weight.astype(np.float64), windows, axes=((1, 2, 3), (0, 3, 4)))  # inputs and taps
    return np.asarray(sums + bias.astype(np.float64)[:, None, None])


def pad(values: NDArray[Float], border: int, pad_values: NDArray[Float] | None = None) -> NDArray[Float]:
    """Pad ``(channels, H, W)`` by ``border`` pixels on all sides with ``pad_values``, by default zeros."""
    shape = (len(values), values.shape[1] + 2 * border, values.shape[2] + 2 * border)
    if pad_values is None:
        result = np.zeros(shape)
    else:
        result = np.broadcast_to(pad_values[:, None, None], shape).copy()
    result[:, border : shape[1] - border, border : shape[2] - border] = values
    return result


def activate(values: NDArray[Float], activation: str, slope: NDArray[np.float32] | None) -> NDArray[Float]:
    """Apply an activation to ``(outputs, H, W)``; ``slope`` is PReLU's, ``(outputs,)``."""
    match activation:
        case "relu":
            return np.maximum(values, 0)
        case "prelu":
            assert slope is not None
            return np.where(values >= 0, values, slope[:, None, None] * values)
        case "tanh":
            return np.tanh(values)
    return values

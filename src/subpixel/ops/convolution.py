"""Convolutions and activations, written as papers write them: slow, plain, in float64."""

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Float = np.float64


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


def activated(sums: NDArray[Float], activation: str, slope: NDArray[np.float32] | None) -> NDArray[Float]:
    """A layer's activation, applied to ``(outputs, H, W)``; ``slope`` is PReLU's."""
    match activation:
        case "relu":
            return np.maximum(sums, 0)
        case "prelu":
            assert slope is not None
            return np.where(sums >= 0, sums, slope[:, None, None] * sums)
        case "tanh":
            return np.tanh(sums)
    return sums

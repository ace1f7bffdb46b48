"""The 8-bit form of a network: what an engine computes when it is asked for int8.

Each layer takes unsigned 8-bit inputs, multiplies them with signed 8-bit weights and sums in 32 bits:

    sum[o] = bias[o] + Σ weight[o, i, ky, kx] * input[i, y + ky, x + kx]

where ``bias`` already holds what the inputs' zero levels would add, so that nothing is subtracted on the
way, and where what lies beyond the picture holds each channel's zero level. A sum becomes the next layer's
input by

    value = factor[o] * sum[o]                 (for PReLU, times its slope where the sum is negative)
    input = floor(value + zero[o] + 1/2)                                    after relu, PReLU, no activation
    input = floor(value * steps[o] * tanh_ratio(value) + zero[o] + 1/2)     after tanh

clipped to 0..255, which is what makes relu a relu. The last layer's ``value`` is the real output.

`tanh_ratio` is a polynomial for tanh(v) / v, and part of the definition. All of this is float32, in this
order, and a product that something is added to is one fused multiply-add: so engines give the same integers,
and a network in which one step more or less between layers matters is the same network everywhere.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import EngineError
from subpixel.model import Model

TANH_LIMIT = 3.5
TANH_COEFFICIENTS = (
    0.9905173804265158,
    -0.29184618582650085,
    0.07649412054516642,
    -0.013051171330525918,
    0.001314321094510435,
    -7.031798102033965e-05,
    1.533968453892692e-06,
)
"""Of x, x^3, ... x^13: the minimax fit to tanh on [-3.5, 3.5]. Beyond, it goes on as a straight line through
zero, which passes 1 at once, where every channel's range ends. So it is off by at most 0.0019, a quarter of a
step of 8 bits, and `subpixel.calibration` makes up for most of that. `benchmarks/tanh_fits.py` finds it."""

MAX_TAPS = 2**31 // (255 * 128) - 1
"""So many inputs times taps always fit a 32-bit sum, with room for the bias."""

MAX_BIAS = 2**22
"""Of a channel in its own steps: below 2**24, which float32 holds exactly, even with the sum added."""


@dataclass(frozen=True)
class IntegerLayer:
    """What the formulas above need, channel by channel; ``outputs`` entries each."""

    weight: NDArray[np.int8]
    """``(outputs, inputs, kernel, kernel)``"""
    bias: NDArray[np.int32]
    factor: NDArray[np.float32]
    slope: NDArray[np.float32]
    """What PReLU multiplies negative values with; 1 where there is no PReLU."""
    steps: NDArray[np.float32]
    """How many steps of the output 1.0 has, after tanh; 1 where ``factor`` contains it."""
    zero: NDArray[np.uint8]
    """The output's level that means zero."""


def integer_layers(model: Model) -> tuple[IntegerLayer, ...]:
    """The integers behind a model's 8-bit layers.

    Raises `EngineError` when it has none, or when a sum could exceed 32 bits.
    """
    if not model.quantised:
        raise EngineError(
            f"model {model.name} has no 8-bit layers: run `subpixel calibrate`, or choose precision fp32"
        )
    zeros = np.zeros(model.description.channels, np.int64)
    result = []
    last = len(model.quantised) - 1
    for index, (described, layer) in enumerate(zip(model.description.layers, model.quantised, strict=True)):
        if described.inputs * described.kernel**2 > MAX_TAPS:
            raise EngineError(
                f"model {model.name}: layer {index} sums more than {MAX_TAPS} products, too many for 32 bits"
            )
        weight_sums = layer.weight.astype(np.int64).sum((2, 3)) @ zeros
        steps = np.rint(layer.bias.astype(np.float64) / layer.weight_scale)
        bias = np.clip(steps, -MAX_BIAS, MAX_BIAS).astype(np.int64) - weight_sums
        factor, output_steps = layer.weight_scale.astype(np.float64), np.ones(described.outputs)
        if described.activation == "tanh" and index < last:
            output_steps = 1 / layer.output_scale.astype(np.float64)
        elif index < last:
            factor = factor / layer.output_scale
        # Engines turn levels into 32-bit integers before they clip them.
        most = (np.abs(layer.weight.astype(np.float64)).sum((1, 2, 3)) * 255 + np.abs(bias)) * factor
        if described.activation == "tanh" and (most * output_steps).max() > 2**32:
            raise EngineError(f"model {model.name}: layer {index} has sums too large for its 8-bit outputs")
        slope = model.weights.get(f"layers.{index}.slope", np.ones(described.outputs, np.float32))
        result.append(
            IntegerLayer(
                layer.weight,
                bias.astype(np.int32),
                factor.astype(np.float32),
                slope,
                output_steps.astype(np.float32),
                layer.output_zero,
            )
        )
        zeros = layer.output_zero.astype(np.int64)
    return tuple(result)


def tanh_ratio(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The polynomial that stands for tanh(v) / v between 8-bit layers; any shape.

    Times v it passes 1 beyond the limit: that is for the caller to clip, to the range that the channel has.
    """
    squares = np.minimum(values * values, np.float32(TANH_LIMIT**2))
    result: NDArray[np.float32] = np.full_like(squares, TANH_COEFFICIENTS[-1])
    for coefficient in TANH_COEFFICIENTS[-2::-1]:
        result = fused(result, squares, np.float32(coefficient))
    return result


def fused(factor: Any, other: Any, addend: Any) -> NDArray[np.float32]:
    """``factor * other + addend`` of float32 values, rounded once.

    Products of two float32 are exact in float64. The sum is rounded there and then to float32, which differs
    from rounding once in one case of 2**29.
    """
    product = np.asarray(factor, np.float64) * np.asarray(other, np.float64)
    return np.asarray(product + addend, np.float32)

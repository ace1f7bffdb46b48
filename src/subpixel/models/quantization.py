"""The 8-bit form of a network: what an engine computes when it is asked for int8.

Each layer takes unsigned 8-bit inputs, multiplies them with signed 8-bit weights and sums in 32 bits:

    sum[o] = bias[o] + Σ weight[o, i, ky, kx] * input[i, y + ky, x + kx]

where ``bias`` already holds what the inputs' zero levels would add, so that nothing is subtracted on the
way, and where what lies beyond the picture holds each channel's zero level. A sum becomes the next layer's
input by

    input = round(factor[o] * sum + zero[o])    clipped to 0..255          after relu, PReLU, no activation
    x     = round(factor[o] * sum)              clipped to -32767..32767           for tanh
    input = rounded_product(tanh_steps(x), steps[o]) + zero[o]    clipped to 0..255

For PReLU the factor of a negative sum is ``negative_factor[o]``. The last layer's ``factor * sum`` is the
real output. Factors before it are whole multiples of `FACTOR_STEP`, unless that would make them coarse.

`tanh_steps` is part of the definition: a polynomial in 16-bit integers, of which a processor computes twice
as many at once as it does of float32. The rest is float32: sum, factor and zero make one fused multiply-add,
rounded half to even. So engines give the same integers, and a network in which one step more or less between
layers matters is the same network everywhere.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import EngineError
from subpixel.models.model import Model
from subpixel.models.spec import Convolution
from subpixel.ops.convolution import activated, convolve

TANH_LIMIT = 3.25
"""Beyond this, tanh counts as what it is here. One step of tanh's argument is 2**-15 of it."""
MOST_TANH_ARGUMENT = 2**15 - 1
"""In those steps."""
TANH_COEFFICIENTS = (4165, -594, -16596, 30556, -22253, 5980)
"""Of powers of |x| / `TANH_LIMIT`, in steps of 2**-12: the minimax fit of x * p(|x|) to tanh. With what
rounding adds it is off by at most 0.003, less than half a level of 8 bits. `benchmarks/tanh_fits.py` finds
it. One coefficient less would be off by 0.005, and cost ESPCN x2 0.02 dB."""

MAX_TAPS = 2**31 // (255 * 128) - 1
"""So many inputs times taps always fit a 32-bit sum, with room for the bias."""

MAX_BIAS = 2**22
"""Of a channel in its own steps: below 2**24, which float32 holds exactly, even with the sum added."""

MAGIC, MAGIC_BITS = 1.5 * 2**23, 0x4B400000
"""A float32 near this has whole numbers for its last bits: adding it to a value rounds that half to even, and
leaves it in the low bits. Read as integers such floats are in order, also those far beyond what fits."""

FACTOR_STEP, LEAST_ROUNDED_FACTOR = 2.0**-22, 2.0**-12
"""Of the first, factors are multiples, down to the second: so that an engine may take a sum for the last bits
of a float near `MAGIC`, multiply that, and take off what is too much, all without rounding. It changes a
level by less than 1/16."""

LEAST_TANH_SCALE = 8 * TANH_LIMIT / (2**15 - 1)
"""Of a channel's levels after tanh: with finer ones ``steps`` would not fit 16 bits."""


@dataclass(frozen=True)
class IntegerLayer:
    """What the formulas above need, channel by channel; ``outputs`` entries each."""

    weight: NDArray[np.int8]
    """``(outputs, inputs, kernel, kernel)``"""
    bias: NDArray[np.int32]
    factor: NDArray[np.float32]
    negative_factor: NDArray[np.float32]
    """Of negative sums: PReLU's slope times ``factor``; without PReLU it is ``factor``."""
    zero: NDArray[np.uint8]
    """The output's level that means zero."""
    steps: NDArray[np.int16]
    """After tanh: how many levels the step of `tanh_steps` is, in steps of 2**-15; otherwise 0."""


def integer_layers(model: Model) -> tuple[IntegerLayer, ...]:
    """The integers behind a model's 8-bit layers.

    Raises `EngineError` when it has none, or when a sum could exceed 32 bits.
    """
    if not model.quantized:
        raise EngineError(
            f"model {model.name} has no 8-bit layers: run `subpixel calibrate`, or choose precision fp32"
        )
    zeros = np.zeros(model.spec.channels, np.int64)
    result = []
    last = len(model.quantized) - 1
    for index, (described, layer) in enumerate(zip(model.spec.layers, model.quantized, strict=True)):
        if described.inputs * described.kernel**2 > MAX_TAPS:
            raise EngineError(
                f"model {model.name}: layer {index} sums more than {MAX_TAPS} products, too many for 32 bits"
            )
        weight_sums = layer.weight.astype(np.int64).sum((2, 3)) @ zeros
        bias = np.clip(np.rint(layer.bias.astype(np.float64) / layer.weight_scale), -MAX_BIAS, MAX_BIAS)
        factor = layer.weight_scale.astype(np.float64)
        steps = np.zeros(described.outputs, np.int16)
        if described.activation == "tanh" and index < last:
            if layer.output_scale.min() < LEAST_TANH_SCALE:
                raise EngineError(
                    f"model {model.name}: layer {index} has levels finer than {LEAST_TANH_SCALE:.2g} after "
                    "tanh; run `subpixel calibrate` again"
                )
            factor = factor * 2**15 / TANH_LIMIT
            steps = np.rint(TANH_LIMIT * 8 / layer.output_scale.astype(np.float64)).astype(np.int16)
        elif index < last:
            factor = factor / layer.output_scale
        slope = model.weights.get(f"layers.{index}.slope", np.ones(described.outputs, np.float32))
        negative_factor = factor * slope
        if index < last:
            negative_factor, factor = _in_steps(negative_factor, factor), _in_steps(factor, factor)
        result.append(
            IntegerLayer(
                layer.weight,
                (bias.astype(np.int64) - weight_sums).astype(np.int32),
                factor.astype(np.float32),
                negative_factor.astype(np.float32),
                layer.output_zero,
                steps,
            )
        )
        zeros = layer.output_zero.astype(np.int64)
    return tuple(result)


def integer_outputs(
    values: NDArray[np.float64],
    zeros: NDArray[np.float64],
    described: Convolution,
    layer: IntegerLayer,
    *,
    last: bool,
) -> NDArray[np.float64]:
    """One layer of the 8-bit network, by the formulas above.

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
        return value if described.activation == "prelu" else activated(value, described.activation, None)
    exact = sums.astype(np.float64) * factor  # of two float32 it is
    zero = layer.zero[:, None, None]
    if described.activation != "tanh":
        return np.clip(np.rint(exact + zero), 0, 255)
    argument = np.clip(np.rint(exact), -MOST_TANH_ARGUMENT, MOST_TANH_ARGUMENT).astype(np.int64)
    levels = rounded_product(tanh_steps(argument), layer.steps[:, None, None]) + zero
    return np.asarray(np.clip(levels, 0, 255), np.float64)


def tanh_steps(arguments: NDArray[np.int64]) -> NDArray[np.int64]:
    """The tanh of arguments in whole numbers, in whole numbers.

    Args:
        arguments: from -32767 to 32767, in steps of `TANH_LIMIT` / 2**15; any shape.

    Returns:
        tanh / `TANH_LIMIT` in steps of 2**-12; within 16 bits, as all that it is computed from.
    """
    distance = np.abs(arguments)
    polynomial = np.full_like(distance, TANH_COEFFICIENTS[-1])
    for coefficient in TANH_COEFFICIENTS[-2::-1]:
        polynomial = rounded_product(polynomial, distance) + coefficient
    return rounded_product(arguments, polynomial)


def rounded_product(one: Any, other: Any) -> NDArray[np.int64]:
    """The product of 16-bit integers over 2**15, rounded half up: the instruction ``pmulhrsw``."""
    return np.asarray((np.asarray(one, np.int64) * other + 2**14) >> 15)


def _in_steps(values: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiples of `FACTOR_STEP`, where the channel's factor is large enough for them."""
    return np.where(factor >= LEAST_ROUNDED_FACTOR, np.rint(values / FACTOR_STEP) * FACTOR_STEP, values)

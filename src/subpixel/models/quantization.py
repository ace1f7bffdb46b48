"""The int8 form of a network: the integer arithmetic that every engine computes exactly.

Each layer takes unsigned 8-bit inputs, multiplies them by signed 8-bit weights and accumulates in 32 bits:

    accumulator[o] = bias[o] + Σ weight[o, i, ky, kx] * input[i, y + ky, x + kx]

``bias`` already contains the contribution of the inputs' zero points, so the sum subtracts nothing. Outside
of the image, each channel has its zero point as its value. Requantization turns an accumulator into the next
layer's input:

    after relu, PReLU and no activation:
        input = round(multiplier[o] * accumulator + zero_point[o])                        clipped to 0..255
    after tanh:
        x     = round(multiplier[o] * accumulator)                                        clipped to ±32767
        input = rounded_product(fixed_point_tanh(x), tanh_multiplier[o]) + zero_point[o]  clipped to 0..255

With PReLU, a negative accumulator has the multiplier ``negative_multiplier[o]``. The multipliers of all
layers but the last are multiples of `MULTIPLIER_STEP`, except very small ones, which this would make inexact.

The last layer's output is a real number. For 8-bit samples it is computed in steps of 1/255, in which the
network's input is an integer, so that one fused multiply-add also adds the residual, and it is rounded once:

    output = round(fma(accumulator[o], 255 * multiplier[o], input or 0))              clipped to 0..255

``255 * multiplier`` is rounded to float32 (`output_multipliers`). After ReLU or tanh, the last layer's value
is rounded to float32 before the residual is added; tanh is approximate there, and so is the result.

**Deep samples** (uint16, float32) enter the first layer with 16 bits, as ``input`` from 0 to 65535; floats
become ``round(65535 * sample)``, clipped. So the steps of its accumulators are `DEEP_STEPS` times smaller:

    accumulator[o] = DEEP_STEPS * bias[o] + Σ weight[o, i, ky, kx] * input[i, y + ky, x + kx]

and its multipliers are divided by `DEEP_STEPS`. If such an accumulator could exceed 32 bits, ``input`` loses
its lowest bits (`deep_shift`); bias and multipliers follow, and the bias is rounded. The other layers are the
same. The output has the unit of the samples, whose largest one, ``white``, is 65535 or 1. Each operation is
rounded to float32:

    network = accumulator[o] * (white * multiplier[o]) + (sample or 0)
    output  = linear + weight * (network - linear)                             see `subpixel.engines.smooth`
    uint16    round(output), clipped to 0..65535
    float32   output, not clipped

`fixed_point_tanh` is a polynomial in 16-bit integers: a vector register has twice as many 16-bit lanes as
float32 lanes. The other operations are float32: a fused multiply-add of accumulator, multiplier and zero
point, rounded half to even. So all engines compute the same integers on all processors. This matters because
in some networks a difference of 1 between layers becomes visible.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import EngineError
from subpixel.models.model import Model, QuantizedLayer
from subpixel.models.spec import Convolution
from subpixel.ops.convolution import activate, convolve

TANH_LIMIT = 3.25
"""Arguments of tanh are clipped to ±`TANH_LIMIT` and stored in steps of `TANH_LIMIT` / 2**15."""

MAX_TANH_ARGUMENT = 2**15 - 1
"""The largest argument, in those steps."""

TANH_COEFFICIENTS = (4165, -594, -16596, 30556, -22253, 5980)
"""Coefficients of p for powers of |x| / `TANH_LIMIT`, in steps of 2**-12: x * p(|x|) is the minimax fit.

With all rounding, the error is at most 0.003, less than half a step of 8 bits. One coefficient fewer has an
error of 0.005, which costs ESPCN x2 0.02 dB. `benchmarks/tanh_fits.py` finds the coefficients.
"""

MAX_TAPS = 2**31 // (255 * 128) - 1
"""Largest number of inputs times taps of a layer: the accumulator fits 32 bits, including the bias."""

MAX_BIAS = 2**22
"""Largest bias, in steps of the accumulator: below 2**24, so that float32 represents it exactly, even with
the sum added."""

MAGIC, MAGIC_BITS = 1.5 * 2**23, 0x4B400000
"""A float32 near `MAGIC` has an integer in its low bits.

Adding `MAGIC` to a value rounds it half to even and leaves the integer there. `MAGIC_BITS` is the bit pattern
of `MAGIC`. Compared as integers, the bit patterns are in order, even far outside of the range of the result.
"""

MULTIPLIER_STEP, MIN_ROUNDED_MULTIPLIER = 2.0**-22, 2.0**-12
"""Multipliers from `MIN_ROUNDED_MULTIPLIER` up are multiples of `MULTIPLIER_STEP`.

So an engine may treat an accumulator as the low bits of a float near `MAGIC`, multiply that float, and
subtract the excess, all without rounding. This changes an output by less than 1/16 of a step.
"""

MIN_TANH_SCALE = 8 * TANH_LIMIT / (2**15 - 1)
"""Smallest output scale after tanh: for a smaller one, ``tanh_multiplier`` would exceed 16 bits."""


DEEP_STEPS = 257
"""16-bit steps in one of 8 bits: 65535 / 255."""

WHITE = {"uint8": 255, "uint16": 65535, "float32": 1}
"""The largest sample of each dtype that an int8 network takes."""


@dataclass(frozen=True)
class IntegerLayer:
    """The constants of one layer in the formulas above; ``(outputs,)`` if not stated otherwise."""

    weight: NDArray[np.int8]
    """``(outputs, inputs, kernel, kernel)``"""
    bias: NDArray[np.int32]
    """With the contribution of the inputs' zero points subtracted."""
    multiplier: NDArray[np.float32]
    """The requantization multiplier."""
    negative_multiplier: NDArray[np.float32]
    """For negative accumulators: PReLU's slope times ``multiplier``; without PReLU, ``multiplier``."""
    zero_point: NDArray[np.uint8]
    """Of the output."""
    tanh_multiplier: NDArray[np.int16]
    """After tanh: one step of `fixed_point_tanh` in steps of the output, in units of 2**-15; otherwise 0."""


def integer_layers(model: Model) -> tuple[IntegerLayer, ...]:
    """Convert a model's int8 layers to the constants of the integer arithmetic, without those of its history.

    Raises:
        EngineError: the model has no int8 layers, or an accumulator could exceed 32 bits, or an output scale
            after tanh is below `MIN_TANH_SCALE`.
    """
    if not model.quantized:
        raise EngineError(
            f"model {model.name} has no 8-bit layers: run `subpixel calibrate`, or choose precision fp32"
        )
    input_zero_point = np.zeros(model.spec.channels, np.uint8)
    result = []
    last = len(model.spec.layers) - 1
    for index in range(len(model.spec.layers)):
        layer = model.quantized[index]
        result.append(integer_layer(model, index, layer, input_zero_point, last=index == last))
        input_zero_point = layer.output_zero_point
    return tuple(result)


def integer_layer(
    model: Model, index: int, layer: QuantizedLayer, input_zero_point: NDArray[np.uint8], *, last: bool
) -> IntegerLayer:
    """Convert ``layer``, the int8 form of one of the model's convolutions. See `integer_layers`.

    The output is requantized unless it is the ``last`` one.
    """
    convolution = model.spec.convolutions[index]
    if convolution.inputs * convolution.kernel**2 > MAX_TAPS:
        raise EngineError(
            f"model {model.name}: layer {index} sums more than {MAX_TAPS} products, too many for 32 "
            "bits; choose precision fp32"
        )
    zero_point_sums = layer.weight.astype(np.int64).sum((2, 3)) @ input_zero_point.astype(np.int64)
    bias = np.clip(np.rint(layer.bias.astype(np.float64) / layer.weight_scale), -MAX_BIAS, MAX_BIAS)
    multiplier = layer.weight_scale.astype(np.float64)
    tanh_multiplier = np.zeros(convolution.outputs, np.int16)
    if convolution.activation == "tanh" and not last:
        if layer.output_scale.min() < MIN_TANH_SCALE:
            raise EngineError(
                f"model {model.name}: layer {index} has an output scale below {MIN_TANH_SCALE:.2g} after "
                "tanh; run `subpixel calibrate` again"
            )
        multiplier = multiplier * 2**15 / TANH_LIMIT
        steps = TANH_LIMIT * 8 / layer.output_scale.astype(np.float64)
        tanh_multiplier = np.rint(steps).astype(np.int16)
    elif not last:
        multiplier = multiplier / layer.output_scale
    slope = model.weights.get(f"layers.{index}.slope", np.ones(convolution.outputs, np.float32))
    negative_multiplier = multiplier * slope
    if not last:
        negative_multiplier, multiplier = (
            _round_multiplier(values, multiplier) for values in (negative_multiplier, multiplier)
        )
    return IntegerLayer(
        layer.weight,
        (bias.astype(np.int64) - zero_point_sums).astype(np.int32),
        multiplier.astype(np.float32),
        negative_multiplier.astype(np.float32),
        layer.output_zero_point,
        tanh_multiplier,
    )


def run_integer_layer(
    values: NDArray[np.float64],
    input_zero_point: NDArray[np.float64],
    convolution: Convolution,
    layer: IntegerLayer,
    *,
    last: bool,
    white: float = 255,
) -> NDArray[np.float64]:
    """Compute one layer of the int8 network by the formulas above.

    Args:
        values: ``(inputs, H, W)``, integers from 0 to 255; for the first layer of deep samples to 65535.
        input_zero_point: ``(inputs,)``.
        convolution: the layer's spec.
        layer: its constants, for the first layer of deep samples those of `deep_first_layer`.
        last: whether it is the network's last layer.
        white: the largest sample, see `WHITE`.

    Returns:
        ``(outputs, H, W)``: integers from 0 to 255; for the last layer real values in the unit of the
        samples, not rounded yet and without the residual.
    """
    accumulator = convolve(values, layer.weight, layer.bias, input_zero_point).astype(np.float32)
    multipliers = layer.multiplier, layer.negative_multiplier
    positive, negative = output_multipliers(layer, convolution.activation, white) if last else multipliers
    multiplier = np.where(accumulator >= 0, positive[:, None, None], negative[:, None, None])
    exact = accumulator.astype(np.float64) * multiplier  # float64 represents a product of two float32 exactly
    if last:
        if convolution.activation in ("none", "prelu"):
            return exact
        value = activate(exact.astype(np.float32).astype(np.float64), convolution.activation, None)
        return value * white if convolution.activation == "tanh" else value
    zero_point = layer.zero_point[:, None, None]
    if convolution.activation != "tanh":
        return np.clip(np.rint(exact + zero_point), 0, 255)
    argument = np.clip(np.rint(exact), -MAX_TANH_ARGUMENT, MAX_TANH_ARGUMENT).astype(np.int64)
    tanh = rounded_product(fixed_point_tanh(argument), layer.tanh_multiplier[:, None, None])
    return np.asarray(np.clip(tanh + zero_point, 0, 255), np.float64)


def output_multipliers(
    layer: IntegerLayer, activation: str, white: float = 255
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the last layer's multiplier and negative multiplier, for samples from 0 to ``white``.

    Those of a last layer with tanh stay as they are, because its argument has no such unit.
    """
    unit = 1 if activation == "tanh" else white
    multiplier, negative = (
        (values.astype(np.float64) * unit).astype(np.float32)
        for values in (layer.multiplier, layer.negative_multiplier)
    )
    return multiplier, negative


def deep_first_layer(layer: IntegerLayer) -> IntegerLayer:
    """Return the constants of the first layer for deep samples, whose accumulators are in smaller steps."""
    steps = DEEP_STEPS / 2 ** deep_shift(layer)
    multiplier, negative = (
        (values.astype(np.float64) / steps).astype(np.float32)
        for values in (layer.multiplier, layer.negative_multiplier)
    )
    bias = np.rint(layer.bias * steps).astype(np.int32)
    return replace(layer, bias=bias, multiplier=multiplier, negative_multiplier=negative)


def deep_shift(first: IntegerLayer) -> int:
    """Return by how many bits deep samples are shifted right, so that the first layer's sums fit 32 bits.

    It is 0 unless weights are both many and large: always for a 9x9 kernel of one channel.
    """
    weight, bias = np.abs(first.weight.astype(np.int64)), np.abs(first.bias.astype(np.int64))
    largest = int((255 * weight.sum((1, 2, 3)) + bias).max()) * DEEP_STEPS
    return max(0, largest.bit_length() - 31)


def quantize_input(tensor: NDArray[Any]) -> NDArray[np.float64]:
    """Return the integers that the first layer takes, of the same shape: 8-bit samples as they are.

    Deep samples become integers from 0 to 65535: uint16 as they are, float32 in [0, 1] rounded.
    """
    if tensor.dtype.kind == "u":
        return tensor.astype(np.float64)
    return np.asarray(np.clip(np.rint(tensor.astype(np.float64) * 65535), 0, 65535), np.float64)


def round_samples(output: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Round an output half to even, and clip it, if ``dtype`` is one of integers."""
    if dtype.kind == "f":
        return output
    return np.asarray(np.clip(np.rint(output), 0, np.iinfo(dtype).max), dtype)


def fixed_point_tanh(arguments: NDArray[np.int64]) -> NDArray[np.int64]:
    """Compute tanh in integers.

    Args:
        arguments: from -32767 to 32767, in steps of `TANH_LIMIT` / 2**15; any shape.

    Returns:
        tanh / `TANH_LIMIT` in steps of 2**-12. The result and all intermediate values fit 16 bits.
    """
    distance = np.abs(arguments)
    polynomial = np.full_like(distance, TANH_COEFFICIENTS[-1])
    for coefficient in TANH_COEFFICIENTS[-2::-1]:
        polynomial = rounded_product(polynomial, distance) + coefficient
    return rounded_product(arguments, polynomial)


def rounded_product(one: Any, other: Any) -> NDArray[np.int64]:
    """Multiply 16-bit integers and divide by 2**15, rounded half up: the instruction ``pmulhrsw``."""
    return np.asarray((np.asarray(one, np.int64) * other + 2**14) >> 15)


def _round_multiplier(values: NDArray[np.float64], multiplier: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to multiples of `MULTIPLIER_STEP`, except where a channel's multiplier is too small for it."""
    rounded = np.rint(values / MULTIPLIER_STEP) * MULTIPLIER_STEP
    return np.where(multiplier >= MIN_ROUNDED_MULTIPLIER, rounded, values)

"""Conversion of a model's int8 layers to one block of memory, in the order that `plan` describes."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.machine_code import aligned
from subpixel.engines.native.amx.layer import AmxLayer
from subpixel.engines.native.amx.pack import pack_layer
from subpixel.engines.native.instructions import PIXEL_CHANNELS
from subpixel.engines.native.layers import Arithmetic, HiddenLayer, LastLayer
from subpixel.engines.native.plan import Plan
from subpixel.engines.smooth import neighbor_weight
from subpixel.models.model import Model
from subpixel.models.quantization import (
    DEEP_STEPS,
    MAGIC,
    MAGIC_BITS,
    WHITE,
    IntegerLayer,
    deep_first_layer,
    integer_layers,
    output_multipliers,
)
from subpixel.models.spec import Activation

MAX_SUM = 2**22
"""Accumulators and their products with multipliers stay below this: a float near `MAGIC` holds them."""


def arithmetic(model: Model) -> tuple[Arithmetic, ...]:
    """Return the fastest exact arithmetic for each layer, see `requantize`.

    Raises `EngineError` if the model has no int8 layers.
    """
    *hidden, last = integer_layers(model)
    activations = (described.activation for described in model.spec.layers)
    return (
        *(_arithmetic(layer, activation) for layer, activation in zip(hidden, activations, strict=False)),
        "maximum" if _bounded(last, 255) else "general",
    )


def _arithmetic(layer: IntegerLayer, activation: Activation) -> Arithmetic:
    addends = (_addend(layer, multiplier) for multiplier in (layer.multiplier, layer.negative_multiplier))
    if not (_bounded(layer) and all((addend == addend.astype(np.float32)).all() for addend in addends)):
        return "general"
    if activation == "prelu" and (layer.negative_multiplier > layer.multiplier).any():
        return "choice"
    return "short" if activation != "tanh" and _largest(layer)[1] < 2**15 - 2**8 else "maximum"


def pack(model: Model, plan: Plan) -> NDArray[np.uint8]:
    """Arrange a model's parameters: ``(parameter_bytes,)``, at the beginning of a cache line.

    Raises `EngineError` if the model has no int8 layers.
    """
    memory = aligned(plan.parameter_bytes)
    memory[:] = 0
    for index, (layer, integers) in enumerate(zip(plan.layers, integer_layers(model), strict=True)):
        highest_bit, deep = 0, plan.deep and index == 0
        if deep:
            integers = deep_first_layer(integers)
        if plan.instructions.signed:
            integers, highest_bit = _for_signed_values(integers, DEEP_STEPS if deep else 1), 0x80
        content = (
            _pack_last(layer, integers)
            if isinstance(layer, LastLayer)
            else _pack_amx(layer, integers)
            if isinstance(layer, AmxLayer)
            else _pack_hidden(layer, integers, highest_bit)
        )
        start = plan.parameters_at(index)
        memory[start : start + content.size] = content
    return memory


def _bounded(layer: IntegerLayer, steps: int = 1) -> bool:
    """Whether accumulators, and their products with multipliers times ``steps``, stay below the limit."""
    accumulator, product = _largest(layer)
    return accumulator < MAX_SUM and product * steps < MAX_SUM - 2**10


def _largest(layer: IntegerLayer) -> tuple[float, float]:
    """The largest magnitude of an accumulator, and of its product with the multiplier, for any input."""
    weight, bias = layer.weight.astype(np.int64), layer.bias.astype(np.int64)
    highest = 255 * np.maximum(weight, 0).sum((1, 2, 3)) + bias
    lowest = 255 * np.minimum(weight, 0).sum((1, 2, 3)) + bias
    sums = np.maximum(abs(highest), abs(lowest))
    factors = np.maximum(abs(layer.multiplier), abs(layer.negative_multiplier)).astype(np.float64)
    return float(sums.max()), float((sums * factors).max())


def _addend(layer: IntegerLayer, multiplier: NDArray[np.float32]) -> NDArray[np.float64]:
    """What is added to a float that holds `MAGIC` and an accumulator, times its multiplier."""
    tanh = layer.tanh_multiplier.any()  # the zero point comes after tanh
    zero_point = np.where(tanh, 0, layer.zero_point.astype(np.float64))
    return np.asarray(zero_point + MAGIC - multiplier.astype(np.float64) * MAGIC)


def _for_signed_values(layer: IntegerLayer, steps: int) -> IntegerLayer:
    """Change the biases for inputs that are 128 ``steps`` less. Sums wrap around, so the bias may."""
    excess = 128 * steps * layer.weight.astype(np.int64).sum((1, 2, 3))
    return replace(layer, bias=(layer.bias + excess).astype(np.int32))


def _pack_hidden(layer: HiddenLayer, integers: IntegerLayer, highest_bit: int) -> NDArray[np.uint8]:
    channels = len(integers.weight)
    weight = np.zeros((layer.outputs, *integers.weight.shape[1:]), np.int8 if layer.parts == 1 else np.int16)
    weight[:channels] = integers.weight
    arranged = _picture_weights(layer, weight) if layer.from_picture else _weights(layer, weight)
    passes = [_bytes(arranged).reshape(layer.passes, -1)]
    constants = _constants(layer, integers)
    for name in layer.constants:
        values = constants[name]
        if name.startswith("tanh"):  # in the order of two packed vectors: the 4 channels of 128 bits twice
            values = values.reshape(-1, 1, 4).repeat(2, axis=1)
        passes.append(_bytes(values).reshape(layer.passes, -1))
    padding = np.zeros(layer.outputs, np.uint8 if layer.to_planes or layer.parts == 1 else np.int16)
    padding[:channels] = integers.zero_point ^ np.uint8(highest_bit)
    return np.concatenate([np.concatenate(passes, axis=1).ravel(), _bytes(padding)])


def _weights(layer: HiddenLayer, weight: NDArray[Any]) -> NDArray[Any]:
    """Arrange as ``(pass, row, group, part, column, vector, lane, channel)``."""
    padded = np.zeros((layer.outputs, layer.groups * 4, layer.kernel, layer.kernel), weight.dtype)
    padded[:, : weight.shape[1]] = weight
    if layer.paired:  # (pass, row, group of 8, column, vector, half, output, channel)
        kernel, groups = layer.kernel, layer.groups // 2
        split = padded.reshape(layer.passes, layer.vectors, 2, 2, groups, 8, kernel, kernel)
        return split.transpose(0, 6, 4, 7, 1, 2, 3, 5)
    split = padded.reshape(
        layer.passes,
        layer.vectors,
        layer.lanes,
        layer.groups,
        layer.parts,
        layer.taps,
        layer.kernel,
        layer.kernel,
    )
    return split.transpose(0, 6, 3, 4, 7, 1, 2, 5)


def _picture_weights(layer: HiddenLayer, weight: NDArray[Any]) -> NDArray[Any]:
    """Arrange as ``(pass, product, vector, lane, tap)``: the kernel's rows, its last column, its last tap."""
    kernel, taps, covered = layer.kernel, layer.taps, layer.across * layer.taps
    rows = np.zeros((layer.outputs, layer.inputs, kernel, covered), weight.dtype)
    width = min(kernel, covered)
    rows[..., :width] = weight[..., :width]
    products = [rows.reshape(layer.outputs, -1, taps)]
    if layer.stacked:
        column = weight[..., -1]
        products.append(column[..., : layer.stacks * taps].reshape(layer.outputs, -1, taps))
        single = np.zeros((layer.outputs, layer.inputs, taps), weight.dtype)
        single[..., 0] = column[..., -1]
        products.append(single)
    together = np.concatenate(products, axis=1)
    split = together.reshape(layer.passes, layer.vectors, layer.lanes, -1, taps)
    return split.transpose(0, 3, 1, 2, 4)


def _constants(layer: HiddenLayer | AmxLayer, integers: IntegerLayer) -> dict[str, NDArray[Any]]:
    """The constants of each output channel, with neutral values for the channels that only fill up."""
    addends: tuple[NDArray[np.float64], ...]
    if layer.arithmetic == "general":
        offset = np.where(layer.activation == "tanh", 0, integers.zero_point.astype(np.float64)) + MAGIC
        bias, addends = integers.bias, (offset, offset)
    else:
        bias = integers.bias + MAGIC_BITS
        addends = tuple(
            _addend(integers, multiplier)
            for multiplier in (integers.multiplier, integers.negative_multiplier)
        )

    def padded(values: NDArray[Any], dtype: type, neutral: float = 0) -> NDArray[Any]:
        result: NDArray[Any] = np.full(layer.outputs, neutral, dtype)
        result[: len(values)] = values
        return result

    return {
        "bias": padded(bias, np.int32, 0 if layer.arithmetic == "general" else MAGIC_BITS),
        "factor": padded(integers.multiplier, np.float32),
        "addend": padded(addends[0], np.float32, MAGIC),
        "negative_factor": padded(integers.negative_multiplier, np.float32),
        "negative_addend": padded(addends[1], np.float32, MAGIC),
        "tanh_multiplier": padded(integers.tanh_multiplier, np.int16),
        "tanh_zero": padded(integers.zero_point, np.int16),
    }


def _pack_amx(layer: AmxLayer, integers: IntegerLayer) -> NDArray[np.uint8]:
    if layer.scale:
        factor, _ = output_multipliers(integers, layer.activation)
        return pack_layer(layer, integers.weight, {"bias": integers.bias, "factor": factor})
    padding = np.zeros(layer.outputs, np.uint8)
    padding[: len(integers.weight)] = integers.zero_point
    return pack_layer(layer, integers.weight, _constants(layer, integers) | {"padding": padding})


def _pack_last(layer: LastLayer, integers: IntegerLayer) -> NDArray[np.uint8]:
    weight = integers.weight
    padded = np.zeros((layer.outputs, layer.groups * 4, layer.kernel, layer.kernel), np.int64)
    padded[:, : weight.shape[1]] = weight
    shape = (-1, layer.at_once, layer.groups, 4, layer.kernel, layer.kernel)
    split = padded.reshape(shape)[:, :, :, PIXEL_CHANNELS[layer.parts]]
    # block, output, group, part, channel, row, column -> block, row, group, column, output, part, channel
    arranged = split.transpose(0, 5, 2, 6, 1, 3, 4).astype(np.int8 if layer.parts == 1 else np.int16)
    white = WHITE[layer.samples]
    factor, negative_factor = output_multipliers(integers, layer.activation, white)
    below = [neighbor_weight(layer.scale, phase)[1] for phase in range(layer.scale)]
    constants = {
        "bias": integers.bias,
        "factor": factor,
        "negative_factor": negative_factor,
        "below": np.tile(np.repeat(np.array(below), layer.scale), layer.channels),
    }
    return np.concatenate([_bytes(arranged), *(_bytes(constants[name]) for name in layer.constants)])


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).view(np.uint8).ravel()

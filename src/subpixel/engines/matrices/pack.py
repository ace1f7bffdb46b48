"""A model's parameters as one piece of memory, in the order that `layout` says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.matrices.layout import PAIR, SIDE, Layer, Layout, aligned
from subpixel.models.model import Model
from subpixel.models.quantization import MAGIC, MAGIC_BITS, IntegerLayer, integer_layers

Place = tuple[int, int] | None
"""Of a column of a layer's matrices: output channel, and which of its ``pixels``; None where nothing is."""


MOST_SUM = 2**22
"""Sums, and what they are multiplied to, stay below this, so that a float near `MAGIC` holds them whole."""


def pack(model: Model, layout: Layout) -> NDArray[np.uint8] | None:
    """Lay out a model's 8-bit layers: ``(parameter_bytes,)``, beginning where a cache line does.

    Returns:
        None where a sum, a level or a factor is not one that this way of computing keeps exact. Trained
        networks are far from that.

    Raises:
        EngineError: the model has no 8-bit layers.
    """
    memory = aligned(layout.parameter_bytes)
    memory[:] = 0
    mirrored = np.zeros(1, bool)
    for layer, integers in zip(layout.layers, integer_layers(model), strict=True):
        weight, bias = _of_mirrored(integers, mirrored)
        mirrored = np.zeros(layer.outputs, bool)
        if layer.activation == "prelu":
            mirrored = integers.negative_factor > integers.factor
        constants = _constants(layer, integers, bias, mirrored)
        if not (_exact(layer, weight, bias, constants) and abs(weight).max() < 128):
            return None
        parts = {"weights": _matrices(layer, weight.astype(np.int8), _places(layer, layout.spec.scale))}
        parts |= _for_each_channel(layer, constants, layout.spec.scale)
        for name, values in parts.items():
            content = np.ascontiguousarray(values).view(np.uint8).ravel()
            memory[layer.start + layer.at(name) :][: content.size] = content
    return memory


def levels_fit_16_bits(model: Model) -> bool:
    """Whether no level of a hidden layer can leave 16 bits before it is clipped, and none is mirrored.

    Then only the lower half of what holds it need be looked at. After tanh, levels are made otherwise.
    """
    for described, integers in zip(model.spec.layers[:-1], integer_layers(model), strict=False):
        if described.activation == "tanh":
            continue
        steep = integers.negative_factor > integers.factor
        factors = np.maximum(abs(integers.factor), abs(integers.negative_factor)).astype(np.float64)
        sums = _largest_sums(integers.weight.astype(np.int64), integers.bias.astype(np.int64))
        if steep.any() or (sums * factors).max() >= 2**15 - 2**8:
            return False
    return True


def _of_mirrored(
    integers: IntegerLayer, mirrored: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Weights and biases of a layer some of whose inputs are 255 minus what they should be."""
    weight, bias = integers.weight.astype(np.int64), integers.bias.astype(np.int64)
    bias = bias + 255 * weight[:, mirrored].sum((1, 2, 3))
    weight[:, mirrored] *= -1
    return weight, bias


def _constants(
    layer: Layer, integers: IntegerLayer, bias: NDArray[np.int64], mirrored: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """What `values` needs for each channel. ``(outputs,)``, in as many bits as they need to be exact.

    A sum arrives as the last bits of a float near `MAGIC`. That float times the factor, plus the addend, is
    what the sum alone would give, with `MAGIC` in it once more: so it is rounded, and its bits minus the
    offset are the level. PReLU is the larger of two such values. Where its slope is above 1, which needs the
    smaller, the level is mirrored: 255 minus itself.
    """
    factor, negative = (of.astype(np.float64) for of in (integers.factor, integers.negative_factor))
    zero = integers.zero.astype(np.int64)
    levels = np.where(mirrored, 255 - zero, zero)
    if layer.last:  # these sums arrive as integers; white is 255
        factor, negative = (of * 255 for of in (factor, negative))
        addend = negative_addend = np.zeros(len(zero))
    else:
        bias = bias + MAGIC_BITS
        factor, negative = (np.where(mirrored, -of, of) for of in (factor, negative))
        alone = np.where(mirrored, -zero, 0 if layer.activation == "tanh" else zero) + MAGIC
        addend, negative_addend = (alone - of * MAGIC for of in (factor, negative))
    return {
        "bias": bias,
        "factor": factor,
        "negative_factor": negative,
        "addend": addend,
        "negative_addend": negative_addend,
        "offset": np.where(mirrored, MAGIC_BITS - 255, MAGIC_BITS),
        "levels": levels,
        "tanh_steps": integers.steps,
        "tanh_zero": zero,
    }


KINDS = {
    "bias": np.int32,
    "factor": np.float32,
    "negative_factor": np.float32,
    "addend": np.float32,
    "negative_addend": np.float32,
    "offset": np.int32,
    "levels": np.uint8,
    "tanh_steps": np.int16,
    "tanh_zero": np.int16,
}
"""Of the constants, as the code reads them."""

NOTHING = {"bias": MAGIC_BITS, "addend": MAGIC, "negative_addend": MAGIC, "offset": MAGIC_BITS}
"""Of channels that only fill up a block: their level is 0. Others are 0 for them."""


def _exact(
    layer: Layer, weight: NDArray[np.int64], bias: NDArray[np.int64], constants: dict[str, NDArray[Any]]
) -> bool:
    """Whether nothing is rounded on the way to a layer's levels but the level itself."""
    sums = _largest_sums(weight, bias)
    factors = np.maximum(abs(constants["factor"]), abs(constants["negative_factor"]))
    bounded = sums.max() < MOST_SUM and (sums * factors).max() < MOST_SUM - 2**10
    floats = ("addend", "negative_addend") + (() if layer.last else ("factor", "negative_factor"))
    return bool(
        bounded and all((constants[name] == constants[name].astype(np.float32)).all() for name in floats)
    )


def _largest_sums(weight: NDArray[np.int64], bias: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far from 0 a layer's sums can be, whatever the levels that it is given: ``(outputs,)``."""
    most = 255 * np.maximum(weight, 0).sum((1, 2, 3)) + bias
    least = 255 * np.minimum(weight, 0).sum((1, 2, 3)) + bias
    largest: NDArray[np.int64] = np.maximum(abs(most), abs(least))
    return largest


def _for_each_channel(
    layer: Layer, constants: dict[str, NDArray[Any]], scale: int
) -> dict[str, NDArray[Any]]:
    """The constants in the order of a pixel's channels in memory, and of pairs of vectors for tanh's."""
    channels = [place and place[0] for place in _places(layer, scale)[: layer.result_bytes]]
    used = np.array([channel is not None for channel in channels])
    order = [channel or 0 for channel in channels]

    def pairs(values: NDArray[Any]) -> NDArray[Any]:
        """As two vectors of sums lie once they are packed to 16 bits: by fours in turn."""
        units, count = values.reshape(layer.channel_blocks, 4, 4), layer.channel_blocks
        both = [(units[unit % count], units[(unit + 1) % count]) for unit in range(0, layer.period, 2)]
        return np.stack([np.stack(two, axis=1) for two in both])

    result = {}
    for name, kind in KINDS.items():
        nothing = 0 if layer.last else NOTHING.get(name, 0)
        values = np.where(used, constants[name][order], nothing).astype(kind)
        result[name] = pairs(values) if name.startswith("tanh") else values
    return result


def _places(layer: Layer, scale: int) -> Sequence[Place]:
    """What the columns of a layer's matrices are, block after block."""
    if not layer.last:
        width = layer.result_bytes
        return [
            (channel, pixel) if channel < layer.outputs else None
            for pixel in range(layer.pixels)
            for channel in range(width)
        ]
    if scale == 2:  # rows of the large picture, four pixels of the small one in each
        return [(down * 2 + across, pixel) for down in range(2) for pixel in range(4) for across in range(2)]
    return [
        (down * scale + across, pixel) if down < scale and across < scale else None
        for pixel in range(layer.pixels)
        for down in range(4)
        for across in range(4)
    ]


def _matrices(layer: Layer, weight: NDArray[np.int8], places: Sequence[Place]) -> NDArray[np.int8]:
    """``(weight_sets, steps, blocks, row_bytes / 4, 16, 4)``: rows of bytes by fours, as AMX takes them."""
    rows = np.zeros((layer.weight_sets, layer.steps * layer.row_bytes, len(places)), np.int8)
    for column, place in enumerate(places):
        if place is None:
            continue
        channel, pixel = place
        for across in range(layer.kernel):
            at = (across + pixel) * layer.pixel_bytes
            if layer.stacked:
                for of_pair in range(PAIR):
                    # The newest row of the picture is the last that the pair's second row sees.
                    first = at + layer.pixel_bytes - layer.kernel - (PAIR - 1) + of_pair
                    rows[of_pair, first : first + layer.kernel, column] = weight[channel, 0, :, across]
            else:
                rows[:, at : at + layer.inputs, column] = weight[channel, :, :, across].T
    by_fours = rows.reshape(layer.weight_sets, layer.steps, layer.row_bytes // 4, 4, layer.blocks, SIDE)
    return by_fours.transpose(0, 1, 4, 2, 5, 3)

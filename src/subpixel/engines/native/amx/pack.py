"""Conversion of a layer's weights and constants to the order that `AmxLayer` describes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.native.amx.instructions import SIDE
from subpixel.engines.native.amx.layer import ROWS_AT_ONCE, AmxLayer

Place = tuple[int, int] | None
"""What a column of weights is for: output channel, and which of ``row_px`` pixels; None for nothing."""


def pack_layer(
    layer: AmxLayer, weight: NDArray[np.int8], constants: Mapping[str, NDArray[Any]]
) -> NDArray[np.uint8]:
    """Arrange the parameters of a layer: ``(parameter_bytes,)``.

    Args:
        layer: the layer.
        weight: ``(outputs, inputs, kernel, kernel)``.
        constants: those of `AmxLayer.constants` and "padding", ``(outputs,)``, with neutral values for the
            channels that only fill up.
    """
    places = _places(layer)
    memory = np.zeros(layer.parameter_bytes, np.uint8)
    for name in layer.sizes():
        if name == "weights":
            values: NDArray[Any] = _weights(layer, weight, places)
        elif name.startswith("tanh"):
            values = _pairs(layer, constants[name])
        elif layer.scale:
            given = constants[name]
            values = np.zeros(layer.channel_blocks * SIDE, given.dtype)
            for column, place in enumerate(places[: len(values)]):
                values[column] = given[place[0]] if place and place[0] < len(given) else 0
        else:
            values = constants[name]
        content = np.ascontiguousarray(values).view(np.uint8).ravel()
        memory[layer.at(name) :][: content.size] = content
    return memory


def _places(layer: AmxLayer) -> Sequence[Place]:
    """Return what the columns of a layer's weights are for, block after block."""
    scale = layer.scale
    if scale < 2:
        channels = layer.channel_blocks * SIDE
        return [(channel, pixel) for pixel in range(layer.row_px) for channel in range(channels)]
    if scale == 2:  # rows of the large picture, four pixels of the small one in each
        return [(down * 2 + across, pixel) for down in range(2) for pixel in range(4) for across in range(2)]
    return [
        (down * scale + across, pixel) if down < scale and across < scale else None
        for pixel in range(layer.row_px)
        for down in range(4)
        for across in range(4)
    ]


def _weights(layer: AmxLayer, weight: NDArray[np.int8], places: Sequence[Place]) -> NDArray[np.int8]:
    """Arrange as ``(set, step, block, row_bytes / 4, 16, 4)``: columns of rows of bytes by fours."""
    rows = np.zeros((layer.weight_sets, layer.steps * layer.row_bytes, len(places)), np.int8)
    for column, place in enumerate(places):
        if place is None or place[0] >= len(weight):
            continue
        channel, pixel = place
        for across in range(layer.kernel):
            at = (across + pixel) * layer.pixel_bytes
            if layer.from_picture:
                for row in range(ROWS_AT_ONCE):
                    first = at + row
                    rows[row, first : first + layer.kernel, column] = weight[channel, 0, :, across]
            else:
                rows[:, at : at + weight.shape[1], column] = weight[channel, :, :, across].T
    by_fours = rows.reshape(layer.weight_sets, layer.steps, layer.row_bytes // 4, 4, layer.blocks, SIDE)
    return by_fours.transpose(0, 1, 4, 2, 5, 3)


def _pairs(layer: AmxLayer, values: NDArray[Any]) -> NDArray[Any]:
    """Arrange as two vectors of accumulators lie once they are packed to 16 bits: by fours in turn."""
    blocks, order = values.reshape(layer.channel_blocks, 4, 4), layer.order
    both = zip(order[::2], order[1::2], strict=True)
    return np.stack([np.stack([blocks[one], blocks[other]], axis=1) for one, other in both])

"""Code that fills pixels outside of the picture, in rows of hidden layers, with the layer's zero points."""

from subpixel.engines.assembler import BYTE, INT, LONG, POINTER, Assembler, Value, vector
from subpixel.engines.native.amx.layer import AmxLayer
from subpixel.engines.native.layers import HiddenLayer

PLACES = {
    "row": POINTER,
    "values": POINTER,  # of one pixel, group by group
    "group_bytes": LONG,  # from group to group of the row
    "chunk_bytes": LONG,  # and from chunk to chunk
}

MAX_UNROLLED = 128
"""Largest number of values that are stored without a loop."""


def emit_padding(module: Value, name: str, layer: HiddenLayer | AmxLayer) -> Assembler:
    """Emit a function that fills the pixels from ``first`` to ``end``, with ``groups`` groups of channels."""
    code = Assembler(name, PLACES | {"first": LONG, "end": LONG, "groups": LONG}, module, internal=True)
    with code.loop(code.given["first"], code.given["end"]) as x:
        pixel = _pixel(code, layer, x)
        with code.loop(code.number(0), code.given["groups"]) as group:
            _fill(code, layer, pixel, code.times(group, code.given["group_bytes"]), group)
    code.succeed()
    return code


def emit_padding_beside(module: Value, name: str, layer: HiddenLayer | AmxLayer, count: int) -> Assembler:
    """Emit a function that fills ``count`` pixels from ``first`` on."""
    code = Assembler(name, PLACES | {"first": LONG}, module, internal=True)
    for number in range(count):
        pixel = _pixel(code, layer, code.add(code.given["first"], number))
        for group in range(layer.outputs // 4):
            _fill(code, layer, pixel, code.times(code.given["group_bytes"], group), code.number(group))
    code.succeed()
    return code


def emit_pixel_padding(module: Value, name: str, pixel_bytes: int) -> Assembler:
    """Emit a function that does the same where the channels of a pixel lie side by side."""
    code = Assembler(
        name, {"row": POINTER, "values": POINTER, "first": LONG, "end": LONG}, module, internal=True
    )
    values = code.load(code.given["values"], vector(BYTE, pixel_bytes))
    with code.loop(code.given["first"], code.given["end"]) as place:
        code.store(values, code.at(code.given["row"], code.times(place, pixel_bytes)))
    code.succeed()
    return code


def _pixel(code: Assembler, layer: HiddenLayer | AmxLayer, x: Value) -> Value:
    """Return a pointer to the first group of a pixel."""
    chunk_px = code.number(16 // layer.padding_bytes)
    chunk, pixel = code.build.udiv(x, chunk_px), code.build.urem(x, chunk_px)
    chunk_at = code.times(chunk, code.given["chunk_bytes"])
    return code.at(code.given["row"], chunk_at, code.times(pixel, layer.padding_bytes))


def _fill(code: Assembler, layer: HiddenLayer | AmxLayer, pixel: Value, offset: Value, group: Value) -> None:
    values = code.load(code.at(code.given["values"], code.times(group, layer.padding_bytes)), _kind(layer))
    code.store(values, code.at(pixel, offset))


def _kind(layer: HiddenLayer | AmxLayer) -> Value:
    return INT if layer.padding_bytes == 4 else LONG

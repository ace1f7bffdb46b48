"""Code for rows of deep samples, uint16 and float32: how they are taken in, and where they are smooth.

`subpixel.models.quantization` and `subpixel.engines.smooth` define what is computed, in the same order of
roundings. A row of the picture is kept three times: its high bytes and its low bytes for the first layer,
with zeros beyond the picture; and as float32, for linear interpolation and as the residual. There, beside the
picture, are its outermost samples.
"""

from functools import reduce

from subpixel.engines.assembler import BYTE, FLOAT, INT, LONG, POINTER, SHORT, Assembler, Value, vector
from subpixel.engines.native.instructions import InstructionSet
from subpixel.engines.native.layers import SAMPLE_BYTES, Samples
from subpixel.models.quantization import MAGIC, MAGIC_BITS
from subpixel.models.spec import FLAT_RADIUS_PX

TAKE_IN = {
    "source": POINTER,  # the picture's samples from place ``first`` on
    "first": LONG,
    "end": LONG,
    "columns": LONG,
    "given": POINTER,  # memory for a row of 16-bit integers
    "floats": POINTER,  # rows to fill
    "high": POINTER,
    "low": POINTER,
}

BENDS = {
    "above": POINTER,  # the row before, this row, and the next one as float32
    "middle": POINTER,
    "below": POINTER,
    "channel_bytes": LONG,  # from channel to channel
    "first": LONG,  # one column more is computed on each side
    "end": LONG,
    "bends": POINTER,  # a row to fill: the largest |second difference| of each pixel
}

WEIGHTS = {
    "above": POINTER,  # three rows of bends, at the first column
    "middle": POINTER,
    "below": POINTER,
    "width": LONG,
    "weights": POINTER,  # a row to fill
}


def emit_take_in(
    module: Value,
    name: str,
    samples: Samples,
    instructions: InstructionSet,
    value_bytes: int,
    deep_shift: int,
) -> Assembler:
    """Emit the function that takes in a row; the first layer's values have ``value_bytes``."""
    code = Assembler(name, TAKE_IN, module, internal=True)
    given, build, lanes = code.given, code.build, instructions.lanes
    first, end, columns, size = given["first"], given["end"], given["columns"], SAMPLE_BYTES[samples]
    target = given["given" if samples == "uint16" else "floats"]
    code.clear(target, code.times(columns, size))
    code.copy(
        code.at(target, code.times(first, size)), given["source"], code.times(code.minus(end, first), size)
    )
    value = vector(BYTE if value_bytes == 1 else SHORT, lanes)
    with code.loop(code.number(0), columns, lanes) as place:
        floats = code.at(given["floats"], code.times(place, 4))
        if samples == "uint16":
            shorts = code.load(code.at(target, code.times(place, 2)), vector(SHORT, lanes))
            integers = build.zext(shorts, instructions.ints)
            code.store(build.sitofp(integers, instructions.floats), floats)
        else:
            integers = _quantized(code, instructions, code.load(floats, instructions.floats))
        # Above the 16 bits of floats there may be others, of `MAGIC`.
        for name, shift, mask in (("high", 8, 0xFF >> deep_shift), ("low", 0, 0xFF)):
            shifted = build.lshr(integers, code.lanes(INT, [shift + deep_shift] * lanes))
            part = build.and_(shifted, code.lanes(INT, [mask] * lanes))
            code.store(build.trunc(part, value), code.at(given[name], code.times(place, value_bytes)))
    left, right = (code.at(given["floats"], code.times(place, 4)) for place in (first, end))
    for pointer, inside, step in ((left, 0, -4), (right, -4, 4)):
        sample = code.load(code.at(pointer, inside), FLOAT)
        for distance in range(1, FLAT_RADIUS_PX + 1):
            code.store(sample, code.at(pointer, inside + step * distance))
    code.succeed()
    return code


def _quantized(code: Assembler, instructions: InstructionSet, floats: Value) -> Value:
    """Return ``round(65535 * floats)``, clipped, in the low 16 bits."""
    lanes = instructions.lanes
    white, magic = (code.lanes(FLOAT, [value] * lanes) for value in (65535.0, MAGIC))
    bits = code.build.bitcast(instructions.fused(code, floats, white, magic), instructions.ints)
    return clipped_16(code, instructions, bits)


def clipped_16(code: Assembler, instructions: InstructionSet, bits: Value) -> Value:
    """Clip integers that were added to `MAGIC` to 16 bits; their low halves are the results."""
    low, high = (code.lanes(INT, [MAGIC_BITS + bound] * instructions.lanes) for bound in (0, 65535))
    return instructions.least(code, instructions.most(code, bits, low), high)


def emit_bends(module: Value, name: str, instructions: InstructionSet, channels: int) -> Assembler:
    """Emit the function that finds how much a row bends, see `smooth.weights`."""
    code = Assembler(name, BENDS, module, internal=True)
    given, build, floats = code.given, code.build, instructions.floats
    with code.loop(code.minus(given["first"], 1), code.add(given["end"], 1), instructions.lanes) as place:

        def larger(channel: Value, state: list[Value], place: Value = place) -> list[Value]:
            offset = code.add(code.times(channel, given["channel_bytes"]), code.times(place, 4))
            rows = (code.at(given[name], offset) for name in ("above", "middle", "below"))
            above, middle, below = rows
            center = code.load(middle, floats)

            def bend(one: Value, other: Value) -> Value:
                differences = (build.fsub(code.load(pointer, floats), center) for pointer in (one, other))
                return code.call(f"llvm.fabs.v{instructions.lanes}f32", floats, build.fadd(*differences))

            across, down = bend(code.at(middle, -4), code.at(middle, 4)), bend(above, below)
            return [_larger(code, _larger(code, state[0], across), down)]

        zero = code.lanes(FLOAT, [0.0] * instructions.lanes)
        (bends,) = code.repeat(channels, [zero], larger)
        code.store(bends, code.at(given["bends"], code.times(place, 4)))
    code.succeed()
    return code


def emit_weights(
    module: Value, name: str, instructions: InstructionSet, subtracted: float, factor: float
) -> Assembler:
    """Emit the function that computes the network's weights, see `smooth.weight_constants`."""
    code = Assembler(name, WEIGHTS, module, internal=True)
    given, build = code.given, code.build
    with code.loop(code.number(0), given["width"], instructions.lanes) as x:
        rows = [code.at(given[name], code.times(x, 4)) for name in ("above", "middle", "below")]
        around = [
            code.load(code.at(row, 4 * step), instructions.floats) for row in rows for step in (-1, 0, 1)
        ]
        largest = reduce(lambda one, other: _larger(code, one, other), around)
        constants = (
            code.lanes(FLOAT, [value] * instructions.lanes) for value in (subtracted, factor, 0.0, 1.0)
        )
        subtrahend, multiplier, zero, one = constants
        value = _larger(code, build.fmul(build.fsub(largest, subtrahend), multiplier), zero)
        value = build.select(build.fcmp_ordered("<", value, one), value, one)
        code.store(value, code.at(given["weights"], code.times(x, 4)))
    code.succeed()
    return code


def _larger(code: Assembler, one: Value, other: Value) -> Value:
    return code.build.select(code.build.fcmp_ordered(">", one, other), one, other)

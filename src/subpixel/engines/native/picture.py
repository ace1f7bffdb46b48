"""Code that brings rows of the picture into the form that a layer reads."""

from subpixel.engines.assembler import BYTE, INT, LONG, POINTER, SHORT, Assembler, Value, integer, vector
from subpixel.engines.native.instructions import InstructionSet

_LANES = 16


def emit_stack(
    module: Value, name: str, sources: int, sample_bytes: int, column_bytes: int, lanes: int
) -> Assembler:
    """Emit a function that puts the samples of a few rows side by side, column by column.

    Its parameters are the rows, the memory to fill, and the places of the first column and of the end.
    """
    rows = {f"row{number}": POINTER for number in range(sources)}
    code = Assembler(name, rows | {"out": POINTER, "start": LONG, "end": LONG}, module, internal=True)
    given, column = code.given, integer(8 * column_bytes)
    with code.loop(given["start"], given["end"], lanes) as place:
        columns: Value = None
        for number, row in enumerate(rows):
            samples = code.load(
                code.at(given[row], code.times(place, sample_bytes)), vector(integer(8 * sample_bytes), lanes)
            )
            wide = code.build.zext(samples, vector(column, lanes))
            wide = code.build.shl(wide, code.lanes(column, [8 * sample_bytes * number] * lanes))
            columns = code.build.or_(columns, wide) if number else wide
        code.store(columns, code.at(given["out"], code.times(place, column_bytes)))
    code.succeed()
    return code


def emit_widen(module: Value, name: str) -> Assembler:
    """Emit a function that converts bytes to 16-bit integers."""
    parameters = {"samples": POINTER, "out": POINTER, "columns": LONG}
    code = Assembler(name, parameters, module, internal=True)
    with code.loop(code.number(0), code.given["columns"], _LANES) as place:
        values = code.load(code.at(code.given["samples"], place), vector(BYTE, _LANES))
        wide = code.build.zext(values, vector(SHORT, _LANES))
        code.store(wide, code.at(code.given["out"], code.times(place, 2)))
    code.succeed()
    return code


def emit_spread(module: Value, name: str, instructions: InstructionSet) -> Assembler:
    """Emit a function that copies samples to every fourth byte, as products take them."""
    parameters = {"samples": POINTER, "out": POINTER, "columns": LONG}
    code = Assembler(name, parameters, module, internal=True)
    with code.loop(code.number(0), code.given["columns"]) as place:
        sample = code.load(code.at(code.given["samples"], place), vector(BYTE, 1))
        sample = instructions.stored(code, sample)
        code.store(sample, code.at(code.given["out"], code.times(place, 4)))
    code.succeed()
    return code


def emit_pixels(module: Value, name: str, channels: int) -> Assembler:
    """Emit a function that brings the channels of each pixel side by side, padded to groups of 4 bytes.

    Rows of the channels are ``columns`` bytes apart, a multiple of 16.
    """
    parameters = {"samples": POINTER, "out": POINTER, "columns": LONG}
    code = Assembler(name, parameters, module, internal=True)
    given, groups = code.given, -(-channels // 4)
    with code.loop(code.number(0), given["columns"], _LANES) as place:
        fours = [
            _four(code, place, range(first, min(first + 4, channels))) for first in range(0, channels, 4)
        ]
        out = code.at(given["out"], code.times(place, 4 * groups))
        for number in range(groups):
            sources = [divmod(number * _LANES + lane, groups) for lane in range(_LANES)]  # pixel, group
            together = fours[0]
            for group in range(1, groups):
                # Lanes of earlier groups stay in place, once they are there.
                places = [
                    _LANES + pixel if of == group else lane if group > 1 else pixel
                    for lane, (pixel, of) in enumerate(sources)
                ]
                together = code.build.shuffle_vector(together, fours[group], code.lanes(INT, places))
            code.store(together, code.at(out, 4 * _LANES * number))
    code.succeed()
    return code


def _four(code: Assembler, place: Value, channels: range) -> Value:
    """Return samples of up to four channels side by side, for 16 pixels."""
    result: Value = None
    for number, channel in enumerate(channels):
        row = code.at(code.given["samples"], code.times(code.given["columns"], channel), place)
        samples = code.build.zext(code.load(row, vector(BYTE, _LANES)), vector(INT, _LANES))
        shifted = code.build.shl(samples, code.lanes(INT, [8 * number] * _LANES))
        result = code.build.or_(result, shifted) if number else samples
    return result

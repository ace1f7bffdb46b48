"""Code that brings rows of the picture into the form that a layer reads."""

from subpixel.engines.assembler import BYTE, LONG, POINTER, SHORT, Assembler, Value, integer, vector
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

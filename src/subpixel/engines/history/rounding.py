"""Emits `round_samples`: samples rounded to 8 bits, as `subpixel.models.history.eight_bits` does."""

from subpixel.engines.assembler import BYTE, FLOAT, INT, LONG, POINTER, SHORT, Value, vector
from subpixel.engines.color import LANES
from subpixel.engines.history.arguments import ArgumentAssembler
from subpixel.engines.native.instructions import InstructionSet
from subpixel.models.quantization import MAGIC, MAGIC_BITS

ROUND_SAMPLES = {
    "samples": POINTER,  # uint16 or float32
    "samples_row": LONG,  # from row to row, in bytes
    "out": POINTER,  # uint8
    "out_row": LONG,
    "first": LONG,  # rows to compute
    "stop": LONG,
    "columns": LONG,  # at least `LANES`; both arrays have them
}

_INTS = vector(INT, LANES)


def round_samples(instructions: InstructionSet, sample_bytes: int, *, triple: str = "") -> Value:
    """Emit the function whose arguments are `ROUND_SAMPLES`, for uint16 or float32; return its module."""
    code = ArgumentAssembler("round_samples", ROUND_SAMPLES, triple)
    given, build = code.given, code.build
    with (
        code.loop(given["first"], given["stop"]) as y,
        code.each_vector(code.number(0), given["columns"]) as x,
    ):
        pointer = code.in_row("samples", y, code.times(x, sample_bytes))
        if sample_bytes == 2:
            samples = build.zext(code.load(pointer, vector(SHORT, LANES)), _INTS)
            # The same as (samples + 128) // 257, without a division.
            steps = build.mul(samples, code.each(_INTS, 255))
            rounded = build.lshr(code.plus(steps, 32895), code.each(_INTS, 16))
        else:
            white, magic = (code.lanes(FLOAT, [value] * LANES) for value in (255.0, MAGIC))
            samples = code.load(pointer, white.type)
            bits = code.call(f"llvm.fma.v{LANES}f32", white.type, samples, white, magic)
            rounded = code.clipped(code.plus(build.bitcast(bits, _INTS), -MAGIC_BITS), 255)
        code.store(build.trunc(rounded, vector(BYTE, LANES)), code.in_row("out", y, x))
    code.succeed()
    return code.module

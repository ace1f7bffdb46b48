"""Code that keeps flat areas flat: see `subpixel.engines.flat`.

For each row of the picture, `emit_runs` finds where the pixels within `FLAT_RADIUS_PX` columns have one
value. This is kept for as long as the row. `emit_copy` combines it for the rows around a row of the result,
and copies samples. In most pictures almost nothing is flat: then it tests 64 pixels at once, and is finished.
"""

from functools import reduce

from subpixel.engines.assembler import BYTE, LONG, POINTER, Assembler, Value, vector
from subpixel.models.spec import FLAT_RADIUS_PX

LANES = 64
"""Pixels that are tested at once. LLVM splits vectors of them into those of the processor."""

BYTES = vector(BYTE, LANES)

RUNS = {
    "samples": POINTER,  # a row of the picture, with room for the radius beside it
    "first": LONG,
    "end": LONG,
    "runs": POINTER,  # a row of bytes to fill: all bits set where a pixel is in a run of one value, else none
}

COPY = {
    "rows": POINTER,  # pairs of pointers, to runs and samples of each row within the radius
    "hr": POINTER,
    "hr_row": LONG,
    "width": LONG,  # in pixels of the small picture
}


def emit_runs(module: Value, name: str) -> Assembler:
    """Emit the function that finds the runs of a row, with the parameters `RUNS`.

    The pixels beside the row are its outermost ones while it runs, and 0 afterwards.
    """
    code = Assembler(name, RUNS, module, internal=True)
    given, build = code.given, code.build
    first_at, end_at = (code.at(given["samples"], given[name]) for name in ("first", "end"))
    outermost = code.load(first_at, BYTE), code.load(code.at(end_at, -1), BYTE)

    def fill_beside(left: Value, right: Value) -> None:
        for distance in range(FLAT_RADIUS_PX):
            code.store(left, code.at(first_at, -1 - distance))
            code.store(right, code.at(end_at, distance))

    fill_beside(*outermost)
    offsets = [offset for offset in range(-FLAT_RADIUS_PX, FLAT_RADIUS_PX + 1) if offset]
    with code.loop(given["first"], given["end"], LANES) as place:
        pointer = code.at(given["samples"], place)
        samples = code.load(pointer, BYTES)
        differences = [build.xor(samples, code.load(code.at(pointer, offset), BYTES)) for offset in offsets]
        code.store(_where_zero(code, reduce(build.or_, differences)), code.at(given["runs"], place))
    fill_beside(code.byte(0), code.byte(0))
    code.succeed()
    return code


def emit_copy(module: Value, name: str, scale: int) -> Assembler:
    """Emit the function that copies flat samples to rows of the result, with the parameters `COPY`."""
    code = Assembler(name, COPY, module, internal=True)
    given, build = code.given, code.build
    count = 2 * FLAT_RADIUS_PX + 1
    runs, samples = (
        [code.load(code.at(given["rows"], 16 * row + offset), POINTER, 8) for row in range(count)]
        for offset in (0, 8)
    )
    with code.loop(code.number(0), given["width"], LANES) as x:
        center = code.load(code.at(runs[FLAT_RADIUS_PX], x), BYTES)
        words = build.bitcast(center, vector(LONG, LANES // 8))
        any_run = code.call(f"llvm.vector.reduce.or.v{LANES // 8}i64", LONG, words)
        with build.if_then(build.icmp_unsigned("!=", any_run, code.number(0)), likely=False):
            values = [code.load(code.at(row, x), BYTES) for row in samples]
            differences = [build.xor(values[FLAT_RADIUS_PX], value) for value in values]
            equal = _where_zero(code, reduce(build.or_, differences))
            flat = reduce(build.and_, [code.load(code.at(row, x), BYTES) for row in runs], equal)
            bits = build.bitcast(build.icmp_unsigned("!=", flat, code.lanes(BYTE, [0] * LANES)), LONG)
            beyond = code.minus(code.add(x, LANES), given["width"])
            unwanted = code.most(beyond, code.number(0))
            bits = build.and_(bits, build.lshr(code.number(-1), unwanted))
            _copy(
                code,
                code.at(samples[FLAT_RADIUS_PX], x),
                bits,
                code.at(given["hr"], code.times(x, scale)),
                scale,
            )
    code.succeed()
    return code


def _copy(code: Assembler, samples: Value, bits: Value, out: Value, scale: int) -> None:
    """Copy the samples that ``bits`` names. If all are flat, they have one value."""
    build = code.build
    rows = [code.at(out, code.times(code.given["hr_row"], down)) for down in range(scale)]
    with build.if_else(build.icmp_signed("==", bits, code.number(-1)), likely=False) as (whole, some):
        with whole:
            value = code.load(samples, BYTE)
            for row in rows:
                for across in range(scale):
                    code.store(code.all(value, LANES), code.at(row, across * LANES))
        with some, code.each_bit(bits) as lane:
            value = code.load(code.at(samples, lane), BYTE)
            for row in rows:
                for across in range(scale):
                    code.store(value, code.at(row, code.times(lane, scale), across))


def _where_zero(code: Assembler, values: Value) -> Value:
    """Return bytes with all bits set where ``values`` is 0."""
    zero = code.lanes(BYTE, [0] * LANES)
    return code.build.sext(code.build.icmp_unsigned("==", values, zero), BYTES)

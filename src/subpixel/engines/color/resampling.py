"""Emits `resample`: what `subpixel.ops.resample` computes, equal to the bit.

Blocks of 16 rows of the result are resampled along columns and transposed, so that resampling along rows is
the same operation: 16 pixels below each other are a vector, and the weights are those of the whole vector.
"""

from collections.abc import Callable

from subpixel.engines.assembler import FLOAT, INT, LONG, POINTER, Value
from subpixel.engines.color import LANES
from subpixel.engines.color.vectors import FLOATS, VectorAssembler

RESAMPLE = {
    "plane": POINTER,
    "width": LONG,  # of the plane; this, ``rows`` and ``columns`` are at least `LANES`
    "row_offsets": POINTER,  # for each tap, for each row of the result: bytes from ``plane`` on, LONG
    "row_weights": POINTER,  # likewise, float32
    "row_taps": LONG,
    "rows": LONG,
    "column_offsets": POINTER,  # the same for columns; 64 bytes for each column of the plane
    "column_weights": POINTER,
    "column_taps": LONG,
    "columns": LONG,
    "out": POINTER,
    "out_row": LONG,
    "working": POINTER,  # 16 floats for each column of the plane, and 256 more
}


def resample() -> Value:
    """Emit the function with the parameters `RESAMPLE`; return its module."""
    code = VectorAssembler("resample", RESAMPLE)
    given, zero = code.given, code.number(0)
    block, turned = given["working"], code.at(given["working"], 4 * LANES * LANES)
    with code.each_vector(zero, given["rows"]) as y:
        with code.each_vector(zero, given["width"]) as x:
            source = code.at(given["plane"], code.times(x, 4))
            with code.loop(zero, code.number(LANES)) as down:
                total = _weighted(code, source, "row", code.add(y, down))
                code.store(total, code.at(block, code.times(down, 4 * LANES)))
            columns = _transposed(code, block)
            for across, column in enumerate(columns):
                code.store(column, code.at(turned, code.times(code.add(x, across), 4 * LANES)))
        with code.each_vector(zero, given["columns"]) as x:
            with code.loop(zero, code.number(LANES)) as across:
                total = _weighted(code, turned, "column", code.add(x, across))
                code.store(total, code.at(block, code.times(across, 4 * LANES)))
            for down, row in enumerate(_transposed(code, block)):
                out = code.at(given["out"], code.times(given["out_row"], code.add(y, down)))
                code.store(row, code.at(out, code.times(x, 4)))
    code.succeed()
    return code.module


def _weighted(code: VectorAssembler, source: Value, axis: str, place: Value) -> Value:
    """The weighted sum of the vectors at the taps of a row or column of the result."""
    given, build = code.given, code.build
    side = given[f"{axis}s"]

    def term(tap: Value) -> Value:
        index = code.add(code.times(side, tap), place)
        offset = code.load(code.at(given[f"{axis}_offsets"], code.times(index, 8)), LONG, 8)
        weight = code.load(code.at(given[f"{axis}_weights"], code.times(index, 4)), FLOAT, 4)
        return build.fmul(code.load(code.at(source, offset), FLOATS), code.all(weight, LANES))

    return _sum(code, given[f"{axis}_taps"], term)


def _sum(code: VectorAssembler, count: Value, term: Callable[[Value], Value]) -> Value:
    """The sum of at least one term, in their order."""
    build = code.build
    first = term(code.number(0))
    before = build.block
    head, body, end = (build.append_basic_block() for _ in range(3))
    build.branch(head)
    build.position_at_end(head)
    tap, total = build.phi(LONG), build.phi(FLOATS)
    tap.add_incoming(code.number(1), before)
    total.add_incoming(first, before)
    build.cbranch(build.icmp_signed("<", tap, count), body, end)
    build.position_at_end(body)
    total.add_incoming(build.fadd(total, term(tap)), build.block)
    tap.add_incoming(code.add(tap, 1), build.block)
    build.branch(head)
    build.position_at_end(end)
    return total


def _transposed(code: VectorAssembler, block: Value) -> list[Value]:
    """Load 16 rows of 16 floats; return the columns."""
    rows = [code.load(code.at(block, 4 * LANES * row), FLOATS) for row in range(LANES)]
    distance = LANES // 2
    while distance:
        upper = [lane if not lane & distance else LANES + lane - distance for lane in range(LANES)]
        lower = [lane + distance if not lane & distance else LANES + lane for lane in range(LANES)]
        for row in range(LANES):
            if not row & distance:
                pair = rows[row], rows[row + distance]
                rows[row], rows[row + distance] = (
                    code.build.shuffle_vector(*pair, code.lanes(INT, lanes)) for lanes in (upper, lower)
                )
        distance //= 2
    return rows

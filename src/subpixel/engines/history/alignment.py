"""Emits `align`: what motion explains of each pixel and block, as `subpixel.ops.block_motion.align` does.

It also lets the quarters of a block move as a neighbor does (`quarter_motion` there). So it needs the motion
of all blocks, from `subpixel.engines.history.search`.
"""

from functools import partial, reduce
from itertools import product
from typing import NamedTuple

from subpixel.engines.assembler import BYTE, INT, LONG, POINTER, SHORT, Value, vector
from subpixel.engines.history.band import BAND_ARGUMENTS, Band, each_band
from subpixel.engines.history.vectors import QUARTERS
from subpixel.engines.native.instructions import InstructionSet
from subpixel.ops.block_motion import (
    DIVIDED_ABOVE,
    FIT_FLOOR_HALVES,
    PLAIN_RANGE,
    STAY_DENOMINATOR,
    STAY_NUMERATOR,
)

ALIGN = {
    **BAND_ARGUMENTS,
    "fit_limit": LONG,
    "blocks": POINTER,  # LONG for each block: first all rows, then all columns
    "motion": POINTER,  # likewise for each quarter of a block
    "fits": POINTER,  # a byte for each block
    "same": POINTER,  # likewise: whether it equals the one before
    "varied": POINTER,  # likewise: whether its samples differ by more than `PLAIN_RANGE`
    "detail": POINTER,  # SHORT; rows and columns of whole blocks, and columns of whole vectors
    "residual": POINTER,  # likewise
    "out_row": LONG,  # of both
}


def align(
    instructions: InstructionSet, steps: int, block_px: int, range_px: int, *, triple: str = ""
) -> Value:
    """Emit the function whose arguments are `ALIGN`; return its module."""
    code = _Alignment(instructions, steps, block_px, range_px, triple)
    for row, down in each_band(code):
        code.write_detail(row, down)
        with code.loop(code.number(0), code.given["columns"]) as column:
            code.finish_block(row, column, down)
    code.succeed()
    return code.module


class _Block(NamedTuple):
    row: Value
    column: Value
    place: Value
    """In the previous frame, without motion."""
    pixels: list[Value]


class _Alignment(Band):
    """The code for a band."""

    def __init__(
        self, instructions: InstructionSet, steps: int, block_px: int, range_px: int, triple: str
    ) -> None:
        super().__init__("align", ALIGN, instructions, (steps, block_px, range_px), triple)
        self.quarter_px = block_px // 2
        self.penalty = STAY_NUMERATOR * self.quarter_px**2 // STAY_DENOMINATOR
        self.old = self.local("old", block_px**2)  # the pixels that motion brings
        self.costs = self.local("costs", 8 * len(QUARTERS))

    def finish_block(self, row: Value, column: Value, down: Value) -> None:
        """Write what there is to say about a block."""
        top, right = (self.times(each, self.block) for each in (row, column))
        block = _Block(row, column, self.place(down, right), self.block_pixels(down, right))
        motion = self._motion(row, column)
        for quarter in QUARTERS:
            self._store_motion(motion, block, quarter)
        moved = self._moved(block, motion)
        self._store_old(moved)
        together, limit = self.difference(block.pixels, moved), self.number(DIVIDED_ABOVE * self.block**2)
        with self.build.if_then(self.build.icmp_unsigned(">", together, limit)):
            self._divide(block, motion, moved)
        self._write_residual(self.old, top, right)
        difference = self.difference(block.pixels, self.pieces_at(self.old))
        # A block that has not changed stays: other candidates cost more. One that has changed may fit as
        # exactly, but only in quarters.
        changes = reduce(self.build.or_, motion, together)
        same = self.build.icmp_signed("==", changes, self.number(0))
        answers = {"fits": self._fits(difference, right), "same": same, "varied": self._varied(block.pixels)}
        index = self.add(self.times(row, self.given["columns"]), column)
        for name, value in answers.items():
            self.store(self.build.zext(value, BYTE), self.at(self.given[name], index))

    def _motion(self, row: Value, column: Value) -> list[Value]:
        return [self.load(pointer, LONG, 8) for pointer in self.motion_pointers("blocks", row, column)]

    def _moved(self, block: _Block, motion: list[Value]) -> list[Value]:
        """The pixels that motion brings to a block."""
        (y, y_step), (x, x_step) = (self.split(each, self.steps, self.range) for each in motion)
        window = self.window(0)
        self.gather_window(block.place, y, x, x_step, window)
        return self.moved(window, y_step, self.add(self.times(block.row, self.block), y))

    def _store_old(self, pixels: list[Value]) -> None:
        for piece, values in enumerate(pixels):
            self.store(values, self.at(self.old, piece * self.piece.count))

    def _store_motion(self, motion: list[Value], block: _Block, quarter: tuple[int, int]) -> None:
        part = [self.number(each) for each in quarter]
        for each, pointer in zip(motion, self.quarter_pointers(block.row, block.column, *part), strict=True):
            self.store(each, pointer, 8)

    # Quarters

    def _divide(self, block: _Block, motion: list[Value], moved: list[Value]) -> None:
        """Let each quarter of a block move as a neighbor that it touches does, if that costs less."""
        for quarter in QUARTERS:
            cost = self.minus(self._quarter_difference(block.pixels, moved, quarter), self.penalty)
            self.store(cost, self._least(quarter), 8)
        for axis, side in product(range(2), repeat=2):  # first those above and below
            neighbor = self._neighbor(block, axis, side)
            differences = (self.build.xor(*each) for each in zip(motion, neighbor, strict=True))
            apart = self.build.icmp_signed("!=", self.build.or_(*differences), self.number(0))
            with self.build.if_then(apart):
                found = self._moved(block, neighbor)
                for quarter in QUARTERS:
                    if quarter[axis] == side:
                        self._keep_better(block, quarter, neighbor, found)

    def _neighbor(self, block: _Block, axis: int, side: int) -> list[Value]:
        """The motion of a neighbor along an axis: before the block (0) or after it; at the edge its own."""
        place = [block.row, block.column]
        if side == 0:
            place[axis] = self.most(self.minus(place[axis], 1), self.number(0))
        else:
            last = self.minus(self.given[("rows", "columns")[axis]], 1)
            place[axis] = self.least(self.add(place[axis], 1), last)
        return self._motion(*place)

    def _keep_better(
        self, block: _Block, quarter: tuple[int, int], motion: list[Value], found: list[Value]
    ) -> None:
        """Give a quarter a motion, and the pixels it brings, if it costs less than the best one before."""
        build, least = self.build, self._least(quarter)
        cost = self._quarter_difference(block.pixels, found, quarter)
        with build.if_then(build.icmp_signed("<", cost, self.load(least, LONG, 8))):
            self.store(cost, least, 8)
            self._store_motion(motion, block, quarter)
            inside = map(self.is_set, self._masks(quarter))
            before = self.pieces_at(self.old)
            self._store_old([build.select(*each) for each in zip(inside, found, before, strict=True)])

    def _least(self, quarter: tuple[int, int]) -> Value:
        """A pointer to the cost of a quarter's best motion."""
        return self.at(self.costs, 8 * QUARTERS.index(quarter))

    def _quarter_difference(
        self, pixels: list[Value], others: list[Value], quarter: tuple[int, int]
    ) -> Value:
        """The sum of absolute differences of a quarter."""
        masks = self._masks(quarter)
        return self.difference(
            *([self.build.and_(*each) for each in zip(side, masks, strict=True)] for side in (pixels, others))
        )

    def _masks(self, quarter: tuple[int, int]) -> list[Value]:
        """Bytes of 255 in a quarter and 0 elsewhere, for each piece of a block."""
        places = (divmod(place, self.block) for place in range(self.block**2))
        inside = [
            255 * ((row // self.quarter_px, column // self.quarter_px) == quarter) for row, column in places
        ]
        count = self.piece.count
        return [self.lanes(BYTE, inside[piece * count : (piece + 1) * count]) for piece in range(self.pieces)]

    # Blocks

    def _fits(self, difference: Value, right: Value) -> Value:
        """Whether a block's difference is small enough for its detail."""
        sums = self.load(self.indexed(self.details, (right, 2)), vector(INT, self.block // 2))
        allowed = self.times(self.long(self.total(sums)), self.given["fit_limit"])
        floor = 8 * FIT_FLOOR_HALVES * self.block**2 * 16
        return self.build.icmp_signed("<=", self.times(difference, 256), self.add(allowed, floor))

    def _varied(self, pixels: list[Value]) -> Value:
        """Whether a block's samples differ by more than `PLAIN_RANGE`."""

        def extreme(name: str) -> Value:
            return self.extreme(name, reduce(partial(self.binary, name), pixels))

        difference = self.build.sub(extreme("umax"), extreme("umin"))
        return self.build.icmp_unsigned(">", self.build.zext(difference, LONG), self.number(PLAIN_RANGE))

    def _write_residual(self, moved: Value, top: Value, right: Value) -> None:
        kind, given = vector(BYTE, self.block), self.given
        out = self.indexed(given["residual"], (top, given["out_row"]), (right, 2))
        for row in range(self.block):
            pixels, others = (
                self.build.zext(self.load(self.at(each, row * self.block), kind), vector(SHORT, self.block))
                for each in (self.pixels, moved)
            )
            self.store(self.build.sub(pixels, others), self.indexed(out, (row, given["out_row"])))

    # Detail

    def write_detail(self, row: Value, down: Value) -> None:
        """Write the detail of a row of blocks, and sum its absolute values in 16ths."""
        build, kind = self.build, vector(SHORT, self.line.count // 2)
        frame = self.indexed(self.frame, (down, self.pitch))  # the row above
        detail = self.indexed(self.given["detail"], (self.times(row, self.block), self.given["out_row"]))
        with self.loop(self.number(0), self.across, kind.count) as x:

            def one_row(turn: Value, values: list[Value]) -> list[Value]:
                sixteenths = self._detail(self.indexed(frame, (turn, self.pitch), (x, 1)), kind)
                rounded = build.ashr(build.add(sixteenths, self.each(kind, 8)), self.each(kind, 4))
                self.store(rounded, self.indexed(detail, (turn, self.given["out_row"]), (x, 2)))
                return [build.add(values[0], self.instructions.magnitude(self, sixteenths))]

            (sums,) = self.repeat(self.block, [self.each(kind, 0)], one_row)
            pairs = build.bitcast(sums, vector(INT, kind.count // 2))
            low = build.and_(pairs, self.each(pairs.type, 0xFFFF))
            high = build.lshr(pairs, self.each(pairs.type, 16))
            self.store(build.add(low, high), self.indexed(self.details, (x, 2)))

    def _detail(self, above: Value, kind: Value) -> Value:
        """16 times the difference of pixels from their binomial mean; the pointer is to the row above."""
        build = self.build

        def binomial(values: list[Value]) -> Value:
            return build.add(build.add(values[0], values[2]), build.shl(values[1], self.each(kind, 1)))

        def pixels(row: int, right: int) -> Value:
            pointer = self.at(self.indexed(above, (row, self.pitch)), right)
            return build.zext(self.load(pointer, vector(BYTE, kind.count)), kind)

        columns = [[pixels(row, right) for row in range(3)] for right in (-1, 0, 1)]
        center = build.shl(columns[1][1], self.each(kind, 4))
        return build.sub(center, binomial([binomial(column) for column in columns]))

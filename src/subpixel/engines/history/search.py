"""Emits `search_motion`: `subpixel.ops.block_motion.block_motion`, the motion of blocks.

Rows of blocks are searched in bands, so that what a band needs stays in the cache: its rows of the frame and,
for each step of a pixel, those of the previous frame, interpolated along rows. All rows are continued beyond
both edges. So candidates on whole pixels are compared for many blocks at once, and those in between need only
be interpolated along columns.

A cost and the number of its candidate share an integer, so that the smallest is the best, and the first one
of equal candidates.
"""

from itertools import product

from subpixel.engines.assembler import BYTE, INT, POINTER, Value, vector
from subpixel.engines.history.band import BAND_ARGUMENTS, Band, each_band
from subpixel.engines.native.instructions import InstructionSet
from subpixel.ops.block_motion import STAY_DENOMINATOR, STAY_NUMERATOR, search_steps

SEARCH_MOTION = {
    **BAND_ARGUMENTS,
    "motion": POINTER,  # LONG for each block: first all rows, then all columns
}

_NUMBER_BITS = 16
"""Bits for the number of a candidate on whole pixels; a cost takes no more."""

_NEIGHBOR_BITS, _CENTER = 4, 4
"""Bits for the number of a neighbor; the place among the neighbors, row by row, of what they surround."""


def search_motion(
    instructions: InstructionSet, steps: int, block_px: int, range_px: int, *, triple: str = ""
) -> Value:
    """Emit the function whose arguments are `SEARCH_MOTION`; return its module."""
    code = _Search(instructions, steps, block_px, range_px, triple)
    for row, down in each_band(code):
        code.search_whole_pixels(down)
        with code.loop(code.number(0), code.given["columns"]) as column:
            code.search_in_between(row, column, down)
    code.succeed()
    return code.module


class _Search(Band):
    """The code for a band."""

    def __init__(
        self, instructions: InstructionSet, steps: int, block_px: int, range_px: int, triple: str
    ) -> None:
        super().__init__("search_motion", SEARCH_MOTION, instructions, (steps, block_px, range_px), triple)
        self.penalty = STAY_NUMERATOR * block_px**2 // STAY_DENOMINATOR

    # In between pixels

    def search_in_between(self, row: Value, column: Value, down: Value) -> None:
        """Search from a block's best whole pixel on, and write its motion."""
        top, right = (self.times(each, self.block) for each in (row, column))
        found = self.motion_pointers("motion", row, column)
        self._search(self.block_pixels(down, right), self.place(down, right), top, column, found)

    def _search(
        self, pixels: list[Value], place: Value, top: Value, column: Value, found: list[Value]
    ) -> None:
        """Find the motion of a block, whose place in the previous frame is given, and store it."""
        build, side = self.build, 2 * self.range + 1
        best = self.long(self.load(self.indexed(self.best, (column, self.block)), INT, 4))
        cost, stays, y, x = self._candidate(best, _NUMBER_BITS, side)
        motion = [
            build.select(stays, self.number(0), self.times(self.minus(each, self.range), self.steps))
            for each in (y, x)
        ]
        self._store_pair(motion, found)
        distances = list(search_steps(self.steps))
        # All others cost at least the penalty: without a difference, or none to speak of, the search ends.
        with build.if_then(build.icmp_unsigned(">", cost, self.number(self.penalty))):
            down, right, _, _ = self.repeat(
                len(distances),
                [*motion, cost, self.number(distances[0])],
                lambda _, values: self._search_neighbors(pixels, place, top, values),
            )
            self._store_pair([down, right], found)

    def _store_pair(self, motion: list[Value], found: list[Value]) -> None:
        for each, pointer in zip(motion, found, strict=True):
            self.store(each, pointer, 8)

    def _search_neighbors(
        self, pixels: list[Value], place: Value, top: Value, values: list[Value]
    ) -> list[Value]:
        """Compare the eight neighbors at a distance: from motion, cost and distance, the new ones."""
        build, (*motion, cost, distance), limit = self.build, values, self.steps * self.range
        offsets = self.minus(self.number(0), distance), self.number(0), distance
        choices = [
            [self.clamped(self.add(each, offset), -limit, limit) for offset in offsets] for each in motion
        ]
        rows, columns = ([self.split(each, self.steps, self.range) for each in axis] for axis in choices)
        first = rows[0][0]
        windows = [self.window(index) for index in range(3)]
        for (x, step), window in zip(columns, windows, strict=True):
            self.gather_window(place, first, x, step, window)
        best = build.shl(cost, self.number(_NEIGHBOR_BITS))
        for number, ((y, step), window) in enumerate(product(rows, windows)):
            if number != _CENTER:
                start = self.at(window, self.times(self.minus(y, first), self.block))
                moved = self.moved(start, step, self.add(top, y))
                found = self.add(self.difference(pixels, moved), self.penalty)
                best = self.least(best, self.add(self.times(found, 2**_NEIGHBOR_BITS), number + 1))
        cost, stays, *places = self._candidate(best, _NEIGHBOR_BITS, 3)
        for axis, (place, (before, same, after)) in enumerate(zip(places, choices, strict=True)):
            offset = (
                build.icmp_signed("==", place, self.number(0)),
                build.icmp_signed("==", place, self.number(2)),
            )
            moved = build.select(offset[0], before, build.select(offset[1], after, same))
            motion[axis] = build.select(stays, same, moved)
        return [*motion, cost, build.lshr(distance, self.number(1))]

    def _candidate(self, best: Value, bits: int, side: int) -> tuple[Value, Value, Value, Value]:
        """Split the best one into its cost, whether it is none of a square of candidates, row and column."""
        number = self.build.and_(best, self.number(2**bits - 1))
        stays = self.build.icmp_signed("==", number, self.number(0))
        place = self.minus(number, 1)
        row = self.build.udiv(place, self.number(side))
        return self.build.lshr(best, self.number(bits)), stays, row, self.minus(place, self.times(row, side))

    # Whole pixels

    def search_whole_pixels(self, down: Value) -> None:
        """Find the best candidate of each block in a row of blocks."""
        frame = self.indexed(self.frame, (self.add(down, 1), self.pitch))
        previous = self.indexed(self.previous, (self.add(down, self.range + 1), self.pitch))
        side = 2 * self.range + 1
        with self.loop(self.number(0), self.across, self.line.count) as x:
            rows = [
                self._columns(self.load(self.indexed(frame, (row, self.pitch), (x, 1)), self.line))
                for row in range(self.block)
            ]
            place = self.at(previous, x)
            corner = self.at(place, self.times(self.pitch, -self.range), -self.range)
            best = self._costs(rows, place)
            number = self.each(best.type, (self.penalty << _NUMBER_BITS) + 1)

            def candidate(pointer: Value, values: list[Value]) -> list[Value]:
                best, number = values
                cost = self.build.add(self._costs(rows, pointer), number)
                return [self.binary("umin", best, cost), self.build.add(number, self.each(number.type, 1))]

            def row_of_candidates(row: Value, values: list[Value]) -> list[Value]:
                pointer = self.indexed(corner, (row, self.pitch))
                return self.repeat(
                    side, values, lambda turn, values: candidate(self.at(pointer, turn), values)
                )

            self.store(best, self.at(self.best, x))
            # All others cost at least the penalty. Where all blocks have as little without motion, they stay.
            limit = self.each(best.type, self.penalty << _NUMBER_BITS)
            may_move = self.any(self.build.icmp_unsigned(">", best, limit))
            with self.build.if_then(may_move):
                best, _ = self.repeat(side, [best, number], row_of_candidates)
                self.store(best, self.at(self.best, x))

    def _costs(self, rows: list[list[Value]], pointer: Value) -> Value:
        """The differences of blocks from those at a pointer, above the bits of the number."""
        build = self.build
        sums: list[Value] = []
        for row, columns in enumerate(rows):
            other = self.load(self.indexed(pointer, (row, self.pitch)), self.line)
            found = [
                self.instructions.distances(self, *pair)
                for pair in zip(columns, self._columns(other), strict=True)
            ]
            sums = [build.add(*pair) for pair in zip(sums, found, strict=True)] if sums else found
        total, kind = sums[0], sums[0].type
        if self.block == 4:
            total = build.or_(total, build.shl(sums[1], self.each(kind, 32)))
        if self.block == 16:
            total = build.add(total, self.pick(total, [lane ^ 1 for lane in range(kind.count)]))
        costs = build.bitcast(total, vector(INT, 2 * kind.count))
        return build.shl(costs, self.each(costs.type, _NUMBER_BITS))

    def _columns(self, pixels: Value) -> list[Value]:
        """The pixels in groups of 8 columns that belong to one block: if it has but 4, others are 0."""
        if self.block > 4:
            return [pixels]
        pairs = range(pixels.type.count // 8)
        masks = ([255] * 4 + [0] * 4, [0] * 4 + [255] * 4)
        return [self.build.and_(pixels, self.lanes(BYTE, [b for _ in pairs for b in mask])) for mask in masks]

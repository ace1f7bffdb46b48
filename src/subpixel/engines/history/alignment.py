"""Emits `align`: `subpixel.ops.block_motion.align`, the motion of blocks and what it leaves of each pixel.

Rows of blocks are computed in bands, so that what a band needs stays in the cache: its rows of the frame and,
for each step of a pixel, those of the previous frame, interpolated along rows. All rows are continued beyond
both edges. So candidates on whole pixels are compared for many blocks at once, and those in between need only
be interpolated along columns.

A cost and the number of its candidate share an integer, so that the smallest is the best, and the first one
of equal candidates.
"""

from functools import partial, reduce
from itertools import product

from subpixel.engines.assembler import BYTE, INT, LONG, POINTER, SHORT, Value, vector
from subpixel.engines.history.band import BAND_PX, NUMBER_BITS, Band
from subpixel.engines.history.vectors import TAPS
from subpixel.engines.native.instructions import InstructionSet
from subpixel.ops.block_motion import FIT_FLOOR_HALVES, PLAIN_RANGE, search_steps

ALIGN = {
    "frame": POINTER,  # uint8
    "frame_row": LONG,  # from row to row, in bytes
    "previous": POINTER,
    "previous_row": LONG,
    "height": LONG,
    "width": LONG,
    "rows": LONG,  # of blocks
    "columns": LONG,
    "first": LONG,  # rows of blocks to compute
    "stop": LONG,
    "fit_limit": LONG,
    "motion": POINTER,  # LONG for each block: first all rows, then all columns
    "fits": POINTER,  # a byte for each block
    "same": POINTER,  # likewise: whether it equals the one before
    "varied": POINTER,  # likewise: whether its samples differ by more than `PLAIN_RANGE`
    "detail": POINTER,  # SHORT; rows and columns of whole blocks, and columns of whole vectors
    "residual": POINTER,  # likewise
    "out_row": LONG,  # of both
    "pitch": LONG,  # from row to row in the working memory: see `band.pitch`
    "working": POINTER,  # `band.working_bytes`
}

_NEIGHBOR_BITS, _CENTER = 4, 4
"""Bits for the number of a neighbor; the place among the neighbors, row by row, of what they surround."""


def align(
    instructions: InstructionSet, steps: int, block_px: int, range_px: int, *, triple: str = ""
) -> Value:
    """Emit the function whose arguments are `ALIGN`; return its module."""
    code = _Alignment(instructions, steps, block_px, range_px, triple)
    given, band = code.given, BAND_PX // block_px
    with code.loop(given["first"], given["stop"], band) as start:
        code.begin_band(start, code.least(code.add(start, band), given["stop"]))
        with code.loop(start, code.least(code.add(start, band), given["stop"])) as row:
            down = code.times(code.minus(row, start), block_px)
            code.search_whole_pixels(down)
            code.write_detail(row, down)
            with code.loop(code.number(0), given["columns"]) as column:
                code.finish_block(row, column, down)
    code.succeed()
    return code.module


class _Alignment(Band):
    """The code for single blocks."""

    def __init__(
        self, instructions: InstructionSet, steps: int, block_px: int, range_px: int, triple: str
    ) -> None:
        super().__init__("align", ALIGN, instructions, (steps, block_px, range_px), triple)
        # The pixels of a block that are compared at once; a block is one or more such pieces.
        self.piece = vector(BYTE, min(block_px**2, instructions.line))
        self.pieces = block_px**2 // self.piece.count
        self.pixels = self.local("pixels", block_px**2)
        self.last_row = self.minus(self.times(self.given["rows"], block_px), 1)

    def finish_block(self, row: Value, column: Value, down: Value) -> None:
        """Search in between pixels, and write what there is to say about a block."""
        given = self.given
        top, right = (self.times(each, self.block) for each in (row, column))
        self._gather(
            self.indexed(self.frame, (self.add(down, 1), self.pitch), (right, 1)), self.pixels, self.block
        )
        pixels = [self._piece(self.pixels, piece) for piece in range(self.pieces)]
        place = self.indexed(self.previous, (self.add(down, self.range + 1), self.pitch), (right, 1))
        index = self.add(self.times(row, given["columns"]), column)
        blocks = self.times(given["rows"], given["columns"])
        found = [self.indexed(given["motion"], (offset, 8)) for offset in (index, self.add(index, blocks))]
        self._search(pixels, place, top, column, found)
        motion = [self.load(pointer, LONG, 8) for pointer in found]

        (y, y_step), (x, x_step) = (self.split(each, self.steps, self.range) for each in motion)
        window = self._window(0)
        self._gather_window(place, y, x, x_step, window)
        moved = self._moved(window, y_step, self.add(top, y))
        for piece, values in enumerate(moved):
            self.store(values, self.at(window, piece * self.piece.count))
        self._write_residual(window, top, right)
        difference = self._difference(pixels, moved)
        # A block that has not changed stays: other candidates cost more.
        changes = reduce(self.build.or_, motion, difference)
        same = self.build.icmp_signed("==", changes, self.number(0))
        answers = {"fits": self._fits(difference, right), "same": same, "varied": self._varied(pixels)}
        for name, value in answers.items():
            self.store(self.build.zext(value, BYTE), self.at(given[name], index))

    def _search(
        self, pixels: list[Value], place: Value, top: Value, column: Value, found: list[Value]
    ) -> None:
        """Find the motion of a block, whose place in the previous frame is given, and store it."""
        build, side = self.build, 2 * self.range + 1
        best = self.long(self.load(self.indexed(self.best, (column, self.block)), INT, 4))
        cost, stays, y, x = self._candidate(best, NUMBER_BITS, side)
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
        windows = [self._window(index) for index in range(3)]
        for (x, step), window in zip(columns, windows, strict=True):
            self._gather_window(place, first, x, step, window)
        best = build.shl(cost, self.number(_NEIGHBOR_BITS))
        for number, ((y, step), window) in enumerate(product(rows, windows)):
            if number != _CENTER:
                start = self.at(window, self.times(self.minus(y, first), self.block))
                moved = self._moved(start, step, self.add(top, y))
                found = self.add(self._difference(pixels, moved), self.penalty)
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

    # Pixels of a block

    def _window(self, index: int) -> Value:
        """Memory for columns of a block, with the rows that its neighbors need."""
        return self.local(f"window {index}", self.block * (self.block + TAPS))

    def _gather_window(self, place: Value, y: Value, x: Value, step: Value, window: Value) -> None:
        """Copy columns at a step of a pixel, from the row above ``y`` on."""
        source = self.indexed(place, (step, self.plane_bytes), (self.minus(y, 1), self.pitch), (x, 1))
        self._gather(source, window, self.block + TAPS)

    def _gather(self, source: Value, target: Value, rows: int) -> None:
        """Copy so many rows of a block, without gaps."""
        kind = vector(BYTE, self.block)
        for row in range(rows):
            pixels = self.load(self.indexed(source, (row, self.pitch)), kind)
            self.store(pixels, self.at(target, row * self.block))

    def _piece(self, pointer: Value, piece: int) -> Value:
        return self.load(self.at(pointer, piece * self.piece.count), self.piece)

    def _moved(self, window: Value, step: Value, first_row: Value) -> list[Value]:
        """Interpolate a block along columns. Beyond the first and the last row of the frame are no steps."""
        taps, result = self.taps_at(step, self.piece.count // 2), []
        for piece in range(self.pieces):
            windows = [self._piece(self.at(window, tap * self.block), piece) for tap in range(TAPS)]
            rows = [(piece * self.piece.count + lane) // self.block for lane in range(self.piece.count)]
            inside = self.inside(first_row, self.last_row, rows)
            result.append(self.build.select(inside, self.interpolated(windows, taps), windows[1]))
        return result

    def _difference(self, pixels: list[Value], others: list[Value]) -> Value:
        """The sum of absolute differences of a block."""
        sums = [self.instructions.distances(self, *pair) for pair in zip(pixels, others, strict=True)]
        total = sums[0]
        for each in sums[1:]:
            total = self.build.add(total, each)
        return self.total(total)

    def _write_residual(self, moved: Value, top: Value, right: Value) -> None:
        kind, given = vector(BYTE, self.block), self.given
        out = self.indexed(given["residual"], (top, given["out_row"]), (right, 2))
        for row in range(self.block):
            pixels, others = (
                self.build.zext(self.load(self.at(each, row * self.block), kind), vector(SHORT, self.block))
                for each in (self.pixels, moved)
            )
            self.store(self.build.sub(pixels, others), self.indexed(out, (row, given["out_row"])))

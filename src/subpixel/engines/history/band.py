"""Emits what is done for many blocks at once: the rows that they need, whole pixels, and detail."""

from collections.abc import Mapping

from subpixel.engines.assembler import BYTE, INT, SHORT, Value, vector
from subpixel.engines.history.vectors import TAPS, BlockAssembler
from subpixel.engines.native.instructions import InstructionSet
from subpixel.ops.block_motion import STAY_DENOMINATOR, STAY_NUMERATOR

MARGIN = 64
"""Bytes to the left and to the right of rows in the working memory."""

BAND_PX = 64
"""Rows of a band."""

_FRAME_ROWS = BAND_PX + 2

NUMBER_BITS = 16
"""Bits for the number of a candidate on whole pixels; a cost takes no more."""


def pitch(columns: int, block_px: int) -> int:
    """Return the bytes from row to row in the working memory for so many columns of blocks.

    It is an odd multiple of a cache line, so that the same column of many rows can be in the cache at once.
    """
    across = columns * block_px
    return (2 * MARGIN + across + -across % MARGIN) | MARGIN


def working_bytes(pitch_bytes: int, steps: int, range_px: int) -> int:
    """Return the size of the working memory."""
    return (steps * _searched_rows(range_px) + _FRAME_ROWS + 3) * pitch_bytes


def _searched_rows(range_px: int) -> int:
    """Rows of the previous frame that a band needs."""
    return BAND_PX + 2 * range_px + TAPS


class Band(BlockAssembler):
    """A function over bands of rows of blocks; ``down`` is the place of a block's first row in the band."""

    def __init__(
        self,
        name: str,
        arguments: Mapping[str, Value],
        instructions: InstructionSet,
        sizes: tuple[int, int, int],
        triple: str,
    ) -> None:
        """Begin the function; ``sizes`` are the steps in a pixel, ``block_px`` and ``range_px``."""
        self.steps, self.block, self.range = sizes
        super().__init__(name, arguments, instructions, self.steps, triple)
        self.penalty = STAY_NUMERATOR * self.block**2 // STAY_DENOMINATOR
        self.line = vector(BYTE, instructions.line)
        given, self.pitch = self.given, self.given["pitch"]
        self.across = self.times(given["columns"], self.block)
        memory = self.at(given["working"], MARGIN)
        self.plane_bytes = self.times(self.pitch, _searched_rows(self.range))
        # For each step of a pixel, rows from ``range + 1`` above the band on.
        self.previous, memory = memory, self.at(memory, self.times(self.plane_bytes, self.steps))
        # Rows from the one above the band on.
        self.frame, memory = memory, self.at(memory, self.times(self.pitch, _FRAME_ROWS))
        # For each 4 columns the best candidate, and for each 2 the sum of absolute detail: INT.
        self.best, self.details = memory, self.at(memory, self.pitch)

    # The rows of a band

    def begin_band(self, start: Value, stop: Value) -> None:
        """Copy and interpolate what rows of blocks need."""
        top, bottom = (self.times(row, self.block) for row in (start, stop))
        self._copy_rows("frame", self.frame, self.minus(top, 1), self.add(bottom, 1))
        first, end = self.minus(top, self.range + 1), self.add(bottom, self.range + TAPS - 1)
        self._copy_rows("previous", self.previous, first, end)
        with self.loop(self.number(0), self.minus(end, first)) as row:
            self._interpolate(self.at(self.previous, self.times(self.pitch, row)))

    def _copy_rows(self, name: str, target: Value, first: Value, stop: Value) -> None:
        given = self.given
        with self.loop(first, stop) as row:
            inside = self.clamped(row, 0, self.minus(given["height"], 1))
            source = self.indexed(given[name], (inside, given[f"{name}_row"]))
            to = self.indexed(target, (self.minus(row, first), self.pitch))
            self.copy(to, source, given["width"])
            self.fill(self.load(to, BYTE), self.at(to, -MARGIN), MARGIN)
            end = self.at(to, given["width"])
            self.fill(self.load(self.at(end, -1), BYTE), end, MARGIN)

    def _interpolate(self, row: Value) -> None:
        """Interpolate a row of whole pixels at the other steps. Beyond its ends there are no steps."""
        with self.loop(self.number(0), self.across, self.line.count) as x:
            place = self.at(row, x)
            windows = [self.load(self.at(place, tap - 1), self.line) for tap in range(TAPS)]
            for step in range(1, self.steps):
                samples = self.interpolated(windows, self.constant_taps(step, self.line.count // 2))
                self.store(samples, self.at(place, self.times(self.plane_bytes, step)))
        ends = ((self.at(row, -MARGIN), row), (self.at(row, self.minus(self.across, 1)),) * 2)
        for step in range(1, self.steps):
            for start, pixel in ends:
                self.fill(self.load(pixel, BYTE), self.at(start, self.times(self.plane_bytes, step)), MARGIN)

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
            number = self.each(best.type, (self.penalty << NUMBER_BITS) + 1)

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
            limit = self.each(best.type, self.penalty << NUMBER_BITS)
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
        return build.shl(costs, self.each(costs.type, NUMBER_BITS))

    def _columns(self, pixels: Value) -> list[Value]:
        """The pixels in groups of 8 columns that belong to one block: if it has but 4, others are 0."""
        if self.block > 4:
            return [pixels]
        pairs = range(pixels.type.count // 8)
        masks = ([255] * 4 + [0] * 4, [0] * 4 + [255] * 4)
        return [self.build.and_(pixels, self.lanes(BYTE, [b for _ in pairs for b in mask])) for mask in masks]

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

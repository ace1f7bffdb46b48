"""What the programs share: arguments, interpolation between samples, and the edges of pictures."""

import struct
from collections.abc import Mapping, Sequence

from subpixel.engines.assembler import BYTE, INT, LONG, SHORT, Value, vector
from subpixel.engines.history.arguments import ArgumentAssembler
from subpixel.engines.native.instructions import InstructionSet
from subpixel.ops.block_motion import TAP_BITS, kernel_taps

QUARTERS = (0, 0), (0, 1), (1, 0), (1, 1)
"""Rows and columns of a block's quarters, row by row."""

TAPS = 4
"""Samples that one in between is interpolated from: the one before, two at the place, and the one after."""

_BELOW = 32
"""8-bit levels, more than a sum of products can be below 0: sums are shifted as unsigned 16-bit integers."""

_TAPS_BYTES = 4 * TAPS


class BlockAssembler(ArgumentAssembler):
    """An assembler of a function over blocks."""

    def __init__(
        self, name: str, arguments: Mapping[str, Value], instructions: InstructionSet, steps: int, triple: str
    ) -> None:
        """Begin the function; ``steps`` are those of motion in a sample of what is interpolated."""
        super().__init__(name, arguments, triple)
        self.instructions, self.steps = instructions, steps
        self.taps: list[list[int]] = kernel_taps(steps).tolist()
        # Each tap twice, so that 32 bits of memory fill a vector of 16-bit integers.
        pairs = [tap for row in self.taps for tap in row for _ in range(2)]
        self._table = self.constant("taps", struct.pack(f"<{len(pairs)}h", *pairs))

    # Numbers

    def total(self, values: Value) -> Value:
        """The sum of a vector's lanes."""
        kind = values.type
        name = f"llvm.vector.reduce.add.v{kind.count}i{kind.element.width}"
        return self.call(name, kind.element, values)

    def extreme(self, name: str, values: Value) -> Value:
        """The largest ("umax") or smallest ("umin") of a vector's lanes."""
        kind = values.type
        intrinsic = f"llvm.vector.reduce.{name}.v{kind.count}i{kind.element.width}"
        return self.call(intrinsic, kind.element, values)

    # Motion

    def motion_pointers(self, name: str, row: Value, column: Value, parts: int = 1) -> list[Value]:
        """Pointers to the two numbers of motion in an argument: LONG, first all rows, then all columns.

        Arguments "rows" and "columns" are the numbers of blocks, which have so many parts along each axis;
        ``row`` and ``column`` count parts.
        """
        rows, columns = (self.times(self.given[each], parts) for each in ("rows", "columns"))
        index = self.add(self.times(row, columns), column)
        places = index, self.add(index, self.times(rows, columns))
        return [self.indexed(self.given[name], (place, 8)) for place in places]

    def quarter_pointers(self, row: Value, column: Value, down: Value, right: Value) -> list[Value]:
        """Those of a quarter of a block, in "motion"; ``down`` and ``right`` are 0 or 1."""
        y, x = self.add(self.times(row, 2), down), self.add(self.times(column, 2), right)
        return self.motion_pointers("motion", y, x, 2)

    # Interpolation

    def split(self, motion: Value, steps: int, most: int) -> tuple[Value, Value]:
        """Split motion, of at most so many samples, into whole ones, rounded down, and steps of one."""
        shifted = self.add(motion, steps * most)
        whole = self.build.udiv(shifted, self.number(steps))
        return self.minus(whole, most), self.minus(shifted, self.times(whole, steps))

    def taps_at(self, step: Value, lanes: int) -> list[Value]:
        """The taps at a step, each in all lanes of 16-bit integers."""
        pointer = self.at(self._table, self.times(step, _TAPS_BYTES))
        pairs = (self.load(self.at(pointer, 4 * tap), INT, 4) for tap in range(TAPS))
        return [self.build.bitcast(self.all(pair, lanes // 2), vector(SHORT, lanes)) for pair in pairs]

    def constant_taps(self, step: int, lanes: int) -> list[Value]:
        """The taps at a step that is known."""
        return [self.each(vector(SHORT, lanes), tap) for tap in self.taps[step]]

    def interpolated(self, windows: Sequence[Value], taps: Sequence[Value]) -> Value:
        """Interpolate bytes from the samples at the four taps: exactly `ops.block_motion.between_samples`."""
        build, (kind, sums) = self.build, (windows[0].type, taps[0].type)
        bias = 2 ** (TAP_BITS - 1) + (_BELOW << TAP_BITS)
        halves = []
        for samples in zip(*(self.even_and_odd(window) for window in windows), strict=True):
            total = self.each(sums, bias)
            for sample, tap in zip(samples, taps, strict=True):
                total = build.add(total, build.mul(sample, tap))
            shifted = build.lshr(total, self.each(sums, TAP_BITS))
            positive = self.binary("usub.sat", shifted, self.each(sums, _BELOW))
            halves.append(self.binary("umin", positive, self.each(sums, 255)))
        even, odd = halves
        return build.bitcast(build.or_(even, build.shl(odd, self.each(sums, 8))), kind)

    def even_and_odd(self, samples: Value) -> list[Value]:
        """Split bytes into two vectors of 16-bit integers, without moving any."""
        kind = vector(SHORT, samples.type.count // 2)
        pairs = self.build.bitcast(samples, kind)
        return [self.build.and_(pairs, self.each(kind, 255)), self.build.lshr(pairs, self.each(kind, 8))]

    # Edges and memory

    def inside(self, first: Value, count: Value, places: Sequence[int]) -> Value:
        """For each lane whether the line ``first`` plus its place, below 64, is one of 0 to ``count - 1``."""
        kind = vector(BYTE, len(places))
        begin, end = (
            self.clamped(line, 0, 64)
            for line in (self.minus(self.number(0), first), self.minus(count, first))
        )
        start, length = (
            self.all(self.build.trunc(line, BYTE), kind.count) for line in (begin, self.minus(end, begin))
        )
        return self.build.icmp_unsigned("<", self.build.sub(self.lanes(BYTE, places), start), length)

    def long(self, value: Value) -> Value:
        """An unsigned integer as a size."""
        return value if value.type is LONG else self.build.zext(value, LONG)

"""Emits `pixel_masks`: which pixels are open to the correction, and which stay as they were.

Both are known for blocks. Pixels are closed, too, where the network without history has no influence: where
8-bit samples are flat (`subpixel.engines.flat`), and deep ones smooth (`subpixel.engines.smooth`). A row of
blocks is copied into working memory, with the rows around it, and continued beyond its ends.
"""

from functools import reduce
from itertools import product

import numpy as np

from subpixel.engines import smooth
from subpixel.engines.assembler import BYTE, FLOAT, INT, LONG, POINTER, SHORT, Value, integer, vector
from subpixel.engines.color import LANES
from subpixel.engines.history.arguments import ArgumentAssembler
from subpixel.engines.native.instructions import InstructionSet
from subpixel.models.quantization import WHITE
from subpixel.models.spec import FLAT_RADIUS_PX

PIXEL_MASKS = {
    "plane": POINTER,  # the frame: uint8, uint16 or float32
    "plane_row": LONG,  # from row to row, in bytes
    "height": LONG,
    "width": LONG,
    "explained": POINTER,  # a byte for each block: 1 where motion explains it, otherwise 0
    "stays": POINTER,  # likewise: where nothing changed
    "columns": LONG,  # of blocks
    "first": LONG,  # rows of blocks to compute
    "stop": LONG,
    "opened": POINTER,  # to fill: a byte for each pixel, 1 or 0
    "still": POINTER,  # likewise
    "mask_row": LONG,  # of both, a multiple of `FLAT_LANES`
    "pitch": LONG,  # from row to row in the working memory: see `pitch`
    "working": POINTER,  # `working_bytes`
}

FLAT_LANES = 64
"""Bytes that are compared at once. LLVM splits vectors of them into those of the processor."""

_MARGIN = 64
"""Bytes to the left and to the right of rows in the working memory."""

_RADIUS = FLAT_RADIUS_PX
"""Rows and columns around a pixel that are needed. Bends of its neighbors need those of two, too."""


def pitch(width: int, sample_bytes: int) -> int:
    """Return the bytes from row to row in the working memory; a row is also of floats for deep samples."""
    return 2 * _MARGIN + (width + -width % FLAT_LANES) * (1 if sample_bytes == 1 else 4)


def working_bytes(pitch_bytes: int, block_px: int) -> int:
    """Return the size of the working memory."""
    return (block_px + 2 * _RADIUS + 3) * pitch_bytes


def pixel_masks(instructions: InstructionSet, block_px: int, sample_bytes: int, *, triple: str = "") -> Value:
    """Emit the function whose arguments are `PIXEL_MASKS`; return its module."""
    code = _Masks(block_px, sample_bytes, triple)
    given = code.given
    with code.loop(given["first"], given["stop"]) as row:
        top = code.times(row, block_px)
        code.copy_rows(code.minus(top, _RADIUS))
        code.spread_blocks(row)
        rows = code.least(code.number(block_px), code.minus(given["height"], top))
        with code.loop(code.number(0), rows) as down:
            code.write_row(down, code.add(top, down))
    code.succeed()
    return code.module


class _Masks(ArgumentAssembler):
    def __init__(self, block_px: int, sample_bytes: int, triple: str) -> None:
        super().__init__("pixel_masks", PIXEL_MASKS, triple)
        self.block, self.sample_bytes = block_px, sample_bytes
        pitch, memory = self.given["pitch"], self.at(self.given["working"], _MARGIN)
        self.rows, memory = memory, self.at(memory, self.times(pitch, block_px + 2 * _RADIUS))
        self.bends, self.explained, self.stays = (self.at(memory, self.times(pitch, n)) for n in range(3))

    # A row of blocks

    def copy_rows(self, first: Value) -> None:
        """Copy rows of the frame from ``first`` on, which may be outside, as may be the last ones."""
        given, size = self.given, self.sample_bytes
        with self.loop(self.number(0), self.number(self.block + 2 * _RADIUS)) as row:
            inside = self.clamped(self.add(first, row), 0, self.minus(given["height"], 1))
            to = self.indexed(self.rows, (row, given["pitch"]))
            width = self.times(given["width"], size)
            self.copy(to, self.indexed(given["plane"], (inside, given["plane_row"])), width)
            self._continue(to, size, _RADIUS)

    def _continue(self, row: Value, size: int, count: int) -> None:
        """Repeat the first and the last element of a row in working memory beyond its ends."""
        kind, end = integer(8 * size), self.indexed(row, (self.given["width"], size))
        for element, start in ((row, self.at(row, -count * size)), (self.at(end, -size), end)):
            self.store(self.all(self.load(element, kind), count), start)

    def spread_blocks(self, row: Value) -> None:
        """Repeat what is known for a row of blocks for each column of pixels."""
        given = self.given
        with self.loop(self.number(0), given["columns"]) as column:
            index = self.add(self.times(row, given["columns"]), column)
            for name, to in (("explained", self.explained), ("stays", self.stays)):
                value = self.load(self.at(given[name], index), BYTE)
                self.fill(value, self.indexed(to, (column, self.block)), self.block)

    # A row of pixels

    def write_row(self, down: Value, y: Value) -> None:
        """Write a row of both masks; it is the row ``down`` of its block."""
        given, is_deep = self.given, self.sample_bytes > 1
        middle = self.indexed(self.rows, (self.add(down, _RADIUS), given["pitch"]))
        if is_deep:
            self._write_bends(middle)
        lanes, closed = (LANES, self._smooth) if is_deep else (FLAT_LANES, self._flat)
        bytes_ = vector(BYTE, lanes)
        with self.loop(self.number(0), given["width"], lanes) as x:
            explained = self.load(self.at(self.explained, x), bytes_)
            opened = self.build.select(closed(middle, x), self.each(bytes_, 0), explained)
            for name, mask in (("opened", opened), ("still", self.load(self.at(self.stays, x), bytes_))):
                self.store(mask, self.indexed(given[name], (y, given["mask_row"]), (x, 1)))

    def _flat(self, middle: Value, x: Value) -> Value:
        """Whether bytes equal all those around them."""
        kind, near = vector(BYTE, FLAT_LANES), range(-_RADIUS, _RADIUS + 1)
        place = self.at(middle, x)
        samples = self.load(place, kind)
        others = (
            self.load(self.indexed(place, (down, self.given["pitch"]), (right, 1)), kind)
            for down, right in product(near, repeat=2)
            if down or right
        )
        differences = reduce(self.build.or_, (self.build.xor(samples, other) for other in others))
        return self.build.icmp_unsigned("==", differences, self.each(kind, 0))

    def _write_bends(self, middle: Value) -> None:
        """Write the largest bend of each pixel, the one above and the one below."""
        with self.loop(self.number(0), self.given["width"], LANES) as x:
            column = self.indexed(middle, (x, self.sample_bytes))
            bends = (self._bend(self.indexed(column, (down, self.given["pitch"]))) for down in (-1, 0, 1))
            self.store(reduce(self._larger, bends), self.indexed(self.bends, (x, 4)))
        self._continue(self.bends, 4, 1)

    def _bend(self, pointer: Value) -> Value:
        """The larger second difference, along the row and the column, as the bits of a float."""
        build, pitch, size = self.build, self.given["pitch"], self.sample_bytes
        middle = self._samples(pointer)
        bends = []
        for offsets in ((-size, size), (self.times(pitch, -1), pitch)):
            first, second = (
                build.fsub(self._samples(self.at(pointer, offset)), middle) for offset in offsets
            )
            bits = build.bitcast(build.fadd(first, second), vector(INT, LANES))
            bends.append(build.and_(bits, self.each(bits.type, 0x7FFFFFFF)))
        return self._larger(*bends)

    def _samples(self, pointer: Value) -> Value:
        """Samples as floats."""
        floats = vector(FLOAT, LANES)
        if self.sample_bytes == 4:
            return self.load(pointer, floats)
        ints = self.build.zext(self.load(pointer, vector(SHORT, LANES)), vector(INT, LANES))
        return self.build.sitofp(ints, floats)

    def _larger(self, one: Value, other: Value) -> Value:
        """The larger of positive floats, by their bits, which are in the same order."""
        return self.binary("smax", one, other)

    def _smooth(self, _: Value, x: Value) -> Value:
        """Whether no pixel around bends enough for the network without history to have any weight."""
        place, kind = self.indexed(self.bends, (x, 4)), vector(INT, LANES)
        bend = reduce(self._larger, (self.load(self.at(place, 4 * right), kind) for right in (-1, 0, 1)))
        most, _factor = smooth.weight_constants(WHITE["uint16" if self.sample_bytes == 2 else "float32"])
        return self.build.icmp_signed("<=", bend, self.each(kind, int(most.view(np.int32))))

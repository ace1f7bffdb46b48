"""Emits `moved_inputs`: the inputs of the correction, from what motion brings from the previous frame.

Each row of blocks is moved into working memory, and then compared with the new result and written to planes,
so that both have whole vectors. Blocks are read in place, or their quarters if these move apart. Only where
motion points out of the picture, the continued picture is copied first.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from typing import NamedTuple

from subpixel.engines.assembler import BYTE, LONG, POINTER, SHORT, Value, vector
from subpixel.engines.color import LANES
from subpixel.engines.history.vectors import QUARTERS, TAPS, BlockAssembler
from subpixel.engines.native.instructions import InstructionSet
from subpixel.models.history import ZERO
from subpixel.models.spec import MAX_RANGE_PX

MOVED_INPUTS = {
    "result": POINTER,  # the previous one, uint8
    "result_row": LONG,  # from row to row, in bytes
    "base": POINTER,  # the result without history, uint8
    "base_row": LONG,
    "hidden": POINTER,  # the planes of the previous state, uint8
    "hidden_row": LONG,
    "hidden_plane": LONG,  # from plane to plane, in bytes
    "state": LONG,  # number of these planes
    "detail": POINTER,  # SHORT, from `align`
    "residual": POINTER,
    "level_row": LONG,  # of both
    "opened": POINTER,  # a byte for each LR pixel
    "opened_row": LONG,
    "motion": POINTER,  # of the blocks' quarters, from `align`
    "rows": LONG,  # of blocks
    "columns": LONG,
    "first": LONG,  # rows of blocks to compute
    "stop": LONG,
    "height": LONG,  # in LR pixels
    "width": LONG,
    "across": LONG,  # columns to write: at least `LANES`; ``base`` and ``opened`` have them, too
    "planes": POINTER,  # uint8
    "plane_row": LONG,
    "plane": LONG,
    "pitch": LONG,  # from row to row in the working memory: see `pitch`
    "working": POINTER,  # `working_bytes`
}

_WIDEST_PX = 64
"""Columns of the largest block, in pixels of the result."""

_BYTES = vector(BYTE, LANES)


def pitch(columns: int, scale: int, block_px: int) -> int:
    """Return the bytes from row to row in the working memory for so many columns of blocks."""
    across = scale * columns * block_px + _WIDEST_PX
    return across + -across % 64


def working_bytes(pitch_bytes: int, scale: int, block_px: int) -> int:
    """Return the size of the working memory."""
    return scale * block_px * pitch_bytes


def moved_inputs(
    instructions: InstructionSet, scale: int, parts: int, block_px: int, *, triple: str = ""
) -> Value:
    """Emit the function whose arguments are `MOVED_INPUTS`; return its module."""
    code = _Moving(instructions, scale, parts, block_px, triple)
    given = code.given
    with code.loop(given["first"], given["stop"]) as row:
        code.move_result(row)
        code.write_differences(row)
        with code.loop(code.number(0), given["state"]) as channel:
            code.move_hidden(row, channel)
            code.write_hidden(row, channel)
    code.succeed()
    return code.module


class _Plane(NamedTuple):
    """Samples to move."""

    pointer: Value
    row_bytes: Value
    height: Value
    width: Value


class _Block(NamedTuple):
    """Samples of a block, and of what is around it: the pointer is to the first one of the block itself."""

    pointer: Value
    row_bytes: Value


class _Place(NamedTuple):
    """Where a block is along one axis: its first sample, and the step from it to the next one."""

    first: Value
    step: Value | None = None
    """None if there are no steps."""


class _Moving(BlockAssembler):
    def __init__(
        self, instructions: InstructionSet, scale: int, parts: int, block_px: int, triple: str
    ) -> None:
        super().__init__("moved_inputs", MOVED_INPUTS, instructions, parts, triple)
        self.scale, self.block = scale, block_px

    # Moving to working memory

    def move_result(self, row: Value) -> None:
        """Move the previous result to a row of blocks."""
        given, side = self.given, self.scale * self.block
        source = _Plane(
            *(given["result"], given["result_row"]),
            *(self.times(given[name], self.scale) for name in ("height", "width")),
        )

        def place(first: Value, motion: Value) -> _Place:
            whole, step = self.split(motion, self.steps, self.scale * MAX_RANGE_PX)
            return _Place(self.add(first, whole), step if self.steps > 1 else None)

        self._move_blocks(source, row, side, place)

    def move_hidden(self, row: Value, channel: Value) -> None:
        """Move a plane of the hidden state to a row of blocks, by whole pixels."""
        given, steps = self.given, self.scale * self.steps
        pointer = self.indexed(given["hidden"], (channel, given["hidden_plane"]))
        source = _Plane(pointer, *(given[name] for name in ("hidden_row", "height", "width")))

        def place(first: Value, motion: Value) -> _Place:
            whole, _ = self.split(self.add(motion, steps // 2), steps, MAX_RANGE_PX)
            return _Place(self.add(first, whole))

        self._move_blocks(source, row, self.block, place)

    def _move_blocks(
        self, source: _Plane, row: Value, side: int, place: Callable[[Value, Value], _Place]
    ) -> None:
        """Move the blocks of a row, whole or in quarters."""
        build, half = self.build, side // 2
        with self.loop(self.number(0), self.given["columns"]) as column:
            working = self.at(self.given["working"], self.times(column, side))
            top, left = (self.times(each, side) for each in (row, column))
            first, *others = (self._motion(row, column, *map(self.number, each)) for each in QUARTERS)
            differences = [build.xor(*pair) for other in others for pair in zip(first, other, strict=True)]
            divided = build.icmp_signed("!=", reduce(build.or_, differences), self.number(0))
            with build.if_else(divided, likely=False) as (apart, together):
                with apart, self.loop(self.number(0), self.number(len(QUARTERS))) as quarter:
                    # Its row and column, as in `QUARTERS`.
                    part = build.lshr(quarter, self.number(1)), build.and_(quarter, self.number(1))
                    motion = self._motion(row, column, *part)
                    down, right = (self.times(each, half) for each in part)
                    y, x = place(self.add(top, down), motion[0]), place(self.add(left, right), motion[1])
                    self._move(source, y, x, half, self.at(self._line(working, down), right))
                with together:
                    self._move(source, place(top, first[0]), place(left, first[1]), side, working)

    def _motion(self, row: Value, column: Value, down: Value, right: Value) -> list[Value]:
        return [self.load(pointer, LONG, 8) for pointer in self.quarter_pointers(row, column, down, right)]

    def _move(self, source: _Plane, y: _Place, x: _Place, side: int, target: Value) -> None:
        """Write a block or quarter, with what is next to it on the right up to a whole vector."""
        kind = vector(BYTE, max(LANES, 1 << (side - 1).bit_length()))
        block = self._read(source, y, x, side, kind)
        if x.step is None:
            self._copy(block, side, kind, target)
        else:
            block = self._along_rows(block, source, y, x, side, kind)
            self._along_columns(block, source, y, side, kind, target)

    def _read(self, source: _Plane, y: _Place, x: _Place, side: int, kind: Value) -> _Block:
        """Return a block in its plane, or in a copy if it reaches beyond the edges."""
        build, outside = self.build, self.boolean(False)
        for place, size, length in ((y, side, source.height), (x, kind.count, source.width)):
            before, after = self._around(place)
            first, end = self.minus(place.first, before), self.add(place.first, size, after)
            outside = build.or_(outside, build.icmp_signed("<", first, self.number(0)))
            outside = build.or_(outside, build.icmp_signed(">", end, length))
        pitch = kind.count + LANES
        window = self.local(f"window {side}", (side + TAPS) * pitch)
        with build.if_then(outside, likely=False):
            self._continue(source, y.first, x.first, side, kind.count, window)
        inside = self.indexed(source.pointer, (y.first, source.row_bytes), (x.first, 1))
        pointer = build.select(outside, self.at(window, pitch + 1), inside)
        return _Block(pointer, build.select(outside, self.number(pitch), source.row_bytes))

    def _around(self, place: _Place) -> tuple[Value, Value]:
        """How many samples before and after a block are needed."""
        if place.step is None:
            return self.number(0), self.number(0)
        stays = self.build.icmp_signed("==", place.step, self.number(0))
        before, after = (
            self.build.select(stays, self.number(0), self.number(count)) for count in (1, TAPS - 2)
        )
        return before, after

    def _continue(
        self, source: _Plane, top: Value, left: Value, rows: int, columns: int, window: Value
    ) -> None:
        """Copy a block and what is around it; beyond the edges of the plane are its edge samples."""
        last_row, last_column = (self.minus(side, 1) for side in (source.height, source.width))
        with self.loop(self.number(0), self.number(rows + TAPS - 1)) as row:
            y = self.clamped(self.add(top, row, -1), 0, last_row)
            line = self.indexed(source.pointer, (y, source.row_bytes))
            to = self.indexed(window, (row, columns + LANES))
            with self.loop(self.number(0), self.number(columns + TAPS - 1)) as column:
                x = self.clamped(self.add(left, column, -1), 0, last_column)
                self.store(self.load(self.at(line, x), BYTE), self.at(to, column))

    def _along_rows(
        self, block: _Block, source: _Plane, y: _Place, x: _Place, side: int, kind: Value
    ) -> _Block:
        """Interpolate a block along rows if it is between columns."""
        build = self.build
        between = self.local(f"between {side}", (side + TAPS) * kind.count)
        moves = build.icmp_signed("!=", x.step, self.number(0))
        before, after = self._around(y)
        with build.if_then(moves):
            taps = self.taps_at(x.step, kind.count // 2)
            inside = self.inside(x.first, self.minus(source.width, 1), range(kind.count))
            with self.loop(self.minus(self.number(0), before), self.add(after, side)) as row:
                place = self.indexed(block.pointer, (row, block.row_bytes))
                windows = [self.load(self.at(place, tap - 1), kind) for tap in range(TAPS)]
                samples = build.select(inside, self.interpolated(windows, taps), windows[1])
                self.store(samples, self.indexed(between, (self.add(row, 1), kind.count)))
        pointer = build.select(moves, self.at(between, kind.count), block.pointer)
        return _Block(pointer, build.select(moves, self.number(kind.count), block.row_bytes))

    def _along_columns(
        self, block: _Block, source: _Plane, y: _Place, side: int, kind: Value, target: Value
    ) -> None:
        """Write a block to working memory, interpolated along columns if it is between rows."""
        build = self.build
        with build.if_else(build.icmp_signed("==", y.step, self.number(0))) as (stays, moves):
            with stays:
                self._copy(block, side, kind, target)
            with moves, self.loop(self.number(0), self.number(side)) as row:
                inside = build.icmp_unsigned("<", self.add(y.first, row), self.minus(source.height, 1))
                taps = self.taps_at(build.select(inside, y.step, self.number(0)), kind.count // 2)
                places = (self.add(row, tap - 1) for tap in range(TAPS))
                windows = [
                    self.load(self.indexed(block.pointer, (place, block.row_bytes)), kind) for place in places
                ]
                self.store(self.interpolated(windows, taps), self._line(target, row))

    def _copy(self, block: _Block, side: int, kind: Value, target: Value) -> None:
        with self.loop(self.number(0), self.number(side)) as row:
            samples = self.load(self.indexed(block.pointer, (row, block.row_bytes)), kind)
            self.store(samples, self._line(target, row))

    def _line(self, pointer: Value, row: Value) -> Value:
        """A row of working memory."""
        return self.indexed(pointer, (row, self.given["pitch"]))

    # From working memory to planes

    def write_differences(self, row: Value) -> None:
        """Write the differences of the results, the detail and the residual of a row of blocks."""
        build, given, scale = self.build, self.given, self.scale
        kind, shorts = vector(BYTE, scale * LANES), vector(SHORT, LANES)
        sign = self.each(kind, 0x80)
        with self._pixels(row) as (y, down, x):
            opened = self._opened(y, x)
            for i in range(scale):
                moved = self._line(given["working"], self.add(self.times(down, scale), i))
                base = self.indexed(given["base"], (self.add(self.times(y, scale), i), given["base_row"]))
                signed = (
                    build.xor(self.load(self.indexed(line, (x, scale)), kind), sign) for line in (moved, base)
                )
                difference = build.xor(self.binary("ssub.sat", *signed), sign)
                for j in range(scale):
                    phase = self.pick(difference, range(j, kind.count, scale))
                    self._write(phase, opened, self.number(scale * i + j), y, x)
            for plane, name in enumerate(("detail", "residual"), scale**2):
                level = self.load(self.indexed(given[name], (y, given["level_row"]), (x, 2)), shorts)
                for bound, limit in (("smax", -ZERO), ("smin", 255 - ZERO)):
                    level = self.binary(bound, level, self.each(shorts, limit))
                level = build.trunc(build.add(level, self.each(shorts, ZERO)), _BYTES)
                self._write(level, opened, self.number(plane), y, x)

    def write_hidden(self, row: Value, channel: Value) -> None:
        """Write a channel of the hidden state in a row of blocks."""
        plane = self.add(channel, self.scale**2 + 2)
        with self._pixels(row) as (y, down, x):
            values = self.load(self.at(self._line(self.given["working"], down), x), _BYTES)
            self._write(values, self._opened(y, x), plane, y, x)

    @contextmanager
    def _pixels(self, row: Value) -> Iterator[tuple[Value, Value, Value]]:
        """Emit what follows for each vector of a row of blocks: its row, its row in the block, its column."""
        top = self.times(row, self.block)
        left = self.minus(self.given["height"], top)
        with self.loop(self.number(0), self.least(self.number(self.block), left)) as down:
            y = self.add(top, down)
            with self.each_vector(self.number(0), self.given["across"]) as x:
                yield y, down, x

    def _opened(self, y: Value, x: Value) -> Value:
        given = self.given
        opened = self.load(self.indexed(given["opened"], (y, given["opened_row"]), (x, 1)), _BYTES)
        return self.is_set(opened)

    def _write(self, values: Value, opened: Value, plane: Value, y: Value, x: Value) -> None:
        given = self.given
        to = self.indexed(given["planes"], (plane, given["plane"]), (y, given["plane_row"]), (x, 1))
        self.store(self.build.select(opened, values, self.each(_BYTES, ZERO)), to)

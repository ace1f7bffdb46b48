"""Code of the last layer with AMX: two rows, whose accumulators become rows of the large picture.

Blocks may begin before the result and end after it. What they give is then not the result's memory to take:
it goes through the memory ``edge``. All other samples are stored where they belong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from subpixel.engines.assembler import BYTE, FLOAT, INT, LONG, POINTER, Assembler, Step, Value, vector
from subpixel.engines.native.amx.instructions import LINE, SIDE, Amx
from subpixel.engines.native.amx.layer import ROWS_AT_ONCE, AmxLayer
from subpixel.engines.native.amx.rows import AT_ONCE, Rows
from subpixel.models.quantization import MAGIC, MAGIC_BITS

RESULT = {
    "picture0": POINTER,  # the two rows of the picture that are added, at the result's first column
    "picture1": POINTER,
    "floats": POINTER,  # memory for them as floats
    "floats_row": LONG,  # bytes from row to row
    "hr": POINTER,  # the large picture, at the result's first sample
    "hr_row": LONG,
    "hr_plane": LONG,  # from channel to channel
    "edge": POINTER,  # memory of `AmxLayer.edge_bytes`
    "width": LONG,  # of the result, in pixels of the small picture
    "wanted": LONG,  # rows of the small picture that are wanted: 1 or 2
}

AHEAD = 2
"""A line of the result is fetched so many blocks before it is written: a store that waits holds up others."""


def emit_last(module: Value, name: str, layer: AmxLayer, instructions: Amx, shift: int) -> Assembler:
    """Emit the function of the last layer, with `rows.PARAMETERS` and `RESULT`, into a module.

    The first block begins ``shift`` pixels before the result.
    """
    rows = LastRows(module, name, layer, instructions, RESULT)
    rows.emit(shift)
    return rows.code


@dataclass(frozen=True)
class Target:
    """Where the samples of one row of a block go."""

    first: Value
    line_bytes: Value
    """From one of `AmxLayer.lines` to the next."""


class LastRows(Rows):
    """Emits the function of the last layer."""

    def emit(self, shift: int) -> None:
        """Emit everything."""
        self._begin(shift)
        self.emit_blocks()
        self._copy_edges()
        self.code.succeed()

    def _begin(self, shift: int) -> None:
        """Prepare the result's places, the picture's rows and the constants."""
        code, layer, given = self.code, self.layer, self.code.given
        self._shift = shift
        self._width = code.add(given["width"], shift)
        self._is_wanted = [code.boolean(True), code.build.icmp_signed("==", given["wanted"], code.number(2))]
        self._whole_end = code.build.sdiv(self._width, code.number(layer.pixels))
        self._floats = self._convert_picture() if layer.residual else None
        self._line_bytes = given["hr_plane" if layer.scale == 1 else "hr_row"]
        place = code.at(given["parameters"], layer.at("factor"))
        self._factors = [
            code.load(code.at(place, LINE * number), self.instructions.floats, LINE)
            for number in range(layer.channel_blocks)
        ]

    def _convert_picture(self) -> list[Value]:
        """Convert rows of the picture to floats, added to `MAGIC`; return pointers to the first block."""
        code, given = self.code, self.code.given
        places = []
        for row in range(ROWS_AT_ONCE):
            place = code.at(given["floats"], code.times(given["floats_row"], row))
            with code.loop(code.number(0), given["width"], SIDE) as column:
                samples = code.load(code.at(given[f"picture{row}"], column), vector(BYTE, SIDE))
                integers = code.build.zext(samples, self.instructions.ints)
                bits = code.build.add(integers, code.lanes(INT, [MAGIC_BITS] * SIDE))
                code.store(bits, code.at(place, code.times(code.add(column, self._shift), 4)))
            places.append(place)
        return places

    # Places

    def _first(self, row: int) -> Value:
        """The first sample of a row's first block, if it were stored in the result."""
        code, given, scale = self.code, self.code.given, self.layer.scale
        return code.at(given["hr"], code.times(given["hr_row"], scale * row), -self._shift * scale)

    def _edge(self, row: int, block: Value) -> Target:
        """Where a block is stored of which not all is wanted: the first one, or another."""
        code, layer = self.code, self.layer
        line_bytes = layer.pixels * layer.scale
        is_first = code.build.icmp_signed("==", block, code.number(0))
        place = code.build.select(is_first, code.number(0), code.number(line_bytes * layer.lines))
        edge = code.at(code.given["edge"], row * layer.edge_bytes // ROWS_AT_ONCE)
        return Target(code.at(edge, place), code.number(line_bytes))

    def _target(self, row: int, block: Value) -> Target:
        code, build, layer = self.code, self.code.build, self.layer
        begin = code.number(1 if self._shift else 0)
        whole = build.and_(
            build.icmp_signed(">=", block, begin), build.icmp_signed("<", block, self._whole_end)
        )
        whole = build.and_(whole, self._is_wanted[row])
        edge = self._edge(row, block)
        direct = code.at(self._first(row), code.times(block, layer.pixels * layer.scale))
        return Target(
            build.select(whole, direct, edge.first),
            build.select(whole, self._line_bytes, edge.line_bytes),
        )

    def _copy_edges(self) -> None:
        """Copy what is wanted of the first and the last block, if they were not stored in the result."""
        code, build, layer = self.code, self.code.build, self.layer
        zero, pixels = code.number(0), code.number(layer.pixels)
        last = code.minus(code.given["blocks"], 1)
        first_is_whole = build.icmp_signed(">", self._whole_end, zero)
        if self._shift:
            first_is_whole = code.boolean(False)
        last_is_edge = build.and_(
            build.icmp_signed(">", last, zero), build.icmp_signed("<=", self._whole_end, last)
        )
        for row in range(ROWS_AT_ONCE):
            with build.if_then(self._is_wanted[row]):
                with build.if_then(build.not_(first_is_whole)):
                    self._copy_edge(row, zero, code.number(self._shift), code.least(self._width, pixels))
                with build.if_then(last_is_edge):
                    self._copy_edge(row, last, code.times(last, layer.pixels), self._width)

    def _copy_edge(self, row: int, block: Value, start: Value, stop: Value) -> None:
        """Copy some pixels of a block, counted from where the first one begins."""
        code, layer = self.code, self.layer
        edge, scale = self._edge(row, block), self.layer.scale
        source = code.at(edge.first, code.times(code.minus(start, code.times(block, layer.pixels)), scale))
        out = code.at(self._first(row), code.times(start, scale))
        with code.turns(layer.lines) as line:
            code.copy(
                code.at(out, code.times(self._line_bytes, line)),
                code.at(source, code.times(edge.line_bytes, line)),
                code.times(code.minus(stop, start), scale),
            )

    # Results

    def results(self, row: int, block: Value, sums: Value) -> list[Step]:
        """See `Rows.results`. Before them come steps that fetch lines of the result."""
        code, layer, target = self.code, self.layer, self._target(row, block)
        size = layer.pixels * layer.scale

        def fetch(down: int, line: int) -> None:
            out = code.at(target.first, code.times(target.line_bytes, down))
            code.prepare_store(code.at(out, AHEAD * size + line))

        steps: list[Step] = [
            partial(fetch, down, line) for down in range(layer.scale) for line in range(0, size, LINE)
        ]
        given = self._given(row, block)
        last = self.groups - 1
        for group in range(self.groups):
            place = code.number(group)
            steps.append(partial(self._samples, place, sums, given, target, exact=group == last))
        return steps

    def last_results(self, row: int, block: Value, sums: Value) -> None:
        """See `Rows.last_results`."""
        code, target, given = self.code, self._target(row, block), self._given(row, block)
        with code.loop(code.number(0), code.number(self.groups)) as group:
            self._samples(group, sums, given, target, exact=True)

    def _given(self, row: int, block: Value) -> Value | None:
        """A pointer to the picture's samples for a block, as floats."""
        if self._floats is None:
            return None
        return self.code.at(self._floats[row], self.code.times(block, self.layer.pixels * 4))

    def _samples(
        self, place: Value, sums: Value, given: Value | None, target: Target, *, exact: bool
    ) -> None:
        """Make samples of the accumulators of a group, for ``scale`` rows of the large picture.

        For x3 a store writes 16 bytes, of which 12 are samples, unless it has to be ``exact``.
        """
        code, scale = self.code, self.layer.scale
        unit_px = 4 if scale == 2 else 1  # pixels of a vector of accumulators
        sums = code.at(sums, code.times(place, AT_ONCE * LINE))
        if given is not None:
            given = code.at(given, code.times(place, AT_ONCE * unit_px * 4))
        ints = [
            self._int(code.at(sums, number * LINE), self._factors[0], self._addend(given, number))
            for number in range(AT_ONCE)
        ]
        rows, width = self._in_rows(ints)
        out = code.at(target.first, code.times(place, AT_ONCE * unit_px * scale))
        for down in range(scale):
            used = 12 if scale == 3 and exact else width
            code.store(code.pick(rows, range(down * width, down * width + used)), out)
            out = code.at(out, target.line_bytes)

    def _by_fours(self, ints: Sequence[Value]) -> Value:
        """Narrow four vectors to bytes: each 128 bits hold the same four lanes of each."""
        code, instructions = self.code, self.instructions
        pairs = [instructions.pack_32(code, *ints[start : start + 2]) for start in (0, 2)]
        return instructions.pack_16(code, *pairs)

    def _in_rows(self, ints: Sequence[Value]) -> tuple[Value, int]:
        """Narrow four vectors to bytes, in the order of rows; return also the width of a row in bytes."""
        code, instructions, scale = self.code, self.instructions, self.layer.scale
        by_fours = self._by_fours(ints)
        if scale == 2:  # of a vector, two words are in the first row and two in the second
            words = [
                (down * 2 + part) * 4 + unit for down in range(2) for unit in range(4) for part in range(2)
            ]
            picked = code.pick(code.build.bitcast(by_fours, instructions.ints), words)
            return code.build.bitcast(picked, instructions.bytes), 32
        if scale == 3:  # four words of each row in turn, of which every fourth byte is nothing
            samples = [n // 3 * 4 + n % 3 if n < 12 else 15 for n in range(16)]
            by_fours = code.pick(by_fours, [down * 16 + n for down in range(4) for n in samples])
        return by_fours, 16

    def _int(self, sums: Value, factor: Value, addend: Value) -> Value:
        """Return a vector of outputs as integers; they saturate later."""
        code, instructions, build = self.code, self.instructions, self.code.build
        total = code.load(sums, instructions.ints, LINE)
        value = instructions.fused(code, build.sitofp(total, instructions.floats), factor, addend)
        bits, magic = build.bitcast(value, instructions.ints), code.lanes(INT, [MAGIC_BITS] * SIDE)
        if self.layer.arithmetic == "general":
            bits = instructions.most(code, bits, magic)
        return build.sub(bits, magic)

    def _addend(self, given: Value | None, number: int) -> Value:
        """The picture's samples for a vector of accumulators, added to `MAGIC`."""
        code = self.code
        if given is None:
            return code.lanes(FLOAT, [MAGIC] * SIDE)
        if self.layer.scale == 2:
            four = code.load(code.at(given, number * 4 * 4), vector(FLOAT, 4), 4)
            return code.pick(four, [0, 0, 1, 1, 2, 2, 3, 3] * 2)
        return code.all(code.load(code.at(given, number * 4), FLOAT, 4), SIDE)

"""The code of a network: one function that enlarges a rectangle of a picture, two rows at a time.

Each turn of its loop takes in two more rows of the picture and lets every layer compute the two rows that
have just become possible, from rows that earlier turns left in working memory. A row covers the columns that
the result depends on; where a layer looks beyond the picture, it finds the value that means zero.

Within a pair of rows a layer goes from block to block. Matrices go on while vector instructions make levels
of the sums of the block before: the two are emitted mixed, since a processor looks only some hundred
instructions ahead. For the same reason the second row's sums, still being added to when the block ends, are
stored only in the next one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from subpixel.engines.matrices.assembler import (
    BYTE,
    INT,
    LONG,
    NOTHING,
    POINTER,
    Assembler,
    Step,
    Value,
    emit,
    integer,
    vector,
)
from subpixel.engines.matrices.layout import LINE, PAIR, SIDE, Layer, Layout
from subpixel.engines.matrices.values import UNITS, Values
from subpixel.quantisation import MAGIC_BITS

PARAMETERS = {
    "lr": POINTER,  # the whole small picture's first sample
    "lr_stride": LONG,  # bytes from row to row
    "width": LONG,
    "height": LONG,
    "parameters": POINTER,  # as `pack` lays them out
    "working": POINTER,  # `Layout.working_bytes`, at a cache line
    "columns": LONG,  # of it: `Layout.columns`
    "hr": POINTER,  # the first sample of the result
    "hr_stride": LONG,
    "left": LONG,  # the rectangle, in LR pixels
    "right": LONG,
    "top": LONG,
    "bottom": LONG,
}

FIRST_SUMS, SECOND_SUMS, WEIGHTS, PIXELS = (0, 1), (2, 3), (4, 5), 6
"""Registers: of a pair's first row, of its second, of two matrices of weights, and of pixels."""


@dataclass(frozen=True)
class Results:
    """Pointers for one row of a block."""

    sums: Value
    out: Value
    given: Value | None
    """The small picture's samples as floats, where the last layer adds them."""


@dataclass(frozen=True)
class Group:
    """A matrix of pixels, and up to two of weights that it is multiplied with, in each step."""

    tile: int
    columns: range


class Program:
    """Emits the function for a layout; ``module`` is the result."""

    def __init__(self, layout: Layout, name: str) -> None:
        """Emit everything; ``name`` is the function's."""
        self.layout, self.scale = layout, layout.description.scale
        self.halo = layout.description.halo_px
        self.code = code = Assembler(name, PARAMETERS)
        self.given = code.given
        self._place_working_memory()
        self._wide = code.constant("wide", _configuration(LINE))
        self._narrow = code.constant("narrow", _configuration(layout.layers[0].row_bytes))
        code.call("llvm.x86.ldtilecfg", NOTHING, self._wide)
        top, bottom = self.given["top"], self.given["bottom"]
        with code.loop(code.minus(top, self.halo), code.add(bottom, self.halo), PAIR) as newest:
            self._take_in(newest)
            halo = self.halo
            for index, layer in enumerate(layout.layers):
                halo -= layer.reach
                row = code.minus(newest, self.halo - halo)
                wanted = code.build.icmp_signed(">", row, code.minus(top, halo + PAIR))
                with code.build.if_then(wanted):
                    self._rows(index, row, halo)
        code.call("llvm.x86.tilerelease", NOTHING)
        code.build.ret_void()
        self.module = code.module

    def _place_working_memory(self) -> None:
        """Rows kept of each layer's input, the picture's as floats, large rows, sums."""
        code, given = self.code, self.given
        self._columns = given["columns"]
        per_column = 0
        self._inputs: list[Value] = []

        def place(bytes_per_column: int) -> Value:
            nonlocal per_column
            pointer = code.at(given["working"], code.times(self._columns, per_column))
            per_column += bytes_per_column
            return pointer

        for layer in self.layout.layers:
            self._inputs.append(place(layer.pixel_bytes * layer.rows_kept))
        self._floats = place(PAIR * 4)
        self._large = place(self.layout.large_bytes)
        self._large_row = code.times(self._columns, self.scale)
        self._sums = place(0)
        self._first_column = code.minus(given["left"], self.halo + self.layout.margin)
        code.clear(self._inputs[0], code.times(self._columns, self.layout.layers[0].pixel_bytes))

    # Rows and columns

    def _span(self, halo: int) -> tuple[Value, Value]:
        """Columns within ``halo`` of the result's that lie in the picture: the first, and the end."""
        code = self.code
        first = code.most(code.minus(self.given["left"], halo), code.number(0))
        return first, code.least(code.add(self.given["right"], halo), self.given["width"])

    def _place(self, column: Value) -> Value:
        """Of a column of the picture, in working memory."""
        return self.code.minus(column, self._first_column)

    def _inside(self, row: Value) -> Value:
        """Whether a row lies in the picture."""
        return self.code.build.icmp_unsigned("<", row, self.given["height"])

    def _input_row(self, index: int, row: Value) -> Value:
        """A pointer to a row of a layer's input."""
        code, layer = self.code, self.layout.layers[index]
        kept = code.build.and_(row, code.number(layer.rows_kept - 1))
        return code.at(self._inputs[index], code.times(code.times(kept, self._columns), layer.pixel_bytes))

    def _picture_row(self, row: Value) -> Value:
        """A pointer to a row of the small picture, or to another if there is none."""
        code = self.code
        return code.at(
            self.given["lr"],
            code.times(code.build.select(self._inside(row), row, code.number(0)), self.given["lr_stride"]),
        )

    # The picture

    def _take_in(self, newest: Value) -> None:
        """Shift two rows of the picture into the columns of the first layer's input; zeros beyond it."""
        code, layer = self.code, self.layout.layers[0]
        first, end = self._span(self.halo)
        rows = [code.add(newest, number) for number in range(PAIR)]
        sources = [self._picture_row(row) for row in rows]
        ends = [code.build.select(self._inside(row), end, first) for row in rows]
        at_once = LINE // layer.pixel_bytes
        bits = layer.pixel_bytes * 8
        lane = integer(bits)
        stack = code.at(self._inputs[0], code.times(self._place(first), layer.pixel_bytes))

        def lanes(value: int) -> Value:
            return code.lanes(lane, [value] * at_once)

        with code.loop(first, end, at_once) as column:
            pointer = code.at(stack, code.times(code.minus(column, first), layer.pixel_bytes))
            older = code.load(pointer, vector(lane, at_once))
            columns = code.build.lshr(older, lanes(8 * PAIR))
            for number, (source, stop) in enumerate(zip(sources, ends, strict=True)):
                samples = code.load_some(code.at(source, column), code.minus(stop, column), at_once)
                place = lanes(bits - 16 + 8 * number)
                columns = code.build.or_(
                    columns, code.build.shl(code.build.zext(samples, columns.type), place)
                )
            code.store(columns, pointer)

    def _as_floats(self, row: Value, shift: Value) -> list[Value]:
        """Pointers to two rows of the picture as floats with `MAGIC` in them, from ``shift`` pixels on."""
        code, places = self.code, []
        left, width = self.given["left"], code.minus(self.given["right"], self.given["left"])
        for number in range(PAIR):
            source = code.at(self._picture_row(code.add(row, number)), left)
            place = code.at(self._floats, code.times(self._columns, 4 * number))
            places.append(place)
            with code.loop(code.number(0), width, SIDE) as column:
                samples = code.load_some(code.at(source, column), code.minus(width, column), SIDE)
                bits = code.build.add(
                    code.build.zext(samples, vector(INT, SIDE)), code.lanes(INT, [MAGIC_BITS] * SIDE)
                )
                code.store(bits, code.at(place, code.times(code.add(column, shift), 4)))
        return places

    # Layers

    def _rows(self, index: int, row: Value, halo: int) -> None:
        """A layer's next two rows, for the columns within ``halo`` of the result's."""
        code, layer = self.code, self.layout.layers[index]
        if layer.last:
            self._computed(index, row, halo)
            return
        inside = [self._inside(code.add(row, number)) for number in range(PAIR)]
        with code.build.if_then(code.build.or_(*inside)):
            self._computed(index, row, halo)
        for number in range(PAIR):
            with code.build.if_then(code.build.not_(inside[number])):
                first, end = (self._place(column) for column in self._span(halo))
                self._zeros(index, code.add(row, number), first, end, beside=True)

    def _zeros(self, index: int, row: Value, first: Value, end: Value, *, beside: bool = False) -> None:
        """Fill places of a row of a layer's result with what means zero."""
        code, layer, reach = self.code, self.layout.layers[index], self.layout.layers[index + 1].reach
        pointer = self._input_row(index + 1, row)
        kind = vector(BYTE, layer.result_bytes)
        levels = code.load(code.at(self.given["parameters"], layer.at("levels")), kind, LINE)
        if beside:
            first, end = code.minus(first, reach), code.add(end, reach)
        with code.loop(first, end) as place:
            code.store(levels, code.at(pointer, code.times(place, layer.result_bytes)))

    def _computed(self, index: int, row: Value, halo: int) -> None:
        """Two rows of a layer, and what lies beside them where the picture ends."""
        code, layer = self.code, self.layout.layers[index]
        first, end = self._span(halo)
        before = code.minus(self._place(first), layer.reach)
        shift = code.build.and_(before, code.number(layer.aligned_px - 1))
        start = code.minus(before, shift)
        offset = code.times(start, layer.pixel_bytes)
        if layer.stacked:
            sources = [code.at(self._inputs[0], offset)]
        else:
            rows = [code.add(row, number - layer.reach) for number in range(layer.rows)]
            sources = [code.at(self._input_row(index, of), offset) for of in rows]
        outs, floats = self._destinations(index, row, code.add(start, layer.reach), shift)
        width = code.minus(end, code.minus(first, shift))
        if layer.stacked:
            code.call("llvm.x86.ldtilecfg", NOTHING, self._narrow)
        self._blocks(layer, width, sources, outs, floats)
        if layer.stacked:
            code.call("llvm.x86.ldtilecfg", NOTHING, self._wide)
        if layer.last:
            self._give_out(row, shift)
            return
        reach = self.layout.layers[index + 1].reach
        for number in range(PAIR if reach else 0):
            this = code.add(row, number)
            with code.build.if_then(code.build.icmp_signed("==", first, code.number(0))):
                edge = self._place(first)
                self._zeros(index, this, code.minus(edge, reach), edge)
            with code.build.if_then(code.build.icmp_signed("==", end, self.given["width"])):
                edge = self._place(end)
                self._zeros(index, this, edge, code.add(edge, reach))

    def _destinations(
        self, index: int, row: Value, place: Value, shift: Value
    ) -> tuple[list[Value], list[Value]]:
        """Pointers to where the first results of two rows go, and to the picture as floats."""
        code, layer = self.code, self.layout.layers[index]
        if not layer.last:
            rows = [self._input_row(index + 1, code.add(row, number)) for number in range(PAIR)]
            return [code.at(of, code.times(place, layer.result_bytes)) for of in rows], []
        large = [code.at(self._large, code.times(self._large_row, self.scale * of)) for of in range(PAIR)]
        residual = self.layout.description.residual == "nearest"
        return large, self._as_floats(row, shift) if residual else []

    def _give_out(self, row: Value, shift: Value) -> None:
        """Copy large rows to the result, those that belong to it."""
        code, given = self.code, self.given
        size = code.times(code.minus(given["right"], given["left"]), self.scale)
        for number in range(PAIR):
            this = code.add(row, number)
            after_top = code.build.icmp_signed(">=", this, given["top"])
            before_bottom = code.build.icmp_signed("<", this, given["bottom"])
            with code.build.if_then(code.build.and_(after_top, before_bottom)):
                down = code.times(code.minus(this, given["top"]), self.scale)
                target = code.at(given["hr"], code.times(down, given["hr_stride"]))
                source = code.at(
                    self._large,
                    code.times(self._large_row, self.scale * number),
                    code.times(shift, self.scale),
                )
                for _ in range(self.scale):
                    code.copy(target, source, size)
                    target, source = code.at(target, given["hr_stride"]), code.at(source, self._large_row)

    # Blocks

    def _blocks(
        self, layer: Layer, width: Value, sources: list[Value], outs: list[Value], floats: list[Value]
    ) -> None:
        """Compute two rows block by block."""
        code = self.code
        values = Values(code, layer, self.given["parameters"])
        count = code.build.sdiv(code.add(width, layer.block_px - 1), code.number(layer.block_px))

        def results(row: int, block: Value) -> Results:
            out = code.times(block, layer.sums_bytes // (UNITS * LINE) * self._out_bytes(layer))
            return Results(
                self._sums_of(layer, row, block),
                code.at(outs[row], out),
                code.at(floats[row], code.times(block, layer.block_px * 4)) if floats else None,
            )

        head, rest = self._products(layer, sources, code.number(0))
        emit([*head, *rest])
        with code.loop(code.number(1), count) as block:
            one, two = code.minus(block, 1), code.most(code.minus(block, 2), code.number(0))
            head, rest = self._products(layer, sources, block, one)
            # In the first turn the second row is that of the first block, as it is in the next one.
            second, first = results(1, two), results(0, one)
            emit(head)
            emit(rest, [*self._results(layer, values, second), *self._results(layer, values, first)])
        one, two = code.minus(count, 1), code.most(code.minus(count, 2), code.number(0))
        emit(self._stores(layer, one, self._groups(layer)[-1], 1))
        for last in (results(1, two), results(0, one), results(1, one)):
            self._last_results(layer, values, last)

    # Products

    def _groups(self, layer: Layer) -> list[Group]:
        """What is summed up at once."""
        return [
            Group(tile, range(column, min(column + 2, layer.blocks)))
            for tile in range(layer.tiles)
            for column in range(0, layer.blocks, 2)
        ]

    def _products(
        self, layer: Layer, sources: Sequence[Value], block: Value, before: Value | None = None
    ) -> tuple[list[Step], list[Step]]:
        """Steps that leave a block's sums in memory, but for the last of the second row.

        The first of the two lists ends when those of the block ``before`` are there.
        """
        code, groups = self.code, self._groups(layer)
        offset = code.times(block, layer.block_px * layer.pixel_bytes)
        pointers = [code.at(source, offset) for source in sources]
        pending = [] if before is None else self._stores(layer, before, groups[-1], 1)
        steps: list[Step] = []
        head = 0
        for group in groups:
            first, second = self._of_rows(layer, pointers, group)
            steps += [*first, *pending]
            head = head or len(steps)
            steps += [*second, *self._stores(layer, block, group, 0)]
            pending = self._stores(layer, block, group, 1)
        return steps[:head], steps[head:]

    def _of_rows(
        self, layer: Layer, pointers: Sequence[Value], group: Group
    ) -> tuple[list[Step], list[Step]]:
        """Steps that sum up a group: those before the second row's registers are needed, and the others.

        A row of the kernel is used twice, for one row of a pair and, a row of pixels later, for the other:
        its weights stay in their registers for that.
        """
        weights = self._weights

        def products(registers: Sequence[int], weight_set: int | None, step: int) -> list[Step]:
            steps: list[Step] = []
            for register, weight, column in zip(registers, WEIGHTS, group.columns, strict=False):
                if weight_set is not None:
                    steps.append(partial(weights, layer, weight, weight_set, step, column))
                steps.append(partial(self.code.tile_products, register, PIXELS, weight))
            return steps

        begin, rest = self._biases(layer, FIRST_SUMS, group), self._biases(layer, SECOND_SUMS, group)
        for step in range(layer.steps):
            for row in range(layer.rows):
                load = partial(self._pixels, layer, pointers[row], step, group.tile)
                if layer.stacked:
                    first, second = products(FIRST_SUMS, 0, step), products(SECOND_SUMS, 1, step)
                else:
                    second = products(SECOND_SUMS, None, step) if row > 0 else []
                    first = products(FIRST_SUMS, row, step) if row < layer.kernel else []
                if step == row == 0:
                    begin += [load, *first]
                    rest += second
                else:
                    rest += [load, *_zipped(second, first)]
        return begin, rest

    def _pixels(self, layer: Layer, pointer: Value, step: int, tile: int) -> None:
        """Load a matrix of pixels."""
        stride = layer.pixel_bytes * layer.pixels
        place = step * layer.row_bytes + tile * SIDE * stride
        self.code.tile_load(PIXELS, self.code.at(pointer, place), stride)

    def _weights(self, layer: Layer, register: int, weight_set: int, step: int, column: int) -> None:
        """Load a matrix of weights."""
        place = ((weight_set * layer.steps + step) * layer.blocks + column) * layer.weight_bytes
        pointer = self.code.at(self.given["parameters"], layer.at("weights") + place)
        self.code.tile_load(register, pointer, LINE)

    def _biases(self, layer: Layer, registers: Sequence[int], group: Group) -> list[Step]:
        """Steps that begin sums: the same row of biases sixteen times."""

        def begin(register: int, column: int) -> None:
            place = layer.at("bias") + column % layer.channel_blocks * LINE
            self.code.tile_load(register, self.code.at(self.given["parameters"], place), 0)

        return [partial(begin, *place) for place in zip(registers, group.columns, strict=False)]

    def _sums_of(self, layer: Layer, row: int, block: Value) -> Value:
        """Where the sums of one row of a block are kept.

        Results are made of the first row while the next block is summed up, and of the second while the one
        after that is: so there is time for them to arrive. Hence two places, and three.
        """
        code = self.code
        number = code.build.urem(block, code.number(2 + row))
        return code.at(self._sums, code.times(code.add(number, 2 * row), layer.sums_bytes))

    def _stores(self, layer: Layer, block: Value, group: Group, row: int) -> list[Step]:
        """Steps that bring the sums of one row of a pair to memory."""
        sums, stride = self._sums_of(layer, row, block), layer.blocks * LINE

        def store(register: int, column: int) -> None:
            place = group.tile * SIDE * stride + column * LINE
            self.code.tile_store(register, self.code.at(sums, place), stride)

        registers = SECOND_SUMS if row else FIRST_SUMS
        return [partial(store, *place) for place in zip(registers, group.columns, strict=False)]

    # Results

    def _out_bytes(self, layer: Layer) -> int:
        """Of a row of results: what four vectors of sums make."""
        return UNITS * self._unit_px(layer) * self.scale if layer.last else LINE

    def _unit_px(self, layer: Layer) -> int:
        """Pixels that the last layer's vector of sums is about."""
        return 4 if layer.last and self.scale == 2 else 1

    def _results(self, layer: Layer, values: Values, of: Results) -> list[Step]:
        """Steps that make results of a row of a block."""
        groups = range(layer.sums_bytes // (UNITS * LINE))
        return [partial(self._result, layer, values, of, group, self.code.number(group)) for group in groups]

    def _last_results(self, layer: Layer, values: Values, of: Results) -> None:
        """The same as a loop: short, for there is nothing to mix it with."""
        code, period = self.code, layer.period // UNITS
        groups = code.number(layer.sums_bytes // (UNITS * LINE))
        with code.loop(code.number(0), groups, period) as first:
            for number in range(period):
                self._result(layer, values, of, number, code.add(first, number))

    def _result(self, layer: Layer, values: Values, of: Results, group: int, place: Value) -> None:
        """Four vectors of sums, number ``place`` of a row; ``group`` says which channels they are of."""
        code = self.code
        sums = code.at(of.sums, code.times(place, UNITS * LINE))
        out = code.at(of.out, code.times(place, self._out_bytes(layer)))
        if not layer.last:
            values.levels(group * UNITS, sums, out)
            return
        step = UNITS * self._unit_px(layer) * 4
        given = None if of.given is None else code.at(of.given, code.times(place, step))
        values.samples(self.scale, sums, given, out, self._large_row)


def _zipped(one: list[Step], other: list[Step]) -> list[Step]:
    """For each register of weights: what needs its content, and what loads the next one and needs that."""
    if not one or not other:
        return [*one, *other]
    per_register = len(other) // len(one)
    pairs = [(step, other[n * per_register : (n + 1) * per_register]) for n, step in enumerate(one)]
    return [step for first, following in pairs for step in (first, *following)]


def _configuration(row_bytes: int) -> bytes:
    """What ``ldtilecfg`` reads: shapes of the registers, with pixels and weights of so many bytes."""
    columns, rows = [LINE] * 8, [SIDE] * 8
    columns[PIXELS] = row_bytes
    for register in WEIGHTS:
        rows[register] = row_bytes // 4
    head = bytes([1]).ljust(16, b"\0")
    of_columns = b"".join(count.to_bytes(2, "little") for count in columns)
    return (head + of_columns.ljust(32, b"\0") + bytes(rows)).ljust(LINE, b"\0")

"""The code of a network: one function that enlarges a rectangle of a picture, two rows at a time.

Each turn of its loop takes in two more rows of the picture and lets every layer compute the two rows that
have just become possible, from rows that earlier turns left in working memory. A row covers the columns that
the result depends on; where a layer looks beyond the picture, it finds the value that means zero.

Within a pair of rows a layer goes from block to block. Matrices go on while vector instructions make levels
of the sums of the block before: the two are emitted mixed, since a processor looks only some hundred
instructions ahead. For the same reason the second row's sums, still being added to when the block ends, are
stored only in the next one.

Layers that are computed alike share their code, in a loop over them, so that it compiles quickly.
"""

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
from subpixel.engines.matrices.products import Products, configuration
from subpixel.engines.matrices.values import UNITS, Values
from subpixel.models.quantization import MAGIC_BITS

AHEAD = 2
"""So many blocks before it is written a line of the result is fetched: a store that waits holds up others."""

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


@dataclass(frozen=True)
class Stage:
    """A layer in its turn, or one of several alike."""

    layer: Layer
    following: Layer | None
    input: Value
    """A pointer to the rows kept of its input."""
    output: Value | None
    """The same of its result, which is the next layer's input."""
    parameters: Value
    halo: Value
    """Columns and rows beside the result's for which it is computed."""


@dataclass(frozen=True)
class Target:
    """Where a row of a layer's results goes."""

    first: Value
    """A pointer to what the first block gives."""
    whole: tuple[Value, Value] | None = None
    """Of the last layer: blocks, the first and the end, that lie within the result."""
    edge: Value | None = None
    """A pointer to where the others go, of which some or all is not wanted: see `Layout.edge_bytes`."""


@dataclass(frozen=True)
class Results:
    """Pointers for one row of a block."""

    sums: Value
    out: Value
    row_bytes: Value | None
    """From row to row of ``out``, where the last layer fills several."""
    given: Value | None
    """The small picture's samples as floats, where the last layer adds them."""


class Program:
    """Emits the function for a layout; ``module`` is the result."""

    def __init__(self, layout: Layout, name: str) -> None:
        """Emit everything; ``name`` is the function's."""
        self.layout, self.scale = layout, layout.spec.scale
        self.halo = layout.spec.halo_px
        self.code = code = Assembler(name, PARAMETERS)
        self.given = code.given
        self._place_working_memory()
        self._wide = code.constant("wide", configuration(LINE))
        self._narrow = code.constant("narrow", configuration(layout.layers[0].row_bytes))
        code.call("llvm.x86.ldtilecfg", NOTHING, self._wide)
        top, bottom = self.given["top"], self.given["bottom"]
        with code.loop(code.minus(top, self.halo), code.add(bottom, self.halo), PAIR) as newest:
            self._take_in(newest)
            for first, count in layout.alike():
                with code.loop(code.number(0), code.number(count)) as number:
                    stage = self._stage(first, number)
                    row = code.minus(newest, code.minus(code.number(self.halo), stage.halo))
                    wanted = code.build.icmp_signed(">", row, code.minus(top, code.add(stage.halo, PAIR)))
                    with code.build.if_then(wanted):
                        self._rows(stage, row)
        code.call("llvm.x86.tilerelease", NOTHING)
        code.succeed()
        self.module = code.module

    def _place_working_memory(self) -> None:
        """Rows kept of each layer's input, the picture's as floats, the result's edges, sums."""
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
            self._inputs.append(place(layer.input_bytes))
        self._floats = place(PAIR * 4)
        self._edges = place(0)
        self._sums = code.at(self._edges, self.layout.edge_bytes)
        self._first_column = code.minus(given["left"], self.halo + self.layout.margin)
        code.clear(self._inputs[0], code.times(self._columns, self.layout.layers[0].pixel_bytes))

    def _stage(self, first: int, number: Value) -> Stage:
        """Layer ``number`` of those that are like the one with index ``first``."""
        code, layers = self.code, self.layout.layers
        layer, following = layers[first], layers[first + 1] if first + 1 < len(layers) else None

        def input_of(index: int) -> Value:
            """Inputs of layers that are alike have one size, and lie one after the other."""
            size = code.times(self._columns, layers[index].input_bytes)
            return code.at(self._inputs[index], code.times(number, size))

        reaches = sum(later.reach for later in layers[first + 1 :])
        return Stage(
            layer=layer,
            following=following,
            input=input_of(first),
            output=None if following is None else input_of(first + 1),
            parameters=code.at(
                self.given["parameters"], layer.start, code.times(number, layer.parameter_bytes)
            ),
            halo=code.minus(code.number(reaches), code.times(number, layer.reach)),
        )

    # Rows and columns

    def _span(self, halo: Value) -> tuple[Value, Value]:
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

    def _row_of(self, pointer: Value, layer: Layer, row: Value) -> Value:
        """A pointer to a row of a layer's input, of which ``pointer`` is to the rows kept."""
        code = self.code
        kept = code.build.and_(row, code.number(layer.rows_kept - 1))
        return code.at(pointer, code.times(code.times(kept, self._columns), layer.pixel_bytes))

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
        first, end = self._span(code.number(self.halo))
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

    def _as_floats(self, row: Value, shift: Value) -> list[Value | None]:
        """Pointers to two rows of the picture as floats with `MAGIC` in them, from ``shift`` pixels on.

        None where they are not added to the result.
        """
        code = self.code
        if self.layout.spec.residual != "nearest":
            return [None] * PAIR
        places: list[Value | None] = []
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

    def _rows(self, stage: Stage, row: Value) -> None:
        """A layer's next two rows."""
        code = self.code
        if stage.following is None:
            self._computed(stage, row)
            return
        inside = [self._inside(code.add(row, number)) for number in range(PAIR)]
        with code.build.if_then(code.build.or_(*inside)):
            self._computed(stage, row)
        for number in range(PAIR):
            with code.build.if_then(code.build.not_(inside[number])):
                first, end = (self._place(column) for column in self._span(stage.halo))
                self._zeros(stage, code.add(row, number), first, end, beside=True)

    def _zeros(self, stage: Stage, row: Value, first: Value, end: Value, *, beside: bool = False) -> None:
        """Fill places of a row of a layer's result with what means zero."""
        code, layer, following = self.code, stage.layer, stage.following
        assert following is not None
        pointer = self._row_of(stage.output, following, row)
        kind = vector(BYTE, layer.result_bytes)
        levels = code.load(code.at(stage.parameters, layer.at("levels")), kind, LINE)
        if beside:
            first, end = code.minus(first, following.reach), code.add(end, following.reach)
        with code.loop(first, end) as place:
            code.store(levels, code.at(pointer, code.times(place, layer.result_bytes)))

    def _computed(self, stage: Stage, row: Value) -> None:
        """Two rows of a layer, and what lies beside them where the picture ends."""
        code, layer = self.code, stage.layer
        first, end = self._span(stage.halo)
        before = code.minus(self._place(first), layer.reach)
        shift = code.build.and_(before, code.number(layer.aligned_px - 1))
        start = code.minus(before, shift)
        offset = code.times(start, layer.pixel_bytes)
        if layer.stacked:
            sources = [code.at(stage.input, offset)]
        else:
            rows = [code.add(row, number - layer.reach) for number in range(layer.rows)]
            sources = [code.at(self._row_of(stage.input, layer, of), offset) for of in rows]
        width = code.minus(end, code.minus(first, shift))
        if stage.following is None:
            targets, floats = self._large_rows(stage, row, width, shift), self._as_floats(row, shift)
        else:
            targets = self._rows_of_result(stage, row, code.add(start, layer.reach))
            floats = [None] * PAIR
        if layer.stacked:
            code.call("llvm.x86.ldtilecfg", NOTHING, self._narrow)
        self._blocks(stage, self._block_count(layer, width), sources, targets, floats)
        if layer.stacked:
            code.call("llvm.x86.ldtilecfg", NOTHING, self._wide)
        if stage.following is None:
            self._give_edges(stage, row, width, shift, targets)
            return
        reach = stage.following.reach
        for number in range(PAIR if reach else 0):
            this = code.add(row, number)
            with code.build.if_then(code.build.icmp_signed("==", first, code.number(0))):
                edge = self._place(first)
                self._zeros(stage, this, code.minus(edge, reach), edge)
            with code.build.if_then(code.build.icmp_signed("==", end, self.given["width"])):
                edge = self._place(end)
                self._zeros(stage, this, edge, code.add(edge, reach))

    def _rows_of_result(self, stage: Stage, row: Value, place: Value) -> list[Target]:
        """Where the results of two rows go, the first to a place in working memory."""
        code, following = self.code, stage.following
        assert following is not None
        rows = [self._row_of(stage.output, following, code.add(row, number)) for number in range(PAIR)]
        return [Target(code.at(of, code.times(place, stage.layer.result_bytes))) for of in rows]

    def _large_rows(self, stage: Stage, row: Value, width: Value, shift: Value) -> list[Target]:
        """The same for the last layer, whose blocks begin ``shift`` pixels before the result does."""
        code, given, layer = self.code, self.given, stage.layer
        begin = code.build.select(
            code.build.icmp_signed(">", shift, code.number(0)), code.number(1), code.number(0)
        )
        end = code.build.sdiv(width, code.number(layer.block_px))
        targets = []
        for number in range(PAIR):
            down = code.times(code.minus(code.add(row, number), given["top"]), self.scale)
            first = code.minus(code.times(down, given["hr_stride"]), code.times(shift, self.scale))
            wanted = code.build.select(self._wanted(code.add(row, number)), end, code.number(0))
            edge = code.at(self._edges, number * self.layout.edge_bytes // PAIR)
            targets.append(Target(code.at(given["hr"], first), (begin, wanted), edge))
        return targets

    def _wanted(self, row: Value) -> Value:
        """Whether a row of the last layer's belongs to the result: the last pair may go beyond it."""
        return self.code.build.icmp_signed("<", row, self.given["bottom"])

    def _give_edges(
        self, stage: Stage, row: Value, width: Value, shift: Value, targets: list[Target]
    ) -> None:
        """Copy what is wanted of blocks that were not given out whole: the first and the last, if any."""
        code, layer = self.code, stage.layer
        none, one = code.number(0), code.number(1)
        last = code.minus(self._block_count(layer, width), 1)
        for number, target in enumerate(targets):
            assert target.whole is not None
            begin, end = target.whole
            wanted = self._wanted(code.add(row, number))
            first_is_not = code.build.or_(
                code.build.icmp_signed(">", begin, none), code.build.icmp_signed("<", end, one)
            )
            last_is_not = code.build.and_(
                code.build.icmp_signed(">", last, none), code.build.icmp_signed("<=", end, last)
            )
            with code.build.if_then(code.build.and_(wanted, first_is_not)):
                self._give_edge(layer, target, none, shift, code.least(width, code.number(layer.block_px)))
            with code.build.if_then(code.build.and_(wanted, last_is_not)):
                self._give_edge(layer, target, last, code.times(last, layer.block_px), width)

    def _give_edge(self, layer: Layer, target: Target, block: Value, start: Value, stop: Value) -> None:
        """Copy some pixels of a block, counted from where the first one begins."""
        code = self.code
        source, row_bytes = self._edge_of(layer, target, block)
        source = code.at(source, code.times(code.minus(start, code.times(block, layer.block_px)), self.scale))
        out = code.at(target.first, code.times(start, self.scale))
        for _ in range(self.scale):
            code.copy(out, source, code.times(code.minus(stop, start), self.scale))
            source, out = code.at(source, row_bytes), code.at(out, self.given["hr_stride"])

    def _edge_of(self, layer: Layer, target: Target, block: Value) -> tuple[Value, int]:
        """A pointer to where a block's results go that is not given out whole, and bytes from row to row."""
        code = self.code
        row_bytes = layer.block_px * self.scale
        is_first = code.build.icmp_signed("==", block, code.number(0))
        place = code.build.select(is_first, code.number(0), code.number(row_bytes * self.scale))
        return code.at(target.edge, place), row_bytes

    # Blocks

    def _blocks(
        self,
        stage: Stage,
        count: Value,
        sources: list[Value],
        targets: list[Target],
        floats: list[Value | None],
    ) -> None:
        """Compute two rows block by block."""
        code, layer = self.code, stage.layer
        values = Values(code, layer, stage.parameters)
        products = Products(code, layer, stage.parameters, self._sums)

        def results(row: int, block: Value, sums: Value | None = None) -> Results:
            given = floats[row]
            return Results(
                products.sums_of(row, block) if sums is None else sums,
                *self._out(layer, targets[row], block),
                None if given is None else code.at(given, code.times(block, layer.block_px * 4)),
            )

        emit(products.block(sources, code.number(0), first=True))
        with code.loop(code.number(1), count) as block:
            one, two = code.minus(block, 1), code.most(code.minus(block, 2), code.number(0))
            # In the first turn the late row is that of the first block, as it is in the next one. Its sums
            # are not there yet; others stand in, since what memory holds may be numbers that take long.
            is_first = code.build.icmp_signed("==", block, code.number(1))
            first_row = products.sums_of(0, one)
            late = code.build.select(is_first, first_row, products.sums_of(1, two))
            done = results(1, two, late), results(0, one, first_row)
            others = [step for of in done for step in self._results(layer, values, of)]
            emit(products.block(sources, block), others)
        one, two = code.minus(count, 1), code.most(code.minus(count, 2), code.number(0))
        emit(products.finish(one))
        for last in (results(1, two), results(0, one), results(1, one)):
            self._last_results(layer, values, last)

    def _block_count(self, layer: Layer, width: Value) -> Value:
        """Blocks for so many pixels; the last one may reach beyond them."""
        code = self.code
        return code.build.sdiv(code.add(width, layer.block_px - 1), code.number(layer.block_px))

    # Results

    def _out(self, layer: Layer, target: Target, block: Value) -> tuple[Value, Value | None]:
        """A pointer to where a block's results go; and in the last layer bytes from row to row."""
        code, build = self.code, self.code.build
        size = layer.sums_bytes // (UNITS * LINE) * self._out_bytes(layer)
        pointer = code.at(target.first, code.times(block, size))
        if target.whole is None:
            return pointer, None
        begin, end = target.whole
        inside = build.and_(build.icmp_signed(">=", block, begin), build.icmp_signed("<", block, end))
        edge, row_bytes = self._edge_of(layer, target, block)
        stride = build.select(inside, self.given["hr_stride"], code.number(row_bytes))
        return build.select(inside, pointer, edge), stride

    def _out_bytes(self, layer: Layer) -> int:
        """Of a row of results: what four vectors of sums make."""
        return UNITS * self._unit_px(layer) * self.scale if layer.last else LINE

    def _unit_px(self, layer: Layer) -> int:
        """Pixels that the last layer's vector of sums is about."""
        return 4 if layer.last and self.scale == 2 else 1

    def _results(self, layer: Layer, values: Values, of: Results) -> list[Step]:
        """Steps that make results of a row of a block."""
        groups = range(layer.sums_bytes // (UNITS * LINE))
        steps: list[Step] = [
            partial(
                self._result, layer, values, of, group, self.code.number(group), exact=group == groups[-1]
            )
            for group in groups
        ]
        return [*self._announce(layer, of), *steps] if layer.last else steps

    def _announce(self, layer: Layer, of: Results) -> list[Step]:
        """Steps that tell the processor which lines of the result will be written in a later block."""
        code, size = self.code, layer.block_px * self.scale

        def announce(down: int, line: int) -> None:
            row = code.at(of.out, code.times(of.row_bytes, down))
            code.prepare_store(code.at(row, AHEAD * size + line))

        return [partial(announce, down, line) for down in range(self.scale) for line in range(0, size, LINE)]

    def _last_results(self, layer: Layer, values: Values, of: Results) -> None:
        """The same as a loop: short, for there is nothing to mix it with."""
        code, period = self.code, layer.period // UNITS
        groups = code.number(layer.sums_bytes // (UNITS * LINE))
        with code.loop(code.number(0), groups, period) as first:
            for number in range(period):
                self._result(layer, values, of, number, code.add(first, number), exact=True)

    def _result(
        self, layer: Layer, values: Values, of: Results, group: int, place: Value, *, exact: bool
    ) -> None:
        """Four vectors of sums, number ``place`` of a row; ``group`` says which channels they are of.

        If ``exact``, nothing beyond what they give is written, not even for a moment.
        """
        code = self.code
        sums = code.at(of.sums, code.times(place, UNITS * LINE))
        out = code.at(of.out, code.times(place, self._out_bytes(layer)))
        if not layer.last:
            values.levels(group * UNITS, sums, out)
            return
        step = UNITS * self._unit_px(layer) * 4
        given = None if of.given is None else code.at(of.given, code.times(place, step))
        values.samples(self.scale, sums, given, out, of.row_bytes, exact=exact)

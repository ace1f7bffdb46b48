"""The code of a network: one function that upscales a rectangle of a picture, row by row through all layers.

Each turn of its loop copies one more row of the picture into working memory, and lets every layer compute the
row that has become possible. A row covers the columns that the result depends on. Where a layer looks beyond
the picture, it finds the zero point of its input, so that the result equals zero padding.
"""

from collections.abc import Callable
from functools import partial

from subpixel.engines.assembler import LONG, POINTER, Assembler, Value
from subpixel.engines.native.flat import emit_copy, emit_runs
from subpixel.engines.native.hidden import emit_hidden
from subpixel.engines.native.last import emit_last
from subpixel.engines.native.layers import HiddenLayer, LastLayer
from subpixel.engines.native.padding import (
    MAX_UNROLLED,
    emit_padding,
    emit_padding_beside,
    emit_pixel_padding,
)
from subpixel.engines.native.picture import emit_spread, emit_stack, emit_widen
from subpixel.engines.native.plan import Plan
from subpixel.engines.native.tiles import CHUNK_PX
from subpixel.models.spec import FLAT_RADIUS_PX

ARGUMENTS = (
    "lr",  # address of the whole small picture's first sample
    "lr_row",  # bytes from row to row
    "lr_plane",  # and from channel to channel
    "width",
    "height",
    "parameters",  # `pack.pack`
    "working",  # `Plan.working_bytes`, at a cache line
    "columns",  # `Plan.columns`
    "hr",  # the first sample of the result
    "hr_row",
    "hr_plane",
    "left",  # the rectangle, in LR pixels
    "right",
    "top",
    "bottom",
)
"""The 64-bit integers whose address the function gets."""

POSITIVE = 1 << 16
"""Added to row numbers, which can be negative, before they are divided: times the number of rows."""


class Program:
    """Emits the function for a plan; ``module`` is the result."""

    def __init__(self, plan: Plan, name: str, triple: str = "") -> None:
        """Emit everything; ``name`` is the function's, ``triple`` the platform's, by default this one's."""
        self.plan, self.instructions = plan, plan.instructions
        # Without optimization: it has no loop over columns, and would take a fifth of the time to compile.
        self.code = code = Assembler(name, {"arguments": POINTER}, optimized=False, triple=triple)
        self.module = code.module
        self.given = {
            argument: code.load(code.at(code.given["arguments"], 8 * number), LONG, 8)
            for number, argument in enumerate(ARGUMENTS)
        }
        for argument in ("lr", "parameters", "working", "hr"):
            self.given[argument] = code.build.inttoptr(self.given[argument], POINTER)
        self._place_working_memory()
        self._begin()
        halo_px = plan.spec.halo_px
        top, bottom = self.given["top"], self.given["bottom"]
        with code.loop(code.minus(top, halo_px), code.add(bottom, halo_px), plan.rows_at_once) as newest:
            with code.turns(plan.rows_at_once) as number:
                self._take_in(code.add(newest, number))
            for index in range(len(plan.layers)):
                halo = plan.halo(index)
                row = code.minus(newest, halo_px - halo)
                with code.build.if_then(code.build.icmp_signed(">=", row, code.minus(top, halo))):
                    self._row(index, row)
        self._end()
        code.succeed()

    def _begin(self) -> None:
        """Emit what an instruction set needs before all layers."""

    def _end(self) -> None:
        """Emit what it needs after them."""

    # Places

    def _place_working_memory(self) -> None:
        code, plan = self.code, self.plan
        self._memory: dict[str, Value] = {}
        pointer = self.given["working"]
        for name, size in plan.fixed.items():
            self._memory[name] = pointer
            pointer = code.at(pointer, size)
        for name, size in plan.per_column.items():
            self._memory[name] = pointer
            pointer = code.at(pointer, code.times(self.given["columns"], size))
        self._origin = code.minus(self.given["left"], plan.left_px)

    def _place(self, column: Value) -> Value:
        """Return where a column of the picture is in working memory."""
        return self.code.minus(column, self._origin)

    def _span(self, halo: int) -> tuple[Value, Value]:
        """Return the places of the columns within ``halo`` of the result's and inside the picture."""
        code, given = self.code, self.given
        first = code.most(code.minus(given["left"], halo), code.number(0))
        end = code.least(code.add(given["right"], halo), given["width"])
        return self._place(first), self._place(end)

    def _inside(self, row: Value) -> Value:
        """Whether a row is in the picture."""
        return self.code.build.icmp_unsigned("<", row, self.given["height"])

    def _ring(self, row: Value, rows: int) -> Value:
        """Return the index of a row in a ring of ``rows``."""
        positive = self.code.add(row, POSITIVE * rows)
        return self.code.build.urem(positive, self.code.number(rows))

    def _input_row(self, index: int, row: Value) -> Value:
        """Return a pointer to a row of the input of layer ``index``, which is not the picture."""
        code, layer = self.code, self.plan.layers[index]
        row_bytes = layer.groups * 4
        if not index:
            row_bytes *= self.plan.picture_planes // self.plan.spec.channels
        elif not self.plan.hidden[index - 1].to_planes:
            row_bytes *= self.instructions.parts
        number = self._ring(row, self.plan.rows_kept(index))
        size = code.times(self.given["columns"], row_bytes)
        return code.at(self._memory[f"input{index}"], code.times(number, size))

    def _picture_row(self, row: Value, plane: Value) -> Value:
        """Return a pointer to a row of the picture in working memory, as the first layer reads it."""
        return self._kept_row("picture", row, plane, self.plan.picture_planes, self.plan.sample_bytes)

    def _samples_row(self, row: Value, channel: Value) -> Value:
        """Return a pointer to the same row as bytes."""
        name = "picture" if self.plan.sample_bytes == 1 else "samples"
        return self._kept_row(name, row, channel, self.plan.spec.channels, 1)

    def _runs_row(self, row: Value) -> Value:
        """Return a pointer to what `flat.emit_runs` says about a row."""
        return self._kept_row("runs", row, self.code.number(0), 1, 1)

    def _kept_row(self, name: str, row: Value, channel: Value, channels: int, size: int) -> Value:
        code = self.code
        number = code.add(code.times(self._ring(row, self.plan.rows_kept(0)), channels), channel)
        return code.at(self._memory[name], code.times(code.times(number, self.given["columns"]), size))

    # The picture

    def _take_in(self, row: Value) -> None:
        """Copy a row of the picture into working memory, with zeros beyond it."""
        code, plan = self.code, self.plan
        first, end = self._span(plan.spec.halo_px)
        columns = self.given["columns"]
        with code.loop(code.number(0), code.number(plan.spec.channels)) as channel:
            samples = self._samples_row(row, channel)
            code.clear(samples, columns)
            with code.build.if_then(self._inside(row)):
                offset = code.add(
                    code.times(channel, self.given["lr_plane"]),
                    code.times(row, self.given["lr_row"]),
                    code.add(first, self._origin),
                )
                code.copy(code.at(samples, first), code.at(self.given["lr"], offset), code.minus(end, first))
                if plan.keeps_flat:
                    self._call(self._once("runs", emit_runs), samples, first, end, self._runs_row(row))
            if plan.sample_bytes > 1:
                self._widen(samples, self._picture_row(row, channel))
            if not plan.hidden:
                self._spread(row, channel, samples)

    def _widen(self, samples: Value, target: Value) -> None:
        """Convert a row of bytes to 16-bit integers."""
        self._call(self._once("widen", emit_widen), samples, target, self.given["columns"])

    def _keep_flat(self, row: Value, hr: Value) -> None:
        """Copy the picture's samples to a row of the result, where the picture is flat."""
        code, given = self.code, self.given
        table = self._memory["flat_rows"]
        with code.turns(2 * FLAT_RADIUS_PX + 1) as number:
            near = code.add(row, number, -FLAT_RADIUS_PX)
            near = code.most(code.least(near, code.minus(given["height"], 1)), code.number(0))
            rows = self._runs_row(near), self._samples_row(near, code.number(0))
            for place, pointer in enumerate(rows):
                entry = code.at(table, code.times(number, 16), 8 * place)
                code.store(code.at(pointer, self.plan.left_px), entry, 8)
        function = self._once("flat", partial(emit_copy, scale=self.plan.spec.scale))
        width = code.minus(given["right"], given["left"])
        self._call(function, table, hr, given["hr_row"], width)

    def _spread(self, row: Value, channel: Value, samples: Value, after: int = 0) -> None:
        """Copy a row of one channel into groups of four, where the picture is the last layer's input.

        These are ``after`` the first groups: the low bytes of deep samples.
        """
        code = self.code
        group, of_group = (
            operation(channel, code.number(4)) for operation in (code.build.udiv, code.build.urem)
        )
        plane = code.times(code.add(group, after), code.times(self.given["columns"], 4))
        target = code.at(self._input_row(0, row), plane, of_group)
        function = self._once("spread", partial(emit_spread, instructions=self.instructions))
        self._call(function, samples, target, self.given["columns"])

    # Layers

    def _row(self, index: int, row: Value) -> None:
        """Compute a row of a layer."""
        code, plan = self.code, self.plan
        if index == len(plan.hidden):
            self._last_row(row)
            return
        first, end = self._span(plan.halo(index))
        with code.build.if_else(self._inside(row)) as (inside, outside):
            with inside:
                self._hidden_row(index, row, first, end)
                self._pad_sides(index, row, first, end)
            with outside:
                self._pad_row(index, row, first, end)

    def _pad_sides(self, index: int, row: Value, first: Value, end: Value) -> None:
        """Fill what the next layer sees beside the picture."""
        code, beside = self.code, self.plan.layers[index + 1].reach
        if beside:
            at_left = code.build.icmp_signed("==", first, self._place(code.number(0)))
            with code.build.if_then(at_left):
                self._pad_beside(index, row, code.minus(first, beside))
            at_right = code.build.icmp_signed("==", end, self._place(self.given["width"]))
            with code.build.if_then(at_right):
                self._pad_beside(index, row, end)

    def _pad_row(self, index: int, row: Value, first: Value, end: Value) -> None:
        """Fill a row outside of the picture."""
        beside = self.plan.layers[index + 1].reach
        self._pad(index, row, self.code.minus(first, beside), self.code.add(end, beside))

    def _hidden(self, index: int) -> HiddenLayer:
        layer = self.plan.hidden[index]
        assert isinstance(layer, HiddenLayer)
        return layer

    def _hidden_row(self, index: int, row: Value, first: Value, end: Value) -> None:
        code = self.code
        layer = self._hidden(index)
        start = code.build.and_(first, code.number(-CHUNK_PX))
        tiles = code.build.sdiv(code.add(code.minus(end, start), layer.pixels - 1), code.number(layer.pixels))
        if layer.from_picture:
            self._picture_rows(layer, row, start, code.times(tiles, layer.pixels))
        else:
            offset = code.times(start, 4 * layer.groups * layer.parts)
            self._list_rows(index, row, offset)
        out = code.at(
            self._input_row(index + 1, row), code.times(start, 4 if layer.to_planes else layer.output_bytes)
        )
        memory = self._memory
        stacks = (memory.get(name, memory["rows"]) for name in ("stack_rows", "single_rows"))
        plane_bytes = code.times(self.given["columns"], 4)
        self._call(
            self._hidden_function(layer),
            memory["rows"],
            *stacks,
            self._parameters(index),
            out,
            plane_bytes,
            tiles,
            memory["sums"],
        )

    def _last_row(self, row: Value) -> None:
        code, plan, given = self.code, self.plan, self.given
        index, scale = len(plan.hidden), plan.spec.scale
        place = code.number(plan.left_px)
        self._list_rows(index, row, code.times(place, 4))
        hr = code.at(
            given["hr"], code.times(code.times(code.minus(row, given["top"]), scale), given["hr_row"])
        )
        self._call(
            self._last_function(),
            self._memory["rows"],
            code.times(given["columns"], 4),
            *self._picture_arguments(row),
            self._parameters(index),
            hr,
            given["hr_row"],
            given["hr_plane"],
            self._memory["edge"],
            code.minus(given["right"], given["left"]),
            *self._more_arguments(row),
        )
        if plan.keeps_flat:
            self._keep_flat(row, hr)

    def _picture_arguments(self, row: Value) -> tuple[Value, ...]:
        """Return "picture" and "picture_bytes" of `last.PARAMETERS`."""
        samples = self._samples_row(row, self.code.number(0))
        return self.code.at(samples, self.plan.left_px), self.given["columns"]

    def _more_arguments(self, row: Value) -> tuple[Value, ...]:
        """Return what the last layer needs besides `last.PARAMETERS`."""
        return ()

    def _parameters(self, index: int) -> Value:
        return self.code.at(self.given["parameters"], self.plan.parameters_at(index))

    def _list_rows(self, index: int, row: Value, offset: Value) -> None:
        """List the rows of a layer's input, from a place on."""
        code, layer = self.code, self.plan.layers[index]
        with code.turns(layer.kernel) as down:
            pointer = code.at(self._input_row(index, code.add(row, down, -layer.reach)), offset)
            code.store(pointer, code.at(self._memory["rows"], code.times(down, 8)), 8)

    def _picture_rows(self, layer: HiddenLayer, row: Value, start: Value, width: Value) -> None:
        """List the rows of the picture, and stack those of which one column is needed."""
        code, memory = self.code, self._memory
        offset = code.times(start, layer.parts)
        planes = code.number(self.plan.picture_planes)
        with code.loop(code.number(0), planes) as plane:
            with code.loop(code.number(0), code.number(layer.kernel)) as down:
                pointer = self._picture_row(code.add(row, down, -layer.reach), plane)
                number = code.add(code.times(plane, layer.kernel), down)
                code.store(code.at(pointer, offset), code.at(memory["rows"], code.times(number, 8)), 8)
            if layer.stacked:
                last = code.at(self._picture_row(code.add(row, layer.reach), plane), offset)
                code.store(last, code.at(memory["single_rows"], code.times(plane, 8)), 8)
            if layer.stacks:
                with code.loop(code.number(0), code.number(layer.stacks)) as stack:
                    self._stack(layer, row, plane, stack, start, width)

    def _stack(
        self, layer: HiddenLayer, row: Value, plane: Value, stack: Value, start: Value, width: Value
    ) -> None:
        """Put one sample of each of a few rows side by side, for the kernel's last column."""
        code, lanes, memory = self.code, self.instructions.lanes, self._memory
        number = code.add(code.times(plane, layer.stacks), stack)
        out = code.at(memory["stacks"], code.times(code.times(number, self.given["columns"]), 4))
        pointer = code.at(out, code.times(start, 4))
        code.store(pointer, code.at(memory["stack_rows"], code.times(number, 8)), 8)
        downs = [code.add(code.times(stack, layer.taps), tap - layer.reach) for tap in range(layer.taps)]
        sources = [self._picture_row(code.add(row, down), plane) for down in downs]
        function = self._stack_function(len(sources), layer.parts, 4, lanes)
        self._call(function, *sources, out, start, code.add(start, width, layer.reach))

    def _pad(self, index: int, row: Value, first: Value, end: Value) -> None:
        """Fill places of a row of a hidden layer's output with its zero points."""
        layer = self.plan.hidden[index]
        if layer.in_pixels:
            values = self.code.at(self._parameters(index), layer.padding_at)
            emit = partial(emit_pixel_padding, pixel_bytes=layer.output_bytes)
            function = self._once(f"pad_pixels{layer.output_bytes}", emit)
            self._call(function, self._input_row(index + 1, row), values, first, end)
            return
        function = self._once(f"pad{layer.padding_bytes}", partial(emit_padding, layer=layer))
        self._call(function, *self._padding(index, row), first, end, self.code.number(layer.outputs // 4))

    def _pad_beside(self, index: int, row: Value, first: Value) -> None:
        """Do the same for the few pixels beside the picture that the next layer sees."""
        layer, count = self.plan.hidden[index], self.plan.layers[index + 1].reach
        if count * layer.outputs > MAX_UNROLLED or layer.in_pixels:
            self._pad(index, row, first, self.code.add(first, count))
            return
        name = f"pad{layer.padding_bytes}.{layer.outputs}.{count}"
        function = self._once(name, partial(emit_padding_beside, layer=layer, count=count))
        self._call(function, *self._padding(index, row), first)

    def _padding(self, index: int, row: Value) -> tuple[Value, ...]:
        """Return the arguments `padding.PLACES`."""
        code, layer = self.code, self.plan.hidden[index]
        values = code.at(self._parameters(index), layer.padding_at)
        target = self._input_row(index + 1, row)
        if layer.to_planes:
            return target, values, code.times(self.given["columns"], 4), code.number(16)
        return target, values, code.number(16), code.number(4 * layer.outputs)

    # Functions

    def _call(self, function: Value, *arguments: Value) -> None:
        self.code.build.call(function, arguments)

    def _once(self, name: str, emit: Callable[[Value, str], Assembler]) -> Value:
        """Return the function of a name, which is emitted at its first use."""
        if name not in self.module.globals:
            emit(self.module, name)
        return self.module.globals[name]

    def _stack_function(self, sources: int, sample_bytes: int, column_bytes: int, lanes: int) -> Value:
        def emit(module: Value, name: str) -> Assembler:
            return emit_stack(module, name, sources, sample_bytes, column_bytes, lanes)

        return self._once("stack", emit)

    def _hidden_function(self, layer: HiddenLayer) -> Value:
        """Return the function of a layer, which equal layers share."""
        name = f"layer{self.plan.hidden.index(layer)}"
        return self._once(name, partial(emit_hidden, layer=layer, instructions=self.instructions))

    def _last_function(self) -> Value:
        layer = self.plan.last
        assert isinstance(layer, LastLayer)
        return self._once("last", partial(emit_last, layer=layer, instructions=self.instructions))

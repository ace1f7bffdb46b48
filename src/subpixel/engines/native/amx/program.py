"""What differs in the code of a network with AMX: each turn computes two rows of each layer."""

from functools import partial
from typing import cast

from subpixel.engines.assembler import Value
from subpixel.engines.native.amx.instructions import LINE, Amx
from subpixel.engines.native.amx.last import emit_last
from subpixel.engines.native.amx.last_planes import emit_planes
from subpixel.engines.native.amx.layer import ROWS_AT_ONCE, AmxLayer
from subpixel.engines.native.amx.products import tile_registers
from subpixel.engines.native.amx.rows import emit_rows
from subpixel.engines.native.deep_program import DeepProgram
from subpixel.engines.native.picture import emit_pixels
from subpixel.engines.native.program import Program


class AmxProgram(Program):
    """Emits the function for a plan with layers that are `AmxLayer`."""

    @property
    def _amx(self) -> Amx:
        return cast(Amx, self.instructions)

    def _begin(self) -> None:
        self._amx.configure(self.code, [*tile_registers().values()])

    def _end(self) -> None:
        self._amx.release(self.code)

    def _take_in(self, row: Value) -> None:
        """See `Program._take_in`. Channels are brought side by side for a first layer that reads pixels."""
        super()._take_in(row)
        first, plan = self.plan.layers[0], self.plan
        if isinstance(first, AmxLayer) and plan.rearranges_picture:
            function = self._once("pixels", partial(emit_pixels, channels=plan.spec.channels))
            samples = self._samples_row(row, self.code.number(0))
            self._call(function, samples, self._input_row(0, row), self.given["columns"])

    def _row(self, index: int, row: Value) -> None:
        """Compute two rows of a layer."""
        code, plan = self.code, self.plan
        layer = plan.layers[index]
        if not isinstance(layer, AmxLayer):
            with code.turns(ROWS_AT_ONCE) as number:
                each = code.add(row, number)
                wanted = code.build.icmp_signed("<", each, code.add(self.given["bottom"], plan.halo(index)))
                with code.build.if_then(wanted):
                    super()._row(index, each)
            return
        if layer is plan.last:
            self._last_rows(row)
            return
        first, end = self._span(plan.halo(index))
        inside = [self._inside(code.add(row, number)) for number in range(ROWS_AT_ONCE)]
        with code.build.if_then(code.build.or_(*inside)):
            self._hidden_rows(index, row, first, end)
        with code.turns(ROWS_AT_ONCE) as number:
            each = code.add(row, number)
            with code.build.if_else(self._inside(each)) as (then, otherwise):
                with then:
                    self._pad_sides(index, each, first, end)
                with otherwise:
                    self._pad_row(index, each, first, end)

    def _hidden_rows(self, index: int, row: Value, first: Value, end: Value) -> None:
        """Compute two rows of a hidden layer, of which one may be outside of the picture."""
        code, plan = self.code, self.plan
        layer, following = plan.layers[index], index + 1
        assert isinstance(layer, AmxLayer)
        before = code.minus(first, layer.reach)
        start = code.build.and_(before, code.number(-layer.aligned_px))
        width = code.minus(end, code.add(start, layer.reach))
        self._list_input(index, layer, row, start, code.add(end, layer.reach))
        pixel_bytes = 4 if layer.to_planes else layer.output_bytes
        out = code.times(code.add(start, layer.reach), pixel_bytes)
        outputs = [
            code.at(self._input_row(following, code.add(row, number)), out) for number in range(ROWS_AT_ONCE)
        ]
        name = f"layer{plan.layers.index(layer)}"
        function = self._once(name, partial(emit_rows, layer=layer, instructions=self._amx))
        plane_bytes = code.times(self.given["columns"], 4)
        self._call(function, *self._arguments(index, layer, width), *outputs, plane_bytes)

    def _last_rows(self, row: Value) -> None:
        """Compute two rows of the last layer, of which the second one may be beyond the result."""
        code, plan, given, memory = self.code, self.plan, self.given, self._memory
        index, layer = len(plan.hidden), plan.last
        assert isinstance(layer, AmxLayer)
        shift = (plan.left_px - layer.reach) % layer.aligned_px
        start = code.number(plan.left_px - layer.reach - shift)
        width = code.minus(given["right"], given["left"])
        self._list_input(index, layer, row, start, start)
        rows = [code.add(row, number) for number in range(ROWS_AT_ONCE)]
        pictures = [code.at(self._samples_row(each, code.number(0)), plan.left_px) for each in rows]
        wanted = code.least(code.minus(given["bottom"], row), code.number(ROWS_AT_ONCE))
        down = code.times(code.minus(row, given["top"]), layer.scale)
        hr = code.at(given["hr"], code.times(down, given["hr_row"]))
        emit = emit_planes if layer.scale == 1 else emit_last
        function = self._once("last", partial(emit, layer=layer, instructions=self._amx, shift=shift))
        self._call(
            function,
            *self._arguments(index, layer, code.add(width, shift)),
            *pictures,
            memory.get("floats", memory["edge"]),
            code.times(given["columns"], 4),
            hr,
            given["hr_row"],
            given["hr_plane"],
            memory["edge"],
            width,
            wanted,
        )
        if plan.keeps_flat:
            with code.loop(code.number(0), wanted) as number:
                below = code.times(code.times(number, layer.scale), given["hr_row"])
                self._keep_flat(code.add(row, number), code.at(hr, below))

    def _arguments(self, index: int, layer: AmxLayer, width: Value) -> tuple[Value, ...]:
        """Return the arguments `rows.PARAMETERS` for so many pixels."""
        code, memory = self.code, self._memory
        blocks = code.build.sdiv(code.add(width, layer.pixels - 1), code.number(layer.pixels))
        return memory["rows"], self._parameters(index), memory["sums"], blocks

    def _list_input(self, index: int, layer: AmxLayer, row: Value, start: Value, end: Value) -> None:
        """List the rows of a layer's input, from a place on; stacked rows are made up to ``end``."""
        code = self.code
        offset = code.times(start, layer.pixel_bytes)
        if layer.from_picture:
            self._stack_rows(layer, row, start, end)
            code.store(code.at(self._memory["stacks"], offset), self._memory["rows"], 8)
            return
        with code.turns(layer.rows) as number:
            pointer = code.at(self._input_row(index, code.add(row, number, -layer.reach)), offset)
            code.store(pointer, code.at(self._memory["rows"], code.times(number, 8)), 8)

    def _stack_rows(self, layer: AmxLayer, row: Value, start: Value, end: Value) -> None:
        """Put the samples side by side that two rows of the first layer see in a column."""
        code = self.code
        channel = code.number(0)
        sources = [
            self._picture_row(code.add(row, number - layer.reach), channel)
            for number in range(layer.kernel - 1 + ROWS_AT_ONCE)
        ]
        function = self._stack_function(len(sources), 1, layer.pixel_bytes, LINE // layer.pixel_bytes)
        self._call(function, *sources, self._memory["stacks"], start, end)


class AmxDeepProgram(AmxProgram, DeepProgram):
    """The same for deep samples: vectors compute the first layer and the last one."""

"""The function of a network for deep samples: see `subpixel.engines.native.deep`."""

from functools import partial

from subpixel.engines.assembler import Value
from subpixel.engines.native.deep import emit_bends, emit_take_in, emit_weights
from subpixel.engines.native.deep_last import emit_deep_last
from subpixel.engines.native.layers import SAMPLE_BYTES, LastLayer
from subpixel.engines.native.program import Program
from subpixel.engines.smooth import weight_constants
from subpixel.models.quantization import WHITE


class DeepProgram(Program):
    """Emits the function for a plan."""

    def _floats_row(self, row: Value, channel: Value) -> Value:
        """Return a pointer to a row of the picture as float32."""
        return self._kept_row("floats", row, channel, self.plan.spec.channels, 4)

    def _bends_row(self, row: Value) -> Value:
        return self._kept_row("bends", row, self.code.number(0), 1, 4)

    def _clamped(self, row: Value) -> Value:
        """Return the nearest row of the picture."""
        code = self.code
        return code.most(code.least(row, code.minus(self.given["height"], 1)), code.number(0))

    def _take_in(self, row: Value) -> None:
        """See `Program._take_in`."""
        code, plan, given = self.code, self.plan, self.given
        first, end = self._span(plan.spec.halo_px)
        channels = plan.spec.channels
        with code.loop(code.number(0), code.number(channels)) as channel:
            high, low = (self._picture_row(row, code.add(channel, after)) for after in (0, channels))
            with code.build.if_else(self._inside(row)) as (inside, outside):
                with inside:
                    column = code.times(code.add(first, self._origin), SAMPLE_BYTES[plan.samples])
                    offset = code.add(
                        code.times(channel, given["lr_plane"]), code.times(row, given["lr_row"])
                    )
                    source = code.at(given["lr"], offset, column)
                    floats, memory = self._floats_row(row, channel), self._memory["given"]
                    places = source, first, end, given["columns"]
                    self._call(self._take_in_function(), *places, memory, floats, high, low)
                with outside:
                    for values in (high, low):
                        code.clear(values, code.times(given["columns"], plan.sample_bytes))
            if not plan.hidden:
                for values, after in ((high, 0), (low, plan.last.groups)):
                    self._spread(row, channel, values, after)
        # Now the row before has both its neighbors.
        before = code.minus(row, 1)
        with code.build.if_then(self._inside(before)):
            near = (self._clamped(code.add(before, step)) for step in (-1, 0, 1))
            rows = [self._floats_row(each, code.number(0)) for each in near]
            places = code.times(given["columns"], 4), first, end, self._bends_row(before)
            self._call(self._bends_function(), *rows, *places)

    def _last_row(self, row: Value) -> None:
        """See `Program._last_row`."""
        code, plan = self.code, self.plan
        width = code.minus(self.given["right"], self.given["left"])
        near = (self._clamped(code.add(row, step)) for step in (-1, 0, 1))
        bends = [code.at(self._bends_row(each), 4 * plan.left_px) for each in near]
        self._call(self._weights_function(), *bends, width, self._memory["weights"])
        super()._last_row(row)

    def _picture_arguments(self, row: Value) -> tuple[Value, ...]:
        """See `Program._picture_arguments`."""
        code = self.code
        return (
            code.at(self._floats_row(row, code.number(0)), 4 * self.plan.left_px),
            code.times(self.given["columns"], 4),
        )

    def _more_arguments(self, row: Value) -> tuple[Value, ...]:
        """See `Program._more_arguments`."""
        code = self.code
        near = (self._clamped(code.add(row, step)) for step in (-1, 1))
        rows = (code.at(self._floats_row(each, code.number(0)), 4 * self.plan.left_px) for each in near)
        return (*rows, self._memory["weights"])

    def _take_in_function(self) -> Value:
        plan = self.plan
        function = partial(
            emit_take_in,
            samples=plan.samples,
            instructions=self.instructions,
            value_bytes=plan.sample_bytes,
            deep_shift=plan.deep_shift,
        )
        return self._once("take_in", function)

    def _bends_function(self) -> Value:
        channels = self.plan.spec.channels
        return self._once("bends", partial(emit_bends, instructions=self.instructions, channels=channels))

    def _weights_function(self) -> Value:
        subtracted, factor = map(float, weight_constants(WHITE[self.plan.samples]))
        function = partial(emit_weights, instructions=self.instructions, subtracted=subtracted, factor=factor)
        return self._once("weights", function)

    def _last_function(self) -> Value:
        last = self.plan.last
        assert isinstance(last, LastLayer)
        return self._once("last", partial(emit_deep_last, layer=last, instructions=self.instructions))

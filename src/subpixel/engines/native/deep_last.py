"""Code of the last layer for deep samples: the network's output is blended with linear interpolation.

See `subpixel.engines.smooth`, whose order of roundings this code has.
"""

from collections.abc import Sequence
from typing import ClassVar

from subpixel.engines.assembler import FLOAT, INT, POINTER, SHORT, Assembler, Value, vector
from subpixel.engines.native.deep import clipped_16
from subpixel.engines.native.instructions import InstructionSet
from subpixel.engines.native.last import PARAMETERS, Last
from subpixel.engines.native.layers import LastLayer
from subpixel.engines.smooth import neighbor_weight
from subpixel.models.quantization import MAGIC, WHITE


def emit_deep_last(module: Value, name: str, layer: LastLayer, instructions: InstructionSet) -> Assembler:
    """Emit the function of the last layer, with `DeepLast.parameters`, into a module."""
    return DeepLast(module, name, layer, instructions).code


class DeepLast(Last):
    """Emits the function. "picture" is a row of float32, and so are the rows that are added."""

    parameters: ClassVar[dict[str, Value]] = PARAMETERS | {
        "above": POINTER,  # the rows before and after "picture"
        "below": POINTER,
        "weights": POINTER,  # of the network, for each pixel
    }

    def _sums(self, column: Value, weights: Value, biases: list[Value]) -> list[Value]:
        """See `Last._sums`. If the picture is the input, it is in high bytes and low bytes."""
        code, layer = self.code, self.layer
        if not layer.from_picture:
            return super()._sums(column, weights, biases)
        zero, eight = (code.lanes(INT, [value] * layer.lanes) for value in (0, 8))
        high = super()._sums(column, weights, [zero for _ in biases])
        sums = [
            code.build.add(code.build.shl(value, eight), bias)
            for value, bias in zip(high, biases, strict=True)
        ]
        low_bytes = code.times(code.given["plane_bytes"], layer.groups)
        return super()._sums(code.add(column, low_bytes), weights, sums)

    def _finish(
        self, sums: list[Value], x: Value, channel: Value, first_row: Value, out: Value, row_bytes: Value
    ) -> None:
        """See `Last._finish`."""
        code, layer, given = self.code, self.layer, self.code.given
        offset = code.add(code.times(x, 4), code.times(channel, given["picture_bytes"]))
        for down in range(layer.rows):
            twice = code.add(code.times(first_row, 2), 2 * down + 1)
            upper = code.build.icmp_signed("<", twice, code.number(layer.scale))
            neighbor = code.build.select(upper, given["above"], given["below"])
            rows = [code.at(row, offset) for row in (given["picture"], neighbor)]
            # Its weight is the same for all outputs of the row.
            weight = self._constant("below", down * layer.scale, FLOAT)
            row_out = code.at(out, code.times(row_bytes, down))
            for number in range(layer.vectors):
                outputs = range(down * layer.scale, (down + 1) * layer.scale)
                totals = [sums[output * layer.vectors + number] for output in outputs]
                values = self._samples(totals, outputs, x, rows, weight, number)
                pixel = number * layer.lanes
                self._store(values, code.at(row_out, pixel * layer.scale * layer.sample_bytes))

    def _samples(
        self,
        totals: Sequence[Value],
        outputs: Sequence[int],
        x: Value,
        rows: Sequence[Value],
        weight: Value,
        number: int,
    ) -> list[Value]:
        """Return samples of one row, for a vector of pixels and each column of the shuffle."""
        code, layer, build = self.code, self.layer, self.code.build
        floats = self.instructions.floats

        def load(row: Value, step: int) -> Value:
            return code.load(code.at(row, 4 * (number * layer.lanes + step)), floats)

        def between(one: Value, other: Value, part: Value) -> Value:
            return build.fadd(one, build.fmul(part, build.fsub(other, one)))

        own, neighbor = ([load(row, step) for step in (-1, 0, 1)] for row in rows)
        columns = [between(one, other, weight) for one, other in zip(own, neighbor, strict=True)]
        network_weight = code.load(
            code.at(code.given["weights"], code.times(x, 4), 4 * number * layer.lanes), floats
        )
        values = []
        for across, (total, output) in enumerate(zip(totals, outputs, strict=True)):
            step, part = neighbor_weight(layer.scale, across)
            parts = code.lanes(FLOAT, [float(part)] * layer.lanes)
            linear = between(columns[1], columns[1 + step], parts)
            network = self._network(total, output)
            if layer.residual:
                network = build.fadd(network, own[1])
            values.append(self._sample(between(linear, network, network_weight)))
        return values

    def _network(self, total: Value, output: int) -> Value:
        """Return an output of the layers in the unit of samples."""
        code, layer, build = self.code, self.layer, self.code.build
        real, factor = self._real_and_factor(total, output)
        value = self._activated(build.fmul(real, factor))
        if layer.activation != "tanh":
            return value
        return build.fmul(value, code.lanes(FLOAT, [float(WHITE[layer.samples])] * layer.lanes))

    def _sample(self, value: Value) -> Value:
        """Return float32 as it is, and uint16 rounded, in the low 16 bits."""
        code, instructions = self.code, self.instructions
        if self.layer.samples == "float32":
            return value
        rounded = code.build.fadd(value, code.lanes(FLOAT, [MAGIC] * self.layer.lanes))
        return clipped_16(code, instructions, code.build.bitcast(rounded, instructions.ints))

    def _store(self, values: Sequence[Value], out: Value) -> None:
        """Interleave the columns of the shuffle, and store them."""
        code, layer = self.code, self.layer
        scale, lanes = layer.scale, layer.lanes
        for part in range(scale):
            sources = [divmod(part * lanes + lane, scale) for lane in range(lanes)]  # pixel, column
            together = values[0]
            if scale == 1:
                self._store_vector(together, out)
                return
            for across in range(1, scale):
                # Lanes of earlier columns stay in place, once they are there.
                places = [
                    lanes + pixel if column == across else lane if across > 1 else pixel
                    for lane, (pixel, column) in enumerate(sources)
                ]
                together = code.build.shuffle_vector(together, values[across], code.lanes(INT, places))
            self._store_vector(together, code.at(out, part * lanes * layer.sample_bytes))

    def _store_vector(self, values: Value, out: Value) -> None:
        code, layer = self.code, self.layer
        if layer.samples == "uint16":
            values = code.build.trunc(values, vector(SHORT, layer.lanes))
        code.store(values, out)

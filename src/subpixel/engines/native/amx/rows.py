"""Code of a hidden layer with AMX: two rows, block by block.

Tile registers go on to the next block while vector instructions requantize the blocks before: the two are
emitted mixed, because a processor looks only some hundred instructions ahead. For the same reason the second
row's accumulators, still being added to when a block ends, are stored only in the next one.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache, partial

from subpixel.engines.assembler import LONG, POINTER, Assembler, Step, Value, emit
from subpixel.engines.native.amx.instructions import LINE, SIDE, Amx
from subpixel.engines.native.amx.layer import AmxLayer
from subpixel.engines.native.amx.products import Products, tile_registers
from subpixel.engines.native.requantize import Constants, Requantization

PARAMETERS = {
    "rows": POINTER,  # pointers to the rows of the input, at the first block's first column
    "parameters": POINTER,
    "sums": POINTER,  # memory for accumulators, see `AmxLayer.all_sums_bytes`
    "blocks": LONG,
}

OUTPUTS = {"out0": POINTER, "out1": POINTER, "plane_bytes": LONG}
"""The two rows of the output, at the first block's first pixel; bytes from group to group in planes."""

AT_ONCE = 4
"""Vectors of accumulators that become one vector of bytes."""


class Rows(ABC):
    """Emits the function of a layer: all but what becomes of accumulators."""

    def __init__(
        self, module: Value, name: str, layer: AmxLayer, instructions: Amx, parameters: dict[str, Value]
    ) -> None:
        """Begin the function; ``parameters`` are those beside `PARAMETERS`."""
        self.layer, self.instructions = layer, instructions
        self.code = Assembler(name, PARAMETERS | parameters, module, internal=True)

    @abstractmethod
    def results(self, row: int, block: Value, sums: Value) -> list[Step]:
        """Steps that make results of the accumulators of one row of a block, group by group."""

    @abstractmethod
    def last_results(self, row: int, block: Value, sums: Value) -> None:
        """Emit the same where there is nothing to mix it with: short, as a loop."""

    def emit_blocks(self) -> None:
        """Compute two rows block by block."""
        code, layer, count = self.code, self.layer, self.code.given["blocks"]
        sources = [code.load(code.at(code.given["rows"], 8 * row), POINTER, 8) for row in range(layer.rows)]
        products = Products(code, self.instructions, layer, code.given["parameters"], code.given["sums"])
        narrow = layer.row_bytes < LINE
        if narrow:
            self.instructions.configure(code, [*tile_registers(layer.row_bytes).values()])
        emit(products.block(sources, code.number(0), first=True))
        with code.loop(code.number(1), count) as block:
            one, two = code.minus(block, 1), code.most(code.minus(block, 2), code.number(0))
            # In the first turn there are no accumulators of a second row yet. Those of the first row stand
            # in, since what memory holds may be numbers that take long.
            is_first = code.build.icmp_signed("==", block, code.number(1))
            first_row = products.sums_of(0, one)
            late = code.build.select(is_first, first_row, products.sums_of(1, two))
            others = [*self.results(1, two, late), *self.results(0, one, first_row)]
            emit(products.block(sources, block), others)
        one, two = code.minus(count, 1), code.most(code.minus(count, 2), code.number(0))
        emit(products.finish(one))
        for row, block in ((1, two), (0, one), (1, one)):
            self.last_results(row, block, products.sums_of(row, block))
        if narrow:
            self.instructions.configure(code, [])

    @property
    def groups(self) -> int:
        """Groups of `AT_ONCE` vectors of accumulators in a row of a block."""
        return self.layer.sums_bytes // (AT_ONCE * LINE)


def emit_rows(module: Value, name: str, layer: AmxLayer, instructions: Amx) -> Assembler:
    """Emit the function of a hidden layer, with `PARAMETERS` and `OUTPUTS`, into a module."""
    rows = _HiddenRows(module, name, layer, instructions, OUTPUTS)
    rows.load_constants()
    rows.emit_blocks()
    rows.code.succeed()
    return rows.code


class _HiddenRows(Rows):
    """Emits the function of a hidden layer."""

    def load_constants(self) -> None:
        """Load the constants of all channels into registers."""
        code, layer, parameters = self.code, self.layer, self.code.given["parameters"]

        @cache
        def load(name: str, number: int) -> Value:
            kind = self.instructions.shorts if name.startswith("tanh") else self.instructions.floats
            return code.load(code.at(parameters, layer.at(name) + LINE * number), kind, LINE)

        def of_vector(number: int) -> Constants:
            """Constants of tanh are those of pairs of vectors."""
            return {
                name: load(name, number // 2 if name.startswith("tanh") else layer.order[number])
                for name in layer.constants
                if name != "bias"
            }

        self._constants: Sequence[Constants] = [of_vector(number) for number in range(len(layer.order))]

    def results(self, row: int, block: Value, sums: Value) -> list[Step]:
        """See `Rows.results`."""
        out = self._out(row, block)
        return [
            partial(self._requantize, group, self.code.number(group), sums, out)
            for group in range(self.groups)
        ]

    def last_results(self, row: int, block: Value, sums: Value) -> None:
        """See `Rows.last_results`."""
        code, period, out = self.code, len(self.layer.order) // AT_ONCE, self._out(row, block)
        with code.loop(code.number(0), code.number(self.groups), period) as first:
            for number in range(period):
                self._requantize(number, code.add(first, number), sums, out)

    def _out(self, row: int, block: Value) -> Value:
        code = self.code
        pixel_bytes = 4 if self.layer.to_planes else self.layer.output_bytes
        return code.at(code.given[f"out{row}"], code.times(block, self.layer.pixels * pixel_bytes))

    def _requantize(self, group: int, place: Value, sums: Value, out: Value) -> None:
        """Requantize a group; ``group`` says which channels it is of, ``place`` where it is."""
        code, layer = self.code, self.layer
        group %= len(layer.order) // AT_ONCE
        constants = self._constants[group * AT_ONCE :][:AT_ONCE]
        requantization = Requantization(code, self.instructions, layer, constants)
        if layer.to_planes:
            four_px = code.build.udiv(place, code.number(layer.channel_blocks))
            pointer = code.at(sums, code.times(four_px, AT_ONCE * layer.channel_blocks * LINE), group * LINE)
            values = self._narrowed(requantization, pointer, layer.channel_blocks * LINE)
            for number in range(4):
                plane = code.times(code.given["plane_bytes"], group * 4 + number)
                pixels = code.pick(values, self._places(requantization)[16 * number :][:16])
                code.store(pixels, code.at(out, plane, code.times(four_px, 16)))
            return
        values = self._narrowed(requantization, code.at(sums, code.times(place, AT_ONCE * LINE)), LINE)
        code.store(code.pick(values, self._places(requantization)), code.at(out, code.times(place, LINE)))

    def _narrowed(self, requantization: Requantization, pointer: Value, step: int) -> Value:
        """Requantize the vectors of accumulators that are ``step`` bytes apart."""
        code = self.code
        four = [
            code.load(code.at(pointer, number * step), self.instructions.ints, LINE)
            for number in range(AT_ONCE)
        ]
        (values,) = requantization.chunks(four)
        return values

    def _places(self, requantization: Requantization) -> list[int]:
        """Where the bytes are in the order of the output: pixel after pixel, or a plane after another."""
        numbers, lanes = range(AT_ONCE), range(SIDE)
        if self.layer.to_planes:
            return [
                requantization.place(number, lane)
                for first in range(0, SIDE, 4)
                for number in numbers
                for lane in range(first, first + 4)
            ]
        return [requantization.place(number, lane) for number in numbers for lane in lanes]

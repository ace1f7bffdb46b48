"""Sums of a block: what AMX's registers hold, in which order they are multiplied, and where sums go."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from subpixel.engines.matrices.assembler import Assembler, Step, Value
from subpixel.engines.matrices.layout import LINE, SIDE, Layer

FIRST_SUMS, SECOND_SUMS, WEIGHTS, PIXELS = (0, 1), (2, 3), (4, 5), 6
"""Registers: of a pair's first row, of its second, of two matrices of weights, and of pixels."""


@dataclass(frozen=True)
class Group:
    """What is summed up at once: a matrix of pixels, and up to two of weights that it is multiplied with."""

    tile: int
    columns: range


class Products:
    """Emits the products of a layer, for two rows of the picture at once."""

    def __init__(self, code: Assembler, layer: Layer, parameters: Value, sums: Value) -> None:
        """``sums`` points to memory for them, of five times `Layer.sums_bytes`."""
        self.code, self.layer = code, layer
        self._parameters, self._sums = parameters, sums
        self._groups = [
            Group(tile, range(column, min(column + 2, layer.blocks)))
            for tile in range(layer.tiles)
            for column in range(0, layer.blocks, 2)
        ]

    def block(self, sources: Sequence[Value], block: Value, *, first: bool = False) -> list[Step]:
        """Steps that leave a block's sums in memory, but for the last of the second row: see `finish`."""
        code, layer = self.code, self.layer
        offset = code.times(block, layer.block_px * layer.pixel_bytes)
        pointers = [code.at(source, offset) for source in sources]
        pending = [] if first else self.finish(code.minus(block, 1))
        steps: list[Step] = []
        for group in self._groups:
            steps += [*self._of_rows(pointers, group, pending), *self._stores(block, group, 0)]
            pending = self._stores(block, group, 1)
        return steps

    def finish(self, block: Value) -> list[Step]:
        """Steps that bring to memory what a block has left in registers."""
        return self._stores(block, self._groups[-1], 1)

    def sums_of(self, row: int, block: Value) -> Value:
        """Where the sums of one row of a block are kept.

        Results are made of the first row while the next block is summed up, and of the second while the one
        after that is: so there is time for them to arrive. Hence two places, and three.
        """
        code = self.code
        place = code.build.urem(block, code.number(2 + row))
        return code.at(self._sums, code.times(code.add(place, 2 * row), self.layer.sums_bytes))

    def _of_rows(self, pointers: Sequence[Value], group: Group, pending: Sequence[Step]) -> list[Step]:
        """Steps that sum up a group.

        A row of the kernel is used twice, for one row of a pair and, a row of pixels later, for the other:
        its weights stay in their registers for that. Sums begin when they are needed, not before; those of
        the second row behind the ``pending`` stores of what is in their registers.
        """
        layer = self.layer
        ready = self._biases(FIRST_SUMS, group) | self._biases(SECOND_SUMS, group)
        for register, store in zip(SECOND_SUMS, pending, strict=False):
            ready.setdefault(register, []).insert(0, store)
        result: list[Step] = [*pending[len(group.columns) :]]  # of registers that this group does not use
        for step in range(layer.steps):
            for row in range(layer.rows):
                load = partial(self._pixels, pointers[row], step, group.tile)
                if layer.stacked:
                    second = self._of_columns(SECOND_SUMS, group, step, ready, load=1)
                    first = self._of_columns(FIRST_SUMS, group, step, ready, load=0)
                else:
                    second = self._of_columns(SECOND_SUMS, group, step, ready) if row > 0 else []
                    loaded = row < layer.kernel
                    first = self._of_columns(FIRST_SUMS, group, step, ready, load=row) if loaded else []
                result.append(load)
                # The second row is first, for the other one may load a matrix where it finds its weights.
                for one, other in zip_longest(second, first, fillvalue=()):
                    result += [*one, *other]
        return result

    def _of_columns(
        self,
        sums: Sequence[int],
        group: Group,
        step: int,
        ready: dict[int, list[Step]],
        load: int | None = None,
    ) -> list[list[Step]]:
        """Steps for each column of a group: load that of a set of weights, if given, and multiply by it.

        Before a register's first product come the steps that make it ``ready``.
        """
        columns: list[list[Step]] = []
        for register, weights, column in zip(sums, WEIGHTS, group.columns, strict=False):
            columns.append(ready.pop(register, []))
            if load is not None:
                columns[-1].append(partial(self._weights, weights, load, step, column))
            columns[-1].append(partial(self.code.tile_products, register, PIXELS, weights))
        return columns

    def _pixels(self, pointer: Value, step: int, tile: int) -> None:
        """Load a matrix of pixels."""
        stride = self.layer.pixel_bytes * self.layer.pixels
        place = step * self.layer.row_bytes + tile * SIDE * stride
        self.code.tile_load(PIXELS, self.code.at(pointer, place), stride)

    def _weights(self, register: int, weight_set: int, step: int, column: int) -> None:
        """Load a matrix of weights."""
        layer = self.layer
        place = ((weight_set * layer.steps + step) * layer.blocks + column) * layer.weight_bytes
        self.code.tile_load(register, self.code.at(self._parameters, layer.at("weights") + place), LINE)

    def _biases(self, sums: Sequence[int], group: Group) -> dict[int, list[Step]]:
        """For each register the step that begins its sums: the same row of biases sixteen times."""

        def begin(register: int, column: int) -> None:
            place = self.layer.at("bias") + column % self.layer.channel_blocks * LINE
            self.code.tile_load(register, self.code.at(self._parameters, place), 0)

        return {place[0]: [partial(begin, *place)] for place in zip(sums, group.columns, strict=False)}

    def _stores(self, block: Value, group: Group, row: int) -> list[Step]:
        """Steps that bring the sums of one row of a group to memory."""
        sums, stride = self.sums_of(row, block), self.layer.blocks * LINE

        def store(register: int, column: int) -> None:
            place = group.tile * SIDE * stride + column * LINE
            self.code.tile_store(register, self.code.at(sums, place), stride)

        registers = SECOND_SUMS if row else FIRST_SUMS
        return [partial(store, *place) for place in zip(registers, group.columns, strict=False)]


def configuration(row_bytes: int) -> bytes:
    """What ``ldtilecfg`` reads: shapes of the registers, with pixels and weights of so many bytes."""
    columns, rows = [LINE] * 8, [SIDE] * 8
    columns[PIXELS] = row_bytes
    for register in WEIGHTS:
        rows[register] = row_bytes // 4
    head = bytes([1]).ljust(16, b"\0")
    of_columns = b"".join(count.to_bytes(2, "little") for count in columns)
    return (head + of_columns.ljust(32, b"\0") + bytes(rows)).ljust(LINE, b"\0")

"""Accumulators of a block: what tile registers hold, in which order they are multiplied, and what is stored.

The order decides the speed: see the classes' comments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

from subpixel.engines.assembler import Assembler, Step, Value
from subpixel.engines.native.amx.instructions import LINE, SIDE, Amx, TileRegister
from subpixel.engines.native.amx.layer import AmxLayer

FIRST_SUMS, SECOND_SUMS, WEIGHTS, PIXELS = (0, 1), (2, 3), (4, 5), 6
"""Numbers of the tile registers: accumulators of the first row and of the second, weights, and pixels."""


def tile_registers(row_bytes: int = LINE) -> dict[int, TileRegister]:
    """Return the tile registers, for pixels and weights of so many bytes in a row."""
    weights = {number: TileRegister(number, rows=row_bytes // 4) for number in WEIGHTS}
    sums = {number: TileRegister(number) for number in (*FIRST_SUMS, *SECOND_SUMS)}
    return sums | weights | {PIXELS: TileRegister(PIXELS, row_bytes=row_bytes)}


@dataclass(frozen=True)
class Group:
    """What is multiplied at once: a tile register of pixels, and up to two blocks of weights."""

    tile: int
    columns: range


class Products:
    """Emits the products of a layer, for two rows of the picture at once."""

    def __init__(
        self, code: Assembler, instructions: Amx, layer: AmxLayer, parameters: Value, sums: Value
    ) -> None:
        """``sums`` points to memory for accumulators, of `AmxLayer.all_sums_bytes`."""
        self.code, self.instructions, self.layer = code, instructions, layer
        self._registers = tile_registers(layer.row_bytes)
        self._parameters, self._sums = parameters, sums
        self._groups = [
            Group(tile, range(column, min(column + 2, layer.blocks)))
            for tile in range(layer.tiles)
            for column in range(0, layer.blocks, 2)
        ]

    def block(self, sources: Sequence[Value], block: Value, *, first: bool = False) -> list[Step]:
        """Steps that leave a block's accumulators in memory, except the second row's last: see `finish`."""
        code, layer = self.code, self.layer
        offset = code.times(block, layer.pixels * layer.pixel_bytes)
        pointers = [code.at(source, offset) for source in sources]
        pending = [] if first else self.finish(code.minus(block, 1))
        steps: list[Step] = []
        for group in self._groups:
            steps += [*self._of_rows(pointers, group, pending), *self._stores(block, group, 0)]
            pending = self._stores(block, group, 1)
        return steps

    def finish(self, block: Value) -> list[Step]:
        """Steps that store what a block has left in registers."""
        return self._stores(block, self._groups[-1], 1)

    def sums_of(self, row: int, block: Value) -> Value:
        """Where the accumulators of one row of a block are kept.

        The first row is requantized during the products of the next block, the second row during those of the
        block after that, so that stores have time to arrive. Hence two places for the one, three for the
        other.
        """
        code = self.code
        place = code.build.urem(block, code.number(2 + row))
        return code.at(self._sums, code.times(code.add(place, 2 * row), self.layer.sums_bytes))

    def _of_rows(self, pointers: Sequence[Value], group: Group, pending: Sequence[Step]) -> list[Step]:
        """Steps that add all products of a group.

        A row of the kernel is used twice, for one row of the result and, a row of pixels later, for the
        other. Its weights stay in their registers for that. Accumulators begin when they are needed, not
        before; those of the second row after the ``pending`` stores of what is in their registers.
        """
        layer = self.layer
        ready = self._biases(FIRST_SUMS, group) | self._biases(SECOND_SUMS, group)
        for register, store in zip(SECOND_SUMS, pending, strict=False):
            ready.setdefault(register, []).insert(0, store)
        result: list[Step] = [*pending[len(group.columns) :]]  # of registers that this group does not use
        for step in range(layer.steps):
            for row in range(layer.rows):
                load = partial(self._pixels, pointers[row], step, group.tile)
                if layer.from_picture:
                    second = self._of_columns(SECOND_SUMS, group, step, ready, load=1)
                    first = self._of_columns(FIRST_SUMS, group, step, ready, load=0)
                else:
                    second = self._of_columns(SECOND_SUMS, group, step, ready) if row > 0 else []
                    loaded = row < layer.kernel
                    first = self._of_columns(FIRST_SUMS, group, step, ready, load=row) if loaded else []
                result.append(load)
                # The second row comes first, because the first one may load weights over its own.
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
        """Steps for each column of a group: load its weights of set ``load``, if given, and multiply.

        Before a register's first product come the steps that make it ``ready``.
        """
        columns: list[list[Step]] = []
        for register, weights, column in zip(sums, WEIGHTS, group.columns, strict=False):
            columns.append(ready.pop(register, []))
            if load is not None:
                columns[-1].append(partial(self._weights, weights, load, step, column))
            columns[-1].append(partial(self._multiply, register, weights))
        return columns

    def _multiply(self, sums: int, weights: int) -> None:
        registers = (self._registers[number] for number in (sums, PIXELS, weights))
        self.instructions.tile_products(self.code, *registers)

    def _load(self, register: int, pointer: Value, stride: int) -> None:
        self.instructions.tile_load(self.code, self._registers[register], pointer, stride)

    def _pixels(self, pointer: Value, step: int, tile: int) -> None:
        stride = self.layer.pixel_bytes * self.layer.row_px
        place = step * self.layer.row_bytes + tile * SIDE * stride
        self._load(PIXELS, self.code.at(pointer, place), stride)

    def _weights(self, register: int, weight_set: int, step: int, column: int) -> None:
        layer = self.layer
        place = ((weight_set * layer.steps + step) * layer.blocks + column) * layer.weight_bytes
        self._load(register, self.code.at(self._parameters, layer.at("weights") + place), LINE)

    def _biases(self, sums: Sequence[int], group: Group) -> dict[int, list[Step]]:
        """For each register the step that begins its accumulators: the same row of biases 16 times."""

        def begin(register: int, column: int) -> None:
            place = self.layer.at("bias") + column % self.layer.channel_blocks * LINE
            self._load(register, self.code.at(self._parameters, place), 0)

        return {place[0]: [partial(begin, *place)] for place in zip(sums, group.columns, strict=False)}

    def _stores(self, block: Value, group: Group, row: int) -> list[Step]:
        """Steps that store the accumulators of one row of a group."""
        sums, stride = self.sums_of(row, block), self.layer.blocks * LINE

        def store(register: int, column: int) -> None:
            place = group.tile * SIDE * stride + column * LINE
            self.instructions.tile_store(
                self.code, self._registers[register], self.code.at(sums, place), stride
            )

        registers = SECOND_SUMS if row else FIRST_SUMS
        return [partial(store, *place) for place in zip(registers, group.columns, strict=False)]

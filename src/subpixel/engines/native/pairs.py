"""Products of pairs: one instruction multiplies 2 pixels by 2 output channels, each over 8 input channels.

An accumulator then holds 2 pixels times 2 output channels, so that two of them hold what the accumulators of
single pixels hold. They are converted before and after all products.
"""

from collections.abc import Sequence

from subpixel.engines.assembler import INT, Assembler, Value
from subpixel.engines.native.instructions import InstructionSet
from subpixel.engines.native.layers import HiddenLayer

FIRST_HALVES, SECOND_HALVES = (0, 1, 4, 5), (2, 3, 6, 7)
"""Lanes of two vectors."""


def exchange(code: Assembler, sums: Sequence[Value], vectors: int) -> list[Value]:
    """Convert accumulators of single pixels to those of pairs, or back: the first halves, and the second."""
    result = list(sums)
    for start in range(0, len(sums), 2 * vectors):
        for place in range(start, start + vectors):
            both = sums[place], sums[place + vectors]
            result[place] = _pick(code, both, FIRST_HALVES)
            result[place + vectors] = _pick(code, both, SECOND_HALVES)
    return result


def add_products(
    code: Assembler,
    instructions: InstructionSet,
    layer: HiddenLayer,
    state: Sequence[Value],
) -> list[Value]:
    """Emit the products of one kernel row with 8 channels.

    The state is a pointer to the row's values, one to the weights, and the accumulators.
    """
    row, weights, *sums = state
    line, halves = instructions.line, 2 * layer.vectors
    pixels = _Pixels(code, row, layer, instructions)
    for across in range(layer.kernel):
        held = [
            code.load(code.at(weights, (across * halves + number) * line), instructions.ints, line)
            for number in range(halves)
        ]
        for pixel in range(0, layer.pixels, 2):
            values = pixels.pair(pixel + across - layer.reach)
            for number, weight in enumerate(held):
                vector, half = divmod(number, 2)
                place = (pixel + half) * layer.vectors + vector
                sums[place] = instructions.pair_dot(code, sums[place], values, weight)
    return [code.at(row, 32), code.at(weights, layer.kernel * halves * line), *sums]


class _Pixels:
    """Pairs of neighboring pixels, from chunks of four."""

    def __init__(self, code: Assembler, row: Value, layer: HiddenLayer, instructions: InstructionSet) -> None:
        self.code, self.row, self.layer, self.instructions = code, row, layer, instructions
        self._pairs: dict[int, Value] = {}

    def pair(self, x: int) -> Value:
        """Return 8 channels of pixel ``x`` and of the next one."""
        if x not in self._pairs:
            self._pairs[x] = self._odd(x) if x % 2 else self._even(x)
        return self._pairs[x]

    def _even(self, x: int) -> Value:
        chunk, place = divmod(x, 4)
        at = self.code.at(self.row, chunk * self.layer.groups * 16)
        fours = [self.code.load(self.code.at(at, 16 * group), self.instructions.ints) for group in (0, 1)]
        return _pick(self.code, fours, (place, place + 4, place + 1, place + 5))

    def _odd(self, x: int) -> Value:
        return _pick(self.code, (self.pair(x - 1), self.pair(x + 1)), (2, 3, 4, 5))


def _pick(code: Assembler, both: Sequence[Value], lanes: Sequence[int]) -> Value:
    return code.build.shuffle_vector(*both, code.lanes(INT, lanes))

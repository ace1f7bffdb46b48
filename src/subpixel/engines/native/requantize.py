"""Code for what becomes of accumulators of hidden layers: values for the next layer.

`subpixel.models.quantization` defines the arithmetic. There are four forms of it, which give the same
integers:

- general: accumulators are converted to float32 and multiplied.
- maximum: accumulators start with `MAGIC_BITS`. As floats they are then `MAGIC` plus the sum, and need no
  conversion; `pack` subtracts the excess from the addend. This is exact within limits that `pack.arithmetic`
  checks. PReLU is the larger of two results, if no slope is above 1.
- short: the same, and results fit 16 bits before they are clipped, so that their low halves are enough.
- choice: the same as maximum, for slopes above 1. The sign of the accumulator chooses between two results.
"""

from collections.abc import Mapping, Sequence

from subpixel.engines.assembler import INT, SHORT, Assembler, Value
from subpixel.engines.native.amx.layer import AmxLayer
from subpixel.engines.native.instructions import InstructionSet
from subpixel.engines.native.layers import HiddenLayer
from subpixel.models.quantization import MAGIC_BITS, MAX_TANH_ARGUMENT, TANH_COEFFICIENTS

Constants = Mapping[str, Value]
"""Vectors of the constants of 16, 8 or 4 output channels, by the names in `HiddenLayer.constants`."""


def load_constants(
    code: Assembler, instructions: InstructionSet, layer: HiddenLayer, pointer: Value
) -> Constants:
    """Load the constants of a vector of output channels from a pointer to the first of them."""
    constants = {}
    for number, name in enumerate(layer.constants):
        kind = instructions.shorts if name.startswith("tanh") else instructions.floats
        place = number * layer.vectors * instructions.line
        constants[name] = code.load(code.at(pointer, place), kind, instructions.line)
    return constants


class Requantization:
    """Emits the requantization of accumulators of a layer."""

    def __init__(
        self,
        code: Assembler,
        instructions: InstructionSet,
        layer: HiddenLayer | AmxLayer,
        constants: Sequence[Constants],
    ) -> None:
        """``constants`` are those of the first accumulators, of the next ones, and so on in turn."""
        self.code, self.instructions, self.layer = code, instructions, layer
        self._constants = constants
        self.low = layer.arithmetic == "short" and instructions.packs_low
        """Whether only low halves of results are looked at."""

    def chunks(self, accumulators: Sequence[Value]) -> list[Value]:
        """Requantize the accumulators of neighboring pixels; return whole vectors in the order of a row.

        The vectors hold 4 pixels each, or 2 if values have 16 bits and are for a hidden layer.
        """
        code, instructions = self.code, self.instructions
        narrow = instructions.parts == 1 or self.layer.to_planes
        count = len(self._constants)
        ints = [self._int(value, self._constants[n % count]) for n, value in enumerate(accumulators)]
        pack = instructions.pack_low if self.low else instructions.pack_32
        pairs = [pack(code, *ints[start : start + 2]) for start in range(0, len(ints), 2)]
        if self.layer.activation == "tanh":
            pairs = [self._tanh(pair, self._constants[2 * n % count]) for n, pair in enumerate(pairs)]
        if not narrow:
            return [instructions.clip_16(code, pair) for pair in pairs]
        packed = [instructions.pack_16(code, *pairs[start : start + 2]) for start in range(0, len(pairs), 2)]
        return [instructions.stored(code, values) for values in packed]

    def place(self, number: int, lane: int) -> int:
        """Where `chunks` leaves a lane of one of four accumulators: the number of the byte."""
        four, of_four = divmod(lane, 4)
        pair, of_pair = divmod(number, 2)
        return four * 16 + pair * 8 + (of_four * 2 + of_pair if self.low else of_pair * 4 + of_four)

    def _int(self, accumulator: Value, constant: Constants) -> Value:
        """Return ``round(multiplier * accumulator + zero_point)``, to be saturated later.

        If only the low halves matter, the high ones are not right.
        """
        code, instructions, layer = self.code, self.instructions, self.layer
        ints, lanes, build = instructions.ints, instructions.lanes, code.build
        magic = code.lanes(INT, [MAGIC_BITS] * lanes)
        if layer.arithmetic == "general":
            factor = constant["factor"]
            if layer.activation == "prelu":
                zero = code.lanes(INT, [0] * lanes)
                negative = build.icmp_signed("<", accumulator, zero)
                factor = build.select(negative, constant["negative_factor"], factor)
            total = build.sitofp(accumulator, instructions.floats)
            bits = build.bitcast(instructions.fused(code, total, factor, constant["addend"]), ints)
            # Far outside of the range, the subtraction below would overflow.
            low, high = (code.lanes(INT, [MAGIC_BITS + end] * lanes) for end in (-(2**15) + 1, 2**15 - 1))
            return build.sub(instructions.least(code, instructions.most(code, bits, low), high), magic)
        total = build.bitcast(accumulator, instructions.floats)
        value = instructions.fused(code, total, constant["factor"], constant["addend"])
        if layer.activation == "prelu":
            other = instructions.fused(code, total, constant["negative_factor"], constant["negative_addend"])
            if layer.arithmetic == "choice":
                value = build.select(build.icmp_signed("<", accumulator, magic), other, value)
            else:
                value = instructions.larger(code, value, other)
        bits = build.bitcast(value, ints)
        return bits if self.low else build.sub(bits, magic)

    def _tanh(self, arguments: Value, constant: Constants) -> Value:
        """Apply `quantization.fixed_point_tanh` to a vector of 16-bit integers, and requantize it."""
        code, instructions, build = self.code, self.instructions, self.code.build

        def all_lanes(value: int) -> Value:
            return code.lanes(SHORT, [value] * 2 * instructions.lanes)

        def product(one: Value, other: Value) -> Value:
            return instructions.rounded_product(code, one, other)

        clipped = instructions.most(code, arguments, all_lanes(-MAX_TANH_ARGUMENT))
        distance = instructions.magnitude(code, clipped)
        polynomial = all_lanes(TANH_COEFFICIENTS[-1])
        for coefficient in TANH_COEFFICIENTS[-2::-1]:
            polynomial = build.add(product(polynomial, distance), all_lanes(coefficient))
        tanh = product(clipped, polynomial)
        return build.add(product(tanh, constant["tanh_multiplier"]), constant["tanh_zero"])

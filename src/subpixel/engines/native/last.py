"""Code of the last layer: vectors of neighboring pixels, shuffled to rows of the large picture.

Output channels are few and rarely fill a vector, so here the weights are broadcast. Outputs become samples as
the reference computes them, in the same order of roundings, so that they agree to the integer.
"""

from dataclasses import dataclass
from typing import ClassVar

from subpixel.engines.assembler import BYTE, FLOAT, INT, LONG, POINTER, Assembler, Value, vector
from subpixel.engines.native.instructions import InstructionSet
from subpixel.engines.native.layers import LastLayer
from subpixel.models.quantization import MAGIC, MAGIC_BITS

PARAMETERS = {
    "rows": POINTER,  # pointers to the rows of the input that the kernel covers, at the result's first column
    "plane_bytes": LONG,  # from group to group of the input
    "picture": POINTER,  # the row of the picture that is added, at the result's first column
    "picture_bytes": LONG,  # from channel to channel
    "parameters": POINTER,
    "hr": POINTER,  # the large picture, at the result's first sample
    "hr_row": LONG,  # bytes from row to row
    "hr_plane": LONG,  # and from channel to channel
    "edge": POINTER,  # memory for one tile of the large picture
    "width": LONG,  # of the result, in pixels of the small picture
}

TANH_NUMERATOR = (0.9999956881610529, 0.12302179957835653, 0.0022769860645924945, 3.929998213940885e-06)
TANH_DENOMINATOR = (1.0, 0.45634028580485314, 0.021072166943356382, 0.00014235052369148454)
TANH_LIMIT = 7.0
"""tanh(x) = x * numerator(x^2) / denominator(x^2), for x clipped to the limit: an error of at most 9.1e-7.
`benchmarks/tanh_fits.py` finds the coefficients."""


def emit_last(module: Value, name: str, layer: LastLayer, instructions: InstructionSet) -> Assembler:
    """Emit the function of the last layer, with `PARAMETERS`, into a module."""
    return Last(module, name, layer, instructions).code


@dataclass(frozen=True)
class _Target:
    """Where a tile's samples go."""

    first: Value
    row: Value
    plane: Value


class Last:
    """Emits the function of the last layer, with ``parameters``."""

    parameters: ClassVar[dict[str, Value]] = PARAMETERS

    def __init__(self, module: Value, name: str, layer: LastLayer, instructions: InstructionSet) -> None:
        """Emit everything; ``code`` is the function."""
        self.layer, self.instructions = layer, instructions
        self.code = code = Assembler(name, self.parameters, module, internal=True)
        given, scale = code.given, layer.scale
        row_bytes = layer.pixels * scale * layer.sample_bytes
        edge = _Target(given["edge"], code.number(row_bytes), code.number(row_bytes * scale))
        whole_end = code.minus(given["width"], layer.pixels)
        with code.loop(code.number(0), given["width"], layer.pixels) as x:
            whole = code.build.icmp_signed("<=", x, whole_end)
            first = code.at(given["hr"], code.times(x, scale * layer.sample_bytes))
            direct = _Target(first, given["hr_row"], given["hr_plane"])
            target = _Target(
                *(
                    code.build.select(whole, getattr(direct, name), getattr(edge, name))
                    for name in ("first", "row", "plane")
                )
            )
            with code.loop(code.number(0), code.number(layer.outputs // layer.at_once)) as block:
                self._tile(x, block, target)
            with code.build.if_then(code.build.not_(whole)):
                self._copy_edge(edge, direct, code.minus(given["width"], x))
        code.succeed()

    def _copy_edge(self, edge: _Target, direct: _Target, pixels: Value) -> None:
        """Copy what is wanted of the last tile."""
        code, layer = self.code, self.layer
        zero = code.number(0)
        with (
            code.loop(zero, code.number(layer.channels)) as channel,
            code.loop(zero, code.number(layer.scale)) as down,
        ):
            source, target = (
                code.at(of.first, code.times(of.plane, channel), code.times(of.row, down))
                for of in (edge, direct)
            )
            code.copy(target, source, code.times(pixels, layer.scale * layer.sample_bytes))

    def _tile(self, x: Value, block: Value, target: _Target) -> None:
        """Compute the outputs of a block for a tile."""
        code, layer = self.code, self.layer
        parameters = code.given["parameters"]
        weights = code.at(parameters, code.times(block, layer.weight_bytes * layer.at_once // layer.outputs))
        constants = code.at(parameters, layer.weight_bytes, code.times(block, layer.at_once * 4))
        self._constants = constants
        biases = [
            value
            for output in range(layer.at_once)
            for value in [self._constant("bias", output, INT)] * layer.vectors
        ]
        sums = self._sums(code.times(x, 4), weights, biases)
        blocks = code.number(layer.scale // layer.rows)  # of a channel
        channel = code.times(code.build.sdiv(block, blocks), layer.planes)
        first_row = code.build.srem(block, blocks)
        outputs = layer.at_once // layer.planes
        for plane in range(layer.planes):
            self._constants = code.at(constants, 4 * outputs * plane)
            of_plane = sums[plane * outputs * layer.vectors :][: outputs * layer.vectors]
            out = code.at(target.first, code.times(target.plane, channel), code.times(target.row, first_row))
            self._finish(of_plane, x, channel, first_row, out, target.row)
            channel = code.add(channel, 1)

    def _sums(self, column: Value, weights: Value, biases: list[Value]) -> list[Value]:
        """Return the accumulators of a block."""
        return self._products(column, [weights, *biases])[1:]

    def _finish(
        self, sums: list[Value], x: Value, channel: Value, first_row: Value, out: Value, row_bytes: Value
    ) -> None:
        """Convert the accumulators of a block to samples, and store them from ``out`` on."""
        code, layer = self.code, self.layer
        residual = self._residual(x, channel) if layer.residual else None
        for down in range(layer.rows):
            values = [
                [
                    self._value(sums, down * layer.scale + across, number, residual)
                    for across in range(layer.scale)
                ]
                for number in range(layer.vectors)
            ]
            self._store_row(values, code.at(out, code.times(row_bytes, down)))

    def _products(self, column: Value, state: list[Value]) -> list[Value]:
        """Add all products; the state is the weights' pointer and the sums."""
        code, layer, instructions = self.code, self.layer, self.instructions

        def kernel_row(down: Value, state: list[Value]) -> list[Value]:
            row = code.load(code.at(code.given["rows"], code.times(down, 8)), POINTER, 8)
            _, *state = code.repeat(layer.groups, [code.at(row, column), *state], group)
            return state

        def group(_: Value, state: list[Value]) -> list[Value]:
            row, *state = state
            state = code.repeat(
                layer.kernel // layer.columns, [code.at(row, -4 * layer.reach), *state], columns
            )
            return [code.at(row, code.given["plane_bytes"]), *state[1:]]

        def columns(_: Value, state: list[Value]) -> list[Value]:
            row, weights, *sums = state
            for across in range(layer.columns):
                offsets = [4 * (across + number * layer.lanes) for number in range(layer.vectors)]
                values = [instructions.pixels(code, code.at(row, offset)) for offset in offsets]
                for output in range(layer.at_once):
                    first = (across * layer.at_once + output) * layer.parts
                    held = [self._weight(weights, first + part) for part in range(layer.parts)]
                    for number in range(layer.vectors):
                        at = output * layer.vectors + number
                        for weight, operand in zip(held, values[number], strict=True):
                            sums[at] = instructions.dot(code, sums[at], operand, weight)
            weights = code.at(weights, 4 * layer.columns * layer.parts * layer.at_once)
            return [code.at(row, 4 * layer.columns), weights, *sums]

        return code.repeat(layer.kernel, state, kernel_row)

    def _weight(self, weights: Value, number: int) -> Value:
        """Return weight ``number`` of a turn of the innermost loop in every lane."""
        count = self.layer.columns * self.layer.parts * self.layer.at_once
        return self.instructions.broadcast(self.code, weights, 4 * number, whole=number // 4 < count // 4)

    def _constant(self, name: str, output: int, kind: Value) -> Value:
        """Return a constant of an output in every lane."""
        code, layer = self.code, self.layer
        place = layer.constants.index(name) * layer.outputs * 4 + output * 4
        return code.all(code.load(code.at(self._constants, place), kind, 4), layer.lanes)

    def _residual(self, x: Value, channel: Value) -> list[Value]:
        """Return the picture's samples, added to `MAGIC`."""
        code, layer = self.code, self.layer
        row = code.at(code.given["picture"], code.times(channel, code.given["picture_bytes"]))
        row = code.at(row, x)
        magic = code.lanes(INT, [MAGIC_BITS] * layer.lanes)
        result = []
        for number in range(layer.vectors):
            samples = code.load(code.at(row, number * layer.lanes), vector(BYTE, layer.lanes))
            integers = code.build.zext(samples, self.instructions.ints)
            result.append(code.build.bitcast(code.build.add(integers, magic), self.instructions.floats))
        return result

    def _value(self, sums: list[Value], output: int, number: int, residual: list[Value] | None) -> Value:
        """Return an output as integers from 0 up; more than 255 saturates later."""
        code, layer, instructions, build = self.code, self.layer, self.instructions, self.code.build
        real, factor = self._real_and_factor(sums[output * layer.vectors + number], output)
        white, magic = (code.lanes(FLOAT, [value] * layer.lanes) for value in (255.0, MAGIC))
        addend = magic if residual is None else residual[number]
        if layer.activation == "relu":
            value = build.fadd(self._activated(build.fmul(real, factor)), addend)
        elif layer.activation == "tanh":
            value = instructions.fused(code, self._activated(build.fmul(real, factor)), white, addend)
        else:
            value = instructions.fused(code, real, factor, addend)
        bits = build.bitcast(value, instructions.ints)
        zero = code.lanes(INT, [MAGIC_BITS] * layer.lanes)
        return build.sub(instructions.most(code, bits, zero), zero)

    def _real_and_factor(self, total: Value, output: int) -> tuple[Value, Value]:
        """Return an accumulator of an output as float32, and what it is multiplied by."""
        code, layer, build = self.code, self.layer, self.code.build
        factor = self._constant("factor", output, FLOAT)
        if layer.activation == "prelu":
            negative = build.icmp_signed("<", total, code.lanes(INT, [0] * layer.lanes))
            factor = build.select(negative, self._constant("negative_factor", output, FLOAT), factor)
        return build.sitofp(total, self.instructions.floats), factor

    def _activated(self, value: Value) -> Value:
        """Apply the activation; PReLU's slope is applied already."""
        code, build, lanes = self.code, self.code.build, self.layer.lanes

        def bound(value: Value, limit: float, sign: str) -> Value:
            limits = code.lanes(FLOAT, [limit] * lanes)
            return build.select(build.fcmp_ordered(sign, value, limits), value, limits)

        if self.layer.activation == "relu":
            return bound(value, 0.0, ">")
        if self.layer.activation == "tanh":
            inside = bound(bound(value, -TANH_LIMIT, ">"), TANH_LIMIT, "<")
            square = build.fmul(inside, inside)
            numerator, denominator = (
                self._polynomial(coefficients, square) for coefficients in (TANH_NUMERATOR, TANH_DENOMINATOR)
            )
            return build.fdiv(build.fmul(inside, numerator), denominator)
        return value

    def _polynomial(self, coefficients: tuple[float, ...], argument: Value) -> Value:
        code, lanes = self.code, self.layer.lanes
        result = code.lanes(FLOAT, [coefficients[-1]] * lanes)
        for coefficient in coefficients[-2::-1]:
            result = self.instructions.fused(code, result, argument, code.lanes(FLOAT, [coefficient] * lanes))
        return result

    def _store_row(self, values: list[list[Value]], out: Value) -> None:
        """Interleave the outputs of one row, ``[vector][column of the shuffle]``, and store them."""
        code, scale, lanes = self.code, self.layer.scale, self.layer.lanes
        together = min({1: 4, 2: 2}.get(scale, 1), len(values))
        for start in range(0, len(values), together):
            streams = [value for vector in values[start : start + together] for value in vector]
            filled = streams + streams[-1:] * (-len(streams) % 4)
            packed = [self._packed(filled[first : first + 4]) for first in range(0, len(filled), 4)]
            samples = self._interleaved(packed, together)
            code.store(samples, code.at(out, start * lanes * scale))

    def _interleaved(self, packed: list[Value], together: int) -> Value:
        """Return samples in the order of a row, for ``together`` vectors of pixels.

        Each 128 bits of a vector hold four pixels of four streams in turn; there is a stream for each vector
        of pixels and each column of the shuffle.
        """
        code, scale, lanes = self.code, self.layer.scale, self.layer.lanes
        if len(packed) == 1:
            # First within 128 bits, where the samples of four pixels come together; then whole words of
            # these.
            within = [
                (number * scale + across) * 4 + pixel
                for number in range(together)
                for pixel in range(4)
                for across in range(scale)
            ]
            within += [0] * (16 - len(within))
            places = [start + place for start in range(0, 4 * lanes, 16) for place in within]
            words = [
                four * 4 + number * scale + word
                for number in range(together)
                for four in range(lanes // 4)
                for word in range(scale)
            ]
            return code.pick(code.build.bitcast(code.pick(packed[0], places), self.instructions.ints), words)
        places = []
        for sample in range(lanes * scale):
            lane, across = divmod(sample, scale)
            four, of_four = divmod(across, 4)
            places.append(four * 4 * lanes + lane // 4 * 16 + of_four * 4 + lane % 4)
        return code.build.shuffle_vector(packed[0], packed[-1], code.lanes(INT, places))

    def _packed(self, four: list[Value]) -> Value:
        code, instructions = self.code, self.instructions
        pairs = [instructions.pack_32(code, *four[start : start + 2]) for start in (0, 2)]
        return instructions.pack_16(code, *pairs)

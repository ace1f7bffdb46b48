"""Code of a hidden layer: one row, in tiles of neighboring pixels times vectors of output channels.

The values of one pixel are broadcast to all lanes and multiplied by weights of as many output channels. A
value serves all neighbors that the kernel's row covers at once, so each load is used several times.
Accumulators stay in registers until they are requantized.

The order of products matters: a broadcast is used up before the next one, and kernel rows and groups of
channels are loops at run time. Otherwise LLVM moves loads far ahead and stores accumulators in memory.

A processor can requantize and multiply at once, but it looks only some hundred instructions ahead. So in most
layers a tile's accumulators are stored, and requantized during the products of the next tile, four pixels in
each turn of the loop: see `tiles.overlaps`.
"""

from collections.abc import Callable, Sequence
from functools import partial

from subpixel.engines.assembler import INT, LONG, POINTER, Assembler, Repeated, Value
from subpixel.engines.native import pairs
from subpixel.engines.native.instructions import InstructionSet
from subpixel.engines.native.layers import ALIGNMENT, HiddenLayer
from subpixel.engines.native.requantize import Requantization, load_constants
from subpixel.engines.native.tiles import CHUNK_PX

Other = Callable[[Value], None]
"""Emits what is done beside the products, for the number of a unit."""

PARAMETERS = {
    "rows": POINTER,  # pointers to the rows of the input that the kernel covers, at the tiles' first column
    "stack_rows": POINTER,  # likewise to stacked rows of the picture
    "single_rows": POINTER,  # and to the last row of each channel of the picture
    "parameters": POINTER,
    "out": POINTER,  # the output row, at the first column
    "plane_bytes": LONG,  # from group to group of the output, if it is in planes
    "tiles": LONG,
    "sums": POINTER,  # memory for the accumulators of a tile
}


def chunk_offset(layer: HiddenLayer, x: int) -> int:
    """Return the offset in bytes of a pixel in a row of the layer's input; ``x`` may be negative."""
    chunk, pixel = divmod(x, layer.taps)
    return chunk * layer.groups * 16 + pixel * 4 * layer.parts


def emit_hidden(module: Value, name: str, layer: HiddenLayer, instructions: InstructionSet) -> Assembler:
    """Emit the function of a layer, with `PARAMETERS`, into a module."""
    return _Hidden(module, name, layer, instructions).code


class _Hidden:
    """Emits the function of a layer."""

    def __init__(self, module: Value, name: str, layer: HiddenLayer, instructions: InstructionSet) -> None:
        self.layer, self.instructions = layer, instructions
        self.code = code = Assembler(name, PARAMETERS, module, internal=True)
        total = code.times(code.given["tiles"], layer.passes)
        with code.loop(code.number(0), total) as number:
            self._tile(number)
        if layer.overlapped:
            self._rest(code.minus(total, 1))
        code.succeed()

    def _tile(self, number: Value) -> None:
        """Compute a pass of a tile; ``number`` counts all passes of all tiles."""
        code, layer, line = self.code, self.layer, self.instructions.line
        tile, _ = self._tile_and_pass(number)
        sample = layer.parts if layer.from_picture else 4 * layer.groups * layer.parts
        self._at = code.times(tile, layer.pixels * sample)
        self._at_stack = code.times(tile, layer.pixels * 4)
        weights, constants = self._parameters(number)
        biases = [
            code.load(code.at(constants, vector * line), self.instructions.ints, line)
            for vector in range(layer.vectors)
        ]
        sums = [bias for _ in range(layer.pixels) for bias in biases]
        state = [weights, *sums]
        if not layer.overlapped:
            if layer.deep:
                sums = self._deep_picture(weights, sums)
            else:
                sums = self._picture(state)[1:] if layer.from_picture else self._values(state)
            for unit in range(layer.units):
                first = unit // layer.vectors * CHUNK_PX * layer.vectors + unit % layer.vectors
                four = sums[first : first + CHUNK_PX * layer.vectors : layer.vectors]
                self._requantize(number, code.number(unit), four)
            return
        # The first tile has none before it. It requantizes whatever memory holds to its own place.
        before = code.most(code.minus(number, 1), code.number(0))
        sums = self._values(state, partial(self._requantize_stored, before))
        for place, value in enumerate(sums):
            code.store(value, code.at(code.given["sums"], place * line), line)

    def _rest(self, number: Value) -> None:
        """Requantize the last tile's accumulators."""
        code = self.code
        with code.loop(code.number(0), code.number(self.layer.units)) as unit:
            self._requantize_stored(number, unit)

    def _tile_and_pass(self, number: Value) -> tuple[Value, Value]:
        passes = self.code.number(self.layer.passes)
        return self.code.build.udiv(number, passes), self.code.build.urem(number, passes)

    def _parameters(self, number: Value) -> tuple[Value, Value]:
        """Return pointers to the weights and the constants of a pass."""
        code, layer = self.code, self.layer
        _, of_pass = self._tile_and_pass(number)
        weights = code.at(code.given["parameters"], code.times(of_pass, layer.pass_bytes))
        return weights, code.at(weights, layer.weight_vectors * self.instructions.line)

    # Products

    def _values(self, state: list[Value], other: Other | None = None) -> list[Value]:
        """Add all products with hidden values; the state is the weights' pointer and the sums.

        ``other`` is done beside them, once for each of the layer's units. Returns the sums.
        """
        code, layer = self.code, self.layer

        def kernel_row(down: Value, state: list[Value], other: Other | None = None) -> list[Value]:
            row = code.at(self._row("rows", down), self._at)
            if layer.paired:
                _, *state = self._repeat(layer.groups // 2, [row, *state], pair_group, other)
            else:
                _, *state = self._repeat(layer.groups, [row, *state], group, other)
            return state

        def pair_group(_: Value, state: list[Value]) -> list[Value]:
            return pairs.add_products(code, self.instructions, layer, state)

        def group(_: Value, state: list[Value]) -> list[Value]:
            row, weights, *sums = state
            for part in range(layer.parts):
                held = self._load_weights(
                    weights, part * layer.kernel * layer.vectors, layer.kernel * layer.vectors
                )
                for x in range(-layer.reach, layer.pixels + layer.reach):
                    values = self._value(row, x, part)
                    for across in range(layer.kernel):
                        pixel = x - across + layer.reach
                        if 0 <= pixel < layer.pixels:
                            self._add(sums, pixel, values, held[across * layer.vectors :])
            weights = code.at(weights, layer.parts * layer.kernel * layer.vectors * self.instructions.line)
            return [code.at(row, 16), weights, *sums]

        if layer.paired:
            state = [state[0], *pairs.exchange(code, state[1:], layer.vectors)]
        if other is None:
            _, *sums = code.repeat(layer.kernel, state, kernel_row)
        else:
            state = kernel_row(code.number(0), state, other)
            _, *sums = code.repeat(
                layer.kernel - 1, state, lambda down, state: kernel_row(code.add(down, 1), state)
            )
        return pairs.exchange(code, sums, layer.vectors) if layer.paired else sums

    def _repeat(self, count: int, state: list[Value], body: Repeated, other: Other | None) -> list[Value]:
        """Repeat a body, in the first turns together with ``other``."""
        units = self.layer.units if other else 0

        def both(turn: Value, state: list[Value]) -> list[Value]:
            assert other is not None
            other(turn)
            return body(turn, state)

        def alone(turn: Value, state: list[Value]) -> list[Value]:
            return body(self.code.add(turn, units), state)

        state = self.code.repeat(units, state, both)
        return self.code.repeat(count - units, state, alone)

    def _deep_picture(self, weights: Value, sums: list[Value]) -> list[Value]:
        """Add all products with the rows of high bytes, times 256, and with those of low bytes."""
        code, layer = self.code, self.layer
        zero, eight = (code.lanes(INT, [value] * layer.lanes) for value in (0, 8))
        _, *high = self._picture([weights, *(zero for _ in sums)])
        shifted = [code.build.shl(value, eight) for value in high]
        both = [code.build.add(value, bias) for value, bias in zip(shifted, sums, strict=True)]
        return self._picture([weights, *both], after=1)[1:]

    def _picture(self, state: list[Value], after: int = 0) -> list[Value]:
        """Add all products with the picture, or with its rows ``after`` the first ones: the low bytes."""
        layer = self.layer
        last_column = layer.kernel - 1 - layer.reach

        def products(
            pointers: str, at: Value, offsets: Sequence[int], step: int, number: Value, state: list[Value]
        ) -> list[Value]:
            """Add the products with one row, whose pixels are ``step`` bytes apart."""
            weights, *sums = state
            row = self.code.at(self._row(pointers, number), at)
            for place, offset in enumerate(offsets):
                held = self._load_weights(weights, place * layer.vectors, layer.vectors)
                for pixel in range(layer.pixels):
                    samples = self.instructions.broadcast(self.code, row, (pixel + offset) * step)
                    self._add(sums, pixel, self.instructions.stored(self.code, samples), held)
            weights = self.code.at(weights, len(offsets) * layer.vectors * self.instructions.line)
            return [weights, *sums]

        across = [place * layer.taps - layer.reach for place in range(layer.across)]
        step = layer.parts

        def repeat(
            count: int, pointers: str, at: Value, offsets: Sequence[int], step: int, state: list[Value]
        ) -> list[Value]:
            def body(number: Value, state: list[Value]) -> list[Value]:
                return products(pointers, at, offsets, step, self.code.add(number, after * count), state)

            return self.code.repeat(count, state, body)

        if across:
            state = repeat(layer.inputs * layer.kernel, "rows", self._at, across, step, state)
        if layer.stacked:
            count = layer.inputs * layer.stacks
            state = repeat(count, "stack_rows", self._at_stack, [last_column], 4, state)
            state = repeat(layer.inputs, "single_rows", self._at, [last_column], step, state)
        return state

    def _row(self, pointers: str, number: Value) -> Value:
        code = self.code
        return code.load(code.at(code.given[pointers], code.times(number, 8)), POINTER, 8)

    def _value(self, row: Value, x: int, part: int) -> Value:
        offset = chunk_offset(self.layer, x) + 4 * part
        return self.instructions.broadcast(self.code, row, offset, whole=True)

    def _load_weights(self, weights: Value, first: int, count: int) -> list[Value]:
        code, line = self.code, self.instructions.line
        return [
            code.load(code.at(weights, (first + number) * line), self.instructions.ints, line)
            for number in range(count)
        ]

    def _add(self, sums: list[Value], pixel: int, values: Value, weights: Sequence[Value]) -> None:
        """Add the products of a pixel's values to its sums, in place."""
        first = pixel * self.layer.vectors
        for vector in range(self.layer.vectors):
            place = first + vector
            sums[place] = self.instructions.dot(self.code, sums[place], values, weights[vector])

    # Requantization: a unit is four neighboring pixels times one vector of output channels

    def _requantize_stored(self, number: Value, unit: Value) -> None:
        """Requantize a unit of pass ``number`` whose accumulators are in memory."""
        code, layer, line = self.code, self.layer, self.instructions.line
        vectors = code.number(layer.vectors)
        first = code.times(code.build.udiv(unit, vectors), CHUNK_PX * layer.vectors)
        pointer = code.at(
            code.given["sums"], code.times(code.add(first, code.build.urem(unit, vectors)), line)
        )
        four = [
            code.load(code.at(pointer, pixel * layer.vectors * line), self.instructions.ints, line)
            for pixel in range(CHUNK_PX)
        ]
        self._requantize(number, unit, four)

    def _requantize(self, number: Value, unit: Value, four: Sequence[Value]) -> None:
        """Requantize the accumulators of a unit and store the values."""
        code, layer = self.code, self.layer
        vectors = code.number(layer.vectors)
        four_px, of_pass = code.build.udiv(unit, vectors), code.build.urem(unit, vectors)
        _, constants = self._parameters(number)
        constants = code.at(constants, code.times(of_pass, self.instructions.line))
        loaded = load_constants(code, self.instructions, layer, constants)
        values = Requantization(code, self.instructions, layer, [loaded]).chunks(four)
        tile, number_of_pass = self._tile_and_pass(number)
        pixel = code.add(code.times(tile, layer.pixels), code.times(four_px, CHUNK_PX))
        self._store(values, pixel, code.add(code.times(number_of_pass, layer.vectors), of_pass))

    def _store(self, chunks: Sequence[Value], pixel: Value, vector: Value) -> None:
        """Store neighboring chunks of one vector of output channels, from a pixel on."""
        code, layer, line = self.code, self.layer, self.instructions.line
        lanes_128 = layer.lanes // 4
        if layer.in_pixels:
            self._store_pixels(chunks[0], pixel, vector)
            return
        if not layer.to_planes:
            out = code.at(code.given["out"], code.times(pixel, layer.output_bytes), code.times(vector, line))
            for number, chunk in enumerate(chunks):
                code.store(chunk, code.at(out, number * 4 * layer.outputs), min(line, ALIGNMENT))
            return
        plane_bytes = code.given["plane_bytes"]
        out = code.at(code.given["out"], code.times(pixel, 4))
        out = code.at(out, code.times(code.times(vector, lanes_128), plane_bytes))
        for group in range(lanes_128):
            for number, chunk in enumerate(chunks):
                part = code.pick(chunk, range(16 * group, 16 * group + 16))
                code.store(part, code.at(out, number * 16), 16)
            out = code.at(out, plane_bytes)

    def _store_pixels(self, chunk: Value, pixel: Value, vector: Value) -> None:
        """Store a chunk pixel after pixel."""
        code, layer = self.code, self.layer
        for number in range(CHUNK_PX):
            places = [16 * group + 4 * number + channel for group in range(4) for channel in range(4)]
            out = code.at(code.given["out"], code.times(code.add(pixel, number), layer.output_bytes))
            code.store(code.pick(chunk, places), code.at(out, code.times(vector, 16)))

"""What becomes of sums: levels for the next layer, or samples of the large picture."""

from collections.abc import Sequence

from subpixel.engines.matrices.assembler import (
    BYTE,
    FLOAT,
    INT,
    SHORT,
    Assembler,
    Value,
    vector,
)
from subpixel.engines.matrices.layout import LINE, SIDE, Layer
from subpixel.models.quantization import MAGIC, MAGIC_BITS, MOST_TANH_ARGUMENT, TANH_COEFFICIENTS

UNITS = 4
"""Vectors of 16 sums that are made into one vector of 64 bytes."""

INTS, FLOATS, SHORTS, BYTES = vector(INT, 16), vector(FLOAT, 16), vector(SHORT, 32), vector(BYTE, 64)


class Values:
    """Emits what a layer does to its sums; `subpixel.models.quantization` says what that is."""

    def __init__(self, code: Assembler, layer: Layer, parameters: Value) -> None:
        """Load what is needed for each channel into registers."""
        self.code, self.layer = code, layer

        def load(part: str, kind: Value, count: int) -> list[Value]:
            place = layer.at(part)
            return [code.load(code.at(parameters, place + LINE * n), kind, LINE) for n in range(count)]

        self._short = layer.short
        self._tanh = layer.activation == "tanh"
        self._prelu = layer.activation == "prelu"
        self._factor = load("factor", FLOATS, layer.channel_blocks)
        self._addend = load("addend", FLOATS, layer.channel_blocks)
        self._offset = [code.lanes(INT, [MAGIC_BITS] * SIDE)] * layer.channel_blocks
        if self._prelu:
            if not self._short:
                self._offset = load("offset", INTS, layer.channel_blocks)
            self._negative_factor = load("negative_factor", FLOATS, layer.channel_blocks)
            self._negative_addend = load("negative_addend", FLOATS, layer.channel_blocks)
        if self._tanh:
            pairs = layer.period // 2
            self._tanh_steps, self._tanh_zero = (
                load(of, SHORTS, pairs) for of in ("tanh_steps", "tanh_zero")
            )

    def levels(self, unit: int, sums: Value, out: Value) -> None:
        """Make the sums at a pointer into 64 levels; ``unit`` is the number of the first vector."""
        code = self.code
        blocks = [(unit + place) % self.layer.channel_blocks for place in range(UNITS)]
        whole = [self._level(sums, place, block) for place, block in enumerate(blocks)]
        pairs = [self._packed(whole[:2]), self._packed(whole[2:])]
        if self._tanh:
            pairs = [self._tanh_levels(unit // 2 + n, pair) for n, pair in enumerate(pairs)]
        # Four channels of four pixels in turn, four times; a pixel's channels belong together.
        places = [self._place(of, channel) for of in range(UNITS) for channel in range(SIDE)]
        code.store(code.pick(code.build.bitcast(self._bytes(pairs), BYTES), places), out)

    def _place(self, unit: int, channel: int) -> int:
        """Where `_bytes` leaves a channel of one of four units."""
        four, of_four = divmod(channel, 4)
        pair, of_pair = divmod(unit, 2)
        within = of_four * 2 + of_pair if self._short else of_pair * 4 + of_four
        return four * 16 + pair * 8 + within

    def samples(
        self, scale: int, sums: Value, given: Value | None, out: Value, row_bytes: Value, *, exact: bool
    ) -> None:
        """Make the sums at a pointer into samples of ``scale`` rows of the large picture.

        ``given`` points to the small one's samples as floats, where they are added. For x3 a store writes 16
        bytes, of which 12 are samples, unless it has to be ``exact``.
        """
        code = self.code
        whole = [self._sample(sums, place, self._given(scale, given, place)) for place in range(UNITS)]
        by_fours = self._bytes([self._packed(whole[:2]), self._packed(whole[2:])])
        if scale == 2:  # of a unit, two ints are in the first row and two in the second
            ints = [
                (down * 2 + part) * 4 + unit for down in range(2) for unit in range(4) for part in range(2)
            ]
            rows, width = code.build.bitcast(code.pick(by_fours, ints), BYTES), 32
        else:  # four ints of each row in turn
            rows, width = code.build.bitcast(by_fours, BYTES), 16
            if scale == 3:  # of which every fourth byte is nothing
                samples = [n // 3 * 4 + n % 3 if n < 12 else 15 for n in range(16)]
                rows = code.pick(rows, [down * 16 + n for down in range(4) for n in samples])
        for down in range(scale):
            used = 12 if scale == 3 and exact else width
            code.store(code.pick(rows, range(down * width, down * width + used)), out)
            out = code.at(out, row_bytes)

    def _level(self, sums: Value, place: int, block: int) -> Value:
        """A vector of sums as whole numbers, not clipped yet: ints. `pack._constants` says how.

        Of levels that are `Layer.short` only the lower 16 bits are right.
        """
        code, build = self.code, self.code.build
        total = code.load(code.at(sums, place * LINE), FLOATS, LINE)
        value = code.fused(total, self._factor[block], self._addend[block])
        if self._prelu:
            negative = code.fused(total, self._negative_factor[block], self._negative_addend[block])
            value = build.select(build.fcmp_ordered(">", value, negative), value, negative)
        bits = build.bitcast(value, INTS)
        return bits if self._short else build.sub(bits, self._offset[block])

    def _sample(self, sums: Value, place: int, given: Value) -> Value:
        """The same for the last layer: ``given`` has `MAGIC` in it."""
        code, build = self.code, self.code.build
        total = code.load(code.at(sums, place * LINE), INTS, LINE)
        value = code.fused(build.sitofp(total, FLOATS), self._factor[0], given)
        return build.sub(build.bitcast(value, INTS), self._offset[0])

    def _given(self, scale: int, given: Value | None, place: int) -> Value:
        """The small picture's samples for a vector of sums."""
        code = self.code
        if given is None:
            return code.lanes(FLOAT, [MAGIC] * SIDE)
        if scale == 2:
            four = code.load(code.at(given, place * 4 * 4), vector(FLOAT, 4), 4)
            return code.pick(four, [0, 0, 1, 1, 2, 2, 3, 3] * 2)
        return code.all(code.load(code.at(given, place * 4), FLOAT, 4), SIDE)

    def _tanh_levels(self, pair: int, arguments: Value) -> Value:
        """`quantization.tanh_steps`, and what makes levels of them."""
        code, build, pair = self.code, self.code.build, pair % len(self._tanh_steps)
        clipped = code.most(arguments, code.lanes(SHORT, [-MOST_TANH_ARGUMENT] * 32))
        distance = code.most(clipped, build.sub(code.lanes(SHORT, [0] * 32), clipped))
        polynomial = code.lanes(SHORT, [TANH_COEFFICIENTS[-1]] * 32)
        for coefficient in TANH_COEFFICIENTS[-2::-1]:
            polynomial = build.add(
                self._rounded_product(polynomial, distance), code.lanes(SHORT, [coefficient] * 32)
            )
        tanh = self._rounded_product(clipped, polynomial)
        return build.add(self._rounded_product(tanh, self._tanh_steps[pair]), self._tanh_zero[pair])

    def _rounded_product(self, one: Value, other: Value) -> Value:
        return self.code.call("llvm.x86.avx512.pmul.hr.sw.512", SHORTS, one, other)

    def _packed(self, ints: Sequence[Value]) -> Value:
        """Two vectors of ints as one of shorts, clipped: by fours in turn.

        Or, of levels that are `Layer.short`, one by one in turn, the upper halves left out.
        """
        code, build = self.code, self.code.build
        if self._short:
            even, odd = ints
            odd = build.shl(odd, code.lanes(INT, [16] * SIDE))
            return code.woven(build.bitcast(even, SHORTS), build.bitcast(odd, SHORTS))
        return code.call("llvm.x86.avx512.packssdw.512", SHORTS, *ints)

    def _bytes(self, shorts: Sequence[Value]) -> Value:
        """Two vectors of shorts as bytes without a sign, clipped; seen as 16 ints."""
        packed = self.code.call("llvm.x86.avx512.packuswb.512", BYTES, *shorts)
        return self.code.build.bitcast(packed, INTS)

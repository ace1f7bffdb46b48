"""The interface of an instruction set: all that the generator of code must know about a processor.

The generator emits LLVM's code through `Assembler`. What LLVM has for all processors (loads, fused
multiply-add, minimum and maximum) is used directly. An instruction set adds its width, its number of
registers, how it multiplies, and how it narrows. To add one, subclass `InstructionSet` in a file of its own
and list it in `targets`.

Products. An accumulator is a vector of ``lanes`` 32-bit integers. One operand of a product holds, for each
lane, values of 4 or 2 neighboring channels, the other one their weights:

- 4 channels (``parts`` = 1): unsigned bytes by signed bytes, such as ``vpdpbusd``;
- 2 channels (``parts`` = 2): 16-bit integers, such as ``vpmaddwd``. Four channels then need two products.

If products take only signed bytes (``signed``), values lie in memory with their highest bit inverted, which
is 128 less. `pack` corrects the biases.

So a value between layers has ``parts`` bytes, and 4 bytes of memory hold the operand of one lane: values of
``4 // parts`` channels of one pixel.

Order in memory. `pack_32` and `pack_16` concatenate vectors not as a whole but 128 bits at a time, as x86
does. With 4 channels of one pixel in 128 bits, this makes groups of 4 channels, each with neighboring pixels.
See `subpixel.engines.native.plan` for the layout that follows. An instruction set of 128 bits simply
concatenates.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from subpixel.engines.assembler import BYTE, FLOAT, INT, SHORT, Assembler, Value, vector


class InstructionSet(ABC):
    """One kind of processor.

    Attributes:
        name: the name of the target, as in ``SUBPIXEL_TARGET``.
        lanes: 32-bit lanes of a vector register: 16, 8 or 4.
        registers: number of vector registers.
        parts: products for four channels, and bytes of a value between layers: 1 or 2, see above.
        signed: whether `dot` takes signed values, see above.
        pairs: whether there is `pair_dot`.
        tile_registers: whether there are tile registers, see `subpixel.engines.native.amx`.
        packs_low: whether there is `pack_low`, which is faster than `pack_32`.
        product_registers: registers that a product needs for itself, besides accumulator and operands.
        most_accumulators: largest number of accumulators in a tile. More would fit, but are not faster.
        machines: Python's names of the architecture, see `platform.machine`.
        needs: features that the processor must have, by LLVM's names.
        cpu, features: LLVM's names of the processor and of features beyond it, to compile for.
        cache_bytes: what the rows between layers may take, so that they stay in the cache.
        for_tests: whether it is only for tests of another one's code, on processors that lack the other one.
    """

    name: ClassVar[str]
    lanes: ClassVar[int]
    registers: ClassVar[int]
    parts: ClassVar[int]
    signed: ClassVar[bool] = False
    pairs: ClassVar[bool] = False
    tile_registers: ClassVar[bool] = False
    packs_low: ClassVar[bool] = False
    product_registers: ClassVar[int] = 0
    most_accumulators: ClassVar[int]
    machines: ClassVar[tuple[str, ...]]
    needs: ClassVar[tuple[str, ...]]
    cpu: ClassVar[str] = ""
    features: ClassVar[str] = ""
    cache_bytes: ClassVar[int] = 2 << 20
    for_tests: ClassVar[bool] = False

    @property
    def line(self) -> int:
        """Bytes of a vector register."""
        return 4 * self.lanes

    @property
    def ints(self) -> Value:
        """The type of an accumulator."""
        return vector(INT, self.lanes)

    @property
    def floats(self) -> Value:
        """The type of a vector of float32."""
        return vector(FLOAT, self.lanes)

    @property
    def shorts(self) -> Value:
        """The type of two accumulators that are packed: 16-bit integers."""
        return vector(SHORT, 2 * self.lanes)

    @property
    def bytes(self) -> Value:
        """The type of four accumulators that are packed: bytes."""
        return vector(BYTE, 4 * self.lanes)

    # Operands

    def broadcast(self, code: Assembler, pointer: Value, offset: int, *, whole: bool = False) -> Value:
        """Return the 4 bytes at ``pointer + offset`` in every lane: an operand of `dot`, of type `ints`.

        If ``whole``, the offset is a multiple of 4, and all 16 bytes from a multiple of 16 on may be read: an
        instruction set with products by lane loads them at once and chooses the lane.
        """
        return code.all(code.load(code.at(pointer, offset), INT), self.lanes)

    def pixels(self, code: Assembler, pointer: Value) -> list[Value]:
        """Load ``lanes`` neighboring pixels of bytes of 4 channels: ``parts`` operands of `dot`.

        With two parts, the first one has channels 0 and 2, the second one 1 and 3: see `PIXEL_CHANNELS`.
        """
        values = code.load(pointer, self.ints)
        if self.parts == 1:
            return [values]
        shorts = code.build.bitcast(values, self.shorts)
        low = code.build.and_(shorts, code.lanes(SHORT, [0xFF] * 2 * self.lanes))
        high = code.build.lshr(shorts, code.lanes(SHORT, [8] * 2 * self.lanes))
        return [code.build.bitcast(part, self.ints) for part in (low, high)]

    @abstractmethod
    def dot(self, code: Assembler, accumulators: Value, values: Value, weights: Value) -> Value:
        """Add to each accumulator the products of its lane's values and weights.

        All are of type `ints`. Values are from 0 to 255 (if ``signed``, from -128 to 127), weights from -127
        to 127.
        """

    def pair_dot(self, code: Assembler, accumulators: Value, values: Value, weights: Value) -> Value:
        """Add the products of two pixels and two output channels, each over 8 input channels.

        Accumulators hold pixel after pixel, of each the two output channels.
        """
        raise NotImplementedError(self.name)

    def stored(self, code: Assembler, values: Value) -> Value:
        """Convert bytes from 0 to 255 to the form that `dot` takes; any type."""
        if not self.signed:
            return values
        count = values.type.count * values.type.element.width // 8
        flipped = code.lanes(BYTE, [0x80] * count)
        bits = code.build.xor(code.build.bitcast(values, flipped.type), flipped)
        return code.build.bitcast(bits, values.type)

    # Narrowing

    @abstractmethod
    def pack_32(self, code: Assembler, one: Value, other: Value) -> Value:
        """Narrow two vectors of type `ints` to `shorts`, with signed saturation.

        Each 128 bits of the result hold 4 lanes of the first, then the same 4 lanes of the second.
        """

    def pack_low(self, code: Assembler, one: Value, other: Value) -> Value:
        """Narrow two vectors of type `ints` to `shorts` by their low halves, lane by lane in turn."""
        raise NotImplementedError(self.name)

    @abstractmethod
    def pack_16(self, code: Assembler, one: Value, other: Value) -> Value:
        """Narrow two vectors of type `shorts` to `bytes`, saturating to 0..255, as `pack_32` does."""

    @abstractmethod
    def rounded_product(self, code: Assembler, one: Value, other: Value) -> Value:
        """Multiply vectors of type `shorts`; see `subpixel.models.quantization.rounded_product`."""

    def clip_16(self, code: Assembler, values: Value) -> Value:
        """Clip a vector of type `shorts` to 0..255."""
        low, high = (code.lanes(SHORT, [bound] * 2 * self.lanes) for bound in (0, 255))
        return self.least(code, self.most(code, values, low), high)

    @abstractmethod
    def distances(self, code: Assembler, one: Value, other: Value) -> Value:
        """Sum the absolute differences of unsigned bytes, of 8 neighbors each.

        Args:
            code: the function.
            one, other: bytes of a vector register, or fewer if x86 has such registers.

        Returns:
            A vector of an eighth of the lanes, LONG.
        """

    # What LLVM has for every processor

    def fused(self, code: Assembler, one: Value, other: Value, addend: Value) -> Value:
        """Return one * other + addend, vectors of type `floats`, rounded once."""
        return code.call(f"llvm.fma.v{self.lanes}f32", self.floats, one, other, addend)

    def most(self, code: Assembler, one: Value, other: Value) -> Value:
        """Return the larger of two, lane by lane, as signed integers."""
        return code.call(f"llvm.smax.{_suffix(one)}", one.type, one, other)

    def magnitude(self, code: Assembler, values: Value) -> Value:
        """Return the absolute value of signed integers, which are not the smallest one."""
        return code.call(f"llvm.abs.{_suffix(values)}", values.type, values, code.boolean(False))

    def larger(self, code: Assembler, one: Value, other: Value) -> Value:
        """Return the larger of two vectors of type `floats` that are near `MAGIC`."""
        bits = (code.build.bitcast(value, self.ints) for value in (one, other))
        return code.build.bitcast(self.most(code, *bits), self.floats)

    def least(self, code: Assembler, one: Value, other: Value) -> Value:
        """Return the smaller of two, lane by lane, as signed integers."""
        return code.call(f"llvm.smin.{_suffix(one)}", one.type, one, other)


PIXEL_CHANNELS = {1: [[0, 1, 2, 3]], 2: [[0, 2], [1, 3]]}
"""For each number of parts: the channels of a group of 4 that each operand of `InstructionSet.pixels` has."""


def _suffix(values: Value) -> str:
    return f"v{values.type.count}i{values.type.element.width}"

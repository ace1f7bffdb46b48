"""What the instruction sets of 64-bit Arm share: 32 registers of 128 bits, and how they narrow."""

from typing import ClassVar

from subpixel.engines.assembler import INT, LONG, SHORT, Assembler, Value, vector
from subpixel.engines.native.instructions import InstructionSet

LONGS = vector(LONG, 2)


class Arm(InstructionSet):
    """Vectors of 128 bits (NEON)."""

    lanes = 4
    registers = 32
    parts = 1
    most_accumulators = 20
    machines = ("aarch64", "arm64")
    needs: ClassVar[tuple[str, ...]] = ()

    def pack_32(self, code: Assembler, one: Value, other: Value) -> Value:
        """See `InstructionSet.pack_32`."""
        return _narrow(code, "sqxtn.v4i16", vector(SHORT, 4), one, other)

    def pack_16(self, code: Assembler, one: Value, other: Value) -> Value:
        """See `InstructionSet.pack_16`."""
        return _narrow(code, "sqxtun.v8i8", half(self.bytes), one, other)

    def rounded_product(self, code: Assembler, one: Value, other: Value) -> Value:
        """See `InstructionSet.rounded_product`."""
        return code.call("llvm.aarch64.neon.sqrdmulh.v8i16", self.shorts, one, other)

    def distances(self, code: Assembler, one: Value, other: Value) -> Value:
        """See `InstructionSet.distances`."""
        sums = code.call("llvm.aarch64.neon.uabd.v16i8", self.bytes, one, other)
        for kind, pairs in ((self.shorts, "v8i16.v16i8"), (self.ints, "v4i32.v8i16"), (LONGS, "v2i64.v4i32")):
            sums = code.call(f"llvm.aarch64.neon.uaddlp.{pairs}", kind, sums)
        return sums


class ArmByLane(Arm):
    """Instruction sets whose products take one operand from a single lane of a register."""

    def broadcast(self, code: Assembler, pointer: Value, offset: int, *, whole: bool = False) -> Value:
        """See `InstructionSet.broadcast`: loads 16 bytes at once, and the product chooses the lane."""
        if not whole:
            return super().broadcast(code, pointer, offset)
        values = code.load(code.at(pointer, offset - offset % 16), self.ints, 4)
        return code.pick(values, [offset % 16 // 4] * self.lanes)


def is_broadcast(operand: Value) -> bool:
    """Whether an operand of a product is one lane of a register."""
    return getattr(operand, "opname", "") == "shufflevector"


def half(kind: Value) -> Value:
    """The type of half as many lanes."""
    return vector(kind.element, kind.count // 2)


def halves(code: Assembler, values: Value) -> list[Value]:
    """Return the first and the second half of a vector's lanes."""
    count = values.type.count
    return [code.pick(values, range(start, start + count // 2)) for start in (0, count // 2)]


def _narrow(code: Assembler, instruction: str, kind: Value, one: Value, other: Value) -> Value:
    """Narrow two vectors to the type ``kind`` each, and concatenate them."""
    narrowed = [code.call(f"llvm.aarch64.neon.{instruction}", kind, values) for values in (one, other)]
    return code.build.shuffle_vector(*narrowed, code.lanes(INT, range(2 * kind.count)))

"""What the instruction sets of x86-64 share: names of LLVM's intrinsics for each width of vectors."""

from typing import ClassVar

from subpixel.engines.assembler import LONG, Assembler, Value, vector
from subpixel.engines.native.instructions import InstructionSet

AVX2 = ("avx2", "fma", "f16c", "bmi", "bmi2", "lzcnt", "movbe")
"""What LLVM may use beside vectors of 256 bits: the features of ``x86-64-v3``."""

AVX512 = (*AVX2, "avx512f", "avx512cd", "avx512bw", "avx512dq", "avx512vl")
"""The features of ``x86-64-v4``."""


class X86(InstructionSet):
    """Packing and 16-bit products, which AVX2 and AVX-512 have under different names."""

    machines = ("x86_64", "AMD64")
    _NARROWING: ClassVar[dict[int, tuple[str, str, str]]] = {
        8: ("avx2.packssdw", "avx2.packuswb", "avx2.pmul.hr.sw"),
        16: ("avx512.packssdw.512", "avx512.packuswb.512", "avx512.pmul.hr.sw.512"),
    }
    _PAIRS: ClassVar[dict[int, str]] = {8: "avx2.pmadd.wd", 16: "avx512.pmaddw.d.512"}

    _DISTANCES: ClassVar[dict[int, str]] = {
        16: "sse2.psad.bw",
        32: "avx2.psad.bw",
        64: "avx512.psad.bw.512",
    }

    def dot(self, code: Assembler, accumulators: Value, values: Value, weights: Value) -> Value:
        """See `InstructionSet.dot`: four products where there is VNNI, otherwise two and an addition."""
        if self.parts == 1:
            name = f"llvm.x86.avx512.vpdpbusd.{32 * self.lanes}"
            operands = (code.build.bitcast(operand, self.bytes) for operand in (values, weights))
            return code.call(name, self.ints, accumulators, *operands)
        operands = (code.build.bitcast(operand, self.shorts) for operand in (values, weights))
        products = code.call(f"llvm.x86.{self._PAIRS[self.lanes]}", self.ints, *operands)
        return code.build.add(accumulators, products)

    def pack_32(self, code: Assembler, one: Value, other: Value) -> Value:
        """See `InstructionSet.pack_32`."""
        return code.call(f"llvm.x86.{self._NARROWING[self.lanes][0]}", self.shorts, one, other)

    def pack_16(self, code: Assembler, one: Value, other: Value) -> Value:
        """See `InstructionSet.pack_16`."""
        return code.call(f"llvm.x86.{self._NARROWING[self.lanes][1]}", self.bytes, one, other)

    def rounded_product(self, code: Assembler, one: Value, other: Value) -> Value:
        """See `InstructionSet.rounded_product`."""
        return code.call(f"llvm.x86.{self._NARROWING[self.lanes][2]}", self.shorts, one, other)

    def distances(self, code: Assembler, one: Value, other: Value) -> Value:
        """See `InstructionSet.distances`."""
        name = f"llvm.x86.{self._DISTANCES[one.type.count]}"
        return code.call(name, vector(LONG, one.type.count // 8), one, other)

"""NEON alone: Arm processors of 64 bits without products of bytes, such as Cortex-A53 and A72."""

from subpixel.engines.assembler import SHORT, Assembler, Value, vector
from subpixel.engines.native.arm import Arm, halves


class Neon(Arm):
    """Products of signed bytes to 16 bits, which are added in pairs to 32 bits.

    Two products fit 16 bits, because weights are at least -127.
    """

    name = "neon"
    signed = True
    product_registers = 2
    most_accumulators = 12
    cache_bytes = 256 * 1024

    def dot(self, code: Assembler, accumulators: Value, values: Value, weights: Value) -> Value:
        """See `InstructionSet.dot`."""
        operands = [halves(code, code.build.bitcast(operand, self.bytes)) for operand in (values, weights)]
        short, name = vector(SHORT, 8), "llvm.aarch64.neon"
        products = [code.call(f"{name}.smull.v8i16", short, *both) for both in zip(*operands, strict=True)]
        pairs = code.call(f"{name}.addp.v8i16", short, *products)
        return code.build.add(accumulators, code.call(f"{name}.saddlp.v4i32.v8i16", self.ints, pairs))

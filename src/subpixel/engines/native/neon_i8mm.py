"""NEON with FEAT_I8MM: Arm processors since about 2021, such as Neoverse V1 and N2, Apple M2."""

from subpixel.engines.assembler import Assembler, Value
from subpixel.engines.native.arm import ArmByLane


class NeonI8mm(ArmByLane):
    """Products of unsigned bytes by signed bytes: of four, or of eight in pairs of pixels."""

    name = "neon_i8mm"
    pairs = True
    needs = ("dotprod", "i8mm")
    features = "+dotprod,+i8mm"

    def dot(self, code: Assembler, accumulators: Value, values: Value, weights: Value) -> Value:
        """See `InstructionSet.dot`."""
        operands = (code.build.bitcast(operand, self.bytes) for operand in (values, weights))
        return code.call("llvm.aarch64.neon.usdot.v4i32.v16i8", self.ints, accumulators, *operands)

    def pair_dot(self, code: Assembler, accumulators: Value, values: Value, weights: Value) -> Value:
        """See `InstructionSet.pair_dot`."""
        operands = (code.build.bitcast(operand, self.bytes) for operand in (values, weights))
        return code.call("llvm.aarch64.neon.usmmla.v4i32.v16i8", self.ints, accumulators, *operands)

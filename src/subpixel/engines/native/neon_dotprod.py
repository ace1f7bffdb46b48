"""NEON with FEAT_DotProd: Arm processors since about 2018, such as Cortex-A76, Neoverse N1 and Apple M1."""

from subpixel.engines.assembler import Assembler, Value
from subpixel.engines.native.arm import ArmByLane, is_broadcast


class NeonDotprod(ArmByLane):
    """Products of four signed bytes, by signed bytes."""

    name = "neon_dotprod"
    signed = True
    needs = ("dotprod",)
    features = "+dotprod"

    def dot(self, code: Assembler, accumulators: Value, values: Value, weights: Value) -> Value:
        """See `InstructionSet.dot`."""
        # LLVM multiplies by a lane only if that operand is the last one.
        operands = sorted((values, weights), key=is_broadcast)
        operands = [code.build.bitcast(operand, self.bytes) for operand in operands]
        return code.call("llvm.aarch64.neon.sdot.v4i32.v16i8", self.ints, accumulators, *operands)

"""Compiles a plan to machine code, and calls it."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.machine_code import Call, CompiledNetwork, MachineCode, aligned, target_machine
from subpixel.engines.native.layers import SAMPLE_BYTES
from subpixel.engines.native.plan import Plan
from subpixel.errors import EngineError

FUNCTION = "upscale"


def compile_object(plan: Plan, triple: str = "") -> bytes:
    """Compile a plan; return the bytes of the object file.

    ``triple`` is LLVM's name of another platform, for which the object file then is.
    """
    code: bytes = _target_machine(plan, triple).emit_object(_module(plan, triple))
    return code


def compile_assembly(plan: Plan, triple: str = "") -> str:
    """Compile a plan; return it as text, for tests and for people."""
    text: str = _target_machine(plan, triple).emit_assembly(_module(plan, triple))
    return text


def _module(plan: Plan, triple: str) -> Any:
    from llvmlite import binding

    from subpixel.engines.native.amx.program import AmxDeepProgram, AmxProgram
    from subpixel.engines.native.deep_program import DeepProgram
    from subpixel.engines.native.program import Program

    kinds = (AmxProgram, AmxDeepProgram) if plan.rows_at_once > 1 else (Program, DeepProgram)
    program = kinds[plan.deep]
    return binding.parse_assembly(str(program(plan, FUNCTION, triple).module))


def _target_machine(plan: Plan, triple: str) -> Any:
    return target_machine(plan.instructions.cpu, plan.instructions.features, triple=triple)


class NativeKernel(CompiledNetwork):
    """A compiled plan with a model's parameters. Any number of threads may call it at once."""

    def __init__(self, code: bytes, plan: Plan, parameters: NDArray[np.uint8]) -> None:
        """Load the result of `compile_object`; ``parameters`` are the result of `pack`."""
        self._code = MachineCode(code, FUNCTION)
        self.plan, self._parameters = plan, parameters
        self._sizes = cache(lambda result_px: (plan.working_bytes(result_px), plan.columns(result_px)))

    def calls(
        self,
        lr: NDArray[Any],
        hr: NDArray[Any],
        rectangles: Sequence[tuple[slice, slice]],
        context_px: int = 0,
    ) -> list[Call]:
        """Prepare calls for rectangles, ``(rows, columns)``, each with its own working memory."""
        scale = self.plan.spec.scale
        column_bytes = scale * SAMPLE_BYTES[self.plan.samples]
        sizes = [self._sizes(columns.stop - columns.start) for _, columns in rectangles]
        try:
            # One allocation for all: separate blocks would be returned to the system and allocated again.
            working = aligned(sum(size + -size % 64 for size, _ in sizes))
        except MemoryError as error:
            raise EngineError("the compiled network failed: out of memory") from error
        _, height, width = lr.shape
        working_at = working.ctypes.data
        result = []
        for (rows, columns), (working_bytes, working_columns) in zip(rectangles, sizes, strict=True):
            arguments = np.array(
                [
                    lr.ctypes.data,
                    lr.strides[1],
                    lr.strides[0],
                    width,
                    height,
                    self._parameters.ctypes.data,
                    working_at,
                    working_columns,
                    hr.ctypes.data + rows.start * scale * hr.strides[1] + columns.start * column_bytes,
                    hr.strides[1],
                    hr.strides[0],
                    columns.start + context_px,
                    columns.stop + context_px,
                    rows.start + context_px,
                    rows.stop + context_px,
                ],
                np.int64,
            )
            keep_alive = (lr, hr, working, arguments, self)
            result.append(Call(self._code.address, (arguments.ctypes.data,), keep_alive))
            working_at += working_bytes + -working_bytes % 64
        return result

"""A layout as machine code, and what calls it."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.machine_code import Call, MachineCode, target_machine
from subpixel.engines.matrices.layout import Layout, aligned
from subpixel.errors import EngineError

FUNCTION = "enlarge"

CPU = "sapphirerapids"
"""LLVM's name for the oldest processor with AMX."""


def compile_object(layout: Layout) -> bytes:
    """Compile a layout; the object file's bytes."""
    from llvmlite import binding

    from subpixel.engines.matrices.program import Program

    module = binding.parse_assembly(str(Program(layout, FUNCTION).module))
    code: bytes = target_machine(CPU).emit_object(module)
    return code


class MatrixKernel:
    """A compiled layout with a model's parameters, ready to be called; any number of threads may."""

    def __init__(self, code: bytes, layout: Layout, parameters: NDArray[np.uint8]) -> None:
        """Load what `compile_object` gave; ``parameters`` as `pack` lays them out."""
        self._code = MachineCode(code, FUNCTION)
        self._layout, self._parameters, self._parameters_at = layout, parameters, parameters.ctypes.data
        self._sizes = cache(lambda result_px: (layout.working_bytes(result_px), layout.columns(result_px)))

    def __call__(
        self, lr: NDArray[Any], hr: NDArray[Any], columns: slice, rows: slice, context_px: int = 0
    ) -> None:
        """Enlarge a rectangle of a picture; see `subpixel.engines.halide.kernel.Kernel`.

        Raises:
            EngineError: out of memory.
        """
        for call in self.calls(lr, hr, [(rows, columns)], context_px):
            call()

    def calls(
        self, lr: NDArray[Any], hr: NDArray[Any], pieces: Sequence[tuple[slice, slice]], context_px: int = 0
    ) -> list[Call]:
        """The same for rectangles, ``(rows, columns)``, each with working memory of its own."""
        scale = self._layout.spec.scale
        sizes = [self._sizes(columns.stop - columns.start) for _, columns in pieces]
        try:
            # In one piece: freed one by one, they would be given back to the system, and asked for again.
            working = aligned(sum(size for size, _ in sizes))
        except MemoryError as error:
            raise EngineError("the compiled network failed: out of memory") from error
        _, height, width = lr.shape
        lr_at, hr_at, working_at = (array.ctypes.data for array in (lr, hr, working))
        lr_step, hr_step = lr.strides[1], hr.strides[1]
        result = []
        for (rows, columns), (working_bytes, working_columns) in zip(pieces, sizes, strict=True):
            words = (
                lr_at,
                lr_step,
                width,
                height,
                self._parameters_at,
                working_at,
                working_columns,
                hr_at + rows.start * scale * hr_step + columns.start * scale,
                hr_step,
                columns.start + context_px,
                columns.stop + context_px,
                rows.start + context_px,
                rows.stop + context_px,
            )
            result.append(Call(self._code.address, words, (lr, hr, working, self)))
            working_at += working_bytes
        return result

"""A layout as machine code, and what calls it."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.machine_code import MachineCode, target_machine
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
        self._layout, self._parameters = layout, parameters
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self._call: Callable[..., None] = ctypes.CFUNCTYPE(
            None, pointer, *[number] * 3, *[pointer] * 2, number, pointer, *[number] * 5
        )(self._code.address)

    def __call__(
        self, lr: NDArray[Any], hr: NDArray[Any], columns: slice, rows: slice, margin_px: int = 0
    ) -> None:
        """Enlarge a rectangle of a picture; see `subpixel.engines.halide.kernel.Kernel`.

        Raises:
            EngineError: out of memory.
        """
        scale = self._layout.description.scale
        result_px = columns.stop - columns.start
        try:
            working = aligned(self._layout.working_bytes(result_px))
        except MemoryError as error:
            raise EngineError("the compiled network failed: out of memory") from error
        _, height, width = lr.shape
        target = hr[0, rows.start * scale :, columns.start * scale :]
        left, right, top, bottom = (
            side + margin_px for side in (columns.start, columns.stop, rows.start, rows.stop)
        )
        self._call(
            lr.ctypes.data,
            lr.strides[1],
            width,
            height,
            self._parameters.ctypes.data,
            working.ctypes.data,
            self._layout.columns(result_px),
            target.ctypes.data,
            hr.strides[1],
            left,
            right,
            top,
            bottom,
        )

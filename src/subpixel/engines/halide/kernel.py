"""A pipeline as machine code: compiled by Halide, kept as an object file, loaded by LLVM, called by ctypes.

Halide compiles; LLVM, by way of llvmlite, loads. So a process that finds its kernel in the cache has to
import no Halide and run no linker. The code is one function and keeps no state: any number of threads may
call it at once.
"""

import ctypes
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from subpixel.engines.halide.pack import Parameters
from subpixel.engines.halide.plan import Plan
from subpixel.engines.machine_code import Call, MachineCode
from subpixel.errors import EngineError

FUNCTION = "enlarge"

MOST_OBJECT_BYTES = 2**22
"""Room that an object file may need; those of the packaged models have less than a tenth of it."""


def compile_object(plan: Plan, samples: str) -> bytes:
    """Compile a plan for one kind of samples; the object file's bytes.

    Raises `EngineError` where Halide is missing or refuses.
    """
    hl = import_halide()
    from subpixel.engines.halide.algorithm import define
    from subpixel.engines.halide.schedule import schedule

    try:
        with tempfile.TemporaryDirectory(prefix="subpixel-") as folder:
            path = Path(folder) / "kernel.o"
            path.write_bytes(bytes(MOST_OBJECT_BYTES))  # LLVM ends the process where it has no room to write
            pipeline = define(plan, samples)
            schedule(pipeline)
            hl.Pipeline(pipeline.output).compile_to(
                {hl.OutputFileType.object: str(path)},
                pipeline.parameters,
                FUNCTION,
                hl.Target(plan.machine.target),
            )
            return path.read_bytes()
    except hl.HalideError as error:
        raise EngineError(f"Halide cannot compile this network ({error})") from error
    except OSError as error:
        raise EngineError(f"a compiled network cannot be written to a temporary file ({error})") from error


def import_halide() -> Any:
    """The module ``halide``; `EngineError` with the cure where it cannot be imported."""
    try:
        import halide
    except (ImportError, OSError) as error:
        raise EngineError(
            f"engine halide cannot be imported ({error}); run `pip install halide`, or choose another engine"
        ) from error
    return halide


class Kernel:
    """A compiled pipeline with a model's parameters, ready to be called."""

    def __init__(self, code: bytes, parameters: Parameters) -> None:
        """Load what `compile_object` gave; raises `EngineError` where LLVM refuses it."""
        self._code = MachineCode(code, FUNCTION, _support())
        self._parameters = (parameters.weights, parameters.offsets, parameters.factors)

    def __call__(
        self,
        lr: NDArray[Any],
        hr: NDArray[Any],
        columns: slice,
        rows: slice,
        context_px: int = 0,
    ) -> None:
        """Enlarge a rectangle of a picture.

        Args:
            lr: ``(channels, H, W)``, the whole picture, of the kernel's samples; a row's samples side by
                side.
            hr: the enlarged picture without its margin, likewise; the rectangle in it is filled.
            columns, rows: the rectangle, in LR pixels inside the margin.
            context_px: how many of the outermost pixels of ``lr`` are only looked at.

        Raises:
            EngineError: the kernel reports a failure; out of memory is the only one to be expected.
        """
        for call in self.calls(lr, hr, [(rows, columns)], context_px):
            call()

    def calls(
        self, lr: NDArray[Any], hr: NDArray[Any], pieces: Sequence[tuple[slice, slice]], context_px: int = 0
    ) -> list[Call]:
        """The same for rectangles, ``(rows, columns)``, to be made by any threads."""
        result = []
        scale = hr.shape[2] // (lr.shape[2] - 2 * context_px)
        inputs = [_buffer(array) for array in (lr, *self._parameters)]
        for rows, columns in pieces:
            output = _buffer(
                hr[:, rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale]
            )
            left, right = columns.start + context_px, columns.stop + context_px
            output.dim[0].min, output.dim[1].min = left * scale, (rows.start + context_px) * scale
            places = [ctypes.addressof(buffer) for buffer in inputs]
            words = (*places, left, right, ctypes.addressof(output))
            result.append(Call(self._code.address, words, (lr, hr, inputs, output, self)))
        return result


class _Dimension(ctypes.Structure):
    """halide_dimension_t of HalideRuntime.h, Halide 21."""

    _fields_ = (
        ("min", ctypes.c_int32),
        ("extent", ctypes.c_int32),
        ("stride", ctypes.c_int32),
        ("flags", ctypes.c_uint32),
    )


class _Buffer(ctypes.Structure):
    """halide_buffer_t of HalideRuntime.h, Halide 21."""

    _fields_ = (
        ("device", ctypes.c_uint64),
        ("device_interface", ctypes.c_void_p),
        ("host", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("dimensions", ctypes.c_int32),
        ("dim", ctypes.POINTER(_Dimension)),
        ("padding", ctypes.c_void_p),
    )


def _buffer(array: NDArray[Any]) -> Any:
    """Describe an array to Halide, the last axis first; the array must outlive the description."""
    dimensions = (_Dimension * array.ndim)(
        *(
            _Dimension(0, extent, stride // array.itemsize, 0)
            for extent, stride in zip(array.shape[::-1], array.strides[::-1], strict=True)
        )
    )
    return _Buffer(
        host=array.ctypes.data,
        code={"i": 0, "u": 1, "f": 2}[array.dtype.kind],
        bits=array.itemsize * 8,
        lanes=1,
        dimensions=array.ndim,
        dim=dimensions,
    )


_ERRORS = (
    "access_out_of_bounds",
    "bad_dimensions",
    "bad_fold",
    "bad_type",
    "buffer_allocation_too_large",
    "buffer_argument_is_null",
    "buffer_extents_negative",
    "buffer_extents_too_large",
    "buffer_is_null",
    "constraint_violated",
    "constraints_make_required_region_smaller",
    "device_dirty_with_no_device_support",
    "explicit_bounds_too_small",
    "fold_factor_too_small",
    "host_is_null",
    "param_too_large_i64",
    "param_too_small_i64",
    "requirement_failed",
    "specialize_fail",
    "storage_bound_too_small",
    "unaligned_host_ptr",
)


@cache
def _support() -> str:
    """What a kernel calls of Halide's runtime, as LLVM assembly: memory, and what checks answer.

    Halide's own runtime would bring its thread pool, and an error handler that ends the process.

    Memory is given zeroed. A layer works in whole tiles, beyond the last column too; on what memory held
    before, mostly numbers so small that the processor takes a hundred cycles for each, that made a picture of
    32x32 pixels take 11 ms in fp32.
    """
    if sys.platform == "win32":
        memory = """
declare ptr @_aligned_malloc(i64, i64)
declare void @_aligned_free(ptr)
define internal ptr @allocated(i64 %size) {
  %memory = call ptr @_aligned_malloc(i64 %size, i64 128)
  ret ptr %memory
}
define void @halide_free(ptr %context, ptr %memory) {
  call void @_aligned_free(ptr %memory)
  ret void
}
"""
    else:
        memory = """
declare i32 @posix_memalign(ptr, i64, i64)
declare void @free(ptr)
define internal ptr @allocated(i64 %size) {
  %place = alloca ptr
  %failed = call i32 @posix_memalign(ptr %place, i64 128, i64 %size)
  %bad = icmp ne i32 %failed, 0
  %memory = load ptr, ptr %place
  %result = select i1 %bad, ptr null, ptr %memory
  ret ptr %result
}
define void @halide_free(ptr %context, ptr %memory) {
  call void @free(ptr %memory)
  ret void
}
"""
    memory += """
declare ptr @memset(ptr, i32, i64)
define ptr @halide_malloc(ptr %context, i64 %size) {
  %memory = call ptr @allocated(i64 %size)
  %bad = icmp eq ptr %memory, null
  br i1 %bad, label %end, label %some
some:
  call ptr @memset(ptr %memory, i32 0, i64 %size)
  br label %end
end:
  ret ptr %memory
}
"""
    answers = [f"define i32 @halide_error_{name}(...) {{ ret i32 2 }}" for name in _ERRORS]
    return "\n".join([memory, "define i32 @halide_error_out_of_memory(...) { ret i32 1 }", *answers])

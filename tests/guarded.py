"""Run kernels on arrays that touch forbidden pages: `python guarded.py fp32|int8|matrices MODEL [overrun]`.

Each array lies so that its end, or its beginning, is the border of a page without any access; so do the row
buffers that kernels allocate (their ends to 64 bytes), for which this process puts its own allocator in
place. One access too far ends the process (SIGSEGV). With "overrun" one is made on purpose.
"""

import ctypes
import mmap
import sys
from dataclasses import fields, replace
from itertools import product

import numpy as np

from subpixel.engines.halide import kernel as kernel_module
from subpixel.engines.halide.kernel import Kernel, compile_object
from subpixel.engines.halide.machine import host_kind, machine
from subpixel.engines.halide.pack import pack
from subpixel.engines.halide.plan import make_plan
from subpixel.engines.matrices import kernel as matrices
from subpixel.engines.matrices.layout import make_layout
from subpixel.engines.matrices.pack import levels_fit_16_bits
from subpixel.engines.matrices.pack import pack as matrices_pack
from subpixel.models import catalog as packaged

SIDES = (1, 2, 7, 15, 16, 17, 33, 97)
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
kept = []


def guarded(size, *, at_end, alignment=1):
    """The address of ``size`` bytes right before (or after) a page without access."""
    pages = -(-size // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages + 1):
        assert libc.mprotect(ctypes.c_void_p(start + page * PAGE), PAGE, 0) == 0
    kept.append(memory)
    if at_end:
        return start + PAGE + pages * PAGE - -(-size // alignment) * alignment
    return start + PAGE


def array(shape, dtype, *, at_end, alignment=1):
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    raw = (ctypes.c_uint8 * size).from_address(guarded(size, at_end=at_end, alignment=alignment))
    return np.frombuffer(raw, dtype).reshape(shape)


def copy(values, *, at_end, alignment=1):
    result = array(values.shape, values.dtype, at_end=at_end, alignment=alignment)
    result[...] = values
    return result


row_buffers_at_end = True


@ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64)
def allocate(context, size):
    return guarded(size, at_end=row_buffers_at_end, alignment=64)


@ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)
def free(context, memory):
    pass


def own_allocator():
    """The kernels' support, with memory from here."""
    before = kernel_module._support()
    errors = before[before.index("define i32 @halide_error") :]
    addresses = [ctypes.cast(function, ctypes.c_void_p).value for function in (allocate, free)]
    return f"""
define ptr @halide_malloc(ptr %context, i64 %size) {{
  %function = inttoptr i64 {addresses[0]} to ptr
  %memory = call ptr %function(ptr %context, i64 %size)
  ret ptr %memory
}}
define void @halide_free(ptr %context, ptr %memory) {{
  %function = inttoptr i64 {addresses[1]} to ptr
  call void %function(ptr %context, ptr %memory)
  ret void
}}
{errors}
"""


def halide_kernel(model, precision):
    """A function that makes the kernel anew, with parameters that end or begin at a border."""
    plan = make_plan(model.spec, machine(), precision)
    code = compile_object(plan, "float32" if precision == "fp32" else "uint8")
    support = own_allocator()
    kernel_module._support = lambda: support
    given = pack(model, plan)

    def make(at_end):
        arrays = {field.name: copy(getattr(given, field.name), at_end=at_end) for field in fields(given)}
        return Kernel(code, replace(given, **arrays))

    return make


def matrix_kernel(model):
    """The same for the kernel by matrices. Asking for the kind of processor asks for AMX's registers too."""
    assert host_kind() == "amx"
    layout = make_layout(model.spec, short=levels_fit_16_bits(model))
    code, given = matrices.compile_object(layout), matrices_pack(model, layout)

    def working(size):
        kept_place = guarded(size, at_end=row_buffers_at_end, alignment=64)
        return np.frombuffer((ctypes.c_uint8 * size).from_address(kept_place), np.uint8)

    matrices.aligned = working
    return lambda at_end: matrices.MatrixKernel(code, layout, copy(given, at_end=at_end, alignment=64))


def main(kind, name, overrun):
    global row_buffers_at_end
    model = packaged.find(name)
    dtype, done = np.float32 if kind == "fp32" else np.uint8, 0
    make = matrix_kernel(model) if kind == "matrices" else halide_kernel(model, kind)
    for at_end in (True, False):
        kept.clear()
        row_buffers_at_end = at_end
        kernel = make(at_end)
        parameters = len(kept)
        for height, width in product(SIDES, SIDES):
            kept[parameters:] = []
            lr = array((1, height, width), dtype, at_end=at_end)
            hr = array((1, model.scale * height, model.scale * width), dtype, at_end=at_end)
            lr[...] = 1
            if overrun:
                hr.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))[hr.nbytes] = 1
            kernel(lr, hr, slice(0, width), slice(0, height))
            done += 1
    print("done", done)


main(*sys.argv[1:3], "overrun" in sys.argv)

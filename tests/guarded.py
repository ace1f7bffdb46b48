"""Run kernels on arrays next to forbidden pages: `python guarded.py TARGET MODEL [uint16|float32] [overrun]`.

Each array, also the working memory, ends or begins at the border of a page without access (ends to 64 bytes,
if it is aligned). An access out of bounds ends the process (SIGSEGV). With "overrun", the script makes one on
purpose. Of a network for video it is the correction that runs.
"""

import ctypes
import mmap
import sys
from itertools import product

import numpy as np

from subpixel.engines.native import kernel as kernel_module
from subpixel.engines.native.layers import SAMPLE_BYTES
from subpixel.engines.native.pack import arithmetic, pack
from subpixel.engines.native.plan import make_plan
from subpixel.engines.native.targets import find
from subpixel.models import catalog as packaged
from subpixel.models.history import correction

SIDES = (1, 2, 7, 15, 16, 17, 33, 97)
PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
kept = []


def guarded(size, *, at_end, alignment=1):
    """Return the address of ``size`` bytes directly before or after a page without access."""
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


def guarded_kernel(model, target, samples, *, at_end):
    """Make a kernel whose parameters and working memory lie at a border."""
    plan = make_plan(model.spec, find(target), arithmetic(model), samples)
    parameters = copy(pack(model, plan), at_end=at_end, alignment=64)
    kernel_module.aligned = lambda size: array(size, np.uint8, at_end=at_end, alignment=64)
    return kernel_module.NativeKernel(kernel_module.compile_object(plan), plan, parameters)


def main(target, name, *options):
    model = packaged.find(name)
    if model.spec.history:
        model = correction(model)
    channels, scale = model.spec.channels, model.scale
    samples, done = next((each for each in options if each in SAMPLE_BYTES), "uint8"), 0
    for at_end in (True, False):
        kept.clear()
        kernel = guarded_kernel(model, target, samples, at_end=at_end)
        parameters = len(kept)
        for height, width in product(SIDES, SIDES):
            kept[parameters:] = []
            lr = array((channels, height, width), samples, at_end=at_end)
            hr = array((channels, scale * height, scale * width), samples, at_end=at_end)
            lr[...] = 1
            if "overrun" in options:
                hr.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))[hr.nbytes] = 1
            kernel(lr, hr, slice(0, width), slice(0, height))
            done += 1
    print("done", done)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Compiles the functions of `program` at their first use, and calls them without the interpreter's lock."""

import ctypes
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines import code_cache
from subpixel.engines.color import LANES
from subpixel.engines.machine_code import MachineCode, compiling, target_machine
from subpixel.errors import EngineError
from subpixel.ops.resample import Taps, positions
from subpixel.ops.resample import resample as in_numpy

Plane = NDArray[np.float32]

MAX_SCALE = 8
"""Code grows with the scale, and compiles in 0.1 s at this one."""

MIN_PX = 1 << 17
"""Fewest pixels, of all calls together, for which code is loaded: it takes some milliseconds, or forty if it
is compiled. NumPy needs one for these pixels."""

_DTYPES = {np.dtype(each): each for each in ("uint8", "uint16", "float32")}

_ARGUMENTS = {"split": 6, "write": 11, "resample": 13}

_Key = tuple[Any, ...]
"""The name of a function, and the arguments of what emits it."""

_Function = Callable[..., int]

_functions: dict[_Key, tuple[_Function, MachineCode] | None] = {}
_pixels: Counter[_Key] = Counter()
"""How many pixels each function would have computed before it is loaded."""


def split(image: NDArray[Any], coefficients: NDArray[np.float32]) -> tuple[Plane, Plane, Plane] | None:
    """Convert pixels to three planes.

    Args:
        image: ``(H, W, 3)``, or ``(H, W, 4)``, whose last channel is ignored.
        coefficients: ``(3, 4)``, C-contiguous: for each plane, the factors of the channels and what is added.

    Returns:
        Three planes ``(H, W)``, C-contiguous; None if there is no code for such an image, or on this machine.
    """
    height, width, channels = image.shape
    if not _is_packed(image) or width < LANES or image.dtype not in _DTYPES:
        return None
    function = _function(("split", _DTYPES[image.dtype], channels), height * width)
    if function is None:
        return None
    planes = np.empty((3, height, width), np.float32)
    function(*_addresses(image), planes.ctypes.data, height, width, coefficients.ctypes.data)
    return planes[0], planes[1], planes[2]


def write(
    luma: Plane, cb: Plane, cr: Plane, scale: int, out: NDArray[Any], coefficients: NDArray[np.float32]
) -> bool:
    """Fill RGB pixels from luma and small chroma.

    Args:
        luma: ``(scale*H, scale*W)``.
        cb, cr: ``(H + 4, W + 4)``, with two pixels of context on each side; without context at scale 1.
        scale: ratio of luma to chroma.
        out: ``(scale*H, scale*W, 3)``, or ``(scale*H, scale*W, 4)``, whose last channel does not change.
        coefficients: C-contiguous, as `subpixel.engines.color.program.WRITE_COEFFICIENTS`.

    Returns:
        Whether ``out`` is filled; False if there is no code for such arrays, or on this machine.
    """
    height, width = (side // scale for side in luma.shape)
    if not _is_packed(out) or width < LANES or scale > MAX_SCALE or out.dtype not in _DTYPES:
        return False
    function = _function(("write", _DTYPES[out.dtype], out.shape[2], scale), luma.size)
    if function is None:
        return False
    planes = [np.ascontiguousarray(plane) if plane.strides[1] != 4 else plane for plane in (luma, cb, cr)]
    if planes[1].strides != planes[2].strides:
        planes[1:] = map(np.ascontiguousarray, planes[1:])
    luma, cb, cr = planes
    inside = 2 * (cb.strides[0] + 4) if scale > 1 else 0
    working = np.empty(2 * scale * (width + 4), np.float32)
    function(
        *_addresses(luma),
        cb.ctypes.data + inside,
        cr.ctypes.data + inside,
        cb.strides[0],
        *_addresses(out),
        height,
        width,
        working.ctypes.data,
        coefficients.ctypes.data,
    )
    return True


def resample(
    plane: Plane, rows: Taps, columns: Taps, part: tuple[slice, slice], origin: tuple[int, int]
) -> Plane:
    """Do `subpixel.ops.resample.resample`, in machine code if there is any for the shape, and here."""
    height, width = plane.shape
    count, across = (span.stop - span.start for span in part)
    narrow = min(width, count, across) < LANES
    function = None if narrow else _function(("resample",), max(plane.size, count * across))
    if function is None:
        return in_numpy(plane, rows, columns, part, origin)
    if plane.strides[1] != plane.itemsize:
        plane = np.ascontiguousarray(plane)
    row_offsets = positions(rows, part[0], origin[0], height).astype(np.int64) * plane.strides[0]
    column_offsets = positions(columns, part[1], origin[1], width).astype(np.int64) * (4 * LANES)
    row_weights, column_weights = (
        np.ascontiguousarray(taps.weights[:, span]) for taps, span in zip((rows, columns), part, strict=True)
    )
    out = np.empty((count, across), np.float32)
    working = np.empty(LANES * (width + LANES), np.float32)
    function(
        plane.ctypes.data,
        width,
        row_offsets.ctypes.data,
        row_weights.ctypes.data,
        *row_offsets.shape,
        column_offsets.ctypes.data,
        column_weights.ctypes.data,
        *column_offsets.shape,
        *_addresses(out),
        working.ctypes.data,
    )
    return out


def _is_packed(image: NDArray[Any]) -> bool:
    """Whether pixels of 3 or 4 channels are without gaps; rows may have some."""
    channels = image.shape[2]
    return channels in (3, 4) and image.strides[1:] == (channels * image.itemsize, image.itemsize)


def _addresses(array: NDArray[Any]) -> tuple[int, int]:
    return array.ctypes.data, array.strides[0]


def _function(key: _Key, size_px: int) -> _Function | None:
    if key not in _functions:
        _pixels[key] += size_px
        if _pixels[key] < MIN_PX:
            return None
        with compiling:
            if key not in _functions:
                try:
                    _functions[key] = _compiled(key)
                except (EngineError, ImportError):  # another processor, or no llvmlite
                    _functions[key] = None
    found = _functions[key]
    return found and found[0]


def _compiled(key: _Key) -> tuple[_Function, MachineCode]:
    from subpixel.engines.native import targets  # only now, because it imports llvmlite

    instructions = targets.find()
    name, *arguments = key

    def build() -> bytes:
        from llvmlite import binding

        from subpixel.engines.color import program, resampling

        emitters: dict[str, Callable[..., Any]] = {
            "split": program.split,
            "write": program.write,
            "resample": resampling.resample,
        }
        module = binding.parse_assembly(str(emitters[name](*arguments)))
        code: bytes = target_machine(instructions.cpu, instructions.features).emit_object(module)
        return code

    loaded = MachineCode(code_cache.load_or_build((*key, instructions.name), build), name)
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_int64] * _ARGUMENTS[name])
    return prototype(loaded.address), loaded

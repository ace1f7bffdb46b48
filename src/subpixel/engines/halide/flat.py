"""`subpixel.engines.flat.keep_flat` in compiled code: NumPy would take as long for it as AMX for the network.

Pixels are compared 64 bytes at a time, whatever the processor's vectors are: LLVM makes of that what there
is. Most places have no flat pixel in a row of five, and end there. Where all of them are flat they have one
value, since neighbors share most of what they look at, and whole vectors of it are written.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.flat import is_flat, keep_where
from subpixel.engines.machine_code import target_machine
from subpixel.models.spec import FLAT_RADIUS_PX

_VECTOR_BYTES = 64


def keep_flat(tensor: NDArray[Any], result: NDArray[Any], context_px: int = 0) -> None:
    """Give the large picture, in place, the small one's samples where that is flat.

    Args:
        tensor: ``(channels, H, W)``, uint8, uint16 or float32; a row's samples side by side.
        result: the large picture without the margin, of the same dtype, likewise.
        context_px: how many of the outermost pixels of ``tensor`` are only looked at.
    """
    beyond = FLAT_RADIUS_PX - context_px
    if beyond > 0:  # a border that repeats the edge makes no pixel flat that was not
        tensor = np.pad(tensor, [(0, 0), (beyond, beyond), (beyond, beyond)], mode="edge")
        context_px = FLAT_RADIUS_PX
    inside = tensor[:, context_px : tensor.shape[1] - context_px, context_px : tensor.shape[2] - context_px]
    channels, height, width = inside.shape
    lanes = _VECTOR_BYTES // tensor.itemsize
    if channels > 1 or width < lanes:
        flat = is_flat(tensor)[context_px : context_px + height, context_px : context_px + width]
        keep_where(flat, inside, result)
        return
    keep = _compiled(tensor.itemsize, result.shape[1] // height)
    last = width - lanes
    keep(inside.ctypes.data, inside.strides[1], result.ctypes.data, result.strides[1], height, last)


@cache
def _compiled(sample_bytes: int, scale: int) -> Callable[[int, int, int, int, int, int], None]:
    """The function for samples of a size: addresses and bytes from row to row, rows, a row's last vector.

    The interpreter's lock is not held while it runs. It takes two pixels more to each side of each row.
    """
    from llvmlite import binding

    module = binding.parse_assembly(_assembly(sample_bytes, scale))
    module.verify()
    loader = binding.create_mcjit_compiler(module, target_machine(features="+avx2"))  # which all kinds have
    loader.finalize_object()
    address = loader.get_function_address("keep_flat")
    loader.detach()  # as long as the process lives there may be threads in it
    function: Callable[..., None] = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(address)
    return function


def _assembly(sample_bytes: int, scale: int) -> str:
    """The function in LLVM's language; floats are compared by their bits."""
    bits, lanes = 8 * sample_bytes, _VECTOR_BYTES // sample_bytes
    vector, mask = f"<{lanes} x i{bits}>", f"i{lanes}"
    around = range(-FLAT_RADIUS_PX, FLAT_RADIUS_PX + 1)

    def compared(name: str, before: str, places: list[tuple[int, int]]) -> str:
        """In what bits any pixel of a vector differs from those at ``places``, in rows and columns."""
        lines = []
        for number, (row, column) in enumerate(places):
            this = f"{name}{number}"
            lines.append(f"""
  %{this}.row = mul i64 %lr.stride, {row}
  %{this}.place = add i64 %{this}.row, {column * sample_bytes}
  %{this}.pointer = getelementptr i8, ptr %pixel, i64 %{this}.place
  %{this}.pixels = load {vector}, ptr %{this}.pointer, align {sample_bytes}
  %{this}.differs = xor {vector} %{this}.pixels, %pixels
  %{this} = or {vector} {before}, %{this}.differs""")
            before = f"%{this}"
        lines.append(f"""
  %{name}.same = icmp eq {vector} {before}, zeroinitializer
  %{name}.flat = bitcast <{lanes} x i1> %{name}.same to {mask}
  %{name}.none = icmp eq {mask} %{name}.flat, 0""")
        return "".join(lines)

    def stores(name: str, large: str, kind: str, value: str) -> str:
        """A value, or vectors of it, in ``scale`` rows of the large picture from a pointer on."""
        rows = []
        for down in range(scale):
            rows.append(f"""
  %{name}.down{down} = mul i64 %hr.stride, {down}
  %{name}.row{down} = getelementptr i8, ptr {large}, i64 %{name}.down{down}""")
            rows += [
                f"""
  %{name}{down}.{across} = getelementptr {kind}, ptr %{name}.row{down}, i64 {across}
  store {kind} {value}, ptr %{name}{down}.{across}, align {sample_bytes}"""
                for across in range(scale)
            ]
        return "".join(rows)

    in_row = [(0, column) for column in around if column]
    others = [(row, column) for row in around if row for column in around]
    return f"""
declare {mask} @llvm.cttz.{mask}({mask}, i1)
define void @keep_flat(ptr %lr, i64 %lr.stride, ptr %hr, i64 %hr.stride, i64 %rows, i64 %last) {{
entry:
  br label %row
row:
  %y = phi i64 [0, %entry], [%y.next, %row.end]
  %lr.at = mul i64 %y, %lr.stride
  %lr.row = getelementptr i8, ptr %lr, i64 %lr.at
  %y.large = mul i64 %y, {scale}
  %hr.at = mul i64 %y.large, %hr.stride
  %hr.row = getelementptr i8, ptr %hr, i64 %hr.at
  br label %block
block:
  %x = phi i64 [0, %row], [%x.next, %block.end]
  %pixel = getelementptr i{bits}, ptr %lr.row, i64 %x
  %pixels = load {vector}, ptr %pixel, align {sample_bytes}
{compared("beside", "zeroinitializer", in_row)}
  br i1 %beside.none, label %block.end, label %square
square:
{compared("all", f"%beside{len(in_row) - 1}", others)}
  %x.large = mul i64 %x, {scale}
  %large = getelementptr i{bits}, ptr %hr.row, i64 %x.large
  br i1 %all.none, label %block.end, label %some
some:
  %all = icmp eq {mask} %all.flat, -1
  br i1 %all, label %fill, label %one
fill:
  %first = extractelement {vector} %pixels, i64 0
  %begun = insertelement {vector} poison, i{bits} %first, i64 0
  %value = shufflevector {vector} %begun, {vector} poison, <{lanes} x i32> zeroinitializer
{stores("fill", "%large", vector, "%value")}
  br label %block.end
one:
  %left = phi {mask} [%all.flat, %some], [%left.next, %one]
  %lane.narrow = call {mask} @llvm.cttz.{mask}({mask} %left, i1 true)
  %lane = {"add i64 0, %lane.narrow" if lanes == 64 else f"zext {mask} %lane.narrow to i64"}
  %one.pixel = getelementptr i{bits}, ptr %pixel, i64 %lane
  %one.sample = load i{bits}, ptr %one.pixel
  %lane.large = mul i64 %lane, {scale}
  %one.large = getelementptr i{bits}, ptr %large, i64 %lane.large
{stores("one", "%one.large", f"i{bits}", "%one.sample")}
  %left.less = sub {mask} %left, 1
  %left.next = and {mask} %left, %left.less
  %one.more = icmp ne {mask} %left.next, 0
  br i1 %one.more, label %one, label %block.end
block.end:
  %is.last = icmp eq i64 %x, %last
  %x.step = add i64 %x, {lanes}
  %x.beyond = icmp ugt i64 %x.step, %last
  %x.next = select i1 %x.beyond, i64 %last, i64 %x.step
  br i1 %is.last, label %row.end, label %block
row.end:
  %y.next = add i64 %y, 1
  %y.more = icmp ult i64 %y.next, %rows
  br i1 %y.more, label %row, label %end
end:
  ret void
}}
"""

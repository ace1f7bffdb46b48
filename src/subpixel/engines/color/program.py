"""Emits the code: `write` resamples chroma, converts to RGB and rounds; `split` converts RGB to planes.

Each is one pass over the pixels. Sums have the order of the functions in NumPy, and no multiplication is
fused with an addition, so each step rounds as there.
"""

from collections.abc import Callable, Sequence

import numpy as np

from subpixel.engines.assembler import BYTE, FLOAT, INT, LONG, POINTER, SHORT, Value, vector
from subpixel.engines.color import LANES
from subpixel.engines.color.vectors import FLOATS, INTS, VectorAssembler
from subpixel.ops.resize import cubic_phases

WRITE = {
    "luma": POINTER,
    "luma_row": LONG,  # from row to row, in bytes
    "cb": POINTER,  # the first pixel inside of the context
    "cr": POINTER,
    "chroma_row": LONG,
    "out": POINTER,
    "out_row": LONG,
    "rows": LONG,  # of chroma, without context
    "columns": LONG,  # likewise; at least `LANES`
    "working": POINTER,  # 2 * scale rows of float32, each with 4 more than ``columns``
    "coefficients": POINTER,  # as many float32 as `WRITE_COEFFICIENTS`
}

WRITE_COEFFICIENTS = (
    *("gray_of_luma", "gray", "green_of_red", "green_of_blue", "white"),
    *("neutral_red", "red_of_cr", "neutral_blue", "blue_of_cb"),
)
"""Their names; `subpixel.images.chroma` has the values."""

SPLIT = {
    "pixels": POINTER,
    "pixels_row": LONG,
    "planes": POINTER,  # Y', Cb and Cr, without gaps
    "rows": LONG,
    "columns": LONG,  # at least `LANES`
    "coefficients": POINTER,  # for each plane: of red, green and blue, and the offset
}


def write(dtype: str, channels: int, scale: int) -> Value:
    """Emit the function with the parameters `WRITE`, for pixels of 3 or 4 channels; return its module.

    The fourth channel stays as it is.
    """
    code = _Pipeline("write", WRITE, WRITE_COEFFICIENTS)
    given, radius = code.given, _radius(scale)
    columns, row_bytes = given["columns"], code.times(code.add(given["columns"], 2 * radius), 4)
    with code.loop(code.number(0), given["rows"]) as y:
        # Along columns first: for each row of the result, one of red in the working memory, and one of blue.
        with code.each_vector(code.number(-radius), code.add(columns, radius)) as x:
            to = code.at(given["working"], code.times(code.add(x, radius), 4))
            for index, (plane, names) in enumerate(_CHROMA.items()):
                pixel = code.at(given[plane], code.times(given["chroma_row"], y), code.times(x, 4))
                rows = {
                    offset: code.scaled(code.at(pixel, code.times(given["chroma_row"], offset)), *names)
                    for offset in _offsets(scale)
                }
                for phase, taps in enumerate(cubic_phases(scale)):
                    code.store(
                        code.weighted(rows, taps), code.at(to, code.times(row_bytes, 2 * phase + index))
                    )
        with code.loop(code.number(0), code.number(scale)) as down:
            row = code.add(code.times(y, scale), down)
            chroma = code.at(given["working"], code.times(row_bytes, code.times(down, 2)), 4 * radius)
            luma, out = (code.at(given[n], code.times(given[f"{n}_row"], row)) for n in ("luma", "out"))
            with code.each_vector(code.number(0), columns) as x:
                colors = [
                    _resampled(code, code.at(chroma, code.times(row_bytes, index), code.times(x, 4)), scale)
                    for index in range(2)
                ]
                for part, (red, blue) in enumerate(zip(*colors, strict=True)):
                    place = code.add(code.times(x, scale), LANES * part)
                    gray = code.load(code.at(luma, code.times(place, 4)), FLOATS)
                    pixel = code.at(out, code.times(place, channels * np.dtype(dtype).itemsize))
                    _STORE[dtype](code, _rgb(code, gray, red, blue), pixel, channels)
    code.succeed()
    return code.module


def split(dtype: str, channels: int) -> Value:
    """Emit the function with the parameters `SPLIT`, for pixels of 3 or 4 channels; return its module."""
    code = _Pipeline("split", SPLIT, [f"{plane}{n}" for plane in range(3) for n in range(4)])
    given, build = code.given, code.build
    plane_bytes = code.times(code.times(given["rows"], given["columns"]), 4)
    with code.loop(code.number(0), given["rows"]) as y:
        pixels = code.at(given["pixels"], code.times(given["pixels_row"], y))
        row = code.at(given["planes"], code.times(code.times(given["columns"], y), 4))
        with code.each_vector(code.number(0), given["columns"]) as x:
            pixel = code.at(pixels, code.times(x, channels * np.dtype(dtype).itemsize))
            colors = _LOAD[dtype](code, pixel, channels)
            for plane in range(3):
                of_red, *others, offset = (code.coefficients[f"{plane}{n}"] for n in range(4))
                total = build.fmul(colors[0], of_red)
                for color, coefficient in zip(colors[1:], others, strict=True):
                    total = build.fadd(total, build.fmul(color, coefficient))
                to = code.at(row, code.times(plane_bytes, plane), code.times(x, 4))
                code.store(build.fadd(total, offset), to)
    code.succeed()
    return code.module


_CHROMA = {"cr": ("neutral_red", "red_of_cr"), "cb": ("neutral_blue", "blue_of_cb")}
"""The planes that red and blue come from, with their coefficients."""


class _Pipeline(VectorAssembler):
    """A function over rows of pixels, with coefficients in its last parameter."""

    def __init__(self, name: str, parameters: dict[str, Value], coefficients: Sequence[str]) -> None:
        super().__init__(name, parameters)
        pointer = self.given["coefficients"]
        self.coefficients = {
            name: self.all(self.load(self.at(pointer, 4 * index), FLOAT), LANES)
            for index, name in enumerate(coefficients)
        }

    def constant_floats(self, value: float) -> Value:
        """A constant in each lane."""
        return self.lanes(FLOAT, [value] * LANES)

    def scaled(self, pointer: Value, neutral: str, factor: str) -> Value:
        """Load samples, subtract a coefficient, and multiply by another."""
        difference = self.build.fsub(self.load(pointer, FLOATS), self.coefficients[neutral])
        return self.build.fmul(difference, self.coefficients[factor])

    def weighted(self, values: dict[int, Value], taps: list[tuple[int, float]]) -> Value:
        """The sum of the values at the offsets of the taps, times their weights."""
        terms = [self.build.fmul(values[offset], self.constant_floats(weight)) for offset, weight in taps]
        total = terms[0]
        for term in terms[1:]:
            total = self.build.fadd(total, term)
        return total


def _offsets(scale: int) -> list[int]:
    return sorted({offset for taps in cubic_phases(scale) for offset, _ in taps})


def _radius(scale: int) -> int:
    """The context that the taps of a scale need; none at scale 1."""
    return max(map(abs, _offsets(scale)))


def _resampled(code: _Pipeline, pointer: Value, scale: int) -> list[Value]:
    """Resample a vector along a row; return ``scale`` vectors."""
    near = {offset: code.load(code.at(pointer, 4 * offset), FLOATS) for offset in _offsets(scale)}
    phases = [code.weighted(near, taps) for taps in cubic_phases(scale)]
    result = []
    for part in range(scale):
        places = range(LANES * part, LANES * (part + 1))
        woven = code.pick(phases[0], [place // scale for place in places])
        for number, phase in enumerate(phases[1:], 1):
            lanes = [
                LANES + place // scale if place % scale == number else lane
                for lane, place in enumerate(places)
            ]
            woven = code.build.shuffle_vector(woven, phase, code.lanes(INT, lanes))
        result.append(woven)
    return result


def _rgb(code: _Pipeline, luma: Value, red: Value, blue: Value) -> list[Value]:
    build, of = code.build, code.coefficients
    gray = build.fadd(build.fmul(luma, of["gray_of_luma"]), of["gray"])
    green = build.fadd(build.fmul(red, of["green_of_red"]), build.fmul(blue, of["green_of_blue"]))
    result = []
    for color in (red, green, blue):
        total = build.fadd(color, gray)
        for compare, limit in ((">", code.constant_floats(0)), ("<", of["white"])):
            total = build.select(build.fcmp_ordered(compare, total, limit), total, limit)
        result.append(total)
    return result


def _store_bytes(code: _Pipeline, colors: list[Value], pointer: Value, channels: int) -> None:
    build = code.build
    together, *others = (build.fptosi(color, INTS) for color in colors)
    for place, color in enumerate(others, 1):
        together = build.or_(together, build.shl(color, code.lanes(INT, [8 * place] * LANES)))
    if channels == 4:
        alpha = build.and_(code.load(pointer, INTS), code.lanes(INT, [0xFF << 24] * LANES))
        code.store(build.or_(together, alpha), pointer)
    else:
        pixels = build.bitcast(together, vector(BYTE, 4 * LANES))
        lanes = [4 * pixel + color for pixel in range(LANES) for color in range(3)]
        code.store(code.pick(pixels, lanes), pointer)


def _store_shorts(code: _Pipeline, colors: list[Value], pointer: Value, channels: int) -> None:
    build = code.build
    shorts = [build.trunc(build.fptosi(color, INTS), vector(SHORT, LANES)) for color in colors]
    _store_woven(code, shorts, pointer, channels)


def _store_woven(code: _Pipeline, colors: list[Value], pointer: Value, channels: int) -> None:
    alpha = colors[2]
    if channels == 4:
        old = code.load(pointer, vector(alpha.type.element, 4 * LANES))
        alpha = code.pick(old, [4 * pixel + 3 for pixel in range(LANES)])
    both = code.lanes(INT, range(2 * LANES))
    red_green = code.build.shuffle_vector(colors[0], colors[1], both)
    blue_alpha = code.build.shuffle_vector(colors[2], alpha, both)
    lanes = [LANES * color + pixel for pixel in range(LANES) for color in range(channels)]
    code.store(code.build.shuffle_vector(red_green, blue_alpha, code.lanes(INT, lanes)), pointer)


_STORE: dict[str, Callable[[_Pipeline, list[Value], Value, int], None]] = {
    "uint8": _store_bytes,
    "uint16": _store_shorts,
    "float32": _store_woven,
}


def _load_bytes(code: _Pipeline, pointer: Value, channels: int) -> list[Value]:
    build = code.build
    samples = code.load(pointer, vector(BYTE, channels * LANES))
    if channels == 3:
        samples = code.pick(
            samples, [3 * pixel + min(color, 2) for pixel in range(LANES) for color in range(4)]
        )
    together = build.bitcast(samples, INTS)
    low = code.lanes(INT, [255] * LANES)
    shifted = (build.lshr(together, code.lanes(INT, [8 * place] * LANES)) for place in range(3))
    return [build.sitofp(build.and_(color, low), FLOATS) for color in shifted]


def _load_shorts(code: _Pipeline, pointer: Value, channels: int) -> list[Value]:
    colors = _picked(code, pointer, channels, SHORT)
    return [code.build.sitofp(code.build.zext(color, INTS), FLOATS) for color in colors]


def _load_floats(code: _Pipeline, pointer: Value, channels: int) -> list[Value]:
    return _picked(code, pointer, channels, FLOAT)


def _picked(code: _Pipeline, pointer: Value, channels: int, kind: Value) -> list[Value]:
    samples = code.load(pointer, vector(kind, channels * LANES))
    return [code.pick(samples, [channels * pixel + color for pixel in range(LANES)]) for color in range(3)]


_LOAD: dict[str, Callable[[_Pipeline, Value, int], list[Value]]] = {
    "uint8": _load_bytes,
    "uint16": _load_shorts,
    "float32": _load_floats,
}

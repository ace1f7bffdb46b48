"""What a pipeline computes: a network as Halide functions, without a word on how they are run.

A pipeline enlarges the columns ``left`` to ``right`` of a picture, and whichever rows its output buffer has.
Each layer is kept as `Rows` of values, of which the next layer reads a window. A row covers the columns that
the result depends on; where the next layer looks beyond the picture, it holds the value that means zero, so
that the result equals zero padding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import halide as hl

from subpixel.engines.halide.plan import (
    BIAS,
    FACTOR,
    MAGIC_ZERO,
    NEGATIVE_FACTOR,
    STEPS,
    ZERO,
    Layer,
    Plan,
)
from subpixel.models.quantization import MAGIC, MAGIC_BITS, MOST_TANH_ARGUMENT, TANH_COEFFICIENTS
from subpixel.models.spec import Convolution

x, y, channel, of_group, group = (hl.Var(name) for name in ("x", "y", "channel", "of_group", "group"))

WHITE = {"uint8": (hl.UInt(8), 255), "uint16": (hl.UInt(16), 65535), "float32": (hl.Float(32), 1)}
"""Halide's type for each of `plan.SAMPLES`, and which value is white."""

TANH_NUMERATOR = (0.9999956881610529, 0.12302179957835653, 0.0022769860645924945, 3.929998213940885e-06)
TANH_DENOMINATOR = (1.0, 0.45634028580485314, 0.021072166943356382, 0.00014235052369148454)
TANH_RATIONAL_LIMIT = 7.0
"""tanh(x) = x * numerator(x^2) / denominator(x^2), off by at most 9.1e-7 for all x once x is held within the
limit. `benchmarks/tanh_fits.py` finds it."""


@dataclass
class Sums:
    """A convolution before its activation: ``func[x, channel, y]``."""

    func: hl.Func
    taps: hl.RDom
    """Channel within its group, group, column, row."""
    layer: Layer
    gathered: hl.Func | None
    """The input with its taps as channels, where the plan says so."""


@dataclass
class Rows:
    """Values kept row by row: ``func[of_group, x, group, y]`` is channel ``group * size + of_group``."""

    func: hl.Func
    columns: hl.RDom
    """Of the main update: column within a tile, tile."""
    size: int
    """Channels in a group."""
    sums: Sums | None = None
    """The convolution behind it; None for the picture itself."""


@dataclass
class Pipeline:
    """A network as functions."""

    plan: Plan
    picture: Rows
    layers: list[Rows]
    output: hl.Func
    """``[x, y, channel]``"""
    parameters: list[Any]
    """lr, weights, offsets, factors, left, right, in the order in which a compiled pipeline takes them; the
    output comes after them."""


class _Builder:
    """What all parts of a definition need to know."""

    def __init__(self, plan: Plan, samples: str) -> None:
        self.plan = plan
        self.real = plan.products == "float"
        self.samples = samples
        self.sample_type, self.white = WHITE[samples]
        weight_types = {"float": hl.Float(32), "pairs": hl.Int(16), "quads": hl.Int(8)}
        self.lr = hl.ImageParam(self.sample_type, 3, "lr")
        self.weights = hl.ImageParam(weight_types[plan.products], 1, "weights")
        self.offsets = hl.ImageParam(hl.Float(32) if self.real else hl.Int(32), 2, "offsets")
        self.factors = hl.ImageParam(hl.Float(32), 2, "factors")
        self.left, self.right = hl.Param(hl.Int(32), "left"), hl.Param(hl.Int(32), "right")
        self.width, self.height = self.lr.dim(0).extent(), self.lr.dim(1).extent()
        self.value_type = hl.Float(32) if self.real else hl.UInt(8)

    def rows(
        self,
        name: str,
        kind: Any,
        size: int,
        value: Callable[[Any, Any, Any], Any],
        *,
        halo: int,
        tile: int,
        reach: int = 0,
        zero: Callable[[Any], Any] | None = None,
    ) -> Rows:
        """Keep ``value(x, channel, y)`` for the columns within ``halo`` of the output's.

        The next layer looks ``reach`` pixels to each side; there, beyond the picture, is ``zero(channel)``.
        The main update works in tiles of columns, so it may go past the last column: what it writes there is
        never read, or overwritten by the zeros after it.
        """
        first, end = hl.max(0, self.left - halo), hl.min(self.width, self.right + halo)
        this = group * size + of_group
        func = hl.Func(name)
        func[of_group, x, group, y] = hl.undef(kind)
        columns = hl.RDom([(0, tile), (0, (end - first + tile - 1) // tile)], f"{name}_columns")
        column = first + columns.y * tile + columns.x
        # Whether neither y nor height - 1 - y is negative, in a form that Halide does not see through. Else
        # it wants only rows inside the picture of the layers before, no longer sees that one more is needed
        # at each turn, and computes some of them again and again.
        inside = (y | (self.height - 1 - y)) >= 0
        if reach:
            columns.where(inside)
        func[of_group, column, group, y] = hl.cast(kind, value(column, this, y))
        if reach:
            assert zero is not None
            beside = hl.RDom([(0, 2 * reach)], f"{name}_beside")
            at = hl.select(beside.x < reach, beside.x - reach, self.width + beside.x - reach)
            func[of_group, at, group, y] = hl.cast(kind, zero(this))
            beyond = hl.RDom([(first - reach, end - first + 2 * reach)], f"{name}_beyond")
            beyond.where(~inside)
            func[of_group, beyond.x, group, y] = hl.cast(kind, zero(this))
        return Rows(func, columns, size)

    def sample(self, column: Any, this: Any, row: Any) -> Any:
        """A sample of the picture as the first layer takes it: real in [0, 1], or 0 to 255."""
        last_channel = self.plan.spec.channels - 1
        given = self.lr[column, hl.clamp(row, 0, self.height - 1), hl.clamp(this, 0, last_channel)]
        if self.real:
            return given if self.white == 1 else hl.f32(given) * hl.f32(1 / self.white)
        if self.samples == "uint8":
            return given
        level = hl.f32(given) * hl.f32(255 / self.white) + hl.f32(0.5)
        return hl.u8(hl.clamp(level, hl.f32(0), hl.f32(255)))

    def convolution(self, index: int, before: Rows) -> Sums:
        """The sums of a layer over the rows before it."""
        layer, described = self.plan.layers[index], self.plan.spec.layers[index]
        size, at_once = self.plan.group, layer.outputs_at_once
        source, gathered = before.func, None
        if layer.gathered:
            side = described.kernel
            tap = hl.clamp(group * size + of_group, 0, layer.inputs - 1)
            gathered = hl.Func(f"gathered{index}")
            gathered[of_group, x, group, y] = source[
                0, x + tap % side - side // 2, tap // side**2, y + tap // side % side - side // 2
            ]
            source = gathered
        taps = hl.RDom([(0, size), (0, layer.groups), (0, layer.kernel), (0, layer.kernel)], f"taps{index}")
        part, of_input, across, down = taps[0], taps[1], taps[2], taps[3]
        input = source[part, x + across - layer.kernel // 2, of_input, y + down - layer.kernel // 2]
        place = channel // at_once
        for count, position in (
            (layer.kernel, down),
            (layer.kernel, across),
            (layer.groups, of_input),
            (at_once, channel % at_once),
            (size, part),
        ):
            place = place * count + position
        weight = self.weights[layer.weights_at + place]
        sums = hl.Func(f"sums{index}")
        sums[x, channel, y] = self.offsets[layer.channels_at + channel, BIAS]
        if self.real:
            sums[x, channel, y] += input * weight
        else:
            factor_type = hl.Int(16) if self.plan.products == "pairs" else hl.UInt(8)
            sums[x, channel, y] += hl.i32(hl.cast(factor_type, input)) * hl.i32(weight)
        return Sums(sums, taps, layer, gathered)

    def factor(self, sums: Sums, described: Convolution, total: Any, this: Any) -> Any:
        """What a sum is multiplied with: float32."""
        place = sums.layer.channels_at + this
        factor = hl.f32(1) if self.real else self.factors[place, FACTOR]
        if described.activation == "prelu":
            factor = hl.select(total >= 0, factor, self.factors[place, NEGATIVE_FACTOR])
        return factor

    def level(self, sums: Sums, described: Convolution, column: Any, this: Any, row: Any) -> Any:
        """A sum as one of the 256 levels that the next layer takes: see `subpixel.models.quantization`."""
        total, place = sums.func[column, this, row], sums.layer.channels_at + this
        value = hl.f32(total) * self.factor(sums, described, total, this)
        if described.activation != "tanh":
            return hl.u8(_whole(value + self.factors[place, MAGIC_ZERO], MAGIC_BITS, MAGIC_BITS + 255))
        lowest, highest = MAGIC_BITS - MOST_TANH_ARGUMENT, MAGIC_BITS + MOST_TANH_ARGUMENT
        argument = hl.i16(_whole(value + hl.f32(MAGIC), lowest, highest))
        distance = hl.max(argument, -argument)
        polynomial = hl.i16(TANH_COEFFICIENTS[-1])
        for coefficient in TANH_COEFFICIENTS[-2::-1]:
            polynomial = _rounded_product(polynomial, distance) + hl.i16(coefficient)
        tanh = _rounded_product(argument, polynomial)
        level = _rounded_product(tanh, hl.i16(self.offsets[place, STEPS])) + hl.i16(self.offsets[place, ZERO])
        return hl.u8(hl.clamp(level, hl.i16(0), hl.i16(255)))

    def result(
        self, sums: Sums, described: Convolution, picture: Rows, column: Any, this: Any, row: Any
    ) -> Any:
        """What the last layer gives, as a sample."""
        total = sums.func[column, this, row]
        value = _activated(hl.f32(total) * self.factor(sums, described, total, this), described)
        spec = self.plan.spec
        if spec.residual == "nearest":
            original = hl.min(this // spec.scale**2, spec.channels - 1)
            given = picture.func[original % picture.size, column, original // picture.size, row]
            value += given if self.real else hl.f32(given) * hl.f32(1 / 255)
        if self.white == 1:
            return value
        return _whole(value * hl.f32(self.white) + hl.f32(MAGIC), MAGIC_BITS, MAGIC_BITS + self.white)


def define(plan: Plan, samples: str) -> Pipeline:
    """Write a plan's network as Halide functions.

    The parameter ``lr`` is ``[x, y, channel]`` of ``samples``, and so is the output, whose first axis must
    begin at ``left * scale`` and end at ``right * scale``, and whose rows are those of whole LR rows.

    Args:
        plan: what to compute, and in which kind of products.
        samples: one of `plan.SAMPLES`: "uint8", "uint16" (over their whole ranges) or "float32" (in [0, 1],
            neither rounded nor clipped on the way out).
    """
    build, spec = _Builder(plan, samples), plan.spec
    halo, lanes = spec.halo_px, plan.machine.lanes
    reaches = [layer.kernel // 2 for layer in spec.layers]
    picture = build.rows(
        "picture",
        build.value_type,
        plan.group_before(0),
        build.sample,
        halo=halo,
        tile=1,
        reach=reaches[0],
        zero=lambda this: 0,
    )
    layers: list[Rows] = []
    for index, described in enumerate(spec.layers):
        halo -= reaches[index]
        sums = build.convolution(index, layers[-1] if layers else picture)
        tile = sums.layer.vectors * lanes

        def hidden(*place: Any, sums: Sums = sums, described: Convolution = described) -> Any:
            if build.real:
                total = sums.func[place[0], place[1], place[2]]
                return _activated(total * build.factor(sums, described, total, place[1]), described)
            return build.level(sums, described, *place)

        def zero(this: Any, sums: Sums = sums) -> Any:
            return 0 if build.real else build.offsets[sums.layer.channels_at + this, ZERO]

        def last(*place: Any, sums: Sums = sums, described: Convolution = described) -> Any:
            return build.result(sums, described, picture, *place)

        name = f"layer{index}"
        if index < len(plan.layers) - 1:
            rows = build.rows(
                name,
                build.value_type,
                plan.group_before(index + 1),
                hidden,
                halo=halo,
                tile=tile,
                reach=reaches[index + 1],
                zero=zero,
            )
        else:
            rows = build.rows(name, build.sample_type, 1, last, halo=0, tile=tile)
        rows.sums = sums
        layers.append(rows)

    scale = spec.scale
    output = hl.Func("hr")
    phase = (channel * scale + y % scale) * scale + x % scale
    output[x, y, channel] = layers[-1].func[0, x // scale, phase, y // scale]
    parameters = [build.lr, build.weights, build.offsets, build.factors, build.left, build.right]
    return Pipeline(plan, picture, layers, output, parameters)


def _whole(value: Any, lowest: Any, highest: Any) -> Any:
    """The whole number in a float32 that `MAGIC` was added to, clipped: int32, right in its low 16 bits."""
    bits = hl.reinterpret(hl.Int(32), value)
    return hl.clamp(bits, lowest, highest)


def _rounded_product(one: Any, other: Any) -> Any:
    """`subpixel.models.quantization.rounded_product`, in 16 bits."""
    return hl.i16((hl.i32(one) * hl.i32(other) + 2**14) >> 15)


def _activated(value: Any, described: Convolution) -> Any:
    """An activation in float32; PReLU's slope is applied already."""
    if described.activation == "relu":
        return hl.max(value, hl.f32(0))
    if described.activation == "tanh":
        inside = hl.clamp(value, hl.f32(-TANH_RATIONAL_LIMIT), hl.f32(TANH_RATIONAL_LIMIT))
        square = inside * inside
        return inside * _polynomial(TANH_NUMERATOR, square) / _polynomial(TANH_DENOMINATOR, square)
    return value


def _polynomial(coefficients: tuple[float, ...], argument: Any) -> Any:
    result = hl.f32(coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        result = result * argument + hl.f32(coefficient)
    return result

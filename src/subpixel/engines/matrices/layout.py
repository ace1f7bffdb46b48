"""What lies where: values between layers, matrices of weights, and the sizes of the blocks that are computed.

AMX has eight registers, each a matrix of 16 rows of 64 bytes. Its one product takes 16 rows of unsigned bytes
and a matrix of signed ones, and adds 16x16 sums of 32 bits. Here a row holds pixels as they lie in memory,
each with its channels side by side, so that the neighbors which a kernel covers in one row of the picture
are read as one piece: a matrix is 16 such pieces. Nothing is copied or turned for that, and sums of a pixel's
channels come out side by side, as the next layer takes them.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from subpixel.models.spec import Activation, Convolution, ModelSpec

SIDE = 16
"""Rows of a matrix, and sums in a row of results."""

LINE = 64
"""Bytes of a matrix's row, of a vector register and of a cache line."""

PAIR = 2
"""Rows of the picture that are computed at once: they share three of four rows that a 3x3 kernel reads."""

MARGIN, SLACK = 16, 96
"""Columns before and after those that the picture needs: blocks begin a little earlier and end later."""

LARGEST_REACH = 4
"""Pixels to each side that a kernel may see, to stay within the margin."""

STACK = {1: 4, 3: 4, 5: 8, 7: 8}
"""By the first kernel's side: how many rows of the picture lie side by side in the first layer's input. At
least 4, so that what is so many bytes for each of `Layout.columns` is whole cache lines."""

CACHE_BYTES = 2 << 20
"""The second-level cache of processors with AMX; what is kept of a picture's rows should fit."""

MOST_CHANNELS = 128
"""Of a hidden layer; with more the code would become too long to be worth it."""


def aligned(size: int) -> NDArray[np.uint8]:
    """Memory that begins where a cache line does; what is in it is left to chance."""
    memory = np.empty(size + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size]


def suits(spec: ModelSpec) -> bool:
    """Whether this way of computing is made for a network: one over luma, with hidden layers."""
    first, *rest = spec.layers
    return (
        spec.channels == 1
        and spec.scale in (2, 3, 4)
        and spec.upsampling == "shuffle"
        and rest != []
        and first.kernel in STACK
        and all(layer.kernel // 2 <= LARGEST_REACH for layer in rest)
        and all(layer.outputs <= MOST_CHANNELS for layer in spec.layers[:-1])
        and rest[-1].activation == "none"
    )


@dataclass(frozen=True)
class Layer:
    """How one convolution is computed.

    A block of the result is ``tiles`` matrices for each of two rows; a row of such a matrix yields ``pixels``
    neighboring pixels, with 16 channels (or, in the last layer, large pixels) for each of ``blocks``.
    """

    kernel: int
    activation: Activation
    inputs: int
    outputs: int
    last: bool
    stacked: bool
    """Whether its input is the picture: a column then holds several rows of it, the newest last."""
    pixel_bytes: int
    """Of its input: channels, padded to 16; of the picture, its rows."""
    pixels: int
    row_bytes: int
    """Of a matrix of its input."""
    steps: int
    """Products that go over what a kernel sees of one row."""
    blocks: int
    channel_blocks: int
    """Blocks of 16 that make a pixel's channels; 1 in the last layer."""
    tiles: int
    start: int
    """Of its part of the parameters, in bytes."""
    short: bool
    """Whether its levels, before they are clipped, are known to fit 16 bits."""

    @property
    def reach(self) -> int:
        """Pixels that it sees to each side."""
        return self.kernel // 2

    @property
    def rows(self) -> int:
        """Of its input, that a pair of rows of the result needs."""
        return 1 if self.stacked else self.kernel - 1 + PAIR

    @property
    def rows_kept(self) -> int:
        """Of its input: as many, and a power of two."""
        return 1 << (self.rows - 1).bit_length()

    @property
    def input_bytes(self) -> int:
        """Of the rows kept, for each of `Layout.columns`."""
        return self.pixel_bytes * self.rows_kept

    @property
    def weight_sets(self) -> int:
        """Of matrices: one for each row of the kernel, or, stacked, for each row of a pair."""
        return PAIR if self.stacked else self.kernel

    @property
    def block_px(self) -> int:
        """Pixels of a block, from left to right."""
        return self.tiles * SIDE * self.pixels

    @property
    def aligned_px(self) -> int:
        """A block should begin at a multiple of this: of 16 rows then at most half lie across cache lines."""
        return min(self.pixels, max(1, LINE // self.pixel_bytes))

    @property
    def result_bytes(self) -> int:
        """Of a pixel of its result."""
        return self.channel_blocks * SIDE

    @property
    def sums_bytes(self) -> int:
        """Of one row of a block. Five are kept: the first row of two blocks, the second of three."""
        return self.tiles * SIDE * self.blocks * LINE

    @property
    def period(self) -> int:
        """Units (vectors of 16 sums) after which, counted by fours, the same channels come again."""
        return math.lcm(4, self.channel_blocks)

    @property
    def weight_bytes(self) -> int:
        """Of one matrix."""
        return self.row_bytes * SIDE

    def sizes(self) -> dict[str, int]:
        """Parts of its parameters in their order, with their sizes in bytes. `pack` says what they are."""
        channels, pairs = self.channel_blocks * LINE, self.period // 2 * LINE
        matrices = self.weight_sets * self.steps * self.blocks
        parts = {"weights": matrices * self.weight_bytes, "levels": self.result_bytes}
        parts |= dict.fromkeys(("bias", "factor", "negative_factor"), channels)
        parts |= dict.fromkeys(("addend", "negative_addend", "offset"), channels)
        parts |= dict.fromkeys(("tanh_steps", "tanh_zero"), pairs)
        return {name: size + -size % LINE for name, size in parts.items()}

    @property
    def parameter_bytes(self) -> int:
        """Of all parts."""
        return sum(self.sizes().values())

    def at(self, part: str) -> int:
        """Where a part of its parameters begins, from ``start`` on."""
        place = 0
        for name, size in self.sizes().items():
            if name == part:
                return place
            place += size
        raise KeyError(part)


@dataclass(frozen=True)
class Layout:
    """Of a whole network."""

    spec: ModelSpec
    layers: tuple[Layer, ...]

    @property
    def short(self) -> bool:
        """Whether it was made for levels that fit 16 bits."""
        return any(layer.short for layer in self.layers)

    def alike(self) -> list[tuple[int, int]]:
        """Layers one after the other that differ in nothing but their parameters: the first, and how many."""
        # The kernel that follows decides how many rows of a result are kept, and how far beside the picture
        # zeros go.
        following = [*(layer.kernel for layer in self.layers[1:]), None]
        kinds = zip((replace(layer, start=0) for layer in self.layers), following, strict=True)
        runs, first = [], 0
        for _, same in groupby(kinds):
            count = len(list(same))
            runs.append((first, count))
            first += count
        return runs

    @property
    def parameter_bytes(self) -> int:
        """Of all layers."""
        return self.layers[-1].start + self.layers[-1].parameter_bytes

    def bytes_per_column(self) -> int:
        """Of working memory: rows kept of each layer's input, and two of the picture as floats."""
        return sum(layer.input_bytes for layer in self.layers) + PAIR * 4

    @property
    def edge_bytes(self) -> int:
        """Of the first and the last block of the result's rows, of a pair.

        Blocks may begin before the result and end after it. What they give is then not the result's memory
        to take in: it goes here first.
        """
        return PAIR * 2 * self.layers[-1].block_px * self.spec.scale**2

    def work(self, width: int, strips: Iterable[slice]) -> int:
        """Products of matrices for a pair of rows in strips, counting what strips share and whole blocks."""
        total, halo = 0, self.spec.halo_px
        strips = list(strips)
        for layer in self.layers:
            halo -= layer.reach
            for strip in strips:
                needed = min(width, strip.stop + halo) - max(0, strip.start - halo)
                total += -(-needed // layer.block_px) * layer.tiles * layer.blocks * layer.steps * layer.rows
        return total

    @property
    def margin(self) -> int:
        """Columns before those that the picture needs: at least `MARGIN`.

        So many that a 3x3 layer's first block, which begins a column to the left of the picture, begins at a
        multiple of 4, and need not be moved for the sake of `Layer.aligned_px`.
        """
        return MARGIN + (1 - self.spec.halo_px - MARGIN) % 4

    def columns(self, width: int) -> int:
        """Of working memory, for a result of ``width`` LR pixels.

        An odd multiple of 16: then rows, one after the other, do not meet at the same places of the cache.
        """
        needed = width + 2 * self.spec.halo_px + self.margin + SLACK
        return (needed + 31) // 32 * 32 + 16

    def working_bytes(self, width: int) -> int:
        """Of working memory, in whole lines: columns, edges, and sums."""
        sums = 5 * max(layer.sums_bytes for layer in self.layers)
        size = self.columns(width) * self.bytes_per_column() + self.edge_bytes + sums
        return -(-size // LINE) * LINE


def make_layout(spec: ModelSpec, *, short: bool = False) -> Layout:
    """Lay out a network that `suits`; ``short`` if all levels fit 16 bits: see `pack.levels_fit_16_bits`."""
    layers: list[Layer] = []
    pixel_bytes, start = STACK[spec.layers[0].kernel], 0
    for index, convolution in enumerate(spec.layers):
        last = index == len(spec.layers) - 1
        layer = _layer(
            convolution,
            pixel_bytes,
            start,
            stacked=index == 0,
            last=last,
            scale=spec.scale,
            short=short,
        )
        layers.append(layer)
        pixel_bytes, start = layer.result_bytes, start + layer.parameter_bytes
    return Layout(spec, tuple(layers))


def _layer(
    convolution: Convolution,
    pixel_bytes: int,
    start: int,
    *,
    stacked: bool,
    last: bool,
    scale: int,
    short: bool,
) -> Layer:
    """Choose how many pixels a row of matrices yields: the number that takes fewest products for each.

    Of equals, several with 16 channels: their pieces of memory cross fewer cache lines. With 32 one alone,
    since weights for several, half of them zeros, would no longer stay in the nearest cache.
    """
    channel_blocks = 1 if last else math.ceil(convolution.outputs / SIDE)

    def span(pixels: int) -> int:
        return (convolution.kernel - 1 + pixels) * pixel_bytes

    def cost(pixels: int) -> tuple[int, int]:
        return math.ceil(span(pixels) / LINE), -pixels if pixel_bytes < 32 else pixels

    if stacked:
        pixels = 1
    elif last and scale == 2:
        pixels = 4  # of 2x2 large ones: 16 in all
    else:
        pixels = min((1, 2, 4), key=cost)
    steps = math.ceil(span(pixels) / LINE)
    row_bytes = math.ceil(span(pixels) / steps / 4) * 4 if stacked else LINE
    blocks = 1 if last and scale == 2 else channel_blocks * pixels
    return Layer(
        convolution.kernel,
        convolution.activation,
        convolution.inputs,
        convolution.outputs,
        last=last,
        stacked=stacked,
        pixel_bytes=pixel_bytes,
        pixels=pixels,
        row_bytes=row_bytes,
        steps=steps,
        blocks=blocks,
        channel_blocks=channel_blocks,
        tiles=2 if pixels * blocks == 1 else 1,
        start=start,
        short=short and not last and convolution.activation != "tanh",
    )

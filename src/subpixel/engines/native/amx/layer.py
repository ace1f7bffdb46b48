"""How a layer is computed with AMX: memory layout, tile registers and blocks.

A row of a layer's input holds pixels as they lie in the picture, each with its channels side by side, padded
to 16. So the neighbors that a kernel covers in one row are one piece of memory, and a tile register is loaded
with 16 such pieces by one instruction. Accumulators of a pixel's channels come out side by side, as the next
layer takes them.

In the first layer's input, several rows of the picture are stacked: each column holds their samples side by
side. A picture of several channels is brought into the form of other layers' input instead, padded to 4.
"""

import math
from dataclasses import dataclass

from subpixel.engines.native.amx.instructions import LINE, SIDE
from subpixel.engines.native.layers import AnyLayer, Arithmetic, aligned
from subpixel.models.spec import Activation, Convolution, ModelSpec

ROWS_AT_ONCE = 2
"""Rows of the picture that are computed at once: they share three of four rows that a 3x3 kernel reads."""

STACK = {1: 4, 3: 4, 5: 8, 7: 8}
"""By the first kernel's side: bytes of a column of stacked rows."""

MAX_REACH, MAX_CHANNELS = 4, 128
"""Largest reach and number of channels of a hidden layer: for more the code would become too long."""

MAX_PLANES = 64
"""Most channels of a picture that are brought side by side for the first layer, likewise."""

PRODUCT_COST = 2048
"""The time of a product, in bytes of weights that vectors multiply in it: see `AnyLayer.pixel_cost`."""


@dataclass(frozen=True)
class AmxLayer(AnyLayer):
    """How a layer is computed, a hidden one or the last.

    A block of the result is ``tiles`` tile registers of accumulators for each of two rows, times ``blocks``.
    A row of such a register is of ``row_px`` neighboring pixels, with 16 channels (in the last layer, samples
    of the large picture) for each of ``blocks``. Equal layers share their code.
    """

    outputs: int
    """Channels, padded to a multiple of 16; of the last layer the true number."""
    activation: Activation
    arithmetic: Arithmetic
    from_picture: bool
    """Whether its input is stacked rows of the picture."""
    to_planes: bool
    """Whether its output is in planes, for a last layer of vectors: see `subpixel.engines.native.plan`."""
    scale: int
    """Of the last layer; otherwise 0. At scale 1 it gives the channels of a pixel, as hidden layers do."""
    residual: bool
    row_px: int
    row_bytes: int
    """Bytes of a row of a tile register of its input."""
    steps: int
    """Products that cover what a kernel sees of one row."""
    blocks: int
    channel_blocks: int
    """Blocks that are the channels of one pixel; 1 in the last layer, unless its scale is 1."""
    tiles: int

    @property
    def rows(self) -> int:
        """Rows of its input that two rows of the result need; stacked rows are one."""
        return 1 if self.from_picture else self.kernel - 1 + ROWS_AT_ONCE

    @property
    def stacks(self) -> int:
        """Groups of four rows that are stacked."""
        return STACK[self.kernel] // 4 if self.from_picture else 0

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel of its input."""
        return self.stacks * 4 or self.inputs

    @property
    def weight_sets(self) -> int:
        """Sets of weights: for each row of the kernel or, if rows are stacked, for each of two rows."""
        return ROWS_AT_ONCE if self.from_picture else self.kernel

    @property
    def pixels(self) -> int:
        """Pixels of a block, from left to right."""
        return self.tiles * SIDE * self.row_px

    @property
    def pixel_cost(self) -> float:
        """See `AnyLayer.pixel_cost`."""
        products = self.tiles * self.blocks * self.steps * self.rows
        return products * PRODUCT_COST / (ROWS_AT_ONCE * self.pixels)

    @property
    def aligned_px(self) -> int:
        """A block begins at a multiple of this: then at most half of its 16 pieces cross cache lines."""
        pieces = max(1, LINE // self.pixel_bytes)
        return min(self.row_px, 1 << pieces.bit_length() - 1)

    @property
    def output_bytes(self) -> int:
        """Bytes of an output pixel of a hidden layer."""
        return self.channel_blocks * SIDE

    @property
    def sums_bytes(self) -> int:
        """Bytes of the accumulators of one row of a block."""
        return self.tiles * SIDE * self.blocks * LINE

    @property
    def all_sums_bytes(self) -> int:
        """Bytes of the accumulators that are kept: the first row of two blocks, the second one of three."""
        return 5 * self.sums_bytes

    @property
    def in_pixels(self) -> bool:
        """Whether the channels of an output pixel lie side by side."""
        return not self.to_planes

    @property
    def order(self) -> tuple[int, ...]:
        """The block of channels of each vector of accumulators, in the order in which they are narrowed.

        Later vectors repeat it. Four at a time make bytes. In planes these are of neighboring pixels.
        """
        if self.to_planes:
            return tuple(block for block in range(self.channel_blocks) for _ in range(4))
        return tuple(vector % self.channel_blocks for vector in range(math.lcm(4, self.channel_blocks)))

    @property
    def lines(self) -> int:
        """Lines of the result for a row: rows of the large picture, or its channels at scale 1."""
        return self.outputs if self.scale == 1 else self.scale

    @property
    def edge_bytes(self) -> int:
        """Bytes of the first and of the last block of two rows of the result, of which a part is wanted."""
        return ROWS_AT_ONCE * 2 * self.pixels * self.scale * self.lines

    # Parameters

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights of one product."""
        return self.row_bytes * SIDE

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the constants."""
        names: tuple[str, ...] = ("bias", "factor")
        if not self.scale:
            names += ("addend",)
        if self.activation == "prelu":
            names += "negative_factor", "negative_addend"
        if self.activation == "tanh":
            names += "tanh_multiplier", "tanh_zero"
        return names

    def sizes(self) -> dict[str, int]:
        """Parts of the parameters in their order, with their sizes in bytes."""
        parts = {"weights": self.weight_sets * self.steps * self.blocks * self.weight_bytes}
        for name in self.constants:
            vectors = len(self.order) // 2 if name.startswith("tanh") else self.channel_blocks
            parts[name] = vectors * LINE
        if not self.scale:
            parts["padding"] = self.output_bytes
        return {name: aligned(size) for name, size in parts.items()}

    def at(self, part: str) -> int:
        """Where a part of the parameters begins."""
        names = list(self.sizes())
        return sum(list(self.sizes().values())[: names.index(part)])

    @property
    def padding_at(self) -> int:
        """Where the output's zero points are, for the pixels outside of the picture."""
        return self.at("padding")

    @property
    def padding_bytes(self) -> int:
        """Bytes of a group of channels of an output pixel."""
        return 4

    @property
    def parameter_bytes(self) -> int:
        """Size of all parameters."""
        return sum(self.sizes().values())


def tiled(spec: ModelSpec, *, deep: bool) -> range:
    """Return which layers of a network are computed this way; it is one run of them.

    The first layer is, if it sees few rows of one channel, or several channels, and the last one, if its
    outputs fill rows of 16, or are planes of scale 1; neither is with ``deep`` samples.
    """
    hidden, last = spec.layers[:-1], spec.layers[-1]
    limited = all(layer.outputs <= MAX_CHANNELS for layer in hidden)
    if not limited or any(layer.kernel // 2 > MAX_REACH for layer in hidden[1:]):
        return range(0)
    luma = not deep and spec.channels == 1 and spec.upsampling == "shuffle"
    planes = not deep and 1 < spec.channels <= MAX_PLANES and spec.layers[0].kernel // 2 <= MAX_REACH
    first_is = planes or (luma and spec.layers[0].kernel in STACK)
    to_planes = planes and spec.scale == 1 and spec.residual == "none" and last.kernel > 1
    last_is = (
        ((luma and spec.scale in (2, 3, 4)) or to_planes)
        and last.kernel // 2 <= MAX_REACH
        and last.activation == "none"
        and hidden != ()
    )
    return range(0 if first_is else 1, len(spec.layers) if last_is else len(hidden))


def make_layer(
    spec: ModelSpec, index: int, inputs: int, arithmetic: Arithmetic, *, to_planes: bool
) -> AmxLayer:
    """Plan a layer of those that are `tiled`; ``inputs`` are padded."""
    last = index == len(spec.layers) - 1
    return _layer(
        spec.layers[index],
        inputs,
        arithmetic,
        from_picture=index == 0 and spec.channels == 1,
        to_planes=to_planes,
        scale=spec.scale if last else 0,
        residual=last and spec.residual == "nearest",
    )


def _layer(
    convolution: Convolution,
    inputs: int,
    arithmetic: Arithmetic,
    *,
    from_picture: bool,
    to_planes: bool,
    scale: int,
    residual: bool,
) -> AmxLayer:
    """Choose how many pixels a row of a tile register is of: the number that takes fewest products for each.

    Of equals, several with 16 channels: their pieces of memory cross fewer cache lines. With 32 one alone,
    since weights for several, half of them zeros, would no longer stay in the nearest cache.
    """
    pixel_bytes = STACK[convolution.kernel] if from_picture else inputs
    channel_blocks = 1 if scale > 1 else math.ceil(convolution.outputs / SIDE)

    def span(row_px: int) -> int:
        return (convolution.kernel - 1 + row_px) * pixel_bytes

    def cost(row_px: int) -> tuple[int, int]:
        return math.ceil(span(row_px) / LINE), -row_px if pixel_bytes < 32 else row_px

    if from_picture:
        row_px = 1
    elif scale == 2:
        row_px = 4  # of 2x2 large ones: 16 in all
    else:
        row_px = min((1, 2, 4), key=cost)
    steps = math.ceil(span(row_px) / LINE)
    blocks = 1 if scale == 2 else channel_blocks * row_px
    return AmxLayer(
        convolution.kernel,
        inputs,
        convolution.outputs if scale else channel_blocks * SIDE,
        convolution.activation,
        arithmetic,
        from_picture,
        to_planes,
        scale,
        residual,
        row_px=row_px,
        row_bytes=math.ceil(span(row_px) / steps / 4) * 4 if from_picture else LINE,
        steps=steps,
        blocks=blocks,
        channel_blocks=channel_blocks,
        tiles=2 if row_px * blocks == 1 else 1,
    )

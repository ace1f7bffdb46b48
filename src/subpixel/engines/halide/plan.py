"""The plan of a pipeline: which tiles each layer is computed in, and where its parameters lie.

A plan follows from a `Description` and a `Machine` by the rules below, without knowing any network by name.
Both sides use it: the pipeline, to index its parameters, and the packing of a model's weights for it.
`docs/engine.md` tells the whole story.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from subpixel.model import Convolution, Description

SAMPLES = ("uint8", "uint16", "float32")
"""Kinds of samples that kernels take and give."""

Products = Literal["float", "pairs", "quads"]
"""What one multiply-add of a vector lane takes in: one float32 product (FMA), two of 16-bit integers (as
x86's ``vpmaddwd``), or four of an unsigned and a signed byte (VNNI's ``vpdpbusd``)."""

MATRIX_ROWS = 16
"""Of AMX's registers, each row of 64 bytes: 16 outputs' weights for 64 inputs, or those inputs by fours for
16 pixels, or the sums of 16 outputs for 16 pixels."""


BIAS, ZERO, STEPS, LOWEST, HIGHEST = range(5)
"""Rows of a pipeline's parameter ``offsets``; see `subpixel.quantisation.IntegerLayer`. The last two are as
`MAGIC` makes whole numbers: with `MAGIC_BITS` added."""

FACTOR, NEGATIVE_FACTOR, MAGIC_ZERO = range(3)
"""Rows of the parameter ``factors``; the last is ``ZERO`` with `MAGIC` added. In fp32 only the second is
read, as PReLU's slope."""

MAGIC, MAGIC_BITS = 1.5 * 2**23, 0x4B400000
"""A float32 near this has whole numbers for its last bits: adding it to a value rounds that half to even, and
leaves it in the low bits. Read as integers such floats are in order, also those far beyond what fits."""


@dataclass(frozen=True)
class Machine:
    """What the schedule needs to know of a processor."""

    kind: str
    """What people call it: a name in `subpixel.engines.halide.machine.KINDS`."""
    target: str
    """Halide's name for it, such as ``x86-64-linux-avx-avx2-f16c-fma-sse41``."""
    lanes: int
    """32-bit lanes of a vector register."""
    registers: int
    """How many vector registers there are."""
    quads: bool
    """Whether it multiplies bytes by fours."""
    matrices: bool
    """Whether it also multiplies matrices of bytes by fours, as AMX's ``tdpbsud`` does."""
    cache_bytes: int
    """What a thread's row buffers may take, to stay near: wider pictures are cut into strips."""

    def products(self, precision: str) -> Products:
        """How this processor best forms the products of a precision."""
        if precision == "fp32":
            return "float"
        return "quads" if self.quads else "pairs"


GROUP: dict[Products, int] = {"float": 1, "pairs": 2, "quads": 4}
"""How many input channels one multiply-add takes; they lie side by side in memory."""


Gathered = Literal["nothing", "taps", "rows"]
"""What of a layer's input is laid out as channels first: all taps of a small one, so that they fill whole
groups; or the rows that the kernel covers, so that they fill whole matrices."""


@dataclass(frozen=True)
class Layer:
    """How one convolution is computed.

    A tile is ``vectors`` registers of neighbouring pixels times ``outputs_at_once`` output channels; its sums
    stay in registers over the whole reduction. Each step of it loads ``vectors`` registers of activations and
    broadcasts ``outputs_at_once`` weights, and multiplies each with each. With matrices each register of
    pixels goes through the whole reduction on its own, and a step multiplies it with a matrix of weights.
    """

    inputs: int
    """Of the reduction, with the taps if they are gathered."""
    outputs: int
    """Padded to a multiple of ``outputs_at_once``; what is added has zero weights."""
    down: int
    across: int
    """Rows and columns of the kernel that the reduction goes over: 1 where they are gathered."""
    gathered: Gathered
    groups: int
    """Of input channels, ``ceil(inputs / group)``; with matrices those of all rows, padded to whole ones."""
    depth: int
    """How many groups a step takes: a matrix's rows, else 1."""
    vectors: int
    outputs_at_once: int
    weights_at: int
    """Index of its first weight in the flat array; channels' (biases, multipliers, slopes) alike."""
    channels_at: int

    @property
    def matrices(self) -> bool:
        """Whether its sums are products of matrices."""
        return self.gathered == "rows"

    def weights_for_step(self, group: int) -> int:
        """Places that an output's weights for one step take: a row of a matrix is a whole cache line."""
        return MATRIX_ROWS * 4 if self.matrices else self.depth * group


@dataclass(frozen=True)
class Plan:
    """How a network is computed with one kind of products on one machine."""

    description: Description
    machine: Machine
    products: Products
    layers: tuple[Layer, ...]

    @property
    def group(self) -> int:
        """Channels that lie side by side."""
        return GROUP[self.products]

    def group_before(self, index: int) -> int:
        """Channels that lie side by side in a layer's input: taps are gathered from channels that do not."""
        return 1 if self.layers[index].gathered == "taps" else self.group

    @property
    def weight_count(self) -> int:
        """Length of the flat array of weights."""
        return self.layers[-1].weights_at + _weight_count(self.layers[-1], self.group)

    @property
    def channel_count(self) -> int:
        """Length of the flat arrays that have a value for each output channel."""
        return self.layers[-1].channels_at + self.layers[-1].outputs

    def rows_kept(self, index: int) -> int:
        """How many rows of a layer's input are kept: what all layers from it on see of one column."""
        return 1 + 2 * sum(layer.kernel // 2 for layer in self.description.layers[index:])

    def work(self, width: int, strips: Iterable[slice]) -> int:
        """Multiply-adds for a row of LR pixels in strips, counting what strips share and whole tiles."""
        total, halo = 0, self.description.halo_px
        strips = list(strips)
        for layer, described in zip(self.layers, self.description.layers, strict=True):
            halo -= described.kernel // 2
            columns = layer.vectors * self.machine.lanes
            for strip in strips:
                needed = min(width, strip.stop + halo) - max(0, strip.start - halo)
                done = -(-needed // columns) * columns
                total += done * layer.outputs * layer.groups * self.group * layer.down * layer.across
        return total

    def bytes_per_column(self) -> int:
        """Of all row buffers together: the working set is this times the width."""
        size = 4 if self.products == "float" else 1
        channels = [self.description.channels, *(layer.outputs for layer in self.layers)]
        rows = [*(self.rows_kept(index) for index in range(len(self.layers))), 1]
        return sum(size * count * kept for count, kept in zip(channels, rows, strict=True))


def make_plan(description: Description, machine: Machine, precision: str) -> Plan:
    """Plan every layer of a network for a machine; ``precision`` is "fp32" or "int8".

    A layer is computed by matrices where that takes fewer cycles. All that are have matrices of one depth (of
    one shape, which is what Halide 21 can do in one pipeline): the one for which the network takes fewest.
    """
    products = machine.products(precision)
    depths = range(1, MATRIX_ROWS + 1) if machine.matrices and products == "quads" else (0,)
    plans = [_plan(description, machine, products, depth) for depth in depths]
    return min(plans, key=lambda plan: plan[0])[1]


def _plan(description: Description, machine: Machine, products: Products, depth: int) -> tuple[float, Plan]:
    """The plan with matrices of a depth, without any if that is 0; and its cycles for a pixel, about."""
    layers: list[Layer] = []
    total, weights_at, channels_at = 0.0, 0, 0
    for number, convolution in enumerate(description.layers):
        hidden = number < len(description.layers) - 1
        options = [_by_vectors(convolution, machine, products, hidden=hidden)]
        if depth and options[0][1].gathered == "nothing":
            options.append(_by_matrices(convolution, depth))
        cycles, layer = min(options, key=lambda option: option[0])
        weights_at += -weights_at % layer.weights_for_step(GROUP[products])
        layers.append(replace(layer, weights_at=weights_at, channels_at=channels_at))
        total += cycles
        weights_at += _weight_count(layer, GROUP[products])
        channels_at += layer.outputs
    return total, Plan(description, machine, products, tuple(layers))


def _weight_count(layer: Layer, group: int) -> int:
    """Places in the flat array that a layer's weights take."""
    steps = layer.groups // layer.depth * layer.down * layer.across
    return layer.outputs * steps * layer.weights_for_step(group)


def _by_vectors(
    convolution: Convolution, machine: Machine, products: Products, *, hidden: bool
) -> tuple[float, Layer]:
    """How vector multiply-adds compute a layer, and the cycles for a pixel."""
    side, inputs, group = convolution.kernel, convolution.inputs, GROUP[products]
    taps = group > 1 and inputs < group and side > 1
    if taps:
        inputs, side = inputs * side**2, 1
    groups = math.ceil(inputs / group)
    cycles, vectors, at_once = tile(convolution, machine, products, hidden=hidden)
    outputs = math.ceil(convolution.outputs / at_once) * at_once
    return (
        cycles * convolution.outputs * groups * side**2 / machine.lanes,
        Layer(inputs, outputs, side, side, "taps" if taps else "nothing", groups, 1, vectors, at_once, 0, 0),
    )


MATRIX_VECTORS = 4
"""So many registers of pixels are put through a layer of matrices before their sums go to the activation."""


def _by_matrices(convolution: Convolution, depth: int) -> tuple[float, Layer]:
    """How products of matrices compute a layer, and the cycles for a pixel, as measured on Granite Rapids.

    Loads set the pace, not products: a row of a matrix takes a cycle, and one that crosses a cache line two,
    as two of three rows of pixels do. A block of 16 pixels and 16 outputs takes 40 cycles more to clear,
    store and load again, and a group of the window for 64 pixels 7.5 to copy.
    """
    side = convolution.kernel
    groups = math.ceil(math.ceil(convolution.inputs / 4) * side / depth) * depth
    blocks = math.ceil(convolution.outputs / MATRIX_ROWS)
    block = groups // depth * side * (MATRIX_ROWS + 5 / 3 * depth) + 40
    window = groups * 7.5 / MATRIX_VECTORS
    layer = Layer(
        inputs=convolution.inputs,
        outputs=blocks * MATRIX_ROWS,
        down=1,
        across=side,
        gathered="rows",
        groups=groups,
        depth=depth,
        vectors=MATRIX_VECTORS,
        outputs_at_once=MATRIX_ROWS,
        weights_at=0,
        channels_at=0,
    )
    return (blocks * block + window) / MATRIX_ROWS, layer


NOMINAL_WIDTH_PX = 640
"""Tiles are judged on rows of this width: sizes of video are multiples of 32 pixels, or nearly."""

LATENCY = 4.5
"""Cycles from one multiply-add into a sum to the next; two can begin in each."""


def tile(
    convolution: Convolution, machine: Machine, products: Products, *, hidden: bool
) -> tuple[float, int, int]:
    """Choose ``(cycles, vectors, outputs_at_once)`` for a layer: the tile of fewest cycles for each product.

    The processors that this is for begin two vector multiply-adds and two vector loads a cycle. A tile's
    sums, its activations and one weight must fit into the registers (and two products on their way, where
    product and sum are two instructions); what spills costs more than any tile gains.
    """
    costs = {}
    for vectors in range(1, 5):
        for at_once in range(1, 17):
            sums = vectors * at_once
            needed = sums + vectors + (3 if products == "pairs" else 1)
            whole_groups = not hidden or at_once % GROUP[products] == 0
            if needed > machine.registers or not whole_groups:
                continue
            # Activations are read at any pixel: every other load crosses a cache line, and counts twice.
            loads = 1.5 * vectors + at_once
            cycles = max(sums / 2, loads / 2, LATENCY) + loads / 50
            columns = vectors * machine.lanes
            columns_done = -(-NOMINAL_WIDTH_PX // columns) * columns / NOMINAL_WIDTH_PX
            outputs_done = -(-convolution.outputs // at_once) * at_once / convolution.outputs
            costs[vectors, at_once] = cycles / sums * columns_done * outputs_done
    best = min(costs, key=costs.__getitem__)
    return costs[best], *best

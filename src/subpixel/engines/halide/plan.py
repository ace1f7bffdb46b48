"""The plan of a pipeline: which tiles each layer is computed in, and where its parameters lie.

A plan follows from a `ModelSpec` and a `Machine` by the rules below, without knowing any network by name.
Both sides use it: the pipeline, to index its parameters, and the packing of a model's weights for it.
`docs/research/2026-11-27-engine.md` tells the whole story.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from subpixel.models.spec import Convolution, ModelSpec

SAMPLES = ("uint8", "uint16", "float32")
"""Kinds of samples that kernels take and give."""

Products = Literal["float", "pairs", "quads"]
"""What one multiply-add of a vector lane takes in: one float32 product (FMA), two of 16-bit integers (as
x86's ``vpmaddwd``), or four of an unsigned and a signed byte (VNNI's ``vpdpbusd``)."""


BIAS, ZERO, STEPS = range(3)
"""Rows of a pipeline's parameter ``offsets``; see `subpixel.models.quantization.IntegerLayer`."""

FACTOR, NEGATIVE_FACTOR, MAGIC_ZERO = range(3)
"""Rows of the parameter ``factors``; the last is ``ZERO`` with
`quantization.MAGIC` added. In fp32 only the second is
read, as PReLU's slope."""


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
    """Whether it also multiplies matrices of bytes: `subpixel.engines.matrices` is for that."""
    cache_bytes: int
    """What a thread's row buffers may take, to stay near: wider pictures are cut into strips."""

    def products(self, precision: str) -> Products:
        """How this processor best forms the products of a precision."""
        if precision == "fp32":
            return "float"
        return "quads" if self.quads else "pairs"


GROUP: dict[Products, int] = {"float": 1, "pairs": 2, "quads": 4}
"""How many input channels one multiply-add takes; they lie side by side in memory."""


@dataclass(frozen=True)
class Layer:
    """How one convolution is computed.

    A tile is ``vectors`` registers of neighboring pixels times ``outputs_at_once`` output channels; its sums
    stay in registers over the whole reduction. Each step of it loads ``vectors`` registers of activations and
    broadcasts ``outputs_at_once`` weights, and multiplies each with each.
    """

    inputs: int
    """Of the reduction, with the taps if they are gathered."""
    outputs: int
    """Padded to a multiple of ``outputs_at_once``; what is added has zero weights."""
    kernel: int
    """Side in pixels; 1 if the taps are gathered."""
    gathered: bool
    """Whether the taps of a small input are laid out as channels first, so that they fill whole groups."""
    groups: int
    """``ceil(inputs / group)``"""
    vectors: int
    outputs_at_once: int
    weights_at: int
    """Index of its first weight in the flat array; channels' (biases, multipliers, slopes) alike."""
    channels_at: int


@dataclass(frozen=True)
class Plan:
    """How a network is computed with one kind of products on one machine."""

    spec: ModelSpec
    machine: Machine
    products: Products
    layers: tuple[Layer, ...]

    @property
    def group(self) -> int:
        """Channels that lie side by side."""
        return GROUP[self.products]

    def group_before(self, index: int) -> int:
        """Channels that lie side by side in a layer's input: taps are gathered from channels that do not."""
        return 1 if self.layers[index].gathered else self.group

    @property
    def weight_count(self) -> int:
        """Length of the flat array of weights."""
        last = self.layers[-1]
        return last.weights_at + last.outputs * last.groups * self.group * last.kernel**2

    @property
    def channel_count(self) -> int:
        """Length of the flat arrays that have a value for each output channel."""
        return self.layers[-1].channels_at + self.layers[-1].outputs

    def rows_kept(self, index: int) -> int:
        """How many rows of a layer's input are kept: what all layers from it on see of one column."""
        return 1 + 2 * sum(layer.kernel // 2 for layer in self.spec.layers[index:])

    def work(self, width: int, strips: Iterable[slice]) -> int:
        """Multiply-adds for a row of LR pixels in strips, counting what strips share and whole tiles."""
        total, halo = 0, self.spec.halo_px
        strips = list(strips)
        for layer, described in zip(self.layers, self.spec.layers, strict=True):
            halo -= described.kernel // 2
            columns = layer.vectors * self.machine.lanes
            for strip in strips:
                needed = min(width, strip.stop + halo) - max(0, strip.start - halo)
                done = -(-needed // columns) * columns
                total += done * layer.outputs * layer.groups * self.group * layer.kernel**2
        return total

    def bytes_per_column(self) -> int:
        """Of all row buffers together: the working set is this times the width."""
        size = 4 if self.products == "float" else 1
        channels = [self.spec.channels, *(layer.outputs for layer in self.layers)]
        rows = [*(self.rows_kept(index) for index in range(len(self.layers))), 1]
        return sum(size * count * kept for count, kept in zip(channels, rows, strict=True))


def make_plan(spec: ModelSpec, machine: Machine, precision: str) -> Plan:
    """Plan every layer of a network for a machine; ``precision`` is "fp32" or "int8"."""
    products = machine.products(precision)
    group = GROUP[products]
    layers: list[Layer] = []
    weights_at = channels_at = 0
    last = spec.layers[-1]
    for convolution in spec.layers:
        gathered = group > 1 and convolution.inputs < group and convolution.kernel > 1
        inputs = convolution.inputs * convolution.kernel**2 if gathered else convolution.inputs
        kernel = 1 if gathered else convolution.kernel
        groups = math.ceil(inputs / group)
        vectors, at_once = tile(convolution, machine, products, hidden=convolution is not last)
        outputs = math.ceil(convolution.outputs / at_once) * at_once
        layers.append(
            Layer(inputs, outputs, kernel, gathered, groups, vectors, at_once, weights_at, channels_at)
        )
        weights_at += outputs * groups * group * kernel**2
        channels_at += outputs
    return Plan(spec, machine, products, tuple(layers))


NOMINAL_WIDTH_PX = 640
"""Tiles are judged on rows of this width: sizes of video are multiples of 32 pixels, or nearly."""

LATENCY = 4.5
"""Cycles from one multiply-add into a sum to the next; two can begin in each."""


def tile(convolution: Convolution, machine: Machine, products: Products, *, hidden: bool) -> tuple[int, int]:
    """Choose ``(vectors, outputs_at_once)`` for a layer: the tile that takes fewest cycles for each product.

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
    return min(costs, key=costs.__getitem__)

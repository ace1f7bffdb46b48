"""How each layer of a network is computed: its tiles and its parameters. `plan` chooses them."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from subpixel.engines.native.tiles import CHUNK_PX
from subpixel.models.spec import Activation

Arithmetic = Literal["general", "maximum", "choice", "short"]
"""How accumulators are requantized, see `subpixel.engines.native.requantize`."""

Samples = Literal["uint8", "uint16", "float32"]
"""The dtypes of samples. All but uint8 are deep, see `subpixel.models.quantization`."""

SAMPLE_BYTES: dict[Samples, int] = {"uint8": 1, "uint16": 2, "float32": 4}

ALIGNMENT = 64
"""Of parameters and rows, in bytes: a cache line."""


def multiple(size: int, of: int) -> int:
    """Round up to a multiple."""
    return size + -size % of


def aligned(size: int) -> int:
    """Round up to whole cache lines."""
    return multiple(size, ALIGNMENT)


@dataclass(frozen=True)
class AnyLayer(ABC):
    """What all kinds of layers have."""

    kernel: int
    inputs: int
    """Channels of its input; padded to whole groups, except those of the picture."""

    @property
    def reach(self) -> int:
        """Pixels that it sees to each side."""
        return self.kernel // 2

    @property
    def groups(self) -> int:
        """Groups of 4 input channels."""
        return math.ceil(self.inputs / 4)

    @property
    @abstractmethod
    def parameter_bytes(self) -> int:
        """Size of all parameters."""

    @property
    def pixel_cost(self) -> float:
        """The time that a pixel takes, relative to other layers."""
        return self.parameter_bytes


@dataclass(frozen=True)
class HiddenLayer(AnyLayer):
    """How a hidden layer is computed: tiles of ``pixels`` neighboring pixels and ``vectors`` of channels.

    Equal layers share their code.
    """

    outputs: int
    """Padded to a multiple of ``lanes * vectors``."""
    activation: Activation
    arithmetic: Arithmetic
    from_picture: bool
    to_planes: bool
    """Whether its output is in planes, for the last layer."""
    in_pixels: bool
    """Whether the channels of an output pixel lie side by side, for `amx.layer.AmxLayer`."""
    lanes: int
    parts: int
    pixels: int
    vectors: int
    paired: bool
    """Whether products are of pairs of pixels, see `subpixel.engines.native.pairs`."""
    overlapped: bool
    """Whether a tile is requantized during the products of the next one."""
    deep: bool
    """Whether it takes the picture with 16 bits, as rows of high bytes and rows of low bytes."""

    @property
    def passes(self) -> int:
        """How often a tile is computed, each time for other output channels."""
        return self.outputs // (self.lanes * self.vectors)

    @property
    def units(self) -> int:
        """Parts of a tile that are requantized one after the other: four pixels times one vector."""
        return self.pixels // CHUNK_PX * self.vectors

    @property
    def output_bytes(self) -> int:
        """Bytes of an output pixel."""
        return self.outputs * (1 if self.to_planes else self.parts)

    @property
    def all_sums_bytes(self) -> int:
        """Bytes of the accumulators that are kept in memory."""
        return 4 * self.lanes * self.pixels * self.vectors if self.overlapped else 0

    # The picture as input: products take 4 bytes of one row, which are neighboring pixels. Where one column
    # of the kernel is left over, they take this column of several rows, which are stacked for it.

    @property
    def taps(self) -> int:
        """Pixels of the picture in one product."""
        return 4 // self.parts

    @property
    def stacked(self) -> bool:
        """Whether the kernel's last column is taken from stacked rows."""
        return self.kernel % self.taps == 1

    @property
    def across(self) -> int:
        """Products that go over a row of the kernel."""
        return self.kernel // self.taps if self.stacked else math.ceil(self.kernel / self.taps)

    @property
    def stacks(self) -> int:
        """Products that go over the last column, except for its last row."""
        return self.kernel // self.taps if self.stacked else 0

    # Parameters: for each pass the weights in the order of their use, then the constants.

    @property
    def weight_vectors(self) -> int:
        """Vectors of weights of one pass."""
        if self.from_picture:
            products = self.inputs * (self.kernel * self.across + self.stacks + self.stacked)
        else:
            products = self.groups * self.parts * self.kernel**2
        return products * self.vectors

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the constants, each with ``vectors`` vectors for a pass."""
        names: tuple[str, ...] = ("bias", "factor", "addend")
        if self.activation == "prelu":
            names += "negative_factor", "negative_addend"
        if self.activation == "tanh":
            names += "tanh_multiplier", "tanh_zero"
        return names

    @property
    def pass_bytes(self) -> int:
        """Size of the parameters of one pass."""
        return (self.weight_vectors + len(self.constants) * self.vectors) * 4 * self.lanes

    @property
    def padding_bytes(self) -> int:
        """Bytes of a group of channels of an output pixel."""
        return 4 * self.output_bytes // self.outputs

    @property
    def padding_at(self) -> int:
        """Where the output's zero points are, for the pixels outside of the picture."""
        return self.passes * self.pass_bytes

    @property
    def parameter_bytes(self) -> int:
        """Size of all parameters."""
        return aligned(self.padding_at + self.output_bytes)


@dataclass(frozen=True)
class LastLayer(AnyLayer):
    """How the last layer is computed: tiles of ``vectors`` of neighboring pixels and ``at_once`` outputs."""

    activation: Activation
    scale: int
    channels: int
    residual: bool
    lanes: int
    parts: int
    vectors: int
    rows: int
    """Rows of the large picture for each row of the small one that are computed at once: 1 or ``scale``."""
    planes: int
    """Channels of the picture that are computed at once; more than one only at scale 1."""
    from_picture: bool
    samples: Samples

    @property
    def deep(self) -> bool:
        """Whether samples are deep."""
        return self.samples != "uint8"

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample of the large picture."""
        return SAMPLE_BYTES[self.samples]

    @property
    def outputs(self) -> int:
        """Output channels before the shuffle."""
        return self.channels * self.scale**2

    @property
    def at_once(self) -> int:
        """Outputs in a tile."""
        return self.planes * self.rows * self.scale

    @property
    def columns(self) -> int:
        """Columns of the kernel in one turn of the innermost loop.

        With two instructions for a product, only one: LLVM would change the order of many additions, and run
        out of registers.
        """
        return self.kernel if self.parts == 1 else 1

    @property
    def pixels(self) -> int:
        """Pixels in a tile."""
        return self.vectors * self.lanes

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the constants: one for each output, of 4 bytes."""
        names: tuple[str, ...] = ("bias", "factor")
        if self.activation == "prelu":
            names += ("negative_factor",)
        return (*names, "below") if self.deep else names

    @property
    def weight_bytes(self) -> int:
        """Size of the weights, which are in the order of their use."""
        return self.outputs * self.groups * self.kernel**2 * 4 * self.parts

    @property
    def all_sums_bytes(self) -> int:
        """Bytes of the accumulators that are kept in memory: none."""
        return 0

    @property
    def parameter_bytes(self) -> int:
        """Size of the weights and of the constants after them."""
        return aligned(self.weight_bytes + len(self.constants) * 4 * self.outputs)

    @property
    def edge_bytes(self) -> int:
        """Size of a tile of the large picture, for those of which only a part is wanted."""
        return aligned(self.channels * self.scale**2 * self.pixels * self.sample_bytes)

"""The plan of a network for an instruction set: memory layout, tiles, and sizes.

A plan follows from a `ModelSpec`, an `InstructionSet` and the arithmetic that each layer allows, by the rules
below; no network has a special case.

Each layer computes one row at a time, from a few rows of the layer before it. The rows between two layers are
a ring in working memory. There are two layouts of a row, both in groups of 4 channels:

- chunks, for layers that broadcast the values of one pixel to all lanes. Groups of ``16 // (4 * parts)``
  neighboring pixels lie side by side, which is the order in which accumulators are packed:
  ``[x / n][group][x % n][4 channels]`` with n pixels to a chunk, 16 bytes for each group.
- planes, for the last layer, whose vectors are of neighboring pixels: ``[group][x][4 channels]``, bytes.

With AMX there is a third one: the channels of a pixel side by side, see `amx.layer`.

Columns of all rings have the same origin, so that tiles of all layers begin at multiples of `CHUNK_PX`.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from subpixel.engines.native.amx.layer import ROWS_AT_ONCE, AmxLayer, make_layer, tiled
from subpixel.engines.native.instructions import InstructionSet
from subpixel.engines.native.layers import (
    ALIGNMENT,
    Arithmetic,
    HiddenLayer,
    LastLayer,
    Samples,
    aligned,
    multiple,
)
from subpixel.engines.native.tiles import CHUNK_PX, hidden_tile, last_tile, overlaps, pairs
from subpixel.models.spec import FLAT_RADIUS_PX, ModelSpec

SLACK_PX, SLACK_BYTES = 80, 4096
"""Columns, and bytes at the end, that incomplete tiles may read or write beyond the result."""


Layer = HiddenLayer | LastLayer | AmxLayer


@dataclass(frozen=True)
class Plan:
    """How a network is computed by one instruction set."""

    spec: ModelSpec
    instructions: InstructionSet
    hidden: tuple[HiddenLayer | AmxLayer, ...]
    last: LastLayer | AmxLayer
    samples: Samples = "uint8"
    """The dtype of the samples of both pictures."""
    deep_shift: int = 0
    """Bits that deep samples lose before the first layer, see `subpixel.models.quantization.deep_shift`."""

    @property
    def determining(self) -> tuple[Any, ...]:
        """All that determines the code, see `code_cache`."""
        layers = repr(self.hidden), repr(self.last)
        return self.spec.to_json(), self.instructions.name, *layers, self.deep_shift

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers."""
        return (*self.hidden, self.last)

    def halo(self, index: int) -> int:
        """Pixels beside the result's for which a layer is computed. The picture has `ModelSpec.halo_px`."""
        return sum(layer.reach for layer in self.layers[index + 1 :])

    def parameters_at(self, index: int) -> int:
        """Where a layer's parameters begin, in bytes."""
        return sum(layer.parameter_bytes for layer in self.layers[:index])

    @property
    def parameter_bytes(self) -> int:
        """Size of all parameters."""
        return self.parameters_at(len(self.layers))

    @property
    def rows_at_once(self) -> int:
        """Rows that each layer computes in a turn."""
        return ROWS_AT_ONCE if any(isinstance(layer, AmxLayer) for layer in self.layers) else 1

    @property
    def deep(self) -> bool:
        """Whether samples are deep, see `subpixel.engines.native.deep`."""
        return self.samples != "uint8"

    # Working memory

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample of the picture, as the first layer reads it."""
        return self.instructions.parts if self.hidden else 1

    @property
    def picture_planes(self) -> int:
        """Planes of the picture, as the first layer reads it: high bytes, then low bytes of deep samples."""
        return self.spec.channels * (2 if self.deep else 1)

    @property
    def keeps_flat(self) -> bool:
        """Whether flat areas are copied by the kernel: see `subpixel.engines.native.flat`."""
        return self.spec.residual != "none" and self.spec.channels == 1 and not self.deep

    @property
    def rearranges_picture(self) -> bool:
        """Whether the first layer reads a ring of the picture's values in another order."""
        first = self.layers[0]
        return isinstance(first, LastLayer) or (isinstance(first, AmxLayer) and not first.from_picture)

    @property
    def picture_rows(self) -> int:
        """Rows of the picture that are kept: for the first layer, the residual, and what is flat."""
        halo_px, first = self.spec.halo_px, self.layers[0]
        last_needed = halo_px + FLAT_RADIUS_PX if self.keeps_flat or self.deep else halo_px
        return max(halo_px - self.halo(0) + first.reach, last_needed) + self.rows_at_once

    @property
    def left_px(self) -> int:
        """Columns before the result's first one: the halo, and what is read beside it.

        Its values in planes begin at a cache line. With AMX, the column before it is a multiple of 4, where
        3x3 layers begin: see `AmxLayer.aligned_px`.
        """
        most = max(layer.reach for layer in self.layers)
        if self.rows_at_once > 1:
            return multiple(self.spec.halo_px + most + CHUNK_PX, ALIGNMENT // 4) + 1
        return multiple(multiple(self.spec.halo_px, CHUNK_PX) + most, ALIGNMENT // 4)

    def rows_kept(self, index: int) -> int:
        """Rows in the ring of a layer's input."""
        return self.layers[index].kernel + self.rows_at_once - 1 if index else self.picture_rows

    @cached_property
    def per_column(self) -> dict[str, int]:
        """The parts of working memory whose size is proportional to `columns`, in bytes for each."""
        first, channels, planes = self.layers[0], self.spec.channels, self.picture_planes
        sizes = {"picture": planes * self.picture_rows * self.sample_bytes}
        if self.deep:
            sizes |= {"given": 2, "floats": 4 * channels * self.picture_rows}
            sizes |= {"bends": 4 * self.picture_rows, "weights": 4}
        elif self.sample_bytes > 1:
            sizes["samples"] = channels * self.picture_rows
        if self.keeps_flat:
            sizes["runs"] = self.picture_rows
        if isinstance(self.last, AmxLayer) and self.last.residual:
            sizes["floats"] = 4 * self.rows_at_once
        if self.rearranges_picture:
            sizes["input0"] = self.rows_kept(0) * first.groups * 4 * planes // channels
        elif not isinstance(first, LastLayer) and first.stacks:
            sizes["stacks"] = planes * first.stacks * 4
        for index, layer in enumerate(self.hidden):
            sizes[f"input{index + 1}"] = self.rows_kept(index + 1) * layer.output_bytes
        return {name: multiple(size, 4) for name, size in sizes.items()}

    @cached_property
    def fixed(self) -> dict[str, int]:
        """The first parts of working memory, of fixed size in bytes: pointers to rows, and edges."""
        first, planes = self.layers[0], self.picture_planes
        most = max(layer.kernel for layer in self.layers) + self.rows_at_once - 1
        sizes = {"rows": 8 * max(planes * first.kernel, most), "edge": self.last.edge_bytes}
        if isinstance(first, HiddenLayer):
            sizes |= {"stack_rows": 8 * planes * (first.stacks + 1), "single_rows": 8 * planes}
        sizes["sums"] = max(layer.all_sums_bytes for layer in self.layers)
        if self.keeps_flat:
            sizes["flat_rows"] = 8 * 2 * (2 * FLAT_RADIUS_PX + 1)
        return {name: aligned(size) for name, size in sizes.items()}

    def columns(self, result_px: int) -> int:
        """Columns of all rings for a result of so many LR pixels.

        It is an odd multiple of 16: rows whose distance is a power of two would share a part of the cache.
        """
        most = max(layer.reach for layer in self.layers)
        needed = self.left_px + result_px + self.spec.halo_px + most + self.last.pixels + SLACK_PX
        return math.ceil((needed - 16) / 32) * 32 + 16

    def working_bytes(self, result_px: int) -> int:
        """Size of the working memory for a result of so many LR pixels."""
        variable = self.columns(result_px) * sum(self.per_column.values())
        return sum(self.fixed.values()) + variable + SLACK_BYTES

    # Strips

    @property
    def bytes_per_column(self) -> int:
        """Size of the rows between layers for each column."""
        return sum(self.per_column.values())

    def work(self, width: int, strips: Iterable[slice]) -> float:
        """Count the products for a row of LR pixels in strips, including halos and incomplete tiles."""
        total = 0.0
        strips = list(strips)
        for index, layer in enumerate(self.layers):
            halo = self.halo(index)
            for strip in strips:
                needed = min(width, strip.stop + halo) - max(0, strip.start - halo)
                done = math.ceil(needed / layer.pixels) * layer.pixels
                total += done * layer.pixel_cost
        return total


def make_plan(
    spec: ModelSpec,
    instructions: InstructionSet,
    arithmetic: Sequence[Arithmetic],
    samples: Samples = "uint8",
    deep_shift: int = 0,
) -> Plan:
    """Plan every layer; ``arithmetic`` is that of each layer, see `pack.arithmetic`."""
    tiles = tiled(spec, deep=samples != "uint8") if instructions.tile_registers else range(0)
    last = len(spec.layers) - 1
    hidden: list[HiddenLayer | AmxLayer] = []
    inputs = spec.channels
    for index, how in enumerate(arithmetic[:-1]):
        to_planes = index == last - 1 and last not in tiles
        layer: HiddenLayer | AmxLayer
        if index in tiles:
            padded = inputs if inputs == 1 else multiple(inputs, 4)
            layer = make_layer(spec, index, padded, how, to_planes=to_planes)
        else:
            in_pixels = index + 1 in tiles
            layer = _hidden_layer(spec, index, inputs, instructions, how, to_planes, in_pixels)
            if index == 0 and samples != "uint8":
                # Its accumulators are too large for faster arithmetics.
                layer = replace(layer, arithmetic="general", deep=True)
        hidden.append(layer)
        inputs = layer.outputs
    described: LastLayer | AmxLayer
    if last in tiles:
        described = make_layer(spec, last, inputs, arithmetic[-1], to_planes=False)
    else:
        described = _last_layer(spec, inputs, instructions, samples)
    return Plan(spec, instructions, tuple(hidden), described, samples, deep_shift)


def _hidden_layer(
    spec: ModelSpec,
    index: int,
    inputs: int,
    instructions: InstructionSet,
    arithmetic: Arithmetic,
    to_planes: bool,
    in_pixels: bool,
) -> HiddenLayer:
    convolution = spec.layers[index]
    tile = hidden_tile(convolution, instructions, from_picture=index == 0)
    pixels, vectors = tile
    return HiddenLayer(
        convolution.kernel,
        inputs,
        multiple(convolution.outputs, instructions.lanes * vectors),
        convolution.activation,
        "maximum" if arithmetic == "short" else arithmetic,
        from_picture=index == 0,
        to_planes=to_planes,
        in_pixels=in_pixels,
        lanes=instructions.lanes,
        parts=instructions.parts,
        pixels=pixels,
        vectors=vectors,
        paired=index > 0 and pairs(convolution, instructions),
        overlapped=index > 0 and overlaps(convolution, instructions, tile),
        deep=False,
    )


def _last_layer(spec: ModelSpec, inputs: int, instructions: InstructionSet, samples: Samples) -> LastLayer:
    described = spec.layers[-1]
    vectors, rows, planes = last_tile(spec, instructions)
    return LastLayer(
        described.kernel,
        inputs,
        described.activation,
        spec.scale,
        spec.channels,
        residual=spec.residual == "nearest",
        lanes=instructions.lanes,
        parts=instructions.parts,
        vectors=vectors,
        rows=rows,
        planes=planes,
        from_picture=len(spec.layers) == 1,
        samples=samples,
    )

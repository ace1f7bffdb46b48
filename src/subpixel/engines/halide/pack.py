"""A model's parameters as the flat arrays that a pipeline reads."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.halide.plan import (
    BIAS,
    FACTOR,
    HIGHEST,
    LOWEST,
    MAGIC,
    MAGIC_BITS,
    MAGIC_ZERO,
    NEGATIVE_FACTOR,
    STEPS,
    ZERO,
    Plan,
)
from subpixel.model import Model
from subpixel.quantisation import integer_layers


@dataclass(frozen=True)
class Parameters:
    """Arrays for the parameters of `algorithm.define`; the last axis is the first of Halide's."""

    weights: NDArray[Any]
    """``(weight_count,)``: float32, int16 (pairs) or int8 (quads)"""
    offsets: NDArray[Any]
    """``(5, channel_count)``: rows as `plan.BIAS` and its like say; float32 or int32"""
    factors: NDArray[np.float32]
    """``(3, channel_count)``: rows as `plan.FACTOR` and its like say"""


def pack(model: Model, plan: Plan) -> Parameters:
    """Lay out a model for a plan made of its description.

    Raises `EngineError` when the plan is for int8 and the model has no 8-bit layers.
    """
    real = plan.products == "float"
    kinds = {"float": np.float32, "pairs": np.int16, "quads": np.int8}
    weights = _aligned_zeros(plan.weight_count, np.dtype(kinds[plan.products]))
    offsets = np.zeros((5, plan.channel_count), np.float32 if real else np.int32)
    factors = np.zeros((3, plan.channel_count), np.float32)
    weight: NDArray[Any]
    integers = () if real else integer_layers(model)
    for index, layer in enumerate(plan.layers):
        described = model.description.layers[index]
        channels = slice(layer.channels_at, layer.channels_at + described.outputs)
        if real:
            weight = model.weights[f"layers.{index}.weight"]
            offsets[BIAS, channels] = model.weights[f"layers.{index}.bias"]
            factors[NEGATIVE_FACTOR, channels] = model.weights.get(f"layers.{index}.slope", 1)
        else:
            of = integers[index]
            weight = of.weight
            for row, values in ((BIAS, of.bias), (ZERO, of.zero), (STEPS, of.steps)):
                offsets[row, channels] = values
            for row, arguments in ((LOWEST, of.lowest), (HIGHEST, of.highest)):
                offsets[row, channels] = arguments.astype(np.int32) + MAGIC_BITS
            for row, multiples in ((FACTOR, of.factor), (NEGATIVE_FACTOR, of.negative_factor)):
                factors[row, channels] = multiples
            factors[MAGIC_ZERO, channels] = of.zero + MAGIC
        if layer.gathered == "taps":
            weight = weight.reshape(len(weight), -1, 1, 1)
        elif layer.gathered == "rows":  # a row's channels, then those of the next
            missing = -weight.shape[1] % plan.group
            whole = np.pad(weight, ((0, 0), (0, missing), (0, 0), (0, 0)))
            weight = whole.transpose(0, 2, 1, 3).reshape(len(weight), -1, 1, layer.across)
        size, at_once = plan.group * layer.depth, layer.outputs_at_once
        steps = layer.groups // layer.depth
        padded = np.zeros((layer.outputs, steps * size, *weight.shape[2:]), weights.dtype)
        padded[: len(weight), : weight.shape[1]] = weight
        blocks = padded.reshape(-1, at_once, steps, size, layer.down, layer.across)
        beyond = layer.weights_for_step(plan.group) - size
        blocks = np.pad(blocks, [(0, beyond if axis == 3 else 0) for axis in range(blocks.ndim)])
        # block, row, column, step, output in the block, channel in the step
        flat = blocks.transpose(0, 4, 5, 2, 1, 3).ravel()
        weights[layer.weights_at : layer.weights_at + flat.size] = flat
    return Parameters(weights, offsets, factors)


def _aligned_zeros(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros that begin where a cache line does: rows of matrices are one line each."""
    line = 64
    memory = np.zeros(count * dtype.itemsize + line, np.uint8)
    start = -memory.ctypes.data % line
    return memory[start : start + count * dtype.itemsize].view(dtype)

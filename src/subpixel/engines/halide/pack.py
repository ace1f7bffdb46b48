"""A model's parameters as the flat arrays that a pipeline reads."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.halide.plan import (
    BIAS,
    FACTOR,
    MAGIC_ZERO,
    NEGATIVE_FACTOR,
    STEPS,
    ZERO,
    Plan,
)
from subpixel.models.model import Model
from subpixel.models.quantization import MAGIC, integer_layers


@dataclass(frozen=True)
class Parameters:
    """Arrays for the parameters of `algorithm.define`; the last axis is the first of Halide's."""

    weights: NDArray[Any]
    """``(weight_count,)``: float32, int16 (pairs) or int8 (quads)"""
    offsets: NDArray[Any]
    """``(3, channel_count)``: rows as `plan.BIAS` and its like say; float32 or int32"""
    factors: NDArray[np.float32]
    """``(3, channel_count)``: rows as `plan.FACTOR` and its like say"""


def pack(model: Model, plan: Plan) -> Parameters:
    """Lay out a model for a plan made of its description.

    Raises `EngineError` when the plan is for int8 and the model has no 8-bit layers.
    """
    real = plan.products == "float"
    weights = np.zeros(
        plan.weight_count, {"float": np.float32, "pairs": np.int16, "quads": np.int8}[plan.products]
    )
    offsets = np.zeros((3, plan.channel_count), np.float32 if real else np.int32)
    factors = np.zeros((3, plan.channel_count), np.float32)
    weight: NDArray[Any]
    integers = () if real else integer_layers(model)
    for index, layer in enumerate(plan.layers):
        described = model.spec.layers[index]
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
            for row, multiples in ((FACTOR, of.factor), (NEGATIVE_FACTOR, of.negative_factor)):
                factors[row, channels] = multiples
            factors[MAGIC_ZERO, channels] = of.zero + MAGIC
        if layer.gathered:
            weight = weight.reshape(len(weight), -1, 1, 1)
        size, at_once = plan.group, layer.outputs_at_once
        padded = np.zeros((layer.outputs, layer.groups * size, *weight.shape[2:]), weights.dtype)
        padded[: len(weight), : weight.shape[1]] = weight
        blocks = padded.reshape(-1, at_once, layer.groups, size, layer.kernel, layer.kernel)
        # block, row, column, group, output in the block, channel in the group
        flat = blocks.transpose(0, 4, 5, 2, 1, 3).ravel()
        weights[layer.weights_at : layer.weights_at + flat.size] = flat
    return Parameters(weights, offsets, factors)

"""Models with random weights, for tests that ask whether two ways of computing agree."""

from functools import cache
from itertools import pairwise

import numpy as np

from subpixel.engines.halide.engine import require
from subpixel.errors import EngineError
from subpixel.models.calibration import calibrate
from subpixel.models.model import Model
from subpixel.models.networks import espcn
from subpixel.models.spec import Convolution, ModelSpec


@cache
def random_model(spec: ModelSpec, seed: int = 0) -> Model:
    """Weights that keep the values between layers near 1, as those of a trained network do."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in spec.shapes().items():
        spread = {"weight": 1 / np.sqrt(np.prod(shape[1:])), "bias": 0.1, "slope": 0.3}[name.split(".")[-1]]
        weights[name] = rng.normal(0, spread, shape).astype(np.float32)
    return Model(f"random-{seed}-x{spec.scale}", spec, weights)


def halide_runs() -> bool:
    """Whether the Halide engine works on this machine."""
    try:
        require()
    except EngineError:
        return False
    return True


@cache  # calibration takes most of the time of many a test, and models do not change
def quantized_model(spec: ModelSpec, seed: int = 0) -> Model:
    """The same with 8-bit layers, calibrated on noise and on gradients."""
    rng = np.random.default_rng(seed)
    shape = (spec.channels, 40, 44)
    gradient = np.linspace(0, 255, shape[1] * shape[2]).reshape(shape[1:])
    planes = [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(2)]
    planes.append(np.broadcast_to(gradient, shape).astype(np.uint8))
    return calibrate(random_model(spec, seed), planes, source="noise")


def integer_model(scale: int = 2) -> Model:
    """An ESPCN over whole numbers: below 2**24 float32 computes them exactly, in whatever order."""
    spec = espcn(scale, activation="relu")
    rng = np.random.default_rng(0)
    weights = {name: rng.integers(-1, 2, shape).astype(np.float32) for name, shape in spec.shapes().items()}
    return Model(f"integers-x{scale}", spec, weights)


def enlarged_first(seed: int) -> ModelSpec:
    """Any network that works in HR space, small enough for tests."""
    rng = np.random.default_rng(seed)
    scale, channels, depth = (int(rng.integers(1, high + 1)) for high in (5, 3, 3))
    widths = [channels, *rng.integers(1, 9, depth - 1).tolist(), channels]
    layers = tuple(
        Convolution(
            inputs,
            outputs,
            kernel=int(rng.choice([1, 3, 5, 9])),
            activation=rng.choice(["none", "relu", "prelu", "tanh"]).item(),
        )
        for inputs, outputs in pairwise(widths)
    )
    return ModelSpec(scale, layers, channels, upsampling="bicubic")


def odd_description(seed: int) -> ModelSpec:
    """Any network that a `ModelSpec` can hold, small enough for tests."""
    rng = np.random.default_rng(seed)
    scale, channels, depth = (int(rng.integers(1, high + 1)) for high in (8, 4, 4))
    widths = [channels, *rng.integers(1, 9, depth - 1).tolist(), channels * scale**2]
    layers = tuple(
        Convolution(
            inputs,
            outputs,
            kernel=int(rng.choice([1, 3, 5, 7, 9])),
            activation=rng.choice(["none", "relu", "prelu", "tanh"]).item(),
        )
        for inputs, outputs in pairwise(widths)
    )
    return ModelSpec(scale, layers, channels, residual=rng.choice(["none", "nearest"]).item())

"""Models with random weights, for tests that compare two implementations."""

from functools import cache
from itertools import pairwise

import numpy as np

from subpixel.engines.native.targets import find
from subpixel.errors import EngineError
from subpixel.models.calibration import calibrate
from subpixel.models.model import Model
from subpixel.models.networks import espcn
from subpixel.models.spec import Convolution, ModelSpec


@cache
def random_model(spec: ModelSpec, seed: int = 0) -> Model:
    """Make a model whose weights keep the values between layers near 1, like those of a trained network."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in spec.shapes().items():
        spread = {"weight": 1 / np.sqrt(np.prod(shape[1:])), "bias": 0.1, "slope": 0.3}[name.split(".")[-1]]
        weights[name] = rng.normal(0, spread, shape).astype(np.float32)
    return Model(f"random-{seed}-x{spec.scale}", spec, weights)


def native_runs() -> bool:
    """Whether the native engine works on this machine."""
    try:
        find()
    except EngineError:
        return False
    return True


@cache  # calibration takes most of the time of many tests, and models are immutable
def quantized_model(spec: ModelSpec, seed: int = 0) -> Model:
    """Make a random model with int8 layers, calibrated on noise and gradients."""
    rng = np.random.default_rng(seed)
    shape = (spec.channels, 40, 44)
    gradient = np.linspace(0, 255, shape[1] * shape[2]).reshape(shape[1:])
    planes = [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(2)]
    planes.append(np.broadcast_to(gradient, shape).astype(np.uint8))
    return calibrate(random_model(spec, seed), planes, source="noise")


def integer_model(scale: int = 2) -> Model:
    """Make an ESPCN with integer weights: below 2**24, float32 sums are exact in any order."""
    spec = espcn(scale, activation="relu")
    rng = np.random.default_rng(0)
    weights = {name: rng.integers(-1, 2, shape).astype(np.float32) for name, shape in spec.shapes().items()}
    return Model(f"integers-x{scale}", spec, weights)


def random_hr_spec(seed: int) -> ModelSpec:
    """Make a small random network that works in HR space."""
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


def random_spec(seed: int) -> ModelSpec:
    """Make a small random network, with all features of `ModelSpec` except bicubic upsampling."""
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

"""More layers for a network that is trained already, without a change to what it computes."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from subpixel.errors import ConfigError
from subpixel.model import Convolution, Facts, Model

TRANSPARENT = ("none", "relu", "prelu")
"""Activations that can pass on what came out of the same one before: prelu by a slope of 1."""


def deepened(model: Model, layers: int) -> Model:
    """The same function by ``layers`` layers, those that are new spread evenly between the hidden ones.

    A new layer passes on what it is given, and has kernel and activation of the one in front of it: training
    then makes use of it (Net2DeeperNet, Chen et al. 2016, arXiv 1511.05641, section 2.3). The result has no
    facts, and no quantised layers. Raises ConfigError for fewer layers than the model has, with no hidden
    layer, and where a new one would stand behind a tanh, which nothing linear undoes.
    """
    *hidden, last = model.description.layers
    if not hidden or layers < len(hidden) + 1:
        raise ConfigError(f"{model.name} with {len(hidden) + 1} layers can't become one with {layers}")
    given_at = {
        int(place): given for given, place in enumerate(np.rint(np.linspace(0, layers - 2, len(hidden))))
    }
    described: list[Convolution] = []
    weights: dict[str, NDArray[np.float32]] = {}
    for place in range(layers - 1):
        if place in given_at:
            described.append(hidden[given_at[place]])
            arrays = _arrays_of(model, given_at[place])
        else:
            described.append(dataclasses.replace(described[-1], inputs=described[-1].outputs))
            arrays = _identity(described[-1], model.name)
        weights |= {f"layers.{place}.{key}": array for key, array in arrays.items()}
    weights |= {f"layers.{layers - 1}.{key}": array for key, array in _arrays_of(model, len(hidden)).items()}
    return Model(
        model.name, dataclasses.replace(model.description, layers=(*described, last)), weights, Facts()
    )


def _arrays_of(model: Model, index: int) -> dict[str, NDArray[np.float32]]:
    prefix = f"layers.{index}."
    return {
        name.removeprefix(prefix): array for name, array in model.weights.items() if name.startswith(prefix)
    }


def _identity(layer: Convolution, name: str) -> dict[str, NDArray[np.float32]]:
    if layer.activation not in TRANSPARENT:
        raise ConfigError(f"{name} can't be made deeper behind {layer.activation}")
    width = layer.outputs
    weight = np.zeros((width, width, layer.kernel, layer.kernel), np.float32)
    weight[range(width), range(width), layer.kernel // 2, layer.kernel // 2] = 1
    arrays = {"weight": weight, "bias": np.zeros(width, np.float32)}
    return arrays | ({"slope": np.ones(width, np.float32)} if layer.activation == "prelu" else {})

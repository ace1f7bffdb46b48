"""The int8 layers of a model as an ONNX graph, so that other runtimes can be timed with the same integers.

Runtimes want one scale and one zero point per tensor, while a model has them per channel. So an affine step
before the rounding applies those of the channels, and the tensor itself has scale 1 and zero point 0.

The graph differs from Subpixel's engines in two ways. Its tanh is exact. Its padding is 0 instead of the zero
point of each channel, which changes pixels near the border.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel import __version__
from subpixel.engines import onnx_file
from subpixel.models.model import Model
from subpixel.models.quantization import TANH_LIMIT, IntegerLayer, integer_layers
from subpixel.models.spec import Convolution, ModelSpec


def build_quantized(model: Model) -> bytes:
    """Build a graph of the int8 layers, with the inputs and outputs of `engines.onnx_graph.build`.

    Raises:
        EngineError: the model has no int8 layers.
    """
    spec, layers = model.spec, integer_layers(model)
    graph = _Graph()
    lr = value = graph.round_to_8_bits(graph.add("Mul", ["lr", "white"], "lr.scaled"), "lr")
    for index, (convolution, layer) in enumerate(zip(spec.layers, layers, strict=True)):
        last = layer is layers[-1]
        name = f"layers.{index}"
        integer_tanh = convolution.activation == "tanh" and not last
        value = _add_convolution(graph, value, name, convolution, layer, integer_tanh)
        value = _add_activation(graph, value, name, convolution, model)
        if integer_tanh:
            steps = graph.per_channel(f"{name}.steps", 1 / model.quantized[index].output_scale)
            value = graph.add("Mul", [value, steps], f"{name}.scaled")
        if not last:
            if layer.zero_point.any():
                zero_point = graph.per_channel(f"{name}.zero_point", layer.zero_point)
                value = graph.add("Add", [value, zero_point], f"{name}.shifted")
            value = graph.round_to_8_bits(value, name)
    if spec.residual == "nearest":
        value = _add_residual(graph, value, lr, spec)
    graph.add("DepthToSpace", [value], "hr", blocksize=spec.scale, mode="CRD")
    shape = ("N", spec.channels, "H", "W")
    return graph.encode(f"{model.name}-int8", lr_shape=shape, scale=spec.scale, producer_version=__version__)


class _Graph(onnx_file.Graph):
    """A graph under construction. Methods that add a node return the name of its output."""

    def __init__(self) -> None:
        super().__init__()
        self.constants.update(
            one=np.asarray(np.float32(1)), zero=np.asarray(np.uint8(0)), white=np.asarray(np.float32(255))
        )

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = value
        return name

    def per_channel(self, name: str, values: NDArray[Any]) -> str:
        """A float32 constant ``(channels, 1, 1)``."""
        return self.constant(name, np.asarray(values, np.float32)[:, None, None])

    def round_to_8_bits(self, value: str, name: str) -> str:
        """Round to the nearest integer and clip to 0 to 255, still in float32."""
        quantized = self.add("QuantizeLinear", [value, "one", "zero"], f"{name}.quantized")
        return self.add("DequantizeLinear", [quantized, "one", "zero"], f"{name}.value")


def _add_convolution(
    graph: _Graph, value: str, name: str, convolution: Convolution, layer: IntegerLayer, integer_tanh: bool
) -> str:
    """A convolution with int8 weights, which gives the accumulator times the requantization multiplier."""
    # Before an integer tanh, the multiplier gives steps of TANH_LIMIT / 2**15; the exact tanh takes no steps.
    multiplier = layer.multiplier * np.float32(TANH_LIMIT / 2**15) if integer_tanh else layer.multiplier
    weight = graph.add(
        "DequantizeLinear",
        [
            graph.constant(f"{name}.integers", layer.weight),
            graph.constant(f"{name}.multipliers", multiplier),
            graph.constant(f"{name}.zero_points", np.zeros(convolution.outputs, np.int8)),
        ],
        f"{name}.weight",
        axis=0,
    )
    bias = (layer.bias * multiplier.astype(np.float64)).astype(np.float32)
    return graph.add(
        "Conv",
        [value, weight, graph.constant(f"{name}.bias", bias)],
        f"{name}.conv",
        kernel_shape=[convolution.kernel] * 2,
        pads=[convolution.kernel // 2] * 4,
    )


def _add_activation(graph: _Graph, value: str, name: str, convolution: Convolution, model: Model) -> str:
    if convolution.activation == "none":
        return value
    output = f"{name}.{convolution.activation}"
    if convolution.activation == "prelu":
        slope = graph.per_channel(f"{name}.slope", model.weights[f"{name}.slope"])
        return graph.add("PRelu", [value, slope], output)
    return graph.add({"relu": "Relu", "tanh": "Tanh"}[convolution.activation], [value], output)


def _add_residual(graph: _Graph, value: str, lr: str, spec: ModelSpec) -> str:
    """Add the LR image, upsampled by nearest neighbor, before the pixel shuffle."""
    phases = graph.constant("phases", np.repeat(np.arange(spec.channels), spec.scale**2))
    repeated = graph.add("Gather", [lr, phases], "repeated", axis=1)
    return graph.add("Add", [value, graph.add("Div", [repeated, "white"], "image")], "residual")

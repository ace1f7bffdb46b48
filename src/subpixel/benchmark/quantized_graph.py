"""A model's 8-bit layers as an ONNX graph, for other runtimes to be measured with the same integers.

Runtimes want one scale and one zero level for a whole tensor. So each channel's are put into an affine step
before the rounding, and the tensor's own are 1 and 0. Two things differ from our engine: tanh is exact, and
beyond the picture lies level 0 instead of each channel's zero level, which changes pixels near the border.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from subpixel.engines.onnx_graph import IR_VERSION, OPSET
from subpixel.models.model import Model
from subpixel.models.quantization import TANH_LIMIT, integer_layers

if TYPE_CHECKING:
    import onnx


def build_quantized(model: Model) -> "onnx.ModelProto":
    """Write a model's 8-bit layers as a graph of the same inputs and outputs as `engines.onnx_graph.build`.

    Raises `EngineError` when it has none.
    """
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    tensors: dict[str, Any] = {
        "one": np.float32(1),
        "no_level": np.uint8(0),
        "white": np.float32(255),
    }

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def constant(name: str, value: Any) -> str:
        tensors[name] = value
        return name

    def to_8_bits(value: str, name: str) -> str:
        levels = add("QuantizeLinear", [value, "one", "no_level"], f"{name}.levels")
        return add("DequantizeLinear", [levels, "one", "no_level"], f"{name}.value")

    def each(values: Any) -> Any:
        return np.asarray(values, np.float32)[:, None, None]

    spec, layers = model.spec, integer_layers(model)
    picture = value = to_8_bits(add("Mul", ["lr", "white"], "lr.scaled"), "lr")
    for index, (described, layer) in enumerate(zip(spec.layers, layers, strict=True)):
        name, last = f"layers.{index}", layer is layers[-1]
        zeros = constant(f"{name}.zeros", np.zeros(described.outputs, np.int8))
        tanh = described.activation == "tanh" and not last
        factor = layer.factor * np.float32(TANH_LIMIT / 2**15) if tanh else layer.factor
        factors = constant(f"{name}.factors", factor)
        integers = constant(f"{name}.integers", layer.weight)
        weight = add("DequantizeLinear", [integers, factors, zeros], f"{name}.weight", axis=0)
        bias = constant(f"{name}.bias", (layer.bias * factor.astype(np.float64)).astype(np.float32))
        borders = [described.kernel // 2] * 4
        value = add(
            "Conv", [value, weight, bias], f"{name}.conv", kernel_shape=[described.kernel] * 2, pads=borders
        )
        if described.activation == "prelu":
            slope = constant(f"{name}.slope", each(model.weights[f"{name}.slope"]))
            value = add("PRelu", [value, slope], f"{name}.prelu")
        elif described.activation != "none":
            operator = {"relu": "Relu", "tanh": "Tanh"}[described.activation]
            value = add(operator, [value], f"{name}.{described.activation}")
        if not last:
            if tanh:
                levels = 1 / model.quantized[index].output_scale
                value = add("Mul", [value, constant(f"{name}.steps", each(levels))], f"{name}.scaled")
            if layer.zero.any():
                value = add("Add", [value, constant(f"{name}.zero", each(layer.zero))], f"{name}.shifted")
            value = to_8_bits(value, name)
    if spec.residual == "nearest":
        phases = constant("phases", np.repeat(np.arange(spec.channels), spec.scale**2))
        repeated = add("Gather", [picture, phases], "repeated", axis=1)
        value = add("Add", [value, add("Div", [repeated, "white"], "picture")], "residual")
    add("DepthToSpace", [value], "hr", blocksize=spec.scale, mode="CRD")

    def images(name: str, height: str, width: str) -> Any:
        sides: list[str | int | None] = ["N", spec.channels, height, width]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, sides)

    graph = helper.make_graph(
        nodes,
        f"{model.name}-int8",
        [images("lr", "H", "W")],
        [images("hr", f"{spec.scale}*H", f"{spec.scale}*W")],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])

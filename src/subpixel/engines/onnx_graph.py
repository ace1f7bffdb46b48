"""A model as an ONNX graph: what ONNX Runtime runs here, and what `subpixel export` writes."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from subpixel import __version__
from subpixel.files import write_atomically
from subpixel.models.model import Model
from subpixel.models.spec import FLAT_RADIUS_PX

if TYPE_CHECKING:
    import onnx

OPSET, IR_VERSION = 13, 7
"""ONNX 1.8 of 2020. Nothing later is needed, and the older the version, the more programs read the file."""

_OPERATORS = {"relu": "Relu", "prelu": "PRelu", "tanh": "Tanh"}


def build(model: Model) -> "onnx.ModelProto":
    """Write a model as an ONNX graph.

    Input ``lr``: ``(N, channels, H, W)`` float32 in [0, 1], any N, H and W from 1 up. Output ``hr``:
    ``(N, channels, scale*H, scale*W)`` float32, not clipped. Name, scale, halo, license and the other facts
    are in ``metadata_props``.

    Convolutions pad with zeros, which is not what lies beyond a picture: whoever runs the graph puts
    ``halo_px`` pixels around the picture first and cuts ``scale * halo_px`` off the result (docs/export.md).
    """
    from onnx import TensorProto, helper, numpy_helper

    spec, scale, channels = model.spec, model.scale, model.spec.channels
    tensors = {name: np.asarray(array) for name, array in model.weights.items()}
    nodes = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    value = "lr"
    if spec.upsampling == "bicubic":
        # MATLAB's kernel (Keys, a = -0.5), pixels as areas, and the edge repeated: `resample.imresize`.
        tensors["sides"] = np.array([1, 1, scale, scale], np.float32)
        keys = {"mode": "cubic", "cubic_coeff_a": -0.5, "coordinate_transformation_mode": "half_pixel"}
        value = add("Resize", ["lr", "", "sides"], "enlarged", **keys)
    for index, layer in enumerate(spec.layers):
        name, slope = f"layers.{index}", f"layers.{index}.slope"
        parameters = [f"{name}.weight", f"{name}.bias"]
        sides, borders = [layer.kernel] * 2, [layer.kernel // 2] * 4
        value = add("Conv", [value, *parameters], f"{name}.conv", kernel_shape=sides, pads=borders)
        if layer.activation == "prelu":
            tensors[slope] = tensors[slope][:, None, None]  # one for each channel, whatever H and W
            value = add("PRelu", [value, slope], f"{name}.prelu")
        elif layer.activation != "none":
            value = add(_OPERATORS[layer.activation], [value], f"{name}.{layer.activation}")
    if spec.residual == "nearest":
        # To repeat a pixel and add it after the shuffle is to add it to each of its phases before.
        tensors["phases"] = np.repeat(np.arange(channels, dtype=np.int64), scale**2)
        repeated = add("Gather", ["lr", "phases"], "repeated", axis=1)
        value = add("Add", [value, repeated], "residual")
        flat = _add_flat(add, tensors, channels)
        value = add("Where", [flat, repeated, value], "flat.kept")
    if spec.upsampling == "bicubic":
        add("Identity", [value], "hr")
    else:
        add("DepthToSpace", [value], "hr", blocksize=scale, mode="CRD")

    def images(name: str, height: str, width: str) -> "onnx.ValueInfoProto":
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, height, width])

    graph = helper.make_graph(
        nodes,
        model.name,
        [images("lr", "H", "W")],
        [images("hr", f"{scale}*H", f"{scale}*W")],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    proto = helper.make_model(
        graph,
        producer_name="subpixel",
        producer_version=__version__,
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
        doc_string=f"Enlarges images x{scale}: lr is float32 in [0, 1]; clip hr to [0, 1]. Beyond its edges "
        f"lr counts as zeros: repeat its edge pixels {spec.halo_px} times on each side first, and cut "
        f"{scale * spec.halo_px} pixels off each side of hr.",
    )
    helper.set_model_props(proto, _properties(model))
    return proto


def _add_flat(add: Callable[..., str], tensors: dict[str, Any], channels: int) -> str:
    """Add what tells where the picture is flat, `subpixel.engines.flat.is_flat`: ``(N, 1, H, W)``."""
    side = 2 * FLAT_RADIUS_PX + 1
    side = 2 * FLAT_RADIUS_PX + 1
    window: dict[str, Any] = {"kernel_shape": [side, side], "pads": [FLAT_RADIUS_PX] * 4}
    highest = add("MaxPool", ["lr"], "flat.highest", **window)
    negative = add("Neg", ["lr"], "flat.negative")
    lowest = add("Neg", [add("MaxPool", [negative], "flat.depth", **window)], "flat.lowest")
    if channels == 1:
        return add("Equal", [highest, lowest], "flat")
    tensors["flat.none"] = np.float32(0)
    each = add("Sub", [highest, lowest], "flat.range")
    varies = add("ReduceMax", [each], "flat.varies", axes=[1], keepdims=1)
    return add("Equal", [varies, "flat.none"], "flat")


def _properties(model: Model) -> dict[str, str]:
    """What the file says of itself: strings as they are, the rest as JSON, what is not known left out."""
    metadata: dict[str, Any] = {
        "name": model.name,
        "scale": model.scale,
        "halo_px": model.spec.halo_px,
        "description": model.spec.to_json(),
        **asdict(model.metadata),
    }
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in metadata.items()
        if value not in ("", {})
    }


def export(model: Model, path: Path, *, overwrite: bool = False) -> None:
    """Write a model as an ``.onnx`` file, whole or not at all, checked against the ONNX standard.

    Raises `OutputExists` where ``path`` exists and ``overwrite`` is false, `OutputError` where it cannot
    be written.
    """
    from onnx import checker

    proto = build(model)
    checker.check_model(proto, full_check=True)
    with write_atomically(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(proto.SerializeToString())

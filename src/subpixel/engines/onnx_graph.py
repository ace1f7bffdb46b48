"""Conversion of a model to an ONNX graph, for ONNX Runtime and for `subpixel export`."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from subpixel import __version__
from subpixel.engines.onnx_file import Graph
from subpixel.files import write_atomically
from subpixel.models.model import Model
from subpixel.models.spec import FLAT_RADIUS_PX, ModelSpec

_STORED_NAMES = {"config": "recipe"}
"""Fields of `ModelMetadata` that the file spells differently."""

_OPERATORS = {"relu": "Relu", "prelu": "PRelu", "tanh": "Tanh"}


def build(model: Model, lr_shape: Sequence[int | str] | None = None) -> bytes:
    """Convert a model to an ONNX graph, and return the content of its file.

    Input ``lr``: ``(N, channels, H, W)`` float32 in [0, 1], for any N, H and W from 1 up. Output ``hr``:
    ``(N, channels, scale*H, scale*W)`` float32, not clipped. ``metadata_props`` contain name, scale, halo,
    license and the other metadata. ``lr_shape`` fixes the sizes for runtimes that need this.

    The convolutions pad with zeros, which does not suit the edges of an image. Whoever runs the graph pads
    the image by ``halo_px`` pixels first, and crops ``scale * halo_px`` pixels of the result
    (docs/export.md).
    """
    spec, scale = model.spec, model.scale
    graph = Graph()
    graph.constants.update((name, np.asarray(array)) for name, array in model.weights.items())
    value = _add_bicubic(graph, scale) if spec.upsampling == "bicubic" else "lr"
    value = _add_layers(graph, spec, value)
    if spec.residual == "nearest":
        value = _add_residual(graph, spec, value)
    if spec.upsampling == "bicubic":
        graph.add("Identity", [value], "hr")
    else:
        graph.add("DepthToSpace", [value], "hr", blocksize=scale, mode="CRD")
    return graph.encode(
        model.name,
        lr_shape=lr_shape or ("N", spec.channels, "H", "W"),
        scale=scale,
        producer_version=__version__,
        doc_string=f"Upscales images x{scale}. lr is float32 in [0, 1]; clip hr to [0, 1]. The network sees "
        f"zeros outside of lr: repeat its edge pixels {spec.halo_px} times on each side first, and crop "
        f"{scale * spec.halo_px} pixels from each side of hr.",
        properties=_properties(model),
    )


def _add_bicubic(graph: Graph, scale: int) -> str:
    """Upsample ``lr`` as `subpixel.ops.resize.imresize` does."""
    graph.constants["scales"] = np.array([1, 1, scale, scale], np.float32)
    # Keys' kernel with a = -0.5, pixel centers at halves, and the edge repeated.
    keys = {"mode": "cubic", "cubic_coeff_a": -0.5, "coordinate_transformation_mode": "half_pixel"}
    return graph.add("Resize", ["lr", "", "scales"], "upsampled", **keys)


def _add_layers(graph: Graph, spec: ModelSpec, value: str) -> str:
    """Add the convolutions and activations."""
    for index, layer in enumerate(spec.layers):
        name, slope = f"layers.{index}", f"layers.{index}.slope"
        parameters = [f"{name}.weight", f"{name}.bias"]
        sides, borders = [layer.kernel] * 2, [layer.kernel // 2] * 4
        value = graph.add("Conv", [value, *parameters], f"{name}.conv", kernel_shape=sides, pads=borders)
        if layer.activation == "prelu":
            graph.constants[slope] = graph.constants[slope][:, None, None]  # broadcast over H and W
            value = graph.add("PRelu", [value, slope], f"{name}.prelu")
        elif layer.activation != "none":
            value = graph.add(_OPERATORS[layer.activation], [value], f"{name}.{layer.activation}")
    return value


def _add_residual(graph: Graph, spec: ModelSpec, value: str) -> str:
    """Add ``lr`` to all phases, which repeats its pixels after the shuffle; flat areas get ``lr`` alone."""
    phases = np.repeat(np.arange(spec.channels, dtype=np.int64), spec.scale**2)
    graph.constants["phases"] = phases
    repeated = graph.add("Gather", ["lr", "phases"], "repeated", axis=1)
    value = graph.add("Add", [value, repeated], "residual")
    return graph.add("Where", [_add_is_flat(graph, spec.channels), repeated, value], "flat.kept")


def _add_is_flat(graph: Graph, channels: int) -> str:
    """Compute `subpixel.engines.flat.is_flat` of ``lr``: ``(N, 1, H, W)``."""
    side = 2 * FLAT_RADIUS_PX + 1
    window: dict[str, Any] = {"kernel_shape": [side, side], "pads": [FLAT_RADIUS_PX] * 4}
    highest = graph.add("MaxPool", ["lr"], "flat.highest", **window)
    negative = graph.add("Neg", ["lr"], "flat.negative")
    depth = graph.add("MaxPool", [negative], "flat.depth", **window)
    lowest = graph.add("Neg", [depth], "flat.lowest")
    if channels == 1:
        return graph.add("Equal", [highest, lowest], "flat")
    graph.constants["flat.none"] = np.asarray(np.float32(0))
    range_ = graph.add("Sub", [highest, lowest], "flat.range")
    varies = graph.add("ReduceMax", [range_], "flat.varies", axes=[1], keepdims=1)
    return graph.add("Equal", [varies, "flat.none"], "flat")


def _properties(model: Model) -> dict[str, str]:
    """Return the file's metadata: strings as they are, other values as JSON, without empty values."""
    metadata: dict[str, Any] = {
        "name": model.name,
        "scale": model.scale,
        "halo_px": model.spec.halo_px,
        "description": model.spec.to_json(),
        **{_STORED_NAMES.get(name, name): value for name, value in asdict(model.metadata).items()},
    }
    return {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in metadata.items()
        if value not in ("", {})
    }


def export(model: Model, path: Path, *, overwrite: bool = False) -> None:
    """Write a model as an ``.onnx`` file. Failures leave no partial file.

    Raises:
        OutputExists: ``path`` exists and ``overwrite`` is false.
        OutputError: the file cannot be written.
    """
    content = build(model)
    with write_atomically(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(content)

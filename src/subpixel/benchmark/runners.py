"""What is timed: our engine, and each runtime called directly, with the same network and thread count.

The others get the plane as the float tensor that they take, converted beforehand, and give the float tensor
that they make; ours takes the 8-bit plane and gives one.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.benchmark.quantized_graph import build_quantized
from subpixel.engines.base import to_float
from subpixel.engines.onnx_graph import build
from subpixel.engines.onnxruntime_engine import import_onnxruntime
from subpixel.errors import EngineError
from subpixel.models.model import Model

PEERS = ("onnxruntime", "openvino", "opencv", "torch")
"""Runtimes that can be measured beside ours; `pip install 'subpixel[bench]'` brings them."""

PACKAGES = {"openvino": "openvino", "opencv": "opencv-python-headless", "torch": "torch"}


@dataclass(frozen=True)
class Runner:
    """Something that enlarges one fixed plane, over and over."""

    name: str
    precision: str
    version: str
    call: Callable[[], Any]
    result: Callable[[Any], NDArray[np.float32]]
    """What a call returned, as ``(scale*H, scale*W)`` in [0, 1]."""


def ours(model: Model, plane: NDArray[np.uint8], threads: int, target: str | None) -> Iterator[Runner]:
    """Our engine in each precision that the model has."""
    from subpixel import __version__
    from subpixel.engines.halide import HalideEngine

    for precision in ("int8", "fp32") if model.quantized else ("fp32",):
        engine = HalideEngine(model, precision=precision, threads=threads, target=target)
        yield Runner(
            "subpixel-halide",
            precision,
            f"{__version__}, halide {version('halide')}, {engine.target}",
            lambda engine=engine: engine(plane),  # type: ignore[misc]
            lambda hr: to_float(hr),
        )


def peers(name: str, model: Model, plane: NDArray[np.uint8], threads: int) -> Iterator[Runner]:
    """One runtime, in each precision in which it takes the network.

    Raises `EngineError` when it is not installed, with the cure.
    """
    if name not in PEERS:
        raise EngineError(f"unknown runtime {name!r}; known: {', '.join(PEERS)}")
    try:
        make = {"onnxruntime": _onnxruntime, "openvino": _openvino, "opencv": _opencv, "torch": _torch}[name]
        yield from make(model, to_float(plane)[None, None], threads)
    except ImportError as error:
        package = PACKAGES.get(name, name)
        raise EngineError(
            f"{name} cannot be imported ({error}): run `pip install {package}`, or leave it out of --against"
        ) from error
    except Exception as error:  # each has its own, without a common root
        raise EngineError(f"{name} refuses the network ({error}); leave it out of --against") from error


def _graphs(model: Model) -> Iterator[tuple[str, bytes]]:
    if model.quantized:
        yield "int8", build_quantized(model).SerializeToString()
    yield "fp32", build(model).SerializeToString()


def _onnxruntime(model: Model, tensor: NDArray[np.float32], threads: int) -> Iterator[Runner]:
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    for precision, graph in _graphs(model):
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        yield Runner(
            "onnxruntime",
            precision,
            onnxruntime.__version__,
            lambda session=session: session.run(["hr"], {"lr": tensor}),  # type: ignore[misc]
            lambda outputs: outputs[0][0, 0],
        )


def _openvino(model: Model, tensor: NDArray[np.float32], threads: int) -> Iterator[Runner]:
    openvino = _import_openvino()
    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # of what is not int8; bf16 would be another network
    }
    for precision, graph in _graphs(model):
        read = core.read_model(graph)
        read.reshape(list(tensor.shape))
        request = core.compile_model(read, "CPU", settings).create_infer_request()
        given = openvino.Tensor(tensor, shared_memory=True)
        yield Runner(
            "openvino",
            precision,
            openvino.__version__.partition("-")[0],
            lambda request=request, given=given: request.infer({0: given}, share_outputs=True),  # type: ignore[misc]
            lambda outputs: np.array(outputs[0][0, 0]),
        )


def _import_openvino() -> Any:
    """Import ``openvino`` without its telemetry, which has no other switch for one process.

    The import would send an event to Intel and write an identifier to the user's home folder. OpenVINO takes
    a stub of its own where the package ``openvino_telemetry`` cannot be imported.
    """
    package = "openvino_telemetry"
    if package in sys.modules:  # whoever imported it has decided
        return import_module("openvino")
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    finally:
        del sys.modules[package]


def _opencv(model: Model, tensor: NDArray[np.float32], threads: int) -> Iterator[Runner]:
    cv2 = import_module("cv2")
    cv2.setNumThreads(threads)
    graph = build(model)
    for value in (*graph.graph.input, *graph.graph.output):
        scale = 1 if value.name == "lr" else model.scale
        for dimension, length in zip(value.type.tensor_type.shape.dim, tensor.shape, strict=True):
            dimension.dim_value = length
        for dimension in value.type.tensor_type.shape.dim[2:]:
            dimension.dim_value *= scale
    network = cv2.dnn.readNetFromONNX(np.frombuffer(graph.SerializeToString(), np.uint8))

    def call() -> Any:
        network.setInput(tensor)
        return network.forward()

    yield Runner("opencv", "fp32", cv2.__version__, call, lambda output: output[0, 0])


def _torch(model: Model, tensor: NDArray[np.float32], threads: int) -> Iterator[Runner]:
    torch = import_module("torch")
    from subpixel.training.network import Network

    torch.set_num_threads(threads)
    network = Network(model.spec)
    network.load_model(model)
    given = torch.from_numpy(tensor)

    def call() -> Any:
        with torch.inference_mode():
            return torch.nn.functional.pixel_shuffle(network(given), model.scale)

    yield Runner("torch", "fp32", torch.__version__, call, lambda output: output[0, 0].numpy())

"""The runners that are timed: Subpixel's engine, and other runtimes, with the same network and threads.

The other runtimes are called directly: they take a float tensor, which is made beforehand, and return one.
Subpixel's engine takes the 8-bit plane and returns an 8-bit plane.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.benchmark.quantized_graph import build_quantized
from subpixel.engines.base import Engine, to_float
from subpixel.engines.native.engine import NativeEngine
from subpixel.engines.onnx_graph import build
from subpixel.engines.onnxruntime_engine import import_onnxruntime
from subpixel.engines.select import choose
from subpixel.errors import EngineError
from subpixel.models.model import Model

RUNTIMES = ("onnxruntime", "openvino", "opencv", "torch")
"""Other runtimes that can be timed; `pip install 'subpixel[bench]'` installs them."""

PACKAGES = {"openvino": "openvino", "opencv": "opencv-python-headless", "torch": "torch"}


@dataclass(frozen=True)
class Runner:
    """A runtime, ready to upscale one fixed plane again and again."""

    name: str
    precision: str
    version: str
    call: Callable[[], Any]
    result: Callable[[Any], NDArray[np.float32]]
    """Converts what `call` returns to ``(scale*H, scale*W)`` in [0, 1]."""


def subpixel_runner(model: Model, plane: NDArray[np.uint8], threads: int, target: str | None) -> Runner:
    """Subpixel, with the engine and precision that `choose` takes for the model.

    ``target`` is the name of an instruction set for the engine ``native``.
    """
    from subpixel import __version__

    if target is not None:
        engine: Engine = NativeEngine(model, threads=threads, target=target)
    else:
        engine = choose(model, threads=threads).engine
    return Runner(
        f"subpixel-{engine.name}",
        engine.precision,
        f"{__version__}, {engine.target}",
        lambda: engine(plane),
        lambda hr: to_float(hr),
    )


def runtime_runners(name: str, model: Model, plane: NDArray[np.uint8], threads: int) -> Iterator[Runner]:
    """Another runtime, in each precision in which it can run the network.

    Raises:
        EngineError: the runtime is unknown, is not installed, or cannot load the network.
    """
    if name not in RUNTIMES:
        raise EngineError(f"unknown runtime {name!r}; known: {', '.join(RUNTIMES)}")
    try:
        make = {"onnxruntime": _onnxruntime, "openvino": _openvino, "opencv": _opencv, "torch": _torch}[name]
        yield from make(model, to_float(plane)[None, None], threads)
    except ImportError as error:
        package = PACKAGES.get(name, name)
        raise EngineError(
            f"{name} cannot be imported ({error}): run `pip install {package}`, or leave it out of --against"
        ) from error
    except Exception as error:  # the runtimes have no common exception
        raise EngineError(f"{name} cannot load the network ({error}); leave it out of --against") from error


def _graphs(model: Model) -> Iterator[tuple[str, bytes]]:
    if model.quantized:
        yield "int8", build_quantized(model)
    yield "fp32", build(model)


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
        "INFERENCE_PRECISION_HINT": "f32",  # for what is not int8; bf16 would be another network
    }
    for precision, graph in _graphs(model):
        read = core.read_model(graph)
        read.reshape(list(tensor.shape))
        request = core.compile_model(read, "CPU", settings).create_infer_request()
        input_tensor = openvino.Tensor(tensor, shared_memory=True)
        yield Runner(
            "openvino",
            precision,
            openvino.__version__.partition("-")[0],
            lambda request=request, input_tensor=input_tensor: request.infer(
                {0: input_tensor}, share_outputs=True
            ),  # type: ignore[misc]
            lambda outputs: np.array(outputs[0][0, 0]),
        )


def _import_openvino() -> Any:
    """Import ``openvino`` without its telemetry, for which there is no other switch within a process.

    The import would send an event to Intel, and write an identifier to the user's home folder. If the package
    ``openvino_telemetry`` cannot be imported, OpenVINO uses a stub instead.
    """
    package = "openvino_telemetry"
    if package in sys.modules:  # imported by the caller, who has decided
        return import_module("openvino")
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        return import_module("openvino")
    finally:
        del sys.modules[package]


def _opencv(model: Model, tensor: NDArray[np.float32], threads: int) -> Iterator[Runner]:
    cv2 = import_module("cv2")
    cv2.setNumThreads(threads)
    network = cv2.dnn.readNetFromONNX(np.frombuffer(build(model, tensor.shape), np.uint8))

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
    input_tensor = torch.from_numpy(tensor)

    def call() -> Any:
        with torch.inference_mode():
            return torch.nn.functional.pixel_shuffle(network(input_tensor), model.scale)

    yield Runner("torch", "fp32", torch.__version__, call, lambda output: output[0, 0].numpy())

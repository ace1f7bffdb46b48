"""The portable engine: ONNX Runtime on the CPU, on every platform that has a wheel of it."""

import os
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subpixel.engines.base import Engine
from subpixel.engines.onnx_graph import build
from subpixel.errors import EngineError
from subpixel.models.model import Model

TELEMETRY_VARIABLE = "ORT_DISABLE_TELEMETRY"
"""ONNX Runtime reads this environment variable when it is imported. Without it, the import writes a device
identifier and a database to the user's cache folder, and usage data is sent to Microsoft."""


class OnnxRuntimeEngine(Engine):
    """Runs the model's ONNX graph in an ONNX Runtime session."""

    name = "onnxruntime"

    def __init__(
        self, model: Model, *, precision: str = "fp32", threads: int = 1, tile_side_px: int | None = None
    ) -> None:
        """See `Engine`; raises `EngineError` also if ONNX Runtime is missing or cannot load the model."""
        super().__init__(model, precision=precision, threads=threads, tile_side_px=tile_side_px)
        onnxruntime = require()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1  # the layers run one after another
        # The arena keeps memory between runs. Otherwise each layer of each tile costs a page fault per 4 KB.
        # Its size is bounded, because the tile's size is. Memory patterns are stored for each input shape, so
        # they would accumulate.
        options.enable_cpu_mem_arena = True
        options.enable_mem_pattern = False
        # Idle threads sleep: spinning would take CPU time from the thread that prepares the next image.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors only: warnings about the processor do not help users
        try:
            self._session = onnxruntime.InferenceSession(
                build(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions have no common base class
            raise EngineError(f"ONNX Runtime cannot load model {model.name} ({error})") from error

    def run(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.run`."""
        try:
            hr: NDArray[np.float32] = self._session.run(["hr"], {"lr": tensor[None]})[0][0]
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime failed on model {self.model.name} and a {tensor.shape} tensor ({error})"
            ) from error
        return hr


def require() -> Any:
    """Import ``onnxruntime`` and return it; `EngineError` if it is missing."""
    try:
        return import_onnxruntime()
    except ImportError as error:
        raise EngineError(
            f"engine onnxruntime cannot be imported ({error}); "
            "run `pip install 'subpixel[onnxruntime]'`, or choose the slow engine numpy"
        ) from error


def import_onnxruntime() -> Any:
    """Import ``onnxruntime`` with its telemetry off, unless the user's environment says otherwise."""
    os.environ.setdefault(TELEMETRY_VARIABLE, "1")
    return import_module("onnxruntime")

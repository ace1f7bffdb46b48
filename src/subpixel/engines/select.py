"""The choice of an engine, and the reason for it."""

import os
from dataclasses import dataclass

from subpixel.engines.base import Engine
from subpixel.errors import EngineError
from subpixel.model import Model

ENGINES = ("onnxruntime", "numpy")
"""Names of the engines, the fastest first."""

PRECISIONS = ("fp32",)
"""Names of the precisions that some engine knows."""


@dataclass(frozen=True)
class Choice:
    """An engine compiled for a model, and why it was chosen, in words for people."""

    engine: Engine
    reason: str


def choose(model: Model, engine: str = "auto", precision: str = "auto", threads: int | None = None) -> Choice:
    """Compile a model for the engine asked for, or for the best one that works here.

    Args:
        model: what to compile.
        engine: a name in `ENGINES`, or "auto".
        precision: a name in `PRECISIONS`, or "auto": the best that keeps the model's quality.
        threads: CPU threads that the engine may use; by default every CPU available to this process.

    Raises:
        EngineError: an unknown name, or the engine asked for is not installed. Only "auto" falls back to
            another engine, and says so in the reason.
        ValueError: ``threads`` is below 1.
    """
    if engine not in ("auto", *ENGINES):
        raise EngineError(f"unknown engine {engine!r}; known: auto, {', '.join(ENGINES)}")
    if precision not in ("auto", *PRECISIONS):
        raise EngineError(f"unknown precision {precision!r}; known: auto, {', '.join(PRECISIONS)}")
    if threads is None:
        threads = available_cpus()
    elif threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    if engine != "auto":
        return Choice(_compile(engine, model, threads), f"{engine}: asked for")
    from subpixel.engines import onnxruntime_engine

    try:
        onnxruntime_engine.require()
    except EngineError as error:
        return Choice(_compile("numpy", model, threads), f"numpy, which is slow: {error}")
    return Choice(_compile("onnxruntime", model, threads), "onnxruntime: the fastest installed")


def available_cpus() -> int:
    """How many CPUs this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _compile(name: str, model: Model, threads: int) -> Engine:
    if name == "numpy":
        from subpixel.engines.numpy_engine import NumpyEngine

        return NumpyEngine(model, threads=threads)
    from subpixel.engines.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(model, threads=threads)

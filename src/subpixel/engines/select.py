"""The choice of an engine and a precision, and the reason for it."""

import os
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import DTypeLike

from subpixel.engines.base import Engine
from subpixel.errors import EngineError
from subpixel.models.model import Model
from subpixel.options import EngineName, Precision

ENGINES = get_args(EngineName)[1:]
"""Names of the engines, the fastest first."""

MAX_FRAMES_AT_ONCE = 4
"""Each needs memory, and delays the first one."""

PRECISIONS = get_args(Precision)[1:]
"""Names of the precisions that some engine knows."""


@dataclass(frozen=True)
class CompiledModel:
    """A model ready to run: an engine for samples of 8 bits, and one for deeper samples, often the same."""

    engine: Engine
    """For samples of 8 bits."""
    deep: Engine
    """For deeper ones, and for floats."""
    reason: str
    """Why these were chosen, in words for people."""

    @property
    def model(self) -> Model:
        """The network."""
        return self.engine.model

    @property
    def scale(self) -> int:
        """How many times larger each side becomes."""
        return self.engine.model.scale

    @property
    def frames_at_once(self) -> int:
        """How many frames of a video to work on at once: one alone leaves CPUs idle at its end."""
        return min(self.engine.threads, MAX_FRAMES_AT_ONCE)

    def engine_for(self, dtype: DTypeLike) -> Engine:
        """The engine for samples of a dtype: a deeper source than 8 bits may need more precision."""
        return self.engine if np.dtype(dtype) == np.uint8 else self.deep


def choose(
    model: Model,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
) -> CompiledModel:
    """Compile a model for the engine asked for, or for the best one that works here.

    What is chosen depends on these alone, never on how much there is to do, so that a picture becomes the
    same alone and in company.

    Args:
        model: what to compile.
        engine: a name in `ENGINES`, or "auto".
        precision: a name in `PRECISIONS`, or "auto": int8 where the engine is fast in it, the model has 8-bit
            layers and the samples have 8 bits; else fp32, so that a deeper source keeps its depth.
        threads: CPU threads that the engine may use; by default every CPU available to this process.

    Raises:
        EngineError: the engine asked for is not installed, does not suit this processor or
            does not know the precision; or the model has no 8-bit layers for int8. Only "auto" falls back to
            another engine, and says so in the reason.
        ValueError: an unknown name, or ``threads`` is below 1.
    """
    if engine not in ("auto", *ENGINES):
        raise ValueError(f"unknown engine {engine!r}; known: auto, {', '.join(ENGINES)}")
    if precision not in ("auto", *PRECISIONS):
        raise ValueError(f"unknown precision {precision!r}; known: auto, {', '.join(PRECISIONS)}")
    if threads is None:
        threads = available_cpus()
    elif threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    if engine != "auto":
        return _compile(engine, model, precision, threads, "asked for")
    passed_over: list[str] = []
    for name in ENGINES:
        why = "the fastest installed" if not passed_over else "; ".join(passed_over)
        if name == "numpy":
            why = f"slow: {why}"
        try:
            return _compile(name, model, precision, threads, why)
        except EngineError as error:
            if name == ENGINES[-1]:
                raise
            passed_over.append(str(error))
    raise AssertionError("the last engine is returned or raises")


def available_cpus() -> int:
    """How many CPUs this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _compile(name: str, model: Model, precision: str, threads: int, why: str) -> CompiledModel:
    kind = _engine_type(name)
    if precision != "auto":
        compiled = kind(model, precision=precision, threads=threads)
        return CompiledModel(compiled, compiled, f"{_describe(compiled)}: {why}")
    deep = kind(model, threads=threads)
    if not kind.fast_in_int8 or not model.quantized:
        return CompiledModel(deep, deep, f"{_describe(deep)}: {why}")
    compiled = kind(model, precision="int8", threads=threads)
    words = f"{_describe(compiled)} for 8-bit samples and {deep.precision} for deeper ones: {why}"
    return CompiledModel(compiled, deep, words)


def _describe(engine: Engine) -> str:
    threads = "1 thread" if engine.threads == 1 else f"{engine.threads} threads"
    return f"{engine.name} on {engine.target}, {threads}, {engine.precision}"


def _engine_type(name: str) -> type[Engine]:
    """The class behind a name; imported only now, for each brings its own libraries."""
    if name == "halide":
        from subpixel.engines.halide import HalideEngine

        return HalideEngine
    if name == "onnxruntime":
        from subpixel.engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine
    from subpixel.engines.numpy_engine import NumpyEngine

    return NumpyEngine
